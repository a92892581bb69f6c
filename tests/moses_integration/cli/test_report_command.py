"""What `report` refuses, in one line, with nothing half-written."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from toys import names, save_model, toy_lines

pytest.importorskip("vl_convert")


@pytest.fixture
def table(folder, run):
    """A rescored table in the current folder."""
    text = b"".join(line + b"\n" for line in toy_lines(50))
    Path("t").write_bytes(text)
    save_model(Path("rnn"))
    assert run("rescore", "t", "t.gz", "--model", "rnn", "--threads", 1, "--quiet").code == 0
    Path("t").unlink()
    return "t.gz"


def left(*more: str) -> list[str]:
    return sorted(["rnn", "t.gz", "t.gz.signature.json", *more])


def test_no_signature(table, run):
    Path("other").write_bytes(b"la ||| the ||| 1 1 1 1\n")
    ran = run("report", "other")
    assert ran.code == 1
    assert ran.error.startswith("other: has no signature beside it")


def test_another_model(table, run):
    save_model(Path("rnn2"), seed=6)
    ran = run("report", table, "--model", "rnn2")
    assert ran.code == 1
    assert ran.error.startswith("t.gz: no column of the model rnn2 (")
    assert "(5: p(target | source) of " in ran.error


def test_no_model_there(table, run):
    ran = run("report", table, "--model", "nowhere")
    assert (ran.code, ran.error) == (1, "nowhere: not a model directory: it does not exist")
    assert names(Path()) == left()


def test_a_cut_file(table, run):
    content = Path(table).read_bytes()
    Path(table).write_bytes(content[: len(content) // 2])
    ran = run("report", table)
    assert ran.code == 1
    assert ran.last_error.startswith("t.gz")
    assert names(Path()) == left()


def test_scores_that_the_signature_does_not_know(table, run):
    signature = Path("t.gz.signature.json")
    content = json.loads(signature.read_text())
    lines = gzip.decompress(Path(table).read_bytes())
    Path(table).write_bytes(gzip.compress(lines.replace(b" ||| 0-0", b" 0.5 ||| 0-0")))
    ran = run("report", table)
    assert ran.last_error.startswith("t.gz:1: 6 scores, but its signature speaks of 5: ")
    content["columns"][0]["name"] = "unknown target words"
    signature.write_text(json.dumps(content))
    assert "no probability among its new columns" in run("report", table).error
    assert names(Path()) == left()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--output", "x.txt"), 2, "--output x.txt must end in .html: its numbers go to a file of "
         "that name that ends in .json"),
        (("--output", "no/x.html"), 2, "--output: there is no folder no"),
        (("--figures", "rnn"), 2, "--figures rnn is not empty; choose a new folder"),
        (("--against", "5"), 1, "t.gz: score 5 is not the table's own p(target | source); name "
         "one with --against"),
        (("--against", "9"), 1, "t.gz: has 5 scores: there is no score 9 (--against)"),
        (("--tuning", "rnn"), 1, "rnn: not a folder of tune: it has no run1"),
        (("--moses-ini", "no.ini"), 1, "no.ini: cannot read: No such file or directory"),
        (("--sample", "0"), 2, "--sample must be a whole number from 1 to 2147483647, not 0"),
    ],
)  # fmt: skip
def test_refused(table, run, options, code, message):
    ran = run("report", table, *options)
    assert (ran.code, ran.error) == (code, message)
    assert names(Path()) == left()


def test_an_ini_of_another_table(table, run):
    ini = (
        "[feature]\nPhraseDictionaryMemory name=TM0 num-features=4 path=x\n[weight]\nTM0= 1 1 1 1\n"
    )
    Path("m.ini").write_text(ini)
    ran = run("report", table, "--moses-ini", "m.ini")
    assert ran.error == "m.ini: names no phrase table with 5 scores, as t.gz has"


def test_missing_packages(table, run, monkeypatch):
    monkeypatch.setattr("moses_integration.report.request.PACKAGES", ("no_such_package",))
    ran = run("report", table)
    assert ran.code == 2
    assert ran.error == (
        "report needs jinja2 and vl-convert-python: pip install 'phrase-scorer[report]'"
    )


def test_statistics(table, run):
    ran = run("report", table, "--format", "json", "--sample", 10)
    told = json.loads(ran.out)
    assert told["entries"] == 50
    assert told["charts"] == ["scores", "distribution", "lengths"]
    assert len(json.loads(Path(told["numbers"]).read_text())["survey"]["sample"]) == 10
    assert names(Path()) == left("report.html", "report.json")
