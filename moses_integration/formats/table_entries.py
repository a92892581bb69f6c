"""Entries of a table with the numbers in them: for what looks at scores, not for what changes them.

The counts of an entry are the fifth field of Moses' own training: how often the target, the source
and the pair were extracted (phrase-extract/consolidate-main.cpp).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
import numpy.typing as npt

from moses_integration.formats.phrase_table import BLANKS, FIELDS, SEPARATOR, TableBlock
from phrase_scorer.runtime.numbers import real_number
from phrase_scorer.text.phrase_pairs import words_of

Numbers = npt.NDArray[np.float64]
MOSES_COUNTS = 3  # of the target, of the source, of the pair


@dataclass(frozen=True)
class Entry:
    """One entry, for a reader; bytes that are no UTF-8 are escaped."""

    line: int  # its number in the table, from 1
    source: str
    target: str
    scores: tuple[float, ...]  # as they stand in the table: probabilities
    alignment: str  # such as "0-0 1-2"
    counts: tuple[float, ...]  # of the target, the source, the pair; empty: the table has none

    @classmethod
    def of(cls, line: bytes, number: int) -> Entry:
        """Of a line that `PhraseTable` has taken for an entry."""
        source, target, scores, *rest = line.split(SEPARATOR)
        alignment, counts = (*map(words_of, rest[:2]), [], [])[:2]
        values = [real_number(count) for count in counts]
        known = tuple(value for value in values if value is not None)
        return cls(
            number,
            as_text(b" ".join(words_of(source))),
            as_text(b" ".join(words_of(target))),
            tuple(map(float, scores.split())),
            as_text(b" ".join(alignment)),
            known if len(known) == MOSES_COUNTS == len(counts) else (),
        )


@dataclass(frozen=True)
class ScoredEntries:
    """The good entries of a block: lines and numbers."""

    lines: Sequence[bytes]
    numbers: Sequence[int]  # of the lines, from 1
    sources: Sequence[bytes]  # the first field, blanks around it left out
    scores: Numbers  # (entries, scores)
    counts: Numbers  # (entries, 3); nan where an entry has not these three

    @classmethod
    def of(cls, block: TableBlock) -> ScoredEntries:
        """Those of a block; bad lines are left out."""
        bad = frozenset(block.bad)
        good = [place not in bad for place in range(len(block.lines.lines))]
        lines = list(compress(block.lines.lines, good))
        first = block.lines.first
        fields = [line.split(SEPARATOR) for line in lines]
        scores = b" ".join(f[FIELDS - 1] for f in fields).split()
        values = np.fromiter(map(float, scores), np.float64, len(scores))
        return cls(
            lines,
            list(compress(range(first, first + len(good)), good)),
            [f[0].strip(BLANKS) for f in fields],
            values.reshape(len(lines), -1) if lines else np.zeros((0, 0)),
            _counts([words_of(f[4]) if len(f) > 4 else [] for f in fields]),
        )

    def __len__(self) -> int:
        return len(self.lines)


def _counts(texts: Sequence[Sequence[bytes]]) -> Numbers:
    counts = np.full((len(texts), MOSES_COUNTS), np.nan)
    for place, words in enumerate(texts):
        if len(words) == MOSES_COUNTS:
            numbers = [real_number(word) for word in words]
            if None not in numbers:
                counts[place] = numbers
    return counts


def as_text(text: bytes) -> str:
    """Text for a reader."""
    return text.decode("utf-8", "backslashreplace")
