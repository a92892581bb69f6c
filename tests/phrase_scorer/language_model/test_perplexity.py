"""Perplexities: by hand, beside KenLM, and of mixtures."""

from __future__ import annotations

import math

import numpy as np
import pytest

from phrase_scorer.language_model.perplexity import (
    Perplexity,
    best_mixture,
    compare_with_ngrams,
    own_perplexity,
)

SENTENCES = [[b"un", b"homme", b"chien"], [b"un", b"chat"], [b"chien"], [b"un", b"homme"]]


def test_perplexity_by_hand(model):
    found = own_perplexity(model, SENTENCES)
    log_probs = model.log_probs(model.ngrams(SENTENCES))
    assert found.all == pytest.approx(math.exp(-log_probs.mean()))
    assert (found.symbols, found.unknown) == (12, 1)
    known = np.delete(log_probs, 5)  # "chat"
    assert found.known == pytest.approx(math.exp(-known.mean()))
    only = Perplexity.of(np.array([-1.0]), np.array([True]))
    assert math.isnan(only.known)


def test_comparison_with_kenlm(given, model):
    kenlm = pytest.importorskip("kenlm", reason="the package kenlm is not installed")
    sentences = [[b"un", b"homme"], [b"un", "vélo".encode(), b"loup"]]
    rows = compare_with_ngrams(model, "cslm", ["given.arpa"], sentences)
    assert [name for name, _, _ in rows] == [
        "cslm (words of given.arpa)", "given.arpa", "given.arpa + cslm",
    ]  # fmt: skip
    by_hand = kenlm.Model("given.arpa")
    total = sum(by_hand.score(" ".join(w.decode() for w in s)) for s in sentences)
    assert rows[1][1].all == pytest.approx(10 ** (-total / 7), rel=1e-5)
    assert (rows[1][1].symbols, rows[1][1].unknown) == (7, 1)
    assert rows[2][1].all <= min(rows[0][1].all, rows[1][1].all) + 1e-6


def test_the_best_weight_is_the_best():
    draw = np.random.default_rng(1)
    first, second = np.log(draw.random(200)), np.log(draw.random(200))
    _, weight = best_mixture(first, second)

    def nats(w):
        return -np.logaddexp(first + math.log(w), second + math.log1p(-w)).mean()

    assert nats(weight) <= min(nats(w) for w in np.linspace(0.01, 0.99, 99)) + 1e-6
