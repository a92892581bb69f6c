"""How an error of the system is told, and names that no terminal should be given."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import click
import pytest
from toys import PROGRAM, TOY_TABLE

from phrase_scorer.runtime.console import run as run_group
from phrase_scorer.runtime.console import say
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
