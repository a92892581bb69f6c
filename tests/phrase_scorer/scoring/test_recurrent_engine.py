"""The engine against the plain model, on random trees and on blocks made to be difficult."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import phrase_ids, phrase_pairs, tiny_model

from phrase_scorer.errors import UsageError
from phrase_scorer.kernels.kernels import CellStep, Kernels
from phrase_scorer.scoring import engine as module
from phrase_scorer.scoring.engine import with_end
from phrase_scorer.scoring.precision import PrecisionScheme
from phrase_scorer.scoring.recurrent_engine import Recurrence, RecurrentEngine, recurrence_of
from phrase_scorer.text.batches import pair_batch
from phrase_scorer.text.phrase_pairs import PhrasePairs
from phrase_scorer.text.vocabulary import END, UNKNOWN

PHRASE = st.lists(st.integers(1, 8), max_size=6)
PAIRS = st.lists(st.tuples(PHRASE.filter(bool), PHRASE), min_size=1, max_size=40)


@pytest.fixture(scope="module", params=["paper", "groundhog"])
def model(request):
    return tiny_model(request.param)


def plain_scores(model, pairs: PhrasePairs) -> np.ndarray:
    """ln p of each pair, all of them padded in one batch of the model's own."""
    with torch.inference_mode():
        return model.log_probs(pair_batch(pairs, np.arange(len(pairs)))).sum(1).numpy()


def check(model, pairs: PhrasePairs, tolerance: float = 1e-4) -> None:
    np.testing.assert_allclose(
        RecurrentEngine(model).score(pairs).numpy(),
        plain_scores(model, pairs),
        rtol=0,
        atol=tolerance,
    )


@given(pairs=PAIRS)
@settings(deadline=None, max_examples=60)
def test_random_trees(model, pairs):
    check(model, phrase_pairs(pairs), 2e-5)


@given(pairs=PAIRS, rows=st.integers(1, 7))
@settings(deadline=None, max_examples=30)
def test_any_number_of_rows_at_once(model, pairs, rows):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROWS_ON_CPU", rows)
        check(model, phrase_pairs(pairs), 2e-5)


@given(pairs=PAIRS)
@settings(deadline=None, max_examples=20)
def test_without_a_compiler(model, pairs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "kernels_for", lambda device: Kernels())
        check(model, phrase_pairs(pairs), 2e-5)


DRAW = np.random.default_rng(5)
ADVERSARIAL = {
    "one source, many targets": [([1, 2], DRAW.integers(1, 9, 5).tolist()) for _ in range(50_000)],
    "many sources, one target": [(DRAW.integers(1, 9, 6).tolist(), [3, 4]) for _ in range(50_000)],
    "single words": [([i], [j]) for i in range(1, 9) for j in range(1, 9)],
    "one pair again and again": [([1, 2, 3], [4, 5])] * 300,
    "unknown words only": [([UNKNOWN] * (i % 7 + 1), [UNKNOWN] * (i % 5)) for i in range(200)],
    "long phrases": [(DRAW.integers(1, 9, 60).tolist(), DRAW.integers(1, 9, 60).tolist())] * 3,
    "empty targets": [([1], []), ([2], []), ([1, 2], [])],
    "one pair": [([1], [2])],
    "prefixes of each other": [([1] * i, [2] * j) for i in range(1, 6) for j in range(6)],
}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_difficult_blocks(model, name):
    check(model, phrase_pairs(ADVERSARIAL[name]))


def test_an_empty_block(model):
    assert RecurrentEngine(model).score(phrase_pairs([])).tolist() == []


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_probabilities_of_all_targets_sum_to_one(precision):
    """Over all targets of up to 5 words of 2: what is missing is the probability of longer ones."""
    model = tiny_model(target_words=3)
    targets = [list(t) for n in range(6) for t in itertools.product([1, 2], repeat=n)]
    total = (
        RecurrentEngine(model, precision)
        .score(phrase_pairs([([1, 2], t) for t in targets]))
        .exp()
        .sum()
    )
    prefixes = [list(t) for t in itertools.product([1, 2], repeat=6)]
    with torch.inference_mode():
        pairs = phrase_pairs([([1, 2], t) for t in prefixes])
        longer = model.log_probs(pair_batch(pairs, np.arange(len(pairs))))[:, :6].sum(1).exp().sum()
    assert 0 < longer < 1
    tolerance = 1e-5 if precision == "float32" else 0.02
    assert float(total + longer) == pytest.approx(1, abs=tolerance)


@pytest.mark.parametrize("deviation", [0.0, 40.0])
def test_logits_far_from_zero(deviation):
    """Without the maximum subtracted, exp overflows: those rows are computed again."""
    model = tiny_model()
    with torch.no_grad():
        model.output.bias += 200.0
        model.output.bias[2] += deviation
    check(model, phrase_pairs([([1, 2], [3, 4]), ([2], [2])]))
    with torch.no_grad():
        model.output.bias -= 500.0
    check(model, phrase_pairs([([1, 2], [3, 4]), ([2], [2])]))


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.05), ("int8", 0.05)])
@pytest.mark.parametrize("native", [True, False])
def test_reduced_precision_is_near(model, monkeypatch, precision, tolerance, native):
    if not native:
        monkeypatch.setattr(module, "kernels_for", lambda device: Kernels())
    pairs = phrase_pairs(ADVERSARIAL["one source, many targets"][:500])
    error = np.abs(
        RecurrentEngine(model, precision).score(pairs).numpy() - plain_scores(model, pairs)
    )
    assert 0 < error.mean() < tolerance


def test_what_there_is_not():
    with pytest.raises(UsageError) as error:
        RecurrentEngine(tiny_model(), "int4")  # type: ignore[arg-type]
    assert str(error.value) == "unknown precision 'int4'; choose from float32, bfloat16, int8"


def test_end_symbols_are_appended():
    ended = with_end(phrase_ids([[4, 5], [], [6]]))
    assert [ended.phrase(i).tolist() for i in range(3)] == [[4, 5, END], [END], [6, END]]


def test_every_prefix_is_stepped_once(model, monkeypatch):
    """Rows of the products that a step needs: one for each inner node, not for each pair."""
    engine = RecurrentEngine(model)
    rows = []
    multiply = engine._decoder.shared.product
    monkeypatch.setattr(
        engine._decoder.shared,
        "product",
        lambda left: rows.append(len(left.values)) or multiply(left),
    )
    engine.score(phrase_pairs([([1, 2], [3, 4]), ([1, 2], [3, 5]), ([1, 2], [3, 4]), ([7], [3])]))
    roots, inner = 2, {(0, ()), (1, ()), (0, (3,))}  # no step leads on from "3 4" and "3 5"
    before = roots if model.config.variant == "paper" else 0  # the step on the zero embedding
    assert sum(rows) == before + len(inner)


def test_a_cell_that_no_fast_recurrence_knows_is_stepped_by_itself(model):
    """A new cell needs no code here: it is right at once, and only slower."""
    scheme = PrecisionScheme("float32", torch.device("cpu"), Kernels())
    cell = model.decoder
    draw = torch.Generator().manual_seed(4)
    words, contexts = (torch.randn(n, cell.input.shape[1], generator=draw) for n in (5, 3))
    rows = (torch.randint(n, (9,), generator=draw) for n in (4, 5, 3))
    states = torch.randn(4, cell.state_width, generator=draw)
    step = CellStep(states, words, contexts, *rows)
    with torch.inference_mode():
        found, expected = recurrence_of(cell, scheme).step(step), Recurrence(cell).step(step)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
