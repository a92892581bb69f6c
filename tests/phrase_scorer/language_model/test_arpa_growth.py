"""More n-grams from text: KenLM gives the same probabilities before and after."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from phrase_scorer.language_model.arpa import Arpa, write_arpa
from phrase_scorer.language_model.export import grown, links_of

kenlm = pytest.importorskip("kenlm", reason="the package kenlm is not installed")

TEXT = ["un homme un chat", "chat chat vélo", "un homme", "xyz un vélo xyz", "<s> un </s> un <unk>"]


def sentences(texts: list[str]) -> list[list[bytes]]:
    return [text.encode().split() for text in texts]


def ngrams(arpa: Arpa, order: int) -> list[str]:
    return [b" ".join(arpa.words[w] for w in ws).decode() for ws in arpa.orders[order - 1].words]


def counted(texts: list[str], order: int) -> dict[str, int]:
    """By the book: windows over <s> … </s>; none with a word that the model has not."""
    counts: dict[str, int] = {}
    for text in texts:
        inside = [w if w in ("un", "homme", "chat", "vélo") else None for w in text.split()]
        words = ["<s>", *inside, "</s>"]
        for first in range(len(words) - order + 1):
            window = words[first : first + order]
            if None not in window:
                ngram = " ".join(map(str, window))
                counts[ngram] = counts.get(ngram, 0) + 1
    return counts


@pytest.mark.parametrize("min_count", [1, 2])
def test_which_n_grams(given, min_count):
    larger = grown(given, sentences(TEXT * 2 + ["vélo vélo"]), 2 * min_count)
    assert larger.words == given.words
    assert ngrams(larger, 1) == ngrams(given, 1)
    for order in (2, 3):
        old = ngrams(given, order)
        wanted = {n for n, c in counted(TEXT, order).items() if c >= min_count} - set(old)
        found = ngrams(larger, order)
        assert found[: len(old)] == old
        assert sorted(found[len(old) :]) == sorted(wanted)
    assert min_count > 1 or "un homme un" in ngrams(larger, 3)
    links_of(larger)  # every n-gram has its history and its shorter form


def test_the_model_says_the_same(given):
    write_arpa(grown(given, sentences(TEXT)), "larger.arpa")
    before, after = kenlm.Model("given.arpa"), kenlm.Model("larger.arpa")
    words = ["un", "homme", "chat", "vélo", "xyz"]
    texts = [" ".join(p) for n in range(5) for p in itertools.product(words, repeat=n)]
    for text in texts:
        assert after.score(text) == pytest.approx(before.score(text), abs=1e-5)
    longer = sum(n for _, n, _ in after.full_scores("un homme un chat"))
    assert longer > sum(n for _, n, _ in before.full_scores("un homme un chat"))


def test_random_text_on_a_grown_model(given):
    """Growing twice is growing once with both texts; n-grams of new histories among them."""
    generator = random.Random(3)
    words = ["un", "homme", "chat", "vélo", "xyz"]
    texts = [" ".join(generator.choices(words, k=generator.randrange(9))) for _ in range(40)]
    once = grown(given, sentences(texts))
    twice = grown(grown(given, sentences(texts[:20])), sentences(texts[20:]))
    for order in (2, 3):
        first = dict(zip(ngrams(once, order), once.orders[order - 1].log10, strict=True))
        second = dict(zip(ngrams(twice, order), twice.orders[order - 1].log10, strict=True))
        assert first.keys() == second.keys()
        assert all(abs(first[n] - second[n]) < 1e-12 for n in first)


def test_no_text(given):
    larger = grown(given, [])
    for old, new in zip(given.orders, larger.orders, strict=True):
        np.testing.assert_array_equal(old.words, new.words)
