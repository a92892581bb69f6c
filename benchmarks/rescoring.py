"""Speed and memory of rescoring: the whole, and everything around the network.

    python benchmarks/rescoring.py phrase-table.gz [--model DIR] [--workers 2] [--runs 3]

Prints entries/s of `rescore` from gz to gz, with scores from a constant (reading, parsing, ids,
formatting, compressing, writing) and with a model, interleaved; and the peak memory, workers
included, for the table and for one that is `--times` as long.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moses_integration.formats.phrase_table import PhraseTable
from moses_integration.rescoring.columns import Column, translation_column
from moses_integration.rescoring.request import WORKER_IMPORTS
from moses_integration.rescoring.stream import TableReader, rescore_table
from phrase_scorer.runtime.device import Arithmetic
from phrase_scorer.runtime.workers import available_cores, memory_of, start_imports
from phrase_scorer.scoring.scorer import PhraseScorer
from phrase_scorer.text.phrase_pairs import PairBlock


@dataclass(frozen=True)
class Constant:
    """Scores that cost nothing, after the words were looked up if there is a vocabulary."""

    scorer: PhraseScorer | None

    def __call__(self, block: PairBlock) -> np.ndarray:
        """(pairs,) all the same."""
        if self.scorer:
            self.scorer.ids(block)
        return np.full(len(block.sources), -1.25, np.float32)


def run(table: Path, model: Path | None, precision: str, workers: int) -> tuple[int, float, float]:
    """(entries, seconds, peak MB of all processes) of one run; precision "": constant scores."""
    scorer = PhraseScorer.load(model, Arithmetic("cpu", precision or "float32")) if model else None
    if workers > 1:
        start_imports(WORKER_IMPORTS)
        time.sleep(3)  # the command imports torch meanwhile
    column = Column("constant", "", Constant(scorer))
    if precision and scorer:
        column = translation_column(scorer)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        output = Path(folder) / "out.gz"
        with MemoryWatch() as memory:
            reader = TableReader(PhraseTable(table))
            done = rescore_table(reader, output, [column], processes=workers, show_progress=False)
        seconds = time.perf_counter() - began
    return done.entries, seconds, memory.peak / 2**20


class MemoryWatch:
    """The largest memory of this process and those it started, shared pages counted once."""

    def __enter__(self) -> MemoryWatch:
        self.peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            self.peak = max(self.peak, memory_of(descendants(os.getpid())))


def descendants(process: int) -> list[int]:
    """A process and all that it, or what it started, has started."""
    children: list[int] = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):
            children += map(int, task.read_text().split())
    return [process, *(p for child in children for p in descendants(child))]


def in_a_process(*arguments: object) -> tuple[int, float, float]:
    """`run` in a process of its own, so that the peak is that run's."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(run, *arguments).result()


@contextmanager
def repeated(table: Path, times: int) -> Iterator[Path]:
    """A table so many times in a row; gzip members may be concatenated."""
    with tempfile.TemporaryDirectory() as folder:
        long = Path(folder) / "long.gz"
        with open(long, "wb") as stream:
            for _ in range(times):
                stream.write(table.read_bytes())
        yield long


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--precisions", nargs="*", default=["float32", "int8"])
    parser.add_argument("--workers", type=int, default=available_cores())
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--times", type=int, default=10)
    arguments = parser.parse_args()
    kinds = ["", *(arguments.precisions if arguments.model else [])]
    speeds: dict[str, list[float]] = {kind: [] for kind in kinds}
    peaks = dict.fromkeys(kinds, 0.0)
    for _ in range(arguments.runs):
        for kind in kinds:
            entries, seconds, peaks[kind] = in_a_process(
                arguments.table, arguments.model, kind, arguments.workers
            )
            speeds[kind].append(entries / seconds)
    for kind, values in speeds.items():
        print(
            f"{kind or 'constant scores':<16} {statistics.median(values):>9,.0f} entries/s "
            f"(from {min(values):,.0f} to {max(values):,.0f}), peak {peaks[kind]:,.0f} MB"
        )
    if arguments.times > 1:
        with repeated(arguments.table, arguments.times) as long:
            entries, seconds, peak = in_a_process(long, arguments.model, "", arguments.workers)
        print(
            f"{entries:,} entries, constant scores: {entries / seconds:,.0f}/s, peak {peak:,.0f} MB"
        )


if __name__ == "__main__":
    main()
