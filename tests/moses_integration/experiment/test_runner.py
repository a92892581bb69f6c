"""An experiment's plan and runner: with real commands; the whole chain where Moses is installed."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from toys import DATA

from moses_integration.cli import main
from moses_integration.decoder.programs import ProgramError
from moses_integration.experiment.config import (
    ContinuousSpaceLM,
    Experiment,
    Network,
    Reranking,
    System,
    TestSet,
    TuningSet,
)
from moses_integration.experiment.plan import Plan, Step, keys_of
from moses_integration.experiment.runner import Runner
from phrase_scorer.errors import DataError


@pytest.fixture
def experiment(tmp_path):
    for name in ("moses.ini", "val.en", "val.fr", "t.en", "t.fr", "table.gz"):
        (tmp_path / name).write_text(name)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "model.safetensors").write_text("weights")
    path = {name: str(tmp_path / name) for name in os.listdir(tmp_path)}
    return Experiment(
        path["moses.ini"],
        TuningSet(path["val.en"], path["val.fr"], 2, ("--nbest", "50")),
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
        ContinuousSpaceLM("big", str(arpa), text=str(text), options=("--order", "5"), prune=1e-8),
        ContinuousSpaceLM("far", str(arpa), model=str(tmp_path / "there")),
    )
    systems = (
        System("CSLM", language_models=("big",)),
        System("2", ("new",), language_models=("big", "far")),
    )
    changed = dataclasses.replace(experiment, systems=systems, language_models=models)
    out = tmp_path / "out"
    by_name = {step.name: step for step in Plan(changed, out).steps}
    big, far = (out / "language_models" / name / "cslm.arpa" for name in ("big", "far"))
    network = str(out / "language_models" / "big" / "network")
    assert by_name["train language model big"].arguments == (
        "train-lm", str(text), "--model", network, "--threads", "2", "--order", "5",
    )  # fmt: skip
    assert by_name["export language model big"].arguments == (
        "export-arpa", "--model", network, "--arpa", str(arpa), "--output", str(big),
        "--threads", "2", "--prune", "1e-08",
    )  # fmt: skip
    assert by_name["export language model far"].after == ()
    assert by_name["export language model far"].files == (
        str(arpa),
        f"{tmp_path}/there/model.safetensors",
    )
    both = by_name["language models for 2"]
    assert both.arguments == (
        "ini", f"{out}/systems/2/model/moses.ini", "--output", f"{out}/systems/2/model/moses.2.ini",
        "--language-model", str(big), "--language-model", str(far),
    )  # fmt: skip
    assert by_name["tune 2"].arguments[2] == f"{out}/systems/2/model/moses.2.ini"
    assert by_name["tune CSLM"].arguments[2] == f"{out}/filtered/moses.cslm.ini"


def test_n_best_lists_are_reranked_run_by_run(experiment, tmp_path):
    cslm = ContinuousSpaceLM("lm", str(tmp_path / "table.gz"), model=str(tmp_path / "there"))
    systems = (
        System("Base"),
        System("R", ("new",), ("old",), True, nbest_of="Base", language_models=("lm",)),
    )
    changed = dataclasses.replace(
        experiment, systems=systems, language_models=(cslm,),
        reranking=Reranking(7, ("--optimizer", "mira")),
    )  # fmt: skip
    plan = Plan(changed, tmp_path / "out", ["--moses-bin", "/b"])
    by_name = {step.name: step for step in plan.steps}
    out, there = tmp_path / "out" / "systems", str(tmp_path / "there")
    assert by_name["decode t with Base, run 2"].arguments == (
        "decode", "--moses-ini", f"{out}/base/tuned/run2/moses.ini", "--input", f"{tmp_path}/t.en",
        "--output", f"{out}/base/outputs/t.run2",
        "--nbest", f"{out}/base/outputs/t.run2.nbest.gz", "7", "--distinct",
        "--threads", "2", "--moses-bin", "/b",
    )  # fmt: skip
    assert by_name["features for tuning set with R, run 1"].arguments == (
        "nbest", f"{out}/base/outputs/tuning-set.run1.nbest.gz", "--source", f"{tmp_path}/val.en",
        "--output", f"{out}/r/nbest/tuning-set.run1.nbest.gz",
        "--model", f"{tmp_path}/out/networks/new", "--inverse-model", there, "--unknown-words",
        "--cslm", there, "--threads", "2",
    )  # fmt: skip
    assert by_name["weights of R, run 2"].arguments == (
        "tune", "--rescore-nbest", f"{out}/r/nbest/tuning-set.run2.nbest.gz",
        "--moses-ini", f"{out}/base/tuned/run2/moses.ini", "--reference", f"{tmp_path}/val.fr",
        "--working-dir", f"{out}/r/weights.run2", "--seed", "2", "--threads", "2",
        "--optimizer", "mira", "--moses-bin", "/b",
    )  # fmt: skip
    assert by_name["rerank t with R, run 2"].arguments == (
        "nbest", f"{out}/r/nbest/t.run2.nbest.gz", "--rerank", f"{out}/r/weights.run2/weights",
        "--output", f"{out}/r/outputs/t.run2",
    )  # fmt: skip
    assert plan.output("R", "tuning set", 1) == out / "r" / "outputs" / "tuning-set.run1"
    assert plan.output("Base", "tuning set", 1) == out / "base/tuned/run1/tuning-set.output"
    assert [step.name for step in plan.tunings["R"]] == [
        "weights of R, run 1",
        "weights of R, run 2",
    ]
    assert "rescore for R" not in by_name
    assert "export language model lm" not in by_name


def test_words_unknown_to_a_language_model(experiment, tmp_path):
    """As columns of a rescored table, and as features of n-best lists."""
    there = str(tmp_path / "there")
    cslm = ContinuousSpaceLM("lm", str(tmp_path / "table.gz"), model=there)
    systems = (
        System("A", ("old",), unknown_words_of="lm"),
        System("B", ("old",), unknown_words_of="lm", nbest_of="A"),
    )
    changed = dataclasses.replace(experiment, systems=systems, language_models=(cslm,))
    by_name = {step.name: step for step in Plan(changed, tmp_path / "out").steps}
    wanted = ("--model", there, "--unknown-words-of", there)
    assert by_name["rescore for A"].arguments[-4:] == wanted
    assert by_name["features for t with B, run 1"].arguments[-6:-2] == wanted


def test_n_best_lists_give_a_language_model_more_n_grams(experiment, tmp_path):
    cslm = ContinuousSpaceLM(
        "lm", str(tmp_path / "table.gz"), model=str(tmp_path / "there"), share=0.5, nbest_of="Base"
    )
    systems = (System("Base"), System("CSLM", language_models=("lm",)))
    changed = dataclasses.replace(experiment, systems=systems, language_models=(cslm,))
    steps = Plan(changed, tmp_path / "out").steps
    export = next(step for step in steps if step.name == "export language model lm")
    lists = tmp_path / "out" / "systems" / "base" / "outputs"
    assert export.arguments[-6:] == (
        "--share", "0.5", "--nbest", f"{lists}/tuning-set.run1.nbest.gz",
        "--nbest", f"{lists}/t.run1.nbest.gz",
    )  # fmt: skip
    assert [step.name for step in export.after] == [
        "decode tuning set with Base, run 1", "decode t with Base, run 1",
    ]  # fmt: skip


def test_lists_are_written_where_they_are_wanted(experiment, tmp_path):
    """For a language model those of run 1; once each, with the translation that is made anyway."""
    cslm = ContinuousSpaceLM(
        "lm", str(tmp_path / "table.gz"), model=str(tmp_path / "there"), nbest_of="Base"
    )
    systems = (System("Base"), System("CSLM", language_models=("lm",)))
    changed = dataclasses.replace(experiment, systems=systems, language_models=(cslm,))
    decoded = [s for s in Plan(changed, tmp_path / "out").steps if s.arguments[0] == "decode"]
    assert [(step.name, len(step.beside)) for step in decoded] == [
        ("decode t with Base, run 1", 1), ("decode t with Base, run 2", 0),
        ("decode tuning set with Base, run 1", 1),
        ("decode t with CSLM, run 1", 0), ("decode t with CSLM, run 2", 0),
    ]  # fmt: skip


def test_steps_of_one_name(experiment, tmp_path):
    [test] = experiment.tests
    tests = (test, dataclasses.replace(test, name="t with x"))
    changed = dataclasses.replace(
        experiment, systems=(System("x"), System("x with x")), tests=tests
    )
    with pytest.raises(DataError) as caught:
        Plan(changed, tmp_path / "out")
    assert str(caught.value) == (
        'two steps would have this name; rename a system or a test: "decode t with x with x, run 1"'
    )


def test_threads_and_the_place_of_moses_change_no_key(experiment, tmp_path):
    def keys(threads: int, *moses: str) -> dict[str, str]:
        changed = dataclasses.replace(experiment, threads=threads)
        return keys_of(Plan(changed, tmp_path / "out", moses).steps)

    assert keys(1) == keys(2, "--moses-bin", "/elsewhere")


def test_a_missing_file_is_told_before_anything_is_begun(training, tmp_path):
    last = dataclasses.replace(training, name="last", files=(str(tmp_path / "no"),))
    with pytest.raises(DataError) as caught:
        Runner(tmp_path / "work", lambda _: None).do([training, last])
    assert str(caught.value) == f"{tmp_path}/no: cannot read: No such file or directory"
    assert not (tmp_path / "work").exists()


def test_keys_follow_what_a_step_uses(experiment, tmp_path):
    def keys() -> dict[str, str]:
        return keys_of(Plan(experiment, tmp_path / "out").steps)

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


def scoring_steps(training: Step, folder: Path, names: str) -> list[Step]:
    arguments = ("score", training.arguments[1], "--model", str(training.output), "--output")
    return [Step(n, (*arguments, str(folder / n)), folder / n, (training,)) for n in names]


def test_steps_beside_each_other(training, tmp_path):
    """What needs the training waits for it; then two at a time; each has a log of its own."""
    told: list[str] = []
    work = tmp_path / "work"
    steps = scoring_steps(training, work, "abc")
    Runner(work, told.append, jobs=2).do([*steps, training])
    assert told[0] == "[4/4] train it"
    assert told[1].startswith("[4/4] train it: ")
    assert told[2:4] == ["[1/4] a", "[2/4] b"]
    assert sorted(line.partition(":")[0] for line in told[4:]) == [
        "[1/4] a", "[2/4] b", "[3/4] c", "[3/4] c",
    ]  # fmt: skip
    assert (work / "logs" / "train-it.log").read_text().startswith("3 pairs")
    assert {len((work / name).read_text().splitlines()) for name in "abc"} == {6}


def test_a_failure_beside_another_step(training, tmp_path):
    """The other is brought to its end and kept; nothing new is begun."""
    work = tmp_path / "work"
    broken = Step("b", ("score", "no-such-file", "--model", str(tmp_path)), work / "b")
    after = scoring_steps(training, work, "c")
    with pytest.raises(ProgramError) as caught:
        Runner(work, lambda _: None, jobs=2).do([broken, training, *after])
    log = work / "logs" / "b.log"
    assert str(caught.value) == (
        f"phrase-scorer score ended with exit code 1 ({log}); once that is mended, "
        "the same experiment goes on from there"
    )
    assert "error: " in log.read_text()
    assert (training.output / "model.safetensors").exists()
    assert not (work / "c").exists()
    told: list[str] = []
    Runner(work, told.append, jobs=2).do([training, *after])
    assert told[0] == "[1/2] train it: done before"
    assert (work / "c").exists()


def test_what_runs_is_ended_with_the_runner(training, tmp_path, monkeypatch):
    """An interruption stops the training, which saves its state; the next runner goes on."""
    work = tmp_path / "work"
    long = dataclasses.replace(
        training, arguments=(*training.arguments, "--max-updates", "10000000")
    )

    begun = time.monotonic()

    def interrupt_when_trained(seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
        sleep(seconds)
        log = long.output / "training_log.jsonl"
        if time.monotonic() - begun > 60 or (log.is_file() and log.stat().st_mtime > started):
            raise KeyboardInterrupt

    monkeypatch.setattr("moses_integration.experiment.runner.time.sleep", interrupt_when_trained)
    for resumed in (False, True):
        started = time.time()
        with pytest.raises(KeyboardInterrupt):
            Runner(work, lambda _: None, jobs=2).do([long])
        assert (long.output / "training_state.safetensors").stat().st_mtime > started
        last = (work / "commands.log").read_text().splitlines()[-1]
        assert last.endswith(" --resume") == resumed


@pytest.mark.moses
def test_the_whole_chain(tmp_path, capsys, monkeypatch):
    """Every kind of system, tuned once on 12 sentences, from data/'s own table; two at a time."""
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
nbest_of = "Baseline"
share = 0.5
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
[[system]]
name = "reranked"
nbest_of = "CSLM + RNN + WP"
models = ["forward"]
language_models = ["cslm"]
[reranking]
size = 20
"""
    )
    arguments = ["experiment", "table1", "--config", str(config), "--jobs", "2", "--output-dir"]
    assert main([*arguments, str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert [line.split("|")[1].strip() for line in printed.splitlines()[:6]] == [
        "system", "---", "Baseline", "RNN + WP", "CSLM + RNN + WP", "reranked",
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
    assert "CSLM0= " in (tmp_path / "out/systems/reranked/weights.run1/weights").read_text()
    commands = (tmp_path / "out" / "commands.log").read_text()
    assert main([*arguments, str(tmp_path / "out")]) == 0  # all done: nothing is run again
    assert (tmp_path / "out" / "commands.log").read_text() == commands
