"""The RNN encoder-decoder of Cho et al. 2014: source ids in, ln p of target symbols out.

Plain on purpose: what can be shared between pairs is shared from outside, by the scorer. Tensors
are time first, (time, rows, width); `variant` (config.py) names the two forms of the model.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from phrase_scorer.batches import Batch, Sources, Targets
from phrase_scorer.models.cells import CELLS
from phrase_scorer.models.config import ModelConfig


class Context(NamedTuple):
    """What the decoder needs of a source phrase; computed once for each, whatever its targets."""

    state: Tensor  # (rows, hidden) the decoder's initial state h'_0
    signals: Tensor  # (rows, 3 hidden) C c, C_z c, C_r c
    readout: Tensor  # (rows, 2 maxout) O_c c

    def take(self, rows: Tensor) -> Context:
        """The contexts of these rows, in this order."""
        return Context(*(part.index_select(0, rows) for part in self))


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

    (Cho et al. 2014, appendix; O_y on the embedding and the bias as in GroundHog.)
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        pieces = 2 * config.maxout
        self.state = nn.Parameter(torch.empty(config.hidden, pieces))
        self.previous = nn.Parameter(torch.empty(config.embedding, pieces))
        self.context = nn.Parameter(torch.empty(config.hidden, pieces))
        self.bias = nn.Parameter(torch.empty(pieces))

    def forward(self, state: Tensor, previous: Tensor, context: Tensor) -> Tensor:
        """(rows, hidden), (rows, embedding), (rows, 2 maxout) -> (rows, maxout)."""
        pieces = torch.addmm(context + self.bias, state, self.state)
        pieces = torch.addmm(pieces, previous, self.previous)
        return torch.maximum(pieces[:, 0::2], pieces[:, 1::2])


class Output(nn.Module):
    """The output matrix G = G_l G_r over the shortlist, with a bias (paper: rank 100)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        left = torch.empty(config.maxout, config.output_rank)
        self.left = nn.Parameter(left) if config.output_rank else None
        self.right = nn.Parameter(torch.empty(config.output_features, config.target_words))
        self.bias = nn.Parameter(torch.empty(config.target_words))

    def features(self, units: Tensor) -> Tensor:
        """(rows, maxout) -> (rows, rank): what `right` is multiplied with."""
        return units if self.left is None else units @ self.left

    def forward(self, features: Tensor) -> Tensor:
        """(rows, rank) -> (rows, target words) logits."""
        return torch.addmm(self.bias, features, self.right)


class EncoderDecoder(nn.Module):
    """p(target | source) by a recurrent encoder and decoder (Cho et al. 2014, section 2, appendix).

    The parameters start at random (`reset_parameters`).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        groundhog = config.variant == "groundhog"
        cell = CELLS[config.cell]
        self.source_embedding = Affine(config.source_words, config.embedding)
        self.encoder = cell(config.embedding, config.hidden, update_takes_new=groundhog)
        self.summary = None if groundhog else Affine(config.hidden, config.hidden, bias=False)
        self.initial_state = Affine(config.hidden, config.hidden)
        self.target_embedding = Affine(config.target_words, config.embedding)
        self.decoder = cell(
            config.embedding,
            config.hidden,
            context=True,
            reset_after=not groundhog,
            update_takes_new=groundhog,
        )
        self.readout = Readout(config)
        self.output = Output(config)

    def reset_parameters(self, deviation: float, generator: torch.Generator | None = None) -> None:
        """Weights from N(0, deviation²), biases 0, recurrent matrices orthogonal.

        The paper's deviation is 0.01; its recurrent matrices are the left singular vectors of a
        Gaussian matrix (section 4.1.1, after Saxe et al. 2014).
        """
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith("bias"):
                    parameter.zero_()
                else:
                    parameter.normal_(0.0, deviation, generator=generator)
            for cell in (self.encoder, self.decoder):
                for block in cell.recurrent.chunk(3, dim=1):
                    sample = torch.empty(block.shape).normal_(generator=generator)
                    block.copy_(torch.linalg.svd(sample).U)

    def encode(self, source: Sources) -> Tensor:
        """The summary c of each source phrase, its end symbol read too: (phrases, hidden)."""
        signals = self.encoder.read(self.source_embedding.embed(source.words)).unbind(0)
        state = signals[0].new_zeros(source.words.shape[1], self.config.hidden)
        for time, step in enumerate(signals):
            following = self.encoder(step, state)
            if time < source.shortest:
                state = following
            else:
                state = torch.where(source.unfinished[time, :, None], following, state)
        return state if self.summary is None else torch.tanh(self.summary(state))

    def context(self, summary: Tensor) -> Context:
        """All that the decoder needs of the summaries: (phrases, hidden) -> `Context`."""
        return Context(
            torch.tanh(self.initial_state(summary)),
            self.decoder.read_context(summary),
            summary @ self.readout.context,
        )

    def begin(self, context: Context) -> Tensor:
        """The state from which the first target symbol is read: (rows, hidden)."""
        if self.config.variant == "groundhog":
            return context.state
        nothing = context.state.new_zeros(len(context.state), self.config.embedding)
        return self.step(context, context.state, self.decoder.read(nothing))

    def step(self, context: Context, state: Tensor, signals: Tensor) -> Tensor:
        """The state after one more symbol, of which `signals` = decoder.read(embedding)."""
        following: Tensor = self.decoder(signals, state, context.signals)
        return following

    def decode(self, context: Context, target: Targets) -> Tensor:
        """(symbols, rank) features from which each target symbol is predicted (`Output`)."""
        previous = self.target_embedding.embed(target.words[:-1])  # (time - 1, rows, embedding)
        states = [self.begin(context)]
        for signals in self.decoder.read(previous).unbind(0):
            states.append(self.step(context, states[-1], signals))
        previous = nn.functional.pad(previous, (0, 0, 0, 0, 1, 0))  # e(y_0) = 0
        units = self.readout(
            torch.cat(states).index_select(0, target.symbols),
            previous.flatten(0, 1).index_select(0, target.symbols),
            context.readout.index_select(0, target.phrases),
        )
        return self.output.features(units)

    def features(self, batch: Batch) -> Tensor:
        """(symbols, rank) features of a batch's target symbols."""
        return self.decode(self.context(self.encode(batch.source)), batch.target)

    def log_probs(self, batch: Batch) -> Tensor:
        """Natural-log probability of each target symbol given those before it and the source.

        Returns:
            (pairs, time); the end symbol is the last of a phrase, 0 follows it. A row's sum is
            ln p(target | source).
        """
        logits = self.output(self.features(batch))  # (symbols, words)
        chosen = logits.log_softmax(1).gather(1, batch.target.symbol_words[:, None])
        table = chosen.new_zeros(batch.target.words.numel())
        table = table.index_copy(0, batch.target.symbols, chosen[:, 0])
        by_time: Tensor = table.view_as(batch.target.words)
        return by_time.T
