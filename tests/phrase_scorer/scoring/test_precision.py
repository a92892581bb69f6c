"""Products in reduced precision against float64, and packed int8 matrices against plain ones."""

from __future__ import annotations

import pytest
import torch

from phrase_scorer.errors import UsageError
from phrase_scorer.kernels.kernels import Kernels
from phrase_scorer.scoring.precision import (
    Bfloat16Weights,
    Int8Matrix,
    Int8Weights,
    MatrixWeights,
    PackedInt8Matrix,
    PrecisionScheme,
    TwoDigitWeights,
    int8_matrix,
)

KERNELS = Kernels()


@pytest.fixture
def states():
    return torch.tanh(torch.randn(40, 200, generator=torch.Generator().manual_seed(1)))


@pytest.fixture
def weight():
    return torch.randn(200, 30, generator=torch.Generator().manual_seed(2)) / 10


def error_of(weights: MatrixWeights, values: torch.Tensor, weight: torch.Tensor) -> float:
    """Largest error of a product whose values have a deviation of about 1."""
    return float((weights(values).real() - values.double() @ weight.double()).abs().max())


@pytest.mark.parametrize(
    ("make", "least", "most"),
    [
        (MatrixWeights, 0, 1e-5),
        (Bfloat16Weights, 1e-3, 0.05),
        (lambda w: Int8Weights(w, KERNELS, "states"), 1e-3, 0.1),
        (lambda w: Int8Weights(w, KERNELS, "two digits"), 1e-3, 0.05),
        (lambda w: TwoDigitWeights(w, KERNELS), 0, 2e-4),
    ],
)
def test_errors_of_products(make, least, most, states, weight):
    assert least <= error_of(make(weight), states, weight) <= most


def test_rows_are_scaled_each_to_its_largest(states, weight):
    rows = states * torch.logspace(-3, 3, 40)[:, None]
    found = Int8Weights(weight, KERNELS, "rows")(rows).real()
    truth = rows.double() @ weight.double()
    scale = rows.abs().amax(1, keepdim=True)
    assert ((found - truth) / scale).abs().max() < 0.1


def test_zero_rows_and_columns_give_zero():
    product = Int8Weights(torch.zeros(8, 8), KERNELS, "rows")(torch.zeros(20, 8)).real()
    assert torch.equal(product, torch.zeros(20, 8))


@pytest.mark.parametrize(("rows", "inside", "columns"), [(17, 24, 8), (512, 100, 1000), (18, 8, 3)])
def test_packed_int8_matrices_are_exact(rows, inside, columns):
    if not isinstance(
        int8_matrix(torch.zeros(8, 8, dtype=torch.int8), torch.ones(8)), PackedInt8Matrix
    ):
        pytest.skip("this processor has no VNNI")
    draw = torch.Generator().manual_seed(3)
    left = torch.randint(-127, 128, (rows, inside), generator=draw, dtype=torch.int8)
    right = torch.randint(-127, 128, (inside, columns), generator=draw, dtype=torch.int8)
    scale = torch.rand(columns, generator=draw)
    truth = (left.double() @ right.double()) * scale / 127
    for kind in (Int8Matrix, PackedInt8Matrix):
        matrix = kind(right, scale)
        found = matrix.product(left, 1 / 127)
        torch.testing.assert_close(found, truth.float(), rtol=1e-6, atol=1e-4)
        added = matrix.add_product(found.clone(), left, 2 / 127)
        torch.testing.assert_close(added, 3 * truth.float(), rtol=1e-6, atol=3e-4)


def test_without_vnni_torch_multiplies(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    assert type(int8_matrix(torch.zeros(8, 8, dtype=torch.int8), torch.ones(8))) is Int8Matrix


def test_int8_is_for_cpus():
    with pytest.raises(UsageError) as error:
        PrecisionScheme("int8", torch.device("cuda"), KERNELS)
    assert str(error.value) == "int8 is for CPUs; on cuda use bfloat16"
