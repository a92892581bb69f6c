"""sacreBLEU's BLEU, chrF2 and TER as statistics that add up over sentences, and scores of sums.

The only module that touches the inside of sacreBLEU's metrics; its own `significance.py` works on
the same methods. Knows nothing of systems, runs and tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric as SacreBleuMetric

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

    def statistics(self, text: Text) -> NDArray[np.float64]:
        """(sentences, statistics) of an output."""
        return np.array(self._metric._extract_corpus_statistics(text, None), np.float64)

    def corpus_score(self, statistics: NDArray[np.float64]) -> float:
        """What sacreBLEU reports, to the last digit: it adds in the same order."""
        return cast(float, self._metric._aggregate_and_compute(statistics.tolist()).score)

    def score_of_sums(self, sums: list[float]) -> float:
        """The score of a test set whose statistics sum up to these."""
        return cast(float, self._metric._compute_score_from_stats(sums).score)

    def sentence_scores(self, statistics: NDArray[np.float64]) -> NDArray[np.float64]:
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
    return [Metric(name, metric) for name, metric in zip(METRICS, made, strict=True)]
