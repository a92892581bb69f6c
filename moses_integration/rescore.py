"""The stream: a phrase table in, the same table with one more score a column out.

Reading and parsing, scoring, and formatting with compression run in threads of their own with a
few blocks between them, so memory does not grow with the table. Blocks are cut by content.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from moses_integration.feature_columns import (
    DEFAULT_FLOOR,
    NEUTRAL_SCORE,
    FeatureColumn,
    Values,
    check_floor,
    read_signature,
    refuse_twice,
    score_texts,
    sign_columns,
    write_signature,
)
from moses_integration.phrase_table import PhraseTable, TableBlock
from phrase_scorer.errors import DataError
from phrase_scorer.progress import progress_bar
from phrase_scorer.streams import (
    STANDARD,
    OutputFile,
    is_same_file,
    line_blocks,
    paused_garbage_collection,
    prefetch,
)


@dataclass
class Statistics:
    """Counts of a run; those of parts can be added."""

    entries: int = 0
    bad_lines: int = 0  # kept as they were, with a neutral score where there is a place for one
    floored: int = 0  # values below the floor, over all columns

    def __iadd__(self, other: Statistics) -> Statistics:
        self.entries += other.entries
        self.bad_lines += other.bad_lines
        self.floored += other.floored
        return self


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

    def blocks(self, table: PhraseTable) -> Iterator[TableBlock]:
        """The table's blocks."""
        lines = line_blocks(self.path, on_chunk=self.digest.update, position=self._reached)
        return table.blocks(lines)

    def _reached(self, position: int) -> None:
        self.position = position


class ScoredBlock(NamedTuple):
    """A block and, for each column, the values of its good lines."""

    block: TableBlock
    values: list[Values]


def rescore(
    table: PhraseTable,
    output: str | Path,
    columns: Sequence[FeatureColumn],
    *,
    floor: float = DEFAULT_FLOOR,
    allow_duplicate: bool = False,
    require_scores: Callable[[int], None] | None = None,
    show_progress: bool = True,
) -> Statistics:
    """Writes the table with the columns appended, and its signature.

    The output has its name only when it is whole; everything else in a line stays byte for byte.

    Args:
        table: The table to read.
        output: gz where the name ends so, else plain; `-` is standard output (no signature).
        columns: In this order.
        floor: Least natural-log value written.
        allow_duplicate: Add a column that the table is known to have.
        require_scores: Is given the number of scores of the table before anything is written.
        show_progress: A progress bar on standard error.

    Raises:
        DataError: A bad line (file, line number, text), an empty table, a column that is there
            already, output equal to input, or a file that cannot be read or written.
        UsageError: An impossible floor.
    """
    check_floor(floor)
    if os.fspath(output) != STANDARD and is_same_file(table.path, output):
        raise DataError("the output would overwrite the input", path=output)
    known = read_signature(table.path)
    if not allow_duplicate:
        for column in columns:
            refuse_twice(table.path, known, column)
    statistics = Statistics()
    source = Input(table.path)
    with paused_garbage_collection(), closing(prefetch(source.blocks(table))) as blocks:
        first = next(blocks)
        assert table.scores is not None
        if require_scores:
            require_scores(table.scores)
        scored = prefetch(_scored(chain([first], blocks), columns))
        with (
            closing(scored),
            OutputFile(output) as out,
            progress_bar(
                "rescoring", show=show_progress, total=source.size, unit="B", unit_divisor=1024
            ) as bar,
        ):
            for block, values in scored:
                texts = _texts(block, values, floor)
                out.write(block.with_scores(texts))
                statistics += _count(block, values, floor)
                _advance(bar, source, statistics)
    if os.fspath(output) != STANDARD:
        signed = [*known, *sign_columns(columns, table.scores, floor)]
        write_signature(output, signed, _provenance(source, table.scores, statistics))
    return statistics


def _scored(
    blocks: Iterable[TableBlock], columns: Sequence[FeatureColumn]
) -> Iterator[ScoredBlock]:
    for block in blocks:
        yield ScoredBlock(block, [column.values(block.pairs) for column in columns])


def _texts(block: TableBlock, values: Sequence[Values], floor: float) -> list[list[bytes]]:
    """A text for each line and column; bad lines get the neutral score."""
    texts = [score_texts(column, floor) for column in values]
    for column in texts:
        for place in block.bad:
            column.insert(place, NEUTRAL_SCORE)
    return texts


def _count(block: TableBlock, values: Sequence[Values], floor: float) -> Statistics:
    floored = sum(int(np.count_nonzero(column < floor)) for column in values)
    return Statistics(len(block.lines.lines), len(block.bad), floored)


def _provenance(source: Input, scores: int, statistics: Statistics) -> dict[str, Any]:
    return {
        "input": {
            "name": Path(source.path).name,
            "sha256": source.digest.hexdigest(),
            "entries": statistics.entries,
            "scores": scores,
        },
        "bad_lines": statistics.bad_lines,
        "floored": statistics.floored,
    }


def _advance(bar: tqdm[Any], source: Input, statistics: Statistics) -> None:
    bar.update(source.position - bar.n)
    if not bar.disable:
        elapsed = bar.format_dict["elapsed"] or 1e-9
        rate = statistics.entries / elapsed
        bar.set_postfix_str(f"{statistics.entries:,} entries, {rate:,.0f}/s", refresh=False)
