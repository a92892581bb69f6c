"""Vectors as points of a plane, who is near whom, and where the plane is densest."""

from __future__ import annotations

import importlib.util

import numpy as np
import numpy.typing as npt

from phrase_scorer.scoring.scorer import Vectors

Points = npt.NDArray[np.float64]  # (points, 2)
Neighbours = npt.NDArray[np.int64]

LEAST_POINTS = 30  # of which t-SNE makes a map; fewer are only turned
REGION_POINTS = 12  # that a dense region has at least
TSNE = "Barnes–Hut t-SNE (van der Maaten 2013; openTSNE)"
PCA = "two principal components (openTSNE is not installed)"
TOO_FEW = "two principal components (too few points for t-SNE)"


def project(vectors: Vectors, seed: int) -> tuple[Points, str]:
    """(points of the plane, how they were found): as the paper's figures 4 and 5, where possible.

    Lengths do not count, as in the cosine. Each axis of the plane is scaled to [-1, 1].
    """
    points = _unit(vectors)
    plane, how = _principal(points), TOO_FEW
    if len(vectors) >= LEAST_POINTS:
        how = PCA
        if importlib.util.find_spec("openTSNE") is not None:
            plane, how = _tsne(points, seed), TSNE
    plane = plane - (plane.max(0) + plane.min(0)) / 2
    return plane / np.maximum(np.abs(plane).max(0), 1e-12), how


def _unit(vectors: Vectors) -> Points:
    wide = vectors.astype(np.float64)
    unit: Points = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    return unit


def _principal(points: Points) -> Points:
    """The first two principal components, each with the sign that makes its largest part positive.

    (The signs of singular vectors are arbitrary.)
    """
    _, _, axes = np.linalg.svd(points - points.mean(0), full_matrices=False)
    axes = axes[:2]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1)
    plane = (points - points.mean(0)) @ (axes * np.sign(largest)).T
    return np.pad(plane, ((0, 0), (0, 2 - plane.shape[1])))


def _tsne(points: Points, seed: int) -> Points:
    import openTSNE

    perplexity = min(30, (len(points) - 1) / 3)
    made = openTSNE.TSNE(
        perplexity=perplexity, initialization="pca", metric="cosine", neighbors="exact",
        negative_gradient_method="bh", n_jobs=1, random_state=seed,
    ).fit(points)  # fmt: skip
    return np.asarray(made, np.float64)


def nearest(vectors: Vectors, count: int) -> Neighbours:
    """(points, up to `count`) the others with the greatest cosine, the nearest first."""
    points = _unit(vectors)
    count = min(count, max(len(points) - 1, 0))
    found = np.zeros((len(points), count), np.int64)
    for start in range(0, len(points), 512):
        likeness = points[start : start + 512] @ points.T
        rows = np.arange(len(likeness))
        likeness[rows, rows + start] = -np.inf
        found[start : start + 512] = np.argsort(-likeness, axis=1, kind="stable")[:, :count]
    return found


def dense_regions(points: Points, count: int, radius: float = 0.13) -> list[Neighbours]:
    """Up to `count` groups of points that lie closest together, none near another.

    The one with most others within `radius` is the middle of the first, and so on among what is
    left; a group has its points from the middle outwards.
    """
    free = np.ones(len(points), bool)
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    regions = []
    for _ in range(count):
        near = (apart < radius) & free[None, :] & free[:, None]
        middle = int(near.sum(1).argmax())
        members = np.flatnonzero(near[middle])
        if len(members) < REGION_POINTS:
            break
        regions.append(members[np.argsort(apart[middle, members], kind="stable")])
        free &= apart[middle] > 2 * radius
    return regions
