"""The table of an experiment, from evaluations of a few words."""

from __future__ import annotations

import json

import pytest

from moses_integration.evaluation.evaluation import evaluate
from moses_integration.experiment.report import Results, table1_markdown, write_table1

REFERENCE = ["a b c d", "e f g h", "i j k l m"]
OUTPUTS = {
    "Base": [[*REFERENCE[:2], "x"], ["a b", "e f g h", "i"]],
    "RNN | WP": [REFERENCE, ["a", "b", "c"]],
}


@pytest.fixture(scope="module")
def results() -> Results:
    evaluations = {test: evaluate([REFERENCE], OUTPUTS) for test in ("tuning set", "t")}
    minutes = {"Base": 1.2, "RNN | WP": 99.6}
    return Results(evaluations, minutes, [["phrase-scorer", "filter"]])


def test_markdown(results):
    table, note, signature, others = table1_markdown(results).split("\n\n")
    assert table == (
        "| system | tuning set: BLEU | gain | p | t: BLEU | gain | p | tuning |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| Base | 52.35 ± 14.02 |  |  | 52.35 ± 14.02 |  |  | 1 min |\n"
        "| RNN \\| WP | 50.00 ± 70.71 | -2.35 | 1.000 | 50.00 ± 70.71 | -2.35 | 1.000 | 100 min |"
    )
    assert note.startswith("Means and standard deviations over 2 tuning runs; gain: ")
    assert signature.startswith("sacreBLEU: `nrefs:1|bs:1000|")
    assert others.splitlines()[0] == (
        "| system | tuning set: chrF2 | tuning set: TER | tuning set: length ratio "
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
