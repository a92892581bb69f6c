"""What rescoring a table would take, from a sample: lines, sharing, unknown words, time, memory."""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np

from moses_integration.formats.phrase_table import TableBlock
from moses_integration.rescoring.stream import TableReader
from phrase_scorer.scoring.scorer import PhraseScorer
from phrase_scorer.text.phrase_pairs import PairBlock
from phrase_scorer.text.vocabulary import UNKNOWN

SAMPLE_ENTRIES = 200_000
TIMED_ENTRIES = 4_096
UNKNOWN_SHOWN = 5


class Side(NamedTuple):
    """Words of one side of a sample."""

    words: int
    unknown: int
    examples: Sequence[bytes] = ()  # the most frequent unknown words

    @property
    def share(self) -> float:
        """The share of words that the model does not know."""
        return self.unknown / max(1, self.words)


@dataclass(frozen=True)
class Estimate:
    """What is expected, from the first entries of a table."""

    sampled: int  # entries read
    entries: int  # of the whole table, as `extent` says
    sources: int  # distinct source phrases in the sample
    sides: dict[str, Side]  # "source" and "target"
    pairs_per_second: float  # of the scorers, on part of the sample
    memory: int  # peak of this process so far, in bytes
    extent: str = ""  # "": counted, "about ": by file size, "at least ": size unknown

    @property
    def seconds(self) -> float:
        """Time that scoring the table would take; 0 where there was nothing to score."""
        return self.entries / self.pairs_per_second if self.pairs_per_second else 0.0

    def lines(self) -> Iterator[str]:
        """As a user reads it."""
        yield f"entries            {self.extent}{self.entries:,} (sample: {self.sampled:,})"
        per_source = self.sampled / max(1, self.sources)
        yield f"distinct sources   {self.sources:,} in the sample, {per_source:.2f} targets each"
        for name, side in self.sides.items():
            yield f"unknown words      {name}: {side.share:.2%} of {side.words:,}"
        yield f"speed              {self.pairs_per_second:,.0f} entries/s"
        yield f"time               {self.extent or 'about '}{duration(self.seconds)}"
        yield f"memory             about {self.memory / 2**20:,.0f} MB, whatever the table's length"


def duration(seconds: float) -> str:
    """1 h 2 min, 3 min 4 s, or 5 s."""
    minutes, hours = seconds / 60, seconds / 3600
    if hours >= 1:
        return f"{int(hours)} h {int(minutes % 60)} min"
    return f"{int(minutes)} min {int(seconds % 60)} s" if minutes >= 1 else f"{seconds:.0f} s"


def estimate(
    reader: TableReader, scorers: Sequence[PhraseScorer], sample: int = SAMPLE_ENTRIES
) -> Estimate:
    """Reads the first `sample` entries, scores some of them with each, and extrapolates."""
    blocks = reader.table_blocks()
    taken = list(_take(blocks, sample))
    entries = sampled = sum(len(block.lines.lines) for block in taken)
    extent = "" if next(blocks, None) is None else "at least "
    if extent and (size := reader.size):
        extent, entries = "about ", round(sampled * size / max(1, reader.position))
    distinct = {tuple(words) for block in taken for words in block.pairs.sources}
    return Estimate(
        sampled,
        entries,
        len(distinct),
        unknown_words(taken, scorers[0]),
        _speed(taken, scorers),
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        extent,
    )


def _take(blocks: Iterator[TableBlock], entries: int) -> Iterator[TableBlock]:
    for block in blocks:
        yield block
        entries -= len(block.lines.lines)
        if entries <= 0:
            return


def unknown_words(blocks: list[TableBlock], scorer: PhraseScorer) -> dict[str, Side]:
    """How many of the words the model does not know, with examples."""
    sides = {}
    for name in ("source", "target"):
        vocabulary = scorer.vocabularies[name]
        phrases = chain.from_iterable(getattr(block.pairs, f"{name}s") for block in blocks)
        counts = Counter(chain.from_iterable(phrases))
        unknown = {w: n for w, n in counts.items() if vocabulary.id(w) == UNKNOWN}
        examples = sorted(unknown, key=lambda w: (-unknown[w], w))[:UNKNOWN_SHOWN]
        sides[name] = Side(counts.total(), sum(unknown.values()), examples)
    return sides


def _speed(blocks: list[TableBlock], scorers: Sequence[PhraseScorer]) -> float:
    """Entries per second, measured on entries from all over the sample."""
    pairs = [pair for b in blocks for pair in zip(b.pairs.sources, b.pairs.targets, strict=True)]
    runs = max(1, min(16, len(pairs) // 256))
    size = min(len(pairs), TIMED_ENTRIES) // runs
    starts = np.linspace(0, len(pairs) - size, runs).astype(int).tolist()
    chosen = [pair for start in starts for pair in pairs[start : start + size]]
    block = PairBlock([source for source, _ in chosen], [target for _, target in chosen])
    for scorer in scorers:
        scorer.score_block(block)  # the first call pays for what is made once
    began = time.perf_counter()
    for scorer in scorers:
        scorer.score_block(block)
    return len(chosen) / (time.perf_counter() - began)
