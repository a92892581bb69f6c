"""ln p of chosen words under the softmax over the shortlist, a few rows at a time.

The logits of all rows at once do not fit in cache, and writing them out and reading them back costs
more than the product. So: product, maximum, sum and, in training, gradient are done for a block
of rows whose logits stay in cache. Always with the maximum subtracted (log-softmax).
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from phrase_scorer.errors import UsageError
from phrase_scorer.models.phrase_model import Output
from phrase_scorer.scoring.kernels import Epilogues, ExactLogits
from phrase_scorer.scoring.precision import Rounding

Normalization = Literal["exact", "none"]

# Logits of one block: 256 rows of 15,000 words in float32. Smaller blocks waste the product,
# larger ones the cache (benchmarks/normalizer.py).
LOGITS_IN_CACHE = 256 * 15_000
TILE_ON_CPU = (256, 1024)  # rows and words of a scoring product: 1 MB of logits
TILE_ON_GPU = (1 << 12, 1 << 14)  # 256 MB: several processes share a GPU
SMALLEST_SUM, LARGEST_SUM = 1e-25, 1e30  # of exponentials: exact in float32 in between


def rows_in_cache(words: int) -> int:
    """How many rows of logits over `words` words make a block."""
    return max(16, LOGITS_IN_CACHE // words)


def chosen_log_probs(features: Tensor, weight: Tensor, bias: Tensor, words: Tensor) -> Tensor:
    """Natural-log probability of one word a row; no gradient.

    Args:
        features: (rows, rank).
        weight: (rank, vocabulary).
        bias: (vocabulary,).
        words: (rows,) int64.

    Returns:
        (rows,) float32, or float64 where the arguments are.
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


class Normalizer:
    """The output matrix as the scoring engine uses it: chosen logits, and ln Z of every row.

    Chosen logits are always computed in float32. `rounding` decides for ln Z: the errors of
    thousands of improbable words average out, and the few that have a large share of Z are computed
    again in float32.

    Args:
        output: Its left factor is not used: rows are features, (rows, rank).
        rounding: Of the product with the whole matrix.
        epilogues: For the sum of exponentials.
        normalization: "none": ln Z is taken for 0.
    """

    def __init__(
        self,
        output: Output,
        rounding: Rounding,
        epilogues: Epilogues,
        normalization: Normalization = "exact",
    ) -> None:
        if normalization not in get_args(Normalization):
            choices = ", ".join(get_args(Normalization))
            raise UsageError(f"unknown normalizer {normalization!r}; choose from {choices}")
        self.normalization = normalization
        self._output = output
        self._by_word = output.right.T.contiguous()  # (vocabulary, rank)
        self._bias = output.bias.detach()
        self._rows, words = TILE_ON_CPU if self._bias.device.type == "cpu" else TILE_ON_GPU
        self._tiles = [
            (
                slice(start, start + words),
                rounding.of_features(output.right[:, start : start + words]),
            )
            for start in range(0, len(self._bias), words)
        ]
        self._exact = rounding.precision == "float32"
        self._epilogues = epilogues

    def logits(self, features: Tensor, rows: Tensor, words: Tensor) -> Tensor:
        """(len(rows),) logits of these words after these rows of `features`."""
        chosen = features.index_select(0, rows).mul_(self._by_word.index_select(0, words))
        return chosen.sum(1) + self._bias.index_select(0, words)

    def logits_of(self, features: Tensor, word: int) -> Tensor:
        """(rows,) logits of one word after every row of `features`."""
        return features @ self._by_word[word] + self._bias[word]

    def log_z(self, features: Tensor) -> Tensor:
        """(rows,) natural logarithm of the softmax's normaliser."""
        if self.normalization == "none":
            return features.new_zeros(len(features))
        sums = features.new_zeros(len(features))
        for start in range(0, len(features), self._rows):
            rows = slice(start, start + self._rows)
            operand = self._tiles[0][1].operand(features[rows])
            for words, factor in self._tiles:
                exact = None if self._exact else ExactLogits(features[rows], self._by_word[words])
                logits = factor.product(operand)
                self._epilogues.add_sum_exp(sums[rows], logits, self._bias[words], exact)
        # No maximum was subtracted: that is another pass over memory, and for logits of this world
        # it is not needed. Where it is, do it.
        extreme = torch.nonzero(~((sums > SMALLEST_SUM) & (sums < LARGEST_SUM))).flatten()
        result = sums.log_()
        for rows in extreme.split(self._rows):
            result[rows] = self._output(features[rows]).logsumexp(1)
        return result


class _CrossEntropy(torch.autograd.Function):
    """The gradient is made in the forward pass, while a block's probabilities are in cache."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        words: Tensor,
        weights: Tensor,
        penalty: float,
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
            push = scale  # d loss / d ln Z
            if penalty:
                log_z = logits.gather(1, chosen).to(weight.dtype) - log_p
                loss += penalty * (log_z.square() * scale).sum()
                push = scale * (1 + 2 * penalty * log_z)
            gradient = log_probs.exp_().mul_(push)
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
        return (*(gradient * upstream[0] for gradient in ctx.saved_tensors), None, None, None)


def cross_entropy(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    words: Tensor,
    weights: Tensor,
    penalty: float = 0.0,
) -> Tensor:
    """Σ_i weights_i · (-ln p(words_i) + penalty · (ln Z_i)²), with gradients of the first three.

    Args:
        features: (rows, rank).
        weight: (rank, vocabulary).
        bias: (vocabulary,).
        words: (rows,) int64.
        weights: (rows,) of the features' type.
        penalty: Draws the softmax's normaliser Z to 1 (Devlin et al. 2014, section 2.4).

    Returns:
        A scalar, in nats.
    """
    result: Tensor = _CrossEntropy.apply(  # type: ignore[no-untyped-call]
        features, weight, bias, words, weights, penalty
    )
    return result
