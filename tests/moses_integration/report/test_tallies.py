"""Correlations and histograms of parts, against numpy on all at once and counting by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from moses_integration.report.tallies import (
    COUNT_CLASSES,
    LEAST,
    Histogram,
    Moments,
    bins_of,
    count_class,
    logarithms,
    ranks_within,
    spearman,
)


def test_the_correlation_of_parts_is_numpys_of_all():
    random = np.random.default_rng(1)
    x = random.normal(1e6, 1, 1000)  # far from zero: sums of squares would lose their digits
    y = 0.3 * x + random.normal(-1e6, 1, 1000)
    moments = Moments()
    for part in np.split(np.arange(1000), [0, 1, 10, 500]):
        moments.add(x[part], y[part])
    assert moments.entries == 1000
    assert moments.correlation == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)


@pytest.mark.parametrize("x", [[], [1.0], [2.0, 2.0, 2.0]])
def test_what_does_not_vary_has_no_correlation(x):
    moments = Moments()
    moments.add(np.array(x), np.arange(len(x), dtype=float))
    assert moments.correlation is None


def test_ranks_by_hand():
    assert spearman(np.array([3.0, 1, 3]), np.array([1.0, 2, 1])) == pytest.approx(-1)
    rising = np.array([1.0, 2, 3, 4])
    assert spearman(rising, np.exp(rising)) == pytest.approx(1)
    assert spearman(rising, np.array([1.0, 3, 2, 4])) == pytest.approx(0.8)  # 1 - 6*2/(4*15)


def test_ranks_within_groups_by_hand():
    groups = np.array([0, 0, 0, 1, 2, 2])
    values = np.array([1.0, 3, 1, 5, 2, 4])
    assert ranks_within(groups, values).tolist() == [2, 1, 2, 1, 2, 1]
    assert not len(ranks_within(groups[:0], values[:0]))


def test_ranks_within_groups_by_counting():
    random = np.random.default_rng(2)
    groups, values = np.sort(random.integers(0, 30, 200)), random.integers(0, 6, 200).astype(float)
    pairs = list(zip(groups, values, strict=True))
    counted = [1 + sum(g == group and v > value for g, v in pairs) for group, value in pairs]
    assert ranks_within(groups, values).tolist() == counted


def test_classes_of_counts():
    found = count_class(np.array([0.5, 1, 2, 3.9, 4, 9, 10, 1e6, np.nan]))
    assert [COUNT_CLASSES[place].split(" ")[0] for place in found] == [
        *("once", "once", "2–3", "2–3", "4–9", "4–9", "10", "10", "not"),
    ]


def test_logarithms_end_where_those_of_moses_do():
    assert logarithms(np.array([1.0, 0.5, 0.0])).tolist() == pytest.approx(
        [0, math.log(0.5), LEAST]
    )


def test_bins_by_hand():
    values = np.array([0.1, 0.0, -0.49, -0.5, -1.2, -100.0])
    assert bins_of(values).tolist() == [0, 0, 0, 1, 2, 200]
    histogram = Histogram(2)
    histogram.add(values, np.array([0, 0, 1, 0, 1, 1]))
    histogram.add(values[:1], np.array([1]))
    assert histogram.counts.sum(1).tolist() == [3, 4]
    assert histogram.counts[0, :2].tolist() == [2, 1]
    assert histogram.counts[1, 200] == 1
