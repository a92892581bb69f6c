"""ln p of chosen words under the softmax over the shortlist, a few rows at a time.

The logits of all rows at once do not fit in cache, and writing them out and reading them back costs
more than the product. So product and sum of exponentials are made for a tile of logits that stays
in cache.
"""

from __future__ import annotations

import torch
from torch import Tensor

from phrase_scorer.kernels.kernels import ExactLogits
from phrase_scorer.models.phrase_model import Output
from phrase_scorer.scoring.precision import PrecisionScheme

TILE_ON_CPU = (1024, 512)  # rows and words of a scoring product: 2 MB of logits, or half of it
TILE_ON_GPU = (1 << 12, 1 << 14)  # 256 MB: several processes share a GPU
SMALLEST_SUM, LARGEST_SUM = 1e-25, 1e30  # of exponentials: exact in float32 in between


class Softmax:
    """The output matrix as the scoring engine uses it: chosen logits, and ln Z of every row.

    Chosen logits are always computed in float32. The precision is that of ln Z alone: the errors of
    thousands of improbable words average out, and the few that have a large share of Z are computed
    again in float32. The output's left factor is not used: rows are features, (rows, rank).
    """

    def __init__(self, output: Output, scheme: PrecisionScheme) -> None:
        self._output = output
        self._by_word = output.right.T.contiguous()  # (vocabulary, rank)
        self._bias = output.bias.detach()
        self._rows, words = TILE_ON_CPU if self._bias.device.type == "cpu" else TILE_ON_GPU
        starts = range(0, len(self._bias), words)
        tiles = [slice(start, start + words) for start in starts]
        self._tiles = [(tile, scheme.for_features(output.right[:, tile])) for tile in tiles]
        self._exact = scheme.precision == "float32"
        self._kernels = scheme.kernels

    def logits(self, features: Tensor, rows: Tensor, words: Tensor) -> Tensor:
        """(len(rows),) logits of these words after these rows of `features`."""
        chosen = features.index_select(0, rows).mul_(self._by_word.index_select(0, words))
        return chosen.sum(1) + self._bias.index_select(0, words)

    def logits_of(self, features: Tensor, word: int) -> Tensor:
        """(rows,) logits of one word after every row of `features`."""
        return features @ self._by_word[word] + self._bias[word]

    def log_z(self, features: Tensor) -> Tensor:
        """(rows,) natural logarithm of Z, the sum of exp(logit) over all words."""
        sums = features.new_zeros(len(features))
        for start in range(0, len(features), self._rows):
            rows = slice(start, start + self._rows)
            left = self._tiles[0][1].rounded(features[rows])
            for words, weights in self._tiles:
                exact = None if self._exact else ExactLogits(features[rows], self._by_word[words])
                logits = weights.product(left)
                self._kernels.add_sum_exp(sums[rows], logits, self._bias[words], exact)
        # Unlike the model, no maximum was subtracted: that is one more pass over memory, and exp()
        # of trained logits stays inside float32. Rows whose sum does not are recomputed with it.
        extreme = torch.nonzero(~((sums > SMALLEST_SUM) & (sums < LARGEST_SUM))).flatten()
        result = sums.log_()
        for rows in extreme.split(self._rows):
            result[rows] = self._output(features[rows]).logsumexp(1)
        return result
