"""The ordered map: order, errors, and what happens when a process ends before its time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from toys import ROOT

from phrase_scorer.errors import DataError, PhraseScorerError
from phrase_scorer.runtime.workers import (
    WINDOW,
    available_cores,
    memory_of,
    ordered_map,
    worker_number,
)


def squared(number: int) -> tuple[int, int]:
    time.sleep(0.01 if number % 3 == 0 else 0)
    return number * number, os.getpid()


def refusing(number: int) -> int:
    if number in (7, 9):
        raise DataError("no such number", path="t", line=number, text=b"x\xff")
    return number


def dying(number: int) -> int:
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def leaving(number: int) -> int:
    os._exit(3)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_the_order_of_the_items(workers):
    found = list(ordered_map(squared, range(40), workers))
    assert [item for item, _ in found] == list(range(40))
    assert [square for _, (square, _) in found] == [n * n for n in range(40)]
    processes = {process for _, (_, process) in found}
    assert len(processes) == workers
    assert os.getpid() not in processes


def numbered(item: int) -> int:
    return worker_number()


@dataclass
class NumberedAtStart:
    """What a worker unpickles knows the worker's number."""

    number: int = -1

    def __setstate__(self, _: object) -> None:
        self.number = worker_number()

    def __call__(self, _: int) -> int:
        return self.number


@pytest.mark.parametrize("function", [numbered, NumberedAtStart()])
def test_workers_know_their_number(function):
    numbers = [number for _, number in ordered_map(function, range(6), 3)]
    assert numbers == [0, 1, 2, 0, 1, 2]
    assert worker_number() == 0


class Unloadable:
    """What cannot be unpickled in the second worker."""

    def __setstate__(self, _: object) -> None:
        if worker_number() == 1:
            raise DataError("no such device")

    def __getstate__(self) -> int:
        return 1

    def __call__(self, item: int) -> int:
        return item


def test_a_worker_that_cannot_begin_says_why():
    seen = []
    with pytest.raises(DataError, match=r"^no such device$"):
        seen.extend(ordered_map(Unloadable(), range(6), 2))
    assert seen == [(0, 0)]


def test_nothing_to_do():
    assert list(ordered_map(squared, [], 2)) == []


def test_the_first_error_in_order_is_raised_as_it_was():
    seen = []
    with pytest.raises(DataError) as caught:
        seen.extend(ordered_map(refusing, range(20), 2))
    assert seen == [(n, n) for n in range(7)]
    assert str(caught.value) == 't:7: no such number: "x\\xff"'


def test_an_error_of_the_items_comes_after_the_results_before_it():
    def items() -> Iterator[int]:
        yield from range(5)
        raise DataError("cut short")

    seen = []
    with pytest.raises(DataError, match=r"^cut short$"):
        seen.extend(ordered_map(refusing, items(), 2))
    assert seen == [(n, n) for n in range(5)]


def test_few_items_wait():
    """Memory does not grow with the number of items."""
    taken = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = ordered_map(refusing, items(), 2)
    next(results)
    assert len(taken) <= 2 * WINDOW
    results.close()


def waiting_for_the_other(told: Path, number: int) -> int:
    """The first item's worker waits until the other has done four items more than its share."""
    if number == 0:
        while not told.exists():
            time.sleep(0.01)
    elif number == 6:
        told.touch()
    return number


def test_a_slow_worker_holds_up_no_fast_one(tmp_path):
    """Items go to whoever is free: 0 and 2 to the slow one, 1, 3, 4, 5, 6 and 7 to the other."""
    function = partial(waiting_for_the_other, tmp_path / "told")
    assert list(ordered_map(function, range(20), 2)) == [(n, n) for n in range(20)]


@pytest.mark.parametrize(
    ("function", "how"), [(dying, "SIGKILL): out of memory?"), (leaving, "exit code 3)")]
)
def test_a_worker_that_ends_is_told(function, how):
    with pytest.raises(PhraseScorerError) as caught:
        list(ordered_map(function, range(20), 2))
    assert str(caught.value) == f"a worker process ended ({how}"


def test_the_workers_end_when_their_parent_is_killed(tmp_path: Path):
    script = (
        "import sys, time; sys.path[:0] = sys.argv[1:]\n"
        "from tests.phrase_scorer.runtime.test_workers import squared\n"
        "from phrase_scorer.runtime.workers import ordered_map\n"
        "if __name__ == '__main__':\n"
        "    results = ordered_map(squared, iter(int, 1), 2)\n"
        "    print(*{next(results)[1][1] for _ in range(4)}, flush=True)\n"
        "    time.sleep(60)\n"
    )
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, str(tmp_path / "script.py"), str(ROOT), str(ROOT / "tests")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = [int(process) for process in parent.stdout.readline().split()]
        assert len(workers) == 2
        assert all(is_alive(process) for process in workers)
        parent.kill()
    deadline = time.monotonic() + 20
    while any(is_alive(process) for process in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_cores():
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


@pytest.mark.skipif("MEASURE" not in os.environ, reason="MEASURE is not set: a quiet machine")
def test_memory_that_processes_share_counts_once():
    """A child of ours shares 100 MB with us until one of us writes; one that has ended has none."""
    before = memory_of([os.getpid()])
    shared = bytearray(os.urandom(1000)) * 100_000
    alone = memory_of([os.getpid()])
    assert alone - before > len(shared) // 2
    child = os.fork()
    if child == 0:
        signal.pause()
    try:
        assert memory_of([os.getpid(), child]) < alone + len(shared) // 2
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert memory_of([os.getpid(), child]) < alone + len(shared) // 2
