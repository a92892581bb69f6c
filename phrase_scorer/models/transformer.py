"""The Transformer as an encoder-decoder (Vaswani et al. 2017), pre-norm (Xiong et al. 2020).

Prefixes are shared by their keys and values: a state holds those of all symbols so far, layer by
layer, so that one more symbol costs one step, not a whole prefix.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from phrase_scorer.batches import Batch, Sources
from phrase_scorer.models.config import ModelConfig
from phrase_scorer.models.phrase_model import Parts
from phrase_scorer.models.transformer_blocks import (
    KeysValues,
    TransformerModel,
    causal,
    stack,
)
from phrase_scorer.vocabulary import END


class Transformer(TransformerModel):
    """p(target | source) by attention alone; the decoder's first input is the end symbol.

    `layers` blocks in the encoder and as many in the decoder.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, cross=True)
        self.encoder = stack(config)
        self.encoder_norm = nn.LayerNorm(config.hidden)

    def read(self, sources: Sources) -> Parts:
        """(mask, then keys and values for each of the decoder's blocks).

        Mask (rows, 1, 1, time) bool.
        """
        words, mask = sources.words.T, sources.unfinished.T[:, None, None]
        x = self.embed_source(words)
        x = self.drop(x + self.positions(words.shape[1], x))
        for block in self.encoder:
            x, _ = block(x, mask)
        x = self.encoder_norm(x)
        crosses = [block.cross for block in self.blocks if block.cross is not None]
        parts = [part for cross in crosses for part in cross.keys_values(x)]
        return (mask.contiguous(), *parts)

    def _decode(self, memory: Parts, x: Tensor, mask: Tensor | None, past: Parts) -> Parts:
        """(x after the last block, then keys and values of `past` and these for each block)."""
        found: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            both = slice(2 * number, 2 * number + 2)
            before = KeysValues(*past[both]) if past else None
            source = KeysValues(*memory[1:][both])
            x, own = block(x, mask, before, (source, memory[0]))
            found += before.then(own) if before else own
        return (x, *found)

    def features(self, batch: Batch) -> Tensor:
        """(symbols, rank) features of a batch's target symbols."""
        words = nn.functional.pad(batch.target.words[:-1], (0, 0, 1, 0), value=END).T
        x = self.embed_target(words)
        x = self.drop(x + self.positions(words.shape[1], x))
        memory = self.read(batch.source)
        x = self._decode(memory, x, causal(words.shape[1], x.device), ())[0]
        symbols = x.transpose(0, 1).flatten(0, 1).index_select(0, batch.target.symbols)
        return self.output.features(self.norm(symbols))

    def start(self, memory: Parts) -> Parts:
        """The state after the end symbol, with which decoding begins."""
        ends = torch.full((len(memory[0]),), END, device=memory[0].device)
        return self.advance(memory, (), ends)

    def advance(self, memory: Parts, state: Parts, words: Tensor) -> Parts:
        """(x (rows, width), then keys and values of all symbols so far for each block)."""
        x = self.embed_target(words)
        place = state[1].shape[2] if state else 0
        x = x + self.positions(place + 1, x)[place]
        found = self._decode(memory, x[:, None], None, state[1:])
        return (found[0].squeeze(1), *found[1:])

    def predict(self, memory: Parts, state: Parts) -> Tensor:
        """(rows, rank)."""
        return self.output.features(self.norm(state[0]))
