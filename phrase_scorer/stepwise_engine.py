"""Scoring with any architecture: each distinct source read once, each target prefix stepped once.

It knows of a model only what `PhraseModel` promises. States and memories are tuples of tensors with
a row for each node; what is in them, a hidden vector or the keys and values of a prefix, is the
model's business. The tree is walked depth first, some hundred nodes at a time, so that memory holds
the states of one chunk a level, not of a whole block.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from phrase_scorer.batches import by_length, pair_batch, source_batch
from phrase_scorer.engine import Engine
from phrase_scorer.models import PhraseModel
from phrase_scorer.models.phrase_model import Parts, take
from phrase_scorer.normalizer import Normalization
from phrase_scorer.phrase_pairs import PhraseIds, PhrasePairs, Rows
from phrase_scorer.precision import Precision
from phrase_scorer.prefix_tree import PrefixTree

PAIRS_AT_ONCE = 64  # of a model that reads every pair as a whole, a copy for each symbol


class ModelEngine(Engine):
    """An engine that lets the model itself compute.

    In bfloat16 the model runs under torch's autocast. In int8 only the product with the output
    matrix is rounded.
    """

    def __init__(
        self,
        model: PhraseModel,
        precision: Precision = "float32",
        normalization: Normalization = "exact",
    ) -> None:
        super().__init__(model, precision, normalization)
        self.model = model
        self._half = precision == "bfloat16"

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._half)


class StepwiseEngine(ModelEngine):
    """For models that predict each symbol from those before it."""

    def _score(self, pairs: PhrasePairs) -> Tensor:
        sources, source_of = distinct(pairs.source)
        tree = PrefixTree.of(pairs.target, source_of, len(sources))
        rank = self.model.output.right.shape[0]
        features = torch.empty(len(tree), rank, device=self.device)
        with self._autocast():
            for roots in self._chunks(len(sources)):
                memory = self.model.read(
                    source_batch(sources, np.arange(roots.start, roots.stop), self.device)
                )
                self._walk(tree, roots, memory, self.model.start(memory), features)
        return self._sums(tree, features)

    def _walk(
        self, tree: PrefixTree, roots: slice, memory: Parts, state: Parts, features: Tensor
    ) -> None:
        """Writes the features of these roots and of all nodes under them."""
        waiting: list[tuple[int, slice, Rows, Parts, Parts]] = []
        depth, nodes = 0, roots
        while True:
            first = tree.levels[depth - 1].first if depth else 0
            features[first + nodes.start : first + nodes.stop] = self.model.predict(memory, state)
            if depth < len(tree.levels):
                level = tree.levels[depth]
                start, stop = np.searchsorted(level.parents, (nodes.start, nodes.stop)).tolist()
                for chunk in self._chunks(stop - start):
                    children = slice(start + chunk.start, start + chunk.stop)
                    above = level.parents[children] - nodes.start
                    waiting.append((depth + 1, children, above, memory, state))
            if not waiting:
                return
            # Only now is it stepped: what waits is a reference to what is above it.
            depth, nodes, above, memory, state = waiting.pop()
            rows = self._tensor(above)
            words = self._tensor(tree.levels[depth - 1].words[nodes].astype(np.int64))
            memory = take(memory, rows)
            state = self.model.advance(memory, take(state, rows), words)


class PairwiseEngine(ModelEngine):
    """For models that look at a whole pair at once: each distinct pair by itself."""

    def _score(self, pairs: PhrasePairs) -> Tensor:
        sources, source_of = distinct(pairs.source)
        tree = PrefixTree.of(pairs.target, source_of, len(sources))
        _, first, place = np.unique(tree.node_of, return_index=True, return_inverse=True)
        kept = pairs.take(first)
        found = torch.zeros(len(kept), dtype=torch.float64, device=self.device)
        lengths = (kept.target.lengths << 16) + kept.source.lengths
        for rows in by_length(lengths, PAIRS_AT_ONCE):
            batch = pair_batch(kept, rows, self.device)
            with self._autocast():
                features = self.model.features(batch).float()
            log_z = self._normalizer.log_z(features)
            every = torch.arange(len(features), device=self.device)
            chosen = self._normalizer.logits(features, every, batch.target.symbol_words) - log_z
            places = self._tensor(rows).index_select(0, batch.target.phrases)
            found.index_add_(0, places, chosen.double())
        return found.index_select(0, self._tensor(place)).float()


def distinct(phrases: PhraseIds) -> tuple[PhraseIds, Rows]:
    """(each distinct phrase once, shortest first; (phrases,) which of these each one is)."""
    nodes = PrefixTree.of(phrases).node_of
    _, first, place = np.unique(nodes, return_index=True, return_inverse=True)
    order = np.argsort(phrases.lengths[first], kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return phrases.take(first[order]), rank[place]
