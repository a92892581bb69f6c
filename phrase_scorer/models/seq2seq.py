"""Sequence to sequence learning (Sutskever, Vinyals and Le 2014): the summary is a start, no more.

Several cells on top of each other read the source backwards. Their last states are the decoder's
first ones; nothing else of the source is seen. As in figure 1 of the paper, the decoder's first
input is the end symbol.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from phrase_scorer.models.cells import Cell, cell_of
from phrase_scorer.models.config import ModelConfig
from phrase_scorer.models.phrase_model import Affine, Output, Parts, PhraseModel
from phrase_scorer.models.recurrence import unroll
from phrase_scorer.text.batches import Batch, Sources
from phrase_scorer.text.vocabulary import END


class SequenceToSequence(PhraseModel):
    """p(target | source) by stacked cells over the reversed source and the target.

    Dropout is between layers, as in Zaremba et al. 2014. The paper's cell is the LSTM.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.source_embedding = Affine(config.source_words, config.embedding)
        self.encoder = _cells(config)
        self.target_embedding = Affine(config.target_words, config.embedding)
        self.decoder = _cells(config)
        self.output = Output(config.hidden, config)

    def encode(self, source: Sources) -> list[Tensor]:
        """The last state of each layer, lowest first: (phrases, state width)."""
        backwards = source.backwards()
        inputs, last = self.source_embedding.embed(backwards.words), []
        for cell in self.encoder:
            states = unroll(cell, cell.read(self.drop(inputs)), backwards)
            inputs = cell.visible(states)
            last.append(states[-1])
        return last

    def summaries(self, source: Sources) -> Tensor:
        """The visible last state of the highest layer: (phrases, hidden).

        (Sutskever et al. 2014, figure 2, shows the plane of these.)
        """
        return self.encoder[-1].visible(self.encode(source)[-1])

    @override
    def features(self, batch: Batch) -> Tensor:
        words = batch.target.words
        read = nn.functional.pad(words[:-1], (0, 0, 1, 0), value=END)
        inputs = self.target_embedding.embed(read)  # (time, rows, embedding)
        everything = Sources(read, torch.ones_like(read, dtype=torch.bool), len(read))
        for cell, state in zip(self.decoder, self.encode(batch.source), strict=True):
            states = unroll(cell, cell.read(self.drop(inputs)), everything, state)
            inputs = cell.visible(states)
        units = inputs.flatten(0, 1).index_select(0, batch.target.symbols)
        return self.output.features(self.drop(units))

    def read(self, sources: Sources) -> Parts:
        """The last state of each layer."""
        return tuple(self.encode(sources))

    def start(self, memory: Parts) -> Parts:
        """The states after the end symbol."""
        ends = torch.full((len(memory[0]),), END, device=memory[0].device)
        return self.advance((), memory, ends)

    def advance(self, memory: Parts, state: Parts, words: Tensor) -> Parts:
        """The state of each layer."""
        inputs, states = self.target_embedding.embed(words), []
        for cell, before in zip(self.decoder, state, strict=True):
            states.append(cell(cell.read(inputs), before))
            inputs = cell.visible(states[-1])
        return tuple(states)

    @override
    def predict(self, memory: Parts, state: Parts) -> Tensor:
        return self.output.features(self.decoder[-1].visible(state[-1]))


def _cells(config: ModelConfig) -> Sequence[Cell]:
    """`layers` cells on top of each other."""
    widths = [config.embedding] + [config.hidden] * (config.layers - 1)
    return cast(Sequence[Cell], nn.ModuleList([cell_of(config, width) for width in widths]))
