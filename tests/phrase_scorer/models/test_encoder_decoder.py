"""The whole model against reference.py in float64; its size, its start, its use in parts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from toys import parameters_of, phrase_pairs, tiny_model

from phrase_scorer.models import ModelConfig, build
from phrase_scorer.models.encoder_decoder import Context
from phrase_scorer.models.phrase_model import take
from phrase_scorer.scoring import reference
from phrase_scorer.text.batches import pair_batch, source_batch, target_batch

VARIANTS = ("paper", "groundhog")
MIXED_PAIRS = [  # of 12 source and 9 target words
    ([2, 3, 4], [5, 6]),
    ([11], [8]),
    ([7, 7, 7, 7, 7, 2, 5, 3, 1, 10], [2]),
    ([4, 1], []),
    ([1], [1, 1, 1]),
    ([2, 3], [5, 6, 7, 8, 2, 3, 4, 1, 5, 5, 5, 6]),
    ([], [3]),
]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("rank", [2, 0])
@pytest.mark.parametrize("order", [1, -1])
def test_equals_the_reference(variant, rank, order):
    model = tiny_model(variant, output_rank=rank, dtype=torch.float64)
    pairs = phrase_pairs(MIXED_PAIRS)
    rows = np.arange(len(pairs))[::order].copy()
    found = model.log_probs(pair_batch(pairs, rows)).numpy()
    assert found.shape == (7, 13)
    for row, line in zip(rows, found, strict=True):
        source, target = MIXED_PAIRS[row]
        expected = reference.target_log_probs(
            parameters_of(model), [*source, 0], [*target, 0], variant
        )
        np.testing.assert_allclose(line[: len(expected)], expected, rtol=0, atol=1e-12)
        assert not line[len(expected) :].any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_summary_equals_the_reference(variant):
    model = tiny_model(variant, dtype=torch.float64)
    pairs = phrase_pairs(MIXED_PAIRS)
    summaries = model.encode(source_batch(pairs.source, np.arange(len(pairs))))
    for (source, _), summary in zip(MIXED_PAIRS, summaries.numpy(), strict=True):
        expected = reference.encode(parameters_of(model), [*source, 0], variant)
        np.testing.assert_allclose(summary, expected, rtol=0, atol=1e-12)


def test_variants_and_seeds_differ():
    batch = pair_batch(phrase_pairs(MIXED_PAIRS), np.arange(7))
    paper, groundhog, other = (
        model.log_probs(batch)
        for model in (tiny_model(), tiny_model("groundhog"), tiny_model(seed=2))
    )
    assert (paper - groundhog).abs().max() > 0.01
    assert (paper - other).abs().max() > 0.01


@pytest.mark.parametrize("variant", VARIANTS)
def test_contexts_can_be_shared(variant):
    """Encoding once and taking rows of the context equals encoding every pair's source."""
    model = tiny_model(variant, dtype=torch.float64)
    pairs = phrase_pairs([([3, 4], [2]), ([5], [6, 7]), ([3, 4], [8, 8])])
    every = np.arange(3)
    target = target_batch(pairs.target, every)
    once = model.context(model.encode(source_batch(pairs.source, np.array([1, 0]))))
    shared = model.decode(Context(*take(once, torch.tensor([1, 0, 1]))), target)
    torch.testing.assert_close(shared, model.features(pair_batch(pairs, every)), rtol=0, atol=1e-13)


def test_gradients_reach_every_parameter():
    for variant in VARIANTS:
        model = tiny_model(variant).requires_grad_(True)
        model.log_probs(pair_batch(phrase_pairs(MIXED_PAIRS), np.arange(7))).sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("variant", "count"), [("groundhog", 17_269_501), ("paper", 18_269_501)])
def test_parameters_at_paper_size(variant, count):
    """GroundHog's count is known (paper.md); the paper's summary matrix V has 1000 x 1000 more."""
    with torch.device("meta"):
        model = build(ModelConfig(source_words=15_001, target_words=15_001, variant=variant))
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("rank", [20, 0])
def test_loss_before_training_is_that_of_a_uniform_guess(variant, rank):
    config = ModelConfig(60, 400, variant=variant, hidden=64, embedding=20, output_rank=rank)
    random = np.random.default_rng(3)
    drawn = [
        (random.integers(1, 60, length).tolist(), random.integers(1, 400, length + 1).tolist())
        for length in range(1, 8)
    ]
    batch = pair_batch(phrase_pairs(drawn), np.arange(7))
    with torch.no_grad():
        log_probs = build(config, seed=5).log_probs(batch)
    loss = -float(log_probs.sum()) / len(batch.target.symbols)
    assert loss == pytest.approx(math.log(400), abs=1e-2)


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_at_the_start(variant):
    config = ModelConfig(400, 500, variant=variant, hidden=60, embedding=30, maxout=40)
    model = build(config, seed=4, deviation=0.02)
    blocks = []
    for name, parameter in model.named_parameters():
        values = parameter.detach()
        if name.endswith("bias"):
            assert not values.any(), name
        elif name.endswith("recurrent"):
            blocks += values.chunk(3, dim=1)
        else:
            assert float(values.std()) == pytest.approx(0.02, rel=0.06), name
            assert abs(float(values.mean())) < 0.002, name
    assert len(blocks) == 6
    for number, block in enumerate(blocks):
        torch.testing.assert_close(block.T @ block, torch.eye(60), rtol=0, atol=1e-5)
        assert all((block - other).abs().max() > 0.1 for other in blocks[:number])


def test_seeds_are_reproducible():
    config = ModelConfig(20, 20, hidden=8, embedding=5, maxout=4, output_rank=3)
    one, same, other = (build(config, seed=seed).state_dict() for seed in (1, 1, 2))
    torch.manual_seed(99)  # the global generator has no part in it
    later = build(config, seed=1).state_dict()
    for name, value in one.items():
        assert torch.equal(value, same[name])
        assert torch.equal(value, later[name])
        assert name.endswith("bias") or not torch.equal(value, other[name])
