"""Products in reduced precision against float64, and packed int8 matrices against plain ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import phrase_pairs, tiny_model

from phrase_scorer.errors import UsageError
from phrase_scorer.kernels.kernels import Kernels
from phrase_scorer.runtime.device import Arithmetic
from phrase_scorer.scoring.precision import (
    Bfloat16Weights,
    Int8Matrix,
    Int8Weights,
    MatrixWeights,
    PackedInt8Matrix,
    PrecisionScheme,
    TwoDigitWeights,
    computed_with,
    instructions,
    int8_matrix,
)
from phrase_scorer.scoring.recurrent_engine import RecurrentEngine

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


@pytest.fixture
def processor(monkeypatch):
    """Makes torch tell of a processor with just these instructions."""
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)

    def has(*names: str) -> None:
        for ask, name in (("vnni", "VNNI"), ("avx512_bf16", "BF16"), ("amx_tile", "AMX")):
            monkeypatch.setattr(torch.cpu, f"_is_{ask}_supported", lambda n=name: n in names)

    return has


@pytest.mark.parametrize(
    ("variable", "limit", "left"),
    [
        ("ONEDNN_MAX_CPU_ISA", "", ("VNNI", "BF16", "AMX")),
        ("ONEDNN_MAX_CPU_ISA", "ALL", ("VNNI", "BF16", "AMX")),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_AMX", ("VNNI", "BF16", "AMX")),
        ("ONEDNN_MAX_CPU_ISA", "no name of oneDNN's", ("VNNI", "BF16", "AMX")),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16", ("VNNI", "BF16")),
        ("DNNL_MAX_CPU_ISA", "avx512_core_bf16", ("VNNI", "BF16")),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_VNNI", ("VNNI",)),
        ("ONEDNN_MAX_CPU_ISA", "AVX2", ()),
    ],
)
def test_a_users_limit_is_heeded(processor, monkeypatch, variable, limit, left):
    processor("VNNI", "BF16", "AMX")
    monkeypatch.setenv(variable, limit)
    assert instructions() == left
    processor("VNNI")
    assert instructions() == tuple(name for name in left if name == "VNNI")


def test_without_onednn_there_are_none(processor, monkeypatch):
    processor("VNNI", "BF16", "AMX")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert instructions() == ()


FORMS = {  # of what is multiplied with summaries, many or few; with units; with features
    ("float32", "VNNI", "BF16", "AMX"): "float32 float32 float32 float32",
    ("bfloat16",): "float32 float32 float32 bfloat16",
    ("bfloat16", "VNNI"): "twodigit float32 float32 int8",
    ("bfloat16", "VNNI", "BF16"): "twodigit float32 float32 int8",
    ("bfloat16", "VNNI", "BF16", "AMX"): "twodigit twodigit bfloat16 bfloat16",
    ("int8", "VNNI", "BF16", "AMX"): "twodigit twodigit float32 int8",
}


@pytest.mark.parametrize("given", FORMS, ids=" ".join)
def test_what_pays_is_chosen_and_noted(given, processor, monkeypatch):
    """Two processors that round otherwise never note the same."""
    precision, *names = given
    processor(*names)
    kinds = PackedInt8Matrix, Int8Matrix
    monkeypatch.setattr(kinds[0], "__init__", kinds[1].__init__)  # packed only where it can be
    scheme = PrecisionScheme(precision, torch.device("cpu"), KERNELS)
    large, small = torch.zeros(512, 8), torch.zeros(511, 8)
    made = [scheme.for_summaries(large), scheme.for_summaries(small), scheme.for_units(large)]
    names_of = {
        MatrixWeights: "float32", Bfloat16Weights: "bfloat16", Int8Weights: "int8",
        TwoDigitWeights: "twodigit",
    }  # fmt: skip
    made.append(scheme.for_features(large))
    assert [names_of[type(weights)] for weights in made] == FORMS[given].split()
    assert names_of[type(scheme.for_states(large, 1))] == precision
    noted = computed_with(Arithmetic("cpu", precision), KERNELS)["processor"].split()
    left_out = {"float32": ["VNNI", "BF16", "AMX"], "int8": ["BF16"], "bfloat16": []}[precision]
    assert noted[1:] == [name for name in names if name not in left_out]


@pytest.mark.parametrize("names", [(), ("VNNI",), ("VNNI", "BF16")], ids=" ".join)
def test_bfloat16_is_near_on_every_processor(names, processor):
    if not set(names) <= set(instructions()):
        pytest.skip("this processor cannot")
    model = tiny_model(hidden=40, maxout=30, output_rank=20, deviation=0.2)
    draw = np.random.default_rng(1)
    pairs = phrase_pairs([(draw.integers(1, 9, 4), draw.integers(1, 9, 4)) for _ in range(200)])
    truth = RecurrentEngine(model).score(pairs)
    processor(*names)
    error = (RecurrentEngine(model, "bfloat16").score(pairs) - truth).abs()
    assert 0 < error.mean() < 0.05


def test_int8_is_for_cpus():
    with pytest.raises(UsageError) as error:
        PrecisionScheme("int8", torch.device("cuda"), KERNELS)
    assert str(error.value) == "int8 is for CPUs; on cuda use bfloat16"
