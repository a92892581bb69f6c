"""An int8 matrix as the right factor of products: packed once, multiplied many times.

oneDNN's packed form, which torch's own compiler uses for quantised models, is 1.5 to 2 times as
fast as `torch._int_mm` and gives real numbers at once; it needs a processor that multiplies int8
(VNNI). Elsewhere the latter does the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def int8_matrix(weight: Tensor, scale: Tensor) -> Int8Matrix:
    """The fastest form of a matrix.

    Args:
        weight: (in, out) int8.
        scale: (out,) float32, what the columns of `weight` are multiplied with.
    """
    vnni = torch.cpu._is_vnni_supported() and torch.backends.mkldnn.is_available()
    return PackedInt8Matrix(weight, scale) if vnni else Int8Matrix(weight, scale)


class Int8Matrix:
    """W, as torch multiplies it everywhere."""

    def __init__(self, weight: Tensor, scale: Tensor) -> None:
        self._weight = weight.contiguous()
        self._scale = scale

    def product(self, rows: Tensor, step: float) -> Tensor:
        """(rows, in) int8 times `step` -> (rows, out) float32; sums are exact."""
        return torch._int_mm(rows, self._weight).float().mul_(self._scale * step)

    def add_product(self, values: Tensor, rows: Tensor, step: float) -> Tensor:
        """The same, added to `values`, (rows, out) float32."""
        return values.add_(self.product(rows, step))


SIGN_BIT = 128


class PackedInt8Matrix(Int8Matrix):
    """W in the order in which oneDNN's kernels read it.

    AMX multiplies int8 by int8. VNNI multiplies uint8 by int8: there the left side is shifted by
    128 and oneDNN is told so; for int8 it has nothing but a loop, ten thousand times as slow.
    """

    def __init__(self, weight: Tensor, scale: Tensor) -> None:
        self._shift = 0 if torch.cpu._is_amx_tile_supported() else SIGN_BIT
        self._scale = scale.contiguous()
        self._zeros = torch.zeros(len(scale), dtype=torch.int32)
        self._weight = torch.ops.onednn.qlinear_prepack(weight.T.contiguous(), None)

    def product(self, rows: Tensor, step: float) -> Tensor:
        """As `Int8Matrix.product`."""
        return self._multiply(torch.ops.onednn.qlinear_pointwise.default, rows, step)

    def add_product(self, values: Tensor, rows: Tensor, step: float) -> Tensor:
        """As `Int8Matrix.add_product`; the sum is made where the product is."""
        multiply = torch.ops.onednn.qlinear_pointwise.binary
        return self._multiply(multiply, rows, step, values)

    def _multiply(self, multiply: Any, rows: Tensor, step: float, *values: Tensor) -> Tensor:
        if self._shift:
            rows = rows.view(torch.uint8).bitwise_xor(SIGN_BIT)  # r + 128
        real = (None, 1.0, 0, torch.float32)  # no bias; not quantised again
        sum_with_values = (1.0, 0, "sum", 1.0) if values else ()
        result: Tensor = multiply(
            rows, step, self._shift, self._weight, self._scale, self._zeros,
            *values, *real, *sum_with_values, "none", [], "",
        )  # fmt: skip
        return result
