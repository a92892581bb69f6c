"""The steps that an experiment asks for: names, order, arguments, keys."""

from __future__ import annotations

import dataclasses
import os

import pytest

from moses_integration.experiment.config import (
    ContinuousSpaceLM,
    Experiment,
    Network,
    Reranking,
    System,
    TestSet,
    TuningSet,
)
from moses_integration.experiment.plan import Plan, keys_of
from phrase_scorer.errors import DataError


@pytest.fixture
def experiment(tmp_path):
    for name in ("moses.ini", "val.en", "val.fr", "t.en", "t.fr", "table.gz"):
        (tmp_path / name).write_text(name)
    (tmp_path / "moses.ini").write_text("[feature]\n")
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


@pytest.mark.parametrize("replaced", ["pt.gz", "lm.binlm", "folder/part", "sparse"])
def test_keys_follow_the_files_that_moses_ini_names(experiment, tmp_path, replaced):
    """A table or a language model that is replaced under its name: all but training is done anew.

    Only the ini itself was looked at, so that results of the old files stayed.
    """
    (tmp_path / "folder").mkdir()
    for name in ("pt.gz", "lm.binlm", "folder/part", "sparse"):
        (tmp_path / name).write_text("one")
    (tmp_path / "moses.ini").write_text(
        "[feature]\nPhraseDictionaryMemory name=T num-features=1 path=pt\n"
        f"KENLM name=LM path={tmp_path}/lm.binlm\nPhraseDictionaryOnDisk name=O path=folder\n"
        "[weight-file]\nsparse\n"
    )

    def keys() -> dict[str, str]:
        return keys_of(Plan(experiment, tmp_path / "out").steps)

    before = keys()
    assert keys() == before
    (tmp_path / replaced).write_text("another")
    after = keys()
    assert {name for name in after if after[name] == before[name]} == {"train new"}
