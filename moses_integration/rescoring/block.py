"""A block of a phrase table becomes the bytes of its output: parsed, scored, formatted, compressed.

What worker processes do; everything here can be pickled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch

from moses_integration.formats.phrase_table import PhraseTable, TableBlock
from moses_integration.rescoring.columns import NEUTRAL_SCORE, FeatureColumn, Values, score_texts
from phrase_scorer.runtime.output import compressed_block
from phrase_scorer.runtime.streams import Lines
from phrase_scorer.scoring.scorer import PhraseScorer
from phrase_scorer.text.vocabulary import Counts, Vocabulary


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


class Task(NamedTuple):
    """A block on its way to whoever scores it; text, which is cheaper to send than lines."""

    first: int
    text: bytes
    ended: bool

    @classmethod
    def of(cls, lines: Lines) -> Task:
        """The task of some lines."""
        return cls(lines.first, b"\n".join(lines.lines), lines.ended)

    @property
    def line_count(self) -> int:
        """How many lines there are."""
        return self.text.count(b"\n") + 1

    def lines(self) -> Lines:
        """The lines again."""
        return Lines(self.first, self.text.split(b"\n"), self.ended)


class Rescored(NamedTuple):
    """A block as it is written, and what was counted."""

    output: bytes
    statistics: Statistics
    vocabularies: list[Counts]  # of `vocabularies_of` the columns


class ScoredBlock(NamedTuple):
    """A block; for each column the values of its good lines; what was counted."""

    block: TableBlock
    values: list[Values]
    vocabularies: list[Counts]


@dataclass(frozen=True)
class Rescorer:
    """All that turns a block of a table into the bytes of its output; worker processes have one.

    Attributes:
        table: The table, its number of scores known.
        columns: In this order.
        floor: Least natural-log value written.
        compressed: Each block is one gzip member, without a time stamp: equal content gives equal
            bytes.
    """

    table: PhraseTable
    columns: Sequence[FeatureColumn]
    floor: float
    compressed: bool

    def __call__(self, task: Task) -> Rescored:
        """One block, in one thread: the bytes do not depend on how many are used elsewhere."""
        if torch.get_num_threads() != 1:
            torch.set_num_threads(1)
        return self.written(self.scored(self.table.parse(task.lines())))

    def scored(self, block: TableBlock) -> ScoredBlock:
        """The values of a block."""
        values = [column.values(block.pairs) for column in self.columns]
        counts = [vocabulary.take_counts() for vocabulary in vocabularies_of(self.columns)]
        return ScoredBlock(block, values, counts)

    def written(self, scored: ScoredBlock) -> Rescored:
        """The bytes of a scored block."""
        block, values, counts = scored
        output = block.with_scores(self._texts(block, values))
        if self.compressed:
            output = compressed_block(output)
        floored = sum(int(np.count_nonzero(column < self.floor)) for column in values)
        statistics = Statistics(len(block.lines.lines), len(block.bad), floored)
        return Rescored(output, statistics, counts)

    def _texts(self, block: TableBlock, values: Sequence[Values]) -> list[list[bytes]]:
        """A text for each line and column; bad lines get the neutral score."""
        texts = [score_texts(column, self.floor) for column in values]
        for column in texts:
            for place in block.bad:
                column.insert(place, NEUTRAL_SCORE)
        return texts


def vocabularies_of(columns: Sequence[FeatureColumn]) -> list[Vocabulary]:
    """The vocabularies in which the columns look words up, each once."""
    return [v for s in scorers_of(columns) for v in (s.source_vocabulary, s.target_vocabulary)]


def scorers_of(columns: Sequence[FeatureColumn]) -> list[PhraseScorer]:
    """The scorers of the columns, each once."""
    return list(dict.fromkeys(chain.from_iterable(column.scorers for column in columns)))
