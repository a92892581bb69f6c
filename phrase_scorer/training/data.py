"""What a model is trained on: distinct pairs as ids, and the shortlists these are ids of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from phrase_scorer.errors import DataError
from phrase_scorer.models import Direction
from phrase_scorer.runtime.streams import paused_garbage_collection, prefetch
from phrase_scorer.text.phrase_pairs import PairBlock, PairCollector, PhrasePairs
from phrase_scorer.text.vocabulary import Vocabulary, shared_shortlist, shortlists


@dataclass(frozen=True)
class TrainingData:
    """Pairs, each distinct one once, the model's input side first.

    Attributes:
        pairs: As ids of the vocabularies; weights are the sums of their counts, if there are any.
        vocabularies: (source, target); both the same where the shortlist is shared.
    """

    pairs: PhrasePairs
    vocabularies: tuple[Vocabulary, Vocabulary]


def collect_training_data(
    blocks: Iterable[PairBlock],
    *,
    path: str | Path,
    shortlist: int,
    direction: Direction = "forward",
    shared_words: bool = False,
) -> TrainingData:
    """Reads all pairs.

    Args:
        blocks: Of pairs as words.
        path: Where they are from, for messages.
        shortlist: Words of each side that the model knows, `<unk>` included.
        direction: "inverse": the sides change places.
        shared_words: One shortlist for both sides.

    Raises:
        DataError: There are no pairs.
    """
    collector = PairCollector()
    with paused_garbage_collection():
        for block in prefetch(blocks):
            collector.add(block)
    pairs = collector.finish().unique()
    if not len(pairs):
        raise DataError("the phrase table is empty", path=path)
    if direction == "inverse":
        pairs = pairs.swapped()
        collector.swap()
    choose = shared_shortlist if shared_words else shortlists
    return TrainingData(pairs, choose(collector, pairs, shortlist))
