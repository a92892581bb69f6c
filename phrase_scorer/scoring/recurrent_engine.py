"""The engine of the encoder-decoder: walks the prefix trees of a block of pairs, every node once.

It restates the equations of models/encoder_decoder.py, the plain model that it is tested against,
in another order: what several nodes have in common is computed where it first can be. A context's
signals are computed once per source; the recurrent products once per parent, where the reset gate
acts after them; the words' signals once per distinct word of a block; and nothing after a leaf.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from phrase_scorer.kernels.kernels import CellStep
from phrase_scorer.models import EncoderDecoder
from phrase_scorer.models.cells import AdditiveCell, Cell, GatedRecurrentUnit
from phrase_scorer.models.phrase_model import Affine
from phrase_scorer.runtime.device import Precision
from phrase_scorer.scoring.engine import TreeEngine, with_end
from phrase_scorer.scoring.precision import PrecisionScheme
from phrase_scorer.scoring.prefix_tree import Level, PrefixTree
from phrase_scorer.text.phrase_pairs import PhraseIds, PhrasePairs, Rows


class DecoderContexts(NamedTuple):
    """What the decoder needs of each distinct source."""

    state: Tensor  # (sources, state width) its initial state h'_0
    signals: Tensor  # (sources, blocks · hidden) C c, C_z c, C_r c
    readout: Tensor  # (sources, 2 maxout) O_c c + bias


class Recurrence:
    """A cell that steps from many parents to all their children: any cell, each child by itself."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell

    def step(self, step: CellStep) -> Tensor:
        """The states of the children: (children, state width)."""
        contexts = step.contexts
        states: Tensor = self.cell(
            step.words.index_select(0, step.word),
            step.states.index_select(0, step.parent),
            None if contexts is None else contexts.index_select(0, step.source),
        )
        return states


class AdditiveRecurrence(Recurrence):
    """A cell whose signals are sums: the product with a parent's state is all its children's."""

    cell: AdditiveCell

    def __init__(self, cell: AdditiveCell, scheme: PrecisionScheme) -> None:
        super().__init__(cell)
        self.shared = scheme.for_states(cell.recurrent, 2)

    @override
    def step(self, step: CellStep) -> Tensor:
        products = self.shared(self.cell.visible(step.states).contiguous()).real()
        signals = products.index_select(0, step.parent)
        signals += step.words.index_select(0, step.word)
        if step.contexts is not None:
            signals += step.contexts.index_select(0, step.source)
        return self.cell.update(signals, step.states.index_select(0, step.parent))


class GatedRecurrence(Recurrence):
    """A GRU, by the kernels that fuse its gates."""

    cell: GatedRecurrentUnit

    def __init__(self, cell: GatedRecurrentUnit, scheme: PrecisionScheme) -> None:
        super().__init__(cell)
        if cell.reset_after:
            self.shared, self.own = scheme.for_states(cell.recurrent, 1), None
        else:
            # r ∘ h is small, and so are an encoder's states: one digit would lose too much of them.
            candidate, gates = cell.recurrent.tensor_split([cell.hidden], dim=1)
            self.shared = scheme.for_states(gates, 2)  # once for all children of a parent
            self.own = scheme.for_states(candidate, 2)
        self._kernels = scheme.kernels

    @override
    def step(self, step: CellStep) -> Tensor:
        takes_new = self.cell.update_takes_new
        shared = self.shared(step.states)
        if self.own is None:
            return self._kernels.reset_after(shared, step, takes_new=takes_new)
        updates, reset_states = self._kernels.reset_before_gates(shared, step)
        own = self.own(reset_states)
        return self._kernels.reset_before_state(own, updates, step, takes_new=takes_new)


def recurrence_of(cell: Cell, scheme: PrecisionScheme) -> Recurrence:
    """The fastest recurrence that knows a cell."""
    if isinstance(cell, GatedRecurrentUnit):
        return GatedRecurrence(cell, scheme)
    if isinstance(cell, AdditiveCell):
        return AdditiveRecurrence(cell, scheme)
    return Recurrence(cell)


class StepInputs(NamedTuple):
    """What the steps down a tree read besides states, for all its nodes; see `CellStep`."""

    words: Tensor  # (words + 1, blocks · hidden) the last row, that of roots, is zero
    contexts: Tensor | None  # (sources, blocks · hidden)
    word: Tensor  # (nodes,)
    source: Tensor  # (nodes,)

    def step(self, states: Tensor, parent: Tensor, nodes: slice) -> CellStep:
        """The step from parents to these nodes."""
        rows = self.word[nodes], self.source[nodes]
        return CellStep(states, self.words, self.contexts, parent, *rows)


class RecurrentEngine(TreeEngine):
    """An encoder-decoder made ready to score blocks of pairs."""

    model: EncoderDecoder

    def __init__(self, model: EncoderDecoder, precision: Precision = "float32") -> None:
        super().__init__(model, precision)
        scheme = self._scheme
        with torch.inference_mode():
            self._encoder = recurrence_of(model.encoder, scheme)
            self._decoder = recurrence_of(model.decoder, scheme)
            self._summary = model.summary and scheme.for_summaries(model.summary.weight)
            self._initial_state = scheme.for_summaries(model.initial_state.weight)
            assert model.initial_state.bias is not None
            self._initial_bias = model.initial_state.bias.detach()
            assert model.decoder.context is not None
            self._context_signals = scheme.for_summaries(model.decoder.context)
            # The two pieces of each maxout unit, side by side in the model, become two halves.
            halves = torch.arange(2 * model.config.maxout, device=self.device)
            halves = halves.view(-1, 2).T.flatten()
            self._readout_state = scheme.for_states(model.readout.state[:, halves], 2)
            self._readout_context = scheme.for_summaries(model.readout.context[:, halves])
            self._readout_bias = model.readout.bias[halves]
            self._readout_previous = model.readout.previous[:, halves]
            left = model.output.left
            self._left = None if left is None else scheme.for_units(left)

    @override
    def _tree(self, pairs: PhrasePairs) -> tuple[PrefixTree, Tensor]:
        states, source_of = self._read(pairs.source)
        targets = PrefixTree.of(pairs.target, source_of, len(states))
        return targets, self._features(targets, self._contexts(states))

    @override
    def _summaries(self, phrases: PhraseIds) -> Tensor:
        states, place = self._read(phrases)
        summaries = torch.cat(
            [self._summary_of(states[rows]) for rows in self._chunks(len(states))]
        )
        return summaries.index_select(0, self._tensor(place))

    def _read(self, phrases: PhraseIds) -> tuple[Tensor, Rows]:
        """(the last state of each distinct phrase; (phrases,) which of these each one has)."""
        tree = PrefixTree.of(with_end(phrases))
        ends, place = np.unique(tree.node_of, return_inverse=True)
        return self._encode(tree, ends), place.astype(np.int64)

    def _encode(self, tree: PrefixTree, ends: Rows) -> Tensor:
        """The states after the nodes `ends`, ascending."""
        words, embeddings = self._words(tree, self.model.source_embedding)
        inputs = StepInputs(self.model.encoder.read(embeddings), None, words, words)
        states = embeddings.new_zeros(1, self.model.encoder.state_width)
        found = []
        for level in tree.levels:
            states = self._next(self._encoder, states, level, inputs)
            inside = ends[(ends >= level.first) & (ends < level.first + len(level))]
            found.append(states.index_select(0, self._tensor(inside - level.first)))
        return self.model.encoder.visible(torch.cat(found)).contiguous()

    def _summary_of(self, states: Tensor) -> Tensor:
        """The summaries c of sources with these last states."""
        return torch.tanh(self._summary(states).real()) if self._summary else states

    def _contexts(self, states: Tensor) -> DecoderContexts:
        """What the decoder needs of the sources with these last states."""
        contexts = []
        for rows in self._chunks(len(states)):
            summary = self._summary_of(states[rows])
            initial = self._initial_state(summary).real() + self._initial_bias
            signals = self._context_signals(summary).real()
            readout = self._readout_context(summary).real() + self._readout_bias
            contexts.append((torch.tanh(initial), signals, readout))
        return DecoderContexts(*map(torch.cat, zip(*contexts, strict=True)))

    def _features(self, tree: PrefixTree, contexts: DecoderContexts) -> Tensor:
        """(nodes, rank) what the output matrix is multiplied with at each node."""
        words, embeddings = self._words(tree, self.model.target_embedding)
        signals = self.model.decoder.read(embeddings)
        inputs = StepInputs(signals, contexts.signals, words, self._tensor(tree.root_of))
        previous = embeddings @ self._readout_previous  # once per word; the model: once per symbol
        result = embeddings.new_empty(len(tree), len(self.model.output.right))
        states, first = self._begin(inputs, contexts.state), 0
        for level in (None, *tree.levels):
            if level:
                states = self._next(self._decoder, states, level, inputs)
                first = level.first
            for rows in self._chunks(len(states)):
                nodes = slice(first + rows.start, first + rows.stop)
                pieces = self._readout_state(self.model.decoder.visible(states[rows]).contiguous())
                units = self._scheme.kernels.maxout(
                    pieces, previous, contexts.readout, inputs.word[nodes], inputs.source[nodes]
                )
                result[nodes] = units if self._left is None else self._left(units).real()
        return result

    def _begin(self, inputs: StepInputs, initial: Tensor) -> Tensor:
        """The states of the roots, from which the first symbols are read."""
        if self.model.config.variant == "groundhog":
            return initial
        states = torch.empty_like(initial)
        for rows in self._chunks(len(initial)):
            parent = torch.arange(rows.stop - rows.start, device=self.device)
            states[rows] = self._decoder.step(inputs.step(initial[rows], parent, rows))
        return states

    def _next(
        self, recurrence: Recurrence, above: Tensor, level: Level, inputs: StepInputs
    ) -> Tensor:
        """The states of a level, from those of the level above."""
        # Leaves above are left out; children stand by their parents, so a chunk of these has all.
        inner, first_child, children = np.unique(
            level.parents, return_index=True, return_counts=True
        )
        parent = self._tensor(np.repeat(np.arange(len(inner)), children))
        bounds = [*first_child.tolist(), len(level)]
        inner_nodes = self._tensor(inner)
        states = above.new_empty(len(level), above.shape[1])
        for rows in self._chunks(len(inner)):
            inside = slice(bounds[rows.start], bounds[rows.stop])
            nodes = slice(level.first + inside.start, level.first + inside.stop)
            parents = above.index_select(0, inner_nodes[rows])
            step = inputs.step(parents, parent[inside] - rows.start, nodes)
            states[inside] = recurrence.step(step)
        return states

    def _words(self, tree: PrefixTree, embedding: Affine) -> tuple[Tensor, Tensor]:
        """((nodes,) row of each node's word, (words + 1, embedding) the last row zero)."""
        words, places = np.unique(tree.words, return_inverse=True)
        rows = np.concatenate([np.full(tree.roots, len(words)), places])
        embeddings = embedding.embed(self._tensor(words.astype(np.int64)))
        return self._tensor(rows), nn.functional.pad(embeddings, (0, 0, 0, 1))
