"""The engine of all architectures against the plain models, on random trees and hard blocks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import phrase_ids, phrase_pairs, tiny_model

from phrase_scorer.models import CELLS
from phrase_scorer.scoring import engine as engine_module
from phrase_scorer.scoring.engine import PairwiseEngine, StepwiseEngine, distinct
from phrase_scorer.scoring.recurrent_engine import RecurrentEngine
from phrase_scorer.scoring.scorer import engine_for
from phrase_scorer.text.batches import pair_batch
from phrase_scorer.text.phrase_pairs import PhrasePairs
from phrase_scorer.text.vocabulary import UNKNOWN

PHRASE = st.lists(st.integers(1, 8), max_size=6)
PAIRS = st.lists(st.tuples(PHRASE.filter(bool), PHRASE), min_size=1, max_size=30)
SYSTEMS = [
    *itertools.product(("encoder_decoder", "seq2seq", "attention"), CELLS),
    ("transformer", "gru"),
    ("decoder_only", "gru"),
    ("masked", "gru"),
]


@pytest.fixture(scope="module", params=SYSTEMS, ids="-".join)
def model(request):
    architecture, cell = request.param
    return tiny_model(architecture=architecture, cell=cell)


def plain_scores(model, pairs: PhrasePairs) -> np.ndarray:
    with torch.inference_mode():
        batches = [
            model.log_probs(pair_batch(pairs, np.arange(start, min(start + 500, len(pairs)))))
            for start in range(0, len(pairs), 500)
        ]
        return torch.cat([batch.sum(1) for batch in batches]).numpy()


def check(model, pairs: PhrasePairs) -> None:
    engine = engine_for(model, "float32")
    np.testing.assert_allclose(
        engine.score(pairs).numpy(), plain_scores(model, pairs), rtol=0, atol=1e-4
    )


@given(pairs=PAIRS, rows=st.integers(1, 9))
@settings(deadline=None, max_examples=12)
def test_random_trees(model, pairs, rows):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_module, "ROWS_ON_CPU", rows)
        check(model, phrase_pairs(pairs))


DRAW = np.random.default_rng(5)
ADVERSARIAL = {
    "one source, many targets": [([1, 2], DRAW.integers(1, 9, 5).tolist()) for _ in range(3000)],
    "many sources, one target": [(DRAW.integers(1, 9, 6).tolist(), [3, 4]) for _ in range(3000)],
    "one pair again and again": [([1, 2, 3], [4, 5])] * 300,
    "unknown words only": [([UNKNOWN] * (i % 7 + 1), [UNKNOWN] * (i % 5)) for i in range(200)],
    "long phrases": [(DRAW.integers(1, 9, 60).tolist(), DRAW.integers(1, 9, 40).tolist())] * 3,
    "empty targets": [([1], []), ([2], []), ([1, 2], [])],
    "empty sources": [([], [1, 2]), ([], []), ([2], [1])],  # of inverse models
}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_difficult_blocks(model, name):
    check(model, phrase_pairs(ADVERSARIAL[name]))


def test_an_empty_block(model):
    assert engine_for(model, "float32").score(phrase_pairs([])).tolist() == []


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_reduced_precision_is_near(model, precision):
    pairs = phrase_pairs(ADVERSARIAL["one source, many targets"][:300])
    found = engine_for(model, precision).score(pairs).numpy()
    error = np.abs(found - plain_scores(model, pairs))
    assert 0 < error.mean() < 0.06


def test_which_engine():
    known = {"encoder_decoder": RecurrentEngine, "masked": PairwiseEngine}
    for architecture, _ in SYSTEMS:
        engine = engine_for(tiny_model(architecture=architecture), "float32")
        assert type(engine) is known.get(architecture, StepwiseEngine)


@pytest.mark.parametrize("architecture", ["encoder_decoder", "attention", "transformer"])
def test_every_source_and_prefix_is_stepped_once(architecture, monkeypatch):
    model = tiny_model(architecture=architecture)
    rows = {"read": 0, "advance": 0}
    read, advance = model.read, model.advance
    monkeypatch.setattr(
        model, "read", lambda s: (rows.update(read=rows["read"] + s.words.shape[1]), read(s))[1]
    )
    monkeypatch.setattr(
        model,
        "advance",
        lambda m, s, w: (rows.update(advance=rows["advance"] + len(w)), advance(m, s, w))[1],
    )
    pairs = [([1, 2], [3, 4]), ([1, 2], [3, 5]), ([1, 2], [3, 4]), ([7], [3])]
    StepwiseEngine(model).score(phrase_pairs(pairs))
    starts = 2 if architecture == "transformer" else 0  # it begins with a step on the end symbol
    assert rows == {"read": 2, "advance": 4 + starts}  # 3, 3 4, 3 5 and, of the other source, 3


def test_distinct_phrases():
    phrases, place = distinct(phrase_ids([[1, 2], [3], [1, 2], [], [3]]))
    assert [phrases.phrase(i).tolist() for i in range(len(phrases))] == [[], [3], [1, 2]]
    assert place.tolist() == [2, 1, 2, 0, 1]
