"""The words of whole blocks of lines as places, found by arrays: for lines that are regular.

A reader that finds a block irregular reads it line by line, and so decides what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from phrase_scorer.text.phrase_pairs import (
    PADDING,
    PYTHON_BLANKS,
    Offsets,
    PhraseText,
    Rows,
    offsets_of,
    ranges,
)

LONGEST_TEXT = 16 << 20  # bytes; the arrays are twenty times as large
_TAB, _LINE_END, _BLANK = b"\t\n "


@dataclass(frozen=True)
class LineWords:
    """What stands between blanks, TABs and line ends in some lines."""

    text: bytes  # b"\n", the lines, each with a b"\n" after it, and `PADDING`
    before: Rows  # (words,) the place before the first byte of each
    after: Rows  # (words,) the place after its last
    ends: Rows  # (lines + 1,) where line ends are: before the first line, and after each
    firsts: Offsets  # (lines + 1,) the number of the first word of each line

    @classmethod
    def of(cls, lines: Sequence[bytes]) -> LineWords | None:
        """The words of lines; None where other white space is among them, or too much text."""
        text = b"\n".join([b"", *lines, PADDING])
        if len(text) > LONGEST_TEXT or any(blank in text for blank in PYTHON_BLANKS):
            return None
        every = np.frombuffer(text, np.uint8)
        is_end = every == _LINE_END
        is_break = (every == _BLANK) | is_end
        if b"\t" in text:
            is_break |= every == _TAB
        breaks = np.flatnonzero(is_break)
        before, after = breaks[:-1], breaks[1:]
        if (is_break[1:] & is_break[:-1]).any():
            words = np.flatnonzero(after - before > 1)
            before, after = before[words], after[words]
        ends = np.flatnonzero(is_end)
        return cls(text, before, after, ends, np.searchsorted(before, ends))

    @property
    def every_byte(self) -> npt.NDArray[np.uint8]:
        """The text as numbers."""
        return np.frombuffer(self.text, np.uint8)

    def spans(self, words: Rows) -> tuple[Rows, Rows]:
        """(where each of some words begins, its length in bytes)."""
        starts = self.before[words] + 1
        return starts, self.after[words] - starts

    def phrases(self, first: Rows, stop: Rows) -> PhraseText:
        """Phrases of the words from each of `first` to before each of `stop`."""
        starts, lengths = self.spans(ranges(first, stop - first))
        return PhraseText(self.text, starts, lengths, offsets_of(stop - first))

    def words(self, numbers: Rows) -> list[bytes]:
        """Some of the words."""
        spans = zip(*(each.tolist() for each in self.spans(numbers)), strict=True)
        return [self.text[start : start + length] for start, length in spans]
