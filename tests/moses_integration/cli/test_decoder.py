"""`filter`, `tune` and `decode` as a user meets them: what they print, their exit codes."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from toys import names

FEATURE = "PhraseDictionaryMemory name=TM0 num-features=2 path=t.gz input-factor=0"
INI = f"[feature]\n{FEATURE}\nDistortion\n[weight]\nTM0= 0.2 0.3\nDistortion0= 0.3\n"
NONE = "the Moses program moses is not in none; give --moses-bin DIR"


@pytest.fixture(autouse=True)
def folder(folder: Path) -> Path:
    """The current folder, with a small model and a tuning set."""
    Path("t.gz").write_bytes(gzip.compress(b"a ||| b ||| 1 1\nc ||| d ||| 1 1\n"))
    Path("ini").write_text(INI)
    Path("s").write_text("a\n")
    Path("r").write_text("b\n")
    return folder


# -- filter ----------------------------------------------------------------------------------------


def test_filter_tells_what_it_kept(run, folder):
    Path("more.gz").write_bytes(gzip.compress(b"x\n"))
    command = ["filter", "--moses-ini", "ini", "--output-dir", "f", "--quiet"]
    code, out, err = run(*command, "--input", "s", "more.gz")
    assert (code, out) == (0, "")
    assert err == "t.gz: 1 of 2 entries kept (50.0%)\nf/moses.ini names them\n"
    assert names(folder / "f") == ["moses.ini", "t.gz"]
    text = INI.replace("path=t.gz", f"path={folder}/f/t.gz")
    assert Path("f/moses.ini").read_text() == text


def test_longest_phrase(run, folder):
    Path("t.gz").write_bytes(gzip.compress(b"a ||| b ||| 1 1\na a ||| d ||| 1 1\n"))
    Path("s").write_text("a a\n")
    command = ["filter", "--moses-ini", "ini", "--input", "s", "--quiet", "--longest"]
    for longest, kept in ((1, 1), (2, 2)):
        _, _, err = run(*command, longest, "--output-dir", f"f{longest}")
        assert err.startswith(f"t.gz: {kept} of 2 entries kept")


FILTER_ERRORS = {
    "folder in use": (
        ["--input", "s", "--output-dir", "full"],
        2,
        "--output-dir full is not empty",
    ),
    "no input": (["--input", "no", "--output-dir", "f"], 1, "no: cannot read: No such file or dir"),
    "a file": (["--input", "s", "--output-dir", "s"], 2, "--output-dir s: File exists"),
    "nowhere": (["--input", "s", "--output-dir", "a/b"], 2, "--output-dir a/b: No such file or"),
}


@pytest.mark.parametrize("kind", FILTER_ERRORS)
def test_filter_errors(kind, run):
    Path("full").mkdir()
    Path("full/x").touch()
    arguments, expected, said = FILTER_ERRORS[kind]
    code, out, err = run("filter", "--moses-ini", "ini", *arguments, "--quiet")
    assert (code, out, err.count("\n")) == (expected, "", 1)
    assert err.startswith(f"error: {said}")


# -- tune ------------------------------------------------------------------------------------------

TUNE = ["tune", "--moses-ini", "ini", "--reference", "r", "--working-dir", "w"]


def test_tune_without_moses(run, folder):
    assert run(*TUNE, "--source", "s", "--moses-bin", "none") == (2, "", f"error: {NONE}\n")
    assert "w" not in names(folder)


@pytest.fixture
def told(run):
    """Runs `tune` with a shell script that only tells a version: it does not come to Moses."""
    Path("bin").mkdir()
    Path("bin/moses").write_text("#!/bin/sh\necho 'Moses code version'; echo '  v4'\n")
    Path("bin/moses").chmod(0o755)

    def call(*options: object) -> tuple[int, str]:
        code, out, err = run(*TUNE, *options, "--moses-bin", "bin")
        assert out == ""
        if code == 2:  # refused before Moses is asked for its version
            return code, err.splitlines(keepends=True)[-1]
        first, _, rest = err.partition("\n")
        assert re.fullmatch(r"Moses v4 in /\S+/bin", first)
        return code, rest

    return call


TUNE_ERRORS = {
    "no source": ([], 2, "give --source FILE, the tuning set (or --rescore-nbest LIST)"),
    "no runs": (
        ["--source", "s", "--runs", "0"],
        2,
        "--runs must be a whole number from 1 to 2147483647, not 0",
    ),
    "quotes": (
        ["--source", "s", "--decoder-flags", "'"],
        2,
        '--decoder-flags: No closing quotation: "\'"',
    ),
    "n-best and source": (
        ["--source", "s", "--rescore-nbest", "n"],
        2,
        "--rescore-nbest goes without --source, --resume and --runs",
    ),
    "n-best and resume": (
        ["--resume", "--rescore-nbest", "n"],
        2,
        "--rescore-nbest goes without --source, --resume and --runs",
    ),
    "n-best and runs": (
        ["--runs", "2", "--rescore-nbest", "n"],
        2,
        "--rescore-nbest goes without --source, --resume and --runs",
    ),
    "no such source": (["--source", "no"], 1, "{}/no: cannot read: No such file or directory"),
}


@pytest.mark.parametrize("kind", TUNE_ERRORS)
def test_tune_errors(kind, told, folder):
    options, code, said = TUNE_ERRORS[kind]
    assert told(*options) == (code, f"error: {said.format(folder)}\n")
    assert "w" not in names(folder)


def test_tune_in_a_folder_with_blanks(run, told, folder):
    code, _, err = run(
        "tune", "--moses-ini", "ini", "--source", "s", "--reference", "r",
        "--working-dir", "w w", "--moses-bin", "bin",
    )  # fmt: skip
    why = "mert-moses.pl cannot use a path with blanks, or what means something to a shell"
    assert code == 2
    assert err.splitlines() == [f'error: {why}: "{folder}/w w"']


def test_tune_with_a_moses_without_scripts(told, folder):
    code, err = told("--source", "s")
    assert code == 2
    script = f"the Moses script training/mert-moses.pl is not in {folder}/scripts"
    assert err.splitlines()[-1] == f"error: {script}; give --moses-scripts DIR"


# -- decode ----------------------------------------------------------------------------------------

DECODE_ERRORS = {
    "no moses": (["--moses-bin", "none"], NONE),
    "segmentation": (["--segmentation"], "--segmentation needs --nbest FILE N"),
    "distinct": (["--distinct"], "--distinct needs --nbest FILE N"),
    "quotes": (["--decoder-flags", '"x'], '--decoder-flags: No closing quotation: ""x"'),
    "log": (["--log", "no/log"], "the log no/log: there is no folder no"),
    "input": (["--output", "s"], "s: the output would overwrite the input", 1),
    "list": (["--nbest", "s", "5"], "s: the output would overwrite the input", 1),
    "both": (["--nbest", "o", "5"], "o: the n-best list would overwrite the translations", 1),
    "moses2": (
        ["--decoder", "moses2", "--nbest", "n", "5", "--alignment"],
        "moses2 writes no segmentation and no alignment into n-best lists",
    ),
}


@pytest.mark.parametrize("kind", DECODE_ERRORS)
def test_decode_errors(kind, told, run, folder):
    options, said, *exit_code = DECODE_ERRORS[kind]
    for usual in (["--output", "o"], ["--moses-bin", "bin"]):
        options = options if usual[0] in options else [*options, *usual]
    done = run("decode", "--moses-ini", "ini", "--input", "s", "--quiet", *options)
    assert done == (exit_code[0] if exit_code else 2, "", f"error: {said}\n")
    assert names(folder) == ["bin", "ini", "r", "s", "t.gz"]


def test_decode_checks_the_model(told, run):
    Path("ini").write_text(INI.replace("num-features=2", "num-features=1").replace("0.2 0.3", "1"))
    command = ["decode", "--moses-ini", "ini", "--input", "s", "--output", "o"]
    line = FEATURE.replace("=2", "=1")
    expected = f'ini:2: num-features is 1 but the phrase table has 2 scores: "{line}"'
    assert run(*command, "--moses-bin", "bin") == (1, "", f"error: {expected}\n")


@pytest.mark.moses
def test_decode_from_standard_input_to_standard_output(moses, moses_model, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    ini = moses_model / "new" / "moses.ini"
    command = [sys.executable, "-m", "moses_integration", "decode", "--moses-ini", ini, "--quiet"]
    source = (moses_model / "tune.en").read_bytes().splitlines()[:3]
    done = subprocess.run(
        [*command, "--nbest", "n.gz", "2"], input=b"\n".join(source), cwd=work,
        capture_output=True, timeout=60,
    )  # fmt: skip
    said = rf"3 sentences translated by Moses {re.escape(moses.version)}; its log is decode.log\n"
    assert done.returncode == 0
    assert re.fullmatch(said, done.stderr.decode())
    assert done.stdout.count(b"\n") == 3
    best = gzip.decompress((work / "n.gz").read_bytes()).decode().splitlines()
    found = {line.split(" ||| ")[0]: line.split(" ||| ")[1].strip() for line in reversed(best)}
    assert [found[str(n)] for n in range(3)] == done.stdout.decode().splitlines()
    assert names(work) == ["decode.log", "n.gz"]


@pytest.mark.moses
def test_decode_into_fifos(moses_model, run, folder):
    source = (moses_model / "tune.en").read_bytes().splitlines(keepends=True)[:3]
    Path("in").write_bytes(b"".join(source))
    ini, fifos, read = moses_model / "new" / "moses.ini", ["o", "n.gz"], {}
    command = ["decode", "--moses-ini", ini, "--input", "in", "--log", "log", "--quiet"]
    for name in fifos:
        os.mkfifo(name)

    def read_fifo(name: str) -> None:
        read[name] = Path(name).read_bytes()

    readers = [
        threading.Thread(target=read_fifo, args=[name], daemon=True) for name in ("o", "n.gz")
    ]
    for reader in readers:
        reader.start()
    assert run(*command, "--output", "o", "--nbest", "n.gz", "2").code == 0
    for reader in readers:
        reader.join(20)
    assert read["o"].count(b"\n") == 3
    assert gzip.decompress(read["n.gz"]).startswith(b"0 ||| ")
    assert all(Path(name).is_fifo() for name in fifos)
    assert names(folder) == ["in", "ini", "log", "n.gz", "o", "r", "s", "t.gz"]


@pytest.mark.moses
def test_failing_decoder_is_told_in_one_line(moses_model, run, folder):
    if shutil.which("moses") is None:
        pytest.skip("moses is not on PATH")
    ini = moses_model / "new" / "moses.ini"
    command = ["decode", "--moses-ini", ini, "--input", "s", "--output", "o", "--quiet"]
    code, out, err = run(*command, "--decoder-flags", "--no-such-option")
    said = 'moses failed with exit code 1: "illegal switch: -no-such-option"; its log is o.log'
    assert (code, out, err) == (1, "", f"error: {said}\n")
    assert names(folder) == ["ini", "o.log", "r", "s", "t.gz"]


def test_help_of_every_command(run):
    for command in ("filter", "tune", "decode"):
        code, out, err = run(command, "--help")
        assert (code, err) == (0, "")
        assert "Example" in out
