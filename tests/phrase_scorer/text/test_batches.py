"""Padding, masks and packed symbols worked by hand; the training order covers every row once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import phrase_ids, phrase_pairs

from phrase_scorer.text.batches import (
    MixedOrder,
    TrainingOrder,
    by_length,
    pair_batch,
    source_batch,
    split_batch,
    target_batch,
)


def test_source_batch():
    sources = source_batch(phrase_ids([[9], [5, 6, 7], [], [8, 8]]), np.array([1, 3]))
    assert sources.words.tolist() == [[5, 8], [6, 8], [7, 0], [0, 0]]
    assert sources.words.dtype == torch.int64
    assert sources.unfinished.tolist() == [[True, True], [True, True], [True, True], [True, False]]
    assert sources.shortest == 3


def test_empty_source_phrases_have_their_end_symbol():
    sources = source_batch(phrase_ids([[], [4]]), np.array([0, 1]))
    assert sources.words.tolist() == [[0, 4], [0, 0]]
    assert sources.unfinished.tolist() == [[True, True], [False, True]]
    assert sources.shortest == 1
    assert source_batch(phrase_ids([[]]), np.array([0])).words.tolist() == [[0]]


def test_target_batch_packs_the_symbols():
    targets = target_batch(phrase_ids([[5, 6], [], [7]]), np.array([0, 1, 2]))
    assert targets.words.tolist() == [[5, 0, 7], [6, 0, 0], [0, 0, 0]]
    assert targets.symbols.tolist() == [0, 1, 2, 3, 5, 6]
    assert targets.phrases.tolist() == [0, 1, 2, 0, 2, 0]
    assert targets.symbol_words.tolist() == [5, 0, 7, 6, 0, 0]


def test_pair_batch_takes_the_weights_of_its_rows():
    pairs = [([2], [3]), ([4], [5]), ([6], [7])]
    batch = pair_batch(phrase_pairs(pairs, [1.0, 2.0, 3.0]), np.array([2, 0]))
    assert batch.source.words[0].tolist() == [6, 2]
    assert batch.target.words[0].tolist() == [7, 3]
    assert batch.weights.tolist() == [3.0, 1.0]
    assert pair_batch(phrase_pairs(pairs), np.array([1])).weights is None


def test_by_length():
    lengths = np.array([3, 1, 2, 1, 3, 2, 1])
    batches = [rows.tolist() for rows in by_length(lengths, 3)]
    assert batches == [[1, 3, 6], [2, 5, 0], [4]]
    assert list(by_length(np.zeros(0, np.int64), 3)) == []


@pytest.fixture
def some_pairs():
    random = np.random.default_rng(5)
    return phrase_pairs(
        [([2] * random.integers(0, 6), [3] * random.integers(0, 5)) for _ in range(103)]
    )


@pytest.mark.parametrize(("size", "pool"), [(8, 3), (1, 1), (103, 2), (200, 10), (10, 1000)])
def test_an_epoch_covers_every_row_once(size, pool, some_pairs):
    order = TrainingOrder(some_pairs, size, pool, seed=1)
    assert order.batches == -(-103 // size)
    for epoch in range(2):
        numbers = range(epoch * order.batches, (epoch + 1) * order.batches)
        parts = [order.rows(number) for number in numbers]
        assert all(0 < len(rows) <= size for rows in parts)
        assert sorted(np.concatenate(parts).tolist()) == list(range(103))


def test_order_is_a_function_of_seed_and_number(some_pairs):
    straight = TrainingOrder(some_pairs, 8, 3, seed=1)
    expected = [straight.rows(number).tolist() for number in range(40)]
    again = TrainingOrder(some_pairs, 8, 3, seed=1)
    for number in np.random.default_rng(2).permutation(40):
        assert again.rows(int(number)).tolist() == expected[number]
    other = TrainingOrder(some_pairs, 8, 3, seed=2)
    assert [other.rows(number).tolist() for number in range(13)] != expected[:13]
    assert expected[:13] != expected[13:26]  # the second epoch is another permutation


def test_batches_of_a_pool_are_sorted_by_length(some_pairs):
    order = TrainingOrder(some_pairs, 8, 1000, seed=1)
    batches = [order.rows(number) for number in range(order.batches)]
    spans = [some_pairs.target.lengths[rows] for rows in batches]
    assert sum(int(span.max() - span.min()) for span in spans) <= 4  # 5 lengths: 4 boundaries
    sources = some_pairs.source.lengths
    keys = [some_pairs.target.lengths[rows] * 100 + sources[rows] for rows in batches]
    assert all((np.diff(key) >= 0).all() for key in keys)
    firsts = [int(key[0]) for key in keys]
    assert firsts != sorted(firsts)  # but they come in random order


def test_sources_backwards():
    sources = source_batch(phrase_ids([[9], [5, 6, 7], []]), np.arange(3))
    backwards = sources.backwards()
    assert backwards.words.T.tolist() == [[9, 0, 0, 0], [7, 6, 5, 0], [0, 0, 0, 0]]
    assert torch.equal(backwards.unfinished, sources.unfinished)
    whole = sources.flipped(sources.words, keep_end=False)
    assert whole.T.tolist() == [[0, 9, 0, 0], [0, 7, 6, 5], [0, 0, 0, 0]]
    values = torch.arange(24).view(4, 3, 2)
    assert torch.equal(sources.flipped(values, keep_end=False)[:, 1], values[:, 1].flip(0))
    assert sources.last.tolist() == [1, 3, 0]


@pytest.fixture
def mixed_pairs(some_pairs):
    """Three files: of 3, 60 and 40 pairs, one after the other."""
    return replace(some_pairs, files=np.repeat(np.arange(3, dtype=np.uint16), [3, 60, 40]))


SHARES = (0.5, 0.3, 0.2)


def test_each_file_has_its_share_of_every_pool(mixed_pairs):
    order = MixedOrder(mixed_pairs, 8, 5, 1, SHARES)
    seen = np.zeros(3)
    for pool in range(30):
        rows = np.concatenate([order.rows(number) for number in range(5 * pool, 5 * pool + 5)])
        assert len(rows) == 40
        counts = np.bincount(mixed_pairs.files[rows], minlength=3)
        np.testing.assert_allclose(counts, np.array(SHARES) * 40, atol=1)
        seen += counts
        np.testing.assert_allclose(seen, np.array(SHARES) * 40 * (pool + 1), atol=1)


@pytest.mark.parametrize("shares", [SHARES, (0.001, 0.9, 0.099), (1 / 3, 1 / 3, 1 / 3)])
def test_the_pairs_of_a_file_come_evenly(shares, mixed_pairs):
    """None stands in a later permutation before all have stood in the one before."""
    order = MixedOrder(mixed_pairs, 8, 5, 1, shares)
    times = np.zeros(len(mixed_pairs), int)
    for pool in range(40):
        np.add.at(times, np.concatenate([order.rows(5 * pool + place) for place in range(5)]), 1)
        for file in range(3):
            of_file = times[mixed_pairs.files == file]
            assert of_file.max() - of_file.min() <= 1


def test_a_mixed_order_is_a_function_of_seed_and_number(mixed_pairs):
    straight = MixedOrder(mixed_pairs, 8, 3, 1, SHARES)
    expected = [straight.rows(number).tolist() for number in range(40)]
    again = MixedOrder(mixed_pairs, 8, 3, 1, SHARES)
    for number in np.random.default_rng(2).permutation(40):
        assert again.rows(int(number)).tolist() == expected[number]
    other = MixedOrder(mixed_pairs, 8, 3, 2, SHARES)
    assert [other.rows(number).tolist() for number in range(40)] != expected
    assert all(len(rows) == 8 for rows in expected)
    spans = [np.ptp(mixed_pairs.target.lengths[rows]) for rows in expected]
    assert np.mean(spans) < 2.5  # of a pool, those of like length


def test_a_batch_is_no_larger_than_all_pairs(mixed_pairs):
    assert len(MixedOrder(mixed_pairs, 200, 2, 1, SHARES).rows(0)) == 103


@pytest.mark.parametrize("count", [1, 2, 5])
def test_parts_of_a_batch_are_batches_of_its_rows(some_pairs, count):
    weighed = replace(some_pairs, weights=np.arange(103, dtype=np.float32))
    rows = np.arange(40)[::-1].copy()
    parts = split_batch(pair_batch(weighed, rows), count)
    assert [part.target.words.shape[1] for part in parts] == [40 // count] * count
    for part, own in zip(parts, np.array_split(rows, count), strict=True):
        expected = pair_batch(weighed, own)
        assert part.source.words.tolist() == expected.source.words.tolist()
        assert part.source.unfinished.tolist() == expected.source.unfinished.tolist()
        assert part.source.shortest <= expected.source.shortest  # a mask more than needed
        for name in ("words", "symbols", "phrases", "symbol_words"):
            found = getattr(part.target, name).tolist()
            assert found == getattr(expected.target, name).tolist(), name
        assert part.weights.tolist() == expected.weights.tolist()
