"""A block of a phrase table becomes the bytes of its output: parsed, scored, formatted, compressed.

What worker processes do; everything here can be pickled.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

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
from moses_integration.rescoring.counts import Range, RescoreCounts
from phrase_scorer.runtime.output import compressed_block
from phrase_scorer.runtime.streams import Lines
from phrase_scorer.text.vocabulary import Counts

PROBED_LINES = 256


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

    def probe(self, block: TextBlock) -> str:
        """A digest of the scores of a block's first lines: equal where processes compute alike.

        Processors of two kinds, say, seldom agree in the last digits of all of them.
        """
        first = Lines(block.first, block.lines().lines[:PROBED_LINES])
        values = self.scored(self.table.parse(first)).values
        texts = chain.from_iterable(score_texts(column, self.floor) for column in values)
        return hashlib.sha256(b"\n".join(texts)).hexdigest()[:16]

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
