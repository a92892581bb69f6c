"""Every scoring engine: a block of pairs in, natural-log probabilities of pairs or symbols out.

An engine that steps from symbol to symbol computes the features of every node of a block's prefix
tree once, each in its own way; what follows is in `TreeEngine`. The plain models say what is right:
`model.log_probs` of each pair. `StepwiseEngine` and `PairwiseEngine` serve any architecture through
`PhraseModel` alone; recurrent_engine.py is the fast one for the paper's model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from phrase_scorer.kernels.kernels import kernels_for
from phrase_scorer.models import PhraseModel
from phrase_scorer.models.phrase_model import Parts, take
from phrase_scorer.models.seq2seq import SequenceToSequence
from phrase_scorer.runtime.device import Precision
from phrase_scorer.scoring.precision import PrecisionScheme
from phrase_scorer.scoring.prefix_tree import PrefixTree
from phrase_scorer.scoring.softmax import Softmax
from phrase_scorer.text.batches import by_length, pair_batch, source_batch
from phrase_scorer.text.phrase_pairs import PhraseIds, PhrasePairs, Rows
from phrase_scorer.text.vocabulary import END

ROWS_ON_CPU = 512  # per product: its result is read while it is in cache
ROWS_ON_GPU = 1 << 15


class Engine:
    """A model made ready to score blocks of pairs: its weights are copied, rounded, rearranged."""

    def __init__(self, model: PhraseModel, precision: Precision = "float32") -> None:
        self.model = model
        self.device = model.output.bias.device
        self._rows = ROWS_ON_CPU if self.device.type == "cpu" else ROWS_ON_GPU
        self._scheme = PrecisionScheme(precision, self.device, kernels_for(self.device))
        with torch.inference_mode():
            self._softmax = Softmax(model.output, self._scheme)

    @torch.inference_mode()
    def score(self, pairs: PhrasePairs) -> Tensor:
        """(pairs,) float32 ln p(target | source), end symbols included."""
        return self._score(pairs).cpu() if len(pairs) else torch.zeros(0)

    @torch.inference_mode()
    def score_symbols(self, pairs: PhrasePairs) -> Tensor:
        """(symbols,) float32 ln p of each target symbol after those before it.

        Phrase by phrase, the end symbol last.
        """
        return self._score_symbols(pairs).cpu() if len(pairs) else torch.zeros(0)

    @torch.inference_mode()
    def summaries(self, phrases: PhraseIds) -> Tensor:
        """(phrases, hidden) float32 vectors of source phrases, of a model that has such."""
        return self._summaries(phrases).cpu()

    def _score(self, pairs: PhrasePairs) -> Tensor:
        raise NotImplementedError

    def _score_symbols(self, pairs: PhrasePairs) -> Tensor:
        raise NotImplementedError

    def _summaries(self, phrases: PhraseIds) -> Tensor:
        raise NotImplementedError

    def _autocast(self) -> torch.autocast:
        """For engines whose model itself computes; in int8 only the output matrix is rounded."""
        half = self._scheme.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=half)

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
    offsets = phrases.offsets - phrases.offsets[0]
    ids = phrases.ids[phrases.offsets[0] : phrases.offsets[-1]]
    return PhraseIds(np.insert(ids, offsets[1:], END), offsets + np.arange(len(offsets)))


class TreeEngine(Engine):
    """For models that predict each symbol from those before it: every node of a tree once."""

    def _tree(self, pairs: PhrasePairs) -> tuple[PrefixTree, Tensor]:
        """(the target phrases under one root per source; features).

        `features` (nodes, rank) is what the output matrix is multiplied with at each node.
        """
        raise NotImplementedError

    @override
    def _score(self, pairs: PhrasePairs) -> Tensor:
        tree, features = self._tree(pairs)
        log_probs, ends = self._by_node(tree, features)
        parents = self._tensor(tree.parents)
        # A phrase's prefixes are summed once for all phrases. In float64 the sums lose nothing.
        for level in tree.levels[1:]:
            start, stop = level.first, level.first + len(level)
            log_probs[start:stop] += log_probs[parents[start - tree.roots : stop - tree.roots]]
        return (log_probs + ends).index_select(0, self._tensor(tree.node_of)).float()

    @override
    def _score_symbols(self, pairs: PhrasePairs) -> Tensor:
        tree, features = self._tree(pairs)
        log_probs, ends = self._by_node(tree, features)
        found = log_probs.new_empty(len(pairs.target.ids) + len(pairs))
        place = pairs.target.offsets[1:] + np.arange(len(pairs))  # of each phrase's end symbol
        found[self._tensor(place)] = ends.index_select(0, self._tensor(tree.node_of)).double()
        node, left = tree.node_of, pairs.target.lengths
        while len(node := node[left > 0]):  # from each phrase's last word to its first
            place, left = place[left > 0] - 1, left[left > 0] - 1
            found[self._tensor(place)] = log_probs.index_select(0, self._tensor(node))
            node = tree.parents[node - tree.roots]
        return found.float()

    def _by_node(self, tree: PrefixTree, features: Tensor) -> tuple[Tensor, Tensor]:
        """(ln p of each node's word after its parent, (nodes,) float64; of the end symbol)."""
        log_z = self._softmax.log_z(features)
        words, parents = self._tensor(tree.words.astype(np.int64)), self._tensor(tree.parents)
        log_probs = features.new_zeros(len(tree), dtype=torch.float64)
        for rows in self._chunks(len(words), 16 * self._rows):
            chosen = self._softmax.logits(features, parents[rows], words[rows])
            nodes = slice(tree.roots + rows.start, tree.roots + rows.stop)
            log_probs[nodes] = chosen - log_z[parents[rows]]
        return log_probs, self._softmax.logits_of(features, END) - log_z


_PAIRS_AT_ONCE = 64  # for a model that reads every pair as a whole, once per symbol


class StepwiseEngine(TreeEngine):
    """For any of these models.

    Each distinct source is read once, each target prefix stepped once. The tree is walked depth
    first, some hundred nodes at a time, so that memory holds the states of one chunk per level,
    not of a whole block.
    """

    @override
    def _tree(self, pairs: PhrasePairs) -> tuple[PrefixTree, Tensor]:
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
        return tree, features

    @override
    def _summaries(self, phrases: PhraseIds) -> Tensor:
        model = cast(SequenceToSequence, self.model)
        found = torch.empty(len(phrases), model.config.hidden, device=self.device)
        with self._autocast():
            for rows in by_length(phrases.lengths, self._rows):
                vectors = model.summaries(source_batch(phrases, rows, self.device))
                found[self._tensor(rows)] = vectors.float()
        return found

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
            # Children are stepped only now: while they waited, they cost no states of their own.
            depth, nodes, above, memory, state = waiting.pop()
            rows = self._tensor(above)
            words = self._tensor(tree.levels[depth - 1].words[nodes].astype(np.int64))
            memory = take(memory, rows)
            state = self.model.advance(memory, take(state, rows), words)


class PairwiseEngine(Engine):
    """For models that look at a whole pair at once: each distinct pair by itself."""

    @override
    def _score(self, pairs: PhrasePairs) -> Tensor:
        kept, place = _distinct_pairs(pairs)
        found = torch.zeros(len(kept), dtype=torch.float64, device=self.device)
        for rows, phrases, _, log_probs in self._symbols(kept):
            found.index_add_(0, self._tensor(rows).index_select(0, phrases), log_probs)
        return found.index_select(0, self._tensor(place)).float()

    @override
    def _score_symbols(self, pairs: PhrasePairs) -> Tensor:
        kept, place = _distinct_pairs(pairs)
        ended = with_end(kept.target)
        found = torch.empty(len(ended.ids), dtype=torch.float64, device=self.device)
        for rows, phrases, times, log_probs in self._symbols(kept):
            found[self._tensor(ended.offsets[rows]).index_select(0, phrases) + times] = log_probs
        first, lengths = ended.offsets[place], ended.lengths[place]
        before = np.cumsum(lengths) - lengths
        every = np.arange(lengths.sum()) + np.repeat(first - before, lengths)
        return found.index_select(0, self._tensor(every)).float()

    def _symbols(self, kept: PhrasePairs) -> Iterator[tuple[Rows, Tensor, Tensor, Tensor]]:
        """Batch by batch: (rows of its pairs; of each symbol the phrase, the time, ln p)."""
        lengths = (kept.target.lengths << 16) + kept.source.lengths
        for rows in by_length(lengths, _PAIRS_AT_ONCE):
            batch = pair_batch(kept, rows, self.device)
            with self._autocast():
                features = self.model.features(batch).float()
            log_z = self._softmax.log_z(features)
            every = torch.arange(len(features), device=self.device)
            chosen = self._softmax.logits(features, every, batch.target.symbol_words) - log_z
            times = batch.target.symbols // len(rows)
            yield rows, batch.target.phrases, times, chosen.double()


def _distinct_pairs(pairs: PhrasePairs) -> tuple[PhrasePairs, Rows]:
    """(each distinct pair once; (pairs,) which of these each one is)."""
    sources, source_of = distinct(pairs.source)
    tree = PrefixTree.of(pairs.target, source_of, len(sources))
    _, first, place = np.unique(tree.node_of, return_index=True, return_inverse=True)
    return pairs.take(first), place


def distinct(phrases: PhraseIds) -> tuple[PhraseIds, Rows]:
    """(each distinct phrase once, shortest first; (phrases,) which of these each one is)."""
    nodes = PrefixTree.of(phrases).node_of
    _, first, place = np.unique(nodes, return_index=True, return_inverse=True)
    order = np.argsort(phrases.lengths[first], kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return phrases.take(first[order]), rank[place]
