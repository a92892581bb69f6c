"""Phrase pairs as flat id arrays: how millions of phrases are held without a Python object each.

In: blocks of tokenised phrases (lists of words as bytes), from any reader that yields `PairBlock`,
such as those of pair_files.py. Out: `PhraseIds` (ids and offsets) and `PhrasePairs`.
Knows nothing of tensors, nor of any Moses file.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

MEMORY_LIMIT = 2 << 30  # bytes of one array above which it is kept in a file and memory-mapped
_WORD = re.compile(rb"[^ \t]+")
_PYTHON_BLANKS = (b"\r", b"\v", b"\f", b"\n")  # bytes.split() breaks words there, too
ROWS_AT_ONCE = 1 << 20  # phrases hashed or copied at once, so that temporaries stay small


def words_of(text: bytes) -> list[bytes]:
    """What stands between blanks and TABs: Moses breaks words nowhere else."""
    return _WORD.findall(text)


def words_of_each(texts: Sequence[bytes]) -> list[list[bytes]]:
    """`words_of` many texts, which is fast where they have no other white space."""
    together = b"".join(texts)
    plain = not any(blank in together for blank in _PYTHON_BLANKS)
    return list(map(bytes.split if plain else words_of, texts))


class PairBlock(NamedTuple):
    """Some phrase pairs as words."""

    sources: list[list[bytes]]
    targets: list[list[bytes]]
    counts: list[float] | None = None  # how often each was seen, where the file says so
    bad: Mapping[int, bytes] = {}  # lines that are no pairs, by their places; no words there


@dataclass(frozen=True)
class PhraseIds:
    """Phrases as ids: phrase i is `ids[offsets[i]:offsets[i + 1]]`, without the end symbol."""

    ids: Ids  # (words,) int32, all phrases one after the other
    offsets: Offsets  # (phrases + 1,) int64

    @classmethod
    def collect(
        cls, phrases: Sequence[Sequence[bytes]], lookup: Callable[[bytes], int]
    ) -> PhraseIds:
        """The ids of tokenised phrases, `lookup` giving the id of a word."""
        offsets = _offsets(np.fromiter(map(len, phrases), np.int64, len(phrases)))
        words = chain.from_iterable(phrases)
        return cls(np.fromiter(map(lookup, words), np.int32, int(offsets[-1])), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(phrases,) words in each phrase, the end symbol not counted."""
        return np.diff(self.offsets)

    def phrase(self, row: int) -> Ids:
        """The ids of one phrase."""
        return self.ids[self.offsets[row] : self.offsets[row + 1]]

    def take(self, rows: Rows) -> PhraseIds:
        """The phrases of these rows, in this order."""
        offsets = _offsets(self.offsets[rows + 1] - self.offsets[rows])
        ids = np.empty(offsets[-1], np.int32)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            ends = offsets[start : start + ROWS_AT_ONCE + 1]
            shift = self.offsets[rows[start : start + ROWS_AT_ONCE]] - ends[:-1]
            positions = np.arange(ends[0], ends[-1]) + np.repeat(shift, np.diff(ends))
            ids[ends[0] : ends[-1]] = self.ids[positions]
        return PhraseIds(ids, offsets)

    def padded(self, rows: Rows, filler: int) -> Ids:
        """(rows, longest + 1) ids; what follows a phrase's last word is `filler`."""
        starts, ends = self.offsets[rows], self.offsets[rows + 1]
        columns = np.arange(int((ends - starts).max(initial=0)) + 1)
        positions = starts[:, None] + columns  # (rows, longest + 1)
        inside = positions < ends[:, None]
        positions[~inside] = 0
        if len(self.ids) == 0:
            return np.full(inside.shape, filler, np.int32)
        return np.where(inside, self.ids[positions], np.int32(filler))

    def hashes(self) -> Hashes:
        """(phrases,) 64-bit hash of each phrase's ids and their order."""
        parts = [
            self._hashes(start, min(start + ROWS_AT_ONCE, len(self)))
            for start in range(0, len(self), ROWS_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, np.uint64)

    def _hashes(self, start: int, stop: int) -> Hashes:
        offsets = self.offsets[start : stop + 1]
        ids = self.ids[offsets[0] : offsets[-1]].astype(np.uint64)
        places = np.arange(len(ids)) - np.repeat(offsets[:-1] - offsets[0], np.diff(offsets))
        # The sum over a phrase is a difference of running sums (modulo 2**64): no loop, and right
        # for empty phrases, which np.add.reduceat is not.
        sums = np.zeros(len(ids) + 1, np.uint64)
        np.cumsum(mixed(ids + (places.astype(np.uint64) << np.uint64(32))), out=sums[1:])
        local = offsets - offsets[0]
        return mixed(sums[local[1:]] - sums[local[:-1]] + np.diff(offsets).astype(np.uint64))


def _offsets(lengths: npt.NDArray[np.int64]) -> Offsets:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


@dataclass(frozen=True)
class PhrasePairs:
    """Pairs of phrases; pair i is (source i, target i)."""

    source: PhraseIds
    target: PhraseIds
    weights: npt.NDArray[np.float32] | None = None  # (pairs,) in training; None: all alike

    def __len__(self) -> int:
        return len(self.source)

    def take(self, rows: Rows) -> PhrasePairs:
        """The pairs of these rows, in this order."""
        weights = None if self.weights is None else self.weights[rows]
        return PhrasePairs(self.source.take(rows), self.target.take(rows), weights)

    def hashes(self) -> Hashes:
        """(pairs,) 64-bit hash of each pair."""
        return mixed(self.source.hashes() * np.uint64(0x9E3779B97F4A7C15) + self.target.hashes())

    def unique(self) -> PhrasePairs:
        """Each distinct pair once, at its first place; weights of equal pairs are added.

        Pairs are compared by a 64-bit hash: among 100 million the chance that any two distinct
        ones meet is below 1 in 3,000, and the harm is one training pair less.
        """
        _, first, inverse = np.unique(self.hashes(), return_index=True, return_inverse=True)
        if len(first) == len(self):
            return self
        order = np.argsort(first)
        kept = self.take(first[order])
        if self.weights is None:
            return kept
        sums = np.bincount(inverse, weights=self.weights)[order].astype(np.float32)
        return PhrasePairs(kept.source, kept.target, sums)

    def split_by_source(self, held_out: int, seed: int) -> tuple[PhrasePairs, PhrasePairs]:
        """(training pairs, about `held_out` validation pairs) without a source phrase in common.

        Which sources are held out depends on their words and `seed` alone, not on their order.
        """
        nothing = self.take(np.zeros(0, np.int64))
        if held_out <= 0 or len(self) < 2:
            return self, nothing
        keys = mixed(self.source.hashes() + np.uint64(seed))
        share = min(held_out / len(self), 0.5)
        chosen = keys < np.uint64(int(share * 2**64))
        if not chosen.any() or chosen.all():  # a handful of sources: hold out just one of them
            chosen = keys == keys.min()
        if chosen.all():
            return self, nothing
        return self.take(np.flatnonzero(~chosen)), self.take(np.flatnonzero(chosen))


def mixed(values: Hashes) -> Hashes:
    """splitmix64's finaliser: spreads close 64-bit numbers over the whole range."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


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
        self.source_words: dict[bytes, int] = {}
        self.target_words: dict[bytes, int] = {}
        kinds = {
            "source_ids": np.int32, "source_lengths": np.int64, "target_ids": np.int32,
            "target_lengths": np.int64, "weights": np.float32,
        }  # fmt: skip
        self._arrays = {name: ArrayBuilder(kind, limit) for name, kind in kinds.items()}

    def add(self, block: PairBlock) -> None:
        """Adds a block's pairs."""
        for side, phrases, words in (
            ("source", block.sources, self.source_words),
            ("target", block.targets, self.target_words),
        ):
            for word in set(chain.from_iterable(phrases)).difference(words):
                words[word] = len(words)
            found = PhraseIds.collect(phrases, words.__getitem__)
            self._arrays[f"{side}_ids"].append(found.ids)
            self._arrays[f"{side}_lengths"].append(found.lengths)
        if block.counts is not None:
            self._arrays["weights"].append(np.asarray(block.counts, np.float32))

    def finish(self) -> PhrasePairs:
        """All pairs, with ids that index `source_words` and `target_words`."""
        arrays = {name: np.asarray(builder.finish()) for name, builder in self._arrays.items()}
        source, target = (
            PhraseIds(arrays[f"{side}_ids"], _offsets(arrays[f"{side}_lengths"]))
            for side in ("source", "target")
        )
        weights = arrays["weights"]
        return PhrasePairs(source, target, weights if len(weights) else None)
