"""Jointly learning to align and translate (Bahdanau, Cho and Bengio 2015): a soft alignment.

The source is not squeezed into one vector: each word keeps its annotation, and before each target
symbol the decoder attends to all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from phrase_scorer.models.cells import cell_of
from phrase_scorer.models.config import ModelConfig
from phrase_scorer.models.phrase_model import Affine, Output, Parts, PhraseModel, Readout
from phrase_scorer.models.recurrence import unroll
from phrase_scorer.text.batches import Batch, Sources


class AdditiveAttention(nn.Module):
    """e_ij = v^T tanh(W_a s_{i-1} + U_a h_j), α_i = softmax(e_i), c_i = Σ_j α_ij h_j.

    (Bahdanau et al. 2015, section 3.1 and appendix A.1.2.)
    """

    def __init__(self, hidden: int, annotation: int) -> None:
        super().__init__()
        self.query = Affine(hidden, hidden, bias=False)
        self.key = Affine(annotation, hidden, bias=False)
        self.score = nn.Parameter(torch.empty(hidden))

    def forward(self, hidden: Tensor, memory: Parts) -> tuple[Tensor, Tensor]:
        """(α, c): (rows, hidden), `AttentionModel.read` -> (rows, time), (rows, annotation)."""
        annotations, keys, unfinished, _ = memory
        energies = torch.tanh(self.query(hidden)[:, None] + keys) @ self.score  # (rows, time)
        weights = energies.masked_fill(~unfinished, -torch.inf).softmax(1)
        weights = weights.to(annotations.dtype)
        return weights, (weights[:, None] @ annotations).squeeze(1)


class AttentionModel(PhraseModel):
    """p(target | source) by a bidirectional encoder, additive attention and a maxout readout.

    Dropout is of embeddings, contexts in the readout, and what goes into the output. A symbol is
    predicted from s_i, y_{i-1} and c_i (equation 4); appendix A.2.2 has s_{i-1} there.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        annotation = 2 * config.hidden
        self.source_embedding = Affine(config.source_words, config.embedding)
        self.forwards = cell_of(config, config.embedding, update_takes_new=True)
        self.backwards = cell_of(config, config.embedding, update_takes_new=True)
        self.target_embedding = Affine(config.target_words, config.embedding)
        self.decoder = cell_of(config, config.embedding, annotation, update_takes_new=True)
        self.initial_state = Affine(config.hidden, self.decoder.state_width)
        self.attention = AdditiveAttention(config.hidden, annotation)
        self.readout = Readout(config, annotation)
        self.output = Output(config.maxout, config)

    def read(self, sources: Sources) -> Parts:
        """(annotations, their keys U_a h, which are of the phrase, s_0).

        (rows, time, 2 hidden), (rows, time, hidden), (rows, time) bool, (rows, state width).
        """
        inputs = self.drop(self.source_embedding.embed(sources.words))
        ahead = unroll(self.forwards, self.forwards.read(inputs), sources)
        flipped = sources.flipped(self.backwards.read(inputs), keep_end=False)
        back = unroll(self.backwards, flipped, sources)
        hidden_ahead = self.forwards.visible(ahead)
        hidden_back = self.backwards.visible(back)
        annotations = torch.cat([hidden_ahead, sources.flipped(hidden_back, keep_end=False)], 2)
        annotations = annotations.transpose(0, 1).contiguous()  # (rows, time, 2 hidden)
        first = hidden_back[-1]  # after the first word, read last
        start = torch.tanh(self.initial_state(first)).to(first.dtype)
        keys: Tensor = self.attention.key(annotations)
        return annotations, keys, sources.unfinished.T.contiguous(), start

    def start(self, memory: Parts) -> Parts:
        """As `advance`; the embedding before the first symbol is zero."""
        nothing = memory[3].new_zeros(len(memory[3]), self.config.embedding)
        return self._step(memory, memory[3], nothing)

    def advance(self, memory: Parts, state: Parts, words: Tensor) -> Parts:
        """(s_i, e(y_{i-1}), c_i, α_i)."""
        return self._step(memory, state[0], self.drop(self.target_embedding.embed(words)))

    def _step(self, memory: Parts, before: Tensor, embedding: Tensor) -> Parts:
        weights, context = self.attention(self.decoder.visible(before), memory)
        signals = self.decoder.read_context(context)
        state = self.decoder(self.decoder.read(embedding), before, signals)
        return state, embedding, context, weights

    @override
    def predict(self, memory: Parts, state: Parts) -> Tensor:
        hidden, embedding, context, _ = state
        pieces = self.drop(context) @ self.readout.context
        units = self.readout(self.decoder.visible(hidden), embedding, pieces)
        return self.output.features(self.drop(units))

    @override
    def features(self, batch: Batch) -> Tensor:
        steps = self._states(batch)
        packed = [torch.cat(part).index_select(0, batch.target.symbols) for part in steps[:3]]
        return self.predict((), (*packed, packed[0]))

    def alignment(self, batch: Batch) -> Tensor:
        """α_ij: how much of each source word stands behind each target symbol.

        (pairs, target time, source time), end symbols included; 0 where a phrase has ended.
        """
        weights = torch.stack(self._states(batch)[3], 1)
        symbols = torch.zeros(batch.target.words.numel(), dtype=torch.bool, device=weights.device)
        symbols[batch.target.symbols] = True
        return weights * symbols.view_as(batch.target.words).T[:, :, None]

    def _states(self, batch: Batch) -> list[list[Tensor]]:
        """For each part of a state its values, target symbol by target symbol."""
        memory = self.read(batch.source)
        states = [self.start(memory)]
        for words in batch.target.words[:-1].unbind(0):
            states.append(self.advance(memory, states[-1], words))
        return [list(part) for part in zip(*states, strict=True)]
