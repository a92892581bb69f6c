"""The scoring engine: walks the prefix trees of a block of pairs, every node once.

What several nodes have in common is computed where it first can be: a context's signals with its
source; the recurrent products with the parent, where the reset gate acts after them; the words'
signals with the distinct words of a block; nothing after a leaf. The equations are those of
models/encoder_decoder.py, the plain model that this is tested against.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from phrase_scorer.epilogues import Epilogues, Places
from phrase_scorer.models import EncoderDecoder
from phrase_scorer.models.cells import GatedRecurrentUnit
from phrase_scorer.models.encoder_decoder import Affine
from phrase_scorer.native_epilogues import epilogues_for
from phrase_scorer.normalizer import Normalization, Normalizer
from phrase_scorer.phrase_pairs import Ids, PhraseIds, PhrasePairs, Rows
from phrase_scorer.precision import Precision, Rounding
from phrase_scorer.prefix_tree import Level, PrefixTree
from phrase_scorer.vocabulary import END

ROWS_ON_CPU = 512  # of one product: its result is read while it is in cache
ROWS_ON_GPU = 1 << 15


class Contexts(NamedTuple):
    """What the decoder needs of each distinct source."""

    state: Tensor  # (sources, hidden) its initial state h'_0
    signals: Tensor  # (sources, 3 hidden) C c, C_z c, C_r c
    readout: Tensor  # (sources, 2 maxout) O_c c + bias


class Recurrence:
    """A GRU that steps from many parents to all their children."""

    def __init__(self, cell: GatedRecurrentUnit, rounding: Rounding, epilogues: Epilogues) -> None:
        n = cell.hidden
        shared = cell.recurrent if cell.reset_after else cell.recurrent[:, n:]
        digits: Literal[1, 2] = (
            1 if cell.reset_after else 2
        )  # r ∘ h is small, and so are an encoder's states
        self.shared = rounding.of_states(shared, digits)  # once for all children of a parent
        self.own = None
        if not cell.reset_after:
            self.own = rounding.of_states(cell.recurrent[:, :n], digits)
        self.cell = cell
        self._epilogues = epilogues

    def step(
        self, parents: Tensor, words: Tensor, contexts: Tensor | None, places: Places
    ) -> Tensor:
        """The states of the children: (len(places), hidden).

        Args:
            parents: (parents, hidden) their states.
            words: (words, 3 hidden) the inputs' part of the signals.
            contexts: (sources, 3 hidden) the contexts' part, or None.
            places: For each child the rows of these.
        """
        takes_new = self.cell.update_takes_new
        shared = self.shared(parents)
        if self.own is None:
            assert contexts is not None
            return self._epilogues.reset_after(
                shared, parents, words, contexts, places, takes_new=takes_new
            )
        updates, reset_states = self._epilogues.reset_before_gates(
            shared, parents, words, contexts, places
        )
        return self._epilogues.reset_before_state(
            self.own(reset_states), updates, parents, words, contexts, places, takes_new=takes_new
        )


class Walk(NamedTuple):
    """A tree with what a recurrence reads on its way through it, on the model's device."""

    tree: PrefixTree
    word: Tensor  # (nodes,) row of each node's word in a table of signals; of a root: the last
    source: Tensor  # (nodes,) row of each node's context


class Engine:
    """A model made ready to score blocks of pairs.

    Args:
        model: On its device; its weights are copied, rounded and rearranged.
        precision: Of the large products.
        normalization: "none" leaves the softmax's normaliser out: for self-normalised models.
    """

    def __init__(
        self,
        model: EncoderDecoder,
        precision: Precision = "float32",
        normalization: Normalization = "exact",
    ) -> None:
        self.model = model
        self.device = model.output.bias.device
        self._epilogues = epilogues_for(self.device)
        self._rows = ROWS_ON_CPU if self.device.type == "cpu" else ROWS_ON_GPU
        rounding = Rounding(precision, self.device, self._epilogues)
        with torch.inference_mode():
            self._encoder = Recurrence(model.encoder, rounding, self._epilogues)
            self._decoder = Recurrence(model.decoder, rounding, self._epilogues)
            self._summary = model.summary and rounding.of_summaries(model.summary.weight)
            self._initial_state = rounding.of_summaries(model.initial_state.weight)
            assert model.initial_state.bias is not None
            self._initial_bias = model.initial_state.bias.detach()
            assert model.decoder.context is not None
            self._context_signals = rounding.of_summaries(model.decoder.context)
            # The two pieces of each maxout unit, side by side in the model, become two halves.
            halves = torch.arange(2 * model.config.maxout, device=self.device)
            halves = halves.view(-1, 2).T.flatten()
            self._readout_state = rounding.of_states(model.readout.state[:, halves], 2)
            self._readout_context = rounding.of_summaries(model.readout.context[:, halves])
            self._readout_bias = model.readout.bias[halves]
            self._readout_previous = model.readout.previous[:, halves]
            self._normalizer = Normalizer(model.output, rounding, self._epilogues, normalization)

    @torch.inference_mode()
    def score(self, pairs: PhrasePairs) -> Tensor:
        """(pairs,) float32 ln p(target | source), end symbols included."""
        if not len(pairs):
            return torch.zeros(0)
        sources = PrefixTree.of(with_end(pairs.source))
        ends, source_of = np.unique(sources.node_of, return_inverse=True)
        contexts = self._contexts(self._encode(sources, ends))
        targets = PrefixTree.of(pairs.target, source_of.astype(np.int64), len(ends))
        return self._sums(targets, self._features(targets, contexts)).cpu()

    def _encode(self, tree: PrefixTree, ends: Rows) -> Tensor:
        """The states after the nodes `ends`, ascending."""
        words, embeddings = self._words(tree, self.model.source_embedding)
        signals = self.model.encoder.read(embeddings)
        walk = Walk(tree, words, words)
        states = signals.new_zeros(1, self.model.config.hidden)
        found = []
        for level in tree.levels:
            states = self._next(self._encoder, states, level, walk, signals, None)
            inside = ends[(ends >= level.first) & (ends < level.first + len(level))]
            found.append(states.index_select(0, self._tensor(inside - level.first)))
        return torch.cat(found)

    def _contexts(self, states: Tensor) -> Contexts:
        """What the decoder needs of the sources with these last states."""
        contexts = []
        for rows in self._chunks(len(states)):
            summary = states[rows]
            if self._summary:
                summary = torch.tanh(self._summary(summary).real())
            initial = self._initial_state(summary).real() + self._initial_bias
            signals = self._context_signals(summary).real()
            readout = self._readout_context(summary).real() + self._readout_bias
            contexts.append((torch.tanh(initial), signals, readout))
        return Contexts(*map(torch.cat, zip(*contexts, strict=True)))

    def _features(self, tree: PrefixTree, contexts: Contexts) -> Tensor:
        """(nodes, rank) what the output matrix is multiplied with at each node."""
        words, embeddings = self._words(tree, self.model.target_embedding)
        signals = self.model.decoder.read(embeddings)
        previous = embeddings @ self._readout_previous
        walk = Walk(tree, words, self._tensor(tree.root_of))
        result = embeddings.new_empty(len(tree), self.model.config.output_features)
        states, first = self._begin(walk, signals, contexts), 0
        for level in (None, *tree.levels):
            if level:
                states = self._next(self._decoder, states, level, walk, signals, contexts.signals)
                first = level.first
            for rows in self._chunks(len(states)):
                nodes = slice(first + rows.start, first + rows.stop)
                pieces = self._readout_state(states[rows])
                units = self._epilogues.maxout(
                    pieces, previous, contexts.readout, walk.word[nodes], walk.source[nodes]
                )
                result[nodes] = self.model.output.features(units)
        return result

    def _begin(self, walk: Walk, signals: Tensor, contexts: Contexts) -> Tensor:
        """The states of the roots, from which the first symbols are read."""
        if self.model.config.variant == "groundhog":
            return contexts.state
        states = torch.empty_like(contexts.state)
        for rows in self._chunks(walk.tree.roots):
            parent = torch.arange(rows.stop - rows.start, device=self.device)
            places = Places(parent, walk.word[rows], walk.source[rows])
            states[rows] = self._decoder.step(
                contexts.state[rows], signals, contexts.signals, places
            )
        return states

    def _next(
        self,
        recurrence: Recurrence,
        above: Tensor,
        level: Level,
        walk: Walk,
        signals: Tensor,
        contexts: Tensor | None,
    ) -> Tensor:
        """The states of a level, from those of the level above."""
        inner, first_child, children = np.unique(
            level.parents, return_index=True, return_counts=True
        )
        parent = self._tensor(np.repeat(np.arange(len(inner)), children))
        bounds = [*first_child.tolist(), len(level)]
        inner_nodes = self._tensor(inner)
        values = above.new_empty(len(level), above.shape[1])
        for rows in self._chunks(len(inner)):
            inside = slice(bounds[rows.start], bounds[rows.stop])
            nodes = slice(level.first + inside.start, level.first + inside.stop)
            places = Places(parent[inside] - rows.start, walk.word[nodes], walk.source[nodes])
            values[inside] = recurrence.step(
                above.index_select(0, inner_nodes[rows]), signals, contexts, places
            )
        return values

    def _words(self, tree: PrefixTree, embedding: Affine) -> tuple[Tensor, Tensor]:
        """((nodes,) row of each node's word, (words + 1, embedding) the last row zero)."""
        words, places = np.unique(tree.words, return_inverse=True)
        rows = np.concatenate([np.full(tree.roots, len(words)), places])
        embeddings = embedding.embed(self._tensor(words.astype(np.int64)))
        return self._tensor(rows), nn.functional.pad(embeddings, (0, 0, 0, 1))

    def _sums(self, tree: PrefixTree, features: Tensor) -> Tensor:
        """(phrases,) ln p of each phrase: of its words, and of the end symbol after them."""
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
