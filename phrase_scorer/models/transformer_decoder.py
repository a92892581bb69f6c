"""The Transformer as a language model of "source <sep> target" (the GPT arrangement).

One stack of causal blocks reads the source, its end symbol as the separator, and goes on with the
target. Only the target's symbols are predicted (Radford et al. 2018, section 3.3: a task as a
sequence; no pretrained weights here).
"""

from __future__ import annotations

import torch
from torch import Tensor

from phrase_scorer.batches import Batch, Sources
from phrase_scorer.models.phrase_model import Parts
from phrase_scorer.models.transformer_blocks import KeysValues, TransformerModel, causal


class DecoderOnly(TransformerModel):
    """p(target | source) by one causal stack of `layers` blocks."""

    def read(self, sources: Sources) -> Parts:
        """(x at the end symbol, which symbols are of the phrase, keys and values of each block).

        (rows, width), (rows, time) bool, (rows, heads, time, width / heads).
        """
        words = sources.words.T
        x = self.embed_source(words)
        x = self.drop(x + self.positions(words.shape[1], x))
        mask, found = causal(words.shape[1], x.device), []
        for block in self.blocks:
            x, own = block(x, mask)
            found += own
        rows = torch.arange(len(x), device=x.device)
        return (x[rows, sources.last], sources.unfinished.T.contiguous(), *found)

    def _continue(self, memory: Parts, words: Tensor, past: Parts) -> tuple[Tensor, Parts]:
        """(x of these target symbols, keys and values of all target symbols for each block)."""
        unfinished = memory[1]  # (rows, source time)
        before_count = past[0].shape[2] if past else 0
        rows, time = words.shape
        x = self.embed_target(words)
        places = unfinished.sum(1, keepdim=True) + before_count
        places = places + torch.arange(time, device=x.device)  # (rows, time)
        table = self.positions(unfinished.shape[1] + before_count + time, x)
        x = self.drop(x + table[places])
        own_mask = causal(time, x.device, before_count)
        mask = torch.cat(
            [
                unfinished[:, None, None].expand(-1, -1, time, -1),
                own_mask.expand(rows, -1, -1, -1),
            ],
            3,
        )
        found: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            both = slice(2 * number, 2 * number + 2)
            source = KeysValues(*memory[2:][both])
            before = KeysValues(*past[both]) if past else None
            x, own = block(x, mask, source.then(before) if before else source)
            found += before.then(own) if before else own
        return x, tuple(found)

    def features(self, batch: Batch) -> Tensor:
        """(symbols, rank) features of a batch's target symbols."""
        memory = self.read(batch.source)
        x = memory[0][:, None]
        if len(batch.target.words) > 1:
            x = torch.cat([x, self._continue(memory, batch.target.words[:-1].T, ())[0]], 1)
        symbols = x.transpose(0, 1).flatten(0, 1).index_select(0, batch.target.symbols)
        return self.output.features(self.norm(symbols))

    def start(self, memory: Parts) -> Parts:
        """The state at the separator."""
        return (memory[0],)

    def advance(self, memory: Parts, state: Parts, words: Tensor) -> Parts:
        """(x (rows, width), then keys and values of all target symbols for each block)."""
        x, found = self._continue(memory, words[:, None], state[1:])
        return (x.squeeze(1), *found)

    def predict(self, memory: Parts, state: Parts) -> Tensor:
        """(rows, rank)."""
        return self.output.features(self.norm(state[0]))
