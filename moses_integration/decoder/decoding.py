"""Decoding with real Moses: one output line per input line, and n-best lists."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from moses_integration.decoder.programs import Moses, ProgramError, run_program
from moses_integration.formats.ini_edits import with_absolute_paths
from moses_integration.formats.moses_ini import MosesIni
from moses_integration.system.check import check_model
from phrase_scorer.errors import UsageError, quoted
from phrase_scorer.runtime.console import progress_bar
from phrase_scorer.runtime.output import OutputFile
from phrase_scorer.runtime.streams import line_blocks


@dataclass(frozen=True)
class NBest:
    """Which n-best list the decoder is to write.

    Attributes:
        path: The file; Moses writes it as it goes.
        size: Hypotheses a sentence, at most; moses2 writes one more.
        distinct: Only hypotheses whose words differ.
        segmentation: With the spans of the phrases.
        alignment: With the word alignment.
    """

    path: Path
    size: int
    distinct: bool = False
    segmentation: bool = False
    alignment: bool = False

    def flags(self) -> list[str | Path]:
        """As options of the decoder (moses/parameters/NBestOptions.cpp)."""
        words: list[str | Path] = ["-n-best-list", self.path, str(self.size)]
        words += ["distinct"] * self.distinct
        words += ["-include-segmentation-in-n-best"] * self.segmentation
        return words + ["-print-alignment-info-in-n-best"] * self.alignment


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
        moses: Where the programs are.
        ini: Its paths must be absolute or hold in the current folder.
        source: Tokenised text; plain, gz, bz2, xz or zst, `-` is standard input.
        decoder: "moses" or "moses2".
        threads: Of the decoder.
        nbest: An n-best list to write, too.
        flags: More of the decoder's own options.
        log: For the decoder's standard error.
        on_line: Is given each translation.

    Raises:
        ProgramError: The decoder failed, or gave another number of lines than it was given.
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


def decode(
    moses: Moses,
    ini: MosesIni,
    source: str | Path,
    output: str | Path,
    *,
    nbest: NBest | None = None,
    log: Path,
    show_progress: bool = True,
    **options: Any,
) -> int:
    """Writes the translations to a file, and an n-best list where one is wanted; how many lines.

    Both files appear only when they are whole; an n-best list named .gz is compressed.
    `options` are those of `decode_lines`.

    Raises:
        ProgramError: The decoder failed.
        DataError: A file of the ini is not there or has not num-features scores; an output file
            cannot be written, which is told before decoding.
        UsageError: moses2 and what it cannot write; no folder for the log.
    """
    check_model(ini)
    if nbest and options.get("decoder") == "moses2" and (nbest.segmentation or nbest.alignment):
        raise UsageError("moses2 writes no segmentation and no alignment into n-best lists")
    if not log.resolve().parent.is_dir():
        raise UsageError(f"the log {log}: there is no folder {log.parent}")
    with tempfile.TemporaryDirectory(dir=log.resolve().parent) as folder, ExitStack() as stack:
        out = stack.enter_context(OutputFile(output))
        nbest_out = stack.enter_context(OutputFile(nbest.path)) if nbest else None
        path = Path(folder, "moses.ini")
        path.write_bytes(with_absolute_paths(ini).to_bytes())
        written = replace(nbest, path=Path(folder, "nbest")) if nbest else None
        bar = stack.enter_context(progress_bar("decoding", show=show_progress, unit=" sentences"))
        lines = decode_lines(
            moses, path, source,
            nbest=written, log=log, on_line=lambda _: bar.update(), **options,
        )  # fmt: skip
        if nbest_out and written:
            for block in line_blocks(written.path):
                nbest_out.write(b"\n".join(block.lines) + b"\n")
        out.write(b"".join(b"%b\n" % line for line in lines))
    return len(lines)


def _plain_copy(source: str | Path, folder: Path) -> tuple[Path, int]:
    """(a plain file with the same lines, how many): the decoder reads its standard input."""
    path, lines = folder / "input", 0
    with path.open("wb") as out:
        for block in line_blocks(source):
            lines += len(block.lines)
            out.write(b"\n".join(block.lines) + b"\n")
    return path, lines
