"""How every command speaks to its user, and how it ends.

`run` is the only place that turns errors into exit codes: 0 success, 1 bad data, 2 wrong usage,
129, 130 or 143 stopped by a signal.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click
from tqdm import tqdm
from typing_extensions import override

from phrase_scorer.errors import PhraseScorerError, printable
from phrase_scorer.runtime.output import reason

LONGEST_SAID = 900  # characters; a name that a file gives may have any number
SIGNAL_EXIT_CODES = {"SIGHUP": 129, "SIGINT": 130, "SIGTERM": 143}


def say(message: str) -> None:
    """Prints a message of one line on standard error.

    Odd names of files are escaped in it; of a very long one the middle is left out.
    """
    line = printable(message)
    if len(line) > LONGEST_SAID:
        line = f"{line[: LONGEST_SAID // 2]} … {line[-LONGEST_SAID // 2 :]}"
    click.echo(line, err=True)


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
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if threading.current_thread() is threading.main_thread():
        # Leaves through the context managers, so that no half-written file stays behind.
        _leave_upon(signal.SIGTERM)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
            _leave_upon(signal.SIGHUP)
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
    except (PhraseScorerError, OSError) as error:
        if "--debug" in arguments:
            traceback.print_exc()
        what = str(error)
        if isinstance(error, OSError):
            name = os.fsdecode(error.filename or "")
            what = f"{name}: {reason(error)}" if name else reason(error)
        say(f"error: {printable(what)}")
        _give_up_output()
        return getattr(error, "exit_code", 1)


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


# One process draws the bars. tqdm's own lock would be shared with forked processes: one of them,
# killed while it held the lock, would stop all others for ever.
tqdm.set_lock(threading.RLock())

LOG_SECONDS = 30.0  # between lines where standard error is no terminal


def progress_bar(description: str, *, show: bool, **options: Any) -> tqdm[Any]:
    """A tqdm bar (its options pass through); `show=False` makes one that does nothing."""
    live = sys.stderr.isatty()
    return tqdm(
        desc=description,
        disable=not show,
        unit_scale=True,
        dynamic_ncols=live,
        mininterval=0.1 if live else LOG_SECONDS,
        maxinterval=10.0 if live else LOG_SECONDS,
        **options,
    )
