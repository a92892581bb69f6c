"""The training objective: cross-entropy over the shortlist, a few rows at a time, or over a sample.

The logits of all rows at once do not fit in cache, and writing them out and reading them back costs
more than the product. So product, softmax and gradient are made for a block of rows whose logits
stay in cache.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from phrase_scorer.kernels.kernels import Smoothing, kernels_for

# Logits of one block: 256 rows of 15,000 words in float32. Smaller blocks waste the product,
# larger ones the cache (benchmarks/loss.py). A GPU wants few large products.
LOGITS_IN_CACHE = 256 * 15_000
LOGITS_ON_GPU = 4096 * 15_000
FLATTENED = 0.5  # words are drawn by this power of their frequency


def rows_in_cache(words: int, device: str = "cpu") -> int:
    """How many rows of logits over `words` words make a block."""
    return max(16, (LOGITS_IN_CACHE if device == "cpu" else LOGITS_ON_GPU) // words)


def chosen_log_probs(features: Tensor, weight: Tensor, bias: Tensor, words: Tensor) -> Tensor:
    """(rows,) natural-log probability of one word per row, of the features' type; no gradient.

    Of (rows, rank) features, (rank, vocabulary) weight, (vocabulary,) bias, (rows,) int64 words.
    """
    result = features.new_empty(len(features))
    step = rows_in_cache(weight.shape[1], weight.device.type)
    logits = features.new_empty(min(step, len(features)), weight.shape[1])
    for start in range(0, len(features), step):
        block = slice(start, start + step)
        part = logits[: len(words[block])]
        torch.addmm(bias, features[block], weight, out=part)
        chosen = part.gather(1, words[block, None]).squeeze(1)
        result[block] = chosen - part.logsumexp(1)
    return result


class _CrossEntropy(torch.autograd.Function):
    """The gradient is made in the forward pass, while a block's probabilities are in cache."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, words: Tensor, weights: Tensor,
        smoothing: Smoothing | None,
    ) -> Tensor:  # fmt: skip
        kernels = kernels_for(weight.device)
        features = features.contiguous()
        loss = weights.new_zeros((), dtype=torch.float64)
        d_features = torch.empty_like(features)
        d_weight, d_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        factor = weight.to(features.dtype)  # bfloat16 where the caller wants the products so
        transposed = factor.T.contiguous()
        step = rows_in_cache(weight.shape[1], weight.device.type)
        for start in range(0, len(features), step):
            block = slice(start, start + step)
            rows = features[block]
            logits = rows @ factor
            loss += kernels.softmax_cross_entropy(
                logits, bias, words[block], weights[block], d_bias, smoothing
            ).sum(dtype=torch.float64)
            torch.mm(logits, transposed, out=d_features[block])
            if factor.dtype == weight.dtype:
                d_weight.addmm_(rows.T, logits)
            else:
                d_weight += rows.T.contiguous() @ logits
        ctx.save_for_backward(d_features, d_weight, d_bias)
        return loss.to(weights.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        return (*(gradient * upstream[0] for gradient in ctx.saved_tensors), None, None, None)


class Sample(NamedTuple):
    """Some words of a shortlist, drawn at random, and the words that are to be predicted."""

    ids: Tensor  # (sampled,) int64, ascending
    log_inclusion: Tensor  # (sampled,) float32 natural log of the probability of being among them
    places: Tensor  # (rows,) int64 where in `ids` the word of each row stands


class WordSampler:
    """Draws words by a power of their frequency, each by itself, always those of the batch.

    So the probability π that a word is in a sample is known, and the sum over a sample of
    exp(logit) / π is an unbiased estimate of the softmax's Z (Horvitz and Thompson 1952; Bengio and
    Senécal 2008; Jean et al. 2015, section 3, have the batch's words in it, too).

    Args:
        counts: (vocabulary,) how often each word is to be predicted in training.
        size: About how many words are drawn.
        seed: With the number of the update, all that decides what is drawn.
    """

    def __init__(self, counts: npt.NDArray[Any], size: int, seed: int) -> None:
        self._seed = seed
        self._inclusion = _inclusion(np.maximum(counts, 1.0) ** FLATTENED, size)

    def draw(self, words: Tensor, update: int) -> Sample:
        """A sample for the words of a batch, (rows,) int64: a function of these and the update."""
        chances = np.random.default_rng([self._seed, update]).random(len(self._inclusion))
        drawn = chances < self._inclusion
        wanted = words.cpu().numpy()
        inclusion = self._inclusion.copy()
        drawn[wanted], inclusion[wanted] = True, 1.0  # these are there for certain
        ids = np.flatnonzero(drawn)
        log_inclusion = np.log(inclusion[ids]).astype(np.float32)
        arrays = ids, log_inclusion, np.searchsorted(ids, wanted)
        return Sample(*(torch.from_numpy(array).to(words.device) for array in arrays))


def _inclusion(sizes: npt.NDArray[Any], expected: int) -> npt.NDArray[np.float64]:
    """Probabilities in proportion to `sizes`, at most 1, that sum to `expected`, or are all 1."""
    if expected >= len(sizes):
        return np.ones(len(sizes))
    result, certain = np.zeros(len(sizes)), np.zeros(len(sizes), bool)
    while True:
        left = expected - certain.sum()
        result = np.where(certain, 1.0, sizes * (left / sizes[~certain].sum()))
        if not (more := ~certain & (result >= 1)).any():
            return result
        certain |= more


def cross_entropy(
    features: Tensor, weight: Tensor, bias: Tensor, words: Tensor, weights: Tensor, *,
    sample: Sample | None = None, label_smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    """Σ_i weights_i · -ln p(words_i) in nats, a scalar, with gradients of the first three.

    Shapes are those of `chosen_log_probs`; weights are (rows,). With a sample, Z is estimated from
    its words alone. With label smoothing ε, what is learned is not the word but 1 - ε of it and
    ε / V of every word (Szegedy et al. 2016, section 7).
    """
    smoothing = None
    if label_smoothing:
        others = torch.full_like(bias, label_smoothing / len(bias))
        smoothing = Smoothing(1 - label_smoothing, others)
    if sample is None:
        return _applied(features, weight, bias, words, weights, smoothing)
    correction = sample.log_inclusion.to(bias.dtype)
    constant: Tensor | float = 0.0
    if smoothing:
        others = smoothing.others.index_select(0, sample.ids) * (-correction).exp()
        smoothing = smoothing._replace(others=others)
        constant = weights.sum() * (others @ correction)
    bias = bias.index_select(0, sample.ids) - correction
    weight = weight.index_select(1, sample.ids)
    return _applied(features, weight, bias, sample.places, weights, smoothing) - constant


def _applied(*arguments: Any) -> Tensor:
    result: Tensor = _CrossEntropy.apply(*arguments)  # type: ignore[no-untyped-call]
    return result
