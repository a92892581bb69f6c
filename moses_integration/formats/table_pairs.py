"""The phrase pairs of whatever file of them a user has: a phrase table, or lines of pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from moses_integration.formats.phrase_table import SEPARATOR, PhraseTable
from moses_integration.formats.table_arrays import RegularEntries
from phrase_scorer.errors import DataError
from phrase_scorer.runtime.streams import Lines
from phrase_scorer.text.pair_files import NO_COUNTS, PairFiles, pairs_of_lines, read_pairs
from phrase_scorer.text.phrase_pairs import PairBlock, PhraseText

NO_PAIR = (
    "neither source, a tab, target, nor source ||| target, nor an entry of a phrase table (two "
    "files of lines are read, too)"
)


def read_table_or_pairs(given: PairFiles) -> Iterator[PairBlock]:
    """The pairs of a phrase table, of lines "source<TAB>target" or "source ||| target", or of two
    files of lines.

    The first line decides: two bars or more make a phrase table, one bar a list of pairs. Where bad
    lines are kept, it is the first that has bars or a tab.
    """
    if len(given.paths) == 2:
        blocks = read_pairs(given)
        yield from blocks if given.on_bad_line == "keep" else _texts(blocks, given.paths)
        return
    (path,) = given.paths
    with given.lines(path) as lines:
        first = next(lines, None)
        if first is None:
            return
        bars = _bars(first, given)
        if bars > 1:
            yield from _table_pairs(given, chain([first], lines))
            return
        given.refuse(counts=NO_COUNTS)
        for block in chain([first], lines):
            yield pairs_of_lines(block, SEPARATOR if bars else b"\t", path, given.on_bad_line)


def _bars(lines: Lines, given: PairFiles) -> int:
    """How many bars the first line has; where bad ones are kept, the first that may be a pair."""
    (path,) = given.paths
    for number, line in enumerate(lines.lines, lines.first):
        bars, tabs = line.count(SEPARATOR), line.count(b"\t")
        if bars == 1 and tabs == 1 and given.on_bad_line == "stop":
            message = 'both a tab and "|||": which of them is between source and target?'
            raise DataError(message, path=path, line=number, text=line)
        if bars or tabs:
            return bars
        if given.on_bad_line == "stop":
            raise DataError(NO_PAIR, path=path, line=number, text=line)
    return 0


def _texts(blocks: Iterator[PairBlock], paths: Sequence[str]) -> Iterator[PairBlock]:
    """The blocks of two files that must be of text: a DataError tells of a phrase table's line."""
    bars, before = SEPARATOR, 0
    for block in blocks:
        for path, phrases in zip(paths, (block.sources, block.targets), strict=True):
            if isinstance(phrases, PhraseText) and bars not in phrases.text:
                continue
            for number, words in enumerate(phrases, before + 1):
                if bars in words:
                    message = (
                        "a line of a phrase table: of two files, each line is one phrase "
                        "(train takes a second table as --also)"
                    )
                    raise DataError(message, path=path, line=number, text=b" ".join(words))
        before += len(block.sources)
        yield block


def _table_pairs(given: PairFiles, lines: Iterator[Lines]) -> Iterator[PairBlock]:
    table = PhraseTable(
        given.paths[0],
        on_bad_line=given.on_bad_line,
        with_counts=given.with_counts is not False,
        any_table=given.any_table,
    )
    for block in table.cut(lines):
        yield _entries(table, block)


def _entries(table: PhraseTable, lines: Lines) -> PairBlock:
    assert table.scores is not None
    if entries := RegularEntries.of(lines.lines, table.scores):
        return entries.pairs(with_counts=table.with_counts)
    block = table.parse(lines)
    if not block.bad:
        return block.pairs
    assert block.pairs.counts is None
    sources, targets = map(list, (block.pairs.sources, block.pairs.targets))
    for place in block.bad:  # ascending
        sources.insert(place, [])
        targets.insert(place, [])
    return PairBlock(sources, targets, bad={place: lines.lines[place] for place in block.bad})
