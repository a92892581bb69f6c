"""An experiment's steps, run by real commands; the whole chain where Moses is installed."""

from __future__ import annotations

import dataclasses
import gzip
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from toys import DATA

from moses_integration.cli import main
from moses_integration.decoder.programs import ProgramError
from moses_integration.experiment.plan import Step
from moses_integration.experiment.runner import Runner, note_of
from phrase_scorer.errors import DataError


@pytest.fixture
def training(tmp_path):
    (tmp_path / "pairs").write_bytes(b"a b\tx y\nb\ty\nc\tz\n" * 2)
    options = ("--max-updates", "2", "--batch-pairs", "2", "--shortlist", "9", "--quiet")
    output = tmp_path / "work" / "model"
    arguments = ("train", str(tmp_path / "pairs"), "--model", str(output), *options)
    state = "training_state.safetensors"
    return Step("train it", arguments, output, (), state, (str(tmp_path / "pairs"),))


def test_a_missing_file_is_told_before_anything_is_begun(training, tmp_path):
    last = dataclasses.replace(training, name="last", files=(str(tmp_path / "no"),))
    with pytest.raises(DataError) as caught:
        Runner(tmp_path / "work", lambda _: None).do([training, last])
    assert str(caught.value) == f"{tmp_path}/no: cannot read: No such file or directory"
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "expected object, got array"),
        ("[" * 100_000, "not JSON that can be used: nested too deep"),
        ("{", "not JSON: Expecting property name enclosed in double quotes (line 1, column 2)"),
    ],
)
def test_a_note_of_another_shape(training, tmp_path, content, message):
    note = note_of(tmp_path / "work", training)
    note.parent.mkdir(parents=True)
    note.write_text(content)
    with pytest.raises(DataError) as caught:
        Runner(tmp_path / "work", lambda _: None).do([training])
    assert str(caught.value) == f"{note}: {message}"


@pytest.mark.slow
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
    (tmp_path / "pairs").write_bytes(b"other\tpairs\nb\ty\nc\tz\n")
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


@pytest.mark.slow
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
    assert (work / "logs" / "train-it.log").read_text().startswith("stopped by updates")
    assert {len((work / name).read_text().splitlines()) for name in "abc"} == {6}


@pytest.mark.slow
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


@pytest.mark.slow
def test_what_runs_is_ended_with_the_runner(training, tmp_path, monkeypatch):
    """An interruption stops the training, which saves its state; the next runner goes on."""
    work = tmp_path / "work"
    arguments = list(training.arguments)
    arguments[arguments.index("--max-updates") + 1] = "10000000"
    long = dataclasses.replace(training, arguments=tuple(arguments))
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
