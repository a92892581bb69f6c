"""The log of a rescoring: a line a second, appended, and never to what is no log."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from toys import PROGRAM, program, save_model, toy_lines

from moses_integration import rescore
from moses_integration.cli import main
from moses_integration.rescoring.log import LoggedEntries, RescoreLog, RunFacts, read_runs
from moses_integration.rescoring.parts import TablePart
from moses_integration.rescoring.request import RescoreRequest
from phrase_scorer.errors import DataError, UsageError

FACTS = RunFacts("1", "t.gz", 2, "cpu", "float32", "compiled")


def test_a_line_a_second_and_the_last(tmp_path):
    times = iter([100.0, 100.0, 100.4, 101.1, 101.2])
    with RescoreLog(tmp_path / "log", FACTS, clock=lambda: next(times)) as log:
        for entries in (0, 5, 10, 12):
            log.note(entries)
    (run,) = read_runs(tmp_path / "log")
    assert run.facts == FACTS
    assert run.points == (LoggedEntries(0, 0), LoggedEntries(1.1, 10), LoggedEntries(1.2, 12))
    assert run.entries_per_second == 10


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a ||| b\n", ":1: not JSON: Expecting value (line 1, column 1)"),
        ('{"seconds": 1, "entries": 2}\n', ": not a log of `rescore --log`: it begins with no run"),
        ('{"processes": 1}\n', ":1: object missing required field version"),
    ],
)
def test_what_is_no_log_is_left_as_it_is(tmp_path, content, message):
    path = tmp_path / "log"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        RescoreLog(path, FACTS)
    assert str(caught.value) == f"{path}{message}"
    assert path.read_text() == content


def test_two_runs_at_once(tmp_path):
    path = tmp_path / "log"
    with RescoreLog(path, FACTS), pytest.raises(DataError) as caught:
        RescoreLog(path, FACTS)
    assert str(caught.value) == f"{path}: another run is writing this log"
    lines = ['{"seconds": 1, "entries": 9}', '{"seconds": 0, "entries": 1}']
    with open(path, "a") as file:
        file.write("\n".join(lines))
    with pytest.raises(DataError) as caught:
        read_runs(path)
    assert str(caught.value) == f"{path}:3: goes back: two runs wrote this log at once"


def test_a_long_log_is_read_in_time_that_grows_with_it(tmp_path):
    path = tmp_path / "log"
    RescoreLog(path, FACTS).__exit__()
    with open(path, "a") as file:
        file.writelines(f'{{"seconds": {n}, "entries": {n}}}\n' for n in range(100_000))
    (run,) = read_runs(path)
    assert len(run.points) == 100_000


def test_an_empty_log(tmp_path):
    (tmp_path / "log").write_text("")
    with pytest.raises(DataError, match="not a log of `rescore --log`: it is empty"):
        read_runs(tmp_path / "log")


@pytest.fixture
def table(folder):
    lines = b"".join(line + b"\n" for line in toy_lines(300))
    (folder / "t").write_bytes(lines)
    save_model(folder / "rnn")
    return folder


def test_runs_are_appended_and_the_table_is_the_same(table):
    for name in ("one", "two"):
        command = f"rescore t {name} --model rnn --quiet --threads 1 --log log"
        assert main(command.split()) == 0
    rescore("t", "three", models=["rnn"], log="log")
    rescore("t", "none", models=["rnn"])
    runs = read_runs("log")
    assert [run.facts.output for run in runs] == ["one", "two", "three"]
    assert {run.points[-1].entries for run in runs} == {300}
    assert {run.facts.device for run in runs} == {"cpu"}
    assert (table / "one").read_bytes() == (table / "none").read_bytes()
    for line in (table / "log").read_text().splitlines():
        json.loads(line)


REFUSED = {
    "of an estimate": ({"estimate": True}, "--log tells of a run, and --estimate makes none"),
    "standard output": ({"log": "-"}, "--log needs a file, not -"),
    "over the table": ({"log": "./t"}, "--log would overwrite PHRASE_TABLE: ./t"),
    "over the output": ({"log": "out"}, "--log would overwrite OUTPUT: out"),
    "over the journal": (
        {"log": "out.journal"},
        "--log would overwrite OUTPUT.journal: out.journal",
    ),
    "over a part": (
        {"log": "out.part1-of-2", "part": TablePart(1, 2)},
        "--log would overwrite out.part1-of-2: out.part1-of-2",
    ),
    "over an index": (
        {"log": "out.part1-of-2.index.json", "part": TablePart(1, 2)},
        "--log would overwrite out.part1-of-2.index.json: out.part1-of-2.index.json",
    ),
    "over the model": (
        {"log": "rnn/model.safetensors"},
        "--log would overwrite a file of the model (rnn/model.safetensors): rnn/model.safetensors",
    ),
    "in no folder": ({"log": "no/log"}, "--log: there is no folder no"),
    "not a log": ({"log": "text"}, "text:1: not JSON: Expecting value (line 1, column 1)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_anything_is_read(table, case):
    (table / "text").write_text("words\n")
    changes, message = REFUSED[case]
    options = {"table": "t", "output": "out", "models": (Path("rnn"),), "log": "log"}
    with pytest.raises((UsageError, DataError)) as caught:
        RescoreRequest(**(options | changes))
    assert str(caught.value) == message


def test_into_the_table_itself(table):
    command = [*PROGRAM, *["rescore", "t", "-", "--model", "rnn", "--log", "out"]]
    with open("out", "wb") as out:
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 2
    assert done.stderr == b"error: --log out is where the table goes (OUTPUT is -)\n"
    done = program(*["rescore", "t", "-", "--model", "rnn", "--log", "/dev/stdout"])
    assert (done.returncode, done.stdout) == (2, b"")


def test_a_part_is_called_by_its_own_name(table):
    options = ["--threads", "1", "--quiet", "--log", "log", "--part", "2/2"]
    assert main(["rescore", "t", "out", "--model", "rnn", *options]) == 0
    (run,) = read_runs("log")
    assert run.facts.output == "out.part2-of-2"
