"""The training objective: cross-entropy over the shortlist, a few rows at a time.

The logits of all rows at once do not fit in cache, and writing them out and reading them back costs
more than the product. So product, log-softmax and gradient are made for a block of rows whose
logits stay in cache.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Logits of one block: 256 rows of 15,000 words in float32. Smaller blocks waste the product,
# larger ones the cache (benchmarks/loss.py).
LOGITS_IN_CACHE = 256 * 15_000


def rows_in_cache(words: int) -> int:
    """How many rows of logits over `words` words make a block."""
    return max(16, LOGITS_IN_CACHE // words)


def chosen_log_probs(features: Tensor, weight: Tensor, bias: Tensor, words: Tensor) -> Tensor:
    """(rows,) natural-log probability of one word per row, of the features' type; no gradient.

    Of (rows, rank) features, (rank, vocabulary) weight, (vocabulary,) bias, (rows,) int64 words.
    """
    result = features.new_empty(len(features))
    step = rows_in_cache(weight.shape[1])
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
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, words: Tensor, weights: Tensor
    ) -> Tensor:
        loss = weights.new_zeros((), dtype=torch.float64)
        d_features = torch.empty_like(features)
        d_weight, d_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        product = features.dtype  # bfloat16 where the caller wants the products so
        factor, start_value = weight.to(product), bias.to(product)
        step = rows_in_cache(weight.shape[1])
        for start in range(0, len(features), step):
            block = slice(start, start + step)
            rows, chosen, scale = features[block], words[block, None], weights[block, None]
            logits = torch.addmm(start_value, rows, factor)
            log_probs = logits.log_softmax(1, dtype=weight.dtype)
            log_p = log_probs.gather(1, chosen)
            loss -= (log_p * scale).sum()
            gradient = log_probs.exp_().mul_(scale)
            gradient.scatter_add_(1, chosen, -scale)
            d_bias += gradient.sum(0)
            d_logits = gradient.to(product)
            torch.mm(d_logits, factor.T, out=d_features[block])
            if product == weight.dtype:
                d_weight.addmm_(rows.T, d_logits)
            else:
                d_weight += rows.T @ d_logits
        ctx.save_for_backward(d_features, d_weight, d_bias)
        return loss.to(weights.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        return (*(gradient * upstream[0] for gradient in ctx.saved_tensors), None, None)


def cross_entropy(
    features: Tensor, weight: Tensor, bias: Tensor, words: Tensor, weights: Tensor
) -> Tensor:
    """Σ_i weights_i · -ln p(words_i) in nats, a scalar, with gradients of the first three.

    Shapes are those of `chosen_log_probs`; weights are (rows,).
    """
    result: Tensor = _CrossEntropy.apply(  # type: ignore[no-untyped-call]
        features, weight, bias, words, weights
    )
    return result
