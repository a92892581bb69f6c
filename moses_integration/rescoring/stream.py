"""The main job: a phrase table in, the same table with one more score per column out.

Blocks are cut by content, each is scored by itself and becomes one gzip member, and a journal says
which are written: so the bytes are the same for any number of workers, and for a run that was
killed and gone on with. Memory does not grow with the table.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from tqdm import tqdm

from moses_integration.formats.phrase_table import PhraseTable, TableBlock, cut_at_sources
from moses_integration.formats.signature import (
    SignedColumn,
    read_signature,
    refuse_other_kind,
    refuse_twice,
    write_signature,
)
from moses_integration.rescoring.block import Rescored, Rescorer, TextBlock
from moses_integration.rescoring.columns import Column, sign_columns, vocabularies_of
from moses_integration.rescoring.counts import Range, RescoreCounts
from moses_integration.rescoring.log import RescoreLog
from moses_integration.rescoring.parts import (
    INDEX_FORMAT,
    InputTable,
    PartBlock,
    PartIndex,
    Share,
    TablePart,
    table_details,
)
from moses_integration.rescoring.request import (
    DEFAULT_FLOOR,
    WORKER_IMPORTS,
    check_floor,
    rescored_place,
)
from phrase_scorer.errors import DataError
from phrase_scorer.runtime.console import progress_bar
from phrase_scorer.runtime.journal import FinishedBlock, JournaledFile, check_resume
from phrase_scorer.runtime.output import STANDARD, OutputFile
from phrase_scorer.runtime.streams import (
    Lines,
    file_size,
    line_blocks,
    paused_garbage_collection,
    prefetch,
)
from phrase_scorer.runtime.workers import ordered_map
from phrase_scorer.scoring.scorer import single_threaded_torch
from phrase_scorer.text.phrase_pairs import PairBlock
from phrase_scorer.version import __version__

PROBE = "digest of its first scores"  # `Rescorer.probe`


def rescore_table(
    reader: TableReader,
    output: str | Path,
    columns: Sequence[Column],
    *,
    floor: float = DEFAULT_FLOOR,
    allow_duplicate: bool = False,
    replaced: Sequence[int] = (),
    require_scores: Callable[[int], None] | None = None,
    processes: int = 1,
    resume: bool = False,
    show_progress: bool = True,
    log: RescoreLog | None = None,
    part: TablePart | None = None,
) -> RescoreCounts:
    """Writes the table with the columns appended, or in the places of others, and its signature.

    The output has its name only when it is whole; everything else in a line stays byte for byte.

    Args:
        reader: Of the table, which is read once.
        output: gz where the name ends so, else plain. `-` is standard output; that, a FIFO or a
            device gets neither journal nor signature.
        columns: In this order.
        floor: Least natural-log value written.
        allow_duplicate: Add a column that the table is known to have.
        replaced: Places, from 0, of known columns, one for each of `columns`: those take them.
        require_scores: Is given the number of scores of the table before anything is written.
        processes: In how many to score, without influence on the output; 1: in this one alone.
        resume: Go on with the finished blocks of a run that was broken off, if there are any.
        show_progress: Show a progress bar on standard error.
        log: Is told how far the run is.
        part: Write only this share of the table, to a file of its own with an index; for `join`.

    Raises:
        DataError: A bad line, an empty table, a column that the table has already, output equal to
            input, an unfinished run that is not this one; a file that cannot be read or written.
        UsageError: An impossible floor, or resuming what is not a file.
        PhraseScorerError: A worker died.
    """
    table = reader.table
    place = rescored_place(output, [str(table.path)], part)
    check_floor(floor)
    check_resume(place, resume=resume)
    known = read_signature(table.path)
    left = [column for column in known if column.place not in replaced]
    for column in () if allow_duplicate else columns:
        refuse_twice(table.path, left, column.name, column.model)
    blocks = reader.text_blocks()
    with single_threaded_torch(), paused_garbage_collection(), closing(blocks):
        first = _first_of(blocks, table, require_scores)
        new = sign_columns(columns, _places(table, known, columns, replaced), floor)
        rescorer = Rescorer(table, columns, floor, place.compressed, replaced)
        sink: _Pipe | _SignedFile = _Pipe(output)
        if place.replaces:
            sink = _SignedFile(output, reader, left, new, rescorer, first, part, resume=resume)
        with sink, reader.progress_bar(show_progress) as bar:
            show, every = partial(reader.move, bar), chain([first], blocks)
            return _run(Share(part), every, rescorer, processes, sink, show, log)


def _first_of(
    blocks: Iterator[TextBlock],
    table: PhraseTable,
    require_scores: Callable[[int], None] | None,
) -> TextBlock:
    """The first block, from which the table then knows how many scores it has."""
    first = next(blocks, None)
    if first is None:
        raise DataError("the phrase table is empty", path=table.path)
    table.require_known_scores(first.lines())
    assert table.scores is not None
    if require_scores:
        require_scores(table.scores)
    return first


def _places(
    table: PhraseTable,
    known: Sequence[SignedColumn],
    columns: Sequence[Column],
    replaced: Sequence[int],
) -> Sequence[int]:
    """Where among the scores of a line the columns go."""
    assert table.scores is not None
    if not replaced:
        return range(table.scores, table.scores + len(columns))
    there = {column.place: column for column in known}
    for place, column in zip(replaced, columns, strict=True):
        if place >= table.scores:
            message = f"{table.scores} scores, but the signature names score {place + 1}"
            raise DataError(message, path=table.path)
        refuse_other_kind(table.path, there[place], column.name)
    return replaced


def _run(
    share: Share,
    table_blocks: Iterator[TextBlock],
    rescorer: Rescorer,
    processes: int,
    sink: _SignedFile | _Pipe,
    show: Callable[[RescoreCounts], None],
    log: RescoreLog | None,
) -> RescoreCounts:
    """Block by block, in order: what a run before has written; then scored, written, counted."""
    counts, blocks = RescoreCounts(), share.of(table_blocks)
    for finished in sink.finished_counts(blocks):
        counts += finished
        show(counts)
    if log:
        log.note(counts.entries)
    if processes > 1:
        pool = ordered_map(rescorer, blocks, processes, imports=WORKER_IMPORTS)
    else:
        pool = in_this_process(rescorer, blocks)
    with closing(pool):
        for block, rescored in pool:
            sink.add(block, rescored)
            counts += rescored.counts
            show(counts)
            if log:
                log.note(counts.entries)
    vocabularies = vocabularies_of(rescorer.columns) if counts.entries else []
    for vocabulary, counted in zip(vocabularies, counts.vocabularies, strict=True):
        vocabulary.counts += counted  # what was counted anywhere, as if here
    sink.finish(counts, share.blocks)
    return counts


def in_this_process(
    rescorer: Rescorer, blocks: Iterator[TextBlock]
) -> Generator[tuple[TextBlock, Rescored]]:
    """Scoring has a thread of its own; what comes before and after it overlaps."""
    parsed = prefetch((block, rescorer.parsed(block)) for block in blocks)
    values = prefetch((block, rescorer.scored(entries)) for block, entries in parsed)
    with closing(parsed), closing(values):
        for block, scored in values:
            yield block, rescorer.written(scored)


@dataclass
class TableReader:
    """A table as it is read, with checksum and place; what it reads may raise DataError.

    It is read once, for it may be a pipe: what `sample` took from its beginning is given again.
    """

    table: PhraseTable
    digest: Any = field(default_factory=hashlib.sha256)  # of the text read so far
    position: int = 0  # in the (compressed) file, in bytes

    def __post_init__(self) -> None:
        digest = self.digest.update
        self._unread = line_blocks(self.table.path, on_chunk=digest, position=self._reached)
        self._sampled: list[Lines] = []  # read, but not yet given to anybody else

    @property
    def size(self) -> int | None:
        """Bytes of the file; None for standard input and pipes."""
        return file_size(self.table.path)

    def sample(self, entries: int) -> PairBlock:
        """About so many pairs, from the beginning of the table."""
        sources: list[list[bytes]] = []
        targets: list[list[bytes]] = []
        for block in self.table.blocks(self._kept()):
            sources += block.pairs.sources
            targets += block.pairs.targets
            if len(sources) >= entries:
                break
        return PairBlock(sources, targets)

    def _kept(self) -> Iterator[Lines]:
        for lines in self._unread:
            self._sampled.append(lines)
            yield lines

    def text_blocks(self) -> Generator[TextBlock]:
        """The blocks, read and cut in a thread of their own."""
        blocks = cut_at_sources(self._lines(), self.table.block_entries)
        return prefetch(map(TextBlock.of, blocks))

    def table_blocks(self) -> Iterator[TableBlock]:
        """The blocks, parsed."""
        return self.table.blocks(self._lines())

    def _lines(self) -> Iterator[Lines]:
        while self._sampled:
            yield self._sampled.pop(0)
        yield from self._unread

    def _reached(self, position: int) -> None:
        self.position = position

    def progress_bar(self, show: bool) -> tqdm[Any]:
        """A bar over the file."""
        size = {"total": self.size, "unit": "B", "unit_divisor": 1024}
        return progress_bar("rescoring", show=show, **size)

    def move(self, bar: tqdm[Any], counts: RescoreCounts) -> None:
        """Moves a bar to where the reader is; beside it stands what was counted."""
        bar.update(self.position - bar.n)
        if not bar.disable:
            rate = counts.entries / (bar.format_dict["elapsed"] or 1e-9)
            bar.set_postfix_str(f"{counts.entries:,} entries, {rate:,.0f}/s", refresh=False)


class _Pipe(OutputFile):
    """Standard output, a FIFO or a device: blocks are written as they come, and that is all."""

    def __init__(self, output: str | Path) -> None:
        super().__init__(output, compressed=False)  # each block is compressed already

    def finished_counts(self, _: Iterator[TextBlock]) -> Iterator[RescoreCounts]:
        return iter(())

    def add(self, _: TextBlock, rescored: Rescored) -> None:
        self.write(rescored.output)

    def finish(self, _: RescoreCounts, __: int) -> None:
        pass


class _SignedFile(JournaledFile):
    """A file that can be gone on with; when it is whole it gets its name and a signature."""

    def __init__(
        self,
        output: str | Path,
        reader: TableReader,
        left: Sequence[SignedColumn],
        new: Sequence[SignedColumn],
        rescorer: Rescorer,
        first: TextBlock,
        part: TablePart | None,
        *,
        resume: bool,
    ) -> None:
        assert reader.table.scores is not None
        self._reader, self._columns, self._new, self._part = reader, rescorer.columns, new, part
        self._signed = sorted([*left, *new], key=lambda column: column.place)
        replaced = [column.place for column in new if column.place < reader.table.scores]
        arithmetic = chain.from_iterable(column.arithmetic.items() for column in new)
        decisive = {
            "version": __version__,
            **dict(arithmetic),  # one for all of them, told before columns that differ by it
            "columns": [asdict(column) for column in self._signed],
            **({"replaced columns": replaced} if replaced else {}),
            "block size": reader.table.block_entries,
            "treatment of bad lines": reader.table.on_bad_line,
            PROBE: rescorer.probe(first),
        }
        self._decisive = decisive
        place = part.path(output) if part else output
        run = decisive | ({"part": str(part)} if part else {})
        super().__init__(place, run, resume=resume, told_last=[PROBE])

    def finished_counts(self, blocks: Iterator[TextBlock]) -> Iterator[RescoreCounts]:
        """Goes past the blocks that stand in the file already, and gives what they counted."""
        path, columns = self._reader.table.path, self._columns
        sizes = len(columns), len(vocabularies_of(columns))
        for finished, origin in self.gone_past(blocks, _checksum, path, _first_line):
            yield RescoreCounts.from_json(finished.counted, *sizes, origin)

    def add(self, block: TextBlock, rescored: Rescored) -> None:
        counted = rescored.counts.to_json()
        self.write(rescored.output, _checksum(block), block.line_count, counted)

    def finish(self, counts: RescoreCounts, table_blocks: int) -> None:
        """Writes the signature, or the index of a part; leaving the context names the file."""
        table = self._reader.table
        assert table.scores is not None
        digest = self._reader.digest.hexdigest()
        seen = os.fspath(table.path)
        place = seen if seen == STANDARD else str(Path(seen).absolute())
        read = InputTable(Path(seen).name, place, digest, table.scores)
        places = tuple(column.place for column in self._new)
        if self._part:
            index = PartIndex(
                INDEX_FORMAT, self._part.number, self._part.of, self._decisive,
                tuple(self._signed), places, places[0] < table.scores, read, table_blocks,
                tuple(map(_part_block, self.finished)),
            )  # fmt: skip
            index.write(self.path)
        else:
            write_signature(self.path, self._signed, table_details(read, counts, places))
        self.complete()


def _part_block(block: FinishedBlock) -> PartBlock:
    counted = block.counted
    ranges = tuple(Range(*values) for values in counted["ranges"])
    return PartBlock(
        block.end, block.written, counted["entries"], counted["bad_lines"], counted["floored"],
        ranges,
    )  # fmt: skip


def _checksum(block: TextBlock) -> int:
    return zlib.crc32(block.text)


def _first_line(block: TextBlock) -> int:
    return block.first
