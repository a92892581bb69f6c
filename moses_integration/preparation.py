"""Raw text becomes what a Moses system is trained on: normalised, tokenised, cased, cleaned.

By the package sacremoses, whose results are those of Moses' own scripts
(normalize-punctuation.perl, tokenizer.perl, truecase.perl, clean-corpus-n.perl, lowercase.perl) but
for what is mended here and what is known to differ:

- a full stop after an abbreviation at the end of a line: tokenizer.perl cuts it off ("art ."),
  sacremoses keeps it ("art."); mended in `Tokenizer`.
- normalize-punctuation.perl leaves a blank before a "(" that begins a line; the tokenizer drops it.
- truecaser training counts a few words after quotation marks and colons otherwise than
  train-truecaser.perl: 5 of the 4,612 words of an English and 5 of the 5,217 of a French model of
  5,500 lines each, which changed 0 and 1 of those lines. With one and the same model the truecased
  text is equal.
"""

from __future__ import annotations

import multiprocessing
import re
import tempfile
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, Literal

from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.runtime.console import progress_bar
from phrase_scorer.runtime.output import OutputFile, is_same_file
from phrase_scorer.runtime.streams import Lines, line_blocks

Casing = Literal["truecase", "lowercase", "keep"]

LONGEST_WORD = 1000  # characters; clean-corpus-n.perl's -max-word-length
BLOCK_BYTES = 1 << 17  # of text that a process tokenises at once
BATCH_LINES = 4096  # cased, cleaned and written at once
MODEL_NAME = "truecase-model"

_FINAL_STOP = re.compile(r"(\S*[^.\s])\.$")
_LANGUAGE = re.compile(r"[a-z]{2,3}")


@dataclass(frozen=True)
class PreparationSettings:
    """What is done to the text.

    Attributes:
        casing: By a truecaser, to lower case, or kept.
        escape: & | < > ' " [ ] become entities, as Moses' decoder wants them.
        normalise: Punctuation first.
        clean: Drop sentence pairs by the three bounds below, and those with an empty side.
        min_length, max_length: Words of a sentence.
        ratio: Longest by shortest side.
        processes: That tokenise at the same time.
    """

    casing: Casing = "truecase"
    escape: bool = True
    normalise: bool = True
    clean: bool = True
    min_length: int = 1
    max_length: int = 80
    ratio: float = 9.0
    processes: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.min_length <= self.max_length:
            raise UsageError("--min-length must be at least 1 and at most --max-length")
        if self.ratio < 1 or self.processes < 1:
            raise UsageError("--ratio and --threads must be at least 1")


@dataclass
class Preparation:
    """What was written and what was dropped.

    Attributes:
        lines: Of the input.
        kept: Written, the same number on each side.
        dropped: Reason -> sentence pairs.
        outputs: The files.
    """

    lines: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    outputs: list[Path] = field(default_factory=list)


class Tokenizer:
    """normalize-punctuation.perl and tokenizer.perl of one language, a line at a time.

    Raises:
        UsageError: No language code.
    """

    def __init__(self, language: str, settings: PreparationSettings) -> None:
        check_language(language)
        from sacremoses import MosesPunctNormalizer, MosesTokenizer  # type: ignore[import-untyped]

        self.normaliser = MosesPunctNormalizer(lang=language, perl_parity=True)
        self.tokenizer = MosesTokenizer(lang=language)
        self.settings = settings

    def __call__(self, line: str) -> str:
        """The tokens, one blank between them."""
        if self.settings.normalise:
            line = self.normaliser.normalize(line)
        text: str = self.tokenizer.tokenize(line, escape=self.settings.escape, return_str=True)
        return _FINAL_STOP.sub(r"\1 .", text)


def check_language(language: str) -> None:
    """Checks a language code.

    Raises:
        UsageError: It is none.
    """
    if not _LANGUAGE.fullmatch(language):
        raise UsageError(f"{language} is not a language code like en")


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
        with OutputFile(path) as out:
            lines = []
            for casing in self.casings.values():
                (best, count), *others = casing.most_common()
                rest = "".join(f" {word} ({n})" for word, n in others)
                lines.append(f"{best} ({count}/{casing.total()}){rest}\n")
            out.write("".join(lines).encode())


def prepare(
    files: Sequence[str | Path],
    languages: Sequence[str],
    folder: Path,
    settings: PreparationSettings,
    *,
    model_folder: Path | None = None,
    show_progress: bool = True,
) -> Preparation:
    """Prepares one text, or the two sides of a corpus, into files of the same names in a folder.

    Args:
        files: One or two; plain, gz, bz2, xz or zst. A `.gz` stays one.
        languages: Of each.
        folder: For the results; made where it is not there.
        settings: What to do. One text alone is never cleaned: it keeps its lines.
        model_folder: Has the truecasers of an earlier preparation, `truecase-model.LANGUAGE`; None:
            they are trained on these files, and kept in `folder`.
        show_progress: Bars over the files.

    Raises:
        DataError: Invalid UTF-8 (file, line), sides of different length, an unreadable file.
        UsageError: Languages that do not fit the files, output onto input, no such model.
    """
    if len(files) != len(languages) or not 1 <= len(files) <= 2:
        raise UsageError("give one file and its language, or two files and two languages")
    for language in languages:
        check_language(language)
    outputs = [folder / Path(path).name for path in files]
    if len(set(outputs)) < len(outputs):
        raise UsageError(f"both files are called {outputs[0].name}; rename one")
    if len(set(languages)) < len(languages):
        raise UsageError(f"both languages are {languages[0]}")
    for path, output in zip(files, outputs, strict=True):
        if is_same_file(path, output):
            raise UsageError(f"the output would overwrite {path}; choose another --output-dir")
    folder.mkdir(exist_ok=True, parents=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".tokenised") as work, ExitStack() as stack:
        texts, casers, models = [], [], []
        for number, (path, language) in enumerate(zip(files, languages, strict=True)):
            text = Path(work, str(number))
            counts = _tokenise(path, language, text, settings, model_folder, show_progress)
            if counts:
                models.append(Path(work, f"{MODEL_NAME}.{language}"))
                counts.write(models[-1])
            casers.append(_caser(settings.casing, language, model_folder or Path(work)))
            texts.append(text)
        outs = [stack.enter_context(OutputFile(output)) for output in outputs]
        result = _write(files, texts, casers, outs, settings)
        for model in models:
            model.replace(folder / model.name)
    result.outputs = outputs
    return result


def _tokenise(
    path: str | Path, language: str, output: Path, settings: PreparationSettings,
    model_folder: Path | None, show_progress: bool,
) -> TruecaseCounts | None:  # fmt: skip
    """Writes the tokenised text; counts its casings where a truecaser is to be trained."""
    if settings.casing == "truecase" and model_folder:
        model = model_folder / f"{MODEL_NAME}.{language}"
        if not model.is_file():
            raise UsageError(f"there is no truecaser {model}; an earlier prepare makes it")
    counts = TruecaseCounts() if settings.casing == "truecase" and not model_folder else None
    with (
        output.open("w", encoding="utf-8", newline="\n") as out,
        progress_bar(f"tokenising {Path(path).name}", show=show_progress, unit=" lines") as bar,
    ):
        for lines in _tokenised(_decoded(path), language, settings):
            out.writelines(f"{line}\n" for line in lines)
            bar.update(len(lines))
            if counts:
                for line in lines:
                    counts.add(line)
    return counts


def _decoded(path: str | Path) -> Iterator[list[str]]:
    for block in line_blocks(path, BLOCK_BYTES):
        yield _decode(block, path)


def _decode(block: Lines, path: str | Path) -> list[str]:
    lines = []
    for number, line in enumerate(block.lines, block.first):
        try:
            lines.append(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise DataError("not UTF-8", path=path, line=number, text=line) from error
    return lines


def _tokenised(
    blocks: Iterator[list[str]], language: str, settings: PreparationSettings
) -> Iterator[list[str]]:
    """The blocks in order, several at a time in other processes, few of them in memory."""
    if settings.processes == 1:
        tokenizer = Tokenizer(language, settings)
        yield from ([tokenizer(line) for line in block] for block in blocks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        settings.processes, context, _start_process, (language, settings)
    ) as pool:
        waiting: deque[Future[list[str]]] = deque()
        for block in blocks:
            waiting.append(pool.submit(_tokenise_block, block))
            if len(waiting) > 2 * settings.processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


_tokenizer: Tokenizer | None = None  # of a process that tokenises


def _start_process(language: str, settings: PreparationSettings) -> None:
    global _tokenizer
    _tokenizer = Tokenizer(language, settings)


def _tokenise_block(lines: list[str]) -> list[str]:
    assert _tokenizer is not None
    return [_tokenizer(line) for line in lines]


def _caser(casing: Casing, language: str, folder: Path) -> Any:
    """A function from a tokenised line to the line in its final casing."""
    if casing == "lowercase":
        return str.lower
    if casing == "keep":
        return lambda line: line
    from sacremoses import MosesTruecaser

    truecaser = MosesTruecaser(str(folder / f"{MODEL_NAME}.{language}"))
    return lambda line: truecaser.truecase(line, return_str=True, use_known=True)


def _write(
    files: Sequence[str | Path],
    texts: Sequence[Path],
    casers: Sequence[Any],
    outs: Sequence[OutputFile],
    settings: PreparationSettings,
) -> Preparation:
    """Cases, cleans and writes the tokenised sides in step."""
    result = Preparation()
    rows = zip_longest(*map(_lines, texts))
    while batch := list(islice(rows, BATCH_LINES)):
        kept: list[list[str]] = []
        for row in batch:
            if None in row:
                short, long = (files[0], files[1]) if row[0] is None else (files[1], files[0])
                raise DataError(f"{result.lines:,} lines, but {long} has more", path=short)
            result.lines += 1
            cased = [caser(line) for caser, line in zip(casers, row, strict=True)]
            reason = None
            if settings.clean and len(files) == 2:
                cased = [line.replace("|", "") for line in cased]  # as clean-corpus-n.perl does
                cased = [" ".join(line.split()) for line in cased]
                reason = why_dropped(cased, settings)
            if reason:
                result.dropped[reason] += 1
            else:
                kept.append(cased)
        result.kept += len(kept)
        for out, side in zip(outs, zip(*kept, strict=True), strict=bool(kept)):
            out.write("".join(f"{line}\n" for line in side).encode())
    return result


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="\n") as text:
        for line in text:
            yield line.rstrip("\n")


def why_dropped(sides: Sequence[str], settings: PreparationSettings) -> str | None:
    """Why clean-corpus-n.perl would drop a tokenised sentence pair; None: it stays."""
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
