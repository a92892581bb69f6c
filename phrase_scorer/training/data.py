"""What a model is trained on: distinct pairs as ids, and the shortlists these are ids of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from phrase_scorer.errors import DataError
from phrase_scorer.models import Direction
from phrase_scorer.runtime.streams import paused_garbage_collection, prefetch
from phrase_scorer.text.collector import PairCollector
from phrase_scorer.text.phrase_pairs import PairBlock, PhrasePairs
from phrase_scorer.text.vocabulary import Vocabulary, shortlists


@dataclass(frozen=True)
class TrainingData:
    """Pairs, each distinct one once, the model's input side first, and the words of both sides."""

    pairs: PhrasePairs  # ids of the vocabularies; weights are sums of counts, where there are any
    vocabularies: tuple[Vocabulary, Vocabulary]  # (source, target); the same one where shared
    validation: PhrasePairs | None = None  # None: the pairs of some source phrases are held out

    def split(self, held_out: int, seed: int) -> tuple[PhrasePairs, PhrasePairs]:
        """(pairs to train on, pairs to validate on), about `held_out` where none are given."""
        if self.validation is not None:
            return self.pairs, self.validation
        return self.pairs.split_by_source(held_out, seed)


def collect_training_data(
    blocks: Iterable[PairBlock],
    *,
    path: str | Path,
    shortlist: int,
    direction: Direction = "forward",
    shared_words: bool = False,
) -> TrainingData:
    """Reads all pairs, of the table at `path`; a DataError where it has none.

    Args:
        blocks: Pairs as words.
        path: For messages.
        shortlist: Words of each side that the model knows, `<unk>` included.
        direction: "inverse": the sides change places.
        shared_words: One shortlist for both sides.
    """
    if direction == "inverse":
        blocks = (PairBlock(block.targets, block.sources, block.counts) for block in blocks)
    collector = PairCollector()
    with paused_garbage_collection():
        for block in prefetch(blocks):
            collector.add(block)
    pairs = collector.finish().unique()
    if not len(pairs):
        raise DataError("no pairs to train on", path=path)
    vocabularies = shortlists(collector, pairs, shortlist, shared=shared_words)
    return TrainingData(pairs, vocabularies)
