"""What training and tuning left behind."""

from __future__ import annotations

import json

import pytest

from moses_integration.formats.moses_ini import MosesIni
from moses_integration.report.history import (
    MOST_POINTS,
    Weight,
    columns_in,
    read_training,
    read_tuning,
)
from phrase_scorer.errors import DataError

COLUMNS = {("TM0", 4): "p(target | source)"}


def test_the_training_log(table):
    first, last = read_training(table.parent / "rnn")
    assert (first.update, first.minutes, first.train_loss) == (50, 0.5, 3.5)
    assert (first.learning_rate, first.gradient_norm, first.validation_loss) == (0.01, 1.5, None)
    assert (last.minutes, last.validation_loss, last.train_loss) == (1, 2.5, None)


def test_a_model_without_a_log(tmp_path):
    assert read_training(tmp_path) == ()


def test_a_long_log_is_thinned_but_keeps_validations_and_its_end(tmp_path):
    lines = [{"update": n, "seconds": n, "train_loss": 1.0} for n in range(5000)]
    lines[1234] = {"update": 1234, "seconds": 1, "validation_loss": 0.5}
    (tmp_path / "training_log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    kept = read_training(tmp_path)
    assert len(kept) <= MOST_POINTS + 2
    assert {0, 1234, 4999} <= {point.update for point in kept}


def test_iterations_and_runs(table):
    found = read_tuning(table.parent / "tuned", COLUMNS)
    (run,) = found.runs
    assert (run.run, run.seed, run.dev_bleu) == (1, 7, 51.5)
    assert [(i.run, i.iteration, i.bleu) for i in found.iterations] == [
        (1, 1, pytest.approx(51.1)),
        (1, 2, pytest.approx(51.2)),
        (2, 1, pytest.approx(52.1)),
        (2, 2, pytest.approx(52.2)),
    ]
    weights = found.iterations[1].weights
    assert weights[0] == Weight("WordPenalty0", -0.5, None)
    assert weights[-1] == Weight("TM0 5", 0.02, "p(target | source)")


def test_no_folder_of_tune(tmp_path):
    with pytest.raises(DataError, match="not a folder of tune: it has no run1"):
        read_tuning(tmp_path, {})


def test_the_new_columns_weights_are_found_by_the_number_of_scores(table):
    ini = MosesIni.read(table.parent / "tuned" / "moses.ini")
    assert columns_in(ini, "table", 5, {4: "p(target | source)"}) == COLUMNS
    with pytest.raises(DataError, match="names no phrase table with 6 scores, as table has"):
        columns_in(ini, "table", 6, {})
