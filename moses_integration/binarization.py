"""Binary phrase tables by Moses' own programs, with the right number of scores, and their check.

The programs believe what they are told: with a wrong number of scores, two blanks in a row or a
source phrase in two places they write a broken table without a word (moses-contract: 2). So every
line is read before, and afterwards some sentences are decoded with both tables.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from moses_integration.decoding import NBest, decode_lines
from moses_integration.ini_edits import with_absolute_paths, with_files
from moses_integration.moses_ini import MosesIni, PhraseTableFeature
from moses_integration.nbest import Features, Hypothesis, read_nbest
from moses_integration.phrase_table import FIELDS, SEPARATOR, PhraseTable, TableBlock
from moses_integration.programs import Argument, Moses, ProgramError, Usage, run_program
from phrase_scorer.errors import DataError, PhraseScorerError, UsageError
from phrase_scorer.progress import progress_bar
from phrase_scorer.streams import line_blocks, reason

Format = Literal["probing", "compact", "ondisk"]

TOLERANCE = 1e-3  # of a feature's value in an n-best list, which has six digits
PROBING_ZERO = 1e-10  # what CreateProbingPT makes of a score 0 (probingpt/StoreTarget.cpp)


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
class BinaryFormat:
    """One of Moses' binary formats.

    Attributes:
        class_name: Of its feature in moses.ini.
        program: That makes it.
        suffix: That the program adds to the name it is given.
        command: (table, output, scores, settings) -> the program's arguments.
        moses2: Whether moses2 reads it, too.
    """

    class_name: str
    program: str
    suffix: str
    command: Callable[[Path, Path, int, BinarySettings], list[Argument]]
    moses2: bool = False


def _probing(table: Path, output: Path, scores: int, _: BinarySettings) -> list[Argument]:
    words: list[Argument] = ["--num-scores", str(scores), "--log-prob"]
    return [*words, "--input-pt", table, "--output-dir", output]


def _ondisk(table: Path, output: Path, scores: int, settings: BinarySettings) -> list[Argument]:
    limits = [str(settings.table_limit), str(settings.sort_score)]
    return ["1", "1", str(scores), *limits, table, output]


def _compact(table: Path, output: Path, scores: int, settings: BinarySettings) -> list[Argument]:
    words: list[Argument] = ["-in", table, "-out", output, "-nscores", str(scores)]
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
    require_scores: Callable[[int], None] | None = None,
    show_progress: bool = True,
) -> tuple[int, Usage]:
    """Writes a binary table: a folder, or for "compact" the file OUTPUT.minphr.

    `require_scores` is given the number of scores before anything is written.

    Returns:
        How many scores each entry has, and what the program took.

    Raises:
        UsageError: The output is there already, or the program is missing.
        DataError: A line that the format cannot hold (file, line number, text).
        ProgramError: The program failed; its log is kept.
    """
    form, settings = FORMATS[kind], settings or BinarySettings()
    program = _program(moses, form)
    final = Path(f"{output}{form.suffix}")
    if final.exists():
        raise UsageError(f"--output {final} is there already")
    if not table.name.endswith(".gz") and _is_compressed(table):
        raise DataError(
            "compressed, but not called .gz: Moses' programs go by the name", path=table
        )
    scores = check_lines(table, kind, show_progress=show_progress)
    if settings.sort_score >= scores:
        raise UsageError(f"--sort-score {settings.sort_score}: there are {scores} scores, from 0")
    if require_scores:
        require_scores(scores)
    partial = output.with_name(f"{output.name}.partial")
    _delete(Path(f"{partial}{form.suffix}"))
    try:
        command = [program, *form.command(table.resolve(), partial.resolve(), scores, settings)]
        moses.note_in(log)
        usage = run_program(command, log=log)
        made = Path(f"{partial}{form.suffix}")
        if not made.exists():
            raise ProgramError(f"{form.program} wrote nothing; its log is {log}")
        made.rename(final)
    finally:
        _delete(Path(f"{partial}{form.suffix}"))
    return scores, usage


def _program(moses: Moses, form: BinaryFormat) -> Path:
    try:
        return moses.program(form.program)
    except UsageError as error:
        hint = "; Moses has it only where it was built --with-cmph" if form.suffix else ""
        raise UsageError(f"{error}{hint}") from error


def _is_compressed(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(2) == b"\x1f\x8b"
    except OSError as error:
        raise DataError(f"cannot read: {reason(error)}", path=path) from error


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()


# -- lines that a format cannot hold ---------------------------------------------------------------


def check_lines(table: Path, kind: Format, *, show_progress: bool = True) -> int:
    """Reads every entry; the number of scores that each has.

    Raises:
        DataError: No entry, another number of scores than the first line, or what the format
            cannot hold.
    """
    reader = PhraseTable(table)
    finished: set[bytes] = set()  # sources seen, for they must not come again
    previous: bytes | None = None
    last_line = b""
    with progress_bar("checking", show=show_progress, unit=" entries") as bar:
        for block in reader.blocks():
            for line, number in _numbered(block):
                message = _unfit(line, kind)
                source = line.partition(SEPARATOR)[0].strip()
                if source != previous:
                    message = message or _out_of_order(source, finished, kind, line, last_line)
                    previous = source
                if message:
                    raise DataError(message, path=table, line=number, text=line)
                last_line = line
            bar.update(len(block.lines.lines))
    assert reader.scores is not None
    return reader.scores


def _numbered(block: TableBlock) -> Iterator[tuple[bytes, int]]:
    return ((line, block.lines.first + place) for place, line in enumerate(block.lines.lines))


def _unfit(line: bytes, kind: Format) -> str | None:
    """Why a line that is an entry cannot go into a table of this format."""
    if kind == "probing" and (b"  " in line.rpartition(SEPARATOR)[0] or b"\t" in line):
        head = line.split(SEPARATOR, FIELDS)[:FIELDS]
        if any(b"  " in field or b"\t" in field for field in head):
            return "two blanks or a tab: CreateProbingPT would read a score too many"
    fields = line.split(SEPARATOR, FIELDS + 1)
    if kind == "ondisk" and not fields[1].strip():
        return "empty target: an on-disk table cannot hold it"
    if kind == "compact" and (len(fields) <= FIELDS or not fields[FIELDS].strip()):
        return "no alignment: processPhraseTableMin wants one in every line"
    return None


def _out_of_order(
    source: bytes, finished: set[bytes], kind: Format, line: bytes, last_line: bytes
) -> str | None:
    """Why the first line of a source must not stand here."""
    if kind == "compact":
        if line < last_line:
            return "not in the order of LC_ALL=C sort, which processPhraseTableMin wants"
        return None
    if source in finished:
        return "this source phrase stands further up, too: its entries must stand together"
    finished.add(source)
    return None


# -- moses.ini and the check by decoding -----------------------------------------------------------


def binary_ini(ini: MosesIni, feature: PhraseTableFeature, kind: Format, path: str) -> MosesIni:
    """The ini with the binary table in place of the text one; weights stay."""
    return with_files(ini, {feature.line: (FORMATS[kind].class_name, path)})


def check_by_decoding(
    moses: Moses,
    text: MosesIni,
    binary: MosesIni,
    source: Path,
    folder: Path,
    *,
    decoder: str = "moses",
    sentences: int = 10,
    nbest: int = 20,
) -> int:
    """Decodes some sentences with both tables and compares the n-best lists; how many sentences.

    Raises:
        PhraseScorerError: The lists differ (sentence, hypothesis, feature).
        ProgramError: The decoder failed.
    """
    lines = [line for block in line_blocks(source) for line in block.lines if line.strip()]
    chosen = folder / "sentences"
    chosen.write_bytes(b"".join(b"%b\n" % line for line in lines[:sentences]))
    for name, ini in (("text", text), ("binary", binary)):
        path, written = folder / f"{name}.ini", NBest(folder / f"{name}.nbest", nbest)
        path.write_bytes(with_absolute_paths(ini).to_bytes())
        decode_lines(
            moses, path, chosen, decoder=decoder, nbest=written, log=folder / f"{name}.log"
        )
    compare_nbest(folder / "text.nbest", folder / "binary.nbest")
    return min(sentences, len(lines))


def compare_nbest(one: Path, other: Path, tolerance: float = TOLERANCE) -> None:
    """Compares two n-best lists, up to the order of hypotheses of one total.

    Raises:
        PhraseScorerError: A hypothesis or a feature's value is in one list only.
    """
    for first, second in zip(read_nbest(one), read_nbest(other), strict=True):
        number = first[0].sentence
        if [round_total(h) for h in first] != [round_total(h) for h in second]:
            for mine, others in zip(first, second, strict=False):
                if abs(mine.total - others.total) > tolerance:
                    raise _difference(number, mine, f"total {mine.total:g}, not {others.total:g}")
        unmatched = list(second)
        for hypothesis in first:
            if abs(hypothesis.total - first[-1].total) <= tolerance:
                break  # the last total may be shared by hypotheses that one list has cut off
            match = next((h for h in unmatched if _same(hypothesis, h, tolerance)), None)
            if match is None:
                raise _difference(number, hypothesis, "no such hypothesis with these features")
            unmatched.remove(match)


def round_total(hypothesis: Hypothesis) -> float:
    """The total as both decoders print it."""
    return round(hypothesis.total, 3)


def _same(one: Hypothesis, other: Hypothesis, tolerance: float) -> bool:
    if one.words != other.words:
        return False
    mine, others = dense(one.features), dense(other.features)
    return mine.keys() == others.keys() and all(
        _close(mine[name], others[name], tolerance) for name in mine
    )


def dense(features: Features) -> Features:
    """The dense ones: binary tables keep no sparse ones (ProbingPT, Compact)."""
    return {name: values for name, values in features.items() if b"_" not in name}


def _close(one: Sequence[float], other: Sequence[float], tolerance: float) -> bool:
    return len(one) == len(other) and all(
        abs(a - b) <= tolerance * max(1.0, abs(a)) for a, b in zip(one, other, strict=True)
    )


def _difference(sentence: int, hypothesis: Hypothesis, what: str) -> PhraseScorerError:
    words = os.fsdecode(b" ".join(hypothesis.words))
    return PhraseScorerError(
        f"the binary table decodes otherwise: sentence {sentence}, {words!r}: {what}"
    )
