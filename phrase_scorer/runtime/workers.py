"""An ordered map over processes: items go out, results come back in the order of the items.

Each worker has a pipe of its own and takes every n-th item, two at a time, so that it never waits
for the next one. When the parent ends, however it ends, the pipes close and the workers end, too;
when a worker ends, the parent says so.
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
from itertools import cycle
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, TypeVar

from phrase_scorer.errors import PhraseScorerError
from phrase_scorer.runtime.streams import paused_garbage_collection, prefetch

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

SMALL_INPUT = 1 << 18  # bytes for which starting processes takes longer than the work
AHEAD = 2  # items that a worker has been given: one in work, one waiting

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
    waiting: deque[tuple[_Item, _Worker]] = deque()
    failure: list[Exception] = []  # of `items`: raised after the results before it

    def first_result() -> tuple[_Item, Any]:
        item, worker = waiting.popleft()
        return item, worker.receive()

    try:
        for item, worker in zip(_until_failure(items, failure), cycle(pool), strict=False):
            if len(waiting) == AHEAD * workers:
                yield first_result()
            worker.send(item)
            waiting.append((item, worker))
        while waiting:
            yield first_result()
        if failure:
            raise failure[0]
    finally:
        for worker in pool:
            worker.stop()


def _until_failure(items: Iterable[_Item], failure: list[Exception]) -> Iterator[_Item]:
    try:
        yield from items
    except Exception as error:  # noqa: BLE001 - raised by `ordered_map`
        failure.append(error)


class _Worker:
    """The parent's side of a worker."""

    def __init__(self, context: Any, function: Callable[[Any], Any], place: int) -> None:
        self._pipe, theirs = context.Pipe()
        # As bytes: they are unpickled, and models loaded, when the worker knows its number.
        work = (theirs, bytes(ForkingPickler.dumps(function)), place)
        self._process = context.Process(target=_work, args=work, daemon=True)
        self._process.start()
        theirs.close()

    def send(self, item: object) -> None:
        try:
            self._pipe.send(item)
        except OSError:
            raise self._death() from None

    def receive(self) -> Any:
        try:
            result, error = self._pipe.recv()
        except (EOFError, OSError):
            raise self._death() from None
        if error is not None:
            raise error
        return result

    def stop(self) -> None:
        self._pipe.close()
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
