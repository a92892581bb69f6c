"""Translations against references: sacreBLEU's BLEU, chrF2 and TER, significance, lengths.

Lines of text come in, an `Evaluation` comes out; `report` shows it. A system is one
output or several, of as many tuning runs: tuning is unstable, and one run may be luck (Clark et al.
2011). The first system is the baseline of all comparisons.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moses_integration.evaluation import significance
from moses_integration.evaluation.significance import (
    METRICS,
    TOKENIZERS,
    Metric,
    Resampled,
    RunStatistics,
    Text,
    make_metrics,
)
from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.runtime.streams import text_blocks

_LANGUAGE = re.compile(r"[a-z]{2,3}")


@dataclass(frozen=True)
class EvaluationSettings:
    """How to evaluate; a UsageError tells of a value that cannot be."""

    # sacreBLEU's tokenizer for BLEU; None: "none", since Moses' output is tokenised already, and
    # "13a" with `detokenize`
    tokenize: str | None = None
    detokenize: str | None = None  # language of the texts, which sacremoses detokenises first
    lowercase: bool = False  # ignore case in BLEU and chrF2 (TER always does, as in sacreBLEU)
    samples: int = 1000  # resampled test sets, and shuffles
    seed: int = 12345  # sacreBLEU's own
    significance: bool = True  # compute intervals and p-values

    def __post_init__(self) -> None:
        if self.tokenize is not None and self.tokenize not in TOKENIZERS:
            raise UsageError(f"unknown tokenizer {self.tokenize}; known: {', '.join(TOKENIZERS)}")
        if self.detokenize is not None and not _LANGUAGE.fullmatch(self.detokenize):
            raise UsageError(f"{self.detokenize} is not a language code like fr")
        if self.samples < 1 or self.seed < 0:
            raise UsageError("samples must be at least 1, the seed at least 0")

    @property
    def tokenizer(self) -> str:
        """The tokenizer for BLEU that is used."""
        return self.tokenize or ("13a" if self.detokenize else "none")


@dataclass(frozen=True)
class Comparison:
    """A system and the baseline by one metric; differences are system less baseline, in percent."""

    difference: float  # of the means over the runs
    interval: tuple[float, float] | None  # holds 95 % of the resampled differences
    p_bootstrap: float | None  # see `significance.bootstrap_p`
    p_randomisation: float | None  # see `significance.randomisation_p`
    sentences: tuple[float, ...] = field(repr=False)  # per sentence, of the means over the runs
    better: int  # sentences that the system translates better than the baseline
    worse: int

    @property
    def equal(self) -> int:
        """Sentences with the same score."""
        return len(self.sentences) - self.better - self.worse

    @property
    def sentence_mean(self) -> float:
        """The mean difference per sentence."""
        return statistics.fmean(self.sentences)


@dataclass(frozen=True)
class MetricScore:
    """What one metric says about one system, in percent."""

    runs: tuple[float, ...]  # corpus scores, in the order given
    interval: tuple[float, float] | None  # holds 95 % of the resampled means
    comparison: Comparison | None  # with the baseline; None for the baseline itself

    @property
    def mean(self) -> float:
        """The mean over the runs."""
        return statistics.fmean(self.runs)

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation over the runs; None for one run."""
        return statistics.stdev(self.runs) if len(self.runs) > 1 else None


@dataclass(frozen=True)
class Lengths:
    """How long a system's outputs are, mean over its runs; words as BLEU counts them."""

    words: float  # per sentence, in the output
    reference_words: float  # per sentence, in the reference (of several, the closest in length)
    empty: int  # lines without a word, in all runs together

    @property
    def ratio(self) -> float | None:
        """Output to reference; None where the references have no word."""
        return self.words / self.reference_words if self.reference_words else None


@dataclass(frozen=True)
class ScoredSystem:
    """A system's scores by each of `METRICS`, and its lengths."""

    name: str
    scores: Mapping[str, MetricScore]
    lengths: Lengths

    @property
    def runs(self) -> int:
        """How many outputs it has."""
        return len(self.scores[METRICS[0]].runs)


@dataclass(frozen=True)
class Evaluation:
    """The systems, the baseline first, and what is needed to repeat it."""

    settings: EvaluationSettings
    sentences: int  # in the test set
    references: int  # per sentence
    signatures: Mapping[str, str]  # sacreBLEU's, by metric; `bs` and `ar`: samples of the two tests
    systems: tuple[ScoredSystem, ...]  # in the order given

    @property
    def baseline(self) -> ScoredSystem:
        """The first system."""
        return self.systems[0]

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with all that is computed from the fields; percent, unrounded."""
        return {
            "sentences": self.sentences,
            "references": self.references,
            "settings": {**asdict(self.settings), "tokenize": self.settings.tokenizer},
            "signatures": dict(self.signatures),
            "baseline": self.baseline.name,
            "systems": [
                {
                    "name": system.name,
                    "runs": system.runs,
                    "scores": {name: _score_dict(score) for name, score in system.scores.items()},
                    "lengths": {**asdict(system.lengths), "ratio": system.lengths.ratio},
                }
                for system in self.systems
            ],
        }


def _score_dict(score: MetricScore) -> dict[str, Any]:
    content = {"mean": score.mean, "standard_deviation": score.deviation, **asdict(score)}
    if found := score.comparison:
        counts = {name: content["comparison"].pop(name) for name in ("better", "worse")}
        counts |= {"equal": found.equal, "mean_difference": found.sentence_mean}
        content["comparison"]["sentences"] = counts
    return content


def evaluate(
    references: Sequence[Text],
    systems: Mapping[str, Sequence[Text]],
    *,
    settings: EvaluationSettings | None = None,
) -> Evaluation:
    """Scores each system, by name its outputs of all tuning runs, and compares it with the first.

    Raises:
        UsageError: No reference, no system, or a system without an output.
        DataError: Texts of different numbers of lines, or without any.
    """
    settings = settings or EvaluationSettings()
    _check_lines(references, systems)
    if settings.detokenize:
        references = _detokenized(references, settings.detokenize)
        systems = {name: _detokenized(runs, settings.detokenize) for name, runs in systems.items()}
    sentences, counts = len(references[0]), None
    if settings.significance:
        counts = significance.resample_counts(sentences, settings.samples, settings.seed)
    metrics = make_metrics(references, settings.tokenizer, settings.lowercase)
    scores: dict[str, dict[str, MetricScore]] = {name: {} for name in systems}
    lengths: dict[str, Lengths] = {}
    for metric in metrics:
        baseline: _Judged | None = None
        for name, outputs in systems.items():
            judged = _judged(metric, outputs, counts)
            comparison = baseline and _comparison(metric, settings, judged, baseline)
            baseline = baseline or judged
            bounds = None if judged.resampled is None else significance.interval(judged.resampled)
            scores[name][metric.name] = MetricScore(judged.scores, bounds, comparison)
            if metric.name == "BLEU":
                lengths[name] = _lengths(judged.runs)
    samples = settings.samples if settings.significance else None
    return Evaluation(
        settings=settings,
        sentences=sentences,
        references=len(references),
        signatures={metric.name: metric.signature(samples, settings.seed) for metric in metrics},
        systems=tuple(ScoredSystem(name, scores[name], lengths[name]) for name in systems),
    )


class _Judged(NamedTuple):
    """A system's runs, the score of each, and that of each resampled test set."""

    runs: list[RunStatistics]
    scores: tuple[float, ...]
    resampled: Resampled | None


def _judged(metric: Metric, outputs: Sequence[Text], counts: NDArray[np.uint16] | None) -> _Judged:
    runs = [metric.statistics(text) for text in outputs]
    resampled = None
    if counts is not None:
        resampled = significance.bootstrap_scores(runs, metric.score_of_sums, counts)
    return _Judged(runs, tuple(map(metric.corpus_score, runs)), resampled)


def _comparison(
    metric: Metric, settings: EvaluationSettings, system: _Judged, baseline: _Judged
) -> Comparison:
    difference = statistics.fmean(system.scores) - statistics.fmean(baseline.scores)
    bounds = by_bootstrap = by_randomisation = None
    if system.resampled is not None and baseline.resampled is not None:
        differences = system.resampled - baseline.resampled
        bounds = significance.interval(differences)
        by_bootstrap = significance.bootstrap_p(differences, difference)
        by_randomisation = significance.randomisation_p(
            baseline.runs, system.runs, metric.score_of_sums, settings.samples, settings.seed
        )
    ours, theirs = (
        np.mean([metric.sentence_scores(run) for run in judged.runs], axis=0)
        for judged in (system, baseline)
    )
    sentences = ours - theirs
    sentences[np.abs(sentences) < significance.TIE] = 0.0
    up, down = int((sentences > 0).sum()), int((sentences < 0).sum())
    better, worse = (down, up) if metric.lower_is_better else (up, down)
    shown = tuple(sentences.tolist())
    return Comparison(difference, bounds, by_bootstrap, by_randomisation, shown, better, worse)


def read_text(path: str | Path) -> list[str]:
    """The lines of a file in UTF-8, plain or compressed; `-` is standard input."""
    return list(chain.from_iterable(text_blocks(path)))


def _check_lines(references: Sequence[Text], systems: Mapping[str, Sequence[Text]]) -> None:
    if not references:
        raise UsageError("no reference to compare with")
    if not systems:
        raise UsageError("no system to evaluate")
    if not references[0]:
        raise DataError("the reference is empty")
    for name, runs in [("reference", references), *systems.items()]:
        if not runs:
            raise UsageError(f"system {name} has no output")
        for number, text in enumerate(runs, 1):
            if len(text) != len(references[0]):
                label = f"{name} {number}" if len(runs) > 1 else name
                raise DataError(
                    f"{label}: {len(text)} lines, but the reference has {len(references[0])}"
                )


def _lengths(runs: Sequence[RunStatistics]) -> Lengths:
    """From BLEU's statistics, which begin with the lengths of output and reference."""
    words, reference_words = np.mean([run[:, :2].mean(axis=0) for run in runs], axis=0).tolist()
    return Lengths(words, reference_words, sum(int((run[:, 0] == 0).sum()) for run in runs))


def _detokenized(texts: Sequence[Text], language: str) -> list[Text]:
    from sacremoses import MosesDetokenizer  # type: ignore[import-untyped]

    detokenizer = MosesDetokenizer(lang=language)
    return [[detokenizer.detokenize(line.split()) for line in text] for text in texts]
