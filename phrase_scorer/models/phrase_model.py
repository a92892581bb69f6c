"""The contract of all models: how they are trained, scored pair by pair, and walked step by step.

A model turns each target symbol's past into features; the output matrix, the same in all models,
turns features into a distribution over the shortlist. So training, the normaliser, precision and
the scoring engines are written once.

For what shares prefixes (the engines, beam search, sampling) a model is an automaton:

    memory = model.read(sources)                    once for each source phrase
    state  = model.start(memory)                    before the first symbol
    model.output(model.predict(memory, state))      logits of the next symbol
    state  = model.advance(memory, state, words)    after one more symbol

`memory` and `state` are tuples of tensors whose first dimension is the row, so that rows can be
taken, repeated and left out without knowing what is in them.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from phrase_scorer.models.cells import Cell
from phrase_scorer.models.config import ModelConfig
from phrase_scorer.text.batches import Batch, Sources

Parts = tuple[Tensor, ...]  # of a memory or a state


def take(parts: Parts, rows: Tensor) -> Parts:
    """These rows of all parts, in this order."""
    return tuple(part.index_select(0, rows) for part in parts)


class Affine(nn.Module):
    """x W + b, or an embedding W[id] + b: weight (in, out), bias (out,) where there is one."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None

    def embed(self, ids: Tensor) -> Tensor:
        """(...) int64 -> (..., out)."""
        return self._shifted(nn.functional.embedding(ids, self.weight))

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return self._shifted(inputs @ self.weight)

    def _shifted(self, values: Tensor) -> Tensor:
        return values if self.bias is None else values + self.bias


class Readout(nn.Module):
    """Deep output with maxout: s'_t = O_h h'_t + O_y e(y_{t-1}) + O_c c; s_i = max(s'_2i, s'_2i+1).

    (Cho et al. 2014, appendix; O_y on the embedding and the bias as in GroundHog.) `context` is the
    width of c.
    """

    def __init__(self, config: ModelConfig, context: int) -> None:
        super().__init__()
        pieces = 2 * config.maxout
        self.state = nn.Parameter(torch.empty(config.hidden, pieces))
        self.previous = nn.Parameter(torch.empty(config.embedding, pieces))
        self.context = nn.Parameter(torch.empty(context, pieces))
        self.bias = nn.Parameter(torch.empty(pieces))

    def forward(self, state: Tensor, previous: Tensor, context: Tensor) -> Tensor:
        """(rows, hidden), (rows, embedding), (rows, 2 maxout) -> (rows, maxout)."""
        pieces = torch.addmm(context + self.bias, state, self.state)
        pieces = torch.addmm(pieces, previous, self.previous)
        units: Tensor = _Maxout.apply(pieces)  # type: ignore[no-untyped-call]
        return units


class _Maxout(torch.autograd.Function):
    """max(s'_2i, s'_2i+1), whose gradient is written in one go; of equals, the first gets it."""

    @staticmethod
    def forward(ctx: Any, pieces: Tensor) -> Tensor:
        first, second = pieces[:, 0::2], pieces[:, 1::2]
        ctx.save_for_backward(first >= second)
        return torch.maximum(first, second)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        (is_first,) = ctx.saved_tensors
        gradient = upstream[0].new_empty(*is_first.shape, 2)
        torch.mul(upstream[0], is_first, out=gradient[..., 0])
        torch.sub(upstream[0], gradient[..., 0], out=gradient[..., 1])
        return gradient.flatten(1)


class Output(nn.Module):
    """The output matrix G = G_l G_r over the shortlist, with a bias (paper: rank 100).

    With `output_rank` 0, G is not factorised. `units` is the width of what comes in.
    """

    def __init__(self, units: int, config: ModelConfig) -> None:
        super().__init__()
        rank = config.output_rank
        self.left = nn.Parameter(torch.empty(units, rank)) if rank else None
        self.right = nn.Parameter(torch.empty(rank or units, config.target_words))
        self.bias = nn.Parameter(torch.empty(config.target_words))

    def features(self, units: Tensor) -> Tensor:
        """(rows, units) -> (rows, rank): what `right` is multiplied with."""
        return units if self.left is None else units @ self.left

    def forward(self, features: Tensor) -> Tensor:
        """(rows, rank) -> (rows, target words) logits."""
        return torch.addmm(self.bias, features, self.right)


class PhraseModel(nn.Module):
    """Base class of all models: p(target | source), or what an architecture has in its place.

    A subclass sets `output` and defines `features`; a stepwise one also `read`, `start`, `advance`
    and `predict`.
    """

    is_stepwise: ClassVar[bool] = True  # whether each symbol is predicted from those before it
    reads_source: ClassVar[bool] = True  # a language model does not
    output: Output

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.drop = nn.Dropout(config.dropout)

    def reset_parameters(self, deviation: float, generator: torch.Generator | None = None) -> None:
        """Weights from N(0, deviation²), biases 0, recurrent matrices orthogonal (`Cell`).

        The paper's deviation is 0.01 (section 4.1.1).
        """
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, Cell):
                    module.reset_parameters(deviation, generator)
                    continue
                for name, parameter in module.named_parameters(recurse=False):
                    if name.endswith("bias"):
                        parameter.zero_()
                    else:
                        parameter.normal_(0.0, deviation, generator=generator)

    def features(self, batch: Batch) -> Tensor:
        """(symbols, rank) what the output matrix is multiplied with at each target symbol."""
        raise NotImplementedError

    def read(self, sources: Sources) -> Parts:
        """The memory of each source phrase, its end symbol read too."""
        raise NotImplementedError

    def start(self, memory: Parts) -> Parts:
        """The state before the first target symbol, a row for each of the memory."""
        raise NotImplementedError

    def advance(self, memory: Parts, state: Parts, words: Tensor) -> Parts:
        """The state after one more symbol: (rows,) int64 ids."""
        raise NotImplementedError

    def predict(self, memory: Parts, state: Parts) -> Tensor:
        """(rows, rank) what the output matrix is multiplied with for the next symbol."""
        raise NotImplementedError

    def log_probs(self, batch: Batch) -> Tensor:
        """Natural-log probability of each target symbol given those before it and the source.

        (pairs, time); the end symbol is the last of a phrase, 0 follows it. A row's sum is
        ln p(target | source).
        """
        logits = self.output(self.features(batch))  # (symbols, words)
        chosen = logits.log_softmax(1).gather(1, batch.target.symbol_words[:, None])
        table = chosen.new_zeros(batch.target.words.numel())
        table = table.index_copy(0, batch.target.symbols, chosen[:, 0])
        by_time: Tensor = table.view_as(batch.target.words)
        return by_time.T
