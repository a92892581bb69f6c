"""`rescore` with one column: what it prints, writes, and leaves behind."""

from __future__ import annotations

import gzip
import json
import os
import re
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
from toys import TOY_INI, TOY_TABLE, names, program

from phrase_scorer.models.directory import ModelDirectory
from phrase_scorer.scoring.scorer import PhraseScorer

FEW = "expected at least 3 (source ||| target ||| scores)"

UNKNOWN = (
    "warning: {} of the {} words are unknown to the model ({} …): other casing, another language, "
    "or other tokenisation or escaping than in training?"
)


def test_empty_target_is_legal(run, folder, model_path):
    (folder / "t").write_bytes(b"la ||| ||| 1 1\nle ||| the ||| 1 1\n")
    assert run("rescore", "t", "out", "--model", model_path, "--quiet").code == 0
    first = (folder / "out").read_bytes().split(b"\n")[0]
    score = float(first.split()[-1])
    expected = PhraseScorer.load(model_path, "cpu").score([("la", "")])[0]  # p(end | source)
    assert np.log(score) == pytest.approx(expected, abs=1e-5)
    assert first.startswith(b"la ||| ||| 1 1 0.")


def test_disk_full(folder, model_path):
    """A real limit on the size of files, met in the middle of the table."""
    (folder / "t").write_bytes(TOY_TABLE * 2000)
    (folder / "ini").write_text(TOY_INI.format("t"))
    done = program(
        *["rescore", "t", "out", "--model", model_path, "--quiet"],
        *["--moses-ini", "ini", "--moses-ini-out", "new.ini"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"error: out: cannot write: File too large\n"
    assert names(folder) == ["ini", "t"]


@pytest.mark.parametrize("name", ["out", "out.gz"])
def test_disk_full_at_the_very_beginning(name, folder, model_path):
    (folder / "t").write_bytes(TOY_TABLE)
    done = program(
        *["rescore", "t", name, "--model", model_path, "--quiet"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50)),
    )
    expected = f"error: {name}.journal: cannot write: File too large\n".encode()
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", expected)
    assert names(folder) == ["t"]


def test_output_equal_to_input(run, folder, model_path):
    (folder / "t").write_bytes(TOY_TABLE)
    (folder / "link").symlink_to("t")
    for name in ("t", "./t", "link"):
        expected = f"{name}: the output would overwrite the input"
        done = run("rescore", "t", name, "--model", model_path, "--quiet")
        assert (done.code, done.error) == (1, expected)
        done = run("score", "t", "--model", model_path, "--output", name)
        assert (done.code, done.error) == (1, expected)
    assert (folder / "t").read_bytes() == TOY_TABLE
    assert names(folder) == ["link", "t"]


def test_unknown_words_only_are_legal_and_warned_of(run, folder, model_path):
    (folder / "t").write_bytes(b"Das Haus ||| that Thing ||| 1 1\nDas ||| that ||| 1 1\n")
    done = run("rescore", "t", "out", "--model", model_path, "--quiet")
    assert (done.code, done.out) == (0, "")
    assert done.err.splitlines() == [
        UNKNOWN.format("100%", "first 3 source", "Das Haus"),
        UNKNOWN.format("100%", "first 3 target", "that Thing"),
        "2 entries scored",
    ]
    scores = [float(line.split()[-1]) for line in (folder / "out").read_bytes().splitlines()]
    expected = PhraseScorer.load(model_path, "cpu").score([("<unk> <unk>", "x y"), ("x", "y")])
    assert np.log(scores) == pytest.approx(expected, abs=1e-5)


def test_the_warning_of_a_very_long_word_is_short(run, folder, model_path):
    (folder / "t").write_bytes(b"a" * 50_000 + b" ||| b ||| 1 1\n")
    said = run("rescore", "t", "out", "--model", model_path, "--quiet").err.splitlines()
    assert UNKNOWN.format("100%", "first 1 source", "a" * 120) in said


def test_known_words_are_not_warned_of(run, folder, model_path):
    (folder / "t").write_bytes(TOY_TABLE)
    assert run("rescore", "t", "out", "--model", model_path, "--quiet").err == "4 entries scored\n"


def test_very_long_phrase_is_legal(run, folder, model_path):
    line = b"la " * 300 + b"||| " + b"the " * 200 + b"||| 1 1"
    (folder / "t").write_bytes(TOY_TABLE + line)
    done = run("rescore", "t", "out", "--model", model_path, "--quiet")
    assert (done.code, done.err) == (0, "5 entries scored; 1 below the floor\n")
    after = (folder / "out").read_bytes()
    assert after.split(b"\n")[-1] == line + b" 1.92875e-22"  # exp(-50)


def test_same_column_twice(run, folder, model_path):
    (folder / "t").write_bytes(TOY_TABLE)
    assert run("rescore", "t", "once", "--model", model_path, "--quiet").code == 0
    done = run("rescore", "once", "twice", "--model", model_path, "--quiet")
    fingerprint = ModelDirectory(model_path).fingerprint()
    assert (done.code, done.error) == (
        1,
        "once: score 3 of each line is already p(target | source) of this model "
        f"({fingerprint}); --allow-duplicate adds it again",
    )
    assert not (folder / "twice").exists()
    again = ["--allow-duplicate", "--quiet"]
    assert run("rescore", "once", "twice", "--model", model_path, *again).code == 0
    assert len((folder / "twice").read_bytes().split(b"|||")[2].split()) == 4


def test_rescore_without_a_model(run):
    done = run("rescore", "t", "out")
    expected = "give --model DIR, --inverse-model DIR, or several of them"
    assert (done.code, done.out, done.error) == (2, "", expected)


# -- moses.ini -------------------------------------------------------------------------------------


@pytest.fixture
def rescored(run, folder, model_path):
    """Rescores "t" with an ini of some path=; returns the new path= and what was said."""
    (folder / "t").write_bytes(TOY_TABLE)

    def call(
        path: str, output: str, ini: str = "ini", new: str = "new.ini", table: str = "t"
    ) -> tuple[str, str]:  # fmt: skip
        (folder / ini).write_text(TOY_INI.format(path))
        arguments = ["--moses-ini", ini, "--moses-ini-out", new, "--quiet"]
        done = run("rescore", table, output, "--model", model_path, *arguments)
        assert (done.code, done.out) == (0, "")
        text = (folder / new).read_text()
        found = re.search(r"path=(\S+)", text)
        before = TOY_INI.format(found[1]).replace("num-features=2", "num-features=3")
        assert text == before.replace("0.2 0.3", "0.2 0.3 0.1")
        return found[1], done.err

    return call


def test_absolute_path_stays_absolute(rescored, folder):
    path, said = rescored(str(folder / "t"), "out.gz")
    assert path == str(folder / "out.gz")
    assert said == "4 entries scored\nnew.ini: TM0 with 3 scores; tune it\n"


def test_path_relative_to_the_current_folder(rescored, folder):
    assert rescored("t", "out.gz")[0] == "out.gz"
    (folder / "model").mkdir()
    assert rescored("t", "model/out.gz")[0] == "model/out.gz"


def test_path_relative_to_the_folder_of_the_ini(rescored, folder):
    (folder / "model").mkdir()
    assert rescored("../t", "model/out.gz", "model/ini", "model/new.ini")[0] == "out.gz"
    assert rescored("../t", "out.gz", "model/ini", "model/newer.ini")[0] == "../out.gz"


def test_paths_hold_from_the_folder_of_the_new_ini(rescored, folder):
    (folder / "model").mkdir()
    assert rescored("../t", "out.gz", "model/ini")[0] == "out.gz"
    assert rescored("t", "out2.gz", "ini", "model/new.ini")[0] == "../out2.gz"


def test_all_relative_paths_hold_from_the_folder_of_the_new_ini(run, folder, model_path):
    (folder / "model").mkdir()
    (folder / "out").mkdir()
    (folder / "model" / "t").write_bytes(TOY_TABLE)
    (folder / "model" / "lm.arpa").write_bytes(b"")
    more = f"KENLM name=LM0 path=lm.arpa\nKENLM name=LM1 path={folder}/lm\nKENLM path=no/lm\n"
    ini = TOY_INI.format("t").replace("[weight]", more + "[weight]")
    (folder / "model" / "ini").write_text(ini)
    arguments = ["--moses-ini", "model/ini", "--moses-ini-out", "out/ini", "--quiet"]
    done = run("rescore", "model/t", "out/new.gz", "--model", model_path, *arguments)
    assert done.code == 0
    found = re.findall(r"path=(\S+)", (folder / "out" / "ini").read_text())
    assert found == ["new.gz", "../model/lm.arpa", f"{folder}/lm", "../model/no/lm"]


def test_new_table_may_have_the_name_that_the_old_one_has_elsewhere(rescored, folder):
    """What `path=` leads to is decided before the new file is there."""
    (folder / "model").mkdir()
    (folder / "t").rename(folder / "model" / "t")
    assert rescored("t", "t", "model/ini", table="model/t")[0] == "t"


def test_table_that_is_not_there_is_known_by_its_name(rescored, folder):
    assert rescored("elsewhere/t", "out.gz")[0] == str(folder / "out.gz")


@pytest.mark.parametrize("named", ["other", "elsewhere/other.gz"])
def test_table_that_the_ini_does_not_name(named, run, folder, model_path):
    (folder / "t").write_bytes(TOY_TABLE)
    (folder / "other").write_bytes(TOY_TABLE)
    (folder / "ini").write_text(TOY_INI.format(named))
    done = run("rescore", "t", "out", "--model", model_path, "--moses-ini", "ini")
    assert (done.code, done.out, done.error) == (1, "", f"ini:3: names {named}, not t")
    assert names(folder) == ["ini", "other", "t"]


def test_start_weight(run, folder, model_path):
    (folder / "t").write_bytes(TOY_TABLE)
    (folder / "ini").write_text(TOY_INI.format("t"))
    arguments = ["--moses-ini", "ini", "--moses-ini-out", "new", "--weight", "0.25", "--quiet"]
    assert run("rescore", "t", "out", "--model", model_path, *arguments).code == 0
    assert "TM0= 0.2 0.3 0.25\n" in (folder / "new").read_text()


def test_ini_without_a_new_name_is_only_checked(run, folder, model_path):
    (folder / "t").write_bytes(TOY_TABLE)
    (folder / "ini").write_text(TOY_INI.format("t"))
    done = run("rescore", "t", "out", "--model", model_path, "--moses-ini", "ini", "--quiet")
    assert done.code == 0
    assert done.err == "4 entries scored\n--moses-ini-out not given: ini was only checked\n"
    assert names(folder) == ["ini", "out", "out.signature.json", "t"]


def test_what_is_stale_is_told(run, folder, model_path):
    (folder / "t").write_bytes(TOY_TABLE)
    (folder / "ini").write_text(TOY_INI.format("t"))
    (folder / "filtered").mkdir()
    done = run("rescore", "t", "out", "--model", model_path, "--moses-ini", "ini", "--quiet")
    assert done.err.splitlines()[1] == (
        f"warning: {Path('filtered')}: tables filtered before are reused; delete it or filter "
        "into a new folder"
    )


def test_several_tables_in_one_ini(run, folder, model_path):
    (folder / "t").write_bytes(TOY_TABLE)
    second = "PhraseDictionaryMemory name=TM1 num-features=2 path=t\n[weight]\nTM1= 1 1\n"
    (folder / "ini").write_text(TOY_INI.format("u") + "[feature]\n" + second)
    arguments = ["--moses-ini", "ini", "--moses-ini-out", "new", "--quiet"]
    done = run("rescore", "t", "out", "--model", model_path, *arguments)
    expected = "ini: several phrase tables: TM0, TM1; choose one with --table-name"
    assert (done.code, done.error) == (2, expected)
    done = run("rescore", "t", "out", "--model", model_path, *arguments, "--table-name", "TM1")
    assert done.code == 0
    new = second.replace("=2 path=t", "=3 path=out").replace("1 1", "1 1 0.1")
    assert (folder / "new").read_text() == TOY_INI.format("u") + "[feature]\n" + new


def test_estimate_writes_nothing(run, folder, model_path):
    (folder / "t").write_bytes(TOY_TABLE + b"Haus Haus Haus ||| house ||| 1 1\n")
    done = run("rescore", "t", "out", "--model", model_path, "--estimate", "--quiet")
    assert done.code == 0
    shown = done.out.splitlines()
    assert shown[:4] == [
        "entries            5 (sample: 5)",
        "distinct sources   5 in the sample, 1.00 targets each",
        "unknown words      source: 30.00% of 10",
        "unknown words      target: 0.00% of 8",
    ]
    assert re.fullmatch(r"speed              [\d,]+ entries/s", shown[4])
    assert done.err == UNKNOWN.format("30%", "first 10 source", "Haus") + "\n"
    assert names(folder) == ["t"]


# -- pipes, progress, Ctrl-C -----------------------------------------------------------------------


@pytest.mark.slow
def test_rescore_in_a_pipe(folder, model_path, run):
    (folder / "t").write_bytes(TOY_TABLE)
    assert run("rescore", "t", "out", "--model", model_path, "--quiet").code == 0
    for name in ("t", "out", "out.signature.json"):
        assert (folder / name).exists()
    done = program(
        *["rescore", "-", "-", "--model", model_path, "--quiet"], input=gzip.compress(TOY_TABLE)
    )
    assert (done.returncode, done.stderr) == (0, b"4 entries scored\n")
    assert done.stdout == (folder / "out").read_bytes()
    assert names(folder) == ["out", "out.signature.json", "t"]


def test_progress_does_not_share_the_line_of_an_error(run, folder, model_path):
    (folder / "t").write_bytes(TOY_TABLE * 10_000 + b"broken\n")
    done = run("rescore", "t", "out", "--model", model_path)
    assert done.code == 1
    *_, note, error = done.err.splitlines()
    assert error == f'error: t:40001: 1 field, {FEW}: "broken"'
    assert note == "32,768 lines are done and stay in out.partial; --resume goes on with them"
    assert names(folder) == ["out.journal", "out.partial", "t"]


def test_ctrl_c_in_rescore_leaves_nothing(folder, model_path, monkeypatch, run):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    (folder / "t").write_bytes(TOY_TABLE)
    monkeypatch.setattr(PhraseScorer, "score_block", interrupted)
    done = run("rescore", "t", "out", "--model", model_path, "--quiet")
    assert (done.code, done.err) == (130, "\ninterrupted\n")
    assert names(folder) == ["t"]


@pytest.mark.slow
def test_names_that_are_not_utf8(folder, model_path):
    """They come through journal, signature, moses.ini and messages as they are."""
    table, output, ini = (os.fsdecode(b"\xff." + name) for name in (b"t", b"o", b"i"))
    (folder / table).write_bytes(TOY_TABLE)
    (folder / ini).write_text(TOY_INI.format(table), errors="surrogateescape")
    inis = ["--moses-ini", ini, "--moses-ini-out", f"{ini}.new"]
    model = ["--model", model_path, "--quiet"]
    done = program("rescore", table, output, *model, "--resume", *inis)
    assert (done.returncode, done.stdout) == (0, b"")
    signature = json.loads((folder / f"{output}.signature.json").read_bytes())
    assert signature["input"]["name"] == table
    assert os.fsencode(f" path={output} ") in (folder / f"{ini}.new").read_bytes()
    done = program("rescore", output, "again", *model)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: \\xff.o: score 3 of each line is already p(target")
    (folder / table).write_bytes(TOY_TABLE + b"bad\n")
    done = program("rescore", table, *model, "--estimate")
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert done.stderr.startswith(b"error: \\xff.t:5: 1 field, ")


@pytest.mark.parametrize("name", ["out", "out.partial", "out.journal", "out.signature.json"])
@pytest.mark.parametrize("kind", ["table", "moses.ini", "model"])
def test_no_input_is_a_file_that_is_written(kind, name, run, folder, model_path):
    """A model is read again by every process: its files, too, stay as they are."""
    inputs = {"table": folder / "t", "moses.ini": folder / "ini", "model": folder / "m"}
    inputs["table"].write_bytes(TOY_TABLE)
    inputs["moses.ini"].write_text(TOY_INI.format("t"))
    shutil.copytree(model_path, inputs["model"])
    if kind == "model":
        (folder / "m" / "model.safetensors").rename(folder / name)
        (folder / "m" / "model.safetensors").symlink_to(folder / name)
    else:
        inputs[kind].rename(folder / name)
        inputs[kind] = folder / name
    if kind == "table":
        inputs["moses.ini"].write_text(TOY_INI.format(name))
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    options = ["--model", "m", "--moses-ini", inputs["moses.ini"].name, "--quiet"]
    done = run("rescore", inputs["table"].name, "out", *options)
    assert (done.code, done.out) == (1, "")
    assert done.err.count("\n") == 1
    assert "overwrite" in done.err or "not from an unfinished run" in done.err
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert after == before
