"""The comparison of systems: sizes, ranking quality by hand, a whole small run, and its resume."""

from __future__ import annotations

import json
import signal

import click
import numpy as np
import pytest
import torch
from toys import phrase_pairs

from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.models import build
from phrase_scorer.models.files import Progress
from phrase_scorer.runtime.console import run
from phrase_scorer.scoring.accuracy import ranking_quality
from phrase_scorer.studies.report import systems_markdown, write_systems
from phrase_scorer.studies.settings import SYSTEMS, SystemsSettings
from phrase_scorer.studies.systems import (
    best_ranking,
    folder_name,
    run_systems,
    sized_config,
)
from phrase_scorer.text.phrase_pairs import PairBlock
from phrase_scorer.training.data import PairsOfFile, TrainingData, collect_training_data
from phrase_scorer.training.job import TrainingResult


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("parameters", [1_000_000, 20_000_000])
def test_sizes_are_near_what_was_asked_for(name, parameters):
    config = sized_config(SYSTEMS[name], (5_000, 4_000), parameters)
    with torch.device("meta"):
        found = sum(p.numel() for p in build(config).parameters())
    assert abs(found - parameters) / parameters < 0.08


def test_too_few_parameters():
    with pytest.raises(UsageError) as error:
        sized_config(SYSTEMS["LSTM"], (15_000, 15_000), 1000)
    assert str(error.value).startswith(
        "--parameters 1,000: the nearest encoder_decoder has 196,472; with shortlists of 15,000"
    )


def test_ranking_quality_by_hand():
    pairs = phrase_pairs(
        [([1], [1]), ([2], [1]), ([1], [2]), ([3], [4]), ([2], [2]), ([2], [3])],
        weights=[5, 1, 3, 9, 4, 4],
    )
    #         source 1: 5, 3   source 2: 1, 4, 4   source 3 has one target and does not count
    scores = [-1.0, -1.0, -2.0, -9.0, -3.0, -4.0]
    found = ranking_quality(pairs, scores)
    assert found.first == pytest.approx((5 + 1) / 17)
    assert found.reciprocal == pytest.approx((5 + 3 / 2 + 1 + 4 / 2 + 4 / 3) / 17)
    assert ranking_quality(pairs, pairs.weights).first == pytest.approx(9 / 17)
    tied = ranking_quality(pairs, [0.0] * 6)  # as in random order, on average
    assert tied.first == pytest.approx((4 + 3) / 17)
    assert tied.reciprocal == pytest.approx((4 * 1.5 + 3 * (1 + 1 / 2 + 1 / 3)) / 17)


def test_nothing_to_rank():
    every = [([1], [1]), ([1], [2]), ([2], [1])]
    assert ranking_quality(phrase_pairs(every), [0.0, 1.0, 2.0]) is None
    assert ranking_quality(phrase_pairs(every, weights=[2, 2, 5]), [0.0, 1.0, 2.0]) is None


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(1)
    blocks = []
    for source in range(60):
        words = [b"s%d" % i for i in random.integers(0, 12, random.integers(1, 4))]
        for _ in range(3):
            target = [b"t%d" % i for i in random.integers(0, 12, random.integers(1, 4))]
            count = float(random.integers(1, 6))
            blocks.append(PairBlock([[*words, b"x%d" % source]], [target], [count]))
    return collect_training_data([PairsOfFile("table", blocks)], shortlist=40)


SETTINGS = SystemsSettings(parameters=20_000, minutes=0.002, validation_pairs=40, threads=1)


@pytest.mark.slow
def test_a_run_its_report_and_its_resume(data, tmp_path):
    said: list[str] = []
    names = ["GRU (the paper's)", "masked (pseudo)"]
    results = run_systems(data, names, SETTINGS, tmp_path, said.append, show_progress=False)
    assert [r.name for r in results] == names
    for result in results:
        assert result.updates >= 1
        assert result.minutes == pytest.approx(SETTINGS.minutes, abs=0.02)
        assert 0 <= result.ranked_first <= 1
        assert 0 < result.reciprocal_rank <= 1
        assert result.entries_per_second > 0
        assert result.peak_megabytes > 50
        assert result.curve[-1][1] >= round(result.nats, 5) > 0
        assert (tmp_path / folder_name(result.name) / "model.safetensors").exists()
    best = best_ranking(data, SETTINGS)
    assert all(r.ranked_first <= best.first + 1e-9 for r in results)
    paths = write_systems(results, SETTINGS, best, "phrase-scorer experiment systems", tmp_path)
    assert [p.name for p in paths] == ["systems.md", "systems.json", "systems.svg", "systems.png"]
    assert systems_markdown(results, best).count("\n") == 2 + len(names)
    assert len(json.loads(paths[1].read_text())["systems"]) == 2
    again = run_systems(data, names, SETTINGS, tmp_path, said.append, show_progress=False)
    saved = [tmp_path / folder_name(name) / "result.json" for name in names]
    assert [r.nats for r in again] == [json.loads(p.read_text())["result"]["nats"] for p in saved]
    assert [r.name for r in again] == names
    assert said[2:] == [f"{name}: done before" for name in names]


@pytest.mark.slow
def test_another_table_is_not_taken_for_the_first(data, tmp_path):
    said: list[str] = []
    run_systems(data, ["LSTM"], SETTINGS, tmp_path, said.append, show_progress=False)
    other = TrainingData(data.pairs.take(np.arange(len(data.pairs) - 1)), data.vocabularies)
    run_systems(other, ["LSTM"], SETTINGS, tmp_path, said.append, show_progress=False)
    assert said == ["LSTM: training for 0.002 minutes"] * 2


def test_a_plan_of_an_earlier_version_is_gone_on_with(data, tmp_path):
    """It may hold a setting that is no more."""
    run_systems(data, ["LSTM"], SETTINGS, tmp_path, print, show_progress=False)
    plan = tmp_path / "lstm" / "plan.json"
    content = json.loads(plan.read_bytes())
    content["training"] |= {"self_normalize": 0.0, "validate_every": 7}
    plan.write_text(json.dumps(content))
    for name in ("result.json", "training_state.safetensors"):
        (tmp_path / "lstm" / name).unlink()
    run_systems(data, ["LSTM"], SETTINGS, tmp_path, print, show_progress=False)
    trained = json.loads((tmp_path / "lstm" / "config.json").read_bytes())["training"]
    assert trained["validate_every"] == 7
    assert "self_normalize" not in trained


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_ends_the_command_as_any_other(name, code, data, tmp_path, monkeypatch):
    """After the training has saved its state; nothing else is trained or measured."""
    stopped: list[str] = []

    def stop(*arguments, **options):
        stopped.append(name)
        return TrainingResult(Progress(), name)

    @click.group()
    def group() -> None:
        pass

    @group.command()
    def compare() -> None:
        run_systems(data, ["LSTM", "seq2seq"], SETTINGS, tmp_path, print)

    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGHUP)]
    monkeypatch.setattr("phrase_scorer.studies.systems.run_training", stop)
    try:
        try:
            ended = run(group, ["compare"])
        except SystemExit as error:
            ended = error.code
    finally:
        for number, handler in handlers:
            signal.signal(number, handler)
    assert (ended, stopped) == (code, [name])


def test_one_source_cannot_be_held_out(tmp_path):
    blocks = [PairBlock([[b"a"], [b"a"]], [[b"b"], [b"c"]], [1.0, 2.0])]
    data = collect_training_data([PairsOfFile("table", blocks)], shortlist=9)
    with pytest.raises(DataError) as error:
        run_systems(data, ["LSTM"], SETTINGS, tmp_path, print)
    assert str(error.value) == "one source phrase cannot be trained on and held out"


def test_what_there_is_not(data, tmp_path):
    with pytest.raises(UsageError) as error:
        run_systems(data, ["BERT"], SETTINGS, tmp_path, print)
    assert str(error.value).startswith("unknown system 'BERT'; choose from vanilla RNN, LSTM, GRU")
    for field in ("parameters", "validation_pairs"):
        with pytest.raises(UsageError) as error:
            SystemsSettings(**{field: 10**400})
        what = f"--{field.replace('_', '-')} must be at most 1,099,511,627,776, not 10,000"
        assert str(error.value).startswith(what)
    with pytest.raises(UsageError) as error:
        SystemsSettings(minutes=0)
    assert str(error.value) == "--minutes must be a finite number above 0, not 0"
