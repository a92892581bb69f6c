"""An ordered map over processes: items go out, results come back in the order of the items.

Each worker has a pipe of its own, and gets the next item when it has less than two, so that it
never waits for one, and a slow worker holds up no fast one. When the parent ends, however it ends,
the pipes close and the workers end, too; when a worker ends, the parent says so.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import re
import resource
import signal
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from functools import partial
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, TypeVar, cast

from phrase_scorer.errors import PhraseScorerError
from phrase_scorer.runtime.streams import paused_garbage_collection, prefetch

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

SMALL_INPUT = 1 << 18  # bytes for which starting processes takes longer than the work
AHEAD = 2  # items that a worker has been given: one in work, one waiting
# Items per worker that may be under way, results that wait for an earlier one among them. One loses
# 42 % of the speed where some workers are slow, two 10 %, four nothing (by simulation).
WINDOW = 4

_SIZE = re.compile(rb"(\w+):\s+(\d+) kB")  # in files of /proc
_number = 0  # of this process among the workers


def worker_number() -> int:
    """The number of this process among the workers of its pool, from 0; elsewhere 0.

    It is known before the worker unpickles its function, so that a model can choose its device.
    """
    return _number


def available_cores() -> int:
    """The processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def memory_of(processes: Collection[int]) -> int:
    """Bytes that living processes have had at most, by their numbers; what they share counts once.

    Of memory that several of them share each is told its part; of files, such as libraries, they
    map about the same ones. Where the system does not tell, all are taken to be like this one.
    """
    own, mapped = 0, 0
    for process in processes:
        with contextlib.suppress(OSError, KeyError):  # it has ended
            files = (Path(f"/proc/{process}/{name}") for name in ("smaps_rollup", "status"))
            text = b"".join(file.read_bytes() for file in files)
            sizes = {name: 1024 * int(size) for name, size in _SIZE.findall(text)}
            own += sizes[b"Pss_Anon"] + max(0, sizes[b"VmHWM"] - sizes[b"Rss"])
            mapped = max(mapped, sizes[b"Rss"] - sizes[b"Anonymous"])
    if not own:
        own = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * len(processes)
    return own + mapped


def start_imports(modules: Sequence[str]) -> None:
    """Begins to import what all workers will need, while this process does something else.

    They share what is imported: torch, say, which takes seconds. The first call decides.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload(list(modules))
    forkserver.ensure_running()


def ordered_map(
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    workers: int,
    *,
    imports: Sequence[str] = (),
) -> Generator[tuple[_Item, _Result]]:
    """(item, function(item)) for each item, computed in worker processes, in their order.

    The function is pickled once per worker; `imports` are for `start_imports`. What `function` or
    `items` raises is raised in the place of the item; a PhraseScorerError tells of a dead worker.
    """
    start_imports(imports)
    context = multiprocessing.get_context("forkserver")
    pool = [_Worker(context, function, place) for place in range(workers)]
    failure: list[Exception] = []  # of `items`: raised after the results before it
    left = _until_failure(items, failure)
    under_way: deque[_Task] = deque()  # in the order of the items
    try:
        while True:
            while len(under_way) < WINDOW * workers and (free := _least_busy(pool)):
                task = next(map(_Task, left), None)
                if task is None:
                    break
                under_way.append(task)
                free.give(task)
            if not under_way:
                break
            if under_way[0].is_done:
                yield under_way.popleft().outcome()
            else:
                _wait_for_any(pool)
        if failure:
            raise failure[0]
    finally:
        for worker in pool:
            worker.stop()


class _Task:
    """An item under way, and what became of it."""

    def __init__(self, item: object) -> None:
        self.item = item
        self.is_done = False
        self._result: Any = None
        self._error: Exception | None = None

    def finish(self, result: object, error: Exception | None) -> None:
        self.is_done, self._result, self._error = True, result, error

    def outcome(self) -> tuple[Any, Any]:
        """(item, result), or raises what its computation raised."""
        if self._error is not None:
            raise self._error
        return self.item, self._result


def _least_busy(pool: Sequence[_Worker]) -> _Worker | None:
    """The living worker with the fewest items; None: all have enough."""
    free = min((worker for worker in pool if worker.is_alive), key=_Worker.load, default=None)
    return free if free and free.load() < AHEAD else None


def _wait_for_any(pool: Sequence[_Worker]) -> None:
    """Waits until there is a result, or a worker has ended, and takes all there are."""
    by_pipe = {worker.pipe: worker for worker in pool if worker.load()}
    for pipe in wait(list(by_pipe)):
        by_pipe[cast(Connection, pipe)].take()


def _until_failure(items: Iterable[_Item], failure: list[Exception]) -> Iterator[_Item]:
    try:
        yield from items
    except Exception as error:  # noqa: BLE001 - raised by `ordered_map`
        failure.append(error)


class _Worker:
    """The parent's side of a worker."""

    def __init__(self, context: Any, function: Callable[[Any], Any], place: int) -> None:
        self.pipe: Connection
        self.pipe, theirs = context.Pipe()
        self.is_alive = True
        self._tasks: deque[_Task] = deque()  # in work first
        # As bytes: they are unpickled, and models loaded, when the worker knows its number.
        work = (theirs, bytes(ForkingPickler.dumps(function)), place)
        self._process = context.Process(target=_work, args=work, daemon=True)
        self._process.start()
        theirs.close()

    def load(self) -> int:
        """How many items it has."""
        return len(self._tasks)

    def give(self, task: _Task) -> None:
        """Sends it an item."""
        self._tasks.append(task)
        try:
            self.pipe.send(task.item)
        except OSError:
            self._end()

    def take(self) -> None:
        """Receives the next result."""
        try:
            result, error = self.pipe.recv()
        except (EOFError, OSError):
            self._end()
        else:
            self._tasks.popleft().finish(result, error)

    def _end(self) -> None:
        """It has died: so has what it was given."""
        self.is_alive = False
        death = self._death()
        while self._tasks:
            self._tasks.popleft().finish(None, death)

    def stop(self) -> None:
        self.pipe.close()
        self._process.terminate()
        self._process.join()

    def _death(self) -> PhraseScorerError:
        self._process.join(1)
        code = self._process.exitcode
        how = signal.Signals(-code).name if code and code < 0 else f"exit code {code}"
        hint = ": out of memory?" if how == "SIGKILL" else ""
        return PhraseScorerError(f"a worker process ended ({how}){hint}")


def _work(pipe: Connection, pickled: bytes, place: int) -> None:
    """A worker's loop: receives an item, computes, sends the result."""
    global _number
    _number = place
    try:
        function = pickle.loads(pickled)
    except Exception as error:  # noqa: BLE001 - raised again in the parent, for the first item
        function = partial(_refuse, error)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent, who gets it too, ends us
    with paused_garbage_collection(), contextlib.suppress(OSError):
        for item in prefetch(_received_items(pipe), AHEAD):
            answer: tuple[Any, Exception | None]
            try:
                answer = (function(item), None)
            except Exception as error:  # noqa: BLE001 - raised again in the parent
                answer = (None, error)
            pipe.send(answer)


def _refuse(error: Exception, _: object) -> None:
    raise error


def _received_items(pipe: Connection) -> Iterator[Any]:
    with contextlib.suppress(EOFError, OSError):
        while True:
            yield pipe.recv()
