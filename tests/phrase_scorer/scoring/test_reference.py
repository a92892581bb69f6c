"""reference.py against scalar arithmetic, and as a distribution: all probabilities sum to one."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from toys import parameters_of, tiny_model

from phrase_scorer.scoring import reference

VARIANTS = ("paper", "groundhog")


def s(x):
    return 1 / (1 + math.exp(-x))


def one_unit_model():
    """Every width is 1 (two maxout pieces), 3 words a side: all can be worked out in scalars."""
    numbers = iter(np.random.default_rng(8).normal(0, 1, 60).round(3))
    shapes = {
        "source_embedding.weight": (3, 1),
        "source_embedding.bias": (1,),
        "encoder.input": (1, 3),
        "encoder.candidate_bias": (1,),
        "encoder.recurrent": (1, 3),
        "summary.weight": (1, 1),
        "initial_state.weight": (1, 1),
        "initial_state.bias": (1,),
        "target_embedding.weight": (3, 1),
        "target_embedding.bias": (1,),
        "decoder.input": (1, 3),
        "decoder.candidate_bias": (1,),
        "decoder.recurrent": (1, 3),
        "decoder.context": (1, 3),
        "readout.state": (1, 2),
        "readout.previous": (1, 2),
        "readout.context": (1, 2),
        "readout.bias": (2,),
        "output.left": (1, 1),
        "output.right": (1, 3),
        "output.bias": (3,),
    }
    return {
        name: np.array([next(numbers) for _ in range(math.prod(shape))]).reshape(shape)
        for name, shape in shapes.items()
    }


def symbol_log_prob(p, state, previous, c, word):
    f = {name: value.ravel().tolist() for name, value in p.items()}
    pieces = [
        state * f["readout.state"][i]
        + previous * f["readout.previous"][i]
        + c * f["readout.context"][i]
        + f["readout.bias"][i]
        for i in (0, 1)
    ]
    feature = max(pieces) * f["output.left"][0]
    logits = [feature * g + b for g, b in zip(f["output.right"], f["output.bias"], strict=True)]
    return logits[word] - math.log(sum(map(math.exp, logits)))


def by_hand(p, source, target, variant):
    """The paper's appendix, or GroundHog's encdec.py, for a model whose widths are all 1."""
    f = {name: value.ravel().tolist() for name, value in p.items()}
    (w, wz, wr), (u, uz, ur) = f["encoder.input"], f["encoder.recurrent"]
    h = 0.0
    for word in source:
        e = f["source_embedding.weight"][word] + f["source_embedding.bias"][0]
        z, r = s(wz * e + uz * h), s(wr * e + ur * h)
        new = math.tanh(w * e + f["encoder.candidate_bias"][0] + u * (r * h))
        h = z * h + (1 - z) * new if variant == "paper" else (1 - z) * h + z * new
    c = math.tanh(f["summary.weight"][0] * h) if variant == "paper" else h
    (w, wz, wr), (u, uz, ur) = f["decoder.input"], f["decoder.recurrent"]
    k, kz, kr = (value * c for value in f["decoder.context"])
    bias = f["decoder.candidate_bias"][0]
    h = math.tanh(f["initial_state.weight"][0] * c + f["initial_state.bias"][0])
    e, found = 0.0, []
    for word in target:
        if variant == "paper":
            z, r = s(wz * e + uz * h + kz), s(wr * e + ur * h + kr)
            h = z * h + (1 - z) * math.tanh(w * e + bias + r * (u * h + k))
            found.append(symbol_log_prob(p, h, e, c, word))
            e = f["target_embedding.weight"][word] + f["target_embedding.bias"][0]
        else:
            found.append(symbol_log_prob(p, h, e, c, word))
            e = f["target_embedding.weight"][word] + f["target_embedding.bias"][0]
            z, r = s(wz * e + uz * h + kz), s(wr * e + ur * h + kr)
            h = (1 - z) * h + z * math.tanh(w * e + bias + k + u * (r * h))
    return found


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("source", "target"), [([2, 1, 0], [1, 2, 0]), ([0], [0]), ([1, 1, 2, 2, 0], [2, 2, 1, 0])]
)
def test_one_unit_in_scalars(variant, source, target):
    p = one_unit_model()
    expected = by_hand(p, source, target, variant)
    found = reference.target_log_probs(p, source, target, variant)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)
    total = reference.log_prob(p, source, target, variant)
    assert total == pytest.approx(sum(expected), abs=1e-12)
    other = by_hand(p, source, target, VARIANTS[variant == "paper"])
    assert abs(sum(other) - total) > 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
def test_probabilities_sum_to_one(variant):
    """Over words {0 = end, 1, 2}: finished phrases of up to 4 words, and all longer ones."""
    p = parameters_of(tiny_model(variant, target_words=3))
    source, longest = [3, 2, 0], 4
    finished = sum(
        math.exp(reference.log_prob(p, source, [*words, 0], variant))
        for length in range(longest + 1)
        for words in itertools.product([1, 2], repeat=length)
    )
    unfinished = sum(
        math.exp(reference.target_log_probs(p, source, words, variant).sum())
        for words in itertools.product([1, 2], repeat=longest + 1)
    )
    assert 0.1 < finished < 0.9999
    assert finished + unfinished == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("source", "target", "variant", "message"),
    [
        ([1, 0], [0], "v1", "unknown variant 'v1': neither 'paper' nor 'groundhog'"),
        ([], [0], "paper", "no source ids: even an empty phrase has its end symbol"),
        ([0], [], "paper", "no target ids: even an empty phrase has its end symbol"),
        ([1, 12, 0], [0], "paper", "source ids [12] are outside the vocabulary of 12"),
        ([0], [9, -1, 0], "groundhog", "target ids [9, -1] are outside the vocabulary of 9"),
    ],
)
def test_wrong_arguments(source, target, variant, message):
    p = parameters_of(tiny_model("paper"))
    with pytest.raises(ValueError) as caught:
        reference.log_prob(p, source, target, variant)
    assert str(caught.value) == message


def test_extreme_values_neither_overflow_nor_vanish():
    assert reference.sigmoid(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]
    assert reference.log_softmax(np.array([1e4, -1e4, 1e4])).tolist() == [
        -math.log(2),
        -2e4 - math.log(2),
        -math.log(2),
    ]


def test_float32_parameters_are_computed_in_float64():
    model = tiny_model()
    single = {name: value.numpy() for name, value in model.named_parameters()}
    assert single["output.bias"].dtype == np.float32
    found = reference.target_log_probs(single, [2, 0], [3, 0], "paper")
    assert found.dtype == np.float64
    expected = reference.target_log_probs(parameters_of(model), [2, 0], [3, 0], "paper")
    np.testing.assert_array_equal(found, expected)
