"""The stream: a phrase table in, the same table with one more score a column out.

Blocks are cut by content, each is scored by itself and becomes one gzip member, and a journal says
which are written: so the bytes are the same for any number of workers, and for a run that was
killed and gone on with. Memory does not grow with the table.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from moses_integration.formats.phrase_table import PhraseTable, TableBlock, cut_at_sources
from moses_integration.formats.signature import (
    SignedColumn,
    read_signature,
    refuse_twice,
    write_signature,
)
from moses_integration.rescoring.block import (
    Rescored,
    Rescorer,
    Statistics,
    Task,
    vocabularies_of,
)
from moses_integration.rescoring.columns import (
    DEFAULT_FLOOR,
    FeatureColumn,
    check_floor,
    sign_columns,
)
from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.runtime import workers
from phrase_scorer.runtime.console import progress_bar
from phrase_scorer.runtime.journal import FinishedBlock, JournaledFile
from phrase_scorer.runtime.output import STANDARD, OutputFile, is_same_file
from phrase_scorer.runtime.streams import Lines, line_blocks, paused_garbage_collection, prefetch
from phrase_scorer.text.vocabulary import Counts
from phrase_scorer.version import __version__


@dataclass
class Input:
    """The table as it is read: its checksum, and how far the reader is."""

    path: str | Path
    digest: Any = field(default_factory=hashlib.sha256)
    position: int = 0  # bytes of the (compressed) file

    @property
    def size(self) -> int | None:
        """Bytes of the file; None for standard input."""
        return None if os.fspath(self.path) == STANDARD else Path(self.path).stat().st_size

    def lines(self) -> Iterator[Lines]:
        """The table's lines, as they are read."""
        return line_blocks(self.path, on_chunk=self.digest.update, position=self._reached)

    def blocks(self, table: PhraseTable) -> Iterator[TableBlock]:
        """The table's blocks."""
        return table.blocks(self.lines())

    def _reached(self, position: int) -> None:
        self.position = position


def rescore(
    table: PhraseTable,
    output: str | Path,
    columns: Sequence[FeatureColumn],
    *,
    floor: float = DEFAULT_FLOOR,
    allow_duplicate: bool = False,
    require_scores: Callable[[int], None] | None = None,
    processes: int = 1,
    resume: bool = False,
    show_progress: bool = True,
) -> Statistics:
    """Writes the table with the columns appended, and its signature.

    The output has its name only when it is whole; everything else in a line stays byte for byte.
    A run that is broken off leaves its finished blocks, if there are any, for `resume`.

    Args:
        table: The table to read.
        output: gz where the name ends so, else plain; `-` is standard output (no signature).
        columns: In this order.
        floor: Least natural-log value written.
        allow_duplicate: Add a column that the table is known to have.
        require_scores: Is given the number of scores of the table before anything is written.
        processes: In which to score; 1: in this one alone. Of no influence on the output.
        resume: Go on with an unfinished run; where there is none, begin.
        show_progress: A progress bar on standard error.

    Raises:
        DataError: A bad line (file, line number, text), an empty table, a column that is there
            already, output equal to input, an unfinished run that is not this one (or not to be
            gone on with), or a file that cannot be read or written.
        UsageError: An impossible floor, or resuming to standard output.
        PhraseScorerError: A worker died.
    """
    known = _checked(table, output, columns, allow_duplicate=allow_duplicate)
    check_floor(floor)
    if resume and os.fspath(output) == STANDARD:
        raise UsageError("--resume needs a file to go on with, not -")
    source = Input(table.path)
    with (
        _threads_restored(),
        paused_garbage_collection(),
        closing(_tasks(table, source)) as tasks,
    ):
        first = next(tasks)
        table.require_known_scores(first.lines())
        assert table.scores is not None
        if require_scores:
            require_scores(table.scores)
        rescorer = Rescorer(table, columns, floor, os.fspath(output).endswith(".gz"))
        run = _Run(rescorer, source, processes, show_progress)
        every = chain([first], tasks)
        if os.fspath(output) == STANDARD:
            return run.to_standard_output(every)
        signed = [*known, *sign_columns(columns, table.scores, floor)]
        return run.to_signed_file(output, every, signed, resume=resume)


def _checked(
    table: PhraseTable,
    output: str | Path,
    columns: Sequence[FeatureColumn],
    *,
    allow_duplicate: bool,
) -> list[SignedColumn]:
    """The columns that the table is known to have; refuses what cannot be."""
    if os.fspath(output) != STANDARD and is_same_file(table.path, output):
        raise DataError("the output would overwrite the input", path=output)
    known = read_signature(table.path)
    if not allow_duplicate:
        for column in columns:
            refuse_twice(table.path, known, column.name, column.model)
    return known


def _decisive(table: PhraseTable, signed: Sequence[SignedColumn]) -> dict[str, Any]:
    """What must be equal to go on with an unfinished run."""
    return {
        "version": __version__,
        "columns": [asdict(column) for column in signed],
        "block size": table.block_entries,
        "treatment of bad lines": table.on_bad_line,
    }


@contextmanager
def _threads_restored() -> Iterator[None]:
    """Scoring sets torch to one thread; this undoes it."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _tasks(table: PhraseTable, source: Input) -> Generator[Task]:
    """The blocks of the table, read and cut in a thread of their own."""
    blocks = cut_at_sources(source.lines(), table.block_entries)
    empty = True
    with closing(prefetch(map(Task.of, blocks))) as tasks:
        for task in tasks:
            empty = False
            yield task
    if empty:
        raise DataError("the phrase table is empty", path=table.path)


class _Run:
    """A run: how far it is, and what it has counted."""

    def __init__(
        self, rescorer: Rescorer, source: Input, processes: int, show_progress: bool
    ) -> None:
        self.statistics = Statistics()
        self._rescorer = rescorer
        self._source = source
        self._processes = processes
        self._vocabularies = vocabularies_of(rescorer.columns)
        self._counts = [Counts() for _ in self._vocabularies]
        self._show_progress = show_progress

    def to_standard_output(self, tasks: Iterable[Task]) -> Statistics:
        """Writes the blocks to standard output."""
        with self._bar() as bar, OutputFile(STANDARD) as out:
            for _, rescored in self._rescored(tasks):
                out.write(rescored.output)
                self._count(rescored.statistics, rescored.vocabularies)
                self._show(bar)
        self._tell_vocabularies()
        return self.statistics

    def to_signed_file(
        self,
        output: str | Path,
        tasks: Iterable[Task],
        signed: Sequence[SignedColumn],
        *,
        resume: bool,
    ) -> Statistics:
        """Writes the blocks to a file that appears when it is whole, and its signature."""
        decisive = _decisive(self._rescorer.table, signed)
        with JournaledFile(output, decisive, resume=resume) as journaled:
            self.to_file(journaled, tasks)
            write_signature(output, signed, self.provenance())
            journaled.complete()
        return self.statistics

    def to_file(self, output: JournaledFile, tasks: Iterable[Task]) -> None:
        """Writes the blocks that do not stand in the file yet."""
        remaining = iter(tasks)
        with self._bar() as bar:
            for finished in output.finished:
                self._skip(finished, next(remaining, None))
                self._show(bar)
            for task, rescored in self._rescored(remaining):
                counted = {
                    "statistics": asdict(rescored.statistics),
                    "vocabularies": [
                        [c.looked_up, c.unknown, {w.hex(): n for w, n in c.examples.items()}]
                        for c in rescored.vocabularies
                    ],
                }
                output.write(rescored.output, zlib.crc32(task.text), task.line_count, counted)
                self._count(rescored.statistics, rescored.vocabularies)
                self._show(bar)
        self._tell_vocabularies()

    def provenance(self) -> dict[str, Any]:
        """What the signature says besides the columns."""
        return {
            "input": {
                "name": Path(self._source.path).name,
                "sha256": self._source.digest.hexdigest(),
                "entries": self.statistics.entries,
                "scores": self._rescorer.table.scores,
            },
            "bad_lines": self.statistics.bad_lines,
            "floored": self.statistics.floored,
        }

    def _rescored(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Rescored]]:
        """Each block and what becomes of it, in order."""
        size = self._source.size
        if self._processes == 1 or (size is not None and size < workers.SMALL_INPUT):
            results = self._in_this_process(tasks)
        else:
            results = workers.ordered_map(self._rescorer, tasks, self._processes)
        with closing(results):
            yield from results

    def _in_this_process(self, tasks: Iterable[Task]) -> Generator[tuple[Task, Rescored]]:
        """Scoring has a thread of its own; what comes before and after it overlaps."""
        torch.set_num_threads(1)  # as in a worker
        rescorer = self._rescorer
        sent: deque[Task] = deque()

        def parse() -> Iterator[TableBlock]:
            for task in tasks:
                sent.append(task)
                yield rescorer.table.parse(task.lines())

        parsed = prefetch(parse())
        with closing(parsed), closing(prefetch(map(rescorer.scored, parsed))) as scored:
            for result in scored:
                yield sent.popleft(), rescorer.written(result)

    def _skip(self, finished: FinishedBlock, task: Task | None) -> None:
        """Goes past a block that stands in the file already."""
        first = self.statistics.entries + 1
        if task is None or zlib.crc32(task.text) != finished.read:
            raise DataError(
                f"lines {first} to {first + finished.lines - 1} are not those that the unfinished "
                "run has read",
                path=self._source.path,
            )
        counted = finished.counted
        counts = [
            Counts(looked_up, unknown, Counter({bytes.fromhex(w): n for w, n in examples.items()}))
            for looked_up, unknown, examples in counted["vocabularies"]
        ]
        self._count(Statistics(**counted["statistics"]), counts)

    def _count(self, statistics: Statistics, counts: Sequence[Counts]) -> None:
        self.statistics += statistics
        for total, counted in zip(self._counts, counts, strict=True):
            total += counted

    def _tell_vocabularies(self) -> None:
        """In the end they know what was counted anywhere, as if here."""
        for vocabulary, counted in zip(self._vocabularies, self._counts, strict=True):
            vocabulary.add_counts(counted)

    def _bar(self) -> tqdm[Any]:
        return progress_bar(
            "rescoring",
            show=self._show_progress,
            total=self._source.size,
            unit="B",
            unit_divisor=1024,
        )

    def _show(self, bar: tqdm[Any]) -> None:
        bar.update(self._source.position - bar.n)
        if not bar.disable:
            elapsed = bar.format_dict["elapsed"] or 1e-9
            rate = self.statistics.entries / elapsed
            text = f"{self.statistics.entries:,} entries, {rate:,.0f}/s"
            bar.set_postfix_str(text, refresh=False)
