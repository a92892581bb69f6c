"""What training and tuning left behind."""

from __future__ import annotations

import json

import pytest

from moses_integration.formats.moses_ini import MosesIni
from moses_integration.report.history import (
    MOST_POINTS,
    MOST_SPANS,
    Weight,
    columns_in,
    read_rescoring,
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


FACTS = {
    "version": "1", "output": "out/t.gz", "processes": 2, "device": "cpu",
    "precision": "float32", "kernels": "compiled",
}  # fmt: skip


def rescore_log(path, *runs):
    """A log of runs: of each, the name of its output and (seconds, entries)."""
    lines = []
    for output, points in runs:
        lines += [FACTS | {"output": output}]
        lines += [{"seconds": seconds, "entries": entries} for seconds, entries in points]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_the_last_run_that_wrote_the_table(tmp_path):
    runs = [("t.gz", [(0, 0), (9, 9)]), ("out/t.gz", [(0.5, 100), (2.5, 300), (4.5, 900)])]
    log = rescore_log(tmp_path / "log", *runs, ("other.gz", []))
    found = read_rescoring(log, "elsewhere/t.gz")
    assert found.run.facts.output == "out/t.gz"
    assert found.run.entries_per_second == 200  # of this run alone
    assert [(s.entries, s.per_second) for s in found.speeds] == [(300, 100), (900, 300)]
    assert found.speeds[-1].minutes == 0.075
    with pytest.raises(DataError) as caught:
        read_rescoring(log, "new.gz")
    assert str(caught.value) == f"{log}: no run that wrote new.gz (but t.gz, other.gz)"


def test_a_long_run_is_shown_in_spans(tmp_path):
    points = [(second, second * 7) for second in range(5000)]
    found = read_rescoring(rescore_log(tmp_path / "log", ("t", points)), "t")
    assert len(found.speeds) <= MOST_SPANS + 1
    assert {speed.per_second for speed in found.speeds} == {7}
    assert found.speeds[-1].entries == 4999 * 7


def test_a_run_that_was_killed_before_its_first_line(tmp_path):
    found = read_rescoring(rescore_log(tmp_path / "log", ("t", [])), "t")
    assert (found.run.entries_per_second, found.speeds) == (None, ())
