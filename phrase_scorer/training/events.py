"""A training's progress as TensorBoard reads it: a file of events more in a folder, each run.

Needs the package tensorboard, of which torch is no part. Its own file writer has a thread, which
prints what goes wrong; records are written here and now instead.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from phrase_scorer.errors import UsageError
from phrase_scorer.runtime.output import write_errors


def require_tensorboard(folder: Path) -> None:
    """Checks, before anything is read, that events can be written: a UsageError if not."""
    if find_spec("tensorboard") is None:
        raise UsageError("--tensorboard needs the package tensorboard: pip install tensorboard")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--tensorboard {folder} is a file, not a directory")


class Events:
    """Numbers by name and update, as events of a file."""

    def __init__(self, file: IO[bytes], first: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._file = file
        self._event = Event
        self._records: Any = RecordWriter(file)
        self._write(file_version="brain.Event:2")
        # What an earlier run has written of these updates is not shown any more.
        self._write(step=first, session_log=SessionLog(status=SessionLog.START))

    def add(self, name: str, value: float, update: int) -> None:
        """One point of a curve."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
        self._write(step=update, summary=summary)

    def _write(self, **content: Any) -> None:
        event = self._event(wall_time=time.time(), **content)
        with write_errors(self._file.name):
            self._records.write(event.SerializeToString())
            self._records.flush()


@contextmanager
def open_events(folder: Path | None, first: int) -> Iterator[Events | None]:
    """A new file of events in a folder, of updates from `first` on; None: there is none."""
    if folder is None:
        yield None
        return
    name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
    with write_errors(folder / name):
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / name, "xb")  # noqa: SIM115 - closed below
    with file:
        yield Events(file, first)
