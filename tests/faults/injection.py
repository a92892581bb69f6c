"""Commands that are stopped, or let down, at the n-th system call on the files of a folder.

A C library (shim.c) is preloaded, for not only Python writes: torch, safetensors and gzip have
their own ways to the system. A server process has it preloaded and everything imported; each run is
a fork of it, which takes milliseconds.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

TESTS = Path(__file__).parent.parent
COMPILER = shutil.which("cc") or shutil.which("gcc")
RUN_SECONDS = 60  # then a run counts as one that never ends

# As in shim.c.
_NOTHING, _KILL_BEFORE, _KILL_HALF, _KILL_AFTER, _FAIL, _FAIL_HALF = range(6)
_POWER_LOST, _POWER_HALF, _POWER_ZEROS = range(6, 9)


@dataclass(frozen=True)
class Fault:
    """What happens at the n-th call."""

    name: str
    mode: int
    error: int = 0
    stays: bool = False  # later calls fail, too
    calls: tuple[str, ...] = ()  # the only ones where it makes a difference; none: all

    @property
    def kills(self) -> bool:
        """Whether the process is gone after it."""
        return self.mode not in (_NOTHING, _FAIL, _FAIL_HALF)

    def concerns(self, call: str) -> bool:
        """Whether it makes a difference at a call of this kind."""
        return not self.calls or call in self.calls


_GROWING = ("open", "write", "writev", "pwrite", "sendfile", "copy", "mkdir", "link", "fsync")
_WRITES = ("write",)
FAULTS = {
    fault.name: fault
    for fault in (
        Fault("kill", _KILL_BEFORE),
        Fault("kill within a write", _KILL_HALF, calls=_WRITES),
        Fault("disk full", _FAIL, errno.ENOSPC, stays=True, calls=_GROWING),
        Fault("disk full within a write", _FAIL_HALF, errno.ENOSPC, stays=True, calls=_WRITES),
        Fault("disk full once", _FAIL, errno.ENOSPC, calls=_GROWING),
        Fault("I/O error", _FAIL, errno.EIO, stays=True),
        Fault("I/O error once", _FAIL, errno.EIO),
        Fault("power cut", _POWER_LOST),
        Fault("power cut, half written", _POWER_HALF),
        Fault("power cut, zeros", _POWER_ZEROS),
    )
}
CALM = Fault("none", _NOTHING)


@dataclass(frozen=True)
class Job:
    """One run of the command."""

    arguments: list[str]
    folder: str  # becomes the current one
    watched: str  # the folder whose calls are counted
    fault: Fault = CALM
    at: int = 0  # the call, from 1
    sabotage: str = ""


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    code: int  # exit code; negative: the signal that killed it
    error: str  # what it said on standard error
    calls: list[str] = field(default_factory=list)  # kind and file of each that was counted

    @property
    def has_traceback(self) -> bool:
        """Whether it ended with an exception that nobody expected, or by itself with a signal."""
        crashed = self.code < 0 and -self.code != signal.SIGKILL
        return crashed or "Traceback (most recent call last)" in self.error


def compile_shim(folder: Path) -> Path:
    """The library, made in a folder."""
    assert COMPILER
    library = folder / "shim.so"
    source = Path(__file__).with_name("shim.c")
    command = [COMPILER, "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return library


class Server:
    """Runs commands with faults; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Server:
        library = compile_shim(self._folder)
        path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
        environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": path}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faults.injection", str(library)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**environment, "OMP_NUM_THREADS": "1"},
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def run(self, job: Job) -> Ended:
        """Runs a command to its end."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(asdict(job)) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))


# -- in the server ---------------------------------------------------------------------------------


def _rename_by_copying() -> None:
    """A writer that writes in place: a new name is given by copying."""

    def replace(before: str, after: str) -> None:
        Path(after).write_bytes(Path(before).read_bytes())
        os.unlink(before)

    os.replace = os.rename = replace  # type: ignore[assignment]


def _no_fsync() -> None:
    os.fsync = lambda _: None


# To see whether a loss would be seen.
SABOTAGES: dict[str, Callable[[], None]] = {
    "": lambda: None,
    "rename by copying": _rename_by_copying,
    "no fsync": _no_fsync,
}


USED = (
    *(
        "moses_integration.cli",
        "moses_integration.rescoring.stream",
        "phrase_scorer.scoring.scorer",
    ),
    *("moses_integration.rescoring.columns", "phrase_scorer.scoring.recurrent_engine"),
    *("phrase_scorer.training.trainer", "phrase_scorer.training.data", "torch._dynamo"),
    *("phrase_scorer.language_model.export", "torch.optim"),
)


def serve(library: ctypes.CDLL) -> None:
    """Runs the jobs of standard input, line by line."""
    import torch

    from moses_integration.formats.phrase_table import PhraseTable

    for name in USED:  # a fork has what its parent has
        importlib.import_module(name)
    torch.set_num_threads(1)
    # Small blocks, so that a small table has several of them.
    PhraseTable.__init__.__kwdefaults__["block_entries"] = 10
    for line in sys.stdin:
        job = json.loads(line)
        job["fault"] = Fault(**job["fault"])
        print(json.dumps(asdict(_forked(library, Job(**job)))), flush=True)


def _forked(library: ctypes.CDLL, job: Job) -> Ended:
    """The job in a process of its own."""
    said, logged = (os.memfd_create(name) for name in ("said", "logged"))
    child = os.fork()
    if child == 0:
        _child(library, job, said, logged)
    code = _wait(child)
    texts = []
    for descriptor in (said, logged):
        with open(descriptor, "rb") as stream:
            stream.seek(0)
            texts.append(stream.read().decode(errors="backslashreplace"))
    return Ended(code, texts[0], texts[1].splitlines())


def _child(library: ctypes.CDLL, job: Job, said: int, logged: int) -> None:
    from moses_integration.cli import main

    code = 99
    try:
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(said, 2)
        os.dup2(said, 1)
        os.chdir(job.folder)
        SABOTAGES[job.sabotage]()
        library.fault_folder(os.fsencode(os.path.realpath(job.watched)))
        library.fault_log(logged)
        fault = job.fault
        library.fault_arm(ctypes.c_long(job.at), fault.mode, fault.error, int(fault.stays))
        code = main(job.arguments)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - told to the one who asked
        import traceback

        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _wait(child: int) -> int:
    deadline = time.monotonic() + RUN_SECONDS
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGALRM)
        time.sleep(0.001)


if __name__ == "__main__":
    serve(ctypes.CDLL(sys.argv[1]))
