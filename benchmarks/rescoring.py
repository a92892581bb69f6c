"""Speed and memory of rescoring: the whole, and everything around the network.

    python benchmarks/rescoring.py phrase-table.gz [--model DIR] [--runs 3] [--times 10]

Prints entries/s of `rescore` from gz to gz, with scores from a constant (reading, parsing, ids,
formatting, compressing, writing) and with a model, interleaved; and the peak memory of a process
that rescores the table, and one that is `--times` as long.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from moses_integration.feature_columns import FeatureColumn, translation_column
from moses_integration.phrase_table import PhraseTable
from moses_integration.rescore import rescore
from phrase_scorer.phrase_pairs import PairBlock
from phrase_scorer.scorer import PhraseScorer


def constant_column(scorer: PhraseScorer | None) -> FeatureColumn:
    """Scores that cost nothing, after the words were looked up if there is a vocabulary."""

    def values(block: PairBlock) -> np.ndarray:
        if scorer:
            scorer.ids(block)
        return np.full(len(block.sources), -1.25, np.float32)

    return FeatureColumn("constant", "", values)


def run(table: Path, model: Path | None, constant: bool) -> tuple[int, float, float]:
    """(entries, seconds, peak MB) of one run in this process."""
    scorer = PhraseScorer.load(model, "cpu") if model else None
    column = constant_column(scorer) if constant or not scorer else translation_column(scorer)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        output = Path(folder) / "out.gz"
        done = rescore(PhraseTable(table), output, [column], show_progress=False)
        seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return done.entries, seconds, peak


def in_a_process(*arguments: object) -> tuple[int, float, float]:
    """`run` in a process of its own, so that the peak is that run's."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(run, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--times", type=int, default=10)
    arguments = parser.parse_args()
    kinds = {"constant scores": True} | ({"model": False} if arguments.model else {})
    speeds: dict[str, list[float]] = {kind: [] for kind in kinds}
    peaks = dict.fromkeys(kinds, 0.0)
    for _ in range(arguments.runs):
        for kind, constant in kinds.items():
            entries, seconds, peaks[kind] = in_a_process(arguments.table, arguments.model, constant)
            speeds[kind].append(entries / seconds)
    for kind, values in speeds.items():
        print(
            f"{kind:<16} {statistics.median(values):>9,.0f} entries/s "
            f"(from {min(values):,.0f} to {max(values):,.0f}), peak {peaks[kind]:,.0f} MB"
        )
    if arguments.times > 1:
        with tempfile.TemporaryDirectory() as folder:
            long = Path(folder) / "long.gz"  # gzip members may be concatenated
            with open(long, "wb") as stream:
                for _ in range(arguments.times):
                    stream.write(arguments.table.read_bytes())
            entries, seconds, peak = in_a_process(long, arguments.model, True)
        print(
            f"{entries:,} entries, constant scores: {entries / seconds:,.0f}/s, peak {peak:,.0f} MB"
        )


if __name__ == "__main__":
    main()
