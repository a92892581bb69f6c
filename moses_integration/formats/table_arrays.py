"""Whole blocks of regular entries, read by arrays: several times as fast as one by one.

What is not surely an entry makes its block irregular: whoever reads it goes through
`PhraseTable.parse`, which decides. So nothing is refused here, and nothing is taken that is refused
there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from moses_integration.formats.phrase_table import FIELDS, SEPARATOR
from phrase_scorer.runtime.numbers import LARGEST_FLOAT32, real_number
from phrase_scorer.text.line_words import LineWords
from phrase_scorer.text.phrase_pairs import EIGHT, PairBlock, Rows, eight_bytes, ranges

_BAR, _OPENING, _CLOSING, _POINT, _EXPONENT, _MINUS = b"|[].e-"
_ZEROS, _ONES, _LOW, _HIGH, _ABOVE_NINE = (
    np.uint64(byte * 0x0101010101010101) for byte in (0x30, 0x01, 0x7F, 0x80, 0x76)
)


@dataclass(frozen=True)
class RegularEntries:
    """Entries whose words are known by their places."""

    words: LineWords
    separators: Rows  # their numbers among the words; and last, the number of all words
    at: Rows  # (lines + 1,) the number of the first separator in each line, or after it

    @classmethod
    def of(cls, lines: Sequence[bytes], scores: int) -> RegularEntries | None:
        """Entries with so many scores each; None where a line is not surely such a one."""
        words = LineWords.of(lines)
        separators = None if words is None else _separators(words)
        if words is None or separators is None or _has_brackets(words):
            return None
        bounds = np.append(separators, len(words.before))
        entries = cls(words, bounds, np.searchsorted(separators, words.firsts))
        if np.diff(entries.at).min() < FIELDS - 1:
            return None
        (begin, end), (first, stop) = entries.field(0), entries.field(FIELDS - 1)
        if (begin == end).any() or (stop - first != scores).any():
            return None
        return entries if _good_scores(words, ranges(first, stop - first)) else None

    def field(self, number: int) -> tuple[Rows, Rows]:
        """(lines,) the first word of a field, from 0, and the one after; none where it is not."""
        begin, end = self.words.firsts[:-1], self.words.firsts[1:]
        first, stop = (
            np.minimum(self.separators[np.minimum(self.at[:-1] + n, self.at[1:])], end)
            for n in (max(number - 1, 0), number)
        )
        return (np.minimum(first + 1, end) if number else begin), stop

    def pairs(self, *, with_counts: bool) -> PairBlock:
        """The phrases, and where wanted the joint counts."""
        sources, targets = (self.words.phrases(*self.field(number)) for number in (0, 1))
        return PairBlock(sources, targets, self._joint_counts() if with_counts else None)

    def _joint_counts(self) -> list[float]:
        """For each line the last number of its fifth field, or 1 where there is none."""
        first, stop = self.field(4)
        there = first < stop
        counts = np.ones(len(there))
        counts[there] = _numbers(self.words, stop[there] - 1)
        return counts.tolist()


def _numbers(lines: LineWords, words: Rows) -> npt.NDArray[np.float64]:
    """(words,) the number that each is, or 1; those of a few distinct texts, read once each."""
    starts, lengths = lines.spans(words)
    if (lengths >= EIGHT).any():
        return np.array(list(map(_count, lines.words(words))))
    texts = eight_bytes(lines.text, starts, lengths) | (lengths << 56).astype(np.uint64)
    _, first, which = np.unique(texts, return_index=True, return_inverse=True)
    return np.array(list(map(_count, lines.words(words[first]))))[which]


def _separators(lines: LineWords) -> Rows | None:
    """The numbers of the words that are separators; None where there are other bars."""
    every, length = lines.every_byte, len(SEPARATOR)
    found = np.flatnonzero(every[1:][lines.before] == _BAR)
    places, lengths = lines.spans(found)
    if (lengths != length).any():
        return None
    if np.count_nonzero(every == _BAR) != length * len(found):
        return None
    return found if all((every[places + n] == _BAR).all() for n in range(1, length)) else None


def _has_brackets(lines: LineWords) -> bool:
    """Whether any word is like [this], in whatever field."""
    if b"]" not in lines.text:
        return False
    every = lines.every_byte
    opens, closes = every[lines.before + 1] == _OPENING, every[lines.after - 1] == _CLOSING
    return bool((opens & closes).any())


def _good_scores(lines: LineWords, words: Rows) -> bool:
    """Whether words are finite numbers, none below 0."""
    starts, lengths = lines.spans(words)
    every, ends = lines.every_byte, starts + lengths
    others = _not_digits(eight_bytes(lines.text, starts, lengths), np.minimum(lengths, EIGHT))
    long = np.flatnonzero(lengths > EIGHT)
    rest = lengths[long] - EIGHT
    others[long] += _not_digits(eight_bytes(lines.text, starts[long] + EIGHT, rest), rest)
    # 0.25 or 2.5e-05: a point in the second place and e- in the fourth from the end, else digits
    point = (every[starts + 1] == _POINT) & (lengths > 1)
    exponent = (every[ends - 4] == _EXPONENT) & (every[ends - 3] == _MINUS) & (lengths > 4)
    good = (others == point + 2 * exponent) & (lengths <= 2 * EIGHT)
    return all(map(_is_score, lines.words(words[~good])))


def _not_digits(texts: npt.NDArray[np.uint64], lengths: Rows) -> Rows:
    """How many bytes of words of at most 8 are no digits, all of them looked at at once."""
    values = texts ^ _ZEROS  # of a byte: 0 to 9 where it is a digit
    above = (((values & _LOW) + _ABOVE_NINE) | values) & _HIGH
    return ((((above >> np.uint64(7)) * _ONES) >> np.uint64(56)).astype(np.int64)) - EIGHT + lengths


def _is_score(text: bytes) -> bool:
    value = real_number(text)
    return value is not None and 0 <= value <= LARGEST_FLOAT32


@lru_cache(1 << 16)
def _count(text: bytes) -> float:
    value = real_number(text)
    return 1.0 if value is None else value
