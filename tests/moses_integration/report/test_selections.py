"""The lowest of many keys, against sorting all of them."""

from __future__ import annotations

import numpy as np
import pytest

from moses_integration.report.selections import Lowest


@pytest.mark.parametrize("size", [0, 1, 7, 50, 500])
def test_as_sorting_everything(size):
    random = np.random.default_rng(size)
    keys = random.integers(0, 40, 300).astype(float)  # many are equal
    kept = Lowest(size)
    for part in np.array_split(np.arange(300), 11):
        kept.add(keys[part], lambda place, part=part: int(part[place]))
    assert kept.items() == sorted(range(300), key=lambda place: (keys[place], place))[:size]


def test_an_infinite_key_is_never_kept():
    kept = Lowest(5)
    kept.add(np.array([np.inf, 1.0, np.inf]), lambda place: place)
    assert kept.items() == [1]


def test_items_are_made_only_if_they_may_stay():
    kept, made = Lowest(2), []
    for start in range(0, 1000, 10):
        kept.add(np.arange(start, start + 10.0), lambda place: made.append(place) or place)
    assert len(made) == 10


def test_random_keys_make_a_fair_sample():
    random, drawn = np.random.default_rng(1), np.zeros(20)
    for _ in range(2000):
        kept = Lowest(5)
        for start in (0, 10):
            kept.add(random.random(10), lambda place, start=start: start + place)
        drawn[kept.items()] += 1
    assert abs(drawn / 2000 - 5 / 20).max() < 0.05  # five standard deviations
