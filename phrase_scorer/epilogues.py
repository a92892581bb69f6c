"""What follows each matrix product of the scoring engine: gates, maxout, the sum of exponentials.

Every function here is a line of the model's equations over many rows, written with torch: it runs
on any device, and says what is right. `native_epilogues.py` has the same functions as one pass over
memory each, for CPUs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

LARGE_SHARE = 1 / 64  # of a sum of exponentials: not more than 64 terms have it


class Product(NamedTuple):
    """What a matrix product gives."""

    values: Tensor  # (rows, columns) float32 or bfloat16
    row_scale: Tensor | None = None  # (rows,) float32, to be multiplied with them; None: 1

    def real(self) -> Tensor:
        """(rows, columns) float32."""
        values = self.values.float()
        return values if self.row_scale is None else values * self.row_scale[:, None]


class ExactLogits(NamedTuple):
    """What logits are made of, not rounded: features[row] · by_word[word]."""

    features: Tensor  # (rows, rank) float32
    by_word: Tensor  # (words, rank) float32


class Places(NamedTuple):
    """For each row of a result, the rows of the tables it is made of, int64."""

    parent: Tensor  # in the products of the parents' states, and these states
    word: Tensor  # in the table of the words' signals
    source: Tensor  # in the table of the contexts

    def __len__(self) -> int:
        return len(self.parent)


class Epilogues:
    """The functions as torch has them."""

    def reset_after(
        self,
        recurrent: Product,
        states: Tensor,
        words: Tensor,
        contexts: Tensor,
        places: Places,
        *,
        takes_new: bool,
    ) -> Tensor:
        """The state after one more symbol; the reset gate acts on the product (models/cells.py).

        Args:
            recurrent: (parents, 3 hidden) h U, h U_z, h U_r.
            states: (parents, hidden) h.
            words: (words, 3 hidden) signals of the inputs.
            contexts: (sources, 3 hidden) signals of the contexts.
            places: Of each row of the result.
            takes_new: Which of the two the update gate weighs.
        """
        n = states.shape[1]
        u = recurrent.real().index_select(0, places.parent)
        u = u + contexts.index_select(0, places.source)
        w = words.index_select(0, places.word)
        update, reset = torch.sigmoid(u[:, n:] + w[:, n:]).chunk(2, dim=1)
        candidate = torch.tanh(torch.addcmul(w[:, :n], reset, u[:, :n]))
        return _interpolated(update, states.index_select(0, places.parent), candidate, takes_new)

    def reset_before_gates(
        self,
        recurrent: Product,
        states: Tensor,
        words: Tensor,
        contexts: Tensor | None,
        places: Places,
    ) -> tuple[Tensor, Tensor]:
        """(update gate z, reset state r ∘ h), (rows, hidden) each.

        Args:
            recurrent: (parents, 2 hidden) h U_z, h U_r.
            states: (parents, hidden) h.
            words: (words, 3 hidden) signals of the inputs.
            contexts: (sources, 3 hidden) signals of the contexts, or None.
            places: Of each row of the result.
        """
        n = states.shape[1]
        u = recurrent.real().index_select(0, places.parent)
        u = u + words[:, n:].index_select(0, places.word)
        if contexts is not None:
            u = u + contexts[:, n:].index_select(0, places.source)
        update, reset = torch.sigmoid(u).chunk(2, dim=1)
        return update, reset * states.index_select(0, places.parent)

    def reset_before_state(
        self,
        recurrent: Product,
        updates: Tensor,
        states: Tensor,
        words: Tensor,
        contexts: Tensor | None,
        places: Places,
        *,
        takes_new: bool,
    ) -> Tensor:
        """The state after one more symbol, of (rows, hidden) products (r ∘ h) U and gates z."""
        n = states.shape[1]
        signals = recurrent.real() + words[:, :n].index_select(0, places.word)
        if contexts is not None:
            signals = signals + contexts[:, :n].index_select(0, places.source)
        old = states.index_select(0, places.parent)
        return _interpolated(updates, old, torch.tanh(signals), takes_new)

    def maxout(
        self, pieces: Product, words: Tensor, contexts: Tensor, word: Tensor, source: Tensor
    ) -> Tensor:
        """(rows, units): the larger of pieces i and units + i of O_h h' + O_y e(y) + O_c c."""
        sums = pieces.real() + words.index_select(0, word) + contexts.index_select(0, source)
        first, second = sums.chunk(2, dim=1)
        return torch.maximum(first, second)

    def quantize(self, values: Tensor, steps: float) -> Tensor:
        """int8: the nearest whole number of values * steps, which must lie from -127 to 127."""
        return (values * steps).round_().to(torch.int8)

    def two_digits(self, values: Tensor, steps: float, second_steps: float) -> Tensor:
        """(2 rows, columns) int8 of (rows, columns) values: first digits, then second digits.

        A second digit is the first one's rounding error, in `second_steps` steps.
        """
        scaled = values * steps
        first = scaled.round()
        second = ((scaled - first) * second_steps).round_()
        return torch.cat([first, second]).to(torch.int8)

    def add_sum_exp(
        self, sums: Tensor, logits: Product, bias: Tensor, exact: ExactLogits | None
    ) -> None:
        """Adds Σ_j exp(logit_j + bias_j); no maximum is subtracted, so inf and 0 may come of it.

        Args:
            sums: (rows,) changed in place.
            logits: (rows, words) perhaps rounded.
            bias: (words,).
            exact: If given, terms that are large among those so far are computed again from it.
        """
        terms = (logits.real() + bias).exp_()
        sums += terms.sum(1)
        if exact:
            rows, words = torch.nonzero(terms > LARGE_SHARE * sums[:, None], as_tuple=True)
            again = (exact.features[rows] * exact.by_word[words]).sum(1) + bias[words]
            sums.index_add_(0, rows, again.exp() - terms[rows, words])


class GpuEpilogues(Epilogues):
    """The same functions where no shape depends on a value: the host never waits for a GPU."""

    def add_sum_exp(
        self, sums: Tensor, logits: Product, bias: Tensor, exact: ExactLogits | None
    ) -> None:
        """As `Epilogues.add_sum_exp`; of a row, only the largest term is computed again."""
        terms = logits.real() + bias
        if exact:
            word = terms.argmax(1)
            again = (exact.features * exact.by_word.index_select(0, word)).sum(1) + bias[word]
            terms.scatter_(1, word[:, None], again[:, None])
        sums += terms.exp_().sum(1)


def _interpolated(update: Tensor, old: Tensor, candidate: Tensor, takes_new: bool) -> Tensor:
    return torch.lerp(old, candidate, update) if takes_new else torch.lerp(candidate, old, update)
