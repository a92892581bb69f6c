"""What the pass over a table finds: plain values, which the page shows and report.json holds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from moses_integration.formats.table_entries import Entry

FREQUENCIES = ("often", "seldom", "once")  # of a pair: 10 times and more, 2 to 9 times, once


@dataclass(frozen=True)
class Compared:
    """Two scores of each entry: the table's own, and the network's."""

    table: int  # place among the scores, from 0
    network: int
    floor: float = -math.inf  # least natural logarithm that was written as the network's


@dataclass(frozen=True)
class Correlation:
    """How two scores' logarithms go together, in one class of entries; None: one is constant."""

    name: str
    entries: int
    pearson: float | None  # over all entries
    spearman: float | None  # over the sample


@dataclass(frozen=True)
class Bin:
    """A square of `BIN` nats and the entries in it: (-(x + 1) BIN, -x BIN] of the table's ln p."""

    x: int
    y: int
    entries: int


@dataclass(frozen=True)
class Disagreement:
    """An entry of which one side thinks more than the other."""

    entry: Entry
    likes: str  # "network" or "table": who gives it more
    frequency: str  # one of `FREQUENCIES`
    difference: float  # ln p of the network less the table's
    table_rank: int  # among the targets of its source, from 1; equal ones share a rank
    network_rank: int
    targets: int  # how many its source has


@dataclass(frozen=True)
class Choice:
    """A source phrase, and the best of its targets by either score (the paper's table 2)."""

    source: str
    kind: str  # "frequent" or "rare"
    count: float | None  # how often it was seen; None: the table does not say
    targets: int
    by_table: tuple[Entry, ...]
    by_network: tuple[Entry, ...]
    every_target: tuple[str, ...]  # all that it has in the table


@dataclass(frozen=True)
class UnknownOfSide:
    """Of one side, the words that the network does not know."""

    side: str
    words: int  # of all phrases, each entry counted
    unknown: int
    examples: tuple[tuple[str, int], ...]  # the most frequent: (word, how often)


@dataclass(frozen=True)
class SourcePhrase:
    """A source phrase for the map."""

    text: str
    count: float | None


@dataclass(frozen=True)
class Survey:
    """What one pass over a table finds."""

    entries: int
    bad_lines: int  # no entries: left out of everything
    sources: int  # runs of lines with the same source
    floored: int  # entries whose score of the network stands at its floor
    nats: float | None  # mean of -ln p a symbol, the end symbol counted
    has_counts: bool
    correlations: tuple[Correlation, ...]  # of all entries, then by how often a pair was seen
    bins: tuple[Bin, ...]
    by_count: tuple[tuple[int, ...], ...]  # histogram of the network's ln p, by `COUNT_CLASSES`
    by_length: tuple[tuple[int, ...], ...]  # of ln p a symbol, by target words: 0, 1, … 8 and more
    sample: tuple[Entry, ...]  # drawn at random, in the order of the table
    disagreements: tuple[Disagreement, ...]
    choices: tuple[Choice, ...]
    phrases: tuple[SourcePhrase, ...]
    best: tuple[Entry, ...]  # by ln p a symbol
    worst: tuple[Entry, ...]
    unknown: tuple[UnknownOfSide, ...]
