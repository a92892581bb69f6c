"""Binary phrase tables by Moses' own programs, with the right number of scores, and their check.

The programs believe what they are told: with a wrong number of scores, two blanks in a row or
sources out of order they write a broken table without a word (moses-contract: 2). So every line is
read before, what they misread is copied and sorted, and some sentences are decoded with both.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat, zip_longest
from pathlib import Path
from shutil import rmtree
from typing import Literal

from moses_integration.decoder.decoding import NBest, decode_lines
from moses_integration.decoder.programs import Argument, Moses, ProgramError, Usage, run_program
from moses_integration.formats.ini_edits import with_absolute_paths, with_files
from moses_integration.formats.moses_ini import MosesIni, PhraseTableFeature
from moses_integration.formats.nbest import Hypothesis, read_nbest
from moses_integration.formats.phrase_table import BLANKS, FIELDS, SEPARATOR, PhraseTable
from phrase_scorer.errors import DataError, PhraseScorerError, UsageError, quoted
from phrase_scorer.runtime.console import progress_bar
from phrase_scorer.runtime.output import reason
from phrase_scorer.runtime.streams import MAGIC, line_blocks

Format = Literal["probing", "compact", "ondisk"]

TOLERANCE = 5e-5  # of a value in an n-best list, relative above 1: decoders print six digits

_POINT = re.compile(rb"(\d+)-(\d+)")


@dataclass(frozen=True)
class BinarySettings:
    """How a table is made binary.

    Attributes:
        table_limit: Targets a source that an on-disk table keeps; 0: all.
        sort_score: By which score (from 0) it chooses them; 2 is p(target | source).
        threads: Of processPhraseTableMin.
    """

    table_limit: int = 100
    sort_score: int = 2
    threads: int = 1


@dataclass(frozen=True)
class TableFacts:
    """What the programs must be told of a text table, or cannot be told.

    Attributes:
        scores: Of each entry.
        factors: Of a word of the source and of the target.
        ready: Sources in the order of LC_ALL=C sort, single blanks between words and bars.
    """

    scores: int
    factors: tuple[int, int] = (1, 1)
    ready: bool = True


@dataclass(frozen=True)
class BinaryFormat:
    """One of Moses' binary formats.

    Attributes:
        class_name: Of its feature in moses.ini.
        program: That makes it.
        suffix: That the program adds to the name it is given.
        command: (table, output, facts, settings) -> the program's arguments.
        moses2: Whether moses2 reads it, too.
    """

    class_name: str
    program: str
    suffix: str
    command: Callable[[Path, Path, TableFacts, BinarySettings], list[Argument]]
    moses2: bool = False


def _probing(table: Path, output: Path, facts: TableFacts, _: BinarySettings) -> list[Argument]:
    words: list[Argument] = ["--num-scores", str(facts.scores), "--log-prob"]
    return [*words, "--input-pt", table, "--output-dir", output]


def _ondisk(
    table: Path, output: Path, facts: TableFacts, settings: BinarySettings
) -> list[Argument]:
    numbers = [*facts.factors, facts.scores, settings.table_limit, settings.sort_score]
    return [*map(str, numbers), table, output]


def _compact(
    table: Path, output: Path, facts: TableFacts, settings: BinarySettings
) -> list[Argument]:
    words: list[Argument] = ["-in", table, "-out", output, "-nscores", str(facts.scores)]
    return [*words, "-threads", str(settings.threads)]


FORMATS: dict[Format, BinaryFormat] = {
    "probing": BinaryFormat("ProbingPT", "CreateProbingPT", "", _probing, moses2=True),
    "ondisk": BinaryFormat("PhraseDictionaryOnDisk", "CreateOnDiskPt", "", _ondisk),
    "compact": BinaryFormat(
        "PhraseDictionaryCompact", "processPhraseTableMin", ".minphr", _compact
    ),
}


def binarize(
    moses: Moses,
    table: Path,
    output: Path,
    kind: Format,
    settings: BinarySettings | None = None,
    *,
    log: Path,
    show_progress: bool = True,
) -> tuple[TableFacts, Usage]:
    """Writes a binary table: a folder, or for "compact" the file OUTPUT.minphr.

    Returns:
        What was found of the text table, and what the program took.

    Raises:
        UsageError: The output is there already or has no folder, or the program is missing.
        DataError: A line that the format cannot hold (file, line number, text).
        ProgramError: The program failed; its log is kept.
    """
    form, settings = FORMATS[kind], settings or BinarySettings()
    program = _program(moses, form)
    final, partial = (Path(f"{output}{end}{form.suffix}") for end in ("", ".partial"))
    if final.exists():
        raise UsageError(f"--output {final} is there already")
    if not final.parent.is_dir():
        raise UsageError(f"--output {final}: there is no folder {final.parent}")
    _check_compression(table)
    facts = inspect_table(table, kind, show_progress=show_progress)
    if kind == "ondisk" and settings.sort_score >= facts.scores:
        raise UsageError(
            f"--sort-score {settings.sort_score}: there are {facts.scores} scores, from 0"
        )
    _delete(partial)
    try:
        moses.note_in(log)
        with _readable(table, facts, output.parent, log) as readable:
            place = output.with_name(f"{output.name}.partial").resolve()
            command = [program, *form.command(readable.resolve(), place, facts, settings)]
            usage = run_program(command, log=log)
        if not partial.exists():
            raise ProgramError(f"{form.program} wrote nothing; its log is {log}")
        partial.rename(final)
    finally:
        _delete(partial)
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
            start = file.read(max(map(len, MAGIC)))
    except OSError as error:
        raise DataError(f"cannot read: {reason(error)}", path=table) from error
    kind = next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), None)
    if kind and (kind != "gz" or table.suffix != ".gz"):
        message = f"{kind} compressed: Moses' programs read plain text, and gz where it ends in .gz"
        raise DataError(message, path=table)


def _delete(path: Path) -> None:
    if path.is_dir():
        rmtree(path)
    else:
        path.unlink(missing_ok=True)


# -- what the programs can read --------------------------------------------------------------------


def inspect_table(table: Path, kind: Format, *, show_progress: bool = True) -> TableFacts:
    """Reads every entry.

    Raises:
        DataError: No entry, another number of scores than the first line, or what the format
            cannot hold.
    """
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
    """Why a line that is an entry cannot go into a table of this format."""
    fields = line.split(SEPARATOR)
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
    """What processPhraseTableMin, which encodes words by their alignment, cannot encode."""
    points = fields[FIELDS].split() if len(fields) > FIELDS else []
    if not points:
        return "no alignment: processPhraseTableMin wants one in every line"
    source, target = len(fields[0].split()), len(fields[1].split())
    for point in points:
        found = _POINT.fullmatch(point)
        if not found or int(found[1]) >= source or int(found[2]) >= target:
            return f"alignment point {quoted(point)} does not fit the phrases"
    return None


def _factors(line: bytes) -> tuple[int, int]:
    source, target = (phrase.split()[0] for phrase in line.split(SEPARATOR)[:2])
    return 1 + source.count(b"|"), 1 + target.count(b"|")


def _has_single_blanks(lines: Sequence[bytes]) -> bool:
    """Whether every program finds the same words, scores and bars in the lines."""
    text = b"\n" + b"\n".join(lines)
    if any(mark in text for mark in (b"  ", b"\t", b"\r", b"\n ")):
        return False
    return text.replace(b"\n", b" ").split(b" ").count(SEPARATOR) == text.count(SEPARATOR)


@contextmanager
def _readable(table: Path, facts: TableFacts, folder: Path, log: Path) -> Iterator[Path]:
    """The table, or where the programs would misread it a copy beside the output."""
    if facts.ready:
        yield table
        return
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        yield sorted_copy(table, Path(temporary), log)


def sorted_copy(table: Path, folder: Path, log: Path) -> Path:
    """A plain copy in the order of LC_ALL=C sort, with single blanks, in a folder.

    Raises:
        ProgramError: The system's sort failed.
    """
    plain, ordered = folder / "normalised", folder / "sorted"
    with plain.open("wb") as out:
        for block in line_blocks(table):
            out.write(b"".join(b"%b\n" % _normalised(line) for line in block.lines))
    command: list[Argument] = ["sort", "-T", folder, "-o", ordered, plain]
    run_program(command, log=log, environment={"LC_ALL": "C"})
    plain.unlink()
    return ordered


def _normalised(line: bytes) -> bytes:
    spaced = line.strip(BLANKS).replace(SEPARATOR, b" %b " % SEPARATOR)
    return b" ".join(word for word in re.split(rb"[ \t]+", spaced) if word)


# -- moses.ini and the check by decoding -----------------------------------------------------------


def binary_ini(ini: MosesIni, feature: PhraseTableFeature, kind: Format, path: str) -> MosesIni:
    """The ini with the binary table in place of the text one; weights stay."""
    return with_files(ini, {feature.line: (FORMATS[kind].class_name, path)})


def check_by_decoding(
    moses: Moses,
    text: MosesIni,
    binary: MosesIni,
    sentences: Sequence[bytes],
    log: Path,
    *,
    decoder: str = "moses",
    nbest: int = 20,
) -> None:
    """Decodes sentences with both tables and compares the n-best lists.

    Raises:
        PhraseScorerError: The lists differ (sentence, hypothesis, feature).
        ProgramError: The decoder failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        chosen = Path(folder, "sentences")
        chosen.write_bytes(b"".join(b"%b\n" % line for line in sentences))
        lists = [Path(folder, "text.nbest"), Path(folder, "binary.nbest")]
        for path, ini in zip(lists, (text, binary), strict=True):
            ini_path = path.with_suffix(".ini")
            ini_path.write_bytes(with_absolute_paths(ini).to_bytes())
            written = NBest(path, nbest)
            decode_lines(moses, ini_path, chosen, decoder=decoder, nbest=written, log=log)
        compare_nbest(lists[0], lists[1], size=nbest)


def compare_nbest(
    one: Path, other: Path, tolerance: float = TOLERANCE, *, size: int | None = None
) -> None:
    """Compares two n-best lists, up to the order of hypotheses of one total.

    Args:
        one: Of the text table.
        other: Of the binary one. Sparse features (`Name_key=`) may be missing there.
        tolerance: Of values up to 1; of larger ones relative to them.
        size: A list with so many hypotheses of a sentence may have been cut off among several of
            one total, where each may show others; None: no list was.

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
