"""What a column says of held-out aligned phrases that the table's own scores do not.

    python benchmarks/column_ranking.py phrase-table.gz near.extract far.extract \
        [--model DIR … | --mean DIR,DIR …]

An event is a phrase pair of held-out, word-aligned text (a line of what Moses' `extract` writes)
whose source has two entries or more in the table, the pair's among them. A log-linear model over
the entries of the source, with ln of the table's scores as features, is fitted to the first file's
events, without and with the column; printed is what the column adds to the mean ln p of an event,
in nats: on the first file (in two halves, each by the weights of the other) and on the second,
there also by the count of the source and of the pair. The table must not know the held-out text.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from phrase_scorer.runtime.streams import numbered_lines
from phrase_scorer.scoring.scorer import PhraseScorer, mixture
from phrase_scorer.text.phrase_pairs import PairBlock

MOST_CANDIDATES = 30  # of a source, the most probable by p(e|f)
P_TARGET = 2  # place of p(e|f) among the scores
LEAST = 1e-40  # of a score
PENALTY = 1e-4  # of squared weights, for features of deviation 1
CLASSES = ((2, 4), (4, 10), (10, 100), (100, 1 << 40))  # counts, the upper ones not included

Pair = tuple[bytes, bytes]
Values = npt.NDArray[np.float64]


class Choices:
    """The entries of the sources that occur in the events, and which of them the events are."""

    def __init__(self, table: Path, extracts: Sequence[Path]) -> None:
        events = [Counter(_extracted(path)) for path in extracts]
        wanted = {source for found in events for source, _ in found}
        entries: dict[bytes, list[tuple[bytes, list[float], list[float]]]] = defaultdict(list)
        for _, text in numbered_lines(table):
            fields = [field.strip() for field in text.split(b"|||")]
            if fields[0] in wanted:
                scores, counts = ([float(x) for x in fields[place].split()] for place in (2, 4))
                entries[fields[0]].append((fields[1], scores, counts))
        self.pairs: list[Pair] = []
        features, counts, source_of = [], [], []
        for number, (source, candidates) in enumerate(entries.items()):
            candidates.sort(key=lambda entry: -entry[1][P_TARGET])
            for target, scores, numbers in candidates[:MOST_CANDIDATES]:
                self.pairs.append((source, target))
                features.append(np.log(np.maximum(scores, LEAST)))
                counts.append(numbers[1:3])  # of the source, of the pair
                source_of.append(number)
        self.features, self.counts = np.array(features), np.array(counts)
        self.source_of = torch.tensor(source_of)
        several = np.bincount(source_of)[source_of] > 1
        row_of = {pair: row for row, pair in enumerate(self.pairs) if several[row]}
        self.events = [
            np.array([(row_of[pair], n) for pair, n in found.items() if pair in row_of])
            for found in events
        ]

    def log_probs(self, features: Values, events: Values) -> Values:
        """(entries,) ln p of each among those of its source, by weights fitted to the events."""
        z = torch.tensor((features - features.mean(0)) / (features.std(0) + 1e-9))
        rows, n = torch.tensor(events[:, 0]).long(), torch.tensor(events[:, 1]).double()
        weights = torch.zeros(z.shape[1], dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([weights], max_iter=60, line_search_fn="strong_wolfe")

        def log_probs() -> torch.Tensor:
            totals = z @ weights
            most = torch.full((int(self.source_of[-1]) + 1,), -1e30, dtype=torch.float64)
            most = most.scatter_reduce(0, self.source_of, totals.detach(), "amax")
            terms = (totals - most[self.source_of]).exp()
            log_z = torch.zeros_like(most).index_add(0, self.source_of, terms).log() + most
            return totals - log_z[self.source_of]

        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            value = -(log_probs()[rows] * n).sum() / n.sum() + PENALTY * (weights**2).sum()
            value.backward()
            return value

        optimizer.step(loss)
        return log_probs().detach().numpy()

    def means(self, column: Values | None) -> dict[str, float]:
        """Mean ln p of an event, by file and class."""
        parts = [self.features] if column is None else [self.features, column[:, None]]
        features = np.concatenate(parts, 1)
        near, far = self.events
        half = self.source_of.numpy()[near[:, 0]] % 2 == 0
        first, other = (self.log_probs(features, near[part]) for part in (half, ~half))
        found = np.where(half, other[near[:, 0]], first[near[:, 0]])
        means = {"first file": float(np.average(found, weights=near[:, 1]))}
        values, n = self.log_probs(features, near)[far[:, 0]], far[:, 1]
        of_source, of_pair = self.counts[far[:, 0]].T
        classes = {"second file": n > 0, "pair once": of_pair == 1, "pair oftener": of_pair > 1}
        classes |= {f"source {a}-": (of_source >= a) & (of_source < b) for a, b in CLASSES}
        for name, chosen in classes.items():
            means[name] = float(np.average(values[chosen], weights=n[chosen]))
        return means


def _extracted(path: Path) -> Iterator[Pair]:
    for _, text in numbered_lines(path):
        source, target, *_ = text.split(b"|||")
        yield source.strip(), target.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("extracts", type=Path, nargs=2)
    parser.add_argument("--model", type=Path, action="append", default=[])
    parser.add_argument("--mean", action="append", default=[], help="DIR,DIR: mixed in equal parts")
    arguments = parser.parse_args()
    choices = Choices(arguments.table, arguments.extracts)
    sizes = ", ".join(f"{int(events[:, 1].sum()):,}" for events in choices.events)
    print(f"{len(choices.pairs):,} entries; events: {sizes}")
    base = choices.means(None)
    print("scores alone:", ", ".join(f"{name} {value:+.4f}" for name, value in base.items()))
    sources, targets = (
        [phrase.split() for phrase in side] for side in zip(*choices.pairs, strict=True)
    )
    pairs = PairBlock(sources, targets)
    for paths in [[path] for path in arguments.model] + [m.split(",") for m in arguments.mean]:
        scores = [PhraseScorer.load(path, "cpu").score_block(pairs) for path in paths]
        means = choices.means(mixture(scores).astype(float))
        shown = ", ".join(f"{name} {means[name] - base[name]:+.4f}" for name in base)
        print(f"{' + '.join(map(str, paths))}: {shown}", flush=True)


if __name__ == "__main__":
    main()
