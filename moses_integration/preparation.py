"""Raw text becomes what a Moses system is trained on: normalised, tokenised, cased, cleaned.

The package sacremoses does it as Moses' own scripts do (normalize-punctuation.perl, tokenizer.perl,
truecase.perl, clean-corpus-n.perl, lowercase.perl), but for what is mended here or known to differ:

- a full stop after an abbreviation at the end of a line: tokenizer.perl cuts it off ("art ."),
  sacremoses keeps it ("art."); mended in `Tokenizer`.
- normalize-punctuation.perl leaves a blank before a "(" that begins a line; the tokenizer drops it.
- truecaser training counts a few words after quotation marks and colons otherwise than
  train-truecaser.perl: 5 of the 4,612 words of an English and 5 of the 5,217 of a French model of
  5,500 lines each, which changed 0 and 1 of those lines. With one and the same model the truecased
  text is equal.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, product, zip_longest
from pathlib import Path
from typing import Literal, TextIO

from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.runtime.console import progress_bar
from phrase_scorer.runtime.output import OutputFile, is_same_file, write_file
from phrase_scorer.runtime.streams import text_blocks
from phrase_scorer.runtime.workers import ordered_map

Casing = Literal["truecase", "lowercase", "keep"]

LONGEST_WORD = 1000  # characters; clean-corpus-n.perl's -max-word-length
TEXT_BLOCK_BYTES = 1 << 17  # tokenised at once by a process
BATCH_LINES = 4096  # cased, cleaned and written at once
MODEL_NAME = "truecase-model"

_LANGUAGE = re.compile(r"[a-z]{2,3}")


@dataclass(frozen=True)
class PreparationSettings:
    """What is done to the text."""

    casing: Casing = "truecase"
    escape: bool = True  # & | < > ' " [ ] become entities, as Moses' decoder wants them
    normalise: bool = True  # punctuation, before all else
    clean: bool = True  # drop pairs with an empty side or outside the three bounds below
    min_length: int = 1  # words per sentence
    max_length: int = 80
    ratio: float = 9.0  # longest by shortest side
    processes: int = 1  # that tokenise at the same time

    def __post_init__(self) -> None:
        if not 1 <= self.min_length <= self.max_length:
            raise UsageError("--min-length must be at least 1 and at most --max-length")
        if self.ratio < 1 or self.processes < 1:
            raise UsageError("--ratio and --threads must be at least 1")


@dataclass(frozen=True)
class PrepareRequest:
    """One text, or the two sides of a corpus, and what is to be made of them."""

    files: Sequence[str | Path]  # plain, gz, bz2, xz or zst; a .gz stays one
    languages: Sequence[str]  # one code per file
    output_dir: Path  # made where it is missing
    settings: PreparationSettings  # one text alone is never cleaned: it keeps its lines
    truecase_model_dir: Path | None = None  # of an earlier run; None: train truecasers, keep them
    quiet: bool = False

    def __post_init__(self) -> None:
        if len(self.files) != len(self.languages) or not 1 <= len(self.files) <= 2:
            raise UsageError("give one file and its language, or two files and two languages")
        for language in self.languages:
            if not _LANGUAGE.fullmatch(language):
                raise UsageError(f"{language} is not a language code like en")
        outputs = self.outputs
        if len(set(outputs)) < len(outputs):
            raise UsageError(f"both files are called {outputs[0].name}; rename one")
        if len(set(self.languages)) < len(self.languages):
            raise UsageError(f"both languages are {self.languages[0]}")
        trained = self.truecasers(self.output_dir) if self.trains else []
        for path, output in product(self.files, [*outputs, *trained]):
            if is_same_file(path, output):
                raise UsageError(f"the output would overwrite {path}; choose another --output-dir")
        for output in outputs if self.output_dir.is_dir() else ():
            OutputFile(output)  # refused where it cannot be written
        if self.truecase_model_dir and self.settings.casing != "truecase":
            raise UsageError("--truecase-model-dir goes with --truecase only")
        for model in self.truecasers(self.truecase_model_dir):
            if not model.is_file():
                raise UsageError(f"there is no truecaser {model}; an earlier prepare makes it")

    @property
    def trains(self) -> bool:
        """Whether truecasers are trained, and kept beside the text."""
        return self.settings.casing == "truecase" and not self.truecase_model_dir

    @property
    def outputs(self) -> list[Path]:
        """The files to write."""
        return [self.output_dir / Path(path).name for path in self.files]

    def truecasers(self, folder: Path | None) -> list[Path]:
        """The truecaser models of a folder, one per language."""
        return [folder / f"{MODEL_NAME}.{code}" for code in self.languages] if folder else []


@dataclass
class Preparation:
    """What was written and what was dropped."""

    lines: int = 0  # read from each side
    kept: int = 0  # written to each side
    dropped: Counter[str] = field(default_factory=Counter)  # sentence pairs by reason


class Tokenizer:
    """normalize-punctuation.perl and tokenizer.perl for one language, line by line."""

    def __init__(self, language: str, settings: PreparationSettings) -> None:
        from sacremoses import MosesPunctNormalizer, MosesTokenizer  # type: ignore[import-untyped]

        self.normaliser = MosesPunctNormalizer(lang=language, perl_parity=True)
        self.tokenizer = MosesTokenizer(lang=language)
        self.settings = settings

    def lines(self, lines: Sequence[str]) -> list[str]:
        """Each line's tokens."""
        return [self(line) for line in lines]

    def __call__(self, line: str) -> str:
        """The tokens, one blank between them."""
        if self.settings.normalise:
            line = self.normaliser.normalize(line)
        text: str = self.tokenizer.tokenize(line, escape=self.settings.escape, return_str=True)
        # After a word that ends in something else. A regular expression that begins with the word
        # would try every letter of it as its beginning.
        if text.endswith(".") and text[-2:-1].strip(" ."):
            text = f"{text[:-1]} ."
        return text


class TruecaseCounts:
    """How often each word was seen in each casing: train-truecaser.perl."""

    def __init__(self) -> None:
        from sacremoses import MosesTruecaser

        self.truecaser = MosesTruecaser()
        self.casings: dict[str, Counter[str]] = {}

    def add(self, line: str) -> None:
        """Counts the words of a tokenised sentence."""
        for lower, word, weight in self.truecaser.learn_truecase_weights(line.split(" ")):
            self.casings.setdefault(lower, Counter())[word] += weight

    def write(self, path: Path) -> None:
        """Writes the model as truecase.perl reads it: `best (12/13) Other (1)`."""
        lines = []
        for casing in self.casings.values():
            (best, count), *others = casing.most_common()
            rest = "".join(f" {word} ({n})" for word, n in others)
            lines.append(f"{best} ({count}/{casing.total()}){rest}\n")
        write_file(path, "".join(lines).encode())


def prepare_corpus(request: PrepareRequest) -> Preparation:
    """Prepares one text, or the two sides of a corpus, into files of the same names in a folder.

    A line that is not UTF-8 is a DataError, and so are sides of different length.
    """
    folder = request.output_dir
    folder.mkdir(exist_ok=True, parents=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".tokenised") as work, ExitStack() as stack:
        texts = [Path(work, str(number)) for number in range(len(request.files))]
        models = request.truecasers(request.truecase_model_dir or Path(work))
        for path, language, text, model in zip(
            request.files, request.languages, texts, models, strict=True
        ):
            counts = TruecaseCounts() if request.trains else None
            _tokenise(path, language, text, request, counts)
            if counts:
                counts.write(model)
        casers = [_caser(request.settings.casing, model) for model in models]
        outs = [stack.enter_context(OutputFile(output)) for output in request.outputs]
        sides = [stack.enter_context(text.open(encoding="utf-8", newline="\n")) for text in texts]
        result = _write(request, sides, casers, outs)
        if request.trains:
            for model in models:
                write_file(folder / model.name, model.read_bytes())
    return result


def _tokenise(
    path: str | Path, language: str, output: Path, request: PrepareRequest,
    counts: TruecaseCounts | None,
) -> None:  # fmt: skip
    """Writes the tokenised text; counts its casings where a truecaser is to be trained."""
    tokenise, processes = Tokenizer(language, request.settings).lines, request.settings.processes
    read = text_blocks(path, TEXT_BLOCK_BYTES)
    blocks: Iterator[list[str]] = map(tokenise, read)
    if processes > 1:
        blocks = (lines for _, lines in ordered_map(tokenise, read, processes))
    with (
        output.open("w", encoding="utf-8", newline="\n") as out,
        progress_bar(f"tokenising {Path(path).name}", show=not request.quiet, unit=" lines") as bar,
    ):
        for lines in blocks:
            out.writelines(f"{line}\n" for line in lines)
            bar.update(len(lines))
            if counts:
                for line in lines:
                    counts.add(line)


def _caser(casing: Casing, model: Path) -> Callable[[str], str]:
    """A function from a tokenised line to the line in its final casing."""
    if casing == "lowercase":
        return str.lower
    if casing == "keep":
        return str
    from sacremoses import MosesTruecaser

    truecaser = MosesTruecaser(str(model))
    in_steps = truecaser.split_xml  # it copies the rest of the line for each of its words
    truecaser.split_xml = lambda line: in_steps(line) if re.search("[<>]", line) else line.split()
    return partial(truecaser.truecase, return_str=True, use_known=True)


def _write(
    request: PrepareRequest, sides: Sequence[TextIO], casers: Sequence[Callable[[str], str]],
    outs: Sequence[OutputFile],
) -> Preparation:  # fmt: skip
    """Cases, cleans and writes the tokenised sides in step."""
    files, settings, result = request.files, request.settings, Preparation()
    rows = zip_longest(*sides)
    while batch := list(islice(rows, BATCH_LINES)):
        kept: list[list[str]] = []
        for row in batch:
            if None in row:
                short, long = files if row[0] is None else reversed(files)
                raise DataError(f"{result.lines:,} lines, but {long} has more", path=short)
            result.lines += 1
            cased = [caser(line.rstrip("\n")) for caser, line in zip(casers, row, strict=True)]
            reason = None
            if settings.clean and len(files) == 2:
                # As clean-corpus-n.perl does.
                cased = [" ".join(line.replace("|", "").split()) for line in cased]
                reason = why_dropped(cased, settings)
            if reason:
                result.dropped[reason] += 1
            else:
                kept.append(cased)
        result.kept += len(kept)
        for out, side in zip(outs, zip(*kept, strict=True), strict=bool(kept)):
            out.write("".join(f"{line}\n" for line in side).encode())
    return result


def why_dropped(sides: Sequence[str], settings: PreparationSettings) -> str | None:
    """The reason why clean-corpus-n.perl would drop a tokenised sentence pair, if it would."""
    words = [line.split(" ") if line else [] for line in sides]
    lengths = [len(side) for side in words]
    if not min(lengths):
        return "empty side"
    if max(lengths) > settings.max_length:
        return f"more than {settings.max_length} words"
    if min(lengths) < settings.min_length:
        return f"fewer than {settings.min_length} words"
    if max(lengths) / min(lengths) > settings.ratio:
        return f"lengths beyond 1:{settings.ratio:g}"
    if max(len(word) for side in words for word in side) > LONGEST_WORD:
        return f"a word of more than {LONGEST_WORD} characters"
    return None
