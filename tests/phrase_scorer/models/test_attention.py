"""Attention against its equations in float64, a pair at a time, with no code of the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import parameters_of, phrase_pairs, tiny_model

from phrase_scorer.scoring.reference import log_softmax, sigmoid
from phrase_scorer.text.batches import pair_batch
from phrase_scorer.text.vocabulary import END

PAIRS = [([2, 3, 4], [5, 6]), ([11], [8]), ([7, 7, 2, 5, 3, 1, 10], [2]), ([4, 1], []), ([], [3])]


def gru(p, name, x, h, context=0.0):
    """h' with z taking the new state (Bahdanau et al. 2015, appendix A.1.1)."""
    n = len(h)
    s = x @ p[f"{name}.input"] + context
    u = p[f"{name}.recurrent"]
    z = sigmoid(s[n : 2 * n] + h @ u[:, n : 2 * n])
    r = sigmoid(s[2 * n :] + h @ u[:, 2 * n :])
    new = np.tanh(s[:n] + p[f"{name}.candidate_bias"] + (r * h) @ u[:, :n])
    return (1 - z) * h + z * new


def by_equations(p, source, target):
    """(ln p of each symbol, α): section 3 of the paper, a loop for each sum."""
    embeddings = [p["source_embedding.weight"][i] + p["source_embedding.bias"] for i in source]
    width = p["forwards.recurrent"].shape[0]
    ahead, back = [np.zeros(width)], [np.zeros(width)]
    for e in embeddings:
        ahead.append(gru(p, "forwards", e, ahead[-1]))
    for e in reversed(embeddings):
        back.append(gru(p, "backwards", e, back[-1]))
    annotations = [np.concatenate(pair) for pair in zip(ahead[1:], back[:0:-1], strict=True)]
    s = np.tanh(back[-1] @ p["initial_state.weight"] + p["initial_state.bias"])
    e, log_probs, alignment = np.zeros(p["target_embedding.weight"].shape[1]), [], []
    for word in target:
        energies = [
            p["attention.score"]
            @ np.tanh(s @ p["attention.query.weight"] + h @ p["attention.key.weight"])
            for h in annotations
        ]
        alpha = np.exp(energies) / np.exp(energies).sum()
        c = sum(a * h for a, h in zip(alpha, annotations, strict=True))
        s = gru(p, "decoder", e, s, c @ p["decoder.context"])
        t = s @ p["readout.state"] + e @ p["readout.previous"] + c @ p["readout.context"]
        t += p["readout.bias"]
        units = np.maximum(t[0::2], t[1::2]) @ p["output.left"]
        log_probs.append(log_softmax(units @ p["output.right"] + p["output.bias"])[word])
        alignment.append(alpha)
        e = p["target_embedding.weight"][word] + p["target_embedding.bias"]
    return np.array(log_probs), np.array(alignment)


@pytest.mark.parametrize("deviation", [0.5, 2.0])
def test_is_its_equations(deviation):
    model = tiny_model(architecture="attention", deviation=deviation, dtype=torch.float64)
    batch = pair_batch(phrase_pairs(PAIRS), np.arange(len(PAIRS)))
    found, alignments = model.log_probs(batch), model.alignment(batch)
    assert alignments.shape == (5, 3, 8)
    for line, soft, (source, target) in zip(found, alignments, PAIRS, strict=True):
        source, target = [*source, END], [*target, END]
        log_probs, alignment = by_equations(parameters_of(model), source, target)
        np.testing.assert_allclose(line[: len(target)], log_probs, rtol=0, atol=1e-12)
        inside = soft[: len(target), : len(source)]
        np.testing.assert_allclose(inside, alignment, rtol=0, atol=1e-12)
        assert not soft[len(target) :].any()
        assert not soft[:, len(source) :].any()


def test_an_lstm_attends_with_its_hidden_state():
    """The memory cell is not seen: what the attention gets has the width of h."""
    model = tiny_model(architecture="attention", cell="lstm")
    batch = pair_batch(phrase_pairs(PAIRS), np.arange(len(PAIRS)))
    annotations, keys, unfinished, start = model.read(batch.source)
    assert annotations.shape == (5, 8, 10)
    assert keys.shape == (5, 8, 5)
    assert unfinished.sum(1).tolist() == [4, 2, 8, 3, 1]
    assert start.shape == (5, 10)
