"""How every command speaks to its user, and how it ends.

`run` is the only place that turns errors into exit codes: 0 success, 1 bad data, 2 wrong usage,
129, 130 or 143 stopped by a signal.
"""

from __future__ import annotations

import io
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
from typing_extensions import override

from phrase_scorer.errors import PhraseScorerError, UsageError, printable
from phrase_scorer.runtime.output import reason

if TYPE_CHECKING:
    from tqdm import tqdm

OWN = {"phrase_scorer", "moses_integration"}  # packages
LONGEST_SAID = 900  # characters; a name that a file gives may have any number
SIGNAL_EXIT_CODES = {"SIGHUP": 129, "SIGINT": 130, "SIGTERM": 143}


@dataclass(frozen=True)
class Manner:
    """How much a command says on standard error."""

    quiet: bool = False  # no progress, no notes: results, warnings and errors
    verbose: bool = False  # notes of what it works with, too
    debug: bool = False  # where an error was raised


_manner = Manner()


def manner() -> Manner:
    """How much the command that runs says."""
    return _manner


def speak(**how: bool) -> None:
    """Changes how much is said, until the command ends."""
    global _manner
    new = replace(_manner, **how)
    if new.quiet and new.verbose:
        raise UsageError("--quiet and --verbose contradict each other; give one of them")
    _manner = new


def say(message: str) -> None:
    """Prints a result or a warning, a line on standard error.

    Odd names of files are escaped in it; of a very long one the middle is left out.
    """
    line = printable(message)
    if len(line) > LONGEST_SAID:
        line = f"{line[: LONGEST_SAID // 2]} … {line[-LONGEST_SAID // 2 :]}"
    click.echo(line, err=True)


def note(message: str) -> None:
    """Says what work is begun on, and how: not with --quiet."""
    if not _manner.quiet:
        say(message)


def detail(message: str) -> None:
    """Says what only --verbose wants to know."""
    if _manner.verbose:
        say(message)


def run(group: click.Group, arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code; an error is one line on standard error.

    What standard output cannot hold (a file's name that is not UTF-8) is escaped there.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        if sys.stdout is sys.__stdout__:
            raw = io.BufferedWriter(_StandardOutput(sys.stdout.fileno(), "w", closefd=False))
            old = sys.stdout
            sys.stdout = io.TextIOWrapper(raw, old.encoding, line_buffering=old.line_buffering)
        sys.stdout.reconfigure(errors="backslashreplace")
    if threading.current_thread() is threading.main_thread():
        # Leaves through the context managers, so that no half-written file stays behind.
        _leave_upon(signal.SIGTERM)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
            _leave_upon(signal.SIGHUP)
    before, began = manner(), time.monotonic()
    speak(debug=os.environ.get("PHRASE_SCORER_DEBUG", "0") not in ("", "0"))
    try:
        return _exit_code(group, sys.argv[1:] if arguments is None else list(arguments))
    finally:
        detail(_spent(began))
        speak(**vars(before))


def _exit_code(group: click.Group, arguments: list[str]) -> int:
    """Runs a command, tells of errors, and returns the exit code."""
    try:
        return _telling_notes(group, arguments)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        see = f". See {context.command_path} --help." if context else ""
        say(f"error: {' '.join(error.format_message().split()).rstrip('.')}{see}")
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        say("interrupted")
        return 130
    except BrokenPipeError:  # whoever read our output has seen enough
        _give_up_output()
        return 1
    except (PhraseScorerError, OSError, ImportError) as error:
        if manner().debug:
            traceback.print_exc()
        say(f"error: {_what_is_wrong(error)}")
        _give_up_output()
        return getattr(error, "exit_code", 1)


def _what_is_wrong(error: Exception) -> str:
    if package := _broken_package(error):
        return package
    if isinstance(error, OSError):
        name = os.fsdecode(error.filename or "")
        return f"{name}: {reason(error)}" if name else reason(error)
    if isinstance(error, ImportError):
        raise error
    return str(error)


def _broken_package(error: Exception) -> str:
    """What to do about another's package that cannot be imported; empty: that is not the error.

    It may be missing (ImportError), or a library that it loads (OSError).
    """
    if not isinstance(error, OSError | ImportError):
        return ""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    # What an import runs is a module as a whole.
    modules = [frame.f_globals for frame in frames if frame.f_code.co_name == "<module>"]
    packages = [str(module.get("__name__")).partition(".")[0] for module in modules]
    name = next((package for package in packages if package not in OWN), "")
    if not name and isinstance(error, ModuleNotFoundError):
        name = (error.name or "").partition(".")[0]
        if name and name not in OWN:
            return f"the package {name} is not installed: pip install {name}"
    if not name:
        return ""
    why = " ".join(str(error).split())
    return f"the package {name} is broken ({why}): pip install --force-reinstall {name}"


def _spent(began: float) -> str:
    """What a command has cost."""
    own, others = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    cpu = own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime
    return (
        f"{time.monotonic() - began:.1f} seconds, {cpu:.1f} of processors; "
        f"peak memory {own.ru_maxrss / 1024:,.0f} MB"
    )


def _telling_notes(group: click.Group, arguments: list[str]) -> int:
    """Runs a command; the notes of an exception are printed before it."""
    try:
        result = group.main(arguments, prog_name="phrase-scorer", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except BaseException as error:
        for said in (error, error.__cause__):  # click raises Abort from KeyboardInterrupt
            for note in getattr(said, "__notes__", []):
                say(note)
        raise


def _leave_upon(number: signal.Signals) -> None:
    signal.signal(number, lambda *_: sys.exit(SIGNAL_EXIT_CODES[number.name]))


@contextmanager
def collected_signals() -> Iterator[list[str]]:
    """Collects the names of SIGINT and SIGTERM instead of dying of them (main thread only)."""
    received: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def note(number: int, _: FrameType | None) -> None:
        received.append(signal.Signals(number).name)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _StandardOutput(io.FileIO):
    """Standard output that tells in its errors what it is, as files do."""

    @override
    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            error.filename = "standard output"
            raise


def _give_up_output() -> None:
    """Points a broken standard output at /dev/null, so that Python's exit stays quiet."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def progress_bar(description: str, *, show: bool, **options: Any) -> tqdm[Any]:
    """A tqdm bar (its options pass through); `show=False` makes one that does nothing.

    Where standard error is no terminal, it writes whole lines, the first after `LOG_SECONDS`.
    """
    from phrase_scorer.runtime.progress import LoggedProgress, TerminalBar

    kind = TerminalBar if sys.stderr.isatty() else LoggedProgress
    return kind(desc=description, disable=not show or manner().quiet, unit_scale=True, **options)
