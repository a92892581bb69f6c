"""Ids become padded tensors here, and nowhere else: end symbols, lengths, masks, length buckets.

In: `PhrasePairs` and row numbers. Out: `Batch`, what every model reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from typing_extensions import override

from phrase_scorer.text.phrase_pairs import PhraseIds, PhrasePairs, Rows
from phrase_scorer.text.vocabulary import END


@dataclass(frozen=True)
class Sources:
    """Source phrases as a model reads them, time first."""

    words: Tensor  # (time, phrases) int64 ids, the end symbol included, then padding (also `END`)
    unfinished: Tensor  # (time, phrases) bool, True up to and with the end symbol
    shortest: int  # steps up to which no phrase has ended: no mask is needed before

    @property
    def last(self) -> Tensor:
        """(phrases,) int64 time of each phrase's end symbol."""
        return self.unfinished.sum(0) - 1

    def flipped(self, values: Tensor, *, keep_end: bool) -> Tensor:
        """Each phrase's values, (time, phrases, ...), in reverse order; padding stays behind them.

        With `keep_end` the end symbol stays the last.
        """
        times = torch.arange(len(values), device=values.device)[:, None]
        mirrored = self.last - int(keep_end) - times  # (time, phrases)
        places = torch.where(mirrored >= 0, mirrored, times)
        while places.dim() < values.dim():
            places = places.unsqueeze(-1)
        return values.gather(0, places.expand_as(values))

    def backwards(self) -> Sources:
        """The same phrases with their words in reverse order, before the end symbol."""
        words = self.flipped(self.words, keep_end=True)
        return Sources(words, self.unfinished, self.shortest)


@dataclass(frozen=True)
class Targets:
    """Target phrases as a model reads and predicts them, time first.

    The symbols to predict are packed: `symbols` are the places in a flattened (time, phrases)
    array that hold a word or an end symbol, so no product is spent on padding.
    """

    words: Tensor  # (time, phrases) int64 ids, the end symbol included, then padding (also `END`)
    symbols: Tensor  # (symbols,) int64 places in the flattened (time, phrases) array, ascending
    phrases: Tensor  # (symbols,) int64 phrase to which each belongs
    symbol_words: Tensor  # (symbols,) int64 id of each


@dataclass(frozen=True)
class Batch:
    """Phrase pairs as a model reads them."""

    source: Sources
    target: Targets
    weights: Tensor | None = None  # (pairs,) float32 weight in the objective; None: all alike


def source_batch(phrases: PhraseIds, rows: Rows, device: torch.device | str = "cpu") -> Sources:
    """The source phrases of these rows, padded."""
    words, lengths = _time_first(phrases, rows)
    unfinished = np.arange(len(words))[:, None] < lengths
    shortest = int(lengths.min(initial=len(words)))
    return Sources(_tensor(words, device), _tensor(unfinished, device), shortest)


def target_batch(phrases: PhraseIds, rows: Rows, device: torch.device | str = "cpu") -> Targets:
    """The target phrases of these rows, padded, and where their symbols are."""
    words, lengths = _time_first(phrases, rows)
    symbols = np.flatnonzero((np.arange(len(words))[:, None] < lengths).ravel())
    arrays = (words, symbols, symbols % len(rows), words.ravel()[symbols])
    return Targets(*(_tensor(array, device) for array in arrays))


def pair_batch(pairs: PhrasePairs, rows: Rows, device: torch.device | str = "cpu") -> Batch:
    """The pairs of these rows."""
    source = source_batch(pairs.source, rows, device)
    target = target_batch(pairs.target, rows, device)
    weights = None if pairs.weights is None else _tensor(pairs.weights[rows], device)
    return Batch(source, target, weights)


def split_batch(batch: Batch, count: int) -> list[Batch]:
    """The pairs of a batch in so many batches of neighbours, of nearly the same size."""
    pairs = batch.target.words.shape[1]
    bounds = [pairs * place // count for place in range(count + 1)]
    return [_part(batch, first, last) for first, last in pairwise(bounds)]


def _part(batch: Batch, first: int, last: int) -> Batch:
    source, target, columns = batch.source, batch.target, slice(first, last)
    unfinished = source.unfinished[:, columns]
    steps = int(unfinished.sum(0).max())
    inside = (target.phrases >= first) & (target.phrases < last)
    times = target.symbols[inside] // target.words.shape[1]
    phrases = target.phrases[inside] - first
    return Batch(
        Sources(source.words[:steps, columns], unfinished[:steps].contiguous(), source.shortest),
        Targets(
            target.words[: int(times.max()) + 1, columns],
            times * (last - first) + phrases,
            phrases,
            target.symbol_words[inside],
        ),
        None if batch.weights is None else batch.weights[columns],
    )


def _time_first(
    phrases: PhraseIds, rows: Rows
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """((longest + 1, rows) ids padded with END, (rows,) lengths with the end symbol)."""
    words = np.ascontiguousarray(phrases.padded(rows, END).T, np.int64)
    return words, phrases.offsets[rows + 1] - phrases.offsets[rows] + 1


def _tensor(array: npt.NDArray[np.generic], device: torch.device | str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True)


def by_length(lengths: npt.NDArray[np.int64], size: int) -> Iterator[Rows]:
    """Rows in batches of at most `size`, sorted by length, for the least padding."""
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), size):
        yield order[start : start + size]


class TrainingOrder:
    """Which pairs stand in which batch: a function of (seed, epoch, number), so that a resumed
    training needs to remember nothing but its update.

    An epoch is a random permutation, cut into pools of `pool` batches; within a pool pairs are
    sorted by length (target, then source) and cut into batches, which come in random order. (The
    released code of Cho et al. sorts pools of 10 batches: GroundHog, experiments/nmt.)
    """

    def __init__(self, pairs: PhrasePairs, size: int, pool: int, seed: int) -> None:
        self.size = size
        self.pool = pool
        self.seed = seed
        lengths = np.minimum(pairs.target.lengths, 2**15 - 1)
        self._keys = (lengths << 16 | np.minimum(pairs.source.lengths, 2**15)).astype(np.int32)
        self.batches = max(1, -(-len(pairs) // size))  # in an epoch
        self._permuted = lru_cache(maxsize=1)(self._permute)
        self._batches = lru_cache(maxsize=1)(self._cut)

    def rows(self, number: int) -> Rows:
        """The rows of batch `number` (from 0, running on over the epochs)."""
        epoch, number = divmod(number, self.batches)
        pool, place = divmod(number, self.pool)
        return self._batches(epoch, pool)[place]

    def _permute(self, epoch: int) -> Rows:
        return np.random.default_rng([self.seed, epoch]).permutation(len(self._keys))

    def _rows_of_pool(self, epoch: int, pool: int) -> Rows:
        span = self.size * self.pool
        return self._permuted(epoch)[pool * span : (pool + 1) * span]

    def _cut(self, epoch: int, pool: int) -> list[Rows]:
        rows = self._rows_of_pool(epoch, pool)
        keys = self._keys[rows].astype(np.int64)
        batches = [rows[chosen] for chosen in by_length(keys, self.size)]
        np.random.default_rng([self.seed, epoch, pool]).shuffle(batches)
        return batches


class MixedOrder(TrainingOrder):
    """The same where each file has a share, however many pairs it has, and there is no epoch.

    Of each file, one random permutation of its pairs follows the other. A pool takes of each as
    many as its share says, to a pair or two over the whole training.
    """

    def __init__(
        self, pairs: PhrasePairs, size: int, pool: int, seed: int, shares: Sequence[float]
    ) -> None:
        super().__init__(pairs, min(size, len(pairs)), pool, seed)
        self._shares = shares
        numbers = pairs.file_numbers
        self._rows_of = [np.flatnonzero(numbers == number) for number in range(len(shares))]
        self._round = lru_cache(maxsize=2 * len(shares))(self._permute_file)

    @override
    def rows(self, number: int) -> Rows:
        pool, place = divmod(number, self.pool)
        return self._batches(0, pool)[place]

    @override
    def _rows_of_pool(self, epoch: int, pool: int) -> Rows:
        span = self.size * self.pool
        bounds = zip(self._seen(pool * span), self._seen((pool + 1) * span), strict=True)
        parts = [self._stream(file, *bound) for file, bound in enumerate(bounds)]
        order = np.random.default_rng([self.seed, pool, 1, 0]).permutation(span)
        return np.concatenate(parts)[order]

    def _seen(self, total: int) -> list[int]:
        """How many pairs of each file are among the first `total`; none ever becomes less."""
        found = []
        for place, share in enumerate(self._shares):
            rest = sum(self._shares[place:])
            found.append(total if share == rest else int(total * (share / rest)))
            total -= found[-1]
        return found

    def _stream(self, file: int, start: int, stop: int) -> Rows:
        """The rows of a file from place `start` of its stream to `stop`."""
        size = len(self._rows_of[file])
        rounds = range(start // size, -(-stop // size))
        parts = [
            self._round(file, number)[max(0, start - number * size) : stop - number * size]
            for number in rounds
        ]
        return np.concatenate([np.zeros(0, np.int64), *parts])

    def _permute_file(self, file: int, number: int) -> Rows:
        draw = np.random.default_rng([self.seed, number, 0, file])
        return draw.permutation(self._rows_of[file])
