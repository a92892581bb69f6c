"""In which numbers the scoring engine multiplies: float32, bfloat16 or int8; all else is float32.

A weight matrix is rounded once, what it is multiplied with before each product. In int8 both have
127 steps to each side of 0: weights column by column up to the largest, hidden states up to 1. Sums
are exact in int32. Where such a step costs more accuracy than time, numbers have two digits: the
second digit is the first one's rounding error, in 254 steps. Then either only the weights are
rounded, or neither side, as far as float32 is concerned.

The plain model multiplies everything in float32. Here each matrix is rounded as coarsely as its
errors allow: those of a state fade over the next steps, those of a summary reach every symbol of
every target.
"""

from __future__ import annotations

import os
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from phrase_scorer.errors import UsageError
from phrase_scorer.kernels.kernels import Kernels, Product
from phrase_scorer.runtime.device import Arithmetic, Precision

# What oneDNN leaves of a processor whose user names a limit; any other name leaves everything.
_LEFT_BY_LIMIT: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("SSE41", "AVX", "AVX2", "AVX512_CORE"), ()),
    **dict.fromkeys(("AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE_VNNI"), ("VNNI",)),
    **dict.fromkeys(("AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX10_1_512"), ("VNNI", "BF16")),
    **dict.fromkeys(("AVX10_2_512", "AVX10_2"), ("VNNI", "BF16")),
}


def instructions() -> tuple[str, ...]:
    """Which of "VNNI", "BF16", "AMX" products are made with.

    torch tells what the processor has; oneDNN, which multiplies, heeds ONEDNN_MAX_CPU_ISA, too (or
    DNNL_MAX_CPU_ISA), and torch has no way to ask it for what is left.
    """
    if not torch.backends.mkldnn.is_available():
        return ()
    has = {
        "VNNI": torch.cpu._is_vnni_supported(),
        "BF16": torch.cpu._is_avx512_bf16_supported(),
        "AMX": torch.cpu._is_amx_tile_supported(),
    }
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or ""
    left = _LEFT_BY_LIMIT.get(limit.upper(), tuple(has))
    return tuple(name for name in has if has[name] and name in left)


def int8_matrix(weight: Tensor, scale: Tensor) -> Int8Matrix:
    """The fastest form of a matrix, (in, out) int8, whose columns are multiplied with `scale`.

    oneDNN's packed form, which torch's own compiler uses for quantised models, is 1.5 to 2 times as
    fast as `torch._int_mm` and gives real numbers at once; it needs a processor that multiplies
    int8 (VNNI). Elsewhere the latter does the same.
    """
    kind = PackedInt8Matrix if "VNNI" in instructions() else Int8Matrix
    return kind(weight, scale)


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
        self._shift = 0 if "AMX" in instructions() else SIGN_BIT
        self._scale = scale.contiguous()
        self._zeros = torch.zeros(len(scale), dtype=torch.int32)
        self._weight = torch.ops.onednn.qlinear_prepack(weight.T.contiguous(), None)

    @override
    def product(self, rows: Tensor, step: float) -> Tensor:
        return self._multiply(torch.ops.onednn.qlinear_pointwise.default, rows, step)

    @override
    def add_product(self, values: Tensor, rows: Tensor, step: float) -> Tensor:
        # The sum is made where the product is: one pass over memory less.
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


LeftSide = Literal["states", "two digits", "rows"]
INT8_STEPS = 127.0
SECOND_DIGIT_STEPS = 254.0  # of the first digit's rounding error, which is at most half a step
TILE_ROWS = 64
LARGE_ENOUGH = 512  # rows of W; below it VNNI multiplies two digits no faster than float32


class Rounded(NamedTuple):
    """The left side of a product, rounded as the weights on its right want it."""

    rows: int  # of the product; `values` may have more, without a meaning
    values: Tensor  # (rows, in) float32, bfloat16 or int8; (2 rows, in) where it has two digits
    row_scale: Tensor | None = None  # (rows,) by which the product is to be multiplied


def with_whole_tiles(rows: Tensor) -> Tensor:
    """(rows, in) and rows of zeros up to a multiple of `TILE_ROWS`.

    For every number of rows oneDNN makes a kernel and keeps it: a millisecond and a megabyte each.
    """
    missing = -len(rows) % TILE_ROWS
    return torch.nn.functional.pad(rows, (0, 0, 0, missing)) if missing else rows


class MatrixWeights:
    """A matrix W, (in, out) float32, made ready to be the right side of products x W."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight.contiguous()

    def __call__(self, values: Tensor) -> Product:
        """(rows, in) float32 -> (rows, out)."""
        return self.product(self.rounded(values))

    def rounded(self, values: Tensor) -> Rounded:
        """The left side, rounded."""
        return Rounded(len(values), values)

    def product(self, left: Rounded) -> Product:
        """The product with a left side that these weights, or others like them, have rounded."""
        return Product(left.values @ self.weight)


class Bfloat16Weights(MatrixWeights):
    """Both sides have 8 significant bits; sums are float32, rounded to 8 bits on CPUs."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight)
        self.weight = self.weight.bfloat16()

    @override
    def rounded(self, values: Tensor) -> Rounded:
        whole = values if values.is_cuda else with_whole_tiles(values)
        return Rounded(len(values), whole.bfloat16())

    @override
    def product(self, left: Rounded) -> Product:
        if left.values.is_cuda:
            return Product(torch.mm(left.values, self.weight, out_dtype=torch.float32))
        return Product((left.values @ self.weight)[: left.rows])


class Int8Weights(MatrixWeights):
    """Weights have 127 steps to each side of 0, a column up to its largest.

    On the left, "states" lie from -1 to 1 and have one digit or "two digits"; "rows" are scaled,
    each to its largest value.
    """

    def __init__(self, weight: Tensor, kernels: Kernels, left: LeftSide) -> None:
        largest = weight.abs().amax(0).clamp(min=1e-30)  # (out,)
        digits = kernels.two_digits(weight / largest, INT8_STEPS, SECOND_DIGIT_STEPS)
        self._digits = digits.chunk(2)
        self._scale = largest / INT8_STEPS
        self._first = int8_matrix(self._digits[0], self._scale)
        self._kernels = kernels
        self._left = left

    @override
    def rounded(self, values: Tensor) -> Rounded:
        rows, values = len(values), with_whole_tiles(values)
        if self._left == "two digits":
            digits = self._kernels.two_digits(values, INT8_STEPS, SECOND_DIGIT_STEPS)
            return Rounded(rows, digits)
        if self._left == "states":
            return Rounded(rows, self._kernels.quantize(values, INT8_STEPS))
        largest = values.abs().amax(1).clamp(min=1e-30)  # (rows,)
        digits = self._kernels.quantize(values / largest[:, None], INT8_STEPS)
        return Rounded(rows, digits, largest[:rows])

    @override
    def product(self, left: Rounded) -> Product:
        return Product(self._product(left)[: left.rows], left.row_scale)

    def _product(self, left: Rounded) -> Tensor:
        if self._left != "two digits":
            return self._first.product(left.values, 1 / INT8_STEPS)
        first, second = left.values.chunk(2)
        values = self._first.product(first, 1 / INT8_STEPS)
        return self._first.add_product(values, second, 1 / INT8_STEPS / SECOND_DIGIT_STEPS)


class TwoDigitWeights(Int8Weights):
    """Both sides have two int8 digits: three products, whose error is near float32's."""

    def __init__(self, weight: Tensor, kernels: Kernels) -> None:
        super().__init__(weight, kernels, "two digits")
        self._second = int8_matrix(self._digits[1], self._scale / SECOND_DIGIT_STEPS)

    @override
    def _product(self, left: Rounded) -> Tensor:
        # Second digits times second digits are left out.
        first, _ = left.values.chunk(2)
        return self._second.add_product(super()._product(left), first, 1 / INT8_STEPS)


def computed_with(arithmetic: Arithmetic, kernels: Kernels) -> dict[str, str]:
    """What decides the last digits of scores, besides a model and pairs.

    Where all of it is equal, scores are, too; so a signature and a journal say it. The number of
    threads is not among it: it decides who computes a block, not how.
    """
    count = len(arithmetic.device.split(","))
    devices = [arithmetic.torch_device(process) for process in range(count)]
    return {
        "device": ", ".join(sorted(set(map(_device_name, devices)))),
        "processor": _capability(arithmetic.precision) if devices[0].type == "cpu" else "any",
        "precision": arithmetic.precision,
        "kind of kernels": "compiled" if kernels.are_compiled else "torch",
        "torch version": torch.__version__,
    }


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _capability(precision: Precision) -> str:
    """The instructions by which torch and oneDNN choose how they multiply: "AVX512 VNNI", say.

    `PrecisionScheme` chooses by the same.
    """
    used = {"float32": (), "bfloat16": ("VNNI", "BF16", "AMX"), "int8": ("VNNI", "AMX")}[precision]
    more = (name for name in instructions() if name in used)
    return " ".join([torch.backends.cpu.get_cpu_capability(), *more])


class PrecisionScheme:
    """How each matrix of a model is rounded: by what it is multiplied with, and how often.

    "bfloat16" promises its accuracy, not its form: on CPUs a product takes int8, or float32, where
    that is faster and errs no more (docs/scoring.md has the measurements). A UsageError tells of a
    precision that there is not, or not on this device.
    """

    def __init__(self, precision: Precision, device: torch.device, kernels: Kernels) -> None:
        self.precision = Arithmetic(precision=precision).precision
        if precision == "int8" and device.type != "cpu":
            raise UsageError(f"int8 is for CPUs; on {device.type} use bfloat16")
        self.kernels = kernels
        self._on_cpu = device.type == "cpu"
        self._instructions = instructions() if self._on_cpu else ()

    def for_states(self, weight: Tensor, digits: Literal[1, 2]) -> MatrixWeights:
        """A matrix that hidden states are multiplied with, node by node."""
        if self.precision == "int8":
            return Int8Weights(weight, self.kernels, "states" if digits == 1 else "two digits")
        return self._half(weight)

    def for_summaries(self, weight: Tensor) -> MatrixWeights:
        """A matrix that is multiplied once per source.

        Multiplied so rarely, it may cost three products where a matrix of states costs one; in
        bfloat16 it may not cost more than in float32.
        """
        pays = self._has("AMX") or (self._has("VNNI") and len(weight) >= LARGE_ENOUGH)
        if self.precision == "int8" or (self.precision == "bfloat16" and pays):
            return TwoDigitWeights(weight, self.kernels)
        return MatrixWeights(weight) if self._on_cpu else self._half(weight)

    def for_units(self, weight: Tensor) -> MatrixWeights:
        """The output matrix's left factor, whose product is the features."""
        return self._half(weight) if self._has("AMX") else MatrixWeights(weight)

    def for_features(self, weight: Tensor) -> MatrixWeights:
        """The output matrix, or some columns of it, for ln Z."""
        # AMX multiplies either as fast as the result can be written, and bfloat16's is shorter.
        faster = self.precision == "bfloat16" and self._has("VNNI") and not self._has("AMX")
        if self.precision == "int8" or faster:
            return Int8Weights(weight, self.kernels, "rows")
        return self._half(weight)

    def _has(self, name: str) -> bool:
        return name in self._instructions

    def _half(self, weight: Tensor) -> MatrixWeights:
        return Bfloat16Weights(weight) if self.precision == "bfloat16" else MatrixWeights(weight)
