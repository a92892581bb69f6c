"""Binary phrase tables by Moses' own programs, with the right number of scores, and their check.

The programs believe what they are told: given a wrong number of scores, two blanks in a row or
sources out of order, they write a broken table without a word (moses-contract: 2). So every line is
read first, what they would misread is copied and sorted, and sentences are decoded with both.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal

from moses_integration.decoder.decoding import Decoder, NBest, compare_nbest
from moses_integration.decoder.programs import Argument, Moses, ProgramError, Usage, run_program
from moses_integration.formats.ini_edits import with_absolute_paths, with_files
from moses_integration.formats.moses_ini import TEXT_TABLE, MosesIni, require_scores
from moses_integration.formats.phrase_table import (
    BLANKS,
    FIELDS,
    SEPARATOR,
    PhraseTable,
    first_entry_scores,
)
from moses_integration.formats.table_check import alignment_errors
from moses_integration.system.check import IniTarget, check_model
from phrase_scorer.errors import DataError, UsageError, quoted
from phrase_scorer.runtime.console import progress_bar
from phrase_scorer.runtime.output import check_option, real_path, reason, sync, write_errors
from phrase_scorer.runtime.streams import compression, line_blocks, numbered_lines, refuse_pipes
from phrase_scorer.text.phrase_pairs import words_of

Format = Literal["probing", "compact", "ondisk"]

COMPARED_HYPOTHESES = 20  # per sentence


@dataclass(frozen=True)
class BinarySettings:
    """How a table is made binary."""

    table_limit: int = 100  # targets per source that an on-disk table keeps; 0: all
    sort_score: int = 2  # the score (from 0) that chooses them; 2 is p(target | source)
    threads: int = 1  # for processPhraseTableMin


@dataclass(frozen=True)
class TableFacts:
    """What the programs must be told about a text table, or cannot be told."""

    scores: int  # per entry
    factors: tuple[int, int] = (1, 1)  # per word of the source and of the target
    ready: bool = True  # sources as LC_ALL=C sort has them, single blanks between words and bars


@dataclass(frozen=True)
class BinaryFormat:
    """One of Moses' binary formats."""

    class_name: str  # of its feature in moses.ini
    program: str
    suffix: str  # added by the program to the name that it is given
    command: Callable[[Path, Path, TableFacts, BinarySettings], list[Argument]]
    moses2: bool = False  # whether moses2 reads it, too


def _probing(table: Path, output: Path, facts: TableFacts, _: BinarySettings) -> list[Argument]:
    words: list[Argument] = ["--num-scores", str(facts.scores), "--log-prob"]
    return [*words, "--input-pt", table, "--output-dir", output]


def _ondisk(table: Path, output: Path, facts: TableFacts, how: BinarySettings) -> list[Argument]:
    numbers = [*facts.factors, facts.scores, how.table_limit, how.sort_score]
    return [*map(str, numbers), table, output]


def _compact(table: Path, output: Path, facts: TableFacts, how: BinarySettings) -> list[Argument]:
    words: list[Argument] = ["-in", table, "-out", output, "-nscores", str(facts.scores)]
    return [*words, "-threads", str(how.threads)]


FORMATS: dict[Format, BinaryFormat] = {
    "probing": BinaryFormat("ProbingPT", "CreateProbingPT", "", _probing, moses2=True),
    "ondisk": BinaryFormat("PhraseDictionaryOnDisk", "CreateOnDiskPt", "", _ondisk),
    "compact": BinaryFormat(
        "PhraseDictionaryCompact", "processPhraseTableMin", ".minphr", _compact
    ),
}


@dataclass(frozen=True)
class BinarizeRequest:
    """A text table, the binary one to make of it, and how both are compared.

    Raises:
        UsageError: An output is there already, would overwrite an input or has no folder; a check
            or an output that needs a moses.ini without one.
    """

    moses: Moses
    table: Path
    kind: Format
    output: Path
    target: IniTarget = field(default_factory=IniTarget)  # names the table
    check_input: Path | None = None  # text, of which sentences are decoded with both tables
    check_sentences: int = 10
    settings: BinarySettings = BinarySettings()
    quiet: bool = False

    def __post_init__(self) -> None:
        if self.check_input and not self.target.moses_ini:
            raise UsageError("--check-input needs --moses-ini")
        refuse_pipes(self.table)
        inputs = {"PHRASE_TABLE": self.table, "--check-input": self.check_input}
        self.target.check_out({**inputs, "--output": self.file})
        if self.file.exists():
            raise UsageError(f"--output {self.file} is there already")
        for place in (self.file, self.log):
            check_option("--output", place, {**inputs, "--moses-ini": self.target.moses_ini})

    @property
    def form(self) -> BinaryFormat:
        """The format."""
        return FORMATS[self.kind]

    @property
    def file(self) -> Path:
        """What is made: a folder, or for "compact" a file."""
        return Path(f"{self.output}{self.form.suffix}")

    @property
    def log(self) -> Path:
        """Where the programs' standard error goes."""
        return Path(f"{self.output}.log")


def make_binary(request: BinarizeRequest) -> tuple[TableFacts, Usage]:
    """Writes the binary table: a folder, or for "compact" the file OUTPUT.minphr.

    Returns:
        What was found in the text table, and what the program took.

    Raises:
        UsageError: The program is missing, or no score has the number to sort by.
        DataError: A line that the format cannot hold.
        ProgramError: The program failed; its log is kept.
    """
    moses, table, log, form = request.moses, request.table, request.log, request.form
    program = _program(moses, form)
    _check_compression(table)
    facts = inspect_table(table, request.kind, show_progress=not request.quiet)
    sort_score = request.settings.sort_score
    if request.kind == "ondisk" and sort_score >= facts.scores:
        raise UsageError(f"--sort-score {sort_score}: there are {facts.scores} scores, from 0")
    moses.note_in(log)
    prefix = f"{request.output.name}.phrase-scorer-{os.getpid()}-"
    with tempfile.TemporaryDirectory(".partial", prefix, request.output.parent) as folder:
        readable = table if facts.ready else sorted_copy(table, Path(folder), log)
        place = real_path(Path(folder, "binary"))
        command = form.command(real_path(readable), place, facts, request.settings)
        usage = run_program([program, *command], log=log)
        made = Path(f"{place}{form.suffix}")
        if not made.exists():
            raise ProgramError(f"{form.program} wrote nothing; its log is {log}")
        with write_errors(request.file):
            for path in (*made.rglob("*"), made):
                sync(path)
            if request.file.exists():  # by now
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            made.rename(request.file)
            sync(request.file.parent)
    return facts, usage


def _program(moses: Moses, form: BinaryFormat) -> Path:
    try:
        return moses.program(form.program)
    except UsageError as error:
        hint = "; Moses has it only where it was built --with-cmph" if form.suffix else ""
        raise UsageError(f"{error}{hint}") from error


def _check_compression(table: Path) -> None:
    try:
        with table.open("rb") as file:
            kind = compression(file)
    except OSError as error:
        raise DataError(f"cannot read: {reason(error)}", path=table) from error
    if kind and (kind != "gz" or table.suffix != ".gz"):
        message = f"{kind} compressed: Moses' programs read plain text, and gz where it ends in .gz"
        raise DataError(message, path=table)


# -- what the programs can read --------------------------------------------------------------------


def inspect_table(table: Path, kind: Format, *, show_progress: bool = True) -> TableFacts:
    """Reads every entry; a DataError tells of one that the format cannot hold, as of a bad one."""
    reader = PhraseTable(table)
    factors, ready, last = (0, 0), True, b""
    with progress_bar("checking", show=show_progress, unit=" entries") as bar:
        for block in reader.blocks():
            first, lines, _ = block.lines
            for number, line in enumerate(lines, first):
                if message := _unfit(line, kind):
                    raise DataError(message, path=table, line=number, text=line)
            factors = factors if last else _factors(lines[0])
            sources = [line[: line.index(SEPARATOR)] + SEPARATOR for line in lines]
            ready = ready and _has_single_blanks(lines)
            ready = ready and last <= sources[0] and sources == sorted(sources)
            last = sources[-1]
            bar.update(len(lines))
    assert reader.scores is not None
    return TableFacts(reader.scores, factors, ready)


def _unfit(line: bytes, kind: Format) -> str | None:
    """The reason why an entry cannot go into a table of this format."""
    fields = line.removesuffix(b"\r").split(SEPARATOR)
    if not fields[1].strip(BLANKS):
        return "empty target: a binary table cannot hold it"
    if kind == "compact":
        return _unfit_alignment(fields)
    if kind == "probing" and b"{{LexRO" in line:
        return "LexRO property: CreateProbingPT would take its numbers for scores"
    if kind == "ondisk" and b"\0" in line:
        return "zero byte: CreateOnDiskPt would end the line there"
    return None


def _unfit_alignment(fields: Sequence[bytes]) -> str | None:
    """The reason why processPhraseTableMin, which encodes words by their alignment, cannot."""
    if len(fields) <= FIELDS or not fields[FIELDS].strip(BLANKS):
        return "no alignment: processPhraseTableMin wants one in every line"
    sizes = [len(words_of(phrase)) for phrase in fields[:2]]
    for _, point in alignment_errors(fields[FIELDS], sizes):
        return f"alignment point {quoted(point)} does not fit the phrases"
    return None


def _factors(line: bytes) -> tuple[int, int]:
    source, target = (words_of(phrase)[0] for phrase in line.split(SEPARATOR)[:2])
    return 1 + source.count(b"|"), 1 + target.count(b"|")


def _has_single_blanks(lines: Sequence[bytes]) -> bool:
    """Whether every program finds the same words, scores and bars in the lines."""
    text = b"\n" + b"\n".join(lines)
    if any(mark in text for mark in (b"  ", b"\t", b"\r", b"\n ")):
        return False
    return text.replace(b"\n", b" ").split(b" ").count(SEPARATOR) == text.count(SEPARATOR)


def sorted_copy(table: Path, folder: Path, log: Path) -> Path:
    """A plain copy in a folder, in the order of LC_ALL=C sort, with single blanks."""
    plain, ordered = folder / "normalised", folder / "sorted"
    with plain.open("wb") as out:
        for block in line_blocks(table):
            out.write(b"".join(b"%b\n" % _normalised(line) for line in block.lines))
    command: list[Argument] = ["sort", "-T", folder, "-o", ordered, plain]
    run_program(command, log=log, environment={"LC_ALL": "C"})
    plain.unlink()
    return ordered


def _normalised(line: bytes) -> bytes:
    spaced = line.removesuffix(b"\r").strip(BLANKS).replace(SEPARATOR, b" %b " % SEPARATOR)
    return b" ".join(words_of(spaced))


# -- moses.ini and the check by decoding -----------------------------------------------------------


@dataclass(frozen=True)
class InisToCompare:
    """The moses.ini with the text table and with the binary one, and sentences to decode."""

    text: MosesIni
    binary: MosesIni
    sentences: list[bytes]  # empty: no check

    @classmethod
    def of(cls, request: BinarizeRequest) -> InisToCompare | None:
        """Both files, settled before hours are spent; None without a moses.ini."""
        ini = request.target.read()
        if ini is None:
            return None
        feature = request.target.feature(ini)
        require_scores(feature, first_entry_scores(request.table))
        output, table = str(real_path(request.output)), str(real_path(request.table))
        binary = with_files(ini, {feature.line: (request.form.class_name, output)})
        if not request.check_input:
            return cls(ini, binary, [])
        text = with_files(ini, {feature.line: (TEXT_TABLE, table)})
        check_model(text)
        lines = (line for _, line in numbered_lines(request.check_input) if line.strip())
        sentences = list(islice(lines, request.check_sentences))
        if not sentences:
            raise DataError("no sentence in it to decode", path=request.check_input)
        return cls(text, binary, sentences)


def check_by_decoding(
    request: BinarizeRequest, inis: InisToCompare, say: Callable[[str], None]
) -> None:
    """Decodes sentences with both tables; as `compare_nbest`, a difference is an error."""
    count = len(inis.sentences)
    for name in ("moses", "moses2") if request.form.moses2 else ("moses",):
        if name == "moses2" and not request.moses.has(name):
            say("moses2 is not installed: checked with moses alone")
            continue
        with tempfile.TemporaryDirectory() as folder:
            chosen = Path(folder, "sentences")
            chosen.write_bytes(b"".join(b"%b\n" % line for line in inis.sentences))
            lists = [Path(folder, "text.nbest"), Path(folder, "binary.nbest")]
            for path, ini in zip(lists, (inis.text, inis.binary), strict=True):
                ini_path, nbest = path.with_suffix(".ini"), NBest((path, COMPARED_HYPOTHESES))
                ini_path.write_bytes(with_absolute_paths(ini).to_bytes())
                Decoder(request.moses, name).translations(ini_path, chosen, request.log, nbest)
            compare_nbest(*lists, size=COMPARED_HYPOTHESES)
        say(f"{name}: the same n-best lists with both tables ({count} sentences)")
