"""Is one system better than another, or was it chance? Paired bootstrap, approximate randomisation.

Works on statistics that add up over sentences (matched n-grams, edits, lengths): a resampled test
set is a matrix product away, and only its score is computed by the metric itself. A system is one
array of statistics per tuning run; with one run each, the draws are those of sacreBLEU's
`significance.py`, so that intervals and p-values are sacreBLEU's own. `Metric` is the only place
that touches the inside of sacreBLEU's metrics. Knows no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric as SacreBleuMetric

RunStatistics = NDArray[np.float64]  # (sentences, statistics of a metric), of one run
Resampled = NDArray[np.float64]  # (samples,)
Score = Callable[[list[float]], float]  # of the sums of the statistics

CELLS_AT_ONCE = 1 << 22  # of (samples, sentences): some tens of megabytes
TIE = 1e-9  # differences of scores in percent, closer than this, are equal


def resample_counts(sentences: int, samples: int, seed: int) -> NDArray[np.uint16]:
    """How often each sentence stands in each resampled test set, (samples, sentences).

    Koehn 2004, "Statistical Significance Tests for Machine Translation Evaluation": as many
    sentences as the test set has, drawn with replacement.
    """
    chance = np.random.default_rng(seed)
    counts = np.empty((samples, sentences), np.uint16)
    for rows in _blocks(samples, sentences):
        drawn = chance.choice(sentences, size=counts[rows].shape, replace=True)
        drawn += np.arange(len(drawn))[:, None] * sentences
        counts[rows] = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
    return counts


def bootstrap_scores(
    runs: Sequence[RunStatistics], score: Score, counts: NDArray[np.uint16]
) -> Resampled:
    """The score of each resampled test set: the mean over the runs of a system."""
    total = np.zeros(len(counts))
    for rows in _blocks(*counts.shape):
        weights = counts[rows].astype(np.float64)
        for statistics in runs:
            total[rows] += [score(sums) for sums in (weights @ statistics).tolist()]
    return total / len(runs)


def interval(scores: Resampled) -> tuple[float, float]:
    """The bounds that hold 95 % of the resampled scores: the percentiles that sacreBLEU takes."""
    ordered = np.sort(scores)
    outside = len(ordered) // 40
    return float(ordered[outside]), float(ordered[len(ordered) - outside - 1])


def bootstrap_p(differences: Resampled, observed: float) -> float:
    """The p-value of the paired bootstrap, in the form of sacreBLEU and of Moses' script.

    Both arguments are system less baseline: of each resampled test set, and of the test set itself.

    (c + 1) / (n + 1), where c counts the samples whose absolute difference exceeds the mean of
    those absolute differences by at least |observed|: two-sided in that a difference in either
    direction counts (Moses: scripts/analysis/bootstrap-hypothesis-difference-significance.pl).
    Where the systems are nearly equal, the mean of absolute differences is well above the
    difference itself, and p comes out smaller than by randomisation.
    """
    absolute = np.abs(differences)
    return _p(absolute - absolute.mean(), observed)


def randomisation_p(
    baseline: Sequence[RunStatistics],
    system: Sequence[RunStatistics],
    score: Score,
    samples: int,
    seed: int,
) -> float:
    """The two-sided p-value of approximate randomisation.

    (c + 1) / (n + 1), where c counts the shuffles with an absolute difference of at least the one
    observed; a shuffle swaps the outputs of a sentence between the systems or leaves them (Riezler
    and Maxwell 2005, "On Some Pitfalls in Automatic Evaluation and Significance Testing for MT").

    With several runs a system's statistics are the means over its runs, and all its outputs for a
    sentence are swapped together. multeval (Clark et al. 2011) deals each output by itself, which
    takes the runs of a system for independent: they are much alike, and its p-value falls with
    every copy of the same run. Here copies change nothing.

    Equal differences count, as they do in the exact test: a system against itself gets 1 (and not,
    as in sacreBLEU and multeval, 1 / (n + 1)).
    """
    first, second = np.mean(baseline, axis=0), np.mean(system, axis=0)
    total, swapped_in = (first + second).sum(axis=0), first - second
    observed = score(second.sum(axis=0).tolist()) - score(first.sum(axis=0).tolist())
    # All coins at once: drawn block by block, sacreBLEU's would fall otherwise.
    coins = np.random.default_rng(seed).integers(2, size=(samples, len(first)), dtype=np.bool_)
    differences: list[float] = []
    for rows in _blocks(*coins.shape):
        own = second.sum(axis=0) + coins[rows].astype(np.float64) @ swapped_in
        for mine, others in zip(own.tolist(), (total - own).tolist(), strict=True):
            differences.append(score(others) - score(mine))
    return _p(np.abs(differences), observed)


def _blocks(samples: int, cells: int) -> Iterator[slice]:
    """The samples, in blocks of so many as fit."""
    size = max(1, CELLS_AT_ONCE // max(1, cells))
    return (slice(start, start + size) for start in range(0, samples, size))


def _p(chance: NDArray[Any], observed: float) -> float:
    """(c + 1) / (n + 1): never 0, since the test set itself is one of the possible samples."""
    count = int(np.count_nonzero(chance >= abs(observed) - TIE))
    return (count + 1) / (len(chance) + 1)


Text = Sequence[str]  # the lines of a file

METRICS = ("BLEU", "chrF2", "TER")
LOWER_IS_BETTER = frozenset({"TER"})
TOKENIZERS = ("none", "13a", "intl", "char", "zh")  # those of sacreBLEU that need nothing more


class Metric:
    """A metric, and the references that it has prepared. All scores are in percent."""

    def __init__(self, name: str, metric: SacreBleuMetric) -> None:
        self.name = name
        self.lower_is_better = name in LOWER_IS_BETTER
        self._metric = metric
        self._by_sentence = copy(metric)
        if hasattr(metric, "effective_order"):  # BLEU: a sentence of three words has no 4-gram
            self._by_sentence.effective_order = True  # type: ignore[attr-defined]

    def statistics(self, text: Text) -> RunStatistics:
        """(sentences, statistics) of an output."""
        return np.array(self._metric._extract_corpus_statistics(text, None), np.float64)

    def corpus_score(self, statistics: RunStatistics) -> float:
        """What sacreBLEU reports, to the last digit: it adds in the same order."""
        return cast(float, self._metric._aggregate_and_compute(statistics.tolist()).score)

    def score_of_sums(self, sums: list[float]) -> float:
        """The score of a test set whose statistics sum up to these."""
        return cast(float, self._metric._compute_score_from_stats(sums).score)

    def sentence_scores(self, statistics: RunStatistics) -> NDArray[np.float64]:
        """As sacreBLEU scores single sentences; BLEU smoothed (`exp`), with the effective order."""
        score = self._by_sentence._compute_score_from_stats
        return np.array([score(row).score for row in statistics.tolist()], np.float64)

    def signature(self, samples: int | None, seed: int) -> str:
        """The signature of sacreBLEU, with the entries that its own paired tests add."""
        signature = self._metric.get_signature()
        if samples is not None:
            for key, value in (("bs", samples), ("ar", samples), ("seed", seed)):
                signature.update(key, value)
        return str(signature)


def make_metrics(references: Sequence[Text], tokenizer: str, lowercase: bool) -> list[Metric]:
    """The `METRICS` with these references.

    TER is left as sacreBLEU has it by default: lower-cased always, words as blanks divide them.
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER

    made = (
        # `force` silences a warning about text that looks tokenised, nothing else.
        BLEU(lowercase, force=True, tokenize=tokenizer, references=references),
        CHRF(lowercase=lowercase, references=references),
        TER(references=references),
    )
    return list(map(Metric, METRICS, made))
