"""Decoding with real Moses: one output line per input line; n-best lists and their comparison."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import repeat, zip_longest
from pathlib import Path

from moses_integration.decoder.programs import Moses, ProgramError, run_program
from moses_integration.formats.ini_edits import with_absolute_paths
from moses_integration.formats.moses_ini import MosesIni
from moses_integration.formats.nbest import Hypothesis, read_nbest
from moses_integration.system.check import check_model
from phrase_scorer.errors import DataError, PhraseScorerError, UsageError, quoted
from phrase_scorer.runtime.console import progress_bar
from phrase_scorer.runtime.output import STANDARD, OutputFile, is_same_file
from phrase_scorer.runtime.streams import line_blocks

TOLERANCE = 5e-5  # between values in n-best lists, relative above 1: decoders print six digits


@dataclass(frozen=True)
class NBest:
    """The n-best list that the decoder is to write."""

    path: Path  # Moses writes it as it goes
    size: int  # hypotheses per sentence, at most; moses2 writes one more
    distinct: bool = False  # only hypotheses whose words differ
    segmentation: bool = False  # with the spans of the phrases
    alignment: bool = False  # with the word alignment

    def flags(self) -> list[str | Path]:
        """The decoder's options for it (moses/parameters/NBestOptions.cpp)."""
        words: list[str | Path] = ["-n-best-list", self.path, str(self.size)]
        words += ["distinct"] * self.distinct
        words += ["-include-segmentation-in-n-best"] * self.segmentation
        return words + ["-print-alignment-info-in-n-best"] * self.alignment


@dataclass(frozen=True)
class DecodeRequest:
    """Text to translate, the model that translates it, and where all is written.

    Raises:
        UsageError: Details of an n-best list without the list, or that moses2 cannot write; flags
            with an open quotation mark; no folder for the log.
        DataError: An output is an input, or cannot be written.
    """

    moses: Moses
    moses_ini: str
    source: str = STANDARD  # tokenised
    output: str = STANDARD
    nbest: tuple[Path, int] | None = None  # file and size of an n-best list
    distinct: bool = False
    segmentation: bool = False
    alignment: bool = False
    decoder: str = "moses"  # or moses2
    decoder_flags: str = ""
    threads: int = 1
    log: Path | None = None
    quiet: bool = False

    def __post_init__(self) -> None:
        for name in ("distinct", "segmentation", "alignment"):
            if getattr(self, name) and not self.nbest:
                raise UsageError(f"--{name} needs --nbest FILE N")
        if self.decoder == "moses2" and (self.segmentation or self.alignment):
            raise UsageError("moses2 writes no segmentation and no alignment into n-best lists")
        split_flags(self.decoder_flags)
        self.outputs()
        log = self.log_file
        if not log.resolve().parent.is_dir():
            raise UsageError(f"the log {log}: there is no folder {log.parent}")

    @property
    def log_file(self) -> Path:
        """Where the decoder's standard error goes."""
        return self.log or Path("decode.log" if self.output == STANDARD else f"{self.output}.log")

    def outputs(self) -> tuple[OutputFile, OutputFile | None]:
        """The files of the translations and of the n-best list.

        Raises:
            DataError: One of them is an input or the other, or cannot be written.
        """
        inputs = [self.source, self.moses_ini]
        translations = OutputFile(self.output, inputs=inputs)
        if not self.nbest:
            return translations, None
        if is_same_file(self.nbest[0], self.output):
            raise DataError("the n-best list would overwrite the translations", path=self.output)
        return translations, OutputFile(self.nbest[0], inputs=inputs)


def split_flags(text: str) -> list[str]:
    """The decoder's options in a text, cut as a shell does.

    Raises:
        UsageError: A quotation mark is not closed.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--decoder-flags: {error}: {quoted(text)}") from error


def decode_lines(
    moses: Moses,
    ini: Path,
    source: str | Path,
    *,
    decoder: str = "moses",
    threads: int = 1,
    nbest: NBest | None = None,
    flags: Sequence[str] = (),
    log: Path,
    on_line: Callable[[bytes], object] = lambda _: None,
) -> list[bytes]:
    """The best translation of every line of the input, without line ends.

    Args:
        moses: The installation.
        ini: Its paths must be absolute or hold in the current folder.
        source: Tokenised text; plain, gz, bz2, xz or zst, `-` is standard input.
        decoder: "moses" or "moses2".
        threads: The decoder's.
        nbest: An n-best list to write as well.
        flags: More of the decoder's own options.
        log: Gets the decoder's standard error.
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
        words: list[str | Path] = [moses.program(decoder), "-f", ini, "-v", "0"]
        words += ["-threads", str(threads), *flags]
        words += nbest.flags() if nbest else []
        moses.note_in(log)
        run_program(words, log=log, stdin=text, on_line=collect)
    if len(output) != count:
        what = f"{decoder} wrote {len(output):,} lines for the {count:,} of {source}"
        raise ProgramError(f"{what}; its log is {log}")
    return output


def translate(request: DecodeRequest) -> int:
    """Writes the translations, and an n-best list where one is wanted; returns the number of lines.

    Both files appear only when they are whole; an n-best list named .gz is compressed.

    Raises:
        ProgramError: The decoder failed.
        DataError: A file named in the ini is missing, or its scores are not num-features.
    """
    ini, log = MosesIni.read(request.moses_ini), request.log_file
    check_model(ini)
    translations, nbest_list = request.outputs()
    with tempfile.TemporaryDirectory(dir=log.resolve().parent) as folder, ExitStack() as stack:
        stack.enter_context(translations)
        path, nbest = Path(folder, "moses.ini"), None
        path.write_bytes(with_absolute_paths(ini).to_bytes())
        if nbest_list and request.nbest:
            stack.enter_context(nbest_list)
            details = request.distinct, request.segmentation, request.alignment
            nbest = NBest(Path(folder, "nbest"), request.nbest[1], *details)
        bar = stack.enter_context(
            progress_bar("decoding", show=not request.quiet, unit=" sentences")
        )
        lines = decode_lines(
            request.moses, path, request.source, decoder=request.decoder, threads=request.threads,
            nbest=nbest, flags=split_flags(request.decoder_flags), log=log,
            on_line=lambda _: bar.update(),
        )  # fmt: skip
        if nbest_list and nbest:
            for block in line_blocks(nbest.path):
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


def compare_nbest(
    one: Path, other: Path, tolerance: float = TOLERANCE, *, size: int | None = None
) -> None:
    """Compares two n-best lists, up to the order of hypotheses with equal totals.

    Args:
        one: The text table's list.
        other: The binary one's. Sparse features (`Name_key=`) may be missing there.
        tolerance: Largest difference between values, relative to those above 1.
        size: A list with so many hypotheses of a sentence may have been cut off among several with
            one total, and each list may show others of them; None: no list was cut off.

    Raises:
        PhraseScorerError: A hypothesis is in one list only, or a value differs (sentence from 0,
            words, feature).
        DataError: A list cannot be read.
    """
    for first, second in zip_longest(read_nbest(one), read_nbest(other), fillvalue=None):
        if first is None or second is None or first[0].sentence != second[0].sentence:
            number = min(group[0].sentence for group in (first, second) if group)
            raise _otherwise(f"sentence {number} is in one n-best list only")
        _compare_sentence(first, second, tolerance, size)


def _compare_sentence(
    first: list[Hypothesis], second: list[Hypothesis], tolerance: float, size: int | None
) -> None:
    missing, extra = [], list(second)
    for mine in first:
        match = next((h for h in extra if not _difference(mine, h, tolerance)), None)
        if match:
            extra.remove(match)
        else:
            missing.append(mine)
    last, unexcused = first[-1].total, missing + extra
    if size and len(first) == len(second) >= size and _close(last, second[-1].total, tolerance):
        unexcused = [h for h in unexcused if not _close(last, h.total, tolerance)]
    if not unexcused:
        return
    worst = unexcused[0]
    near = [h for h in (extra if worst in missing else missing) if h.words == worst.words]
    if not near:
        raise _otherwise(f"{_place(worst)} is in one n-best list only")
    nearest = min(near, key=lambda h: abs(h.total - worst.total))
    pair = (worst, nearest) if worst in missing else (nearest, worst)
    raise _otherwise(f"{_place(worst)}: {_difference(*pair, tolerance)}")


def _difference(one: Hypothesis, other: Hypothesis, tolerance: float) -> str | None:
    """The first difference of two hypotheses."""
    if one.words != other.words:
        return "other words"
    for name in {**one.features, **other.features}:
        mine, others = one.features.get(name), other.features.get(name)
        if mine is None or others is None:
            if b"_" not in name:
                return f"{name.decode()} is in one n-best list only"
        elif len(mine) != len(others) or not all(map(_close, mine, others, repeat(tolerance))):
            shown = (" ".join(f"{value:g}" for value in values) for values in (mine, others))
            return f"{name.decode()}= {', not '.join(shown)}"
    if not _close(one.total, other.total, tolerance):
        return f"total {one.total:g}, not {other.total:g}"
    return None


def _close(one: float, other: float, tolerance: float) -> bool:
    return abs(one - other) <= tolerance * max(1.0, abs(one))


def _place(hypothesis: Hypothesis) -> str:
    return f"sentence {hypothesis.sentence}, {quoted(b' '.join(hypothesis.words))}"


def _otherwise(what: str) -> PhraseScorerError:
    return PhraseScorerError(f"the binary table decodes otherwise: {what}")
