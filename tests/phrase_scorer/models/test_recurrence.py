"""All steps of a gated unit at once against its equation step by step, with autograd's gradient."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from phrase_scorer.kernels import gated_unit
from phrase_scorer.models import recurrence
from phrase_scorer.models.cells import GatedRecurrentUnit, LongShortTermMemory
from phrase_scorer.models.config import ModelConfig
from phrase_scorer.models.recurrence import step_by_step, unroll
from phrase_scorer.text.batches import Sources

TIMES, ROWS, HIDDEN, EMBEDDING, CONTEXT = 5, 70, 37, 11, 9
FORMS = list(product([False, True], repeat=2))  # reset after the product; update takes the new


def cell_with(kind: type, dtype: torch.dtype, *, context: bool, **forms: bool):
    config = ModelConfig(2, 2, hidden=HIDDEN)
    cell = kind(config, EMBEDDING, CONTEXT if context else 0, **forms).to(dtype)
    cell.reset_parameters(0.5, torch.Generator().manual_seed(1))
    return cell


def arguments(cell, *, context: bool, padded: bool):
    """Signals, phrases, first state, context, and the gradient of the states."""
    draw, dtype = torch.Generator().manual_seed(2), cell.recurrent.dtype
    width = cell.blocks * HIDDEN

    def real(*shape):
        return torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype)

    lengths = torch.randint(1, TIMES + 1, (ROWS,), generator=draw)
    unfinished = torch.arange(TIMES)[:, None] < lengths
    words = torch.zeros(TIMES, ROWS, dtype=torch.long)
    phrases = Sources(words, unfinished, int(lengths.min())) if padded else None
    state = torch.tanh(real(ROWS, cell.state_width))
    more = real(ROWS, width) if context else None
    return [real(TIMES, ROWS, width), phrases, state, more], real(TIMES, ROWS, cell.state_width)


def gradients(function, cell, given, upstream, *, half=False):
    """States, and the gradients of signals, first state, context and recurrent matrix."""
    given = [
        each.clone().requires_grad_() if isinstance(each, torch.Tensor) else each for each in given
    ]
    cell.recurrent.grad = None
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        states = function(cell, *given)
    (states * upstream).sum().backward()
    leaves = [each.grad for each in given if isinstance(each, torch.Tensor)]
    return [states.detach(), *leaves, cell.recurrent.grad]


def assert_close(found, expected, tolerance: float) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        scale = other.abs().max()
        torch.testing.assert_close(one / scale, other / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize(("after", "new"), FORMS)
def test_all_steps_at_once(after, new, context, padded, kind, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    dtype = torch.float64 if kind == "float64" else torch.float32
    forms = {"reset_after": after, "update_takes_new": new}
    cell = cell_with(GatedRecurrentUnit, dtype, context=context, **forms)
    given, upstream = arguments(cell, context=context, padded=padded)
    half = kind == "bfloat16"
    found = gradients(unroll, cell, given, upstream, half=half)
    expected = gradients(step_by_step, cell, given, upstream, half=half)
    assert_close(found, expected, {"float64": 1e-14, "float32": 3e-6, "bfloat16": 0.02}[kind])
    if half:  # as far from the truth as the loop is
        exact = gradients(step_by_step, cell, given, upstream)
        assert_close(found, exact, 0.02)


@pytest.mark.parametrize(("after", "new"), FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_compiled_kernels_do_what_the_equations_say(after, new, dtype, monkeypatch):
    if gated_unit.compiled_library() is None:
        pytest.skip("no C++ compiler here")
    forms = {"reset_after": after, "update_takes_new": new}
    cell = cell_with(GatedRecurrentUnit, torch.float32, context=True, **forms)
    given, upstream = arguments(cell, context=True, padded=True)
    half = dtype == torch.bfloat16
    compiled = gradients(unroll, cell, given, upstream, half=half)
    monkeypatch.setattr(
        recurrence, "gated_unit_kernels", lambda *_: gated_unit.GatedUnitKernels(None)
    )
    by_torch = gradients(unroll, cell, given, upstream, half=half)
    assert_close(compiled, by_torch, 0.02 if half else 3e-6)


def test_other_cells_go_step_by_step():
    cell = cell_with(LongShortTermMemory, torch.float64, context=True)
    given, upstream = arguments(cell, context=True, padded=True)
    found, expected = (gradients(each, cell, given, upstream) for each in (unroll, step_by_step))
    assert_close(found, expected, 0)


def test_no_steps_and_no_first_state():
    cell = cell_with(GatedRecurrentUnit, torch.float32, context=False)
    nothing = unroll(cell, torch.zeros(0, 3, 3 * HIDDEN))
    assert nothing.shape == (0, 3, HIDDEN)
    signals = torch.randn(2, 3, 3 * HIDDEN)
    zero = torch.zeros(3, HIDDEN)
    torch.testing.assert_close(unroll(cell, signals), unroll(cell, signals, state=zero))
