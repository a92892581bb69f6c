"""The cells against their equations, unit by unit in plain floats, and against torch.nn."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from phrase_scorer.models import ModelConfig
from phrase_scorer.models.cells import (
    CELLS,
    GatedRecurrentUnit,
    LongShortTermMemory,
    VanillaRNN,
    cell_of,
)

FORMS = list(itertools.product([False, True], repeat=3))  # reset_after, takes_new, context
EMBEDDING, HIDDEN, ROWS = 3, 4, 5


def config(hidden):
    return ModelConfig(2, 2, hidden=hidden)


def random_cell(reset_after, update_takes_new, context, *, embedding=EMBEDDING, hidden=HIDDEN):
    cell = GatedRecurrentUnit(
        config(hidden),
        embedding,
        hidden if context else 0,
        reset_after=reset_after,
        update_takes_new=update_takes_new,
    ).double()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.normal_(0.0, 0.8, generator=generator)
    return cell


def random_rows(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(11))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def state_by_hand(cell, x, h, c):
    """One row's next state by equations (5)-(8) and the two other forms, a unit at a time."""
    n = cell.hidden
    bias = cell.candidate_bias.tolist()

    def signal(vector, matrix, unit, part):  # part: 0 candidate, 1 update, 2 reset
        if matrix is None:
            return 0.0
        column = matrix[:, part * n + unit].tolist()
        return sum(value * weight for value, weight in zip(vector, column, strict=True))

    def gate(unit, part):
        return sigmoid(
            signal(x, cell.input, unit, part)
            + signal(h, cell.recurrent, unit, part)
            + signal(c, cell.context, unit, part)
        )

    reset = [gate(unit, 2) for unit in range(n)]
    result = []
    for unit in range(n):
        total = signal(x, cell.input, unit, 0) + bias[unit]
        if cell.reset_after:
            inner = signal(h, cell.recurrent, unit, 0) + signal(c, cell.context, unit, 0)
            total += reset[unit] * inner
        else:
            gated = [r * value for r, value in zip(reset, h, strict=True)]
            total += signal(gated, cell.recurrent, unit, 0) + signal(c, cell.context, unit, 0)
        z, candidate = gate(unit, 1), math.tanh(total)
        if cell.update_takes_new:
            result.append((1 - z) * h[unit] + z * candidate)
        else:
            result.append(z * h[unit] + (1 - z) * candidate)
    return result


@pytest.mark.parametrize(("reset_after", "update_takes_new", "context"), FORMS)
def test_a_step_is_its_equations(reset_after, update_takes_new, context):
    cell = random_cell(reset_after, update_takes_new, context)
    inputs, states, contexts = (
        random_rows(ROWS, EMBEDDING),
        random_rows(ROWS, HIDDEN),
        2 * random_rows(ROWS, HIDDEN) - 0.3,
    )
    signals = cell.read_context(contexts) if context else None
    with torch.no_grad():
        found = cell(cell.read(inputs), states, signals).numpy()
        by_hand = [
            state_by_hand(cell, *rows)
            for rows in zip(inputs.tolist(), states.tolist(), contexts.tolist(), strict=True)
        ]
    np.testing.assert_allclose(found, by_hand, rtol=0, atol=1e-13)


def test_the_forms_differ():
    inputs, states, contexts = (random_rows(2, n) for n in (EMBEDDING, HIDDEN, HIDDEN))
    found = []
    for reset_after, update_takes_new, context in FORMS:
        cell = random_cell(reset_after, update_takes_new, True)
        signals = cell.read_context(contexts) if context else None
        found.append(cell(cell.read(inputs), states, signals).detach())
    for one, other in itertools.combinations(found, 2):
        assert (one - other).abs().max() > 1e-3


def test_reset_after_without_context_is_torch_gru_cell():
    cell = random_cell(reset_after=True, update_takes_new=False, context=False)
    torch_cell = torch.nn.GRUCell(EMBEDDING, HIDDEN).double()
    with torch.no_grad():
        for torch_weight, ours in (
            (torch_cell.weight_ih, cell.input),
            (torch_cell.weight_hh, cell.recurrent),
        ):
            candidate, update, reset = ours.chunk(3, dim=1)
            torch_weight.copy_(torch.cat([reset.T, update.T, candidate.T]))
        torch_cell.bias_hh.zero_()
        torch_cell.bias_ih.zero_()
        torch_cell.bias_ih[2 * HIDDEN :] = cell.candidate_bias
        inputs, states = random_rows(ROWS, EMBEDDING), random_rows(ROWS, HIDDEN)
        torch.testing.assert_close(
            cell(cell.read(inputs), states), torch_cell(inputs, states), rtol=0, atol=1e-13
        )


@pytest.mark.parametrize(("reset_after", "update_takes_new", "context"), FORMS)
def test_gradients(reset_after, update_takes_new, context):
    cell = random_cell(reset_after, update_takes_new, context, embedding=2, hidden=2)
    names = [name for name, _ in cell.named_parameters()]
    assert len(names) == (4 if context else 3)

    def two_steps(inputs, state, contexts, *parameters):
        call = torch.func.functional_call
        known = dict(zip(names, parameters, strict=True))
        signals = contexts @ known["context"] if context else None
        padded_bias = torch.nn.functional.pad(known["candidate_bias"], (0, 4))
        for step in inputs @ known["input"] + padded_bias:
            state = call(cell, known, (step, state, signals))
        return state

    rows = [random_rows(2, 2, 2), random_rows(2, 2), random_rows(2, 2)]
    leaves = [leaf.detach().clone().requires_grad_() for leaf in (*rows, *cell.parameters())]
    if not context:
        leaves[2].requires_grad_(False)
    assert torch.autograd.gradcheck(two_steps, tuple(leaves))


def test_read_takes_all_time_steps_at_once():
    cell = random_cell(False, False, False)
    inputs = random_rows(6, ROWS, EMBEDDING)
    together = cell.read(inputs)
    assert together.shape == (6, ROWS, 3 * HIDDEN)
    torch.testing.assert_close(together[4], cell.read(inputs[4]))


def test_a_cell_without_context_has_no_matrix_for_it():
    cell = CELLS["gru"](config(HIDDEN), EMBEDDING)
    assert [name for name, _ in cell.named_parameters()] == ["input", "recurrent", "candidate_bias"]
    with pytest.raises(AssertionError):
        cell.read_context(torch.zeros(1, HIDDEN))


def random_parameters(cell):
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.normal_(0.0, 0.8, generator=generator)
    return cell.double()


PLAIN = {"rnn": (VanillaRNN, torch.nn.RNNCell), "lstm": (LongShortTermMemory, torch.nn.LSTMCell)}


def as_torch_cell(cell, kind):
    """A cell of torch.nn with the same weights: its rows are our columns, in the same order."""
    torch_cell = kind(EMBEDDING, HIDDEN).double()
    with torch.no_grad():
        torch_cell.weight_ih.copy_(cell.input.T)
        torch_cell.weight_hh.copy_(cell.recurrent.T)
        torch_cell.bias_ih.copy_(cell.bias)
        torch_cell.bias_hh.zero_()
    return torch_cell


@pytest.mark.parametrize("name", PLAIN)
def test_values_and_gradients_are_those_of_torch(name):
    kind, torch_kind = PLAIN[name]
    cell = random_parameters(kind(config(HIDDEN), EMBEDDING))
    torch_cell = as_torch_cell(cell, torch_kind)
    inputs = random_rows(6, ROWS, EMBEDDING)
    state = random_rows(ROWS, cell.state_width)
    theirs = state if name == "rnn" else (state[:, :HIDDEN], state[:, HIDDEN:])
    for signals, step in zip(cell.read(inputs), inputs, strict=True):
        state, theirs = cell(signals, state), torch_cell(step, theirs)
        hidden = theirs if name == "rnn" else theirs[0]
        torch.testing.assert_close(cell.visible(state), hidden, rtol=0, atol=1e-13)
        if name == "lstm":
            torch.testing.assert_close(state[:, HIDDEN:], theirs[1], rtol=0, atol=1e-13)
    cell.visible(state).square().sum().backward()
    hidden.square().sum().backward()
    for found, expected in (
        (cell.input.grad.T, torch_cell.weight_ih.grad),
        (cell.recurrent.grad.T, torch_cell.weight_hh.grad),
        (cell.bias.grad, torch_cell.bias_ih.grad),
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_an_lstm_step_with_context_is_its_equations():
    cell = random_parameters(LongShortTermMemory(config(HIDDEN), EMBEDDING, 2)).requires_grad_(
        False
    )
    x, c = random_rows(1, EMBEDDING), random_rows(1, 2)
    state = random_rows(1, 2 * HIDDEN)
    with torch.no_grad():
        found = cell(cell.read(x), state, cell.read_context(c))[0].tolist()

    def signal(unit):
        total = float(cell.bias[unit])
        for vector, matrix in ((x, cell.input), (state[:, :HIDDEN], cell.recurrent)):
            total += float(vector[0] @ matrix[:, unit])
        return total + float(c[0] @ cell.context[:, unit])

    for unit in range(HIDDEN):
        i, f, g, o = (signal(block * HIDDEN + unit) for block in range(4))
        memory = sigmoid(f) * float(state[0, HIDDEN + unit]) + sigmoid(i) * math.tanh(g)
        assert found[HIDDEN + unit] == pytest.approx(memory, abs=1e-13)
        assert found[unit] == pytest.approx(sigmoid(o) * math.tanh(memory), abs=1e-13)


@pytest.mark.parametrize("name", PLAIN)
def test_gradients_by_finite_differences(name):
    cell = random_parameters(PLAIN[name][0](config(2), 2, 3))
    names = [name for name, _ in cell.named_parameters()]

    def two_steps(inputs, state, contexts, *parameters):
        known = dict(zip(names, parameters, strict=True))
        for step in inputs @ known["input"] + known["bias"]:
            arguments = (step, state, contexts @ known["context"])
            state = torch.func.functional_call(cell, known, arguments)
        return state

    rows = [random_rows(2, 2, 2), random_rows(2, cell.state_width), random_rows(2, 3)]
    leaves = [leaf.detach().clone().requires_grad_() for leaf in (*rows, *cell.parameters())]
    assert torch.autograd.gradcheck(two_steps, tuple(leaves))


@pytest.mark.parametrize("name", CELLS)
def test_how_parameters_start(name):
    bias = 1.5 if name == "lstm" else 0.0
    cell = cell_of(ModelConfig(2, 2, cell=name, hidden=30, forget_bias=bias), 20, 10)
    cell.reset_parameters(0.02, torch.Generator().manual_seed(1))
    for block in cell.recurrent.detach().chunk(cell.blocks, dim=1):
        torch.testing.assert_close(block.T @ block, torch.eye(30), rtol=0, atol=1e-5)
    for matrix in (cell.input, cell.context):
        assert float(matrix.detach().std()) == pytest.approx(0.02, rel=0.1)
    if name == "lstm":
        i, f, g, o = cell.bias.detach().chunk(4)
        assert f.unique().tolist() == [1.5]
        assert not torch.cat([i, g, o]).any()
