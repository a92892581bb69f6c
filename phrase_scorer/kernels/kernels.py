"""What follows each matrix product: gates, maxout, the sum of exponentials, the loss' gradient.

Each kernel is a line of the model's equations over many rows, and has two forms under one name:
the torch equation, which runs on any device and says what is right, and a function compiled from
kernels.cpp, called through ctypes, which does the same in one pass over memory, 3 to 9 times as
fast on CPUs (library.py).
"""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from phrase_scorer.kernels.library import compiled_library

EXACT_ABOVE = 1 / 64  # share of a sum of exponentials: at most 64 terms have so large a one


class Product(NamedTuple):
    """What a matrix product gives."""

    values: Tensor  # (rows, columns) float32 or bfloat16
    row_scale: Tensor | None = None  # (rows,) float32, to be multiplied with them; None: 1

    def real(self) -> Tensor:
        """(rows, columns) float32."""
        values = self.values.float()
        return values if self.row_scale is None else values * self.row_scale[:, None]


_Argument = Product | Tensor | float | None  # of a compiled kernel


class ExactLogits(NamedTuple):
    """What logits are made of, not rounded: features[row] · by_word[word]."""

    features: Tensor  # (rows, rank) float32
    by_word: Tensor  # (words, rank) float32


class Smoothing(NamedTuple):
    """Label smoothing: what a target distribution has beside the word that was seen."""

    kept: float  # the share of that word
    others: Tensor  # (words,) float32 the share of each word


class CellStep(NamedTuple):
    """What a recurrent step from parents to all their children reads besides recurrent products."""

    states: Tensor  # (parents, state width) h
    words: Tensor  # (words, blocks · hidden) the inputs' part of the signals
    contexts: Tensor | None  # (sources, blocks · hidden) the contexts' part
    parent: Tensor  # (children,) int64 row of each child's parent in `states`, and in the products
    word: Tensor  # (children,) its row in `words`
    source: Tensor  # (children,) its row in `contexts`

    @property
    def shape(self) -> tuple[int, int]:
        """(children, state width): that of the new states."""
        return len(self.parent), self.states.shape[1]


class Kernels:
    """The kernels: with a library, compiled, for contiguous tensors on the CPU; else torch's."""

    def __init__(self, library: ctypes.CDLL | None = None) -> None:
        self._library = library

    @property
    def are_compiled(self) -> bool:
        """Whether they come from the library."""
        return self._library is not None

    def reset_after(self, recurrent: Product, step: CellStep, *, takes_new: bool) -> Tensor:
        """The state after one more symbol; the reset gate acts on the product (models/cells.py).

        The step has contexts; `recurrent` is (parents, 3 hidden): h U, h U_z, h U_r. `takes_new`:
        whether the update gate weighs the candidate, not the old state.
        """
        if self._library:
            return self._made("reset_after", step.shape, recurrent, *step, takes_new)
        assert step.contexts is not None
        n = step.states.shape[1]
        u = recurrent.real().index_select(0, step.parent)
        u = u + step.contexts.index_select(0, step.source)
        w = step.words.index_select(0, step.word)
        update, reset = torch.sigmoid(u[:, n:] + w[:, n:]).chunk(2, dim=1)
        candidate = torch.tanh(torch.addcmul(w[:, :n], reset, u[:, :n]))
        return _interpolated(update, step, candidate, takes_new)

    def reset_before_gates(self, recurrent: Product, step: CellStep) -> tuple[Tensor, Tensor]:
        """(update gate z, reset state r ∘ h), (children, hidden) each.

        `recurrent` is (parents, 2 hidden): h U_z, h U_r. The step may have contexts.
        """
        if self._library:
            both = self._made("reset_before_gates", (2, *step.shape), recurrent, *step)
            return both[0], both[1]
        n = step.states.shape[1]
        u = recurrent.real().index_select(0, step.parent)
        u = u + step.words[:, n:].index_select(0, step.word)
        if step.contexts is not None:
            u = u + step.contexts[:, n:].index_select(0, step.source)
        update, reset = torch.sigmoid(u).chunk(2, dim=1)
        return update, reset * step.states.index_select(0, step.parent)

    def reset_before_state(
        self, recurrent: Product, updates: Tensor, step: CellStep, *, takes_new: bool
    ) -> Tensor:
        """The state after one more symbol, of (children, hidden) products (r ∘ h) U and gates z."""
        if self._library:
            arguments = (recurrent, updates, *step, takes_new)
            return self._made("reset_before_state", step.shape, *arguments)
        n = step.states.shape[1]
        signals = recurrent.real() + step.words[:, :n].index_select(0, step.word)
        if step.contexts is not None:
            signals = signals + step.contexts[:, :n].index_select(0, step.source)
        return _interpolated(updates, step, torch.tanh(signals), takes_new)

    def maxout(
        self, pieces: Product, words: Tensor, contexts: Tensor, word: Tensor, source: Tensor
    ) -> Tensor:
        """(rows, units): the larger of pieces i and units + i of O_h h' + O_y e(y) + O_c c."""
        if self._library:
            shape = (len(word), words.shape[1] // 2)
            return self._made("maxout", shape, pieces, words, contexts, word, source)
        sums = pieces.real() + words.index_select(0, word) + contexts.index_select(0, source)
        first, second = sums.chunk(2, dim=1)
        return torch.maximum(first, second)

    def quantize(self, values: Tensor, steps: float) -> Tensor:
        """int8: the nearest whole number of values * steps, which must lie from -127 to 127."""
        if self._library:
            return self._made("quantize", values.shape, values, steps, dtype=torch.int8)
        return (values * steps).round_().to(torch.int8)

    def two_digits(self, values: Tensor, steps: float, second_steps: float) -> Tensor:
        """(2 rows, columns) int8 of (rows, columns) values: first digits, then second digits.

        A second digit is the first one's rounding error, in `second_steps` steps.
        """
        if self._library:
            shape = (2, *values.shape)
            digits = self._made("two_digits", shape, values, steps, second_steps, dtype=torch.int8)
            return digits.flatten(0, 1)
        scaled = values * steps
        first = scaled.round()
        second = ((scaled - first) * second_steps).round_()
        return torch.cat([first, second]).to(torch.int8)

    def add_sum_exp(
        self, sums: Tensor, logits: Product, bias: Tensor, exact: ExactLogits | None
    ) -> None:
        """Adds Σ_j exp(logit_j + bias_j) to `sums`, (rows,), in place.

        No maximum is subtracted, so inf and 0 may come of it. Logits, (rows, words), may be
        rounded: terms that are large among those so far are computed again from `exact`.
        """
        if self._library:
            features, by_word = exact or (None, None)
            self._call(
                "sum_exp", *logits.values.shape, 0 if features is None else features.shape[1],
                logits, logits.row_scale, bias * LOG2_E, features, by_word, EXACT_ABOVE, sums,
            )  # fmt: skip
            return
        terms = (logits.real() + bias).exp_()
        sums += terms.sum(1)
        if exact:
            rows, words = torch.nonzero(terms > EXACT_ABOVE * sums[:, None], as_tuple=True)
            again = (exact.features[rows] * exact.by_word[words]).sum(1) + bias[words]
            sums.index_add_(0, rows, again.exp() - terms[rows, words])

    def softmax_cross_entropy(
        self, logits: Tensor, bias: Tensor, words: Tensor, weights: Tensor, d_bias: Tensor,
        smoothing: Smoothing | None = None,
    ) -> Tensor:  # fmt: skip
        """(rows,) weight · -ln p(word) in nats, p = softmax(logits + bias).

        In place, `logits`, (rows, words), become the gradient with respect to them, rounded to
        their type, and its sum over the rows, not rounded, is added to `d_bias`. With `smoothing`
        it is the cross entropy with that distribution instead of the word's.
        """
        if self._library and bias.dtype == torch.float32:
            losses = torch.empty_like(weights)
            kept, others = smoothing or (1.0, None)
            self._call(
                "softmax_cross_entropy", *logits.shape, Product(logits), bias, words, weights, kept,
                others, torch.get_num_threads(), d_bias, losses,
            )  # fmt: skip
            return losses
        log_p = (logits.to(bias.dtype) + bias).log_softmax(1)
        losses = -log_p.gather(1, words[:, None]).squeeze(1)
        gradient, kept = log_p.exp(), 1.0
        if smoothing:
            kept = smoothing.kept
            losses = kept * losses - log_p @ smoothing.others
            gradient *= kept + smoothing.others.sum()
            gradient -= smoothing.others
        gradient.scatter_add_(1, words[:, None], weights.new_full((len(words), 1), -kept))
        gradient *= weights[:, None]
        d_bias += gradient.sum(0)
        logits.copy_(gradient)
        return losses * weights

    def _made(
        self, name: str, shape: tuple[int, ...], *arguments: _Argument,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:  # fmt: skip
        """What a compiled kernel leaves: it is given rows and columns, arguments, result."""
        result = torch.empty(shape, dtype=dtype)
        self._call(name, *shape[-2:], *arguments, result)
        return result

    def _call(self, name: str, *arguments: _Argument) -> None:
        """Calls a compiled kernel; one that reads a product has a form for each of its types."""
        assert self._library is not None
        for argument in arguments:
            if isinstance(argument, Product):
                name += "_bfloat16" if argument.values.dtype == torch.bfloat16 else "_float"
        self._library[name](*map(_c_argument, arguments))


class GpuKernels(Kernels):
    """The torch equations, where no shape depends on a value: the host never waits for a GPU."""

    @override
    def add_sum_exp(
        self, sums: Tensor, logits: Product, bias: Tensor, exact: ExactLogits | None
    ) -> None:
        terms = logits.real() + bias
        if exact:  # of each row, only the largest term is computed again
            word = terms.argmax(1)
            again = (exact.features * exact.by_word.index_select(0, word)).sum(1) + bias[word]
            terms.scatter_(1, word[:, None], again[:, None])
        sums += terms.exp_().sum(1)


def _interpolated(update: Tensor, step: CellStep, candidate: Tensor, takes_new: bool) -> Tensor:
    old = step.states.index_select(0, step.parent)
    return torch.lerp(old, candidate, update) if takes_new else torch.lerp(candidate, old, update)


def _c_argument(argument: _Argument) -> ctypes.c_int64 | ctypes.c_float | ctypes.c_void_p:
    if isinstance(argument, Product):
        argument = argument.values
    if isinstance(argument, Tensor):
        assert argument.is_contiguous()
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, float):
        return ctypes.c_float(argument)
    return ctypes.c_void_p(None) if argument is None else ctypes.c_int64(argument)


def kernels_for(device: torch.device) -> Kernels:
    """The fastest kernels that there are for a device."""
    return Kernels(compiled_library()) if device.type == "cpu" else GpuKernels()


LOG2_E = 1.4426950408889634  # compiled kernels compute exp as a power of two
