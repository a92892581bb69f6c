"""training_log.jsonl: a line every so many updates and at each validation, with their unit."""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pytest
import torch
from toys import phrase_pairs

from phrase_scorer.models import ModelConfig
from phrase_scorer.runtime.console import progress_bar
from phrase_scorer.text.batches import pair_batch
from phrase_scorer.text.vocabulary import Vocabulary
from phrase_scorer.training import log as training_log
from phrase_scorer.training.log import Progress, TrainingLog
from phrase_scorer.training.settings import TrainingSettings
from phrase_scorer.training.trainer import train

VOCABULARY = Vocabulary([b"a", b"b", b"c"])
CONFIG = ModelConfig(5, 5, hidden=4, embedding=3, maxout=2, output_rank=0)
SETTINGS = TrainingSettings(
    batch_pairs=4,
    optimizer="adamw",
    learning_rate=0.5,
    warmup=9,
    max_updates=7,
    validate_every=4,
    validation_pairs=5,
)


@pytest.fixture
def log(monkeypatch, tmp_path):
    """A function that trains and returns the lines of the log."""
    monkeypatch.setattr(training_log, "LOG_EVERY", 3)
    draw = np.random.default_rng(1).integers(2, 5, (40, 4)).tolist()
    pairs = phrase_pairs([(row[:2], row[2:]) for row in draw]).unique()

    def lines(settings, **options):
        train(pairs, (VOCABULARY,) * 2, CONFIG, settings, tmp_path, show_progress=False, **options)
        return list(map(json.loads, (tmp_path / "training_log.jsonl").read_text().splitlines()))

    return lines


def test_lines(log):
    lines = log(SETTINGS)
    kinds = [(line["update"], "validation_loss" in line) for line in lines]
    assert kinds == [(3, False), (4, True), (6, False), (7, True)]
    assert lines[0].keys() == {
        "update", "seconds", "train_loss", "gradient_norm", "learning_rate",
    }  # fmt: skip
    assert [line["learning_rate"] for line in lines if "learning_rate" in line] == [0.15, 0.3]
    assert 1 < lines[0]["train_loss"] < 2  # ln 5 = 1.61 nats a symbol
    assert lines[1].keys() == {"update", "seconds", "validation_loss"}


def test_a_loss_is_the_mean_since_the_line_before(monkeypatch):
    monkeypatch.setattr(training_log, "LOG_EVERY", 2)
    text, progress = io.StringIO(), Progress()
    batch = pair_batch(phrase_pairs([([2], [3])]), np.array([0]))
    with progress_bar("", show=False) as bar:
        log = TrainingLog(text, bar, SETTINGS)
        for progress.update, loss in enumerate([1.0, 2.0, 5.0, 6.0, 9.0], 1):
            log.note(progress, torch.tensor(loss), torch.tensor(0.5), batch)
    lines = list(map(json.loads, text.getvalue().splitlines()))
    assert [(line["update"], line["train_loss"]) for line in lines] == [(2, 1.5), (4, 5.5)]
    assert lines[0]["gradient_norm"] == 0.5


def test_without_validation_pairs_there_is_no_validation_loss(log):
    lines = log(dataclasses.replace(SETTINGS, validation_pairs=0))
    assert [line["update"] for line in lines] == [3, 6]
    assert not any("validation_loss" in line for line in lines)


def test_a_resumed_training_appends(log):
    first = log(SETTINGS)
    both = log(dataclasses.replace(SETTINGS, max_updates=9), resume=True)
    assert both[: len(first)] == first
    assert [line["update"] for line in both[len(first) :]] == [8, 9, 9]


def test_silent_where_no_progress_is_wanted(log, capfd):
    log(SETTINGS)
    assert capfd.readouterr() == ("", "")
