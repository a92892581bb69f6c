"""What every scoring engine does: a block of pairs in, one natural-log probability each out.

An engine computes the features of every node of a block's prefix tree once, each in its own way
(recurrent_engine.py, stepwise_engine.py); from these on all is here. The plain models say what is
right: `model.log_probs` of each pair by itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from phrase_scorer.models import PhraseModel
from phrase_scorer.native_epilogues import epilogues_for
from phrase_scorer.normalizer import Normalization, Normalizer
from phrase_scorer.phrase_pairs import Ids, PhraseIds, PhrasePairs, Rows
from phrase_scorer.precision import Precision, Rounding
from phrase_scorer.prefix_tree import PrefixTree
from phrase_scorer.vocabulary import END

ROWS_ON_CPU = 512  # of one product: its result is read while it is in cache
ROWS_ON_GPU = 1 << 15


class Engine:
    """A model made ready to score blocks of pairs.

    Args:
        model: On its device; its weights are copied, rounded and rearranged.
        precision: Of the large products.
        normalization: "none" leaves the softmax's normaliser out: for self-normalised models.

    Raises:
        UsageError: A precision or normalization that there is not.
    """

    def __init__(
        self,
        model: PhraseModel,
        precision: Precision = "float32",
        normalization: Normalization = "exact",
    ) -> None:
        self.device = model.output.bias.device
        self._epilogues = epilogues_for(self.device)
        self._rows = ROWS_ON_CPU if self.device.type == "cpu" else ROWS_ON_GPU
        self._rounding = Rounding(precision, self.device, self._epilogues)
        with torch.inference_mode():
            self._normalizer = Normalizer(
                model.output, self._rounding, self._epilogues, normalization
            )

    @torch.inference_mode()
    def score(self, pairs: PhrasePairs) -> Tensor:
        """(pairs,) float32 ln p(target | source), end symbols included."""
        return self._score(pairs).cpu() if len(pairs) else torch.zeros(0)

    def _score(self, pairs: PhrasePairs) -> Tensor:
        raise NotImplementedError

    def _sums(self, tree: PrefixTree, features: Tensor) -> Tensor:
        """(phrases,) ln p of each phrase: of its words, and of the end symbol after them.

        Args:
            tree: Of target phrases, a root for each source.
            features: (nodes, rank) what the output matrix is multiplied with at each node.
        """
        log_z = self._normalizer.log_z(features)
        words, parents = self._tensor(tree.words.astype(np.int64)), self._tensor(tree.parents)
        # Of each node's word after its parent; then of all words up to it. Sums lose nothing.
        log_probs = features.new_zeros(len(tree), dtype=torch.float64)
        for rows in self._chunks(len(words), 16 * self._rows):
            chosen = self._normalizer.logits(features, parents[rows], words[rows])
            nodes = slice(tree.roots + rows.start, tree.roots + rows.stop)
            log_probs[nodes] = chosen - log_z[parents[rows]]
        for level in tree.levels[1:]:
            nodes = slice(level.first, level.first + len(level))
            log_probs[nodes] += log_probs[
                parents[nodes.start - tree.roots : nodes.stop - tree.roots]
            ]
        node_of = self._tensor(tree.node_of)
        ends = self._normalizer.logits_of(features, END) - log_z
        return (log_probs + ends).index_select(0, node_of).float()

    def _chunks(self, count: int, size: int | None = None) -> Iterator[slice]:
        size = size or self._rows
        for start in range(0, count, size):
            yield slice(start, min(start + size, count))

    def _tensor(self, array: Rows) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self.device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)


def with_end(phrases: PhraseIds) -> PhraseIds:
    """The same phrases with the end symbol as their last word."""
    offsets = phrases.offsets + np.arange(len(phrases.offsets))
    ids: Ids = np.full(offsets[-1], END, np.int32)
    inside = np.ones(len(ids), bool)
    inside[offsets[1:] - 1] = False
    ids[inside] = phrases.ids[phrases.offsets[0] : phrases.offsets[-1]]
    return PhraseIds(ids, offsets - offsets[0])
