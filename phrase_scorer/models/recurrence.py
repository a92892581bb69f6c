"""A cell through time: its equation step by step or, of a gated unit, all steps at once.

The loop over `Cell.forward` is right for every cell. For a gated recurrent unit, `_GatedSteps` does
the same, and has a gradient of its own: what autograd would do at every step for the recurrent
matrices (a product, a cast, a sum as large as the matrix) is one product over all steps here, and
what follows each product is one pass over memory (kernels/gated_unit.py).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from phrase_scorer.kernels.gated_unit import Made, UnitStep, gated_unit_kernels
from phrase_scorer.models.cells import Cell, GatedRecurrentUnit
from phrase_scorer.text.batches import Sources


def unroll(
    cell: Cell, signals: Tensor, phrases: Sources | None = None, state: Tensor | None = None,
    context: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The states after each step through padded phrases: (time, rows, state_width).

    After a phrase's end its state stays.

    Args:
        cell: Whose steps they are.
        signals: (time, rows, blocks · hidden), of `Cell.read`.
        phrases: Say which steps belong to a phrase and which are padding; None: all belong.
        state: Before the first step; None: zero.
        context: The same for all steps, (rows, blocks · hidden), of `Cell.read_context`.
    """
    if state is None:
        # Not of the signals' type: autocast makes those bfloat16.
        state = cell.recurrent.new_zeros(signals.shape[1], cell.state_width)
    if isinstance(cell, GatedRecurrentUnit) and len(signals):
        return _gated_steps(cell, signals, phrases, state, context)
    return step_by_step(cell, signals, phrases, state, context)


def step_by_step(
    cell: Cell, signals: Tensor, phrases: Sources | None, state: Tensor, context: Tensor | None
) -> Tensor:
    """As `unroll`, by the cell's equation."""
    states = [state]
    for time, step in enumerate(signals.unbind(0)):
        following = cell(step, states[-1], context)
        if phrases is not None and time >= phrases.shortest:
            following = torch.where(phrases.unfinished[time, :, None], following, states[-1])
        states.append(following)
    return torch.stack(states[1:]) if len(states) > 1 else state.new_zeros(0, *state.shape)


def _gated_steps(
    cell: GatedRecurrentUnit, signals: Tensor, phrases: Sources | None, state: Tensor,
    context: Tensor | None,
) -> Tensor:  # fmt: skip
    kind, device = cell.recurrent.dtype, cell.recurrent.device
    product = kind
    if torch.is_autocast_enabled(device.type):
        product = torch.get_autocast_dtype(device.type)
    alive = None if phrases is None else phrases.unfinished
    first = len(signals) if phrases is None else phrases.shortest
    with torch.autocast(device.type, enabled=False):
        result: Tensor = _GatedSteps.apply(  # type: ignore[no-untyped-call]
            signals.to(kind), state.to(kind), None if context is None else context.to(kind),
            cell.recurrent, (cell.reset_after, cell.update_takes_new), (alive, first), product,
        )  # fmt: skip
    return result


class _GatedSteps(torch.autograd.Function):
    """All steps of a gated unit; `forms` are its `reset_after` and `update_takes_new`."""

    @staticmethod
    def forward(
        ctx: Any, signals: Tensor, state: Tensor, context: Tensor | None, recurrent: Tensor,
        forms: tuple[bool, bool], phrases: tuple[Tensor | None, int], product: torch.dtype,
    ) -> Tensor:  # fmt: skip
        steps = _Steps(signals, context, recurrent, forms, phrases, product)
        states = steps.run(state)
        ctx.steps = steps
        return states

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients: tuple[Tensor | None, ...] = ctx.steps.gradients(upstream[0].contiguous())
        return (*gradients, None, None, None)


class _Steps:
    """What steps and their gradients have in common; nothing here is seen by autograd."""

    def __init__(
        self, signals: Tensor, context: Tensor | None, recurrent: Tensor,
        forms: tuple[bool, bool], phrases: tuple[Tensor | None, int], product: torch.dtype,
    ) -> None:  # fmt: skip
        self.signals = signals.detach().contiguous()
        self.context = None if context is None else context.detach().contiguous()
        self.reset_after, self.takes_new = forms
        self.alive, self.first_end = phrases
        self.kernels = gated_unit_kernels(signals.device, signals.dtype)
        self.times, self.rows, width = signals.shape
        self.hidden = n = width // 3
        matrix = recurrent.detach().to(product)
        self.matrices = [matrix] if self.reset_after else [matrix[:, n:], matrix[:, :n]]
        self.matrices = [part.contiguous() for part in self.matrices]
        self.products = self._room(product, self.matrices[0].shape[1])
        if not self.reset_after:
            self.reset_states, self.candidates = self._room(product, n), self._room(product, n)

    def _room(self, kind: torch.dtype, width: int, more: int = 0) -> Tensor:
        shape = self.times + more, self.rows, width
        return torch.empty(shape, dtype=kind, device=self.signals.device)

    def step(self, time: int) -> UnitStep:
        """What step `time` reads."""
        alive = self.alive[time] if self.alive is not None and time >= self.first_end else None
        return UnitStep(self.signals[time], self.context, self.states[time], alive)

    def run(self, state: Tensor) -> Tensor:
        """(time, rows, hidden) the states after each step."""
        kind, kernels, takes_new = self.products.dtype, self.kernels, self.takes_new
        self.states = self._room(self.signals.dtype, self.hidden, 1)  # from the one before all
        self.states[0] = state.detach()
        self.rounded = self.states
        if kind != self.states.dtype:
            self.rounded = self._room(kind, self.hidden, 1)
            self.rounded[0] = self.states[0]
        for time in range(self.times):
            step, products = self.step(time), self.products[time]
            following = self.states[time + 1], self.rounded[time + 1]
            torch.mm(self.rounded[time], self.matrices[0], out=products)
            if self.reset_after:
                kernels.after(step, products, *following, takes_new=takes_new)
                continue
            reset_states, candidates = self.reset_states[time], self.candidates[time]
            kernels.before_gate(step, products, reset_states)
            torch.mm(reset_states, self.matrices[1], out=candidates)
            kernels.before(step, products, candidates, *following, takes_new=takes_new)
        return self.states[1:]

    def gradients(self, d_states: Tensor) -> tuple[Tensor | None, ...]:
        """Those of signals, first state, context and recurrent matrix."""
        d_signals = torch.empty_like(self.signals)
        d_products = torch.empty_like(self.products)
        carried = torch.zeros_like(self.states[0])
        later = torch.zeros_like(self.rounded[0])
        transposed = [matrix.T.contiguous() for matrix in self.matrices]
        d_candidates = None if self.reset_after else torch.empty_like(self.candidates)
        for time in reversed(range(self.times)):
            step, made = self.step(time), Made(carried, d_signals[time])
            known = self.products[time], d_states[time], later, made, d_products[time]
            if d_candidates is None:
                self.kernels.after_back(step, *known, takes_new=self.takes_new)
            else:
                self._before_back(step, time, known, d_candidates[time], transposed[1])
            torch.mm(d_products[time], transposed[0], out=later)
        d_recurrent = self._over_time(self.rounded[:-1], d_products)
        if d_candidates is not None:
            of_candidates = self._over_time(self.reset_states, d_candidates)
            d_recurrent = torch.cat([of_candidates, d_recurrent], 1)
        d_context = None
        if self.context is not None:
            parts = d_products if self.reset_after else d_signals
            d_context = parts.sum(0, dtype=self.signals.dtype)
        return d_signals, carried + later, d_context, d_recurrent

    def _before_back(
        self, step: UnitStep, time: int, known: tuple[Any, ...], d_candidates: Tensor,
        transposed: Tensor,
    ) -> None:  # fmt: skip
        products, d_state, later, made, d_products = known
        self.kernels.before_back(
            step, products, self.candidates[time], d_state, later, made, d_products, d_candidates,
            takes_new=self.takes_new,
        )  # fmt: skip
        d_reset_states = d_candidates @ transposed
        self.kernels.before_gate_back(step, products, d_reset_states, made, d_products)

    def _over_time(self, left: Tensor, right: Tensor) -> Tensor:
        """Σ_t left_tᵀ right_t, in one product."""
        product = left.reshape(-1, left.shape[2]).T.contiguous() @ right.flatten(0, 1)
        return product.to(self.signals.dtype)
