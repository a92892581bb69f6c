"""How an error of the system is told, and names that no terminal should be given."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import time
from importlib import import_module

import click
import pytest
from toys import PROGRAM, TOY_TABLE

from phrase_scorer.cli.groups import SPEECH
from phrase_scorer.errors import DataError
from phrase_scorer.runtime.console import Manner, detail, manner, note, progress_bar, say
from phrase_scorer.runtime.console import run as run_group
from phrase_scorer.runtime.progress import LoggedProgress
from phrase_scorer.runtime.report import write_json

ODD = os.fsdecode(b"caf\xe9\n\x1b[31m")  # Latin-1, a line end, a terminal's escape sequence


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError("libcudart.so.13: cannot open shared object file"), None),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "Cannot allocate memory"),
        (OSError(errno.EIO, "Input/output error", "f"), "f: Input/output error"),
        (OSError(errno.EIO, "Input/output error", b"f\xe9"), "f\\xe9: Input/output error"),
    ],
)
def test_an_error_of_the_system_is_not_blamed_on_standard_output(error, said, capsys):
    @click.command()
    def command() -> None:
        raise error

    assert run_group(command, []) == 1  # type: ignore[arg-type]
    assert capsys.readouterr().err == f"error: {said or error}\n"


def test_messages_are_one_line_without_escape_sequences(capsys):
    say(f"written: {ODD}")
    assert capsys.readouterr().err == "written: caf\\xe9\\n\\x1b[31m\n"


def test_of_a_very_long_message_both_ends_are_told(capsys):
    say(f"error: {'[' * 5000}: File name too long")
    said = capsys.readouterr().err
    assert len(said) < 1000
    assert said.startswith("error: [[[")
    assert said.endswith("[[[: File name too long\n")


def test_names_that_are_not_utf8_on_standard_output_and_in_json(tmp_path):
    name = os.fsencode(ODD)
    (tmp_path / ODD).write_bytes(TOY_TABLE)
    for command in (["check", name], ["check", b"no" + name]):
        done = subprocess.run(
            [*PROGRAM, *command], cwd=tmp_path, capture_output=True, timeout=60, check=False
        )
        assert b"Traceback" not in done.stderr
        assert done.stdout.startswith(b"caf\\udce9\n") == (command[1] == name)
    assert done.stderr == b"error: nocaf\\xe9\\n\\x1b[31m: cannot read: No such file or directory\n"
    write_json(tmp_path / "j", {"name": ODD})
    assert (tmp_path / "j").read_bytes() == b'{\n  "name": "caf\\udce9\\n\\u001b[31m"\n}\n'


def test_usage_errors_are_one_line(capsys):
    @click.command()
    @click.option("--kind", type=click.Choice(["a", "b"]), required=True)
    def command(kind: str) -> None:
        raise AssertionError(kind)

    assert run_group(command, []) == 2  # type: ignore[arg-type]
    expected = "error: Missing option '--kind'. Choose from: a, b. See phrase-scorer --help.\n"
    assert capsys.readouterr().err == expected
    assert sys.stdout.errors == "backslashreplace"


# -- how much is said ------------------------------------------------------------------------------


def speaking(*arguments: str) -> list[str]:
    """What a command says on each level."""

    @click.command()
    def command() -> None:
        assert not manner().debug or "--debug" in arguments
        note("begun")
        say("warning: odd")
        say("done")
        detail("cpu")

    command.params.extend(SPEECH)
    return list(arguments) if run_group(command, arguments) else []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["begun", "warning: odd", "done"]),
        (["--quiet"], ["warning: odd", "done"]),
        (["-q", "-q"], ["warning: odd", "done"]),
        (["-v"], ["begun", "warning: odd", "done", "cpu"]),
        (["--debug"], ["begun", "warning: odd", "done"]),
    ],
)
def test_how_much_is_said(arguments, expected, capsys):
    assert speaking(*arguments) == []
    said = capsys.readouterr().err.splitlines()
    if "-v" in arguments:
        cost = r"\d\.\d seconds, \d+\.\d of processors; peak memory [\d,]+ MB"
        assert re.fullmatch(cost, said.pop())
    assert said == expected
    assert manner() == Manner()  # of the next command


def test_nobody_is_quiet_and_verbose(capsys):
    assert speaking("-q", "--verbose")
    expected = "error: --quiet and --verbose contradict each other; give one of them\n"
    assert capsys.readouterr().err == expected


def test_debugging_by_the_environment(monkeypatch, capsys):
    @click.command()
    def command() -> None:
        raise DataError("bad", path="f")

    for value, is_shown in (("1", True), ("0", False), ("", False)):
        monkeypatch.setenv("PHRASE_SCORER_DEBUG", value)
        assert run_group(command, []) == 1  # type: ignore[arg-type]
        said = capsys.readouterr().err
        assert said.endswith("error: f: bad\n")
        assert said.startswith("Traceback") == is_shown


# -- what cannot be imported -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (None, "the package odd_one is not installed: pip install odd_one"),
        (
            "raise OSError('libcudart.so.13: cannot open shared object file')",
            "the package odd_one is broken (libcudart.so.13: cannot open shared object file): "
            "pip install --force-reinstall odd_one",
        ),
        (
            "import no_such_module",
            "the package odd_one is broken (No module named 'no_such_module'): "
            "pip install --force-reinstall odd_one",
        ),
        (
            "from math import nothing",
            "the package odd_one is broken (cannot import name 'nothing' from 'math' "
            "(unknown location)): pip install --force-reinstall odd_one",
        ),
    ],
)
@pytest.mark.parametrize("how", ["function", "statement"])
def test_a_package_that_cannot_be_imported_is_named(
    how, body, expected, tmp_path, monkeypatch, capsys
):
    """Python takes its own frames out of the traceback of a statement."""

    @click.command()
    def command() -> None:
        if how == "function":
            import_module("odd_one.inner")
        import odd_one.inner  # noqa: F401

    monkeypatch.syspath_prepend(tmp_path)
    if body is not None:
        (tmp_path / "odd_one").mkdir()
        (tmp_path / "odd_one" / "__init__.py").write_text(body)
    assert run_group(command, []) == 1  # type: ignore[arg-type]
    said = re.sub(r" \(/[^)]*\)", " (unknown location)", capsys.readouterr().err)
    assert said == f"error: {expected}\n"


# -- progress --------------------------------------------------------------------------------------


def test_progress_in_a_log_is_whole_lines(monkeypatch, capsys):
    monkeypatch.setattr("phrase_scorer.runtime.progress.LOG_SECONDS", 0.2)
    with progress_bar("training", show=True, total=400, unit=" pairs") as bar:
        for number in range(200):
            time.sleep(0.003)
            bar.set_postfix({"nats": f"{1.4:.2f}"}, refresh=False)
            bar.update(1 + (number % 2))
    lines = capsys.readouterr().err.splitlines(keepends=True)
    assert 1 <= len(lines) <= 4
    pattern = r"training: \d+ %, [0-3] s left, [\d,]+ pairs/s, nats 1\.40\n"
    assert all(re.fullmatch(pattern, line) for line in lines), lines


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"total": 100, "unit": "B"}, r"what: 50 %, .* left, 0\.0 MB/s"),
        ({"unit": " entries"}, r"what: 50 entries, .* entries/s"),
        ({"total": 100, "unit": ""}, r"what: 50 %, .* left"),
    ],
)
def test_a_line_of_progress(options, expected):
    with LoggedProgress(desc="what", **options) as bar:
        bar.update(50)
        time.sleep(0.01)
        assert re.fullmatch(expected, bar.line())


def test_short_work_and_a_quiet_command_show_no_progress(capsys):
    with progress_bar("training", show=True, total=2) as bar:
        bar.update(2)
    assert capsys.readouterr().err == ""
