"""The engine of the encoder-decoder: walks the prefix trees of a block of pairs, every node once.

What several nodes have in common is computed where it first can be: a context's signals with its
source; the recurrent products with the parent, where the reset gate acts after them; the words'
signals with the distinct words of a block; nothing after a leaf. The equations are those of
models/encoder_decoder.py, the plain model that this is tested against.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from phrase_scorer.models import EncoderDecoder
from phrase_scorer.models.cells import AdditiveCell, Cell, GatedRecurrentUnit
from phrase_scorer.models.phrase_model import Affine
from phrase_scorer.scoring.engine import Engine, with_end
from phrase_scorer.scoring.kernels import Epilogues, Places
from phrase_scorer.scoring.precision import Precision, Rounding
from phrase_scorer.scoring.prefix_tree import Level, PrefixTree
from phrase_scorer.text.phrase_pairs import PhrasePairs, Rows


class Contexts(NamedTuple):
    """What the decoder needs of each distinct source."""

    state: Tensor  # (sources, state width) its initial state h'_0
    signals: Tensor  # (sources, blocks · hidden) C c, C_z c, C_r c
    readout: Tensor  # (sources, 2 maxout) O_c c + bias


class Recurrence:
    """A cell that steps from many parents to all their children."""

    def step(
        self, parents: Tensor, words: Tensor, contexts: Tensor | None, places: Places
    ) -> Tensor:
        """The states of the children: (len(places), state width).

        Args:
            parents: (parents, state width) their states.
            words: (words, blocks · hidden) the inputs' part of the signals.
            contexts: (sources, blocks · hidden) the contexts' part, or None.
            places: For each child the rows of these.
        """
        raise NotImplementedError

    @staticmethod
    def of(cell: Cell, rounding: Rounding, epilogues: Epilogues) -> Recurrence:
        """The recurrence of a cell."""
        if isinstance(cell, GatedRecurrentUnit):
            return GatedRecurrence(cell, rounding, epilogues)
        if isinstance(cell, AdditiveCell):
            return AdditiveRecurrence(cell, rounding)
        return PlainRecurrence(cell)


class PlainRecurrence(Recurrence):
    """Any cell, stepped for each child by itself."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell

    def step(
        self, parents: Tensor, words: Tensor, contexts: Tensor | None, places: Places
    ) -> Tensor:
        """As `Recurrence.step`."""
        context = None if contexts is None else contexts.index_select(0, places.source)
        states: Tensor = self.cell(
            words.index_select(0, places.word), parents.index_select(0, places.parent), context
        )
        return states


class AdditiveRecurrence(Recurrence):
    """A cell whose signals are sums: the product with a parent's state is all its children's."""

    def __init__(self, cell: AdditiveCell, rounding: Rounding) -> None:
        self.cell = cell
        self.shared = rounding.of_states(cell.recurrent, 2)

    def step(
        self, parents: Tensor, words: Tensor, contexts: Tensor | None, places: Places
    ) -> Tensor:
        """As `Recurrence.step`."""
        signals = (
            self.shared(self.cell.visible(parents).contiguous())
            .real()
            .index_select(0, places.parent)
        )
        signals += words.index_select(0, places.word)
        if contexts is not None:
            signals += contexts.index_select(0, places.source)
        return self.cell.update(signals, parents.index_select(0, places.parent))


class GatedRecurrence(Recurrence):
    """A GRU, by the fused functions of the epilogues."""

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
        """As `Recurrence.step`."""
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


class RecurrentEngine(Engine):
    """An encoder-decoder made ready to score blocks of pairs."""

    def __init__(
        self,
        model: EncoderDecoder,
        precision: Precision = "float32",
    ) -> None:
        super().__init__(model, precision)
        self.model = model
        rounding = self._rounding
        with torch.inference_mode():
            self._encoder = Recurrence.of(model.encoder, rounding, self._epilogues)
            self._decoder = Recurrence.of(model.decoder, rounding, self._epilogues)
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

    def _score(self, pairs: PhrasePairs) -> Tensor:
        sources = PrefixTree.of(with_end(pairs.source))
        ends, source_of = np.unique(sources.node_of, return_inverse=True)
        contexts = self._contexts(self._encode(sources, ends))
        targets = PrefixTree.of(pairs.target, source_of.astype(np.int64), len(ends))
        return self._sums(targets, self._features(targets, contexts))

    def _encode(self, tree: PrefixTree, ends: Rows) -> Tensor:
        """The states after the nodes `ends`, ascending."""
        words, embeddings = self._words(tree, self.model.source_embedding)
        signals = self.model.encoder.read(embeddings)
        walk = Walk(tree, words, words)
        states = signals.new_zeros(1, self.model.encoder.state_width)
        found = []
        for level in tree.levels:
            states = self._next(self._encoder, states, level, walk, signals, None)
            inside = ends[(ends >= level.first) & (ends < level.first + len(level))]
            found.append(states.index_select(0, self._tensor(inside - level.first)))
        return self.model.encoder.visible(torch.cat(found)).contiguous()

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
        result = embeddings.new_empty(len(tree), len(self.model.output.right))
        states, first = self._begin(walk, signals, contexts), 0
        for level in (None, *tree.levels):
            if level:
                states = self._next(self._decoder, states, level, walk, signals, contexts.signals)
                first = level.first
            for rows in self._chunks(len(states)):
                nodes = slice(first + rows.start, first + rows.stop)
                pieces = self._readout_state(self.model.decoder.visible(states[rows]).contiguous())
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
