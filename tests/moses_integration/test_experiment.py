"""An experiment's plan and runner: with real commands; the whole chain where Moses is installed."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import shutil
from pathlib import Path

import pytest

from moses_integration.cli import main
from moses_integration.experiment import Plan, Runner, Step, run_command
from moses_integration.experiment_config import (
    ContinuousSpaceLM,
    Experiment,
    Network,
    System,
    TestSet,
    Tuning,
)
from moses_integration.programs import ProgramError

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture
def experiment(tmp_path):
    for name in ("moses.ini", "val.en", "val.fr", "t.en", "t.fr", "table.gz"):
        (tmp_path / name).write_text(name)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "model.safetensors").write_text("weights")
    path = {name: str(tmp_path / name) for name in os.listdir(tmp_path)}
    return Experiment(
        path["moses.ini"],
        Tuning(path["val.en"], path["val.fr"], 2, ("--nbest", "50")),
        (TestSet("t", path["t.en"], path["t.fr"]),),
        (System("Baseline"), System("RNN + WP", ("new",), ("old",), unknown_words=True)),
        (
            Network("new", path["table.gz"], ("--shortlist", "9")),
            Network("old", model=path["there"]),
        ),
        threads=2,
    )  # fmt: skip


def test_steps_in_order(experiment, tmp_path):
    plan = Plan(experiment, tmp_path / "out", ["--moses-bin", "/b"])
    assert [step.name for step in plan.steps] == [
        "filter", "tune Baseline", "decode t with Baseline, run 1", "decode t with Baseline, run 2",
        "train new", "rescore for RNN + WP", "tune RNN + WP",
        "decode t with RNN + WP, run 1", "decode t with RNN + WP, run 2",
    ]  # fmt: skip
    by_name = {step.name: step for step in plan.steps}
    out = tmp_path / "out"
    assert by_name["train new"].arguments == (
        "train", f"{tmp_path}/table.gz", "--model", f"{out}/networks/new", "--threads", "2",
        "--shortlist", "9",
    )  # fmt: skip
    assert by_name["rescore for RNN + WP"].arguments == (
        "rescore", f"{out}/filtered", f"{out}/systems/rnn-wp/model", "--threads", "2",
        "--model", f"{out}/networks/new", "--inverse-model", f"{tmp_path}/there", "--unknown-words",
    )  # fmt: skip
    assert by_name["tune Baseline"].arguments[:3] == (
        "tune", "--moses-ini", f"{out}/filtered/moses.ini"
    )  # fmt: skip
    assert by_name["tune RNN + WP"].arguments[-4:] == ("--nbest", "50", "--moses-bin", "/b")


def test_language_models_are_trained_exported_and_added(experiment, tmp_path):
    text, arpa = tmp_path / "val.fr", tmp_path / "table.gz"
    models = (
        ContinuousSpaceLM("new", str(arpa), text=str(text), options=("--order", "5"), prune=1e-8),
        ContinuousSpaceLM("old", str(arpa), model=str(tmp_path / "there")),
    )
    systems = (
        System("CSLM", language_models=("new",)),
        System("2", ("new",), language_models=("new", "old")),
    )
    changed = dataclasses.replace(experiment, systems=systems, language_models=models)
    out = tmp_path / "out"
    by_name = {step.name: step for step in Plan(changed, out).steps}
    new, old = (out / "language_models" / name / "cslm.arpa" for name in ("new", "old"))
    network = str(out / "language_models" / "new" / "network")
    assert by_name["train language model new"].arguments == (
        "train-lm", str(text), "--model", network, "--threads", "2", "--order", "5",
    )  # fmt: skip
    assert by_name["export language model new"].arguments == (
        "export-arpa", "--model", network, "--arpa", str(arpa), "--output", str(new),
        "--threads", "2", "--prune", "1e-08",
    )  # fmt: skip
    assert by_name["export language model old"].after == ()
    assert by_name["export language model old"].files == (
        str(arpa),
        f"{tmp_path}/there/model.safetensors",
    )
    both = by_name["language models for 2"]
    assert both.arguments == (
        "ini", f"{out}/systems/2/model/moses.ini", "--output", f"{out}/systems/2/model/moses.2.ini",
        "--language-model", str(new), "--language-model", str(old),
    )  # fmt: skip
    assert by_name["tune 2"].arguments[2] == f"{out}/systems/2/model/moses.2.ini"
    assert by_name["tune CSLM"].arguments[2] == f"{out}/filtered/moses.cslm.ini"


def test_keys_follow_what_a_step_uses(experiment, tmp_path):
    def keys() -> dict[str, str]:
        return {s.name: s.key for s in Plan(experiment, tmp_path / "out").steps}

    before = keys()
    assert keys() == before
    (tmp_path / "table.gz").write_text("another table")
    after = keys()
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {
        "train new", "rescore for RNN + WP", "tune RNN + WP",
        "decode t with RNN + WP, run 1", "decode t with RNN + WP, run 2",
    }  # fmt: skip


@pytest.fixture
def training(tmp_path):
    (tmp_path / "pairs").write_bytes(b"a b\tx y\nb\ty\nc\tz\n" * 2)
    options = ("--max-updates", "2", "--batch-pairs", "2", "--shortlist", "9", "--quiet")
    output = tmp_path / "work" / "model"
    arguments = ("train", str(tmp_path / "pairs"), "--model", str(output), *options)
    state = "training_state.safetensors"
    return Step("train it", arguments, output, (), state, (str(tmp_path / "pairs"),))


def test_a_finished_step_is_not_repeated(training, tmp_path):
    told: list[str] = []
    runner = Runner(tmp_path / "work", told.append)
    scores = tmp_path / "work" / "scores"
    arguments = ("score", training.arguments[1], "--model", str(training.output))
    arguments += ("--output", str(scores))
    scoring = Step("score them", arguments, scores, (training,))
    runner.do([training, scoring])
    assert len(scores.read_text().splitlines()) == 6
    commands = (tmp_path / "work" / "commands.log").read_text().splitlines()
    assert [line.split()[:2] for line in commands] == [
        ["phrase-scorer", "train"], ["phrase-scorer", "score"],
    ]  # fmt: skip
    weights = (training.output / "model.safetensors").read_bytes()
    told.clear()
    runner.do([training, scoring])
    assert told == ["[1/2] train it: done before", "[2/2] score them: done before"]
    scores.unlink()  # what is gone is made again, and nothing else
    told.clear()
    runner.do([training, scoring])
    assert told[0] == "[1/2] train it: done before"
    assert scores.exists()
    assert (training.output / "model.safetensors").read_bytes() == weights


def test_an_interrupted_step_goes_on_and_a_changed_one_starts_anew(training, tmp_path):
    told: list[str] = []
    runner = Runner(tmp_path / "work", told.append)
    runner.do([training])
    note = tmp_path / "work" / "steps" / "train-it.json"
    content = json.loads(note.read_bytes())
    note.write_text(json.dumps({**content, "seconds": None}))  # as if it had been interrupted
    runner.do([training])
    log = tmp_path / "work" / "commands.log"
    assert log.read_text().splitlines()[-1].endswith(" --resume")
    (training.output / "stray").touch()
    (tmp_path / "pairs").write_bytes(b"other\tpairs\nb\ty\n")
    runner.do([training])
    assert not log.read_text().splitlines()[-1].endswith(" --resume")
    assert not (training.output / "stray").exists()


def test_a_step_that_fails(training, tmp_path, capfd):
    broken = Step("b", ("score", "no-such-file", "--model", str(tmp_path)), tmp_path / "work" / "b")
    with pytest.raises(ProgramError) as caught:
        Runner(tmp_path / "work", lambda _: None).do([broken])
    assert str(caught.value) == (
        "phrase-scorer score ended with exit code 1; once that is mended, "
        "the same experiment goes on from there"
    )
    assert "error: " in capfd.readouterr().err


def test_run_command(capfd):
    run_command(["--version"])
    assert capfd.readouterr().out.startswith("phrase-scorer, version ")


@pytest.mark.moses
def test_the_whole_chain(tmp_path, capsys, monkeypatch):
    """Three systems, tuned once on 12 sentences, from data/'s own table: the report is there."""
    if shutil.which("moses") is None:
        pytest.skip("moses is not on PATH")
    for side in ("en", "fr"):
        for name, lines in (("tune", 12), ("test", 8)):
            text = (DATA / "corpus" / f"{name}.{side}").read_text().split("\n")[:lines]
            (tmp_path / f"{name}.{side}").write_text("\n".join(text) + "\n")
    arpa = gzip.decompress((DATA / "model" / "lm.fr.arpa.gz").read_bytes())
    (tmp_path / "lm.arpa").write_bytes(arpa)
    config = tmp_path / "experiment.toml"
    config.write_text(
        f"""
moses_ini = "{DATA}/moses.ini"
[tuning]
source = "tune.en"
reference = "tune.fr"
runs = 1
options = ["--max-iterations", "1", "--nbest", "20"]
[[test]]
name = "test"
source = "test.en"
reference = "test.fr"
[[network]]
name = "forward"
pairs = "{DATA}/model/phrase-table.gz"
options = ["--max-updates", "3", "--batch-pairs", "64", "--shortlist", "200", "--quiet"]
[[language_model]]
name = "cslm"
text = "{DATA}/corpus/train.fr"
arpa = "lm.arpa"
options = ["--hidden", "8", "--second-hidden", "8", "--max-updates", "3", "--quiet"]
[[system]]
name = "Baseline"
[[system]]
name = "RNN + WP"
models = ["forward"]
unknown_words = true
[[system]]
name = "CSLM + RNN + WP"
models = ["forward"]
unknown_words = true
language_models = ["cslm"]
"""
    )
    arguments = ["experiment", "table1", "--config", str(config), "--output-dir"]
    assert main([*arguments, str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert [line.split("|")[1].strip() for line in printed.splitlines()[:5]] == [
        "system", "---", "Baseline", "RNN + WP", "CSLM + RNN + WP",
    ]  # fmt: skip
    assert (tmp_path / "out" / "table1.md").read_text() in printed
    content = json.loads((tmp_path / "out" / "table1.json").read_bytes())
    assert set(content["evaluations"]) == {"tuning set", "test"}
    assert (tmp_path / "out" / "table1.svg").read_bytes().startswith(b"<?xml")
    tuned = (tmp_path / "out" / "systems" / "rnn-wp" / "tuned" / "moses.ini").read_text()
    assert len(tuned.partition("TranslationModel0= ")[2].partition("\n")[0].split()) == 6
    tuned = (tmp_path / "out" / "systems" / "cslm-rnn-wp" / "tuned" / "moses.ini").read_text()
    assert "KENLM name=LM1 " in tuned
    assert len(tuned.partition("\nLM1= ")[2].partition("\n")[0].split()) == 1
    commands = (tmp_path / "out" / "commands.log").read_text()
    assert main([*arguments, str(tmp_path / "out")]) == 0  # all done: nothing is run again
    assert (tmp_path / "out" / "commands.log").read_text() == commands
