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
    starts: Rows  # (words,) where each begins
    lengths: Rows  # (words,) in bytes
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
        starts, lengths = breaks[:-1] + 1, np.diff(breaks) - 1
        if not lengths.all():
            words = np.flatnonzero(lengths)
            starts, lengths = starts[words], lengths[words]
        ends = np.flatnonzero(is_end)
        return cls(text, starts, lengths, ends, np.searchsorted(starts, ends))

    @property
    def every_byte(self) -> npt.NDArray[np.uint8]:
        """The text as numbers."""
        return np.frombuffer(self.text, np.uint8)

    def phrases(self, first: Rows, stop: Rows) -> PhraseText:
        """Phrases of the words from each of `first` to before each of `stop`."""
        words = ranges(first, stop - first)
        return PhraseText(
            self.text, self.starts[words], self.lengths[words], offsets_of(stop - first)
        )

    def words(self, numbers: Rows) -> list[bytes]:
        """Some of the words."""
        starts, lengths = self.starts[numbers].tolist(), self.lengths[numbers].tolist()
        return [self.text[s : s + length] for s, length in zip(starts, lengths, strict=True)]
