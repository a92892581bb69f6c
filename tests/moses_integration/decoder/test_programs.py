"""Programs are found, run, logged and ended: checked with ordinary programs of the system."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from moses_integration.decoder.programs import Moses, ProgramError, Usage, last_lines, run_program
from phrase_scorer.errors import UsageError
from phrase_scorer.runtime.output import locked_folder

VERSION = "Moses code version (git tag or commit hash):\n  v4.0-3-g12345\nLibraries used:\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder; no variable of the environment names Moses."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MOSES_BIN", raising=False)
    monkeypatch.delenv("MOSES_SCRIPTS", raising=False)
    return tmp_path


def script(path: str, text: str) -> Path:
    """An executable sh script."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(f"#!/bin/sh\n{text}\n")
    Path(path).chmod(0o755)
    return Path(path).resolve()


def sh(text: str, **options: object) -> Usage:
    return run_program(["sh", "-c", text], log="log", **options)


def error_of(text: str, **options: object) -> str:
    with pytest.raises(ProgramError) as caught:
        sh(text, **options)
    assert caught.value.exit_code == 1
    return str(caught.value)


# -- run -------------------------------------------------------------------------------------------


def test_output_error_and_input(folder):
    Path("in").write_bytes(b"one\ntwo\xff\nlast")
    lines: list[bytes] = []
    sh("cat; echo told >&2", stdin="in", on_line=lines.append)
    assert lines == [b"one\n", b"two\xff\n", b"last"]
    log = Path("log").read_bytes().splitlines()
    assert log[:2] == [b"# sh -c 'cat; echo told >&2'", b"told"]
    assert re.fullmatch(rb"# exit code 0; \d+\.\d s, peak memory (at most )?\d+ MB", log[2])
    assert len(log) == 3


def test_output_goes_into_the_log_where_nobody_reads_it():
    sh("echo out; echo err >&2; cat")  # standard input is empty
    assert Path("log").read_text().splitlines()[1:3] == ["out", "err"]


def test_log_of_several_programs():
    sh("printf 'no line end'")
    sh("echo second")
    lines = Path("log").read_text().splitlines()
    assert [line.startswith("# ") for line in lines] == [True, False, True, True, False, True]
    assert (lines[1], lines[4]) == ("no line end", "second")


def test_folder_and_environment(folder):
    Path("there").mkdir()
    lines: list[bytes] = []
    command = 'pwd; echo "$NEW $HOME"'
    sh(command, cwd="there", environment={"NEW": "x y"}, on_line=lines.append)
    assert lines == [f"{folder}/there\n".encode(), f"x y {os.environ['HOME']}\n".encode()]


def test_time_and_memory():
    code = "import time; held = bytearray(b'x') * 900_000_000; time.sleep(0.1)"
    usage = run_program([sys.executable, "-c", code], log="log")
    assert 0.1 <= usage.seconds < 30
    # A test process with a CUDA build of torch may itself hold more.
    assert 900e6 < usage.peak_memory < max(950e6, usage.own_peak + 50e6)
    assert Path("log").read_text().splitlines()[-1] == f"# exit code 0; {usage}"


def test_memory_of_a_small_program_is_not_told_for_ours():
    """Linux counts what the starting process held until the program took its place."""
    held = bytearray(b"x") * 200_000_000
    usage = sh(":")
    assert len(held) < usage.peak_memory <= usage.own_peak
    assert re.search(r"peak memory at most \d+ MB\n$", Path("log").read_text())
    assert str(Usage(1.25, 3_400_000, 5_000_000)) == "1.2 s, peak memory at most 3 MB"
    assert str(Usage(1.25, 3_400_000, 3_000_000)) == "1.2 s, peak memory 3 MB"


def test_command_of_any_bytes():
    sh(":", environment={"X": "\udcff"})
    run_program(["true", "caf\udce9"], log="log")
    assert b"# true 'caf\xe9'\n" in Path("log").read_bytes()


# -- failures --------------------------------------------------------------------------------------


def test_exit_code_and_last_lines():
    text = "for i in 1 2 3 4; do echo line $i >&2; done; echo; exit 7"
    expected = 'sh failed with exit code 7: "line 2" "line 3" "line 4"; its log is log'
    assert error_of(text) == expected
    assert re.search(r"\n# exit code 7; \d", Path("log").read_text())


def test_silent_failure():
    assert error_of("exit 1") == "sh failed with exit code 1: it said nothing; its log is log"


def test_messages_of_earlier_programs_are_not_this_ones():
    sh("echo all is well")
    assert error_of("exit 1") == "sh failed with exit code 1: it said nothing; its log is log"


def test_last_line_without_an_end():
    expected = 'sh failed with exit code 2: "bad"; its log is log'
    assert error_of("printf bad >&2; exit 2") == expected


def test_control_characters_are_escaped():
    expected = 'sh failed with exit code 1: "\\x1b[31mred"; its log is log'
    assert error_of("printf '\\033[31mred\\n' >&2; exit 1") == expected


@pytest.mark.parametrize("name", ["SEGV", "KILL", "ABRT"])
def test_signal(name):
    expected = f"sh was ended by SIG{name}: it said nothing; its log is log"
    assert error_of(f"ulimit -c 0; kill -{name} $$") == expected


def test_scripts_are_called_by_their_name():
    Path("some-script.pl").write_text("die 'reason'")
    with pytest.raises(ProgramError) as caught:
        run_program(["perl", Path("some-script.pl")], log="log")
    expected = 'some-script.pl failed with exit code 255: "reason at some-script.pl line 1."'
    assert str(caught.value) == f"{expected}; its log is log"


def test_program_is_not_there():
    with pytest.raises(UsageError) as caught:
        run_program(["/no/such/program"], log="log")
    expected = "cannot run program: /no/such/program: No such file or directory"
    assert str(caught.value) == expected
    assert caught.value.exit_code == 2


def test_program_cannot_be_executed():
    Path("text").touch()
    with pytest.raises(UsageError) as caught:
        run_program(["./text"], log="log")
    assert str(caught.value) == "cannot run text: ./text: Permission denied"


def test_log_and_input_that_cannot_be_opened():
    for options, name in (({"log": "no/log"}, "no/log"), ({"log": "log", "stdin": "no"}, "no")):
        with pytest.raises(UsageError) as caught:
            run_program(["true"], **options)
        assert str(caught.value) == f"cannot run true: {name}: No such file or directory"


def test_last_lines_without_a_log():
    assert last_lines("no") == "no log"


# -- all that was started ends ---------------------------------------------------------------------

# A child and a grandchild note their numbers; then all wait.
FAMILY = "sh -c 'sleep 300 & echo $! >> pids; echo $$ >> pids; wait' & echo $$ >> pids; wait"
STUBBORN = "trap '' TERM INT; " + FAMILY.replace("sh -c '", 'sh -c \'trap "" TERM INT; ')

CALLER = """
import signal, sys, click
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
from moses_integration.decoder import programs
from phrase_scorer.runtime.console import run
programs.PATIENCE = 0.5

@click.command()
def command():
    programs.run_program(["sh", "-c", sys.argv[1]], log="log", on_line=None)

@click.group()
def group(): pass
group.add_command(command)
sys.exit(run(group, ["command"]))
"""


def pids(count: int) -> list[int]:
    """Those that FAMILY noted, once all are there."""
    for _ in range(200):
        found = Path("pids").read_text().split() if Path("pids").exists() else []
        if len(found) == count:
            return [int(pid) for pid in found]
        time.sleep(0.05)
    raise AssertionError("the family did not start")


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_the_end_of(numbers: list[int]) -> None:
    for _ in range(100):
        if not any(map(running, numbers)):
            return
        time.sleep(0.05)
    raise AssertionError(f"still running: {[pid for pid in numbers if running(pid)]}")


@pytest.mark.parametrize("family", [FAMILY, STUBBORN], ids=["willing", "stubborn"])
@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGINT, 130, b"\ninterrupted\n"), (signal.SIGTERM, 143, b"")],
    ids=["SIGINT", "SIGTERM"],
)
def test_children_and_grandchildren_end_with_the_caller(family, number, code, said):
    command = [sys.executable, "-c", CALLER, family]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as caller:
        numbers = pids(3)
        assert all(map(running, numbers))
        caller.send_signal(number)
        assert caller.wait(30) == code
        assert caller.stderr is not None
        assert caller.stderr.read() == said
    wait_for_the_end_of(numbers)


def test_children_end_where_a_line_is_refused():
    def refuse(line: bytes) -> None:
        raise KeyError(line)

    with pytest.raises(KeyError):
        sh("sleep 300 & echo $! > pids; echo line; wait", on_line=refuse)
    wait_for_the_end_of(pids(1))


def test_children_of_a_program_that_failed_end():
    error_of("sleep 300 & echo $! > pids; exit 3")
    wait_for_the_end_of(pids(1))


# -- Moses -----------------------------------------------------------------------------------------


def test_installation_on_path(folder, monkeypatch):
    moses = script("moses/bin/moses", f"printf '{VERSION}'")
    merts = script("moses/scripts/training/mert-moses.pl", "")
    Path("links").mkdir()
    Path("links/moses").symlink_to(moses)
    monkeypatch.setenv("PATH", f"{folder}/links:{os.environ['PATH']}")
    found = Moses()
    assert found.program("moses") == moses
    assert found.bin == moses.parent
    assert found.scripts == folder / "moses" / "scripts"
    assert found.script("training/mert-moses.pl") == merts
    assert found.version == "v4.0-3-g12345"


def test_options_go_before_the_environment(folder, monkeypatch):
    one, two = script("one/moses", ""), script("two/moses", "")
    Path("s").mkdir()
    monkeypatch.setenv("MOSES_BIN", "one")
    monkeypatch.setenv("MOSES_SCRIPTS", "s")
    assert (Moses().program("moses"), Moses().scripts) == (one, folder / "s")
    assert (Moses("two").program("moses"), Moses("two", "t").scripts) == (two, folder / "t")


def usage_error(moses: Moses, get: str, *arguments: str) -> str:
    with pytest.raises(UsageError) as caught:
        value = getattr(moses, get)
        value(*arguments)
    return str(caught.value)


def test_a_folder_stays_locked_while_a_program_works_in_it(folder):
    """Who starts it may be killed: it goes on, and would write what a resumed run writes, too."""
    started, ends = script("started", "echo begun; cat fifo"), folder / "fifo"
    os.mkfifo(ends)
    code = f"""
from moses_integration.decoder.programs import run_program
from phrase_scorer.runtime.output import locked_folder
with locked_folder("work", "tuning"):
    run_program([{str(started)!r}], log="log", on_line=lambda line: print("begun", flush=True))
"""
    Path("work").mkdir()
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"begun\n"
        process.kill()
    with pytest.raises(UsageError) as caught, locked_folder("work", "tuning"):
        pass
    assert str(caught.value) == "another process is tuning in work"
    ends.write_bytes(b"")  # the program ends
    deadline = time.monotonic() + 10
    while True:
        try:
            with locked_folder("work", "tuning"):
                return
        except UsageError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_no_moses(folder, monkeypatch):
    monkeypatch.setenv("PATH", str(folder))
    expected = "the Moses program moses is not {}; give --moses-bin DIR"
    where = "on PATH, and $MOSES_BIN is not set"
    assert usage_error(Moses(), "program", "moses") == expected.format(where)
    assert usage_error(Moses("b"), "program", "moses") == expected.format("in b")
    Path("moses").touch()  # not executable
    assert usage_error(Moses(), "version") == expected.format(where)


def test_no_script(folder):
    script("moses/bin/moses", "")
    expected = f"the Moses script a/b.pl is not in {folder}/moses/scripts; give --moses-scripts DIR"
    assert usage_error(Moses("moses/bin"), "script", "a/b.pl") == expected


def test_moses_without_a_version_is_too_old(folder):
    moses = script("bin/moses", "echo 'No configuration file was specified' >&2; exit 1")
    expected = f"{moses} tells no version: too old, or not Moses"
    assert usage_error(Moses("bin"), "version") == expected


def test_moses_that_cannot_run(folder):
    moses = script("bin/moses", "")
    moses.write_bytes(b"\x7fELF, but of no machine")
    assert usage_error(Moses("bin"), "version") == f"cannot run {moses}: Exec format error"


@pytest.mark.moses
def test_version_of_the_real_moses(monkeypatch):
    try:
        moses = Moses()
        path = moses.program("moses")
    except UsageError:
        pytest.skip("moses is not on PATH")
    told = subprocess.run([path, "--version"], capture_output=True, check=False, timeout=60)
    assert f"\n   {moses.version}\n".encode() in told.stdout + told.stderr
