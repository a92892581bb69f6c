"""Accuracy of scores: by hand, and on a model in reduced precision."""

from __future__ import annotations

import numpy as np
import pytest
from toys import tiny_model

from phrase_scorer import PhraseScorer
from phrase_scorer.runtime.device import Arithmetic
from phrase_scorer.scoring.accuracy import Accuracy, accuracy_of, measure_accuracy, rank_correlation
from phrase_scorer.text.phrase_pairs import PairBlock
from phrase_scorer.text.vocabulary import Vocabulary


def test_by_hand():
    found = np.array([-1.0, -2.0, -3.0, -7.0], np.float32)
    truth = np.array([-1.5, -2.0, -2.0, -7.0], np.float32)
    sources = [[b"a"], [b"a"], [b"a"], [b"b"]]
    accuracy = accuracy_of(found, truth, sources)
    assert (accuracy.pairs, accuracy.mean, accuracy.largest) == (4, 0.375, 1.0)
    assert accuracy.shift == -0.125
    # Ranks of source a: 2 1 0 against 2 ½ ½; "b" has one target only and does not count.
    assert accuracy.correlation == pytest.approx(1.5 / np.sqrt(2 * 1.5))


def test_as_a_user_reads_it():
    assert str(Accuracy(2000, 0.0034, 0.021, 0.0001, 0.99912)) == (
        "mean 3.4e-03, largest 2.1e-02 nats on 2,000 pairs; rank correlation within sources 0.99912"
    )
    assert str(Accuracy(3, 0.5, 0.75, -0.5, None)) == (
        "mean 5.0e-01, largest 7.5e-01 nats on 3 pairs (mean shift -5.0e-01)"
    )


@pytest.mark.parametrize(
    ("found", "truth", "expected"),
    [
        ([1, 2, 3], [5, 6, 9], 1.0),
        ([1, 2, 3], [3, 2, 1], -1.0),
        ([1, 2], [4, 4], 1.0),
        ([4, 4], [1, 2], 0.0),
    ],
)
def test_rank_correlation(found, truth, expected):
    assert rank_correlation(np.array(found, float), np.array(truth, float)) == expected


def test_nothing_to_compare():
    assert accuracy_of(np.zeros(0), np.zeros(0), []) == Accuracy(0, 0.0, 0.0, 0.0, None)


def test_of_a_model():
    words = [b"w%d" % i for i in range(20)]
    model = tiny_model(source_words=22, target_words=22, hidden=32, maxout=16, deviation=0.3)
    vocabularies = Vocabulary(words), Vocabulary(words)
    draw = np.random.default_rng(1)
    sources = [[words[i] for i in draw.integers(0, 20, 3)] for _ in range(10)]
    block = PairBlock(
        [sources[i % 10] for i in range(200)],
        [[words[i] for i in draw.integers(0, 20, 4)] for _ in range(200)],
    )
    scorer = PhraseScorer(model, *vocabularies, arithmetic=Arithmetic("cpu", "int8"))
    found = measure_accuracy(scorer, block)
    assert found.pairs == 200
    assert 0 < found.mean < 0.02
    assert 0.99 < found.correlation <= 1
    same = measure_accuracy(scorer.exact(), block)
    assert (same.mean, same.correlation) == (0.0, 1.0)
    many = PairBlock(block.sources * 50, block.targets * 50)
    assert measure_accuracy(scorer, many).pairs == 2048
    assert [vocabulary.counts.looked_up for vocabulary in vocabularies] == [0, 0]
