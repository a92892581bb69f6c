"""The study of gradients: norms against finite differences, and what the cells are known for."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.studies.gradients import (
    ANSWERS,
    FILLERS,
    SequenceNetwork,
    copies,
    norms_by_distance,
    parts_of,
    run_study,
    sentences,
    train_network,
)
from phrase_scorer.studies.report import gradients_markdown, write_gradients
from phrase_scorer.studies.settings import StudySettings

SMALL = StudySettings(distances=(3, 6), steps=8, hidden=6, updates=5)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_norms_by_finite_differences(cell):
    network = SequenceNetwork(cell, ANSWERS + FILLERS, SMALL, 1.3).double()
    examples = copies(4)(np.random.default_rng(1), 1)
    found = norms_by_distance(network, examples)["h"]

    @torch.no_grad()
    def loss_from(time, state):
        signals = network.cell.read(network.embedding.embed(examples.words))
        for step in signals[time + 1 :]:
            state = network.cell(step, state)
        return torch.nn.functional.cross_entropy(network.logits(state), examples.answers).item()

    for time, state in enumerate(network.states(examples.words)):
        slopes = []
        for unit in range(SMALL.hidden):
            step = torch.zeros_like(state)
            step[0, unit] = 1e-6
            slopes.append((loss_from(time, state + step) - loss_from(time, state - step)) / 2e-6)
        assert found[4 - time] == pytest.approx(float(np.linalg.norm(slopes)), rel=1e-6)


def test_copies_ask_for_the_first_word():
    words, answers = copies(5)(np.random.default_rng(2), 300)
    assert words.shape == (6, 300)
    assert torch.equal(words[0], answers)
    assert set(answers.tolist()) == set(range(ANSWERS))
    assert set(words[1:].flatten().tolist()) == set(range(ANSWERS, ANSWERS + FILLERS))


def test_sentences_ask_for_the_next_word():
    lines = [[b"a", b"b", b"c"], [b"d", b"a"]] * 3
    draw, words = sentences(lines, 4, 3)
    assert words == 4  # </s>, a and one more are known, the rest is one word
    examples = draw(np.random.default_rng(1), 50)
    assert examples.words.shape == (3, 50)
    assert examples.answers.shape == (50,)
    assert int(examples.words.max()) == 3
    with pytest.raises(DataError) as error:
        sentences([[b"a", b"b"]], 4, 3)
    assert str(error.value) == "3 words of text; more than 4 are needed"


def test_the_gradient_of_a_vanilla_rnn_vanishes_or_explodes():
    examples = copies(59)(np.random.default_rng(1), 32)
    settings = StudySettings()

    def far(cell, scale):
        network = SequenceNetwork(cell, ANSWERS + FILLERS, settings, scale)
        norms = norms_by_distance(network, examples)["h"]
        return norms[-1] / norms[0]

    assert far("rnn", 0.7) < 1e-12
    assert far("rnn", 2.0) > 10
    assert far("lstm", 0.7) > 1e4 * far("rnn", 0.7)


def test_clipping_changes_what_plain_descent_learns():
    results = []
    for clip in (True, False):
        network = SequenceNetwork("rnn", ANSWERS + FILLERS, SMALL, 2.0)
        descent = torch.optim.SGD(network.parameters(), lr=0.5)
        results.append(train_network(network, copies(10), SMALL, clip=clip, optimizer=descent))
    assert results[0].losses[0] == results[1].losses[0]
    assert max(results[1].gradient_norms) > SMALL.clip_norm
    assert results[0].losses[1:] != results[1].losses[1:]


def test_a_short_distance_is_learnt():
    settings = StudySettings(hidden=24, updates=150, learning_rate=1e-2)
    network = SequenceNetwork("gru", ANSWERS + FILLERS, settings, 1.0)
    assert train_network(network, copies(2), settings).accuracy > 0.9


def test_the_whole_study_and_its_report(tmp_path):
    lines = [[b"the", b"red", b"house"], [b"a", b"man", b"and", b"a", b"dog"]] * 5
    stages = list(run_study(SMALL, lines))
    assert len(stages) == parts_of(SMALL, with_text=True)
    paths = write_gradients(stages[-1], tmp_path)
    assert [path.name for path in paths] == ["gradients.json", "gradients.png", "gradients.svg"]
    content = json.loads(paths[0].read_text())
    assert set(content["copies, at the start, by scale"]) == {"0.7", "1", "2"}
    assert len(content["copies, at the start, by scale"]["2"]["lstm"]["C"]) == SMALL.steps
    assert set(content["accuracy of copying, by distance"]["gru"]) == {"3", "6"}
    assert len(content["clipping"]["clipped"]["losses"]) == SMALL.updates
    assert paths[1].read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in paths[2].read_bytes()
    table = gradients_markdown(stages[-1])
    assert "| sentences, trained | 7 |" in table
    assert "| cell | n = 3 | n = 6 |" in table
    again = list(run_study(SMALL, lines))[-1]
    assert again.copying == stages[-1].copying
    assert again.start == stages[-1].start


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cells": ("elman",)}, "unknown cell 'elman'; choose from rnn, lstm, gru"),
        ({"cells": ()}, "no cells"),
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"distances": (5, 0)}, "distances must be at least 1, not 0"),
        ({"scales": (1.0, -2.0)}, "scales must be a finite number above 0, not -2.0"),
        ({"scales": (float("nan"),)}, "scales must be a finite number above 0, not nan"),
        ({"distances": (5, 10**18)}, "distances must be at most 10,000, not 1,000,000,000,000,000,"
         "000"),
        ({"steps": 10**9}, "steps must be at most 10,000, not 1,000,000,000"),
        ({"hidden": 10**6}, "hidden must be at most 16,384, not 1,000,000"),
        ({"learning_rate": 0.0}, "learning_rate must be a finite number above 0, not 0.0"),
        ({"clip_norm": float("inf")}, "clip_norm must be a finite number above 0, not inf"),
        ({"forget_bias": float("nan")}, "forget_bias must be a number, not nan"),
    ],
)  # fmt: skip
def test_wrong_settings(wrong, message):
    with pytest.raises(UsageError) as error:
        StudySettings(**wrong)
    assert str(error.value) == message
