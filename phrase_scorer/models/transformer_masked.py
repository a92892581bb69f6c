"""The Transformer as a masked model of source and target (the BERT arrangement).

Each target symbol is predicted from the source and from all the other target symbols, before and
after it. The sum of their logarithms is a pseudo-log-likelihood (Besag 1975; Salazar et al. 2020),
no probability: it does not sum to one over targets, and is not to be compared with those that do.
The end symbol's place is given away by the length, so it costs hardly anything.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from phrase_scorer.batches import Batch
from phrase_scorer.models.config import ModelConfig
from phrase_scorer.models.transformer_blocks import TransformerModel


class MaskedModel(TransformerModel):
    """Π_t p(y_t | all other y, source) by one stack of `layers` blocks that see everything.

    In training every target symbol is masked in turn, so that the objective is what is scored.
    """

    is_stepwise = False

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.mask_symbol = nn.Parameter(torch.empty(config.hidden))
        self.target_segment = nn.Parameter(torch.empty(config.hidden))

    def features(self, batch: Batch) -> Tensor:
        """(symbols, rank) features of a batch's target symbols: a masked copy for each."""
        source, target = batch.source, batch.target
        phrases, words = target.phrases, target.words.T  # (symbols,), (pairs, time)
        places = target.symbols // words.shape[0]  # (symbols,) time of each
        x = self.embed_source(source.words.T)
        x = self.drop(x + self.positions(x.shape[1], x))
        y = self.embed_target(words)
        position = self.positions(y.shape[1], y) + self.target_segment
        y = y.index_select(0, phrases)  # (symbols, time, width)
        masked = places[:, None] == torch.arange(y.shape[1], device=y.device)
        y = self.drop(torch.where(masked[:, :, None], self.mask_symbol, y) + position)
        x = torch.cat([x.index_select(0, phrases), y], 1)
        unfinished = torch.zeros(target.words.numel(), dtype=torch.bool, device=x.device)
        unfinished[target.symbols] = True
        seen = torch.cat([source.unfinished.T, unfinished.view_as(target.words).T], 1)
        mask = seen.index_select(0, phrases)[:, None, None]
        for block in self.blocks:
            x, _ = block(x, mask)
        rows = torch.arange(len(x), device=x.device)
        return self.output.features(self.norm(x[rows, source.words.shape[0] + places]))
