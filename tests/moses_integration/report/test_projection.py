"""Maps of vectors whose neighbours and groups are known."""

from __future__ import annotations

import numpy as np
import pytest

from moses_integration.report.projection import PCA, TSNE, dense_regions, nearest, project


def clusters(sizes: list[int], seed: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    middles = random.normal(size=(len(sizes), 20))
    rows = [middle + 0.05 * random.normal(size=20)
            for middle, size in zip(middles, sizes, strict=True) for _ in range(size)]  # fmt: skip
    return np.array(rows, np.float32)


def test_neighbours_by_hand():
    vectors = np.array([[1, 0], [2, 0.1], [0, 1], [-1, 0]], np.float32)
    assert nearest(vectors, 10).tolist() == [[1, 2, 3], [0, 2, 3], [1, 0, 3], [2, 1, 0]]
    assert nearest(vectors[:1], 10).shape == (1, 0)


def test_neighbours_of_more_than_one_part():
    vectors = np.random.default_rng(1).normal(size=(700, 8)).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    likeness = unit.astype(float) @ unit.T.astype(float) - 9 * np.eye(700)
    found = nearest(vectors, 3)
    assert found[:, 0].tolist() == likeness.argmax(1).tolist()


@pytest.mark.parametrize("installed", [True, False])
def test_clusters_stay_together(installed, monkeypatch):
    if installed:
        pytest.importorskip("openTSNE")
    else:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    plane, how = project(clusters([30, 30]), 1)
    assert how == (TSNE if installed else PCA)
    assert np.abs(plane).max(0) == pytest.approx([1, 1])
    apart = np.linalg.norm(plane[:, None] - plane[None], axis=2) + 9 * np.eye(60)
    assert (apart.argmin(1) // 30 == np.arange(60) // 30).all()  # the next one is of the same group
    assert np.array_equal(plane, project(clusters([30, 30]), 1)[0])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_very_few_points(count):
    plane, _ = project(clusters([1] * count), 1)
    assert plane.shape == (count, 2)
    assert np.isfinite(plane).all()


def test_the_densest_regions_are_found():
    random = np.random.default_rng(1)
    crowd, group = random.normal([0.5, 0.5], 0.02, (40, 2)), random.normal([-0.5, 0], 0.02, (20, 2))
    scattered = random.uniform(-1, -0.8, (5, 2))
    regions = dense_regions(np.concatenate([scattered, group, crowd]), 4)
    assert [sorted(region.tolist()) for region in regions] == [[*range(25, 65)], [*range(5, 25)]]
