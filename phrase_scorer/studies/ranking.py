"""How well scores rank the targets that a phrase table has for each source phrase."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from phrase_scorer.text.phrase_pairs import PhrasePairs


@dataclass(frozen=True)
class Ranking:
    """Over the aligned occurrences of sources whose targets were not all seen equally often."""

    first: float  # share of the occurrences whose target has the highest score of its source
    reciprocal: float  # mean of 1 / rank of the target


def ranking_quality(pairs: PhrasePairs, scores: npt.ArrayLike) -> Ranking | None:
    """How well scores, the higher the better, rank the targets of each source.

    The pairs are all targets of some source phrases, weighed by how often each was aligned. Equal
    scores count as in random order. None: nothing to rank, since no weights differ in a source.
    """
    if pairs.weights is None:
        return None
    values = np.asarray(scores, np.float64)
    counts = pairs.weights.astype(np.float64)
    _, source = np.unique(pairs.source.hashes(), return_inverse=True)
    first, reciprocal, occurrences = 0.0, 0.0, 0.0
    order = np.argsort(source, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(source[order])) + 1):
        seen = counts[rows]
        if (seen == seen[0]).all():
            continue
        seen = _in_order(seen, values[rows])
        first += seen[0]
        reciprocal += float((seen / np.arange(1, len(seen) + 1)).sum())
        occurrences += seen.sum()
    if not occurrences:
        return None
    return Ranking(float(first / occurrences), float(reciprocal / occurrences))


def _in_order(
    counts: npt.NDArray[np.float64], scores: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The counts by falling score; of equal scores each has their mean."""
    _, tie, size = np.unique(-scores, return_inverse=True, return_counts=True)
    means = np.bincount(tie, counts) / size
    return means[np.sort(tie)]
