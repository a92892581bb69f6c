"""Transformers (Vaswani et al. 2017), pre-norm (Xiong et al. 2020): blocks, and three arrangements.

Tensors are row first, (rows, time, width); keys and values (rows, heads, time, width / heads).
Prefixes are shared by their keys and values: a state holds those of all symbols so far, layer by
layer, so that one more symbol costs one step, not a whole prefix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from phrase_scorer.models.config import ModelConfig
from phrase_scorer.models.phrase_model import Affine, Output, Parts, PhraseModel
from phrase_scorer.text.batches import Batch, Sources
from phrase_scorer.text.vocabulary import END

LEARNED_POSITIONS = 128  # those that follow share the last one's vector


class KeysValues(NamedTuple):
    """What attention needs of symbols that may be attended to."""

    keys: Tensor
    values: Tensor

    def then(self, later: KeysValues) -> KeysValues:
        """These symbols, followed by others."""
        return KeysValues(*(torch.cat(both, 2) for both in zip(self, later, strict=True)))


def by_block(parts: Parts) -> list[KeysValues]:
    """Those of each block, of a memory or state that holds them one after the other."""
    return list(map(KeysValues, parts[::2], parts[1::2]))


class MultiHeadAttention(nn.Module):
    """softmax(Q K^T / √d) V in several heads (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, self.heads = config.hidden, config.heads
        self.query = Affine(width, width)
        self.key = Affine(width, width)
        self.value = Affine(width, width)
        self.out = Affine(width, width)

    def keys_values(self, inputs: Tensor) -> KeysValues:
        """(rows, time, width) -> both (rows, heads, time, width / heads)."""
        return KeysValues(self._split(self.key(inputs)), self._split(self.value(inputs)))

    def forward(self, inputs: Tensor, memory: KeysValues, mask: Tensor | None) -> Tensor:
        """What each input finds in the memory: (rows, time, width).

        `mask`, (rows or 1, 1, time or 1, memory time) bool, is True where it may look at a symbol
        of the memory; None: everywhere.
        """
        query = self._split(self.query(inputs))
        found = nn.functional.scaled_dot_product_attention(query, *memory, attn_mask=mask)
        merged: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return merged

    def _split(self, values: Tensor) -> Tensor:
        rows, time, _ = values.shape
        return values.view(rows, time, self.heads, -1).transpose(1, 2)


class FeedForward(nn.Module):
    """relu(x W_1 + b_1) W_2 + b_2 (Vaswani et al. 2017, equation 2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.inner = Affine(config.hidden, config.feed_forward)
        self.outer = Affine(config.feed_forward, config.hidden)

    def forward(self, inputs: Tensor) -> Tensor:
        """(rows, time, width) -> (rows, time, width)."""
        result: Tensor = self.outer(torch.relu(self.inner(inputs)))
        return result


class Block(nn.Module):
    """Self-attention, with `cross` attention to a memory, feed-forward: x + f(norm(x)) each.

    Dropout is of what each of the three adds.
    """

    def __init__(self, config: ModelConfig, *, cross: bool = False) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.hidden)
        self.attention = MultiHeadAttention(config)
        self.cross_norm = nn.LayerNorm(config.hidden) if cross else None
        self.cross = MultiHeadAttention(config) if cross else None
        self.feed_forward_norm = nn.LayerNorm(config.hidden)
        self.feed_forward = FeedForward(config)
        self.drop = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        before: KeysValues | None = None,
        memory: tuple[KeysValues, Tensor] | None = None,
    ) -> tuple[Tensor, KeysValues]:
        """(rows, time, width) -> the same, and keys and values of `before` and these symbols.

        Args:
            x: Some symbols.
            mask: Which of `before` and of these each of these may look at.
            before: Symbols that stand before these.
            memory: For the second attention, with its mask.
        """
        normed = self.attention_norm(x)
        seen = self.attention.keys_values(normed)
        if before is not None:
            seen = before.then(seen)
        x = x + self.drop(self.attention(normed, seen, mask))
        if self.cross is not None and self.cross_norm is not None:
            assert memory is not None
            x = x + self.drop(self.cross(self.cross_norm(x), *memory))
        return x + self.drop(self.feed_forward(self.feed_forward_norm(x))), seen


def stack(config: ModelConfig, *, cross: bool = False) -> Sequence[Block]:
    """`layers` blocks on top of each other."""
    blocks = nn.ModuleList(Block(config, cross=cross) for _ in range(config.layers))
    return cast(Sequence[Block], blocks)


class Positions(nn.Module):
    """What tells a Transformer the order of its symbols: added to their embeddings."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        learned = config.positions == "learned"
        self.width = config.hidden
        self.table = nn.Parameter(torch.empty(LEARNED_POSITIONS, self.width)) if learned else None

    def forward(self, count: int, like: Tensor) -> Tensor:
        """(count, width) the vectors of the first positions, of the type and place of `like`.

        Sinusoidal: sin and cos of p / 10000^(2i / width) (Vaswani et al. 2017, section 3.5).
        """
        places = torch.arange(count, device=like.device)
        if self.table is not None:
            return self.table.index_select(0, places.clamp(max=LEARNED_POSITIONS - 1))
        exponents = torch.arange(0, self.width, 2, device=like.device, dtype=like.dtype)
        angles = places[:, None] * torch.exp(exponents * (-math.log(10_000.0) / self.width))
        return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)


class TransformerModel(PhraseModel):
    """What the three arrangements share: embeddings, positions, the blocks, the last norm.

    `hidden` is the width of embeddings and blocks; embeddings are scaled by its root. Dropout is of
    embeddings with their positions, and of what each part of a block adds (Vaswani et al. 2017,
    section 5.4).
    """

    def __init__(self, config: ModelConfig, *, cross: bool = False) -> None:
        super().__init__(config)
        self.source_embedding = (
            None if config.shared_words else Affine(config.source_words, config.hidden, bias=False)
        )
        self.target_embedding = Affine(config.target_words, config.hidden, bias=False)
        self.positions = Positions(config)
        self.blocks = stack(config, cross=cross)
        self.norm = nn.LayerNorm(config.hidden)
        self.output = Output(config.hidden, config)

    def embed_source(self, words: Tensor) -> Tensor:
        """(rows, time) int64 -> (rows, time, width), with positions."""
        embedding = self.source_embedding or self.target_embedding
        return self.placed(embedding.embed(words) * math.sqrt(self.config.hidden))

    def embed_target(self, words: Tensor) -> Tensor:
        """(...) int64 -> (..., width), without positions."""
        return self.target_embedding.embed(words) * math.sqrt(self.config.hidden)

    def placed(self, x: Tensor) -> Tensor:
        """(rows, time, width) embeddings, the first at position 0 -> the same with positions."""
        dropped: Tensor = self.drop(x + self.positions(x.shape[1], x))
        return dropped

    def features_at(self, x: Tensor, batch: Batch) -> Tensor:
        """(rows, time, width) after the last block -> (symbols, rank) at the target symbols."""
        symbols = x.transpose(0, 1).flatten(0, 1).index_select(0, batch.target.symbols)
        return self.output.features(self.norm(symbols))

    @override
    def predict(self, memory: Parts, state: Parts) -> Tensor:
        return self.output.features(self.norm(state[0]))

    def reset_parameters(self, deviation: float, generator: torch.Generator | None = None) -> None:
        """Matrices from N(0, 2 / (in + out)), embeddings from N(0, 1 / width).

        (Glorot and Bengio 2010.) Biases are 0, norms 1; positions are from N(0, deviation²).
        """
        super().reset_parameters(deviation, generator)
        with torch.no_grad():
            for name, module in self.named_modules():
                if isinstance(module, nn.LayerNorm):
                    module.reset_parameters()
                elif isinstance(module, Affine):
                    inputs, outputs = module.weight.shape
                    embeds = name.endswith("embedding")
                    variance = 1 / outputs if embeds else 2 / (inputs + outputs)
                    module.weight.normal_(0.0, math.sqrt(variance), generator=generator)


def causal(time: int, device: torch.device, before: int = 0) -> Tensor:
    """(1, 1, time, before + time) bool: each symbol may look at itself and those before it."""
    everything = torch.ones(time, before + time, dtype=torch.bool, device=device)
    return everything.tril(before)[None, None]


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
        x, mask = self.embed_source(sources.words.T), sources.unfinished.T[:, None, None]
        for block in self.encoder:
            x, _ = block(x, mask)
        x = self.encoder_norm(x)
        crosses = [block.cross for block in self.blocks if block.cross is not None]
        parts = [part for cross in crosses for part in cross.keys_values(x)]
        return (mask.contiguous(), *parts)

    def _decode(self, memory: Parts, x: Tensor, mask: Tensor | None, past: Parts) -> Parts:
        """(x after the last block, then keys and values of `past` and these for each block)."""
        found: list[Tensor] = []
        sources, pasts = by_block(memory[1:]), by_block(past)  # no pasts: None for each block
        for block, source, before in zip_longest(self.blocks, sources, pasts):
            x, seen = block(x, mask, before, (source, memory[0]))
            found += seen
        return (x, *found)

    @override
    def features(self, batch: Batch) -> Tensor:
        words = nn.functional.pad(batch.target.words[:-1], (0, 0, 1, 0), value=END).T
        x = self.placed(self.embed_target(words))
        memory = self.read(batch.source)
        x = self._decode(memory, x, causal(words.shape[1], x.device), ())[0]
        return self.features_at(x, batch)

    def start(self, memory: Parts) -> Parts:
        """The state after the end symbol, with which decoding begins."""
        ends = torch.full((len(memory[0]),), END, device=memory[0].device)
        return self.advance(memory, (), ends)

    def advance(self, memory: Parts, state: Parts, words: Tensor) -> Parts:
        """(x (rows, width), then keys and values of all symbols so far for each block)."""
        x = self.embed_target(words)
        place = state[1].shape[2] if state else 0
        x = x + self.positions(place + 1, x)[place]
        x, *found = self._decode(memory, x[:, None], None, state[1:])
        return (x.squeeze(1), *found)


class DecoderOnly(TransformerModel):
    """p(target | source) by one causal stack of `layers` blocks (the GPT arrangement).

    It reads the source, its end symbol as the separator, and goes on with the target. Only the
    target's symbols are predicted (Radford et al. 2018, section 3.3; no pretrained weights here).
    """

    def read(self, sources: Sources) -> Parts:
        """(x at the end symbol, which symbols are of the phrase, keys and values of each block).

        (rows, width), (rows, time) bool, (rows, heads, time, width / heads).
        """
        x = self.embed_source(sources.words.T)
        mask, found = causal(x.shape[1], x.device), []
        for block in self.blocks:
            x, own = block(x, mask)
            found += own
        rows = torch.arange(len(x), device=x.device)
        return (x[rows, sources.last], sources.unfinished.T.contiguous(), *found)

    def _continue(self, memory: Parts, words: Tensor, past: Parts) -> Parts:
        """(x of these target symbols, then keys and values of `past` and these for each block)."""
        unfinished = memory[1]  # (rows, source time)
        before_count = past[0].shape[2] if past else 0
        rows, time = words.shape
        source_time = unfinished.shape[1]
        x = self.embed_target(words)
        places = unfinished.sum(1, keepdim=True) + before_count
        places = places + torch.arange(time, device=x.device)  # (rows, time)
        table = self.positions(source_time + before_count + time, x)
        x = self.drop(x + table[places])
        own_mask = causal(time, x.device, before_count)
        source_mask = unfinished[:, None, None].expand(-1, -1, time, -1)
        mask = torch.cat([source_mask, own_mask.expand(rows, -1, -1, -1)], 3)
        found: list[Tensor] = []
        for block, source, before in zip_longest(self.blocks, by_block(memory[2:]), by_block(past)):
            x, seen = block(x, mask, source if before is None else source.then(before))
            found += (part[:, :, source_time:] for part in seen)
        return (x, *found)

    @override
    def features(self, batch: Batch) -> Tensor:
        memory = self.read(batch.source)
        x = memory[0][:, None]
        if len(batch.target.words) > 1:
            x = torch.cat([x, self._continue(memory, batch.target.words[:-1].T, ())[0]], 1)
        return self.features_at(x, batch)

    def start(self, memory: Parts) -> Parts:
        """The state at the separator."""
        return (memory[0],)

    def advance(self, memory: Parts, state: Parts, words: Tensor) -> Parts:
        """(x (rows, width), then keys and values of all target symbols for each block)."""
        x, *found = self._continue(memory, words[:, None], state[1:])
        return (x.squeeze(1), *found)


class MaskedModel(TransformerModel):
    """Π_t p(y_t | all other y, source) by one stack of `layers` blocks that see everything.

    (The BERT arrangement.) In training every target symbol is masked in turn, so that the objective
    is what is scored. The sum of the logarithms is a pseudo-log-likelihood (Besag 1975; Salazar et
    al. 2020): it does not sum to one over targets, and is not to be compared with those that do.
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
