"""A block of a phrase table becomes the bytes of its output: parsed, scored, formatted, compressed.

What worker processes do; everything here can be pickled.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from moses_integration.formats.phrase_table import PhraseTable, TableBlock
from moses_integration.rescoring.columns import (
    NEUTRAL_SCORE,
    Column,
    LogValues,
    score_texts,
    vocabularies_of,
)
from phrase_scorer.runtime.output import compressed_block
from phrase_scorer.runtime.records import Origin, typed
from phrase_scorer.runtime.streams import Lines
from phrase_scorer.text.vocabulary import Counts


class Range(NamedTuple):
    """The least and the largest value of a column, as written."""

    least: float
    largest: float


@dataclass
class RescoreCounts:
    """What was counted in a block, or in several; those of parts can be added."""

    entries: int = 0
    bad_lines: int = 0  # kept as they were, with a neutral score where there is a place for one
    floored: int = 0  # values below the floor, over all columns
    ranges: list[Range] = field(default_factory=list, compare=False)  # of columns; []: none scored
    vocabularies: list[Counts] = field(default_factory=list, compare=False)  # `vocabularies_of`

    def __iadd__(self, other: RescoreCounts) -> RescoreCounts:
        self.entries += other.entries
        self.bad_lines += other.bad_lines
        self.floored += other.floored
        both = zip(self.ranges or other.ranges, other.ranges or self.ranges, strict=True)
        self.ranges = [Range(min(a, c), max(b, d)) for (a, b), (c, d) in both]
        self.vocabularies = self.vocabularies or [Counts() for _ in other.vocabularies]
        for total, counted in zip(self.vocabularies, other.vocabularies, strict=True):
            total += counted
        return self

    @property
    def scored(self) -> int:
        """The entries that a model has scored."""
        return self.entries - self.bad_lines

    @property
    def constant(self) -> list[int]:
        """The columns with one value in all entries, of several: their weights tell nothing."""
        if self.scored < 2:
            return []
        return [place for place, (least, largest) in enumerate(self.ranges) if least == largest]

    def to_json(self) -> dict[str, Any]:
        """The counts as a journal holds them."""
        return vars(self) | {"vocabularies": [counts.to_json() for counts in self.vocabularies]}

    @classmethod
    def from_json(
        cls, content: Mapping[str, Any], columns: Sequence[Column], origin: Origin
    ) -> RescoreCounts:
        """Reads what `to_json` gave for these columns; a DataError tells of anything else."""
        found = typed(content, _Journaled, origin)
        if len(found.vocabularies) != len(vocabularies_of(columns)):
            origin.refuse(f"vocabularies: {len(found.vocabularies)}, of other columns")
        if len(found.ranges) not in (0, len(columns)):
            origin.refuse(f"ranges: {len(found.ranges)}, of other columns")
        try:
            vocabularies = [Counts.from_json(counts) for counts in found.vocabularies]
        except ValueError as error:
            origin.refuse(f"vocabularies: {error}", error)
        return cls(**vars(found) | {"vocabularies": vocabularies})


@dataclass(frozen=True)
class _Journaled:
    """`RescoreCounts` in JSON."""

    entries: int
    bad_lines: int
    floored: int
    ranges: list[Range]
    vocabularies: list[tuple[int, int, dict[str, int]]]


class TextBlock(NamedTuple):
    """Lines on their way to whoever scores them: as one text, which is cheaper to send."""

    first: int
    text: bytes
    ended: bool

    @classmethod
    def of(cls, lines: Lines) -> TextBlock:
        """The block of some lines."""
        return cls(lines.first, b"\n".join(lines.lines), lines.ended)

    @property
    def line_count(self) -> int:
        """How many lines the text has."""
        return self.text.count(b"\n") + 1

    def lines(self) -> Lines:
        """The lines again."""
        return Lines(self.first, self.text.split(b"\n"), self.ended)


class ScoredBlock(NamedTuple):
    """A parsed block with the values of its good lines."""

    block: TableBlock
    values: list[LogValues]  # per column
    vocabularies: list[Counts]


class Rescored(NamedTuple):
    """A block as it is written, and what was counted in it."""

    output: bytes
    counts: RescoreCounts


@dataclass(frozen=True)
class Rescorer:
    """All that turns a block of a table into the bytes of its output; worker processes have one."""

    table: PhraseTable  # its number of scores known
    columns: Sequence[Column]  # in this order
    floor: float  # least natural-log value written
    compressed: bool  # each block is one gzip member without a time stamp
    replaced: Sequence[int] = ()  # the places that the columns take; none: they are added

    def __call__(self, block: TextBlock) -> Rescored:
        """One block, in one thread: the bytes do not depend on how many are used elsewhere."""
        if torch.get_num_threads() != 1:
            torch.set_num_threads(1)
        return self.written(self.scored(self.parsed(block)))

    def parsed(self, block: TextBlock) -> TableBlock:
        """The entries of a block."""
        return self.table.parse(block.lines())

    def scored(self, block: TableBlock) -> ScoredBlock:
        """The values of a parsed block."""
        values = [column.values(block.pairs) for column in self.columns]
        counts = [vocabulary.take_counts() for vocabulary in vocabularies_of(self.columns)]
        return ScoredBlock(block, values, counts)

    def written(self, scored: ScoredBlock) -> Rescored:
        """The bytes of a scored block."""
        block, values, vocabularies = scored
        texts = [score_texts(column, self.floor) for column in values]
        for column in texts:
            for place in block.bad:
                column.insert(place, NEUTRAL_SCORE)
        output = (
            block.with_other_scores(self.replaced, texts)
            if self.replaced
            else block.with_scores(texts)
        )
        if self.compressed:
            output = compressed_block(output)
        floored = sum(int(np.count_nonzero(found < self.floor)) for found in values)
        entries, bad = len(block.lines.lines), len(block.bad)
        ranges = [_range(found, self.floor) for found in values if len(found)]
        counts = RescoreCounts(entries, bad, floored, ranges, vocabularies)
        return Rescored(output, counts)


@dataclass(frozen=True)
class Watched:
    """A rescorer that tells, instead of what it made, the processes that took part."""

    rescorer: Rescorer

    def __call__(self, block: TextBlock) -> set[int]:
        """Scores a block; the numbers of this process, and of the one that it came from."""
        self.rescorer(block)
        return {os.getpid(), os.getppid()}


def _range(values: LogValues, floor: float) -> Range:
    written = np.clip(values, floor, 0.0)
    return Range(float(written.min()), float(written.max()))
