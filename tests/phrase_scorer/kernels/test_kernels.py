"""The compiled functions against those of torch."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from phrase_scorer.kernels.kernels import (
    CellStep,
    ExactLogits,
    GpuKernels,
    Kernels,
    Product,
    Smoothing,
)
from phrase_scorer.kernels.library import compiled_library

HIDDEN, ROWS, PARENTS, WORDS, SOURCES = 37, 61, 23, 11, 7
SLOW = Kernels()


@pytest.fixture
def fast():
    library = compiled_library()
    if library is None:
        pytest.skip("no C++ compiler here")
    return Kernels(library)


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=str)
def made(request):
    """Random arguments of every function; products in two types."""
    draw = torch.Generator().manual_seed(3)

    def real(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return torch.randn(*shape, generator=draw) * scale

    def product(rows: int, columns: int) -> Product:
        values = real(rows, columns, scale=2.0)
        return Product(values.to(request.param))

    def rows_of(limit: int) -> torch.Tensor:
        return torch.randint(limit, (ROWS,), generator=draw)

    return SimpleNamespace(
        product=product,
        real=real,
        step=CellStep(
            torch.tanh(real(PARENTS, HIDDEN)),
            real(WORDS, 3 * HIDDEN),
            real(SOURCES, 3 * HIDDEN),
            *map(rows_of, (PARENTS, WORDS, SOURCES)),
        ),
    )


def close(one: torch.Tensor, other: torch.Tensor, tolerance: float = 2e-6) -> None:
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("takes_new", [False, True])
def test_reset_after(fast, made, takes_new):
    arguments = (made.product(PARENTS, 3 * HIDDEN), made.step)
    close(
        fast.reset_after(*arguments, takes_new=takes_new),
        SLOW.reset_after(*arguments, takes_new=takes_new),
    )


@pytest.mark.parametrize("with_context", [False, True])
@pytest.mark.parametrize("takes_new", [False, True])
def test_reset_before(fast, made, with_context, takes_new):
    step = made.step if with_context else made.step._replace(contexts=None)
    gates = made.product(PARENTS, 2 * HIDDEN)
    for one, other in zip(
        fast.reset_before_gates(gates, step),
        SLOW.reset_before_gates(gates, step),
        strict=True,
    ):
        close(one, other)
    updates = torch.sigmoid(made.real(ROWS, HIDDEN))
    own = made.product(ROWS, HIDDEN)
    close(
        fast.reset_before_state(own, updates, step, takes_new=takes_new),
        SLOW.reset_before_state(own, updates, step, takes_new=takes_new),
    )


def test_maxout(fast, made):
    arguments = (
        made.product(ROWS, 2 * HIDDEN),
        made.real(WORDS, 2 * HIDDEN),
        made.real(SOURCES, 2 * HIDDEN),
        made.step.word,
        made.step.source,
    )
    close(fast.maxout(*arguments), SLOW.maxout(*arguments))


@pytest.mark.parametrize("exactly", [False, True])
def test_sum_of_exponentials(fast, made, exactly):
    words, rank = 700, 30  # the last stretch of words is not a whole one
    logits, bias = made.product(ROWS, words), made.real(words)
    if logits.values.dtype == torch.bfloat16:
        logits = logits._replace(row_scale=torch.rand(ROWS) + 0.5)
    exact = ExactLogits(made.real(ROWS, rank), made.real(words, rank)) if exactly else None
    sums, expected = torch.full((ROWS,), 0.5), torch.full((ROWS,), 0.5)
    fast.add_sum_exp(sums, logits, bias, None)
    SLOW.add_sum_exp(expected, logits, bias, None)
    close(sums, expected)
    close(
        expected.log(),
        torch.cat([logits.real() + bias, torch.full((ROWS, 1), 0.5).log()], 1).logsumexp(1),
    )
    if exact:
        # Which terms are large is decided stretch by stretch there, at once here.
        rounded = Product(exact.features @ exact.by_word.T + 0.05)
        truth = (exact.features @ exact.by_word.T + bias).exp().sum(1)
        for kernels in (fast, SLOW):
            sums = torch.zeros(ROWS)
            kernels.add_sum_exp(sums, rounded, bias, exact)
            error = (sums / truth).log()
            assert (error.abs() < 0.051).all()
            assert error.mean() < 0.03  # 0.05 without; what remains are the small terms


def test_on_a_gpu_the_largest_term_is_exact(made):
    features, by_word, bias = made.real(ROWS, 30), made.real(700, 30), made.real(700)
    logits = features @ by_word.T
    exact = ExactLogits(features, by_word)
    sums = torch.zeros(ROWS)
    GpuKernels().add_sum_exp(sums, Product(logits), bias, None)
    close(sums.log(), (logits + bias).logsumexp(1))
    sums = torch.zeros(ROWS)
    GpuKernels().add_sum_exp(sums, Product(logits + 0.05), bias, exact)
    error = sums.log() - (logits + bias).logsumexp(1)
    share = (logits + bias).softmax(1).amax(1)
    close(error, torch.log1p((1 - share) * (torch.tensor(0.05).exp() - 1)), 1e-4)


def test_far_away_logits_do_no_harm_to_their_neighbours(fast):
    logits = Product(torch.tensor([[-1e4, 0.0, -200.0], [-1e4, -1e4, -1e4]]))
    sums = torch.zeros(2)
    fast.add_sum_exp(sums, logits, torch.zeros(3), None)
    assert sums.tolist() == pytest.approx([1.0, 0.0], abs=1e-6)
    large = torch.zeros(1)
    fast.add_sum_exp(large, Product(torch.tensor([[500.0]])), torch.zeros(1), None)
    assert large[0] > 1e30  # which the softmax takes for "compute it again"


def test_rounding(fast):
    values = torch.tanh(torch.randn(13, 29, generator=torch.Generator().manual_seed(1)) * 3)
    values[0, :3] = torch.tensor([1.0, -1.0, 0.0])
    assert torch.equal(fast.quantize(values, 127.0), SLOW.quantize(values, 127.0))
    digits = fast.two_digits(values, 127.0, 254.0)
    assert torch.equal(digits, SLOW.two_digits(values, 127.0, 254.0))
    first, second = digits.float().chunk(2)
    torch.testing.assert_close((first + second / 254) / 127, values, rtol=0, atol=1 / 127 / 500)


def exact_cross_entropy(logits, bias, words, weights, smoothing):
    """(losses, gradient) by torch.nn, in float64."""
    values = (logits.double() + bias.double()).requires_grad_()
    targets = torch.nn.functional.one_hot(words, values.shape[1]).double()
    if smoothing:
        targets = smoothing.kept * targets + smoothing.others.double()
    losses = torch.nn.functional.cross_entropy(values, targets, reduction="none") * weights
    losses.sum().backward()
    return losses.detach(), values.grad


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("smoothed", [False, True])
@pytest.mark.parametrize("shape", [(300, 700), (61, 1), (1, 37), (1, 1), (0, 5), (64, 16)], ids=str)
def test_softmax_cross_entropy(fast, made, shape, smoothed, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    rows, columns = shape
    logits = made.product(rows, columns).values
    bias, weights = made.real(columns), made.real(rows).abs()
    draw = torch.Generator().manual_seed(6)
    words = torch.randint(columns, (rows,), generator=draw)
    others = (
        torch.rand(columns, generator=draw) * 0.2 / columns
    )  # need not sum to 1 with what is kept
    smoothing = Smoothing(0.9, others) if smoothed else None
    losses, gradient = exact_cross_entropy(logits, bias, words, weights, smoothing)
    for kernels in (fast, SLOW):
        found, d_bias = logits.clone(), torch.ones(columns)
        nats = kernels.softmax_cross_entropy(found, bias, words, weights, d_bias, smoothing)
        torch.testing.assert_close(
            nats.double(), losses, rtol=4e-6 if smoothed else 1e-6, atol=1e-5
        )
        tolerance = 1e-6 if logits.dtype == torch.float32 else 2e-3
        torch.testing.assert_close(found.double(), gradient, rtol=4 * tolerance, atol=tolerance)
        torch.testing.assert_close((d_bias - 1).double(), gradient.sum(0), rtol=1e-4, atol=2e-5)


def test_the_result_does_not_depend_on_the_number_of_threads(fast, monkeypatch):
    torch.manual_seed(7)
    logits, bias = torch.randn(500, 300), torch.randn(300)
    words, weights = torch.randint(300, (500,)), torch.rand(500)
    results = []
    for threads in (1, 2, 7):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=threads: count)
        values, d_bias = logits.clone(), torch.zeros(300)
        nats = fast.softmax_cross_entropy(values, bias, words, weights, d_bias)
        results.append((nats, values, d_bias))
    for others in zip(*results, strict=True):
        assert torch.equal(others[0], others[1])
        assert torch.equal(others[0], others[2])


def test_logits_far_from_0(fast):
    """As if -inf, or large: the largest is taken off each row before exp."""
    logits = torch.tensor([[1e30, -1e30, 0.0], [-1e30, -1e30, -1e30], [80.0, 90.0, 100.0]])
    words, weights = torch.tensor([0, 2, 0]), torch.ones(3)
    for kernels in (fast, SLOW):
        values, d_bias = logits.clone(), torch.zeros(3)
        nats = kernels.softmax_cross_entropy(values, torch.zeros(3), words, weights, d_bias)
        third = torch.tensor([80.0, 90.0, 100.0]).log_softmax(0)
        close(nats, torch.stack([torch.zeros(()), torch.tensor(3.0).log(), -third[0]]))
        close(values[0], torch.zeros(3))
        close(values[1], torch.tensor([1 / 3, 1 / 3, -2 / 3]))
        close(d_bias, values.sum(0))
