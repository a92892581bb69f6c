"""The scripts for EMS, run as EMS runs them: by sh, for what they say on standard error.

test_experiment.py has them in a whole experiment.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from toys import DATA, toy_lines

import moses_integration.ems
from moses_integration.cli import main
from moses_integration.ems import installed_program, write_ems_files
from phrase_scorer.errors import UsageError

FOLDER = Path(moses_integration.ems.__file__).parent
HOOK, WRAPPER = FOLDER / "rescore-hook.sh", FOLDER / "train-model-wrapper.sh"
TRAINING = "--max-updates 2 --batch-pairs 8 --validation-pairs 0 --threads 1"

# What experiment.perl, check_if_crashed, takes for a crash.
CRASH = re.compile(
    "error|killed|core dumped|can't read|no such file or directory|unknown option|died at|"
    "exit code|permission denied|segmentation fault|abort|no space left on device|: not found|"
    "can't locate|unrecognized option|exception",
    re.IGNORECASE,
)


def run(script: Path, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PHRASE_SCORER", "MOSES"))
    }
    environment |= {"PHRASE_SCORER": str(installed_program()), "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(
        [script, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def table(tmp_path) -> Path:
    """A table, as a stem; many of its words are unknown to the model, one of them "error"."""
    text = b"\n".join(toy_lines(40)).replace(b"maison", b"error").replace(b"chat", b"abort")
    (tmp_path / "in.gz").write_bytes(gzip.compress(text + b"\n"))
    return tmp_path / "in"


@pytest.fixture
def recorder(tmp_path) -> Path:
    """Stands in for phrase-scorer: notes its arguments, makes the folder that train would."""
    path = tmp_path / "recorder"
    path.write_text(
        f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n[ "$1" != train ] || mkdir -p "$4"\n'
    )
    path.chmod(0o755)
    return path


def test_hook_adds_a_score_and_is_silent(table, model_path):
    out = table.with_name("out")
    done = run(HOOK, table, out, PHRASE_SCORER_MODEL=str(model_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    log = Path(f"{out}.log").read_text()
    assert "40 entries scored" in log
    assert CRASH.search(log)  # a warning that quotes unknown words; it must not reach EMS
    with gzip.open(f"{table}.gz", "rt") as before, gzip.open(f"{out}.gz", "rt") as after:
        for old, new in zip(before, after, strict=True):
            assert len(new.split(" ||| ")[2].split()) == len(old.split(" ||| ")[2].split()) + 1
    assert Path(f"{out}.gz.signature.json").exists()


@pytest.mark.slow
def test_hook_trains_the_model_that_is_not_there(table):
    out = table.with_name("out")
    done = run(HOOK, table, out, PHRASE_SCORER_TRAIN_OPTIONS=TRAINING)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (table.parent / "out.rnn" / "model.safetensors").is_file()
    assert sorted(path.name for path in table.parent.iterdir()) == [
        "in.gz", "out.gz", "out.gz.signature.json", "out.log", "out.rnn",
    ]  # fmt: skip


def test_hook_fails_loudly_and_leaves_nothing(table, model_path):
    out = table.with_name("out")
    with gzip.open(f"{table}.gz", "at") as stream:
        stream.write("no entry\n")
    done = run(HOOK, table, out, PHRASE_SCORER_MODEL=str(model_path))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"error: {table}.gz:41: 1 field, expected at least 3 (source ||| target ||| scores): "
        '"no entry"',
        "error: phrase-scorer rescore ended with exit code 1",
    ]
    assert sorted(path.name for path in table.parent.iterdir()) == ["in.gz", "out.log"]


def test_hook_passes_options_on(table, recorder):
    out, model = table.with_name("out"), table.with_name("model")
    model.mkdir()
    variables = {"PHRASE_SCORER_MODEL": str(model), "PHRASE_SCORER_TRAIN_OPTIONS": "--never"}
    options = "--floor  -20 --unknown-words *"
    done = run(HOOK, table, out, PHRASE_SCORER=str(recorder), PHRASE_SCORER_OPTIONS=options,
               **variables)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert (table.parent / "calls").read_text() == (
        f"rescore {table}.gz {out}.gz --model {model} --quiet --floor -20 --unknown-words *\n"
    )


def test_hook_resumes_a_training(table, recorder):
    out, training = table.with_name("out"), table.with_name("out.rnn.training")
    variables = {"PHRASE_SCORER": str(recorder), "PHRASE_SCORER_TRAIN_OPTIONS": ""}
    training.mkdir()
    (training / "training_state.safetensors").touch()
    assert run(HOOK, table, out, **variables).returncode == 0
    (table.parent / "out.rnn" / "training_state.safetensors").unlink()
    (table.parent / "out.rnn").rename(training)  # stopped before there was anything to resume
    assert run(HOOK, table, out, **variables).returncode == 0
    trainings = (table.parent / "calls").read_text().splitlines()[::2]
    assert [call.split(str(training))[1] for call in trainings] == [
        " --resume --quiet",
        " --overwrite --quiet",
    ]


@pytest.mark.parametrize("signal", ["KILL", "TERM"])
def test_hook_tells_ems_of_a_program_that_was_ended(signal, table, tmp_path):
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\nkill -{signal} $$\n")
    program.chmod(0o755)
    done = run(
        HOOK, table, tmp_path / "out", PHRASE_SCORER=str(program), PHRASE_SCORER_MODEL="model"
    )
    code = {"KILL": 137, "TERM": 143}[signal]
    assert done.returncode == code
    assert done.stderr.splitlines()[-1] == (
        f"error: phrase-scorer rescore ended with exit code {code}"
    )


def test_hook_that_is_called_wrongly(table, tmp_path):
    model = {"PHRASE_SCORER_MODEL": "model"}
    for arguments, variables, code, message in (
        ([table], model, 2, f"usage: rescore-hook.sh IN OUT, not: rescore-hook.sh {table}"),
        ([table, "out"], {}, 2,
         "neither PHRASE_SCORER_MODEL nor PHRASE_SCORER_TRAIN_OPTIONS is set"),
        ([tmp_path / "x", "out"], model, 1,
         f"{tmp_path}/x.gz is not there (tables of factored models are not supported)"),
        ([table, tmp_path / "no" / "out"], model, 1, f"cannot write {tmp_path}/no/out.log"),
    ):  # fmt: skip
        done = run(HOOK, *arguments, **variables)
        assert done.returncode == code
        assert done.stderr.splitlines()[-1] == f"error: {message}"


def test_program_that_is_not_there_is_an_error_to_ems(table, tmp_path):
    variables = {"PHRASE_SCORER": "/no/such/program", "PHRASE_SCORER_MODEL": "model"}
    done = run(HOOK, table, tmp_path / "out", **variables)
    assert done.returncode == 127
    assert CRASH.search(done.stderr)


# -- the wrapper -----------------------------------------------------------------------------------


@pytest.fixture
def scripts() -> str:
    """Moses' scripts."""
    moses = shutil.which("moses")
    if moses is None:
        pytest.skip("Moses is not on the PATH")
    folder = os.environ.get("MOSES_SCRIPTS") or Path(moses).resolve().parents[1] / "scripts"
    if not Path(folder, "training/train-model.perl").is_file():
        pytest.skip(f"there is no training/train-model.perl in {folder}; set MOSES_SCRIPTS")
    return str(folder)


def step_9(table: Path, config: str) -> list[str]:
    """What EMS has train-model.perl do to write a moses.ini."""
    lm = DATA / "model" / "lm.fr.arpa.gz"
    return [
        *("-dont-zip", "-first-step", "9", "-external-bin-dir", str(table.parent)),
        *("-f", "en", "-e", "fr", "-alignment", "grow-diag-final-and", "-max-phrase-length", "5"),
        *("-phrase-translation-table", str(table), *config.split(" ", 1), "-lm", f"0:4:{lm}:8"),
    ]


@pytest.mark.moses
@pytest.mark.parametrize("config", ["-config {}", "--config {}", "-config={}"])
def test_wrapper_fits_the_ini_of_train_model(config, table, tmp_path, scripts):
    with gzip.open(f"{table}.gz", "rt") as old, gzip.open(tmp_path / "five.gz", "wt") as new:
        new.write(re.sub(r"(?m)^(.*? \|\|\| .*?\|\|\| .*?) \|\|\|", r"\1 0.5 |||", old.read()))
    ini = tmp_path / "moses.ini"
    arguments = step_9(tmp_path / "five", config.format(ini))
    done = run(WRAPPER, *arguments, MOSES_SCRIPTS=scripts, PHRASE_SCORER_INI_OPTIONS="--weight 0.3")
    assert done.returncode == 0, done.stderr
    assert not CRASH.search(done.stderr), done.stderr
    assert re.search(
        r"(?m)^\S+moses.ini:\d+: TranslationModel0: num-features 4 -> 5; new weights: 0.3$",
        done.stdout,
    )
    assert f"TranslationModel0 num-features=5 path={tmp_path}/five " in ini.read_text()
    assert "\nTranslationModel0= 0.2 0.2 0.2 0.2 0.3\n" in ini.read_text()


@pytest.mark.moses
def test_wrapper_fails_with_the_program_that_failed(table, tmp_path, scripts):
    done = run(WRAPPER, "--no-such-option", MOSES_SCRIPTS=scripts)
    assert done.returncode not in (0, 127)
    arguments = step_9(tmp_path / "gone", f"-config {tmp_path / 'moses.ini'}")
    done = run(WRAPPER, *arguments, MOSES_SCRIPTS=scripts)
    assert done.returncode == 1
    *_, ours, last = done.stderr.splitlines()
    assert re.fullmatch(r'error: \S+moses.ini:\d+: the phrase table of .* is not there: ".*"', ours)
    assert last == "error: phrase-scorer ini ended with exit code 1"


@pytest.mark.moses
def test_wrapper_without_config_only_runs_train_model(table, tmp_path, scripts):
    arguments = ["-root-dir", tmp_path, "-model-dir", tmp_path, *step_9(table, "-cores 1")]
    done = run(WRAPPER, *arguments, MOSES_SCRIPTS=scripts, PHRASE_SCORER="/no/such/program")
    assert done.returncode == 0, done.stderr
    assert "num-features=4" in (tmp_path / "moses.ini").read_text()


def test_wrapper_needs_the_scripts():
    done = run(WRAPPER, "-first-step", "9")
    assert done.returncode == 2
    assert done.stderr == "error: MOSES_SCRIPTS is not set: the folder of Moses' scripts\n"


# -- the command ems -------------------------------------------------------------------------------


def test_command_writes_three_files(tmp_path, capsys, table, model_path):
    folder = tmp_path / "ems"
    assert main(["ems", "--output-dir", str(folder)]) == 0
    names = ["rescore-hook.sh", "train-model-wrapper.sh", "config.phrase-scorer"]
    assert capsys.readouterr().out.splitlines() == [str(folder / name) for name in names]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    config = (folder / "config.phrase-scorer").read_text()
    assert f"\nphrase-scorer-dir = {folder}\n" in config
    assert "/path/to" not in config
    done = run(folder / names[0], table, tmp_path / "out", PHRASE_SCORER="",
               PHRASE_SCORER_MODEL=str(model_path), PATH=os.defpath)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out.gz").exists()


def test_command_takes_a_new_folder_only(tmp_path, capsys):
    (tmp_path / "mine").touch()
    assert main(["ems", "--output-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"error: --output-dir {tmp_path} is not empty; choose a new folder\n"
    )


def test_folder_that_no_config_can_hold(tmp_path):
    for name in ("my ems", "ems#1", "VERSION"):
        (tmp_path / name).mkdir()
        with pytest.raises(UsageError) as caught:
            write_ems_files(tmp_path / name, Path("phrase-scorer"))
        assert str(caught.value) == f'a config of EMS cannot hold the path "{tmp_path / name}"'
        assert not list((tmp_path / name).iterdir())


def test_program_with_an_odd_name_is_quoted(tmp_path, table, recorder):
    program = tmp_path / "it's a program"
    recorder.rename(program)
    folder = tmp_path / "ems"
    folder.mkdir()
    hook, *_ = write_ems_files(folder, program)
    done = run(hook, table, tmp_path / "out", PHRASE_SCORER="", PHRASE_SCORER_MODEL="model")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "calls").exists()


def test_installed_program_on_path(tmp_path, monkeypatch, recorder):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    (tmp_path / "phrase-scorer").symlink_to(recorder)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert installed_program() == tmp_path / "phrase-scorer"
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    with pytest.raises(UsageError) as caught:
        installed_program()
    assert str(caught.value) == (
        f"the command phrase-scorer is neither in {tmp_path / 'bin'} nor on PATH"
    )
