"""What rescoring a table would take, from a sample: lines, sharing, unknown words, time, memory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np

from moses_integration.formats.phrase_table import TableBlock
from moses_integration.rescoring.block import Rescorer, TextBlock, Watched
from moses_integration.rescoring.columns import Column, scorers_of
from moses_integration.rescoring.request import DEFAULT_FLOOR, WORKER_IMPORTS
from moses_integration.rescoring.stream import TableReader, in_this_process
from phrase_scorer.runtime.report import duration
from phrase_scorer.runtime.streams import paused_garbage_collection
from phrase_scorer.runtime.workers import memory_of, ordered_map
from phrase_scorer.scoring.scorer import PhraseScorer, single_threaded_torch
from phrase_scorer.text.phrase_pairs import PairBlock
from phrase_scorer.text.vocabulary import Counts

COUNT_ERROR = 0.2  # of a count by size: lines may be longer here than there in the table
SAMPLE_ENTRIES = 200_000
MEASURED_BLOCKS = 3  # of each process: then memory grows no more
TIMED_ENTRIES = 4_096


@dataclass(frozen=True)
class Estimate:
    """What is expected, from the first entries of a table."""

    sampled: int  # entries read
    entries: int  # of the whole table, as `extent` says
    sources: int  # distinct source phrases in the sample
    sides: dict[str, Counts]  # of the words of "source" and "target"
    pairs_per_second: float  # of the scorers, on part of the sample
    memory: int  # peak of all processes, in bytes
    processes: int = 1  # that score
    extent: str = ""  # "": counted, "about ": by file size, "at least ": size unknown

    @property
    def seconds(self) -> float:
        """Time that scoring the table would take; 0 where there was nothing to score."""
        return self.entries / self.pairs_per_second if self.pairs_per_second else 0.0

    def statistics(self) -> dict[str, Any]:
        """The same for JSON: times in seconds, memory in bytes, shares from 0 to 1."""
        return {
            "entries": self.entries,
            "entries_are": self.extent.strip() or "counted",
            "entries_error": COUNT_ERROR if self.extent == "about " else None,
            "sampled": self.sampled,
            "sources": self.sources,
            "unknown": {name: side.unknown_share for name, side in self.sides.items()},
            "entries_per_second": self.pairs_per_second,
            "seconds": self.seconds,
            "memory": self.memory,
            "processes": self.processes,
        }

    def lines(self) -> Iterator[str]:
        """As a user reads it."""
        about = f" ± {COUNT_ERROR:.0%}" * (self.extent == "about ")
        yield f"entries            {self.extent}{self.entries:,}{about} (sample: {self.sampled:,})"
        per_source = self.sampled / max(1, self.sources)
        yield f"distinct sources   {self.sources:,} in the sample, {per_source:.2f} targets each"
        for name, side in self.sides.items():
            yield f"unknown words      {name}: {side.unknown_share:.2%} of {side.looked_up:,}"
        yield f"speed              {self.pairs_per_second:,.0f} entries/s"
        yield f"time               {self.extent or 'about '}{duration(self.seconds)}"
        where = f" in {self.processes} processes and this one" * (self.processes > 1)
        size = f"about {self.memory / 2**20:,.0f} MB{where}"
        yield f"memory             {size}, whatever the table's length"


def estimate(
    reader: TableReader,
    columns: Sequence[Column],
    processes: int = 1,
    sample: int = SAMPLE_ENTRIES,
) -> Estimate:
    """Reads the first `sample` entries, scores some of them, and extrapolates.

    The first blocks are scored in as many processes as the table would be, for their memory alone:
    before the sample, which a rescoring would not hold, takes any.
    """
    blocks, scorers = reader.table_blocks(), scorers_of(columns)
    first = [TextBlock.of(block.lines) for block in islice(blocks, MEASURED_BLOCKS * processes)]
    rescorer = Rescorer(reader.table, columns, DEFAULT_FLOOR, compressed=True)
    memory = _memory(rescorer, first, processes)
    parsed = (reader.table.parse(block.lines()) for block in first)
    taken = list(_take(chain(parsed, blocks), sample))
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
        memory,
        processes,
        extent,
    )


def _memory(rescorer: Rescorer, blocks: Sequence[TextBlock], processes: int) -> int:
    """The peak memory of rescoring a table, from these blocks of it."""
    known, peak = {os.getpid()}, 0
    with single_threaded_torch(), paused_garbage_collection():
        if processes == 1:
            with closing(in_this_process(rescorer, iter(blocks))) as scored:
                return max(memory_of(known) for _ in scored)
        watched = ordered_map(Watched(rescorer), blocks, processes, imports=WORKER_IMPORTS)
        with closing(watched) as scored:
            for _, others in scored:
                known |= others
                peak = max(peak, memory_of(known))
    return peak


def _take(blocks: Iterable[TableBlock], entries: int) -> Iterator[TableBlock]:
    for block in blocks:
        yield block
        entries -= len(block.lines.lines)
        if entries <= 0:
            return


def unknown_words(blocks: list[TableBlock], scorer: PhraseScorer) -> dict[str, Counts]:
    """How many of the words the model does not know."""
    known = scorer.vocabularies
    return {
        "source": known["source"].counts_of(chain.from_iterable(b.pairs.sources for b in blocks)),
        "target": known["target"].counts_of(chain.from_iterable(b.pairs.targets for b in blocks)),
    }


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
