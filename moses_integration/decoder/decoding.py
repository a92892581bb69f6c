"""Decoding with real Moses: one output line per input line; n-best lists and their comparison."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

from moses_integration.decoder.programs import Argument, Moses, ProgramError, run_program
from moses_integration.formats.ini_edits import with_absolute_paths
from moses_integration.formats.moses_ini import MosesIni
from moses_integration.formats.nbest import Hypothesis, read_nbest
from moses_integration.system.check import check_model
from phrase_scorer.errors import DataError, PhraseScorerError, UsageError, quoted
from phrase_scorer.runtime.console import progress_bar
from phrase_scorer.runtime.output import STANDARD, OutputFile, check_option, is_same_file, real_path
from phrase_scorer.runtime.streams import line_blocks

TOLERANCE = 5e-5  # between values in n-best lists, relative above 1: decoders print six digits


@dataclass(frozen=True)
class NBest:
    """The n-best list that the decoder is to write, if any."""

    nbest: tuple[Path, int] | None = None  # file, hypotheses per sentence; moses2 writes one more
    distinct: bool = False  # only hypotheses whose words differ
    segmentation: bool = False  # with the spans of the phrases
    alignment: bool = False  # with the word alignment

    def __post_init__(self) -> None:
        for name in ("distinct", "segmentation", "alignment"):
            if getattr(self, name) and not self.nbest:
                raise UsageError(f"--{name} needs --nbest FILE N")

    def flags(self) -> list[Argument]:
        """The decoder's options for it (moses/parameters/NBestOptions.cpp)."""
        if not self.nbest:
            return []
        words: list[Argument] = ["-n-best-list", self.nbest[0], str(self.nbest[1])]
        words += ["distinct"] * self.distinct
        words += ["-include-segmentation-in-n-best"] * self.segmentation
        return words + ["-print-alignment-info-in-n-best"] * self.alignment


@dataclass(frozen=True)
class Decoder:
    """A decoder of Moses and how it is run."""

    moses: Moses
    decoder: str = "moses"  # or moses2
    decoder_flags: str = ""  # more of its own options, as a shell has them
    threads: int = 1

    def __post_init__(self) -> None:
        split_flags(self.decoder_flags)

    def translations(
        self, ini: Path, source: str | Path, log: Path, nbest: NBest | None = None,
        on_line: Callable[[bytes], object] = lambda _: None,
    ) -> list[bytes]:  # fmt: skip
        """The best translation of every line of the input, without line ends.

        Args:
            ini: Its paths must be absolute or hold in the current folder.
            source: Tokenised text; plain, gz, bz2, xz or zst, `-` is standard input.
            log: Gets the decoder's standard error.
            nbest: An n-best list to write as well; Moses writes it as it goes.
            on_line: Is given each translation.

        Raises:
            ProgramError: The decoder failed, or wrote another number of lines than it read.
            DataError: The input cannot be read.
        """
        output: list[bytes] = []

        def collect(line: bytes) -> None:
            output.append(line.rstrip(b"\n").rstrip(b" "))
            on_line(output[-1])

        with tempfile.TemporaryDirectory() as folder:
            text, count = _plain_copy(source, Path(folder))
            words: list[Argument] = [self.moses.program(self.decoder), "-f", ini, "-v", "0"]
            words += ["-threads", str(self.threads), *split_flags(self.decoder_flags)]
            words += nbest.flags() if nbest else []
            self.moses.note_in(log)
            run_program(words, log=log, stdin=text, on_line=collect)
        if len(output) != count:
            what = f"{self.decoder} wrote {len(output):,} lines for the {count:,} of {source}"
            raise ProgramError(f"{what}; its log is {log}")
        return output


@dataclass(frozen=True)
class DecodeRequest:
    """Text to translate, what translates it, and where all is written.

    Raises:
        UsageError: An n-best list that moses2 cannot write; no folder for the log.
        DataError: An output is an input or the other output, or cannot be written.
    """

    moses_ini: str
    decoder: Decoder
    nbest: NBest
    source: str = STANDARD  # tokenised
    output: str = STANDARD
    log: Path | None = None
    quiet: bool = False

    def __post_init__(self) -> None:
        nbest, log = self.nbest, self.log_file
        if self.decoder.decoder == "moses2" and (nbest.segmentation or nbest.alignment):
            raise UsageError("moses2 writes no segmentation and no alignment into n-best lists")
        for out in self.outputs()[1:]:
            if is_same_file(out.path, self.output):
                raise DataError("the n-best list would overwrite the translations", path=out.path)
        read = {"--input": self.source, "--moses-ini": self.moses_ini}
        made = {"--output": self.output, "--nbest": nbest.nbest and nbest.nbest[0]}
        check_option(f"the log {log}", log, {**read, **made})

    @property
    def log_file(self) -> Path:
        """Where the decoder's standard error goes."""
        return self.log or Path("decode.log" if self.output == STANDARD else f"{self.output}.log")

    def outputs(self) -> list[OutputFile]:
        """The file of the translations, and that of an n-best list."""
        places: list[str | Path] = [self.output, *(self.nbest.nbest or ())[:1]]
        return [OutputFile(place, inputs=[self.source, self.moses_ini]) for place in places]


def split_flags(text: str) -> list[str]:
    """The decoder's options in a text, cut as a shell does; an open quotation is refused."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--decoder-flags: {error}: {quoted(text)}") from error


def translate(request: DecodeRequest) -> int:
    """Writes the translations, and an n-best list where one is wanted; returns the number of lines.

    Both files appear only when they are whole; an n-best list named .gz is compressed.

    Raises:
        ProgramError: The decoder failed.
        DataError: A file named in the ini is missing, or its scores are not num-features.
    """
    ini, log, nbest = MosesIni.read(request.moses_ini), request.log_file, request.nbest
    check_model(ini)
    with tempfile.TemporaryDirectory(dir=real_path(log).parent) as folder, ExitStack() as stack:
        translations, *lists = map(stack.enter_context, request.outputs())
        path, written = Path(folder, "moses.ini"), Path(folder, "nbest")
        path.write_bytes(with_absolute_paths(ini).to_bytes())
        if nbest.nbest:
            nbest = replace(nbest, nbest=(written, nbest.nbest[1]))
        progress = progress_bar("decoding", show=not request.quiet, unit=" sentences")
        bar = stack.enter_context(progress)
        lines = request.decoder.translations(
            path, request.source, log, nbest, on_line=lambda _: bar.update()
        )
        for nbest_list in lists:
            for block in line_blocks(written):
                nbest_list.write(b"\n".join(block.lines) + b"\n")
        translations.write(b"".join(b"%b\n" % line for line in lines))
    return len(lines)


def _plain_copy(source: str | Path, folder: Path) -> tuple[Path, int]:
    """(a plain file with the same lines, their number): the decoder reads its standard input."""
    path, lines = folder / "input", 0
    with path.open("wb") as out:
        for block in line_blocks(source):
            lines += len(block.lines)
            out.write(b"\n".join(block.lines) + b"\n")
    return path, lines


# -- comparing two decodings -----------------------------------------------------------------------


def compare_nbest(one: Path, other: Path, *, size: int | None = None) -> None:
    """Compares two n-best lists, up to the order of hypotheses with equal totals.

    Args:
        one: The text table's list.
        other: The binary one's. Sparse features (`Name_key=`) may be missing there.
        size: A list with so many hypotheses of a sentence may have been cut off among several with
            one total, and each list may show others of them; None: no list was cut off.

    Raises:
        PhraseScorerError: A hypothesis is in one list only, or a value differs (sentence from 0,
            words, feature).
        DataError: A list cannot be read.
    """
    for first, second in zip_longest(read_nbest(one), read_nbest(other)):
        if first and second and first[0].sentence == second[0].sentence:
            what = _sentence_difference(first, second, size)
        else:
            number = min(group[0].sentence for group in (first, second) if group)
            what = f"sentence {number} is in one n-best list only"
        if what:
            raise PhraseScorerError(f"the binary table decodes otherwise: {what}")


def _sentence_difference(
    first: list[Hypothesis], second: list[Hypothesis], size: int | None
) -> str | None:
    """The first difference of two lists of one sentence."""
    missing, extra = [], list(second)
    for mine in first:
        match = next((h for h in extra if not _difference(mine, h)), None)
        if match:
            extra.remove(match)
        else:
            missing.append(mine)
    last, unexcused = first[-1].total, missing + extra
    if size and len(first) == len(second) >= size and _close(last, second[-1].total):
        unexcused = [h for h in unexcused if not _close(last, h.total)]
    if not unexcused:
        return None
    worst = unexcused[0]
    place = f"sentence {worst.sentence}, {quoted(b' '.join(worst.tokens))}"
    near = [h for h in (extra if worst in missing else missing) if h.tokens == worst.tokens]
    if not near:
        return f"{place} is in one n-best list only"
    nearest = min(near, key=lambda h: abs(h.total - worst.total))
    pair = (worst, nearest) if worst in missing else (nearest, worst)
    return f"{place}: {_difference(*pair)}"


def _difference(one: Hypothesis, other: Hypothesis) -> str | None:
    """The first difference of two hypotheses."""
    if one.tokens != other.tokens:
        return "other words"
    for name in {**one.features, **other.features}:
        mine, others = one.features.get(name), other.features.get(name)
        if mine is None or others is None:
            if b"_" not in name:
                return f"{name.decode()} is in one n-best list only"
        elif len(mine) != len(others) or not all(map(_close, mine, others)):
            shown = (" ".join(f"{value:g}" for value in values) for values in (mine, others))
            return f"{name.decode()}= {', not '.join(shown)}"
    if not _close(one.total, other.total):
        return f"total {one.total:g}, not {other.total:g}"
    return None


def _close(one: float, other: float) -> bool:
    return abs(one - other) <= TOLERANCE * max(1.0, abs(one))
