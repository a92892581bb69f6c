"""The blocked objective against torch's log_softmax and cross_entropy, over several blocks."""

from __future__ import annotations

import math

import pytest
import torch

from phrase_scorer.training import loss
from phrase_scorer.training.loss import chosen_log_probs, cross_entropy, rows_in_cache

ROWS, RANK, WORDS = 70, 6, 11


@pytest.fixture(params=["one block", "five blocks"])
def _blocks(request, monkeypatch):
    if request.param == "five blocks":
        monkeypatch.setattr(loss, "LOGITS_IN_CACHE", 16 * WORDS)
        assert rows_in_cache(WORDS) == 16
    else:
        assert rows_in_cache(WORDS) > ROWS


def random_arguments(scale=1.0):
    generator = torch.Generator().manual_seed(2)

    def normal(*shape):
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    words = torch.randint(0, WORDS, (ROWS,), generator=generator)
    weights = normal(ROWS).abs() + 0.1
    return scale * normal(ROWS, RANK), normal(RANK, WORDS), normal(WORDS), words, weights


def test_rows_of_a_block():
    assert rows_in_cache(15_000) == 256
    assert rows_in_cache(10**9) == 16


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_chosen_log_probs(dtype):
    features, weight, bias, words, _ = (
        value.to(dtype) if value.is_floating_point() else value for value in random_arguments()
    )
    found = chosen_log_probs(features, weight, bias, words)
    expected = (features @ weight + bias).log_softmax(1)[torch.arange(ROWS), words]
    assert found.dtype == dtype
    tolerance = 1e-13 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def test_no_rows():
    found = chosen_log_probs(
        torch.zeros(0, RANK), torch.zeros(RANK, WORDS), torch.zeros(WORDS), torch.zeros(0).long()
    )
    assert found.shape == (0,)


def extreme_arguments():
    """Logits of row 0: 1e4, -1e4, 0, …; row 1 the opposite; row 2 all 0."""
    features = torch.tensor([[1.0], [-1.0], [0.0]] * 20)
    weight = torch.zeros(1, WORDS)
    weight[0, :2] = torch.tensor([1e4, -1e4])
    return features, weight, torch.zeros(WORDS)


@pytest.mark.usefixtures("_blocks")
def test_extreme_logits():
    words = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3] * 5)
    found = chosen_log_probs(*extreme_arguments(), words)
    uniform = -math.log(WORDS)
    expected = [0.0, -2e4, uniform, -2e4, 0.0, uniform, *[-1e4, -1e4, uniform] * 2] * 5
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("_blocks")
def test_extreme_logits_have_finite_gradients():
    leaves = [value.requires_grad_() for value in extreme_arguments()]
    words = torch.tensor([0, 1, 2] * 20)
    loss = cross_entropy(*leaves, words, torch.ones(60))
    loss.backward()
    assert loss.item() == pytest.approx(20 * math.log(WORDS), rel=1e-6)
    for leaf in leaves:
        assert leaf.grad.isfinite().all()
    assert leaves[2].grad.abs().sum() > 1


@pytest.mark.usefixtures("_blocks")
def test_cross_entropy_and_its_gradients():
    features, weight, bias, words, weights = random_arguments()
    ours = [value.clone().requires_grad_() for value in (features, weight, bias)]
    loss = cross_entropy(*ours, words, weights)
    (0.3 * loss).backward()  # an upstream gradient other than 1

    plain = [value.clone().requires_grad_() for value in (features, weight, bias)]
    logits = plain[0] @ plain[1] + plain[2]
    nats = torch.nn.functional.cross_entropy(logits, words, reduction="none")
    expected = (nats * weights).sum()
    (0.3 * expected).backward()

    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-11)
    for found, wanted in zip(ours, plain, strict=True):
        torch.testing.assert_close(found.grad, wanted.grad, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("_blocks")
def test_gradients_by_finite_differences():
    features, weight, bias, words, weights = random_arguments()
    kept = slice(0, 20)
    leaves = [value.clone().requires_grad_() for value in (features[kept, :2], weight[:2], bias)]
    assert torch.autograd.gradcheck(
        lambda *values: cross_entropy(*values, words[kept], weights[kept]), leaves
    )


def test_bfloat16_products_keep_float32_gradients_of_the_weights():
    features, weight, bias, words, _ = random_arguments()
    leaves = [features.bfloat16(), weight.float(), bias.float()]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    loss = cross_entropy(*leaves, words, torch.ones(ROWS))
    loss.backward()
    assert loss.dtype == torch.float32
    assert [leaf.grad.dtype for leaf in leaves] == [torch.bfloat16, torch.float32, torch.float32]
    exact = torch.nn.functional.cross_entropy(features @ weight + bias, words, reduction="sum")
    assert loss.item() == pytest.approx(exact.item(), rel=0.01)
