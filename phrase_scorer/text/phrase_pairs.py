"""Phrase pairs as flat id arrays: how millions of phrases are held without a Python object each.

In: blocks of tokenised phrases (lists of words as bytes, or a `PhraseText`), from any reader that
yields `PairBlock`, such as those of pair_files.py. Out: `PhraseIds` (ids and offsets) and
`PhrasePairs`. Knows nothing of tensors, nor of any Moses file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from phrase_scorer.errors import DataError

Ids = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

EIGHT = 8  # bytes of a word that are looked at as one number
PADDING = bytes(EIGHT)  # after a text, so that so many can be read wherever a word begins
_MASKS = np.array([(1 << (8 * length)) - 1 for length in range(EIGHT + 1)], np.uint64)
_WORD = re.compile(rb"[^ \t]+")
PYTHON_BLANKS = (b"\r", b"\v", b"\f")  # bytes.split() breaks words there, too
NO_TRIGRAM = np.uint64(2**64 - 1)  # where a source would have a trigram's number
ROWS_AT_ONCE = 1 << 16  # phrases hashed or copied at once, so that temporaries stay in cache


def words_of(text: bytes) -> list[bytes]:
    """What stands between blanks and TABs: Moses breaks words nowhere else."""
    return _WORD.findall(text)


def words_of_each(texts: Sequence[bytes]) -> list[list[bytes]]:
    """`words_of` many texts, which is fast where they have no other white space."""
    together = b"".join(texts)
    plain = not any(blank in together for blank in (*PYTHON_BLANKS, b"\n"))
    return list(map(bytes.split if plain else words_of, texts))


def eight_bytes(text: bytes | npt.NDArray[np.uint8], starts: Rows, lengths: Rows) -> Hashes:
    """(words,) the first 8 bytes of each as a little-endian number; 0 after a word's end.

    The text ends in `PADDING`.
    """
    anywhere = np.ndarray((len(text) - EIGHT + 1,), "<u8", text, 0, (1,))
    return anywhere[starts] & _MASKS[np.minimum(lengths, EIGHT)]


class PairBlock(NamedTuple):
    """Some phrase pairs as words."""

    sources: Sequence[list[bytes]]
    targets: Sequence[list[bytes]]
    counts: Sequence[float] | None = None  # how often each was seen, where the file says so
    bad: Mapping[int, bytes] = {}  # lines that are no pairs, by their places; no words there


@dataclass(frozen=True, eq=False)
class PhraseText(Sequence[list[bytes]]):
    """Phrases as the places of their words in a text, where a list of lists has an object a word.

    Phrase i has the words `offsets[i]` to `offsets[i + 1]`. It is such a list to whoever asks.
    """

    text: bytes  # with `PADDING` after the last word
    starts: Rows  # (words,) where each begins
    lengths: Rows  # (words,) in bytes
    offsets: Offsets  # (phrases + 1,)

    @classmethod
    def of(cls, phrases: Sequence[Sequence[bytes]]) -> PhraseText:
        """Phrases that are lists, or are a `PhraseText` already."""
        if isinstance(phrases, cls):
            return phrases
        words = list(chain.from_iterable(phrases))
        ends = offsets_of(np.fromiter(map(len, words), np.int64, len(words)))
        counts = np.fromiter(map(len, phrases), np.int64, len(phrases))
        text = b"".join([*words, PADDING])
        return cls(text, ends[:-1], np.diff(ends), offsets_of(counts))

    @property
    def word_counts(self) -> Rows:
        """(phrases,) words in each."""
        return np.diff(self.offsets)

    @override
    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, place: int) -> list[bytes]: ...
    @overload
    def __getitem__(self, place: slice) -> list[list[bytes]]: ...
    @override
    def __getitem__(self, place: int | slice) -> list[bytes] | list[list[bytes]]:
        rows = range(len(self))[place]
        if isinstance(rows, int):
            return self._lists(range(rows, rows + 1))[0]
        return self._lists(rows)

    def _lists(self, rows: range) -> list[list[bytes]]:
        if rows.step != 1:
            return [self[row] for row in rows]
        offsets = self.offsets[rows.start : max(rows.start, rows.stop) + 1].tolist()
        inside = slice(offsets[0], offsets[-1])
        places = zip(self.starts[inside].tolist(), self.lengths[inside].tolist(), strict=True)
        words = [self.text[start : start + length] for start, length in places]
        bounds = [offset - offsets[0] for offset in offsets]
        return [words[first:stop] for first, stop in pairwise(bounds)]

    @override
    def __iter__(self) -> Iterator[list[bytes]]:
        return iter(self[:])

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


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
        offsets = offsets_of(np.fromiter(map(len, phrases), np.int64, len(phrases)))
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
        offsets = offsets_of(self.offsets[rows + 1] - self.offsets[rows])
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


def ranges(starts: Rows, lengths: Rows) -> Rows:
    """The numbers from each start on, so many as its length says, one range after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)


def offsets_of(lengths: npt.NDArray[np.int64]) -> Offsets:
    """(phrases + 1,) where each of phrases of these lengths begins, one after the other."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


@dataclass(frozen=True)
class PhrasePairs:
    """Pairs of phrases; pair i is (source i, target i)."""

    source: PhraseIds
    target: PhraseIds
    weights: npt.NDArray[np.float32] | None = None  # (pairs,) in training; None: all alike
    files: npt.NDArray[np.uint16] | None = None  # (pairs,) number of the file; None: no matter

    def __len__(self) -> int:
        return len(self.source)

    @property
    def file_numbers(self) -> npt.NDArray[np.uint16]:
        """(pairs,) number of the file that each is of."""
        return np.zeros(len(self), np.uint16) if self.files is None else self.files

    def take(self, rows: Rows) -> PhrasePairs:
        """The pairs of these rows, in this order."""
        weights = None if self.weights is None else self.weights[rows]
        files = None if self.files is None else self.files[rows]
        return PhrasePairs(self.source.take(rows), self.target.take(rows), weights, files)

    def hashes(self) -> Hashes:
        """(pairs,) 64-bit hash of each pair, and of its file where that matters."""
        found = mixed(self.source.hashes() * np.uint64(0x9E3779B97F4A7C15) + self.target.hashes())
        return found if self.files is None else mixed(found + self.files)

    def source_keys(self, seed: int) -> Hashes:
        """(pairs,) random numbers, the same for equal sources: their words and `seed` decide."""
        return mixed(self.source.hashes() + np.uint64(seed))

    def trigram_keys(self, seed: int) -> Hashes:
        """(pairs,) the least of the random numbers that `seed` gives a source's trigrams of words.

        The largest number there is where a source has fewer than three words.
        """
        keys = np.full(len(self), NO_TRIGRAM)
        words, offsets = self.source.ids.astype(np.uint64), self.source.offsets
        rows = np.flatnonzero(np.diff(offsets) >= 3)
        if len(rows):
            numbers = mixed(words + np.uint64(seed))
            numbers = mixed(numbers[:-2] + mixed(words[1:-1] + mixed(words[2:])))
            bounds = np.stack([offsets[rows], offsets[rows + 1] - 2], 1).ravel()
            numbers = np.append(numbers, NO_TRIGRAM)  # the last one's bound may be behind the rest
            keys[rows] = np.minimum.reduceat(numbers, bounds)[::2]
        return keys

    def unique(self) -> PhrasePairs:
        """Each distinct pair once, at its first place; weights of equal pairs are added."""
        first = self._first_places()
        kept = np.flatnonzero(first == np.arange(len(self)))
        if len(kept) == len(self):
            return self
        pairs = self.take(kept)
        if self.weights is None:
            return pairs
        sums = np.bincount(first, self.weights)[kept].astype(np.float32)
        return replace(pairs, weights=sums)

    def _first_places(self) -> Rows:
        """(pairs,) where each pair stands first.

        Pairs whose hash no other has are distinct; only the others are compared.
        """
        first, hashes = np.arange(len(self)), self.hashes()
        ordered = np.sort(hashes)
        several = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        if not len(several):
            return first
        del ordered
        place = np.minimum(np.searchsorted(several, hashes), len(several) - 1)
        rows = np.flatnonzero(several[place] == hashes)
        rows = rows[np.argsort(place[rows], kind="stable")]  # those of a hash together, in order
        starts = np.flatnonzero(np.diff(place[rows], prepend=-1))
        leaders = np.repeat(rows[starts], np.diff(starts, append=len(rows)))
        if self._are_alike(rows, leaders):
            first[rows] = leaders
        else:  # a hash that different pairs have
            seen: dict[tuple[bytes, bytes, int], int] = {}
            files = self.file_numbers
            for row in rows.tolist():
                phrases = self.source.phrase(row).tobytes(), self.target.phrase(row).tobytes()
                first[row] = seen.setdefault((*phrases, int(files[row])), row)
        return first

    def _are_alike(self, rows: Rows, others: Rows) -> bool:
        """Whether each pair of `rows` is that of `others`."""
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            for phrases in (self.source, self.target):
                one, other = phrases.take(rows[part]), phrases.take(others[part])
                if not np.array_equal(one.offsets, other.offsets):
                    return False
                if not np.array_equal(one.ids, other.ids):
                    return False
        return True

    def split_by_trigram(self, held_out: int, seed: int) -> tuple[PhrasePairs, PhrasePairs]:
        """(training pairs, about `held_out` validation pairs), these far from those.

        In each source that is held out stands a trigram of words that none of the training pairs'
        sources has. The words and `seed` decide.

        Raises:
            DataError: No source has three words.
        """
        if held_out <= 0 or len(self) < 2:
            return self._parted(np.zeros(len(self), bool))
        keys = self.trigram_keys(seed)
        most = min(held_out, len(self) // 2)
        limit = np.partition(keys, most - 1)[most - 1]
        if limit == NO_TRIGRAM:  # so few sources have one: hold out those of one trigram
            limit = keys.min()
        if limit == NO_TRIGRAM:
            raise DataError("no source phrase has three words: no trigrams to hold out")
        return self._parted(keys <= limit)

    def split_by_source(self, held_out: int, seed: int) -> tuple[PhrasePairs, PhrasePairs]:
        """(training pairs, about `held_out` validation pairs) without a source phrase in common.

        Which sources are held out depends on their words and `seed` alone, not on their order.
        """
        if held_out <= 0 or len(self) < 2:
            return self._parted(np.zeros(len(self), bool))
        keys = self.source_keys(seed)
        share = min(held_out / len(self), 0.5)
        chosen = keys < np.uint64(int(share * 2**64))
        if not chosen.any() or chosen.all():  # a handful of sources: hold out just one of them
            chosen = keys == keys.min()
        return self._parted(chosen)

    def _parted(self, chosen: npt.NDArray[np.bool_]) -> tuple[PhrasePairs, PhrasePairs]:
        """(the other pairs, the chosen ones); where all are chosen, none is."""
        if chosen.all() or not chosen.any():
            return self, self.take(np.zeros(0, np.int64))
        return self.take(np.flatnonzero(~chosen)), self.take(np.flatnonzero(chosen))


def mixed(values: Hashes) -> Hashes:
    """splitmix64's finaliser: spreads close 64-bit numbers over the whole range."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
