"""Product and log-sum-exp over the shortlist: all rows at once against blocks that stay in cache.

    python benchmarks/loss.py [--words 15000] [--rank 100] [--rows 4096]

Prints microseconds per row for several block sizes, interleaved, and the ratio to all rows at once;
for scoring (no gradient) and for training (value and gradient).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from phrase_scorer.training import loss

BLOCKS = (64, 128, 256, 512, 1024, 2048)
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--words", type=int, default=15_000)
    parser.add_argument("--rank", type=int, default=100)
    parser.add_argument("--rows", type=int, default=4096)
    sizes = parser.parse_args()
    features = torch.randn(sizes.rows, sizes.rank)
    weight = torch.randn(sizes.rank, sizes.words) / sizes.rank**0.5
    bias = torch.zeros(sizes.words)
    words = torch.randint(sizes.words, (sizes.rows,))
    ones = torch.ones(sizes.rows)

    def score() -> None:
        with torch.inference_mode():
            loss.chosen_log_probs(features, weight, bias, words)

    def train() -> None:
        loss.cross_entropy(features, weight, bias, words, ones)

    for name, task in (("scoring", score), ("training", train)):
        times = measure(task, sizes.words, sizes.rows)
        whole = times[sizes.rows]
        for rows, seconds in times.items():
            print(
                f"{name:<9} {rows:>5} rows at once  {seconds / sizes.rows * 1e6:6.1f} µs a row  "
                f"{whole / seconds:5.2f} × as fast as all at once"
            )


def measure(task: Callable[[], None], words: int, rows: int) -> dict[int, float]:
    """Median seconds for each block size, the sizes in turn."""
    sizes = [size for size in BLOCKS if size < rows] + [rows]
    times: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(ROUNDS):
        for size in sizes:
            loss.LOGITS_IN_CACHE = size * words
            began = time.perf_counter()
            task()
            times[size].append(time.perf_counter() - began)
    return {size: statistics.median(seconds) for size, seconds in times.items()}


if __name__ == "__main__":
    main()
