"""What a model is trained on: distinct pairs as ids, and the shortlists these are ids of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np

from phrase_scorer.errors import DataError
from phrase_scorer.models import Direction
from phrase_scorer.runtime.streams import paused_garbage_collection, prefetch
from phrase_scorer.text.collector import PairCollector
from phrase_scorer.text.phrase_pairs import PairBlock, PhrasePairs
from phrase_scorer.text.vocabulary import Counts, Vocabulary, renumbered, shortlists

MOST_HELD_OUT = 0.2  # of a file that has a share; a small one is what the shares are for


class PairsOfFile(NamedTuple):
    """The pairs of one file, or of a program."""

    path: str  # for messages
    blocks: Iterable[PairBlock]


class FileShare(NamedTuple):
    """A file, and the share of its pairs in all that are seen in training."""

    path: str
    share: float  # they sum to 1


@dataclass(frozen=True)
class TrainingData:
    """Pairs, each distinct one once, the model's input side first, and the words of both sides."""

    pairs: PhrasePairs  # ids of the vocabularies; weights are sums of counts, where there are any
    vocabularies: tuple[Vocabulary, Vocabulary]  # (source, target); the same one where shared
    validation: PhrasePairs | None = None  # None: the pairs of some source phrases are held out
    mix: tuple[FileShare, ...] = ()  # where files have shares: a pair is distinct within its file
    unknown: Mapping[str, Counts] = field(default_factory=dict)  # by side, to vocabularies given

    @property
    def shares(self) -> tuple[float, ...]:
        """Those of the files; none where each pair is seen as often as any other."""
        return tuple(file.share for file in self.mix)

    def split(
        self, held_out: int, seed: int, by: Literal["sources", "trigrams"] = "sources"
    ) -> tuple[PhrasePairs, PhrasePairs]:
        """(pairs to train on, pairs to validate on), about `held_out` where none are given.

        Validation pairs have source phrases, or source trigrams, that no pair to train on has.
        """
        if self.validation is not None:
            return self.pairs, self.validation
        if by == "trigrams":
            return self.pairs.split_by_trigram(held_out, seed)
        if not self.mix:
            return self.pairs.split_by_source(held_out, seed)
        files, keys = self.pairs.file_numbers, self.pairs.source_keys(seed)
        wanted = held_out * np.array(self.shares) / np.bincount(files)
        limits = (np.minimum(wanted, MOST_HELD_OUT) * 2**64).astype(np.uint64)
        chosen = keys < limits[files]
        if held_out and not chosen.any():  # a handful of sources: hold out just one of them
            chosen = keys == keys.min()
        rest = self.pairs.take(np.flatnonzero(~np.isin(keys, keys[chosen])))
        left = np.bincount(rest.file_numbers, minlength=len(self.mix))
        for file, count in zip(self.mix, left, strict=True):
            if not count:
                message = "all its sources are held out to validate: lower --validation-pairs"
                raise DataError(message, path=file.path)
        return rest, self.pairs.take(np.flatnonzero(chosen))


def collect_training_data(
    files: Sequence[PairsOfFile],
    *,
    shortlist: int,
    direction: Direction = "forward",
    shared_words: bool = False,
    shares: Sequence[float] = (),
    vocabularies: tuple[Vocabulary, Vocabulary] | None = None,
) -> TrainingData:
    """Reads all pairs; a DataError where a file has none.

    Args:
        files: Pairs as words.
        shortlist: Words of each side that the model knows, `<unk>` included.
        direction: "inverse": the sides change places.
        shared_words: One shortlist for both sides.
        shares: How much of training each file is to be, in proportion. A pair in several files then
            counts in each, and weights have a mean of 1 in each.
        vocabularies: The words of a model that there is; `shortlist` says nothing then.
    """
    collector, counts = PairCollector(), []
    with paused_garbage_collection():
        for file in files:
            counts.append(0)
            for block in prefetch(file.blocks):
                sides = block.sources, block.targets
                collector.add(
                    PairBlock(*(sides[::-1] if direction == "inverse" else sides), block.counts)
                )
                counts[-1] += len(block.sources)
            if not counts[-1]:
                raise DataError("no pairs to train on", path=file.path)
    pairs = collector.finish()
    if shares:
        pairs = replace(pairs, files=np.repeat(np.arange(len(files), dtype=np.uint16), counts))
    pairs = pairs.unique()
    if shares and pairs.weights is not None:
        numbers = pairs.file_numbers
        means = np.bincount(numbers, pairs.weights) / np.bincount(numbers)
        pairs = replace(pairs, weights=(pairs.weights / means[numbers]).astype(np.float32))
    mix = tuple(FileShare(files[n].path, share / sum(shares)) for n, share in enumerate(shares))
    if vocabularies is None:
        vocabularies = shortlists(collector, pairs, shortlist, shared=shared_words)
        return TrainingData(pairs, vocabularies, mix=mix)
    unknown = renumbered(collector, pairs, vocabularies)
    return TrainingData(pairs, vocabularies, mix=mix, unknown=unknown)
