"""In which numbers the scoring engine multiplies: float32, bfloat16 or int8; all else is float32.

A weight matrix is rounded once, what it is multiplied with before each product. In int8 both have
127 steps to each side of 0: weights column by column up to the largest, hidden states up to 1. Sums
are exact in int32. Where the step of 1/127 costs more accuracy than time, the left side has two
digits of 127 and 254 steps, so that only the weights are rounded; where few rows are multiplied, a
product stays in float32.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from phrase_scorer.epilogues import Epilogues, Product
from phrase_scorer.errors import UsageError

Precision = Literal["float32", "bfloat16", "int8"]
LeftSide = Literal["states", "two digits", "rows"]
INT8_STEPS = 127.0
SECOND_DIGIT_STEPS = 254.0  # of the first digit's rounding error, which is at most half a step


class Operand(NamedTuple):
    """The left side of a product, rounded as its factor wants it."""

    values: Tensor  # (rows, in) float32, bfloat16 or int8; (2 rows, in) where it has two digits
    row_scale: Tensor | None = None  # (rows,) by which the product is to be multiplied


class Factor:
    """A matrix W, made ready to be the right factor of products x W, in float32.

    Args:
        weight: (in, out) float32.
    """

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight.contiguous()
        self.scale = weight.new_ones(weight.shape[1])

    def __call__(self, values: Tensor) -> Product:
        """(rows, in) float32 -> (rows, out)."""
        return self.product(self.operand(values))

    def operand(self, values: Tensor) -> Operand:
        """The left side, rounded."""
        return Operand(values)

    def product(self, operand: Operand) -> Product:
        """The product with a left side that this factor, or one like it, has rounded."""
        return Product(operand.values @ self.weight, self.scale)


class Bfloat16Factor(Factor):
    """Both sides have 8 significant bits; sums are float32, rounded to 8 bits on CPUs."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight)
        self.weight = self.weight.bfloat16()

    def operand(self, values: Tensor) -> Operand:
        """(rows, in) in bfloat16."""
        return Operand(values.bfloat16())

    def product(self, operand: Operand) -> Product:
        """(rows, out) in float32."""
        if operand.values.is_cuda:
            values = torch.mm(operand.values, self.weight, out_dtype=torch.float32)
        else:
            values = (operand.values @ self.weight).float()
        return Product(values, self.scale)


class Int8Factor(Factor):
    """Weights have 127 steps to each side of 0, a column up to its largest.

    Args:
        weight: (in, out) float32.
        epilogues: For rounding the left side.
        left: What that is: "states" lie from -1 to 1 and have one digit or "two digits"; "rows"
            are scaled, each to its largest value.
    """

    def __init__(self, weight: Tensor, epilogues: Epilogues, left: LeftSide) -> None:
        super().__init__(weight)
        largest = weight.abs().amax(0).clamp(min=1e-30)  # (out,)
        self.weight = (weight * (INT8_STEPS / largest)).round_().to(torch.int8).contiguous()
        self.scale = largest / INT8_STEPS**2
        self._epilogues = epilogues
        self._left = left

    def operand(self, values: Tensor) -> Operand:
        """(rows, in) or (2 rows, in) in int8."""
        if self._left == "two digits":
            return Operand(self._epilogues.two_digits(values, INT8_STEPS, SECOND_DIGIT_STEPS))
        if self._left == "states":
            return Operand(self._epilogues.quantize(values, INT8_STEPS))
        largest = values.abs().amax(1).clamp(min=1e-30)  # (rows,)
        return Operand(self._epilogues.quantize(values / largest[:, None], INT8_STEPS), largest)

    def product(self, operand: Operand) -> Product:
        """(rows, out) in int32; in float32 where the left side has two digits."""
        values = torch._int_mm(operand.values, self.weight)
        if self._left == "two digits":
            values = self._epilogues.two_digit_sum(values, SECOND_DIGIT_STEPS, self.scale)
        return Product(values, self.scale, operand.row_scale)


class Rounding:
    """Which factor a matrix becomes, by what it is multiplied with and how often.

    Raises:
        UsageError: Not a precision, or not one of this device.
    """

    def __init__(self, precision: Precision, device: torch.device, epilogues: Epilogues) -> None:
        if precision not in get_args(Precision):
            choices = ", ".join(get_args(Precision))
            raise UsageError(f"unknown precision {precision!r}; choose from {choices}")
        if precision == "int8" and device.type != "cpu":
            raise UsageError(f"int8 is for CPUs; on {device.type} use bfloat16")
        self.precision: Precision = precision
        self._epilogues = epilogues
        self._on_cpu = device.type == "cpu"

    def of_states(self, weight: Tensor, digits: Literal[1, 2]) -> Factor:
        """The factor of a matrix that hidden states are multiplied with, node by node."""
        return self._factor(weight, "states" if digits == 1 else "two digits")

    def of_summaries(self, weight: Tensor) -> Factor:
        """The factor of a matrix that is multiplied once for each source.

        Its errors would be in every symbol of every target; on CPUs it stays float32.
        """
        if self.precision == "bfloat16" and not self._on_cpu:
            return Bfloat16Factor(weight)
        return Factor(weight)

    def of_features(self, weight: Tensor) -> Factor:
        """The factor of the output matrix, for the softmax's normaliser."""
        return self._factor(weight, "rows")

    def _factor(self, weight: Tensor, left: LeftSide) -> Factor:
        if self.precision == "int8":
            return Int8Factor(weight, self._epilogues, left)
        return Bfloat16Factor(weight) if self.precision == "bfloat16" else Factor(weight)
