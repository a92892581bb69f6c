"""What follows the products of a gated recurrent unit in training: a step, and its gradient.

Each function has the two forms of kernels.py: torch's equation, and one compiled from kernels.cpp.
Gates are not kept for the gradient but made again of the products: that is cheaper than memory.
Signals are those of candidate, update gate and reset gate, side by side (models/cells.py).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from phrase_scorer.kernels.kernels import Kernels, Product
from phrase_scorer.kernels.library import compiled_library


class UnitStep(NamedTuple):
    """What a step reads besides recurrent products."""

    signals: Tensor  # (rows, 3 hidden) float32 the input's part of the signals
    context: Tensor | None  # (rows, 3 hidden) float32 a context's part
    state: Tensor  # (rows, hidden) float32 before the step
    alive: Tensor | None  # (rows,) bool whether a phrase has not ended: else its state stays

    def blocks(self) -> tuple[list[Tensor], list[Tensor]]:
        """(signals, context) block by block."""
        context = torch.zeros_like(self.signals) if self.context is None else self.context
        return list(self.signals.chunk(3, 1)), list(context.chunk(3, 1))

    def kept(self, state: Tensor) -> Tensor:
        """The new state where a phrase has not ended."""
        return state if self.alive is None else torch.where(self.alive[:, None], state, self.state)

    def living(self, values: Tensor) -> Tensor:
        """0 where a phrase has ended."""
        return values if self.alive is None else values * self.alive[:, None]


class Made(NamedTuple):
    """Where the gradient of a step goes."""

    carried: Tensor  # (rows, hidden) that of the state: before the call after, then before the step
    d_signals: Tensor  # (rows, 3 hidden)


class GatedUnitKernels(Kernels):
    """The kernels of a gated unit's training; `takes_new` says what its update gate weighs."""

    def _step(self, name: str, step: UnitStep, *arguments: object) -> None:
        rows, hidden = step.state.shape
        inputs = step.signals, step.context, step.state, step.alive
        self._call(name, rows, hidden, *inputs, *arguments)  # type: ignore[arg-type]

    # -- reset after the product -----------------------------------------------------------------

    def after(
        self, step: UnitStep, products: Tensor, following: Tensor, rounded: Tensor, *,
        takes_new: bool,
    ) -> None:  # fmt: skip
        """Puts the next state into `following`, and again, of the products' type, into `rounded`.

        `products` is (rows, 3 hidden) h U.
        """
        if self._library:
            threads = torch.get_num_threads()
            self._step(
                "train_reset_after", step, Product(products), takes_new, threads, following, rounded
            )
            return
        update, _, _, candidate = _after(step, products)
        following.copy_(step.kept(_weighed(step, update, candidate, takes_new)))
        rounded.copy_(following)

    def after_back(
        self, step: UnitStep, products: Tensor, d_following: Tensor, later: Tensor, made: Made,
        d_products: Tensor, *, takes_new: bool,
    ) -> None:  # fmt: skip
        """The gradient of `after`: into `made` and `d_products`.

        That of the next state is the sum of `d_following`, `made.carried` and `later`.
        """
        if self._library:
            threads = torch.get_num_threads()
            self._step(
                "train_reset_after_back", step, Product(products), takes_new, threads, d_following,
                later, *made, d_products,
            )  # fmt: skip
            return
        update, reset, recurrent, candidate = _after(step, products)
        d_n, d_z = _of_state(step, update, candidate, d_following + later, made, takes_new)
        d_r = d_n * recurrent * reset * (1 - reset)
        made.d_signals.copy_(torch.cat([d_n, d_z, d_r], 1))
        d_products.copy_(torch.cat([d_n * reset, d_z, d_r], 1))

    # -- reset before the product ----------------------------------------------------------------

    def before_gate(self, step: UnitStep, products: Tensor, reset_states: Tensor) -> None:
        """Puts r ∘ h into `reset_states`; `products` is (rows, 2 hidden) h U_z, h U_r."""
        if self._library:
            threads = torch.get_num_threads()
            self._step("train_reset_before_gate", step, Product(products), threads, reset_states)
            return
        reset_states.copy_(_gate(step, products, 1) * step.state)

    def before(
        self, step: UnitStep, products: Tensor, candidates: Tensor, following: Tensor,
        rounded: Tensor, *, takes_new: bool,
    ) -> None:  # fmt: skip
        """As `after`; `candidates` is (rows, hidden) (r ∘ h) U."""
        if self._library:
            threads = torch.get_num_threads()
            self._step(
                "train_reset_before", step, Product(products), candidates, takes_new, threads,
                following, rounded,
            )  # fmt: skip
            return
        update, candidate = _gate(step, products, 0), _candidate(step, candidates)
        following.copy_(step.kept(_weighed(step, update, candidate, takes_new)))
        rounded.copy_(following)

    def before_back(
        self, step: UnitStep, products: Tensor, candidates: Tensor, d_following: Tensor,
        later: Tensor, made: Made, d_products: Tensor, d_candidates: Tensor, *, takes_new: bool,
    ) -> None:  # fmt: skip
        """The gradient of `before`, as `after_back`: all but the reset gate's."""
        if self._library:
            threads = torch.get_num_threads()
            self._step(
                "train_reset_before_back", step, Product(products), candidates, takes_new, threads,
                d_following, later, *made, d_products, d_candidates,
            )  # fmt: skip
            return
        n = step.state.shape[1]
        update, candidate = _gate(step, products, 0), _candidate(step, candidates)
        d_n, d_z = _of_state(step, update, candidate, d_following + later, made, takes_new)
        made.d_signals[:, : 2 * n] = torch.cat([d_n, d_z], 1)
        d_products[:, :n] = d_z
        d_candidates.copy_(d_n)

    def before_gate_back(
        self, step: UnitStep, products: Tensor, d_reset_states: Tensor, made: Made,
        d_products: Tensor,
    ) -> None:  # fmt: skip
        """The gradient of `before_gate`, added to the state's."""
        if self._library:
            threads = torch.get_num_threads()
            self._step(
                "train_reset_before_gate_back", step, Product(products), d_reset_states, threads,
                *made, d_products,
            )  # fmt: skip
            return
        n = step.state.shape[1]
        reset, d = _gate(step, products, 1), step.living(d_reset_states.to(step.state.dtype))
        d_r = d * step.state * reset * (1 - reset)
        made.carried.add_(d * reset)
        made.d_signals[:, 2 * n :] = d_r
        d_products[:, n:] = d_r


def _weighed(step: UnitStep, update: Tensor, candidate: Tensor, takes_new: bool) -> Tensor:
    old, new = (step.state, candidate) if takes_new else (candidate, step.state)
    return torch.lerp(old, new, update)


def _after(step: UnitStep, products: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(update gate, reset gate, the candidate's recurrent signal, candidate)."""
    signals, context = step.blocks()
    recurrent, *gates = (
        u + c for u, c in zip(products.to(step.state.dtype).chunk(3, 1), context, strict=True)
    )
    update, reset = (torch.sigmoid(u + s) for u, s in zip(gates, signals[1:], strict=True))
    return update, reset, recurrent, torch.tanh(signals[0] + reset * recurrent)


def _gate(step: UnitStep, products: Tensor, number: int) -> Tensor:
    """The update gate (0) or the reset gate (1), where the reset comes before the product."""
    signals, context = step.blocks()
    product = products.to(step.state.dtype).chunk(2, 1)[number]
    return torch.sigmoid(product + signals[number + 1] + context[number + 1])


def _candidate(step: UnitStep, products: Tensor) -> Tensor:
    signals, context = step.blocks()
    return torch.tanh(signals[0] + context[0] + products.to(step.state.dtype))


def _of_state(
    step: UnitStep, update: Tensor, candidate: Tensor, d_following: Tensor, made: Made,
    takes_new: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients of the sums in candidate and update gate; what the old state gets is carried."""
    whole = d_following + made.carried
    d = step.living(whole)
    share = update if takes_new else 1 - update  # of the candidate
    difference = candidate - step.state if takes_new else step.state - candidate
    made.carried.copy_(whole - d * share)
    return d * share * (1 - candidate**2), d * difference * update * (1 - update)


def gated_unit_kernels(device: torch.device, dtype: torch.dtype) -> GatedUnitKernels:
    """The fastest that there are for a device; compiled ones know float32 alone."""
    compiled = device.type == "cpu" and dtype == torch.float32
    return GatedUnitKernels(compiled_library() if compiled else None)
