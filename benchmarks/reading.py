"""Speed and memory of reading a phrase table: by the parser alone, for `check`, for training.

    taskset -c 0 python benchmarks/reading.py phrase-table.gz [--rounds 5] [--times 3]

Prints processor seconds, entries a second of them and the peak memory of each, every one in a
process of its own, in turn; and the same for a table that is `--times` as long.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from rescoring import repeated

from moses_integration.formats.phrase_table import PhraseTable
from moses_integration.formats.table_check import check_table
from moses_integration.formats.table_pairs import read_table_or_pairs
from phrase_scorer.runtime.streams import paused_garbage_collection
from phrase_scorer.text.pair_files import PairFiles
from phrase_scorer.text.phrase_pairs import PairBlock
from phrase_scorer.training.data import PairsOfFile, collect_training_data
from phrase_scorer.training.request import SHORTLIST


def parse(table: Path) -> int:
    """What `rescore` and `score` do before anything is scored."""
    with paused_garbage_collection():
        return sum(len(block.lines.lines) for block in PhraseTable(table).blocks())


def check(table: Path) -> int:
    """What `check` does."""
    return check_table(table, on_finding=lambda _: None).entries


def collect(table: Path, *, with_counts: bool = False) -> int:
    """What `train` does before the first update."""
    blocks = read_table_or_pairs(PairFiles((str(table),), with_counts=with_counts))
    entries = 0

    def counted() -> Iterator[PairBlock]:
        nonlocal entries
        for block in blocks:
            entries += len(block.sources)
            yield block

    collect_training_data([PairsOfFile(str(table), counted())], shortlist=SHORTLIST)
    return entries


def collect_with_counts(table: Path) -> int:
    """The same with --weight-by-count."""
    return collect(table, with_counts=True)


WAYS: dict[str, Callable[[Path], int]] = {
    "parser alone": parse,
    "check": check,
    "for training": collect,
    "with counts": collect_with_counts,
}


def measure(way: str, table: Path) -> tuple[int, float, float]:
    """(entries, processor seconds, peak MB)."""
    began = time.process_time()
    entries = WAYS[way](table)
    seconds = time.process_time() - began
    return entries, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(table: Path, rounds: int) -> None:
    """Measures and prints a line for each way."""
    found: dict[str, list[tuple[int, float, float]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, runs in found.items():
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                runs.append(pool.submit(measure, way, table).result())
    for way, runs in found.items():
        entries, seconds, peak = zip(*runs, strict=True)
        middle = statistics.median(seconds)
        print(
            f"{way:<13} {middle:6.2f} s (from {min(seconds):.2f} to {max(seconds):.2f}), "
            f"{entries[0] / middle:>9,.0f} entries/s, peak {max(peak):,.0f} MB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--times", type=int, default=3)
    arguments = parser.parse_args()
    report(arguments.table, arguments.rounds)
    if arguments.times > 1:
        with repeated(arguments.table, arguments.times) as long:
            print(f"{arguments.times} times as long:")
            report(long, 1)


if __name__ == "__main__":
    main()
