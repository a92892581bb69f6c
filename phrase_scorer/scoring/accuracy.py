"""How far scores of reduced precision are from exact ones, and how well scores rank targets.

Measured on the user's own pairs, because it depends on the model and on the pairs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from phrase_scorer.scoring.scorer import PhraseScorer
from phrase_scorer.text.phrase_pairs import PairBlock, PhrasePairs

SAMPLED_PAIRS = 2048
STRETCH = 64  # consecutive ones among them, so that targets of one source come together

_Scores = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Accuracy:
    """Error of approximate scores, measured against exact ones, in nats."""

    pairs: int  # that were compared
    mean: float  # of the absolute differences
    largest: float  # absolute difference
    shift: float  # mean of the signed differences: what a constant offset would explain
    correlation: float | None  # Spearman's, of a source's targets; None: no source has two

    def __str__(self) -> str:
        said = f"mean {self.mean:.1e}, largest {self.largest:.1e} nats on {self.pairs:,} pairs"
        if abs(self.shift) > self.mean / 2:
            said += f" (mean shift {self.shift:+.1e})"
        if self.correlation is not None:
            said += f"; rank correlation within sources {self.correlation:.5f}"
        return said


def measure_accuracy(scorer: PhraseScorer, block: PairBlock) -> Accuracy:
    """The accuracy of a scorer, against the same model in float32; its words are not counted."""
    rows = _stretches(len(block.sources))
    sources, targets = ([side[row] for row in rows] for side in (block.sources, block.targets))
    pairs = scorer.ids(PairBlock(sources, targets), counted=False)
    return accuracy_of(scorer.score_ids(pairs), scorer.exact().score_ids(pairs), sources)


def _stretches(pairs: int) -> list[int]:
    """The rows of the sampled pairs."""
    if pairs <= SAMPLED_PAIRS:
        return list(range(pairs))
    starts = np.linspace(0, pairs - STRETCH, SAMPLED_PAIRS // STRETCH).astype(int).tolist()
    return sorted({start + i for start in starts for i in range(STRETCH)})


def accuracy_of(found: _Scores, truth: _Scores, sources: Sequence[Sequence[bytes]]) -> Accuracy:
    """The accuracy of scores `found` of pairs with these sources."""
    if not len(found):
        return Accuracy(0, 0.0, 0.0, 0.0, None)
    rows_of = defaultdict(list)
    for row, source in enumerate(sources):
        rows_of[tuple(source)].append(row)
    repeated = [rows for rows in rows_of.values() if len(rows) > 1]
    correlations = [rank_correlation(found[rows], truth[rows]) for rows in repeated]
    differences = found.astype(np.float64) - truth
    return Accuracy(
        len(found),
        float(np.abs(differences).mean()),
        float(np.abs(differences).max()),
        float(differences.mean()),
        float(np.mean(correlations)) if correlations else None,
    )


def rank_correlation(found: _Scores, truth: _Scores) -> float:
    """Spearman's, from -1 to 1; 1 where `truth` is constant and so has no order to be lost."""
    first, second = mean_ranks(found), mean_ranks(truth)
    first, second = first - first.mean(), second - second.mean()
    if not second.any():
        return 1.0
    norm = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / norm if norm else 0.0


def mean_ranks(values: _Scores) -> npt.NDArray[np.float64]:
    """Ranks from 0; equal values share the mean of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(count)
    means: npt.NDArray[np.float64] = ends - (count + 1) / 2
    return means[place]


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
