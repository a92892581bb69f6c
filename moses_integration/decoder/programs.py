"""The programs of Moses: found, run, watched, ended. This is the only place that starts one.

A program's standard error goes into a log file, with its command before it, its time and memory
after it. A program that fails is reported with its last lines. Programs run in a session of their
own, so that whatever stops us stops them and everything they started.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from phrase_scorer.errors import PhraseScorerError, UsageError, quoted
from phrase_scorer.runtime.console import detail
from phrase_scorer.runtime.output import held_locks, real_path, reason

LAST_LINES = 3  # an error message shows so many of a failed program's log
PATIENCE = 5.0  # seconds between asking a program to end and ending it
VERSION = re.compile(r"Moses code version[^\n]*\n\s*(\S+)")
PEAK = re.compile(rb"VmHWM:\s*(\d+) kB")
PEAK_ERROR = 1_000_000  # bytes: Linux counts pages per core and adds them up now and then

Argument = str | os.PathLike[str]
OnLine = Callable[[bytes], None]


class ProgramError(PhraseScorerError):
    """A program of Moses failed, or did not do what it should have done."""


@dataclass(frozen=True)
class Usage:
    """What a program took."""

    seconds: float
    peak_memory: int  # bytes, of its largest process
    own_peak: int = 0  # bytes, of ours when we started it: Linux counts no less (execve keeps it)

    def __str__(self) -> str:
        below = "at most " if self.peak_memory <= self.own_peak else ""
        return f"{self.seconds:.1f} s, peak memory {below}{self.peak_memory / 1e6:.0f} MB"


@dataclass(frozen=True)
class Moses:
    """An installation of Moses: where its programs and its scripts are.

    Without a folder for the programs, they are in $MOSES_BIN, else where PATH has `moses`; without
    one for the scripts, these are in $MOSES_SCRIPTS, else in `scripts` beside the programs' folder,
    as in Moses' own tree.
    """

    moses_bin: str | Path | None = None
    moses_scripts: str | Path | None = None

    def check(self) -> None:
        """Refuses (UsageError) a Moses that is missing or too old."""
        _ = self.version

    def program(self, name: str) -> Path:
        """The path of a program, say "moses"; UsageError where it is missing."""
        folder = self.moses_bin or os.environ.get("MOSES_BIN")
        found = shutil.which(name, path=str(folder) if folder else None)
        if found is None:
            where = f"in {folder}" if folder else "on PATH, and $MOSES_BIN is not set"
            raise UsageError(f"the Moses program {name} is not {where}; give --moses-bin DIR")
        return real_path(found)

    def has(self, name: str) -> bool:
        """Whether a program is there."""
        try:
            return bool(self.program(name))
        except UsageError:
            return False

    def script(self, name: str) -> Path:
        """The path of a script, say "training/mert-moses.pl"; UsageError where it is missing."""
        path = self.scripts / name
        if not path.is_file():
            where = f"not in {self.scripts}; give --moses-scripts DIR"
            raise UsageError(f"the Moses script {name} is {where}")
        return path

    @cached_property
    def bin(self) -> Path:
        """The folder of the programs."""
        return self.program("moses").parent

    @cached_property
    def scripts(self) -> Path:
        """The folder of the scripts."""
        folder = self.moses_scripts or os.environ.get("MOSES_SCRIPTS")
        return real_path(folder or self.bin.parent / "scripts")

    @cached_property
    def version(self) -> str:
        """The version that `moses` tells, say "mmt-mvp-v0.12.1-3049-g34452895f".

        What is not Moses, or older than feature functions in moses.ini, is refused (UsageError).
        """
        program = self.program("moses")
        try:
            told = subprocess.run(
                [program, "--version"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                timeout=60, check=False,
            )  # fmt: skip
        except OSError as error:
            raise UsageError(f"cannot run {program}: {reason(error)}") from error
        except subprocess.TimeoutExpired as error:
            raise UsageError(f"{program} --version does not end") from error
        found = VERSION.search(told.stdout.decode("utf-8", "replace"))
        if not found:
            raise UsageError(f"{program} tells no version: too old, or not Moses")
        return found.group(1)

    def note_in(self, log: str | Path) -> None:
        """Begins a log with the version and where it is."""
        try:
            with Path(log).open("a") as file:
                file.write(f"# Moses {self.version} in {self.bin}\n")
        except OSError as error:
            raise UsageError(f"cannot write the log {log}: {reason(error)}") from error


def run_program(
    command: Sequence[Argument], *, log: str | Path, cwd: str | Path | None = None,
    stdin: str | Path | None = None, environment: Mapping[str, str] | None = None,
    on_line: OnLine | None = None,
) -> Usage:  # fmt: skip
    """Runs a program to its end.

    Args:
        command: The program and its arguments.
        log: Gets standard error, and standard output too where no `on_line` reads it.
        cwd: The folder to run in.
        stdin: A file to read, or nothing.
        environment: Variables added to our own.
        on_line: Is given every line of standard output, with its line end.

    Raises:
        ProgramError: It failed; the message has the last lines of the log, and its name.
        UsageError: It cannot be started, or the log cannot be written.
    """
    words = [os.fspath(word) for word in command]
    name = Path(words[words[0] == "perl"]).name
    started = time.monotonic()
    detail(f"running {shlex.join(words)}; log: {log}")
    try:
        with Path(log).open("ab") as log_file, Path(stdin or os.devnull).open("rb") as input_file:
            log_file.write(f"# {shlex.join(words)}\n".encode("utf-8", "surrogateescape"))
            log_file.flush()
            start = log_file.tell()
            process = subprocess.Popen(
                words, cwd=cwd, env={**os.environ, **(environment or {})}, start_new_session=True,
                stdin=input_file, stdout=subprocess.PIPE if on_line else log_file, stderr=log_file,
                pass_fds=held_locks,  # should we be killed, it still writes where we did
            )  # fmt: skip
            own_peak = _own_peak()
            code, peak = _watch(process, on_line)
            usage = Usage(time.monotonic() - started, peak, own_peak)
            end = b"" if _ends_line(log) else b"\n"
            log_file.write(end + f"# exit code {code}; {usage}\n".encode())
    except OSError as error:
        raise UsageError(f"cannot run {name}: {error.filename}: {reason(error)}") from error
    if code:
        how = f"failed with exit code {code}"
        if code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
        raise ProgramError(f"{name} {how}: {last_lines(log, start)}; its log is {log}")
    return usage


def _watch(process: subprocess.Popen[bytes], on_line: OnLine | None) -> tuple[int, int]:
    """Reads what the program says until it ends: (exit code, bytes of peak memory)."""
    try:
        if on_line and process.stdout:
            with process.stdout:
                for line in process.stdout:
                    on_line(line)
        _, status, used = os.wait4(process.pid, 0)
    except BaseException:
        end_group(process)
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        end_group(process)  # what it started goes with it
    return process.returncode, used.ru_maxrss * 1024


def _own_peak() -> int:
    """Peak memory of this process in bytes, at most; 0 where the system does not tell."""
    try:
        found = PEAK.search(Path("/proc/self/status").read_bytes())
    except OSError:
        return 0
    return int(found[1]) * 1024 + PEAK_ERROR if found else 0


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends a program and everything it started: asks first, then kills."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(PATIENCE)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def last_lines(log: str | Path, start: int = 0, count: int = LAST_LINES) -> str:
    """The program's own last lines in a log, from byte `start`: quoted, on one line."""
    try:
        text = Path(log).read_bytes()[start:][-10_000:]
    except OSError:
        return "no log"
    lines = [line.strip() for line in text.splitlines()]
    told = [line for line in lines if line and not line.startswith(b"# ")]
    return " ".join(quoted(line) for line in told[-count:]) or "it said nothing"


def _ends_line(path: str | Path) -> bool:
    with Path(path).open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read() == b"\n"
