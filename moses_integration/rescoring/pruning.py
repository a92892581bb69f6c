"""A phrase table made smaller by one of its scores, and its reordering table in step with it.

Which entries stay is decided source by source, as they stand in the table; every line that stays
does so byte for byte. Memory grows with the targets of one source, not with the table.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt

from moses_integration.formats.ini_edits import with_files
from moses_integration.formats.moses_ini import Feature, MosesIni, feature_files
from moses_integration.formats.phrase_table import (
    BLANKS,
    FIELDS,
    SEPARATOR,
    PhraseTable,
    TableBlock,
    cut_at_sources,
)
from moses_integration.formats.signature import (
    SIGNATURE_SUFFIX,
    read_signature,
    signed_place,
    write_signature,
)
from moses_integration.rescoring.reordering import ReorderingTable, source_of, target_of
from moses_integration.rescoring.request import LOWEST_FLOOR
from moses_integration.system.check import IniTarget
from moses_integration.system.filtering import REORDERING
from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.runtime.device import Arithmetic
from phrase_scorer.runtime.numbers import whole_number
from phrase_scorer.runtime.output import STANDARD, OutputFile, check_option, is_same_file
from phrase_scorer.runtime.streams import Lines, require_readable, shown_blocks
from phrase_scorer.text.phrase_pairs import words_of
from phrase_scorer.text.unknown_words import UnknownWordCheck

Values = npt.NDArray[np.float32]
Chosen = npt.NDArray[np.bool_]
ScoreBlock = Callable[[TableBlock], Values]  # what entries are judged by: the larger, the better


@dataclass(frozen=True)
class PruneRequest:
    """What is kept of a table, and where it is written.

    Raises:
        UsageError: Options that do not go together, or an output that is impossible.
        DataError: The output would overwrite an input, or moses.ini does not name the tables.
    """

    table: str
    output: str
    by: str | None = None  # a score of the table: its number from 1, or its name in the signature
    model_path: Path | None = None  # or what this model gives
    max_unknown: float | None = None  # share of words unknown to it above which it judges nothing
    threshold: float | None = None  # least probability
    keep_best: int | None = None  # entries per source
    share: float | None = None  # of all entries
    drop_sources: bool = False  # else the best entry of every source stays
    reordering_table: tuple[str, str] | None = None  # (the old one, the new one)
    quiet: bool = False
    ini_target: IniTarget = field(default_factory=IniTarget)
    arithmetic: Arithmetic = field(default_factory=Arithmetic)

    def __post_init__(self) -> None:
        if (self.by is None) == (self.model_path is None):
            raise UsageError("give --by SCORE or --model DIR")
        if self.max_unknown is not None and self.model_path is None:
            raise UsageError("--max-unknown needs --model")
        if sum(how is not None for how in (self.threshold, self.keep_best, self.share)) != 1:
            raise UsageError("give one of --threshold P, --keep-best N and --share X")
        if self.drop_sources and self.keep_best:
            raise UsageError("--keep-best keeps an entry of every source: not with --drop-sources")
        if self.share is not None and not Path(self.table).is_file():
            raise UsageError(f"--share reads the table twice: {self.table} must be a file")
        old, new = self.reordering_table or (None, None)
        inputs = [self.table, old, self.ini_target.moses_ini]
        for path in filter(None, (self.output, new)):
            OutputFile(path, inputs=inputs, beside=[SIGNATURE_SUFFIX])
        if new:
            check_option("--reordering-table", new, {"OUTPUT": self.output})
        others = {"PHRASE_TABLE": self.table, "OUTPUT": self.output}
        self.ini_target.check_out({**others, "--reordering-table": new})
        if self.ini_target.moses_ini_out and STANDARD in (self.output, new):
            raise UsageError("--moses-ini-out needs files as outputs, not -")
        _ = self.edited_ini  # refused before the work, and before a new file has an old one's name
        require_readable(self.table, old)

    def place_of_score(self) -> int:
        """Which score of an entry `by` means, from 0; DataError where the signature knows none."""
        number = whole_number(str(self.by))
        return number - 1 if number else signed_place(self.table, str(self.by))

    @cached_property
    def edited_ini(self) -> MosesIni | None:
        """The moses.ini that names the new tables; DataError where it does not name the old."""
        ini = self.ini_target.read()
        if ini is None:
            return None
        renamed: list[tuple[Feature, str, str]] = [
            (self.ini_target.feature(ini), self.table, self.output)
        ]
        if self.reordering_table:
            old, new = self.reordering_table
            renamed.append((_reordering_feature(ini, old), old, new))
        files = {}
        for feature, old, new in renamed:
            self.ini_target.require_named(feature, old)
            path = self.ini_target.new_path(feature, old, new)
            files[feature.line] = (feature.class_name, path)
        return with_files(self.ini_target.seen_from_out(ini), files)


def _reordering_feature(ini: MosesIni, table: str) -> Feature:
    found = [f for f in feature_files(ini) if f.class_name == REORDERING]
    for feature in found:
        if len(found) == 1 or is_same_file(feature.file(), table):
            return feature
    raise DataError(f"no {REORDERING} with {table} in [feature]", path=ini.path)


@dataclass
class PruneCounts:
    """What was read, and what of it was kept."""

    entries: int = 0
    kept: int = 0
    sources: int = 0
    kept_sources: int = 0
    reordering_entries: int = 0
    kept_reordering: int = 0


def prune(request: PruneRequest) -> PruneCounts:
    """Writes the entries that are kept, in order; the signature of the table goes with them.

    Raises:
        DataError: A bad line of a table; no such score; a reordering table that is not in step with
            the phrase table; a file that cannot be read or written.
        ModelError: The model's directory is broken.
    """
    counts, (score, check) = PruneCounts(), _judge(request)
    with tempfile.TemporaryFile() as marks:
        if request.share is None:
            choose = _rule(request)
        else:
            score, choose = _share(request, score, marks)
        old, new = request.reordering_table or (None, None)
        reordering = ReorderingTable(old) if old else None
        second = OutputFile(new, inputs=[request.table, str(old)]) if new else nullcontext()
        with OutputFile(request.output, inputs=[request.table]) as out, second as other:
            _write(request, score, choose, out, counts, reordering, other)
            if out.replaces:
                known = read_signature(request.table) if request.table != STANDARD else []
                details = {"pruned_from": Path(request.table).name, "entries": counts.kept}
                write_signature(out.path, known, details)
    if check:
        check.finish()
    return counts


class _Entries(NamedTuple):
    """All entries of some sources, judged."""

    block: TableBlock
    source: npt.NDArray[np.int64]  # of each entry, counted from 0 within the block
    rank: npt.NDArray[np.int64]  # of each entry among those of its source, from 0; ties by line
    values: Values


Choose = Callable[[_Entries], Chosen]


def _write(
    request: PruneRequest,
    score: ScoreBlock,
    choose: Choose,
    out: OutputFile,
    counts: PruneCounts,
    reordering: ReorderingTable | None,
    other: OutputFile | None,
) -> None:
    for entries in _judged(request, score, "pruning"):
        chosen = choose(entries)
        lines = entries.block.lines.lines
        kept = [line for line, keep in zip(lines, chosen.tolist(), strict=True) if keep]
        if kept:
            out.write(b"\n".join(kept) + b"\n")
        counts.entries += len(lines)
        counts.kept += len(kept)
        counts.sources += int(entries.source[-1]) + 1
        counts.kept_sources += len(np.unique(entries.source[chosen]))
        if reordering and other:
            found = list(reordering.of(_targets_by_source(entries, chosen)))
            if found:
                other.write(b"\n".join(found) + b"\n")
            counts.kept_reordering += len(found)
    if reordering:
        counts.reordering_entries = reordering.count_all()


def _judged(request: PruneRequest, score: ScoreBlock, what: str) -> Iterator[_Entries]:
    """The table's entries, no source cut in two."""
    table = PhraseTable(request.table)
    with shown_blocks(request.table, what, show=not request.quiet) as lines:
        empty = True
        for block in map(table.parse, _whole_sources(cut_at_sources(lines, table.block_entries))):
            empty = False
            values = score(block)
            begins = [source_of(line) for line in block.lines.lines]
            new = [one != other for one, other in zip(begins, [None, *begins], strict=False)]
            source = np.cumsum(new) - 1
            order = np.lexsort((-values, source))  # stable: equal ones by line
            rank = np.empty(len(values), np.int64)
            starts = np.flatnonzero(new)
            rank[order] = np.arange(len(values)) - starts[source]  # sources keep their places
            yield _Entries(block, source, rank, values)
        if empty:
            raise DataError("the phrase table is empty", path=request.table)


def _whole_sources(blocks: Iterable[Lines]) -> Iterator[Lines]:
    """Joins the blocks again in which a source with very many targets was cut."""
    waiting: Lines | None = None
    for block in blocks:
        if waiting is None:
            waiting = block
        elif source_of(waiting.lines[-1]) == source_of(block.lines[0]):
            waiting = Lines(waiting.first, waiting.lines + block.lines, block.ended)
        else:
            yield waiting
            waiting = block
    if waiting is not None:
        yield waiting


def _judge(request: PruneRequest) -> tuple[ScoreBlock, UnknownWordCheck | None]:
    """What judges a block: one of the scores that its entries have, or the model's probability."""
    if request.model_path is None:
        return _score_of_table(request.place_of_score(), request.table), None
    from phrase_scorer.scoring.scorer import PhraseScorer

    request.arithmetic.use_threads()
    scorer = PhraseScorer.load(request.model_path, request.arithmetic)
    models = {str(request.model_path): scorer.vocabularies}
    check = UnknownWordCheck(request.table, models, request.max_unknown)

    def probabilities(block: TableBlock) -> Values:
        if block.lines.first == 1:
            check.begin(block.pairs)
        return np.exp(np.maximum(scorer.score_block(block.pairs), LOWEST_FLOOR))

    return probabilities, check


def _score_of_table(place: int, path: str) -> ScoreBlock:
    def score(block: TableBlock) -> Values:
        lines = block.lines.lines
        found = [words_of(line.split(SEPARATOR, FIELDS)[2].strip(BLANKS)) for line in lines]
        if place >= len(found[0]):
            message = f"there is no score {place + 1} in {len(found[0])} scores"
            raise DataError(message, path=path, line=block.lines.first)
        return np.array([float(scores[place]) for scores in found], np.float32)

    return score


# -- what is kept ----------------------------------------------------------------------------------


def _rule(request: PruneRequest) -> Choose:
    """A choice that needs no more than the entries of one source."""
    if best := request.keep_best:
        return lambda entries: entries.rank < best
    least = np.float32(request.threshold)
    if request.drop_sources:
        return lambda entries: entries.values >= least
    return lambda entries: (entries.values >= least) | (entries.rank == 0)


def _share(request: PruneRequest, score: ScoreBlock, marks: IO[bytes]) -> tuple[ScoreBlock, Choose]:
    """The best entries of the whole table: a first reading finds the least value among them.

    `marks` holds a float32 per entry for the second: its value, inf where it stays in any case.
    """
    assert request.share is not None
    total = 0
    for entries in _judged(request, score, "judging"):
        values = entries.values.copy()
        if not request.drop_sources:
            values[entries.rank == 0] = np.inf
        marks.write(values.tobytes())
        total += len(values)
    wanted = round(request.share * total)
    least, ties = _least_of_best(marks, wanted)
    marks.seek(0)

    def marked(block: TableBlock) -> Values:
        return np.frombuffer(marks.read(4 * len(block.lines.lines)), np.float32)

    def choose(entries: _Entries) -> Chosen:
        nonlocal ties
        values = entries.values
        equal = (values == least) & (np.cumsum(values == least) <= ties)
        ties -= int(equal.sum())
        chosen: Chosen = (values > least) | equal | np.isinf(values)
        return chosen

    return marked, choose


def _least_of_best(numbers: IO[bytes], wanted: int) -> tuple[np.float32, int]:
    """(the least of the `wanted` largest of many float32, how many equal to it are among them).

    By counting: first their upper halves, then the lower halves of those with the decisive one.
    """
    above, prefix = 0, 0
    for shift in (16, 0):
        histogram = np.zeros(1 << 16, np.int64)
        numbers.seek(0)
        while data := numbers.read(1 << 22):
            keys = _ordered(np.frombuffer(data, np.float32))
            if shift == 0:
                keys = keys[keys >> 16 == prefix]
            histogram += np.bincount(keys >> shift & 0xFFFF, minlength=1 << 16)
        from_top = above + np.cumsum(histogram[::-1])
        place = min(int(np.searchsorted(from_top, max(wanted, 1))), (1 << 16) - 1)
        above = int(from_top[place - 1]) if place else above
        prefix = prefix << 16 | ((1 << 16) - 1 - place)
    return _number(prefix), max(0, wanted - above)


def _ordered(values: Values) -> npt.NDArray[np.uint32]:
    """Whole numbers in the order of the float32 values."""
    bits = values.view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(np.uint32)


def _number(key: int) -> np.float32:
    """The value whose number `_ordered` gives."""
    bits = key & 0x7FFFFFFF if key >> 31 else ~key & 0xFFFFFFFF
    return np.float32(np.array(bits, np.uint32).view(np.float32))


# -- the reordering table --------------------------------------------------------------------------


def _targets_by_source(entries: _Entries, chosen: Chosen) -> Iterator[tuple[bytes, set[bytes]]]:
    pairs = zip(entries.block.lines.lines, chosen.tolist(), strict=True)
    for source, group in groupby(pairs, lambda pair: source_of(pair[0])):
        yield source, {target_of(line) for line, keep in group if keep}
