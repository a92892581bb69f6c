"""The table of an experiment, from evaluations of a few words."""

from __future__ import annotations

import json

import pytest

from moses_integration.evaluation.evaluation import evaluate
from moses_integration.experiment.config import Experiment, System, TestSet, TuningSet
from moses_integration.experiment.plan import Plan
from moses_integration.experiment.report import Results, collect, table1_markdown, write_table1

REFERENCE = ["a b c d", "e f g h", "i j k l m"]
OUTPUTS = {
    "Base": [[*REFERENCE[:2], "x"], ["a b", "e f g h", "i"]],
    "RNN | WP": [REFERENCE, ["a", "b", "c"]],
}


@pytest.fixture(scope="module")
def results() -> Results:
    evaluations = {test: evaluate([REFERENCE], OUTPUTS) for test in ("val", "t")}
    minutes = {"Base": 1.2, "RNN | WP": 99.6}
    return Results(evaluations, minutes, [["phrase-scorer", "filter"]])


def test_the_tuning_set_is_called_as_the_configuration_says(tmp_path):
    for name in ("ini", "val", "ref"):
        (tmp_path / name).write_text("a b\n" if name != "ini" else "[feature]\n")
    ini, val, reference = (str(tmp_path / name) for name in ("ini", "val", "ref"))
    tuning = TuningSet(val, reference, runs=1, name="dev 2014")
    tests = (TestSet("t", val, reference),)
    plan = Plan(Experiment(ini, tuning, tests, (System("Base"),)), tmp_path / "out")
    for test in plan.sets:
        output = plan.output("Base", test.name, 1)
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text("a b\n")
    (plan.tunings["Base"][0].output / "tuning.json").write_text('{"runs": [{"seconds": 90}]}')
    found = collect(plan)
    assert list(found.evaluations) == ["dev 2014", "t"]
    assert found.minutes == {"Base": 1.5}


def test_markdown(results):
    table, note, signature, others = table1_markdown(results).split("\n\n")
    assert table == (
        "| system | val: BLEU | gain | p | t: BLEU | gain | p | tuning |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| Base | 52.35 ± 14.02 |  |  | 52.35 ± 14.02 |  |  | 1 min |\n"
        "| RNN \\| WP | 50.00 ± 70.71 | -2.35 | 1.000 | 50.00 ± 70.71 | -2.35 | 1.000 | 100 min |"
    )
    assert note.startswith("Means and standard deviations over 2 tuning runs; gain: ")
    assert note.endswith(
        " The weights were tuned on val: its gains are those of fitting, not of translating."
    )
    assert signature.startswith("sacreBLEU: `nrefs:1|bs:1000|")
    assert others.splitlines()[0] == (
        "| system | val: chrF2 | val: TER | val: length ratio "
        "| t: chrF2 | t: TER | t: length ratio |"
    )
    assert others.splitlines()[2].startswith("| Base | 52.24 | 42.31 | 0.615 | ")


def test_files(results, tmp_path):
    paths = write_table1(results, tmp_path)
    assert [path.name for path in paths] == ["table1.md", "table1.json", "table1.svg"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert paths[0].read_text() == table1_markdown(results)
    content = json.loads(paths[1].read_bytes())
    assert content["tuning_minutes"] == results.minutes
    assert content["commands"] == results.commands
    assert content["evaluations"]["t"]["systems"][1]["name"] == "RNN | WP"
    picture = paths[2].read_bytes()
    assert picture.startswith(b"<?xml")
    write_table1(results, tmp_path)
    assert paths[2].read_bytes() == picture
