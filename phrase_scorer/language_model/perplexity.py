"""Perplexities: a continuous-space language model alone, and beside n-gram models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from phrase_scorer.language_model.arpa import END_WORD, kenlm_log10, load_kenlm, read_arpa
from phrase_scorer.language_model.export import SharedVocabulary
from phrase_scorer.language_model.model import LanguageModel, LogProbs
from phrase_scorer.text.vocabulary import UNKNOWN

ROUNDS = 50  # EM steps that find the interpolation weight


@dataclass(frozen=True)
class Perplexity:
    """How well one model predicts one text: exp of the mean -ln p, end symbols included."""

    all: float  # over all symbols
    known: float  # over those that are not unknown words
    symbols: int
    unknown: int  # how many of the symbols are unknown words

    @classmethod
    def of(cls, log_probs: LogProbs, unknown: npt.NDArray[np.bool_]) -> Perplexity:
        """From natural-log probabilities, and which of them belong to unknown words."""
        known = log_probs[~unknown]
        return cls(
            float(np.exp(-log_probs.mean())),
            float(np.exp(-known.mean())) if len(known) else float("nan"),
            len(log_probs),
            int(unknown.sum()),
        )


def own_perplexity(model: LanguageModel, sentences: Sequence[Sequence[bytes]]) -> Perplexity:
    """The model's perplexity over its own vocabulary, of which `<unk>` is one word."""
    ngrams = model.ngrams(sentences)
    return Perplexity.of(model.log_probs(ngrams), ngrams.words == UNKNOWN)


def compare_with_ngrams(
    model: LanguageModel, name: str, arpas: Sequence[str], sentences: Sequence[Sequence[bytes]]
) -> list[tuple[str, Perplexity, str]]:
    """(name, perplexity, weight of the network) of the network, each n-gram model, each mixture.

    All over the words of the first ARPA file; every symbol outside it counts as its unknown word.
    """
    arpa = read_arpa(arpas[0])
    shared = SharedVocabulary(model, arpa)
    place = {word: number for number, word in enumerate(arpa.words)}
    symbols = [word for sentence in sentences for word in (*sentence, END_WORD)]
    words = np.array([place.get(word, shared.unknown) for word in symbols])
    unknown = words == shared.unknown
    ngrams = model.ngrams(sentences)
    network = shared.symbol_log_probs(ngrams, words)
    rows = [(f"{name} (words of {arpas[0]})", Perplexity.of(network, unknown), "")]
    for path in arpas:
        found = kenlm_log_probs(path, sentences)
        rows.append((path, Perplexity.of(found, unknown), ""))
        mixed, weight = best_mixture(network, found)
        rows.append((f"{path} + {name}", Perplexity.of(mixed, unknown), f"{weight:.2f}"))
    return rows


def kenlm_log_probs(path: str | Path, sentences: Sequence[Sequence[bytes]]) -> LogProbs:
    """(symbols,) natural-log probability of each word and end symbol under KenLM's model."""
    language_model = load_kenlm(path, "--arpa")
    log10 = [score for sentence in sentences for score in kenlm_log10(language_model, sentence)]
    return np.array(log10) * math.log(10)


def best_mixture(first: LogProbs, second: LogProbs) -> tuple[LogProbs, float]:
    """ln(λ p_1 + (1 - λ) p_2) with the λ that is best for these very symbols, and λ (by EM)."""

    def mixture(weight: float) -> LogProbs:
        return np.logaddexp(first + math.log(weight), second + math.log1p(-weight))

    weight = 0.5
    for _ in range(ROUNDS):
        weight = float(np.exp(first + math.log(weight) - mixture(weight)).mean())
        weight = min(max(weight, 1e-6), 1 - 1e-6)
    return mixture(weight), weight
