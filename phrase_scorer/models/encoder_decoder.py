"""The RNN encoder-decoder of Cho et al. 2014, over any cell: source ids in, ln p of symbols out.

Plain on purpose: what can be shared between pairs is shared from outside, by the scorer. Tensors
are time first, (time, rows, width); `variant` (config.py) names the two forms of the model.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from phrase_scorer.models.cells import cell_of
from phrase_scorer.models.config import ModelConfig
from phrase_scorer.models.phrase_model import Affine, Output, Parts, PhraseModel, Readout
from phrase_scorer.models.recurrence import unroll
from phrase_scorer.text.batches import Batch, Sources, Targets


class Context(NamedTuple):
    """What the decoder needs of a source phrase; computed once for each, whatever its targets."""

    state: Tensor  # (rows, state width) the decoder's initial state h'_0
    signals: Tensor  # (rows, blocks · hidden) C c, C_z c, C_r c
    readout: Tensor  # (rows, 2 maxout) O_c c


class EncoderDecoder(PhraseModel):
    """p(target | source) by a recurrent encoder and decoder (Cho et al. 2014, section 2, appendix).

    Dropout is of embeddings, and of what goes into the output. With another cell than the paper's
    GRU the rest stays; an LSTM's memory cell starts, as h'_0 does, from tanh of an affine map of c.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        groundhog = config.variant == "groundhog"
        self.source_embedding = Affine(config.source_words, config.embedding)
        self.encoder = cell_of(config, config.embedding, update_takes_new=groundhog)
        self.summary = None if groundhog else Affine(config.hidden, config.hidden, bias=False)
        self.target_embedding = Affine(config.target_words, config.embedding)
        forms = {"reset_after": not groundhog, "update_takes_new": groundhog}
        self.decoder = cell_of(config, config.embedding, config.hidden, **forms)
        self.initial_state = Affine(config.hidden, self.decoder.state_width)
        self.readout = Readout(config, config.hidden)
        self.output = Output(config.maxout, config)

    def encode(self, source: Sources) -> Tensor:
        """The summary c of each source phrase, its end symbol read too: (phrases, hidden)."""
        signals = self.encoder.read(self.drop(self.source_embedding.embed(source.words)))
        state = self.encoder.visible(unroll(self.encoder, signals, source)[-1])
        return state if self.summary is None else torch.tanh(self.summary(state))

    def context(self, summary: Tensor) -> Context:
        """All that the decoder needs of the summaries: (phrases, hidden) -> `Context`."""
        return Context(
            torch.tanh(self.initial_state(summary)),
            self.decoder.read_context(summary),
            summary @ self.readout.context,
        )

    def begin(self, context: Context) -> Tensor:
        """The state from which the first target symbol is read: (rows, state width)."""
        if self.config.variant == "groundhog":
            return context.state
        return self.step(context, context.state, self.decoder.read(self._nothing(context)))

    def _nothing(self, context: Context) -> Tensor:
        """The embedding before the first target symbol: (rows, embedding) zeros."""
        return context.state.new_zeros(len(context.state), self.config.embedding)

    def step(self, context: Context, state: Tensor, signals: Tensor) -> Tensor:
        """The state after one more symbol, of which `signals` = decoder.read(embedding)."""
        following: Tensor = self.decoder(signals, state, context.signals)
        return following

    def decode(self, context: Context, target: Targets) -> Tensor:
        """(symbols, rank) features from which each target symbol is predicted (`Output`)."""
        previous = self.drop(self.target_embedding.embed(target.words[:-1]))
        previous = nn.functional.pad(previous, (0, 0, 0, 0, 1, 0))  # e(y_0) = 0
        states = self._states(context, self.decoder.read(previous)).flatten(0, 1)
        units = self.readout(
            self.decoder.visible(states.index_select(0, target.symbols)),
            previous.flatten(0, 1).index_select(0, target.symbols),
            context.readout.index_select(0, target.phrases),
        )
        return self.output.features(self.drop(units))

    def _states(self, context: Context, signals: Tensor) -> Tensor:
        """(time, rows, state width) the states that each target symbol is predicted from.

        Signals of the symbols before them; none is read by the first state of `groundhog`.
        """
        groundhog, first = self.config.variant == "groundhog", context.state
        steps = signals[1:] if groundhog else signals
        states = unroll(self.decoder, steps, state=first, context=context.signals)
        return torch.cat([first[None], states]) if groundhog else states

    @override
    def features(self, batch: Batch) -> Tensor:
        return self.decode(self.context(self.encode(batch.source)), batch.target)

    def read(self, sources: Sources) -> Parts:
        """A `Context`."""
        return self.context(self.encode(sources))

    def start(self, memory: Parts) -> Parts:
        """(state, embedding of the symbol before: zero)."""
        context = Context(*memory)
        return self.begin(context), self._nothing(context)

    def advance(self, memory: Parts, state: Parts, words: Tensor) -> Parts:
        """(state, embedding of the symbol)."""
        embedding = self.target_embedding.embed(words)
        return self.step(Context(*memory), state[0], self.decoder.read(embedding)), embedding

    @override
    def predict(self, memory: Parts, state: Parts) -> Tensor:
        hidden = self.decoder.visible(state[0])
        units: Tensor = self.readout(hidden, state[1], Context(*memory).readout)
        return self.output.features(units)
