"""What a model is trained on, in both directions."""

from __future__ import annotations

import pytest

from phrase_scorer.errors import DataError
from phrase_scorer.text.phrase_pairs import PairBlock
from phrase_scorer.training.data import collect_training_data

BLOCKS = [
    PairBlock([[b"la", b"maison"], [b"la"]], [[b"the", b"house"], []], [2.0, 3.0]),
    PairBlock([[b"la"]], [[]], [0.5]),
]


def as_words(data):
    sides = zip((data.pairs.source, data.pairs.target), data.vocabularies, strict=True)
    source, target = (
        [[vocabulary.words[i] for i in phrases.phrase(row)] for row in range(len(phrases))]
        for phrases, vocabulary in sides
    )
    return source, target, data.pairs.weights.tolist()


def test_distinct_pairs_with_the_sums_of_their_counts():
    data = collect_training_data(BLOCKS, path="t", shortlist=9)
    assert as_words(data) == (
        [[b"la", b"maison"], [b"la"]], [[b"the", b"house"], []], [2.0, 3.5]
    )  # fmt: skip


def test_an_inverse_model_reads_the_target():
    source, target, weights = as_words(collect_training_data(BLOCKS, path="t", shortlist=9))
    inverse = collect_training_data(BLOCKS, path="t", shortlist=9, direction="inverse")
    assert as_words(inverse) == (target, source, weights)


def test_one_shortlist_for_both_sides():
    data = collect_training_data(BLOCKS, path="t", shortlist=9, shared_words=True)
    assert data.vocabularies[0] is data.vocabularies[1]
    assert data.vocabularies[0].words[2:] == (b"la", b"house", b"maison", b"the")
    assert as_words(data) == as_words(collect_training_data(BLOCKS, path="t", shortlist=9))


def test_no_pairs():
    with pytest.raises(DataError) as error:
        collect_training_data([], path="t", shortlist=9)
    assert str(error.value) == "t: no pairs to train on"
