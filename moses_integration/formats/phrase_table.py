"""Entries of a Moses phrase table as bytes: read, validated, scores appended, all else unchanged.

An entry is `source ||| target ||| scores [||| alignment ||| counts ||| sparse ||| properties]`
(Moses: moses/TranslationModel/RuleTable/LoaderStandard.cpp). Bytes in, bytes out: no encoding is
assumed, blank and TAB alone separate words, b"\\n" alone ends a line. A block of entries is checked
as a whole by a few fast operations; only where one of them objects is it read line by line, to say
which line it is and what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from phrase_scorer.errors import DataError
from phrase_scorer.runtime.numbers import LARGEST_FLOAT32, real_number
from phrase_scorer.runtime.streams import Lines, line_blocks
from phrase_scorer.text.pair_files import OnBadLine
from phrase_scorer.text.phrase_pairs import PairBlock, words_of, words_of_each

SEPARATOR = b"|||"
BLANKS = b" \t"  # Moses knows no others, and takes one carriage return off the end of a line
BLOCK_ENTRIES = 8192
LONGEST_BLOCK = 4 * BLOCK_ENTRIES  # where a source has more targets than that, it is cut
SUMS_TO_BELIEVE = 10  # of different scores, each 1, before a table is taken for a reordering table
SUM_ERROR = 1e-4  # of 4 numbers with 5 digits and more
FIELDS = 3  # source, target, scores: what an entry must have
_SCORE_BYTES = b"0123456789.eE+- \t"
_BRACKETED = re.compile(rb"(?<![^ \t\n])\[[^ \t\n]*\](?![^ \t\n])")  # a word like [this]
_LEFT_HAND_SIDE = re.compile(rb"(?:^|[ \t])\[([^ \t]*)\][ \t]*$")
_WORD = re.compile(rb"[^ \t]+")


class Problem(NamedTuple):
    """What is wrong with a line, and the text that is."""

    message: str
    text: bytes


@dataclass(frozen=True)
class TableBlock:
    """Consecutive entries of a table, cut where the source changes."""

    lines: Lines  # as read
    pairs: PairBlock  # the words (surface factors) of the good lines
    score_ends: list[int | None]  # for each line the place after its last score; None: no scores
    bad: list[int] = field(default_factory=list)  # places in `lines`, where bad ones are kept

    def with_scores(self, columns: Sequence[Sequence[bytes]]) -> bytes:
        """The text of the block with one more score per column in each line.

        `columns` has a list for each column, and in it a text for each line.
        """
        one = len(columns) == 1
        added = columns[0] if one else map(b" ".join, zip(*columns, strict=True))
        entries = [
            line if end is None else b"%b %b%b" % (line[:end], score, line[end:])
            for line, end, score in zip(self.lines.lines, self.score_ends, added, strict=True)
        ]
        return b"\n".join(entries) + b"\n" * self.lines.ended

    def with_other_scores(self, places: Sequence[int], columns: Sequence[Sequence[bytes]]) -> bytes:
        """The text of the block with other texts at these places among the scores of each line.

        `columns` has a list for each place, as those of `with_scores`. Bad lines stay as they are.
        """
        bad, order = frozenset(self.bad), np.argsort(places)[::-1].tolist()  # from the last one
        entries = []
        for number, (line, end) in enumerate(zip(self.lines.lines, self.score_ends, strict=True)):
            changed = line
            if end is not None and number not in bad:
                words = list(_WORD.finditer(line, _third_field(line), end))
                for each in order:
                    start, stop = words[places[each]].span()
                    changed = changed[:start] + columns[each][number] + changed[stop:]
            entries.append(changed)
        return b"\n".join(entries) + b"\n" * self.lines.ended

    def without_scores(self, places: Collection[int], scores: int) -> bytes | int:
        """The text of the block without some of the `scores` of each line, as before `with_scores`.

        A bad line that was kept loses its last ones, where `places` are the last. The number of a
        line that has not as many is returned instead.
        """
        last = sorted(places) == list(range(scores - len(places), scores))
        left = []
        bad = frozenset(self.bad)
        for place, (line, end) in enumerate(zip(self.lines.lines, self.score_ends, strict=True)):
            if end is None:
                left.append(line)
                continue
            start = _third_field(line)
            ends = [start, *(start + word.end() for word in _WORD.finditer(line[start:end]))]
            gone = places
            if place in bad:  # it need not have as many scores as the others
                gone = range(len(ends) - 1 - len(places), len(ends) - 1) if last else ()
            if not gone or min(gone) < 1 or max(gone) > len(ends) - 2:
                return self.lines.first + place
            cut = line
            for score in sorted(gone, reverse=True):
                cut = cut[: ends[score]] + cut[ends[score + 1] :]
            left.append(cut)
        return b"\n".join(left) + b"\n" * self.lines.ended


@dataclass(eq=False)
class PhraseTable:
    """A phrase table to be read once, in blocks."""

    path: str | Path  # plain, gz, bz2, xz or zst; `-` is standard input
    _: KW_ONLY
    scores: int | None = None  # how many a line must have; None: as many as the first line
    on_bad_line: OnBadLine = "stop"  # "keep": it is passed on, listed in `TableBlock.bad`
    with_counts: bool = False  # read the pairs' joint counts (the fifth field's last number)
    block_entries: int = BLOCK_ENTRIES  # about how many entries a block has
    any_table: bool = False  # take what looks like a reordering table, too

    def blocks(self, lines: Iterable[Lines] | None = None) -> Iterator[TableBlock]:
        """The entries in order; as `cut`, and a bad line is a DataError (`parse`)."""
        return map(self.parse, self.cut(lines))

    def cut(self, lines: Iterable[Lines] | None = None) -> Iterator[Lines]:
        """The lines in blocks, from the first on with a known number of scores.

        `lines` may come from a reader of the caller's. A table without entries is a DataError.
        """
        empty = True
        for block in cut_at_sources(lines or line_blocks(self.path), self.block_entries):
            empty = False
            self.require_known_scores(block)
            yield block
        if empty:
            raise DataError("the phrase table is empty", path=self.path)

    def parse(self, lines: Lines) -> TableBlock:
        """The entries of some lines; DataError for a bad one, unless it is kept."""
        self.require_known_scores(lines)
        block = self._parse_good(lines)
        return self._parse_each(lines) if block is None else block

    def require_known_scores(self, lines: Lines) -> None:
        """Takes the number of scores from the first lines, if it is not known yet.

        A DataError tells of a hierarchical table, and of a reordering table unless `any_table`
        wants it.
        """
        if self.scores is None:
            if is_hierarchical(lines.lines):
                first = lines.lines[0]
                raise DataError(HIERARCHICAL, path=self.path, line=lines.first, text=first)
            self.scores = self._count_scores(lines)
            if not self.any_table and (signs := signs_of_reordering(lines.lines)):
                what = f"looks like a reordering table: {signs}, no alignment"
                told = "rescore, check, score and train take it with --any-table"
                raise DataError(f"{what} ({len(lines.lines):,} lines); {told}", path=self.path)

    def _count_scores(self, lines: Lines) -> int:
        """Scores of the first line that has any; with "keep", of the first good line."""
        counts = []
        for line in lines.lines:
            fields = line.split(SEPARATOR, FIELDS)
            if len(fields) >= FIELDS and (scores := words_of(_up_to_last_score(fields))):
                counts.append(len(scores))
                if self.on_bad_line == "stop" or diagnose(line, counts[-1]) is None:
                    return counts[-1]
            elif self.on_bad_line == "stop":
                break
        return counts[0] if counts else 1  # whatever it is, the lines will be refused

    def _parse_good(self, lines: Lines) -> TableBlock | None:
        """The block, if every line is an entry; None if any is not."""
        fields = [line.split(SEPARATOR, FIELDS) for line in lines.lines]
        if min(map(len, fields)) < FIELDS:
            return None
        whole = b"".join(lines.lines)
        if b"\r" in whole:
            texts = list(map(_up_to_last_score, fields))
        else:  # the same, faster
            texts = [f[2].rstrip(BLANKS) for f in fields]
        if not self._good_scores(texts):
            return None
        if b"]" in whole and any(
            _BRACKETED.search(f[0]) or _BRACKETED.search(f[1]) for f in fields
        ):
            return None
        pairs = self._words(fields)
        if not all(pairs.sources):
            return None
        ends: list[int | None] = [
            len(f[0]) + len(f[1]) + len(text) + 2 * len(SEPARATOR)
            for f, text in zip(fields, texts, strict=True)
        ]
        return TableBlock(lines, pairs, ends)

    def _good_scores(self, texts: list[bytes]) -> bool:
        """Whether each text is the right number of finite scores, none below 0."""
        if b"".join(texts).translate(None, _SCORE_BYTES):
            return False
        if set(map(len, map(bytes.split, texts))) != {self.scores}:
            return False
        try:
            values = list(map(float, b" ".join(texts).split()))
        except ValueError:
            return False
        return min(values) >= 0 and max(values) <= LARGEST_FLOAT32

    def _words(self, fields: list[list[bytes]]) -> PairBlock:
        sources = surface_words([f[0] for f in fields])
        targets = surface_words([f[1] for f in fields])
        counts = [joint_count(f) for f in fields] if self.with_counts else None
        return PairBlock(sources, targets, counts)

    def _parse_each(self, lines: Lines) -> TableBlock:
        """The block read line by line: raises at the first bad line, or lists the bad ones."""
        assert self.scores is not None
        fields, ends, bad = [], [], []
        for place, line in enumerate(lines.lines):
            problem = diagnose(line, self.scores)
            if problem and self.on_bad_line == "stop":
                number = lines.first + place
                raise DataError(problem.message, path=self.path, line=number, text=problem.text)
            split = line.split(SEPARATOR, FIELDS)
            text = _up_to_last_score(split) if len(split) >= FIELDS else b""
            head = len(split[0]) + len(split[1]) + 2 * len(SEPARATOR) if text else 0
            ends.append(head + len(text) if text else None)
            if problem:
                bad.append(place)
            else:
                fields.append(split)
        return TableBlock(lines, self._words(fields), ends, bad)


def first_entry_scores(path: str | Path) -> int:
    """How many scores the first entry of a phrase table has; DataError if line 1 is none."""
    for block in line_blocks(path):
        table = PhraseTable(path)
        table.parse(Lines(block.first, block.lines[:1]))
        assert table.scores is not None
        return table.scores
    raise DataError("the phrase table is empty", path=path)


def _third_field(line: bytes) -> int:
    """Where the third field of an entry begins."""
    return line.index(SEPARATOR, line.index(SEPARATOR) + len(SEPARATOR)) + len(SEPARATOR)


def _up_to_last_score(fields: Sequence[bytes]) -> bytes:
    """The third field, without what follows its last score."""
    text = fields[2]
    if len(fields) == FIELDS:
        text = text.removesuffix(b"\r")  # of a CRLF line end
    return text.rstrip(BLANKS)


HIERARCHICAL = (
    "hierarchical phrase tables are not supported: the phrases end in non-terminal symbols"
)
BRACKETED = "[ and ] must be escaped, &#91; and &#93; (Moses takes the word for a non-terminal)"


def is_hierarchical(lines: Iterable[bytes]) -> bool:
    """Whether both phrases of every entry end in a left-hand side such as [X] or [NP].

    Where only some do, these are words that Moses' tokenizer would have escaped.
    """
    labels: set[bytes] = set()
    for line in lines:
        source, target, *rest = [*line.split(SEPARATOR, FIELDS), b""]
        if len(rest) < 2:  # no entry
            continue
        ends = _LEFT_HAND_SIDE.search(source), _LEFT_HAND_SIDE.search(target)
        if not (ends[0] and ends[1]):
            return False
        labels |= {ends[0][1][:1], ends[1][1][:1]}
    return any(map(bytes.isupper, labels))


def diagnose(line: bytes, scores: int) -> Problem | None:
    """What is wrong with a line of a table with so many scores; None: it is an entry."""
    if not line.removesuffix(b"\r").strip(BLANKS):
        return Problem("blank line", line)
    fields = line.split(SEPARATOR, FIELDS)
    if len(fields) < FIELDS:
        found = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
        return Problem(f"{found}, expected at least {FIELDS} (source ||| target ||| scores)", line)
    if not words_of(fields[0]):
        return Problem("empty source phrase", line)
    for phrase in fields[:2]:
        if word := _BRACKETED.search(phrase):
            return Problem(BRACKETED, word[0])
    return diagnose_scores(_up_to_last_score(fields).lstrip(BLANKS), scores)


def diagnose_scores(text: bytes, scores: int) -> Problem | None:
    """What is wrong with the scores of a line; None: nothing."""
    found = words_of(text)
    for score in found:
        value = real_number(score.lower(), finite=False)
        if value is None:
            return Problem("a score is not a number", score)
        if not abs(value) <= LARGEST_FLOAT32:  # nan, too
            return Problem("a score must be finite (Moses reads float32)", score)
        if value < 0:
            return Problem("negative score (Moses takes the logarithm of each)", score)
    if not found:
        return Problem("no scores in the third field", text.strip(BLANKS))
    if len(found) != scores:
        return Problem(f"{len(found)} scores, expected {scores}", text)
    return None


def signs_of_reordering(lines: Sequence[bytes]) -> str | None:
    """What makes lines look like those of a lexicalised reordering table; None: nothing.

    Such a line has three fields, and in the third the probabilities of 2, 3 or 4 orientations, in
    one direction or in both (phrase-extract/lexical-reordering). Every line must be so, and
    different scores sum to 1 so often that it is no accident.
    """
    if any(line.count(SEPARATOR) != FIELDS - 1 for line in lines):
        return None
    distinct = {line.rpartition(SEPARATOR)[2].strip(BLANKS) for line in lines}
    try:
        scores = np.array([list(map(float, text.split())) for text in distinct])
    except ValueError:
        return None
    for orientations, directions in product((3, 4, 2), (1, 2)):
        if scores.shape[1:] != (orientations * directions,):
            continue
        sums = scores.reshape(-1, orientations).sum(1)
        if len(sums) >= SUMS_TO_BELIEVE and np.abs(sums - 1).max() < SUM_ERROR:
            groups = " of two groups" if directions == 2 else ""
            return f"{scores.shape[1]} scores{groups} that sum to 1"
    return None


def joint_count(fields: list[bytes]) -> float:
    """How often a pair was extracted: the last of the counts "e f ef", or 1 without counts."""
    rest = fields[3].split(SEPARATOR) if len(fields) > FIELDS else []
    counts = rest[1].split() if len(rest) > 1 else []
    count = real_number(counts[-1]) if counts else None
    return 1.0 if count is None else count


def surface_words(phrases: list[bytes]) -> list[list[bytes]]:
    """The words of phrases: surface factors, broken at blank and TAB alone, as Moses does."""
    words = words_of_each(phrases)
    if b"|" in b"".join(phrases):  # factors: Moses, too, reads what stands before the first bar
        words = [[word.partition(b"|")[0] for word in phrase] for phrase in words]
    return words


def cut_at_sources(blocks: Iterable[Lines], entries: int) -> Iterator[Lines]:
    """The same lines in blocks of at least `entries`, cut where the source changes.

    Where the cuts fall depends on the lines alone, not on how they were read; a source with very
    many targets is cut too.
    """
    first, ended = 1, True
    waiting: list[bytes] = []
    longest = max(entries, LONGEST_BLOCK)
    for block in blocks:
        if not waiting:
            first = block.first
        waiting += block.lines
        ended = block.ended
        start = 0
        while (stop := _cut(waiting, start, entries, longest)) is not None:
            yield Lines(first + start, waiting[start:stop])
            start = stop
        if start:
            waiting = waiting[start:]
            first += start
    if waiting:
        yield Lines(first, waiting, ended)


def _cut(lines: list[bytes], start: int, entries: int, longest: int) -> int | None:
    """Where the block that begins at `start` ends; None: not within these lines."""
    earliest = start + entries
    if earliest >= len(lines):
        return None
    source = lines[earliest - 1].partition(SEPARATOR)[0]
    for place in range(earliest, min(len(lines), start + longest)):
        if lines[place].partition(SEPARATOR)[0] != source:
            return place
    return start + longest if start + longest < len(lines) else None
