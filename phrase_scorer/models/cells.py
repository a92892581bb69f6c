"""Recurrent cells as their equations: one step each; the loop over time belongs to the caller.

A cell takes the input's part of its signals ready made (`read`, one product for all time steps)
and the state, and returns the next state. Row vectors throughout: y = x W, W is (in, out).
A new cell is a class and a line in `CELLS`.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from phrase_scorer.errors import require_choice
from phrase_scorer.models.config import ModelConfig


class Cell(nn.Module):
    """What every cell has: its matrices side by side, one block of columns for each signal.

    Args:
        config: Its `hidden` is the width of the state h, which all that is outside the cell sees.
        embedding: Width of the input.
        context: Width of a context that every step reads beside the input; 0: no context.
        forms: `reset_after`, `update_takes_new`: forms of the equations that only a GRU has.
    """

    blocks: ClassVar[int]  # signals per unit
    state_blocks: ClassVar[int] = 1  # vectors of width `hidden` that a step needs of the one before

    def __init__(
        self, config: ModelConfig, embedding: int, context: int = 0, **forms: bool
    ) -> None:
        super().__init__()
        self.config = config
        self.hidden = hidden = config.hidden
        self.input = nn.Parameter(torch.empty(embedding, self.blocks * hidden))
        self.recurrent = nn.Parameter(torch.empty(hidden, self.blocks * hidden))
        self.context = nn.Parameter(torch.empty(context, self.blocks * hidden)) if context else None

    @property
    def state_width(self) -> int:
        """Width of the state: h, and what else a step needs of the one before."""
        return self.state_blocks * self.hidden

    def read(self, inputs: Tensor) -> Tensor:
        """The input's part of the signals: (..., embedding) -> (..., blocks · hidden)."""
        raise NotImplementedError

    def read_context(self, context: Tensor) -> Tensor:
        """The context's part of the signals: (rows, context) -> (rows, blocks · hidden)."""
        assert self.context is not None
        return context @ self.context

    def visible(self, state: Tensor) -> Tensor:
        """The hidden state h: (..., state_width) -> (..., hidden)."""
        return state[..., : self.hidden]

    def forward(self, signals: Tensor, state: Tensor, context: Tensor | None = None) -> Tensor:
        """The state after one more step: (rows, state_width), as the state before.

        Signals of the input (`read`) and of the context (`read_context`): (rows, blocks · hidden).
        """
        raise NotImplementedError

    def reset_parameters(self, deviation: float, generator: torch.Generator | None = None) -> None:
        """Weights from N(0, deviation²), biases 0, recurrent matrices orthogonal.

        (Cho et al. 2014, section 4.1.1, after Saxe et al. 2014: the left singular vectors of a
        Gaussian matrix.)
        """
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith("bias"):
                    parameter.zero_()
                elif name != "recurrent":
                    parameter.normal_(0.0, deviation, generator=generator)
            for block in self.recurrent.chunk(self.blocks, dim=1):
                sample = torch.empty(block.shape).normal_(generator=generator)
                block.copy_(torch.linalg.svd(sample).U)


class AdditiveCell(Cell):
    """A cell whose signals are sums: s = x W + h U + k + b, and the rest goes unit by unit."""

    def __init__(
        self, config: ModelConfig, embedding: int, context: int = 0, **forms: bool
    ) -> None:
        super().__init__(config, embedding, context)
        self.bias = nn.Parameter(torch.empty(self.blocks * self.hidden))

    @override
    def read(self, inputs: Tensor) -> Tensor:
        return inputs @ self.input + self.bias

    @override
    def forward(self, signals: Tensor, state: Tensor, context: Tensor | None = None) -> Tensor:
        if context is not None:
            signals = signals + context
        return self.update(torch.addmm(signals, self.visible(state), self.recurrent), state)

    def update(self, signals: Tensor, state: Tensor) -> Tensor:
        """The next state: (rows, blocks · hidden) whole signals, (rows, state_width)."""
        raise NotImplementedError


class VanillaRNN(AdditiveCell):
    """The simple recurrent network (Elman 1990): h' = tanh(x W + h U + k + b)."""

    blocks = 1

    @override
    def update(self, signals: Tensor, state: Tensor) -> Tensor:
        return torch.tanh(signals).to(state.dtype)


class LongShortTermMemory(AdditiveCell):
    """LSTM with a forget gate, without peepholes (Hochreiter and Schmidhuber 1997; Gers 2000).

    With x the input, h the hidden state, C the memory cell, k a context:

        i = σ(x W_i + h U_i + k_i + b_i)
        f = σ(x W_f + h U_f + k_f + b_f)
        g = tanh(x W_g + h U_g + k_g + b_g)
        o = σ(x W_o + h U_o + k_o + b_o)
        C' = f ∘ C + i ∘ g
        h' = o ∘ tanh(C')

    The state is (h, C) side by side; columns are i, f, g, o, as in torch.nn.LSTMCell. b_f starts at
    `forget_bias`; 1 lets a new network remember (Jozefowicz et al. 2015).
    """

    blocks = 4
    state_blocks = 2

    @override
    def update(self, signals: Tensor, state: Tensor) -> Tensor:
        i, f, g, o = signals.to(state.dtype).chunk(4, dim=1)
        memory = torch.sigmoid(f) * state[:, self.hidden :] + torch.sigmoid(i) * torch.tanh(g)
        return torch.cat([torch.sigmoid(o) * torch.tanh(memory), memory], 1)

    @override
    def reset_parameters(self, deviation: float, generator: torch.Generator | None = None) -> None:
        super().reset_parameters(deviation, generator)
        with torch.no_grad():
            self.bias[self.hidden : 2 * self.hidden] = self.config.forget_bias


class GatedRecurrentUnit(Cell):
    """The hidden unit that adaptively remembers and forgets (Cho et al. 2014, eq. 5-8, appendix).

    With x the input, h the state, c a context (decoder only), s = (x W, x W_z, x W_r) and
    k = (c C, c C_z, c C_r) the signals of input and context:

        r = σ(s_r + h U_r + k_r)                                        (5)
        z = σ(s_z + h U_z + k_z)                                        (6)
        h~ = tanh(s + (r ∘ h) U + k)          reset before the product  (8)
        h~ = tanh(s + r ∘ (h U + k))          reset after it, and over the context (appendix)
        h' = z ∘ h + (1 - z) ∘ h~                                       (7)
        h' = (1 - z) ∘ h + z ∘ h~             z takes the new state (GroundHog, rec_layers.py)

    torch.nn.GRU is none of these: it resets after the product, with a bias inside. Columns are
    candidate, update, reset. `reset_after` chooses the second form of h~, `update_takes_new` that
    of h'.
    """

    blocks = 3

    def __init__(
        self,
        config: ModelConfig,
        embedding: int,
        context: int = 0,
        *,
        reset_after: bool = False,
        update_takes_new: bool = False,
    ) -> None:
        super().__init__(config, embedding, context)
        self.reset_after = reset_after
        self.update_takes_new = update_takes_new
        self.candidate_bias = nn.Parameter(torch.empty(self.hidden))

    @override
    def read(self, inputs: Tensor) -> Tensor:
        padded_bias = nn.functional.pad(self.candidate_bias, (0, 2 * self.hidden))
        return inputs @ self.input + padded_bias

    @override
    def forward(self, signals: Tensor, state: Tensor, context: Tensor | None = None) -> Tensor:
        form = self._reset_after if self.reset_after else self._reset_before
        update, candidate = form(signals, state, context)
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


CELLS: dict[str, type[Cell]] = {
    "rnn": VanillaRNN,
    "lstm": LongShortTermMemory,
    "gru": GatedRecurrentUnit,
}


def cell_of(config: ModelConfig, embedding: int, context: int = 0, **forms: bool) -> Cell:
    """The cell that a configuration names, which `CELLS` must have; arguments as of `Cell`."""
    require_choice("cell", config.cell, CELLS)
    return CELLS[config.cell](config, embedding, context, **forms)
