"""The three arrangements of Transformer blocks against torch.nn's layers, a pair at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from toys import phrase_pairs, tiny_model

from phrase_scorer.models.transformer import LEARNED_POSITIONS
from phrase_scorer.text.batches import pair_batch
from phrase_scorer.text.vocabulary import END

PAIRS = [([2, 3, 4], [5, 6]), ([7], [8]), ([7, 7, 2, 5, 3, 1, 6], [2]), ([4, 1], []), ([], [3])]
WORDS = {"source_words": 9, "target_words": 9}


def copy_attention(theirs, ours):
    parts = (ours.query, ours.key, ours.value)
    theirs.in_proj_weight.copy_(torch.cat([part.weight.T for part in parts]))
    theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    theirs.out_proj.weight.copy_(ours.out.weight.T)
    theirs.out_proj.bias.copy_(ours.out.bias)


def torch_layer(block):
    """torch.nn's pre-norm layer with the weights of a block."""
    width, inner = block.feed_forward.inner.weight.shape
    kind = torch.nn.TransformerDecoderLayer if block.cross else torch.nn.TransformerEncoderLayer
    layer = kind(width, block.attention.heads, inner, 0.0, norm_first=True, batch_first=True)
    layer = layer.double().requires_grad_(False)
    copy_attention(layer.self_attn, block.attention)
    norms = [block.attention_norm, block.feed_forward_norm]
    if block.cross:
        copy_attention(layer.multihead_attn, block.cross)
        norms.insert(1, block.cross_norm)
    for number, norm in enumerate(norms, 1):
        getattr(layer, f"norm{number}").load_state_dict(norm.state_dict())
    for theirs, ours in (
        (layer.linear1, block.feed_forward.inner),
        (layer.linear2, block.feed_forward.outer),
    ):
        theirs.weight.copy_(ours.weight.T)
        theirs.bias.copy_(ours.bias)
    return layer.train()  # its fast path for inference wants no masks of ours


def position(model, place):
    if model.positions.table is not None:
        return model.positions.table[min(place, LEARNED_POSITIONS - 1)]
    width = model.config.hidden
    values = []
    for i in range(0, width, 2):
        angle = place / 10_000 ** (i / width)
        values += [math.sin(angle), math.cos(angle)]
    return torch.tensor(values, dtype=torch.float64)


def embedded(table, words, model, first=0):
    rows = [
        table.weight[word] * math.sqrt(model.config.hidden) + position(model, first + place)
        for place, word in enumerate(words)
    ]
    return torch.stack(rows)[None]


def log_probs(model, x, target):
    units = model.norm(x) @ model.output.left
    logits = units @ model.output.right + model.output.bias
    return logits.log_softmax(1).gather(1, torch.tensor([target]).T)[:, 0]


def no_look_ahead(count):
    return torch.nn.Transformer.generate_square_subsequent_mask(count, dtype=torch.float64)


def encoder_decoder(model, source, target):
    x = embedded(model.source_embedding or model.target_embedding, source, model)
    for block in model.encoder:
        x = torch_layer(block)(x)
    memory = model.encoder_norm(x)
    y = embedded(model.target_embedding, [END, *target[:-1]], model)
    for block in model.blocks:
        y = torch_layer(block)(y, memory, tgt_mask=no_look_ahead(len(target)))
    return log_probs(model, y[0], target)


def decoder_only(model, source, target):
    x = embedded(model.source_embedding or model.target_embedding, source, model)
    if len(target) > 1:
        y = embedded(model.target_embedding, target[:-1], model, len(source))
        x = torch.cat([x, y], 1)
    for block in model.blocks:
        x = torch_layer(block)(x, src_mask=no_look_ahead(x.shape[1]))
    return log_probs(model, x[0, len(source) - 1 :], target)


def masked(model, source, target):
    x = embedded(model.source_embedding or model.target_embedding, source, model)
    found = []
    for place, word in enumerate(target):
        y = embedded(model.target_embedding, target, model) + model.target_segment
        y[0, place] = model.mask_symbol + model.target_segment + position(model, place)
        whole = torch.cat([x, y], 1)
        for block in model.blocks:
            whole = torch_layer(block)(whole)
        found.append(log_probs(model, whole[0, [len(source) + place]], [word]))
    return torch.cat(found)


BY_TORCH = {"transformer": encoder_decoder, "decoder_only": decoder_only, "masked": masked}


@pytest.mark.parametrize("architecture", BY_TORCH)
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
@pytest.mark.parametrize("shared", [False, True])
def test_is_torchs_layers(architecture, positions, shared):
    model = tiny_model(
        architecture=architecture,
        positions=positions,
        shared_words=shared,
        dtype=torch.float64,
        **WORDS,
    )
    assert (model.source_embedding is None) == shared
    found = model.log_probs(pair_batch(phrase_pairs(PAIRS), np.arange(len(PAIRS))))
    for line, (source, target) in zip(found, PAIRS, strict=True):
        expected = BY_TORCH[architecture](model, [*source, END], [*target, END])
        torch.testing.assert_close(line[: len(expected)], expected, rtol=0, atol=1e-12)
        assert not line[len(expected) :].any()


@pytest.mark.parametrize("architecture", BY_TORCH)
def test_phrases_longer_than_the_learned_positions(architecture):
    model = tiny_model(architecture=architecture, positions="learned", dtype=torch.float64, **WORDS)
    draw = np.random.default_rng(3)
    source, target = (draw.integers(1, 9, LEARNED_POSITIONS + 9).tolist() for _ in range(2))
    if architecture == "masked":
        target = target[:3]
    found = model.log_probs(pair_batch(phrase_pairs([(source, target)]), np.arange(1)))
    expected = BY_TORCH[architecture](model, [*source, END], [*target, END])
    torch.testing.assert_close(found[0], expected, rtol=0, atol=1e-11)


def test_how_parameters_start():
    model = tiny_model(architecture="transformer", hidden=64, heads=2, feed_forward=200)
    weight = model.blocks[0].feed_forward.inner.weight
    assert float(weight.std()) == pytest.approx(math.sqrt(2 / 264), rel=0.05)
    assert float(model.target_embedding.weight.std()) == pytest.approx(1 / 8, rel=0.1)
    assert model.norm.weight.unique().tolist() == [1.0]
