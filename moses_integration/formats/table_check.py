"""Validation of a phrase table alone: every line, errors that stop Moses, warnings of traps.

Errors: what `rescore` refuses, and alignments or properties that make Moses fail. Warnings: legal,
but a known source of silent trouble (moses/TranslationModel, probingpt/, CompactPT/ of Moses).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from operator import le
from pathlib import Path
from typing import Any, Literal

import numpy as np

from moses_integration.formats.phrase_table import (
    BLANKS,
    FIELDS,
    SEPARATOR,
    PhraseTable,
    TableBlock,
    diagnose,
)
from moses_integration.formats.properties import property_errors
from moses_integration.formats.table_arrays import RegularEntries
from phrase_scorer.errors import quoted
from phrase_scorer.runtime.streams import (
    BYTE_ORDER_MARK,
    Lines,
    line_blocks,
    paused_garbage_collection,
)
from phrase_scorer.text.line_words import LineWords
from phrase_scorer.text.phrase_pairs import PADDING, ranges, words_of

Severity = Literal["error", "warning"]

_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!$)")
_BREAKS = [mark.encode() for mark in "\x85\u2028\u2029"]
_UNICODE_BREAK = re.compile(b"|".join(_BREAKS))
_POINT = re.compile(rb"(\d{1,18})-(\d{1,18})")
_FACTORS = re.compile(rb"(?:[^ \t|]*\|){4}[^ \t]*")  # 4 is the limit of Moses as it is built


@dataclass(frozen=True)
class Finding:
    """Something to say about one line."""

    level: Severity
    line: int
    message: str
    text: bytes

    def __str__(self) -> str:
        mark = "warning: " if self.level == "warning" else ""
        return f"{self.line}: {mark}{self.message}: {quoted(self.text)}"


@dataclass
class Report:
    """What a check found."""

    entries: int = 0
    scores: int = 0  # per entry
    counts: Counter[tuple[Severity, str]] = field(default_factory=Counter)  # by level and message

    def count(self, wanted: Severity) -> int:
        """How many findings of one level."""
        return sum(count for (level, _), count in self.counts.items() if level == wanted)

    def statistics(self, findings: Sequence[Finding]) -> dict[str, Any]:
        """All that was counted, with the findings that are shown, for JSON."""
        return {
            "entries": self.entries,
            "scores": self.scores,
            "errors": self.count("error"),
            "warnings": self.count("warning"),
            "kinds": [
                {"level": level, "message": message, "count": count}
                for (level, message), count in self.counts.items()
            ],
            "findings": [
                {"level": f.level, "line": f.line, "message": f.message, "text": _as_text(f.text)}
                for f in findings
            ],
        }


def _as_text(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace")


def check_table(
    path: str | Path,
    *,
    any_table: bool = False,
    require_scores: Callable[[int], None] | None = None,
    factors: tuple[int, int] = (1, 1),
    on_finding: Callable[[Finding], None],
) -> Report:
    """Reads a whole table; `on_finding` is given every error and warning, in the order of lines.

    `require_scores` is given the number of scores as soon as it is known. `factors` is how many
    each word of a source and of a target must have. An unreadable, empty or
    hierarchical table is a DataError, and what looks like a reordering table unless `any_table`.
    """
    table = PhraseTable(path, on_bad_line="keep", any_table=any_table)
    report = Report()
    order = _Order()
    with paused_garbage_collection():
        for lines in table.cut(line_blocks(path, mark="keep")):
            assert table.scores is not None
            if not report.entries and require_scores:
                require_scores(table.scores)
            report.scores = table.scores
            if not _is_clean(lines, table.scores, factors, order):
                for finding in _findings(table.parse(lines), table.scores, factors, order):
                    report.counts[finding.level, finding.message] += 1
                    on_finding(finding)
            report.entries += len(lines.lines)
    return report


def _is_clean(lines: Lines, scores: int, factors: tuple[int, int], order: _Order) -> bool:
    """Whether there surely is nothing to say of any line: a look at all lines at once."""
    entries = RegularEntries.of(lines.lines, scores) if factors == (1, 1) else None
    if entries is None or lines.lines[0].startswith(BYTE_ORDER_MARK):
        return False
    words = entries.words
    properties, after = entries.field(6)
    return (
        b"  " not in words.text
        and not (properties < after).any()
        and _is_plain(words)
        and _good_alignments(entries)
        and order.goes_on(_sources(entries))
    )


def _is_plain(words: LineWords) -> bool:
    """As without any `_text_warnings`, of lines without carriage returns."""
    every = words.every_byte[: -len(PADDING)]
    breaks = np.count_nonzero(every == ord("\n")) + np.count_nonzero(every == ord("\t"))
    if np.count_nonzero(every < ord(" ")) != breaks or b"\x7f" in words.text:
        return False
    if any(mark in words.text for mark in _BREAKS):
        return False
    with suppress(UnicodeDecodeError):
        words.text.decode("utf-8")
        return True
    return False


def _good_alignments(entries: RegularEntries) -> bool:
    """Whether there are no `alignment_errors`; those with numbers of one digit all at once."""
    words, (first, stop) = entries.words, entries.field(FIELDS)
    points = ranges(first, stop - first)
    (starts, lengths), every = words.spans(points), words.every_byte
    good = (lengths == len(b"0-0")) & (every[starts + 1] == ord("-"))
    sizes = [np.repeat(np.subtract(*entries.field(side)[::-1]), stop - first) for side in (0, 1)]
    for side, size in enumerate(sizes):
        number = every[starts + 2 * side] - np.uint8(ord("0"))  # 10 and more: no digit
        good &= number < np.minimum(size, 10)
    odd = np.flatnonzero(~good)
    limits = zip(*(size[odd].tolist() for size in sizes), strict=True)
    texts = words.words(points[odd])
    return not any(any(alignment_errors(*each)) for each in zip(texts, limits, strict=True))


def _sources(entries: RegularEntries) -> list[bytes]:
    """The beginning of each line, to before the first separator."""
    text, (_, stop) = entries.words.text, entries.field(0)
    begins, ends = entries.words.ends[:-1] + 1, entries.words.before[stop] + 1
    return [text[b:e] for b, e in zip(begins.tolist(), ends.tolist(), strict=True)]


def _findings(
    block: TableBlock, scores: int, factors: tuple[int, int], order: _Order
) -> Iterator[Finding]:
    lines = block.lines
    is_plain = not any(_text_warnings(b"\n".join(lines.lines)))  # one fast look at all lines
    bad = set(block.bad)
    pairs = zip(block.pairs.sources, block.pairs.targets, strict=True)
    for place, line in enumerate(lines.lines):
        number = lines.first + place
        if place in bad:
            problem = diagnose(line, scores)
            assert problem is not None
            yield Finding("error", number, *problem)
            continue
        fields = line.removesuffix(b"\r").split(SEPARATOR)
        sizes = [len(words) for words in next(pairs)]
        errors = _field_errors(fields, sizes)
        if factors != (1, 1) or b"|" in fields[0] or b"|" in fields[1]:
            errors = chain(_factor_errors(fields, factors), errors)
        for message, text in errors:
            yield Finding("error", number, message, text)
        warnings = [] if is_plain else list(_text_warnings(line))
        if number == 1:
            if len(words_of(line)) == 1:
                yield Finding("error", 1, "no blank in the first line (Moses stops)", line)
            if line.startswith(BYTE_ORDER_MARK):
                warnings.append("byte order mark (Moses takes it for a part of the first word)")
        if b"  " in line and any(b"  " in part.strip(BLANKS) for part in fields[:FIELDS]):
            warnings.append("double blank (CreateProbingPT takes it for one more score or word)")
        if out_of_order := order.warning(fields[0]):
            warnings.append(out_of_order)
        for message in warnings:
            yield Finding("warning", number, message, line)


def _text_warnings(line: bytes) -> Iterator[str]:
    """What is strange in a line. Lines joined by line ends are strange if any of them is."""
    if line.endswith(b"\r"):
        yield "CRLF line end (the binarisers of Moses keep the carriage return)"
    if _CONTROL.search(line):
        yield "control character in a line"
    if _UNICODE_BREAK.search(line):
        yield "Unicode line separator in a line (many tools break the line there)"
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        yield "not UTF-8"


def _factor_errors(fields: Sequence[bytes], least: tuple[int, int]) -> Iterator[tuple[str, bytes]]:
    for phrase, count in zip(fields, least, strict=False):
        if found := _FACTORS.search(phrase):
            yield "more than 4 factors (Moses stops)", found[0]
        for word in words_of(phrase) if count > 1 else ():
            if word.count(b"|") < count - 1:
                yield f"fewer than the {count} factors of moses.ini (Moses stops)", word


def _field_errors(fields: Sequence[bytes], sizes: Sequence[int]) -> Iterator[tuple[str, bytes]]:
    """What stops Moses in the fields after the scores; `sizes`: words of the phrases."""
    if len(fields) > FIELDS:
        yield from alignment_errors(fields[FIELDS], sizes)
    if len(fields) > 6 and fields[6]:
        yield from property_errors(fields[6])


def alignment_errors(text: bytes, sizes: Sequence[int]) -> Iterator[tuple[str, bytes]]:
    """What is wrong with the fourth field of an entry whose phrases have so many words."""
    source, target = sizes
    for point in words_of(text):
        match = _POINT.fullmatch(point)
        if not match:
            yield "not an alignment point (Moses stops)", point
        elif int(match[1]) >= source or int(match[2]) >= target:
            yield "alignment point outside the phrases (Moses reads foreign memory)", point


class _Order:
    """Whether sources come in LC_ALL=C order, as sort and processPhraseTableMin see it."""

    def __init__(self) -> None:
        self._last, self._told = b"", False

    def goes_on(self, sources: Sequence[bytes]) -> bool:
        """Takes the next sources, if there is nothing to say of any: otherwise none."""
        several = [self._last, *(source + SEPARATOR for source in sources)]
        if not self._told and not all(map(le, several, several[1:])):
            return False
        self._last = several[-1]
        return True

    def warning(self, source: bytes) -> str | None:
        """The warning for the first source that is out of order."""
        last, self._last = self._last, source + SEPARATOR
        if self._told or self._last >= last:
            return None
        self._told = True
        return "not in LC_ALL=C order (processPhraseTableMin needs it; first place)"
