"""The blocked objective against torch's log_softmax and cross_entropy, over several blocks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from phrase_scorer.training import loss
from phrase_scorer.training.loss import (
    WordSampler,
    chosen_log_probs,
    cross_entropy,
    rows_in_cache,
)

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


def found_gradients(leaves, words, weights, **options):
    leaves = [leaf.detach().clone().requires_grad_() for leaf in leaves]
    loss = cross_entropy(*leaves, words, weights, **options)
    loss.backward()
    return [loss.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_label_smoothing_is_that_of_torch(smoothing):
    *leaves, words, weights = random_arguments()
    for number, dtype in ((0, torch.float64), (1, torch.float32)):  # torch's form, the compiled one
        given = [leaf.to(dtype) for leaf in leaves]
        found = found_gradients(given, words, weights.to(dtype), label_smoothing=smoothing)
        plain = [leaf.clone().requires_grad_() for leaf in leaves]
        logits = plain[0] @ plain[1] + plain[2]
        nats = torch.nn.functional.cross_entropy(
            logits, words, reduction="none", label_smoothing=smoothing
        )
        loss = (nats * weights).sum()
        loss.backward()
        expected = [loss.detach(), *(leaf.grad for leaf in plain)]
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=0, atol=(1e-11, 1e-4)[number])


def test_nothing_to_learn_from():
    leaves = [torch.zeros(0, RANK), torch.ones(RANK, WORDS), torch.ones(WORDS)]
    for dtype in (torch.float32, torch.bfloat16):
        given = [leaves[0].to(dtype), *leaves[1:]]
        loss, *gradients = found_gradients(given, torch.zeros(0).long(), torch.zeros(0))
        assert loss.item() == 0
        assert not any(gradient.any() for gradient in gradients)


def frequencies(words=40):
    return 1000.0 / np.arange(1, words + 1)


def test_inclusion_is_what_it_says():
    """Over many draws each word is in the sample as often as `log_inclusion` says."""
    sampler, batch = WordSampler(frequencies(), 8, seed=5), torch.tensor([30, 2, 30])
    seen, draws = np.zeros(40), 4000
    for update in range(draws):
        sample = sampler.draw(batch, update)
        ids = sample.ids.numpy()
        assert (np.diff(ids) > 0).all()
        assert sample.ids[sample.places].tolist() == [30, 2, 30]
        seen[ids] += 1
    claimed = np.zeros(40)
    claimed[ids] = sample.log_inclusion.exp().numpy()
    assert claimed[[2, 30]].tolist() == [1, 1]
    expected = 8 * frequencies() ** 0.5 / (frequencies() ** 0.5).sum()
    expected[[2, 30]] = 1
    assert np.abs(seen / draws - expected).max() < 5 * 0.5 / draws**0.5
    np.testing.assert_allclose(claimed[ids], expected[ids], rtol=1e-6)


def test_a_draw_is_a_function_of_the_update():
    sampler, again = (WordSampler(frequencies(), 8, seed=5) for _ in range(2))
    words = torch.tensor([3])
    for update in (0, 7):
        for one, other in zip(sampler.draw(words, update), again.draw(words, update), strict=True):
            assert one.tolist() == other.tolist()
    assert sampler.draw(words, 0).ids.tolist() != sampler.draw(words, 1).ids.tolist()


def test_frequent_words_are_certain_and_the_others_make_up_the_size():
    sampler = WordSampler(np.array([1e9, 1e9, 1.0, 1.0, 1.0, 0.0]), 4, seed=1)
    inclusion = sampler._inclusion
    assert inclusion[:2].tolist() == [1, 1]
    assert inclusion.sum() == pytest.approx(4)
    assert np.ptp(inclusion[2:]) < 1e-12  # a word that was never seen counts as seen once


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_sample_of_all_words_is_exact(dtype, smoothing):
    *leaves, words, weights = random_arguments()
    given = [leaf.to(dtype) for leaf in leaves]
    sample = WordSampler(np.ones(WORDS), WORDS, seed=1).draw(words, 0)
    options = {"label_smoothing": smoothing}
    found = found_gradients(given, words, weights.to(dtype), sample=sample, **options)
    expected = found_gradients(given, words, weights.to(dtype), **options)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_sampled_sums_and_gradients_are_unbiased(smoothing):
    """Z exactly so; ln Z and its gradient as far as Z's spread, small here, lets them."""
    draw = torch.Generator().manual_seed(4)
    features, weight = torch.randn(6, 5, generator=draw) / 2, torch.randn(5, 60, generator=draw)
    leaves = [each.double() for each in (features, weight, torch.zeros(60))]
    words, weights = torch.randint(60, (6,), generator=draw), torch.ones(6).double()
    sampler, draws = WordSampler(frequencies(60), 30, seed=2), 4000
    options = {"label_smoothing": smoothing}
    z, sums = [], [torch.zeros_like(v) for v in found_gradients(leaves, words, weights, **options)]
    for update in range(draws):
        sample = sampler.draw(words, update)
        logits = features.double() @ weight[:, sample.ids].double() - sample.log_inclusion
        z.append(logits.exp().sum(1))
        found = found_gradients(leaves, words, weights, sample=sample, **options)
        for total, value in zip(sums, found, strict=True):
            total += value / draws
    z = torch.stack(z)
    exact = (features @ weight).double().exp().sum(1)
    assert ((z.mean(0) - exact).abs() < 4 * z.std(0) / draws**0.5).all()
    expected = found_gradients(leaves, words, weights, **options)
    for mean, wanted in zip(sums, expected, strict=True):
        cosine = torch.nn.functional.cosine_similarity(mean.flatten(), wanted.flatten(), dim=0)
        assert cosine > 0.998
        assert (mean.norm() / wanted.norm()).item() == pytest.approx(1, abs=0.03)
