"""`--format json`: what a command counted, on standard output, for programs."""

from __future__ import annotations

import json

import pytest
from toys import DATA, TOY_TABLE

COLUMN = "p(target | source)"


@pytest.fixture(autouse=True)
def table(folder):
    (folder / "t").write_bytes(TOY_TABLE + b"zu ||| to ||| 1 x ||| 0-0 ||| 1 1 1\n")
    return folder / "t"


def test_check(run):
    done = run("check", "t", "--format", "json")
    assert (done.code, done.err) == (1, "")
    found = json.loads(done.out)
    (kind,) = found.pop("kinds")
    (finding,) = found.pop("findings")
    assert found == {"entries": 5, "scores": 2, "errors": 1, "warnings": 0}
    assert (kind["level"], kind["count"]) == ("error", 1)
    assert finding == {"level": "error", "line": 5, "message": kind["message"], "text": "x"}


def test_rescore_and_what_comes_after_it(run, model_path):
    options = ["--model", model_path, "--on-bad-line", "keep", "--format", "json"]
    done = run("rescore", "t", "out", *options)
    assert done.code == 0
    assert json.loads(done.out) == {
        "entries": 5, "scored": 4, "bad_lines": 1, "floored": 0, "columns": [COLUMN],
        "constant_columns": [], "output": "out",
    }  # fmt: skip
    assert "4 entries scored" in done.err
    done = run("rescore", "t", "-", *options)
    expected = "--format json: standard output is the table already"
    assert (done.code, done.error) == (2, expected)


def test_estimate(run, model_path):
    done = run("rescore", DATA / "model" / "phrase-table.gz", "--model", model_path,
               "--estimate", "--threads", 1, "--format", "json")  # fmt: skip
    found = json.loads(done.out)
    assert found["entries_are"] in ("about", "counted")
    assert found["unknown"].keys() == {"source", "target"}
    assert all(0 <= share <= 1 for share in found["unknown"].values())
    assert found["seconds"] == pytest.approx(found["entries"] / found["entries_per_second"])


def test_prune_and_strip(run, folder, model_path):
    (folder / "t").write_bytes(TOY_TABLE)
    done = run("prune", "t", "p", "--by", "1", "--keep-best", "1", "--format", "json")
    found = json.loads(done.out)
    assert (found["entries"], found["kept"], found["sources"]) == (4, 4, 4)
    assert run("rescore", "t", "out", "--model", model_path, "--quiet").code == 0
    done = run("strip", "out", "s", "--format", "json")
    assert json.loads(done.out) == {"entries": 4, "bad_lines": 0, "columns": 1}
