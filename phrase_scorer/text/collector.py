"""Collecting pairs for training: words get ids as they come, millions at once, by arrays.

In: blocks of pairs. Out: `PhrasePairs`, whose ids index the words that were met.
"""

from __future__ import annotations

import tempfile
from itertools import islice
from typing import IO, Any, TypeVar

import numpy as np
import numpy.typing as npt

from phrase_scorer.text.phrase_pairs import (
    EIGHT,
    PADDING,
    Hashes,
    Ids,
    PairBlock,
    PhraseIds,
    PhrasePairs,
    PhraseText,
    Rows,
    eight_bytes,
    offsets_of,
)

_Kind = TypeVar("_Kind", bound=np.generic)

MEMORY_LIMIT = 2 << 30  # bytes of one array above which it is kept in a file and memory-mapped
LONGEST_HASHED = 64  # bytes; longer ones are looked up one by one
_FEWEST_SLOTS = 1 << 12
_SLOTS_A_WORD = 4  # at least
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # odd: multiplying loses nothing


def _hashed(
    text: bytes | npt.NDArray[np.uint8], starts: Rows, lengths: Rows
) -> tuple[Hashes, Hashes]:
    """(the first 8 bytes, a hash of the first `LONGEST_HASHED`) of each word."""
    heads = eight_bytes(text, starts, lengths)
    hashes = (heads ^ lengths.astype(np.uint64)) * _SPREAD
    rows = np.flatnonzero(lengths > EIGHT)
    for place in range(EIGHT, LONGEST_HASHED, EIGHT):
        rows = rows[lengths[rows] > place]
        if not len(rows):
            break
        more = eight_bytes(text, starts[rows] + place, lengths[rows] - place)
        hashes[rows] = ((hashes[rows] >> np.uint64(29)) ^ hashes[rows] ^ more) * _SPREAD
    return heads, hashes


class WordTable:
    """Distinct words, numbered as they come: a dictionary that is asked for many words at once.

    Open addressing, linear probing (Knuth, TAOCP 3, 6.4). A hash says where to look, no more: a
    word is found where its length and all its bytes are the same.
    """

    def __init__(self) -> None:
        self.words: dict[bytes, int] = {}
        self._slots = np.full(_FEWEST_SLOTS, -1, np.int32)  # number of the word; -1: free
        self._text = np.zeros(len(PADDING), np.uint8)  # the words one after the other, and room
        self._used = 0  # bytes of it
        # By number, and room. A free slot's -1 finds the last row, whatever it is: it is -1 still.
        self._starts, self._lengths = np.zeros(1, np.int64), np.zeros(1, np.int64)
        self._heads = np.zeros(1, np.uint64)

    def ids(self, phrases: PhraseText) -> PhraseIds:
        """The numbers of the words of phrases; those not met before get the next ones."""
        text, starts, lengths = phrases.text, phrases.starts, phrases.lengths
        heads, hashes = _hashed(text, starts, lengths)
        found, slots = np.empty(len(starts), np.int32), self._first_slots(hashes)
        rows = np.arange(len(starts))
        left: Rows | slice = slice(None)  # the same rows; at first all, without a copy of anything
        while len(rows):
            numbers = self._slots[slots[left]]
            same = self._heads[numbers] == heads[left]
            same &= self._lengths[numbers] == lengths[left]
            self._compare_tails(same, numbers, text, starts[left], lengths[left])
            found[left] = np.where(same, numbers, -1)
            left = rows = rows[~same & (numbers >= 0)]
            slots[left] = (slots[left] + 1) & (len(self._slots) - 1)
        rows = np.flatnonzero(found < 0)
        found[rows] = self._numbered(phrases, rows)
        return PhraseIds(found, phrases.offsets)

    def _first_slots(self, hashes: Hashes) -> Rows:
        bits = len(self._slots).bit_length() - 1
        return (hashes >> np.uint64(64 - bits)).astype(np.int64)

    def _compare_tails(
        self, same: npt.NDArray[np.bool_], numbers: Ids, text: bytes, starts: Rows, lengths: Rows
    ) -> None:
        """Takes from `same` the words that differ after their first 8 bytes."""
        rows = np.flatnonzero(same & (lengths > EIGHT))
        for place in range(EIGHT, LONGEST_HASHED, EIGHT):
            rows = rows[lengths[rows] > place]
            if not len(rows):
                break
            rest = lengths[rows] - place
            known = eight_bytes(self._text, self._starts[numbers[rows]] + place, rest)
            same[rows] &= known == eight_bytes(text, starts[rows] + place, rest)

    def _numbered(self, phrases: PhraseText, rows: Rows) -> list[int]:
        """The numbers of words that are in no slot, by the dictionary; new ones get a slot."""
        known = len(self.words)
        places = zip(phrases.starts[rows].tolist(), phrases.lengths[rows].tolist(), strict=True)
        words = [phrases.text[start : start + length] for start, length in places]
        numbers = [self.words.setdefault(word, len(self.words)) for word in words]
        if new := list(islice(reversed(self.words), len(self.words) - known)):
            self._keep(PhraseText.of([new[::-1]]), known)
        return numbers

    def _keep(self, new: PhraseText, first: int) -> None:
        """Stores new words, numbered from `first` on."""
        stop, used = first + len(new.starts), self._used
        self._used = used + len(new.text) - len(PADDING)
        self._text = _with_room(self._text, self._used + len(PADDING))
        self._starts, self._lengths = (
            _with_room(array, stop) for array in (self._starts, self._lengths)
        )
        self._heads = _with_room(self._heads, stop)
        heads, hashes = _hashed(new.text, new.starts, new.lengths)
        self._text[used : self._used + len(PADDING)] = np.frombuffer(new.text, np.uint8)
        self._starts[first:stop] = new.starts + used
        self._lengths[first:stop], self._heads[first:stop] = new.lengths, heads
        if stop * _SLOTS_A_WORD > len(self._slots):
            size = 2 * _SLOTS_A_WORD * stop
            self._slots = np.full(1 << (size - 1).bit_length(), -1, np.int32)
            _, hashes = _hashed(self._text, self._starts[:stop], self._lengths[:stop])
            first = 0
        self._give_slots(np.arange(first, stop, dtype=np.int32), self._first_slots(hashes))

    def _give_slots(self, numbers: Ids, slots: Rows) -> None:
        short = self._lengths[numbers] <= LONGEST_HASHED
        numbers, slots = numbers[short], slots[short]
        while len(numbers):
            free = self._slots[slots] < 0
            self._slots[slots[free]] = numbers[free]
            waiting = self._slots[slots] != numbers
            numbers, slots = numbers[waiting], (slots[waiting] + 1) & (len(self._slots) - 1)


def _with_room(array: npt.NDArray[_Kind], size: int) -> npt.NDArray[_Kind]:
    """The array, if it has so many elements, or else one of twice as many that begins like it."""
    if size <= len(array):
        return array
    return np.concatenate([array, np.zeros(2 * size - len(array), array.dtype)])


class ArrayBuilder:
    """An array that grows at its end: in memory, or beyond `limit` bytes in a temporary file."""

    def __init__(self, dtype: npt.DTypeLike, limit: int = MEMORY_LIMIT) -> None:
        self.dtype = np.dtype(dtype)
        self.limit = limit
        self.size = 0
        self._parts: list[npt.NDArray[Any]] = []
        self._waiting = 0  # elements in these parts, not in the file
        self._file: IO[bytes] | None = None

    def append(self, part: npt.NDArray[Any]) -> None:
        """Adds the elements of `part`."""
        self._parts.append(part.astype(self.dtype, copy=False))
        self.size += len(part)
        self._waiting += len(part)
        if self._waiting * self.dtype.itemsize > self.limit:
            self._spill()

    def _spill(self) -> IO[bytes]:
        """Moves the parts to the file, which has no name and goes with the process."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="phrase-scorer-")  # noqa: SIM115 - kept
        for part in self._parts:
            self._file.write(part.tobytes())
        self._parts, self._waiting = [], 0
        return self._file

    def finish(self) -> npt.NDArray[Any]:
        """The whole array; memory-mapped (and writable) where it outgrew the limit."""
        if self._file is None:
            return np.concatenate([np.zeros(0, self.dtype), *self._parts])
        with self._spill() as file:
            file.flush()
            return np.memmap(file, self.dtype, mode="r+", shape=(self.size,))


class PairCollector:
    """Reads blocks of pairs once, giving each distinct word an id in order of first sight."""

    def __init__(self, limit: int = MEMORY_LIMIT) -> None:
        self._tables = {"source": WordTable(), "target": WordTable()}
        self.source_words, self.target_words = (table.words for table in self._tables.values())
        kinds = {
            "source_ids": np.int32, "source_lengths": np.int64, "target_ids": np.int32,
            "target_lengths": np.int64, "weights": np.float32,
        }  # fmt: skip
        self._arrays = {name: ArrayBuilder(kind, limit) for name, kind in kinds.items()}

    def add(self, block: PairBlock) -> None:
        """Adds a block's pairs."""
        for side, phrases in (("source", block.sources), ("target", block.targets)):
            found = self._tables[side].ids(PhraseText.of(phrases))
            self._arrays[f"{side}_ids"].append(found.ids)
            self._arrays[f"{side}_lengths"].append(found.lengths)
        if block.counts is not None:
            self._arrays["weights"].append(np.asarray(block.counts, np.float32))

    def finish(self) -> PhrasePairs:
        """All pairs, with ids that index `source_words` and `target_words`."""
        arrays = {name: np.asarray(builder.finish()) for name, builder in self._arrays.items()}
        source, target = (
            PhraseIds(arrays[f"{side}_ids"], offsets_of(arrays[f"{side}_lengths"]))
            for side in ("source", "target")
        )
        weights = arrays["weights"]
        return PhrasePairs(source, target, weights if len(weights) else None)
