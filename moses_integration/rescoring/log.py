"""How fast a rescoring went: `rescore --log FILE`, a line of JSON a second; `report` reads it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from phrase_scorer.errors import DataError
from phrase_scorer.runtime.output import Place, take_lock, write_errors
from phrase_scorer.runtime.records import Origin, parse_json
from phrase_scorer.runtime.report import as_json
from phrase_scorer.runtime.streams import numbered_lines

SECONDS = 1.0  # between two lines


@dataclass(frozen=True)
class RunFacts:
    """How a run computes: the first line of its log."""

    version: str
    output: str
    processes: int
    device: str
    precision: str
    kernels: str  # in words


@dataclass(frozen=True)
class LoggedEntries:
    """How far a run was: a further line of its log."""

    seconds: float  # since its begin, by the clock
    entries: int  # written by then, those of the runs that it went on with among them


@dataclass(frozen=True)
class RescoreRun:
    """A run, as its log tells of it."""

    facts: RunFacts
    points: tuple[LoggedEntries, ...]

    @property
    def entries_per_second(self) -> float | None:
        """Of this run alone; None where it wrote nothing after its first line."""
        if len(self.points) < 2 or self.points[0].seconds == self.points[-1].seconds:
            return None
        first, last = self.points[0], self.points[-1]
        return (last.entries - first.entries) / (last.seconds - first.seconds)


class RescoreLog:
    """Appends a run to a log; what is no log is refused, and left as it is.

    Args:
        path: The log, new or of other runs; a FIFO or a device is written into.
        facts: The first line.
        clock: Seconds.

    Raises:
        DataError: The file is something else, another run is writing it, or it cannot be written.
    """

    def __init__(
        self, path: Place, facts: RunFacts, clock: Callable[[], float] = time.monotonic
    ) -> None:
        check_log(path)
        self._path, self._clock, self._begin = path, clock, clock()
        self._written = -SECONDS  # when the last line was
        self._left: LoggedEntries | None = None  # what was noted since
        with write_errors(path):
            self._file: BinaryIO = open(path, "ab")  # noqa: SIM115 - see __exit__
        if os.path.isfile(path) and not take_lock(self._file):
            self._file.close()
            raise DataError("another run is writing this log", path=path)
        self._write(facts)

    def __enter__(self) -> RescoreLog:
        return self

    def note(self, entries: int) -> None:
        """So many are written by now."""
        now = LoggedEntries(round(self._clock() - self._begin, 3), entries)
        self._left = now
        if now.seconds >= self._written + SECONDS:
            self._write(now)
            self._written, self._left = now.seconds, None

    def _write(self, line: RunFacts | LoggedEntries) -> None:
        with write_errors(self._path):
            self._file.write(as_json(asdict(line), indent=None).encode("utf-8", "backslashreplace"))
            self._file.flush()

    def __exit__(self, *_: object) -> None:
        with write_errors(self._path), self._file:
            if self._left:
                self._write(self._left)


def check_log(path: Place) -> None:
    """Refuses a file that is there and no log, before anything is appended to it."""
    if Path(path).is_file() and Path(path).stat().st_size:
        next(_lines(path))


def read_runs(path: Place) -> tuple[RescoreRun, ...]:
    """The runs in a log, the oldest first; a DataError tells of a file that is none."""
    runs: list[tuple[RunFacts, list[LoggedEntries]]] = []
    for number, line in _lines(path):
        if isinstance(line, RunFacts):
            runs.append((line, []))
            continue
        points = runs[-1][1]
        if points and (line.seconds < points[-1].seconds or line.entries < points[-1].entries):
            raise DataError("goes back: two runs wrote this log at once", path=path, line=number)
        points.append(line)
    if not runs:
        raise DataError("not a log of `rescore --log`: it is empty", path=path)
    return tuple(RescoreRun(facts, tuple(points)) for facts, points in runs)


def _lines(path: Place) -> Iterator[tuple[int, RunFacts | LoggedEntries]]:
    for number, line in numbered_lines(os.fspath(path)):
        if b'"processes"' in line:
            yield number, parse_json(line, RunFacts, Origin(path, number))
            continue
        point = parse_json(line, LoggedEntries, Origin(path, number))
        if number == 1:
            raise DataError("not a log of `rescore --log`: it begins with no run", path=path)
        yield number, point
