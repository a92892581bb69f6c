"""A block of a phrase table becomes the bytes of its output: parsed, scored, formatted, compressed.

What worker processes do; everything here can be pickled.
"""

from __future__ import annotations

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
from phrase_scorer.runtime.streams import Lines
from phrase_scorer.text.vocabulary import Counts


@dataclass
class RescoreCounts:
    """What was counted in a block, or in several; those of parts can be added."""

    entries: int = 0
    bad_lines: int = 0  # kept as they were, with a neutral score where there is a place for one
    floored: int = 0  # values below the floor, over all columns
    vocabularies: list[Counts] = field(default_factory=list, compare=False)  # `vocabularies_of`

    def __iadd__(self, other: RescoreCounts) -> RescoreCounts:
        self.entries += other.entries
        self.bad_lines += other.bad_lines
        self.floored += other.floored
        self.vocabularies = self.vocabularies or [Counts() for _ in other.vocabularies]
        for total, counted in zip(self.vocabularies, other.vocabularies, strict=True):
            total += counted
        return self

    def to_json(self) -> dict[str, Any]:
        """The counts as a journal holds them."""
        figures = {name: getattr(self, name) for name in ("entries", "bad_lines", "floored")}
        return {
            "statistics": figures,
            "vocabularies": [counts.to_json() for counts in self.vocabularies],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> RescoreCounts:
        """Reads what `to_json` gave."""
        vocabularies = [Counts.from_json(counts) for counts in content["vocabularies"]]
        return cls(**content["statistics"], vocabularies=vocabularies)


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
        output = block.with_scores(texts)
        if self.compressed:
            output = compressed_block(output)
        floored = sum(int(np.count_nonzero(found < self.floor)) for found in values)
        counts = RescoreCounts(len(block.lines.lines), len(block.bad), floored, vocabularies)
        return Rescored(output, counts)
