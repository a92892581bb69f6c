"""The one pass over a rescored table: everything that the report says of it, in flat memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from moses_integration.formats.phrase_table import PhraseTable
from moses_integration.formats.table_entries import Entry, Numbers, ScoredEntries, as_text
from moses_integration.report.findings import (
    FREQUENCIES,
    Bin,
    Choice,
    Compared,
    Correlation,
    Disagreement,
    SourcePhrase,
    Survey,
    UnknownOfSide,
)
from moses_integration.report.selections import Lowest
from moses_integration.report.tallies import (
    COUNT_CLASSES,
    Histogram,
    Moments,
    Places,
    bins_of,
    count_class,
    logarithms,
    ranks_within,
    spearman,
)
from phrase_scorer.errors import DataError
from phrase_scorer.runtime.console import progress_bar
from phrase_scorer.runtime.streams import file_size, line_blocks, paused_garbage_collection
from phrase_scorer.text.phrase_pairs import PhraseText, words_of
from phrase_scorer.text.vocabulary import Counts, Vocabulary

DISAGREEMENTS = 60  # of each frequency, in each direction
CHOICES = 10  # frequent sources, and as many rare ones
BEST = 3  # targets of each
LONG_SOURCE = 4  # words
RARE = (2, 5)  # a rare source was seen so often: what was seen once has one target
PHRASES = 1500  # for the map
LENGTHS = 8  # target words; the last class: so many and more
EXTREMES = 35  # best and worst entries for the words' scores, and as many at random
_AT_FLOOR = 1 + 1e-6  # a score that is written with 7 digits


class Kept(NamedTuple):
    """A line of the table that is kept."""

    line: bytes
    number: int

    def entry(self) -> Entry:
        """What stands in it."""
        return Entry.of(*self)


@dataclass(frozen=True)
class SurveyRequest:
    """What to look at, and how much of it to keep."""

    path: str
    scores: int  # of each entry, as its signature has it
    compared: Compared
    vocabularies: dict[str, Vocabulary]  # by side; empty: unknown words are not counted
    sample: int = 20_000
    seed: int = 1
    show_progress: bool = True


def survey(request: SurveyRequest) -> Survey:
    """Reads the table once.

    Raises:
        DataError: It cannot be read, has no entries, or fewer scores than are compared.
    """
    surveyor = Surveyor(request)
    position = 0

    def reached(place: int) -> None:
        nonlocal position
        position = place

    table = PhraseTable(request.path, on_bad_line="keep")
    size = {"total": file_size(request.path), "unit": "B", "unit_divisor": 1024}
    bar = progress_bar("reading", show=request.show_progress, **size)
    with paused_garbage_collection(), bar:
        for block in table.blocks(line_blocks(request.path, position=reached)):
            surveyor.bad_lines += len(block.bad)
            entries = ScoredEntries.of(block)
            if len(entries):
                surveyor.add(entries, block.pairs.sources, block.pairs.targets)
            bar.update(position - bar.n)
    return surveyor.result()


class _Part(NamedTuple):
    """What is computed of a block, for all that look at it."""

    entries: ScoredEntries
    words: Sequence[list[bytes]]  # (entries,) of the target
    x: Numbers  # (entries,) ln p of the table
    y: Numbers  # of the network
    symbols: Numbers  # target words, and the end
    classes: Places  # by how often the pair was seen
    starts: Places  # (sources + 1,) where a source begins
    groups: Places  # (entries,) the number of its source
    table_ranks: Places
    network_ranks: Places

    @property
    def targets(self) -> Places:
        """(entries,) how many targets its source has."""
        return np.diff(self.starts)[self.groups]

    def kept(self, place: int) -> Kept:
        return Kept(self.entries.lines[place], self.entries.numbers[place])


class _Ranked(NamedTuple):
    """A line kept for a disagreement."""

    kept: Kept
    difference: float
    table_rank: int
    network_rank: int
    targets: int


class _Chosen(NamedTuple):
    """A source kept with the best of its targets."""

    source: bytes
    seen: float  # nan: the table does not say
    targets: int
    by_table: list[Kept]
    by_network: list[Kept]
    every_target: list[bytes]


class Surveyor:
    """The pass, block by block."""

    def __init__(self, request: SurveyRequest) -> None:
        self.request = request
        self.bad_lines = 0
        self._random = np.random.default_rng(request.seed)
        self._entries = self._sources = self._floored = 0
        self._nats = self._symbols = 0.0
        self._has_counts = False
        self._moments = [Moments() for _ in (None, *COUNT_CLASSES)]
        self._by_count = Histogram(len(COUNT_CLASSES))
        self._by_length = Histogram(LENGTHS + 1)
        side = self._by_count.counts.shape[1]
        self._bins = np.zeros((side, side), np.int64)
        self._sample: Lowest[Kept] = Lowest(request.sample)
        self._apart: dict[tuple[str, str], Lowest[_Ranked]] = {
            (likes, frequency): Lowest(DISAGREEMENTS)
            for likes in ("network", "table")
            for frequency in FREQUENCIES
        }
        self._choices: dict[str, Lowest[_Chosen]] = {
            kind: Lowest(CHOICES) for kind in ("frequent", "rare")
        }
        self._phrases: list[Lowest[tuple[bytes, float]]] = [Lowest(PHRASES // 2) for _ in range(2)]
        self._extremes: list[Lowest[Kept]] = [Lowest(EXTREMES) for _ in range(2)]
        self._unknown = {side: Counts() for side in request.vocabularies}

    def add(
        self,
        entries: ScoredEntries,
        sources: Sequence[list[bytes]],
        targets: Sequence[list[bytes]],
    ) -> None:
        """Adds the good entries of a block, and their words."""
        self._require(entries)
        part = self._part(entries, targets)
        self._entries += len(entries)
        self._sources += len(part.starts) - 1
        self._has_counts |= bool((part.classes < len(COUNT_CLASSES) - 1).any())
        self._nats -= float(part.y.sum())
        self._symbols += float(part.symbols.sum())
        least = np.exp(self.request.compared.floor) * _AT_FLOOR
        floored = entries.scores[:, self.request.compared.network] <= least
        self._floored += int(floored.sum())
        self._tally(part)
        self._keep(part)
        self._compare(part)
        self._choose(part)
        for side, phrases in (("source", sources), ("target", targets)):
            if side in self._unknown:
                self._unknown[side] += self.request.vocabularies[side].counts_of(phrases)

    def _require(self, entries: ScoredEntries) -> None:
        if (scores := entries.scores.shape[1]) != self.request.scores:
            raise DataError(
                f"{scores} scores, but its signature speaks of {self.request.scores}",
                path=self.request.path,
                line=entries.numbers[0],
                text=entries.lines[0],
            )

    def _part(self, entries: ScoredEntries, targets: Sequence[list[bytes]]) -> _Part:
        compared = self.request.compared
        x, y = (logarithms(entries.scores[:, at]) for at in (compared.table, compared.network))
        sources = entries.sources
        new = [one != other for one, other in zip(sources[1:], sources[:-1], strict=True)]
        starts = np.flatnonzero([True, *new])
        groups = np.cumsum([0, *new])
        lengths = PhraseText.of(targets).word_counts
        ranks = ranks_within(groups, x), ranks_within(groups, y)
        classes = count_class(entries.counts[:, 2])
        bounds = np.append(starts, len(sources))
        return _Part(
            entries, targets, x, y, lengths.astype(np.float64) + 1, classes, bounds, groups, *ranks
        )

    def _tally(self, part: _Part) -> None:
        self._moments[0].add(part.x, part.y)
        for number, moments in enumerate(self._moments[1:]):
            chosen = part.classes == number
            moments.add(part.x[chosen], part.y[chosen])
        self._by_count.add(part.y, part.classes)
        words = np.minimum(part.symbols.astype(np.int64) - 1, LENGTHS)
        self._by_length.add(part.y / part.symbols, words)
        np.add.at(self._bins, (bins_of(part.x), bins_of(part.y)), 1)

    def _keep(self, part: _Part) -> None:
        self._sample.add(self._random.random(len(part.x)), part.kept)
        a_symbol = part.y / part.symbols
        for extreme, sign in zip(self._extremes, (-1, 1), strict=True):
            extreme.add(sign * a_symbol, part.kept)

    def _compare(self, part: _Part) -> None:
        difference = part.y - part.x
        targets = part.targets
        frequency = np.array([2, 1, 1, 0, -1])[part.classes]  # in `FREQUENCIES`

        def ranked(place: int) -> _Ranked:
            ranks = int(part.table_ranks[place]), int(part.network_ranks[place])
            return _Ranked(part.kept(place), float(difference[place]), *ranks, int(targets[place]))

        for (likes, name), kept in self._apart.items():
            sign = -1 if likes == "network" else 1
            # Where the table does not say how often, all are in the first group.
            wanted = frequency == FREQUENCIES.index(name)
            if name == FREQUENCIES[0]:
                wanted |= frequency == -1
            # Ranks must differ too: a table that gives each of 9 targets 1/9 prefers none.
            fits = (part.network_ranks - part.table_ranks) * -sign < 0
            places = np.flatnonzero(wanted & fits & (targets > 1))
            kept.add(
                sign * difference[places],
                lambda n, places=places: ranked(int(places[n])),  # type: ignore[misc]
            )

    def _choose(self, part: _Part) -> None:
        """Sources for the tables, and for the map."""
        starts, sizes = part.starts[:-1], np.diff(part.starts)
        counts = part.entries.counts[starts, 1]
        seen = np.where(np.isnan(counts), sizes, counts)
        words = [len(words_of(part.entries.sources[start])) for start in starts.tolist()]
        long = (np.array(words) >= LONG_SOURCE) & (sizes > 1)
        rare = long & (counts >= RARE[0]) & (counts <= RARE[1])
        drawn = self._random.random((2, len(starts)))
        self._choices["frequent"].add(
            np.where(long, -seen, np.inf), lambda at: self._chosen(part, at)
        )
        self._choices["rare"].add(
            np.where(rare, drawn[0], np.inf), lambda at: self._chosen(part, at)
        )
        mapped = np.array(words) > 1
        for phrases, keys in zip(self._phrases, (-seen, drawn[1]), strict=True):
            phrases.add(
                np.where(mapped, keys, np.inf),
                lambda at: (part.entries.sources[starts[at]], float(counts[at])),
            )

    def _chosen(self, part: _Part, number: int) -> _Chosen:
        start, stop = part.starts[number : number + 2].tolist()
        by_table, by_network = (
            [part.kept(start + at) for at in np.argsort(-z[start:stop], kind="stable")[:BEST]]
            for z in (part.x, part.y)
        )
        source, count = part.entries.sources[start], float(part.entries.counts[start, 1])
        targets = list(map(b" ".join, part.words[start:stop]))
        return _Chosen(source, count, stop - start, by_table, by_network, targets)

    def result(self) -> Survey:
        """All that was found; a DataError tells of a table without entries."""
        if not self._entries:
            raise DataError("no line of it is an entry", path=self.request.path)
        sample = tuple(
            kept.entry() for kept in sorted(self._sample.items(), key=lambda kept: kept.number)
        )
        best, worst = (
            tuple(kept.entry() for kept in extreme.items()) for extreme in self._extremes
        )
        return Survey(
            entries=self._entries,
            bad_lines=self.bad_lines,
            sources=self._sources,
            floored=self._floored,
            nats=self._nats / self._symbols,
            has_counts=self._has_counts,
            correlations=tuple(self._correlations(sample)),
            bins=tuple(
                Bin(x, y, int(self._bins[x, y])) for x, y in np.argwhere(self._bins).tolist()
            ),
            by_count=as_tuples(self._by_count.counts),
            by_length=as_tuples(self._by_length.counts),
            sample=sample,
            disagreements=tuple(self._disagreements()),
            choices=tuple(self._all_choices()),
            phrases=tuple(self._all_phrases()),
            best=best,
            worst=worst,
            unknown=tuple(_unknown(side, counts) for side, counts in self._unknown.items()),
        )

    def _correlations(self, sample: tuple[Entry, ...]) -> Iterator[Correlation]:
        compared = self.request.compared
        scores = np.array([entry.scores for entry in sample]).reshape(len(sample), -1)
        x, y = (logarithms(scores[:, at]) for at in (compared.table, compared.network))
        counts = np.array([entry.counts[2] if entry.counts else np.nan for entry in sample])
        classes = count_class(counts)
        every = np.ones(len(sample), bool)
        for number, moments in enumerate(self._moments):
            chosen = every if number == 0 else classes == number - 1
            name = ("all entries", *COUNT_CLASSES)[number]
            if moments.entries:
                ranked = spearman(x[chosen], y[chosen])
                yield Correlation(name, moments.entries, moments.correlation, ranked)

    def _disagreements(self) -> Iterator[Disagreement]:
        for (likes, frequency), kept in self._apart.items():
            for found in kept.items():
                said = frequency if self._has_counts else "not known"
                yield Disagreement(found.kept.entry(), likes, said, *found[1:])

    def _all_choices(self) -> Iterator[Choice]:
        shown = set()
        for kind, chosen in self._choices.items():
            for found in chosen.items():
                if found.source in shown:  # in a small table a frequent one may be rare, too
                    continue
                shown.add(found.source)
                yield Choice(
                    as_text(found.source),
                    kind,
                    None if np.isnan(found.seen) else found.seen,
                    found.targets,
                    tuple(kept.entry() for kept in found.by_table),
                    tuple(kept.entry() for kept in found.by_network),
                    tuple(map(as_text, found.every_target)),
                )

    def _all_phrases(self) -> Iterator[SourcePhrase]:
        """Each once: the frequent ones first."""
        found = dict(pair for phrases in self._phrases for pair in phrases.items())
        for source, count in found.items():
            yield SourcePhrase(as_text(source), None if np.isnan(count) else count)


def _unknown(side: str, counts: Counts) -> UnknownOfSide:
    examples = counts.examples.most_common(50)
    shown = tuple((as_text(word), count) for word, count in examples)
    return UnknownOfSide(side, counts.looked_up, counts.unknown, shown)


def as_tuples(counts: Places) -> tuple[tuple[int, ...], ...]:
    """Rows as tuples of whole numbers, up to the last bin that any row has a value in."""
    used = int(np.flatnonzero(counts.any(0)).max(initial=-1)) + 1
    return tuple(map(tuple, counts[:, :used].tolist()))
