"""Is one system better than another, or was it chance? Paired bootstrap, approximate randomisation.

Works on statistics that add up over sentences (matched n-grams, edits, lengths): a resampled test
set is a matrix product away, and only its score is computed by the metric itself. A system is one
array of statistics a tuning run; with one run each, the draws are those of sacreBLEU's
`significance.py`, so that intervals and p-values are sacreBLEU's own. Knows no file and no metric.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Statistics = NDArray[np.float64]  # (sentences, statistics of a metric), of one run
Scores = NDArray[np.float64]  # (samples,)
Score = Callable[[list[float]], float]  # of the sums of the statistics

CELLS_AT_ONCE = 1 << 22  # of (samples, sentences, runs): some tens of megabytes
TIE = 1e-9  # differences of scores in percent, closer than this, are equal


def resample_counts(sentences: int, samples: int, seed: int) -> NDArray[np.uint16]:
    """How often each sentence stands in each resampled test set, (samples, sentences).

    Koehn 2004, "Statistical Significance Tests for Machine Translation Evaluation": as many
    sentences as the test set has, drawn with replacement.
    """
    chance = np.random.default_rng(seed)
    counts = np.empty((samples, sentences), np.uint16)
    for rows in _blocks(samples, sentences):
        drawn = chance.choice(sentences, size=(len(rows), sentences), replace=True)
        drawn += np.arange(len(rows))[:, None] * sentences
        flat = np.bincount(drawn.ravel(), minlength=drawn.size)
        counts[rows.start : rows.stop] = flat.reshape(len(rows), sentences)
    return counts


def bootstrap_scores(
    runs: Sequence[Statistics], score: Score, counts: NDArray[np.uint16]
) -> Scores:
    """The score of each resampled test set: the mean over the runs of a system."""
    total = np.zeros(len(counts))
    for rows in _blocks(*counts.shape):
        part = slice(rows.start, rows.stop)
        weights = counts[part].astype(np.float64)
        for statistics in runs:
            total[part] += [score(sums) for sums in (weights @ statistics).tolist()]
    return total / len(runs)


def interval(scores: Scores) -> tuple[float, float]:
    """The bounds that hold 95 % of the resampled scores: the percentiles that sacreBLEU takes."""
    ordered = np.sort(scores)
    outside = len(ordered) // 40
    return float(ordered[outside]), float(ordered[len(ordered) - outside - 1])


def bootstrap_p(differences: Scores, observed: float) -> float:
    """The p-value of the paired bootstrap, in the form of sacreBLEU and of Moses' script.

    (c + 1) / (n + 1), where c counts the samples whose absolute difference exceeds the mean of
    those absolute differences by at least |observed|: two-sided in that a difference in either
    direction counts (Moses: scripts/analysis/bootstrap-hypothesis-difference-significance.pl).
    Where the systems are nearly equal, the mean of absolute differences is well above the
    difference itself, and p comes out smaller than by randomisation.

    Args:
        differences: System less baseline, of each resampled test set.
        observed: System less baseline, of the test set itself.
    """
    absolute = np.abs(differences)
    return _p(absolute - absolute.mean(), observed)


def randomisation_p(
    baseline: Sequence[Statistics],
    system: Sequence[Statistics],
    score: Score,
    samples: int,
    seed: int,
) -> float:
    """The two-sided p-value of stratified approximate randomisation.

    (c + 1) / (n + 1), where c counts the shuffles with an absolute difference of at least the one
    observed. With one run each, a shuffle swaps the two outputs of a sentence or leaves them. With
    several, as in Clark et al. 2011, "Better Hypothesis Testing for Statistical Machine
    Translation: Controlling for Optimizer Instability", and in their multeval, the outputs of all
    runs for a sentence are pooled and dealt anew to the two systems, each getting as many as it has
    runs; a system's score is then that of its runs taken as one long test set.

    Equal differences count, as they do in the exact test: a system against itself gets 1 (and not,
    as in sacreBLEU and multeval, 1 / (n + 1)). Runs of one system are much alike, and this test
    takes them for independent: the p-value of each output given three times is far below that of
    each given once. The bootstrap, which draws sentences, does not change then.
    """
    pooled = [*baseline, *system]
    own = np.sum(baseline, axis=(0, 1))
    total = np.sum(pooled, axis=(0, 1))
    observed = score((total - own).tolist()) - score(own.tolist())
    differences: list[float] = []
    for dealt in _deals(len(pooled[0]), len(baseline), len(system), samples, seed):
        sums = np.zeros((len(dealt), len(total)))
        for run, statistics in enumerate(pooled):
            sums += dealt[:, :, run].astype(np.float64) @ statistics
        for first, second in zip(sums.tolist(), (total - sums).tolist(), strict=True):
            differences.append(score(second) - score(first))
    return _p(np.abs(differences), observed)


def _deals(
    sentences: int, baseline_runs: int, system_runs: int, samples: int, seed: int
) -> Iterator[NDArray[np.bool_]]:
    """Which outputs a shuffle gives to the baseline, (some samples, sentences, runs of both)."""
    chance = np.random.default_rng(seed)
    runs = baseline_runs + system_runs
    coins = None
    if runs == 2:  # all at once: drawn block by block, sacreBLEU's coins would fall otherwise
        coins = chance.integers(2, size=(samples, sentences), dtype=np.bool_)
    for rows in _blocks(samples, sentences * runs):
        if coins is not None:
            heads = coins[rows.start : rows.stop]
            yield np.stack([heads, ~heads], axis=-1)
            continue
        numbers = chance.random((len(rows), sentences, runs))
        last = np.partition(numbers, baseline_runs - 1)[..., baseline_runs - 1, None]
        yield numbers <= last


def _blocks(samples: int, cells: int) -> Iterator[range]:
    """The numbers of the samples, in blocks of so many as fit."""
    size = max(1, CELLS_AT_ONCE // max(1, cells))
    return (range(start, min(start + size, samples)) for start in range(0, samples, size))


def _p(chance: NDArray[Any], observed: float) -> float:
    """(c + 1) / (n + 1): never 0, since the test set itself is one of the possible samples."""
    count = int(np.count_nonzero(chance >= abs(observed) - TIE))
    return (count + 1) / (len(chance) + 1)
