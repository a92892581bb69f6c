"""Recurrent cells as their equations: one step each; the loop over time belongs to the caller.

A cell takes the input's part of its signals ready made (`read`, one product for all time steps)
and the state, and returns the next state. Row vectors throughout: y = x W, W is (in, out).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GatedRecurrentUnit(nn.Module):
    """The hidden unit that adaptively remembers and forgets (Cho et al. 2014, eq. 5-8, appendix).

    With x the input, h the state, c a context (decoder only), s = (x W, x W_z, x W_r) and
    k = (c C, c C_z, c C_r) the signals of input and context:

        r = σ(s_r + h U_r + k_r)                                        (5)
        z = σ(s_z + h U_z + k_z)                                        (6)
        h~ = tanh(s + (r ∘ h) U + k)          reset before the product  (8)
        h~ = tanh(s + r ∘ (h U + k))          reset after it, and over the context (appendix)
        h' = z ∘ h + (1 - z) ∘ h~                                       (7)
        h' = (1 - z) ∘ h + z ∘ h~             z takes the new state (GroundHog, rec_layers.py)

    torch.nn.GRU is none of these: it resets after the product, with a bias inside.

    Args:
        embedding: Width of the input.
        hidden: Width of the state.
        context: Whether there is a context of width `hidden`.
        reset_after: The second form of h~.
        update_takes_new: The second form of h'.
    """

    def __init__(
        self,
        embedding: int,
        hidden: int,
        *,
        context: bool = False,
        reset_after: bool = False,
        update_takes_new: bool = False,
    ) -> None:
        super().__init__()
        self.hidden = hidden
        self.reset_after = reset_after
        self.update_takes_new = update_takes_new
        # Columns: candidate, update, reset.
        self.input = nn.Parameter(torch.empty(embedding, 3 * hidden))
        self.candidate_bias = nn.Parameter(torch.empty(hidden))
        self.recurrent = nn.Parameter(torch.empty(hidden, 3 * hidden))
        self.context = nn.Parameter(torch.empty(hidden, 3 * hidden)) if context else None

    def read(self, inputs: Tensor) -> Tensor:
        """The input's part of the signals: (..., embedding) -> (..., 3 hidden)."""
        padded_bias = nn.functional.pad(self.candidate_bias, (0, 2 * self.hidden))
        return inputs @ self.input + padded_bias

    def read_context(self, context: Tensor) -> Tensor:
        """The context's part of the signals: (rows, hidden) -> (rows, 3 hidden)."""
        assert self.context is not None
        return context @ self.context

    def forward(self, signals: Tensor, state: Tensor, context: Tensor | None = None) -> Tensor:
        """One step: (rows, 3 hidden), (rows, hidden)[, (rows, 3 hidden)] -> (rows, hidden)."""
        if self.reset_after:
            update, candidate = self._reset_after(signals, state, context)
        else:
            update, candidate = self._reset_before(signals, state, context)
        # The state stays in full precision where autocast makes the products bfloat16.
        update, candidate = update.to(state.dtype), candidate.to(state.dtype)
        if self.update_takes_new:
            return torch.lerp(state, candidate, update)
        return torch.lerp(candidate, state, update)

    def _reset_before(
        self, signals: Tensor, state: Tensor, context: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        n = self.hidden
        if context is not None:
            signals = signals + context
        gates = torch.sigmoid(torch.addmm(signals[:, n:], state, self.recurrent[:, n:]))
        update, reset = gates.chunk(2, dim=1)  # (rows, hidden) each
        reset_state = reset * state
        candidate = torch.tanh(torch.addmm(signals[:, :n], reset_state, self.recurrent[:, :n]))
        return update, candidate

    def _reset_after(
        self, signals: Tensor, state: Tensor, context: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        n = self.hidden
        if context is None:
            recurrent = state @ self.recurrent  # (rows, 3 hidden)
        else:
            recurrent = torch.addmm(context, state, self.recurrent)
        gates = torch.sigmoid(signals[:, n:] + recurrent[:, n:])
        update, reset = gates.chunk(2, dim=1)  # (rows, hidden) each
        candidate = torch.tanh(torch.addcmul(signals[:, :n], reset, recurrent[:, :n]))
        return update, candidate


CELLS: dict[str, type[GatedRecurrentUnit]] = {"gru": GatedRecurrentUnit}
