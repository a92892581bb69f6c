"""Files of phrase pairs: lines "source<TAB>target", or two files of lines, side by side.

In: paths. Out: blocks of tokenised pairs. Other files of pairs, such as phrase tables, are read by
whoever knows them, into the same blocks (`PairReader`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from phrase_scorer.errors import DataError, UsageError, require_choice
from phrase_scorer.runtime.output import STANDARD
from phrase_scorer.runtime.streams import Lines, line_blocks, require_readable, shown_blocks
from phrase_scorer.text.line_words import LineWords
from phrase_scorer.text.phrase_pairs import PairBlock, PhraseText, words_of

OnBadLine = Literal["stop", "keep"]


@dataclass(frozen=True)
class PairFiles:
    """Where pairs are read from, and how.

    Raises:
        UsageError: More than two files, or both of them standard input.
        DataError: A file is not there, or cannot be read.
    """

    paths: tuple[str, ...] = (STANDARD,)  # one of pairs, or one of sources and one of targets
    with_counts: bool | None = False  # how often each was seen, too; None: if the file says so
    any_table: bool = False  # take what looks like another kind of table, too
    on_bad_line: OnBadLine = "stop"  # "keep": an empty source is one, too; the rest is `bad`
    at_once: bool = False  # of a pipe what there is; not whole blocks, for which to wait
    bar: str = ""  # what a progress bar over the file says; "": none is shown

    def __post_init__(self) -> None:
        require_choice("treatment of bad lines", self.on_bad_line, get_args(OnBadLine))
        if len(self.paths) > 2:
            raise UsageError(f"{len(self.paths)} files: give one of pairs, or sources and targets")
        if self.paths == (STANDARD, STANDARD):
            raise UsageError("standard input is one file: give another for the targets")
        require_readable(*self.paths)

    @property
    def name(self) -> str:
        """The files as the user named them."""
        return " and ".join(self.paths)

    @property
    def labels(self) -> tuple[str, ...]:
        """What the help calls them."""
        return ("SOURCES", "TARGETS") if len(self.paths) == 2 else ("PAIRS",)

    def lines(self, path: str) -> AbstractContextManager[Iterator[Lines]]:
        """The lines of one of them."""
        if self.bar:
            return shown_blocks(path, self.bar, show=True, mark="strip", at_once=self.at_once)
        return nullcontext(line_blocks(path, mark="strip", at_once=self.at_once))

    def refuse(self, *, counts: str) -> None:
        """Refuses (UsageError) what only a table has."""
        if self.with_counts:
            raise UsageError(counts)
        if self.any_table:
            raise UsageError("--any-table needs a phrase table")


PairReader = Callable[[PairFiles], Iterator[PairBlock]]
NO_COUNTS = "--weight-by-count needs a phrase table with counts"


def read_pairs(given: PairFiles) -> Iterator[PairBlock]:
    """Reads lines "source<TAB>target", or two files of lines; none of them has counts."""
    given.refuse(counts=NO_COUNTS)
    return read_parallel(given) if len(given.paths) == 2 else read_tab_separated(given)


def read_tab_separated(given: PairFiles) -> Iterator[PairBlock]:
    """Blocks of the pairs of a file of "source<TAB>target" lines."""
    (path,) = given.paths
    with given.lines(path) as blocks:
        for block in blocks:
            yield pairs_of_lines(block, b"\t", path, given.on_bad_line)


def pairs_of_lines(
    lines: Lines, separator: bytes, path: str | Path, on_bad_line: OnBadLine = "stop"
) -> PairBlock:
    """The pairs of lines "source<separator>target".

    A line with another number of separators, or with an empty source, is a DataError.
    """
    if separator == b"\t" and (pairs := _regular_pairs(lines.lines)):
        return pairs
    sources: list[list[bytes]] = []
    targets: list[list[bytes]] = []
    bad: dict[int, bytes] = {}
    for number, line in enumerate(lines.lines, lines.first):
        fields = line.removesuffix(b"\r").split(separator)
        source = words_of(fields[0])
        problem = "" if source or on_bad_line == "keep" else "empty source"
        if len(fields) != 2:
            found = "" if len(fields) < 2 else f"{len(fields)} columns, "
            expected = "a tab" if separator == b"\t" else f'"{separator.decode()}"'
            problem = f"{found}expected source, {expected}, target"
        if problem and on_bad_line == "stop":
            raise DataError(problem, path=path, line=number, text=line)
        if problem:
            bad[len(sources)] = line
        sources.append([] if problem else source)
        targets.append([] if problem else words_of(fields[1]))
    return PairBlock(sources, targets, bad=bad)


def _regular_pairs(lines: Sequence[bytes]) -> PairBlock | None:
    """The pairs of lines "source<TAB>target", where all surely are such."""
    words = LineWords.of(lines)
    if words is None:
        return None
    tabs = np.flatnonzero(words.every_byte == ord("\t"))
    if len(tabs) != len(lines) or not ((words.ends[:-1] < tabs) & (tabs < words.ends[1:])).all():
        return None
    first, middle = words.firsts[:-1], np.searchsorted(words.before, tabs)
    if (first == middle).any():
        return None
    return PairBlock(words.phrases(first, middle), words.phrases(middle, words.firsts[1:]))


def read_parallel(given: PairFiles) -> Iterator[PairBlock]:
    """The pairs of two files, of which line n of the one belongs to line n of the other.

    Files of unequal length are a DataError, and so is an empty source (unless that is kept).
    """
    one, other = given.paths
    targets = line_blocks(other, mark="strip", at_once=given.at_once)
    with given.lines(one) as sources:
        for first, block in _in_step((sources, targets), given.paths):
            source_phrases, target_phrases = map(_phrases, block)
            empty = np.flatnonzero(source_phrases.word_counts == 0)
            if len(empty) and given.on_bad_line == "stop":
                raise DataError("empty source", path=one, line=first + int(empty[0]))
            yield PairBlock(source_phrases, target_phrases)


def _phrases(lines: Sequence[bytes]) -> PhraseText:
    """The words of each line."""
    if words := LineWords.of(lines):
        return words.phrases(words.firsts[:-1], words.firsts[1:])
    return PhraseText.of([words_of(line.removesuffix(b"\r")) for line in lines])


def _in_step(
    sides: Sequence[Iterator[Lines]], paths: Sequence[str]
) -> Iterator[tuple[int, list[list[bytes]]]]:
    """(number of the first, as many lines of each side); DataError where one has more."""
    first, waiting = 1, [list[bytes]() for _ in sides]
    while True:
        for lines, side in zip(waiting, sides, strict=True):
            if not lines and (block := next(side, None)):
                lines += block.lines
        count = min(map(len, waiting))
        if not count:
            break
        yield first, [lines[:count] for lines in waiting]
        waiting = [lines[count:] for lines in waiting]
        first += count
    for path, other, lines in zip(paths, reversed(paths), waiting, strict=True):
        if lines:
            message = f"{other} has only {first - 1:,} lines: as many are needed"
            raise DataError(message, path=path, line=first, text=lines[0])
