"""Validation of a phrase table alone: every line, errors that stop Moses, warnings of traps.

Errors: what `rescore` refuses, and alignments or properties that make Moses fail. Warnings: legal,
but a known source of silent trouble (moses/TranslationModel, probingpt/, CompactPT/ of Moses).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from moses_integration.formats.phrase_table import (
    FIELDS,
    SEPARATOR,
    PhraseTable,
    TableBlock,
    diagnose,
)
from phrase_scorer.errors import quoted
from phrase_scorer.runtime.numbers import whole_number

Severity = Literal["error", "warning"]

KNOWN_PROPERTIES = frozenset(  # moses/PP/Factory.cpp:61-69; any other key stops Moses
    b"Counts SourceLabels TargetConstituentBoundariesLeft TargetConstituentBoundariesRightAdjacent "
    b"TargetPreferences Tree SpanLength NonTermContext Orientation".split()
)
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!$)")
_UNICODE_BREAK = re.compile(b"|".join(mark.encode() for mark in "\x85\u2028\u2029"))
_POINT = re.compile(rb"(\d+)-(\d+)")
_PROPERTY = re.compile(rb"\{\{(\S*)")


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


def check_table(
    path: str | Path,
    *,
    any_table: bool = False,
    require_scores: Callable[[int], None] | None = None,
    on_finding: Callable[[Finding], None],
) -> Report:
    """Reads a whole table; `on_finding` is given every error and warning, in the order of lines.

    `require_scores` is given the number of scores as soon as it is known. An unreadable, empty or
    hierarchical table is a DataError, and what looks like a reordering table unless `any_table`.
    """
    table = PhraseTable(path, on_bad_line="keep", any_table=any_table)
    report = Report()
    order = _Order()
    for block in table.blocks():
        assert table.scores is not None
        if not report.entries and require_scores:
            require_scores(table.scores)
        report.scores = table.scores
        for finding in _findings(block, table.scores, order):
            report.counts[finding.level, finding.message] += 1
            on_finding(finding)
        report.entries += len(block.lines.lines)
    return report


def _findings(block: TableBlock, scores: int, order: _Order) -> Iterator[Finding]:
    lines = block.lines
    is_plain = not any(_text_warnings(b"\n".join(lines.lines)))  # one fast look at all lines
    bad = set(block.bad)
    for place, line in enumerate(lines.lines):
        number = lines.first + place
        if place in bad:
            problem = diagnose(line, scores)
            assert problem is not None
            yield Finding("error", number, *problem)
            continue
        fields = line.split(SEPARATOR)
        for message, text in _field_errors(fields):
            yield Finding("error", number, message, text)
        warnings = [] if is_plain else list(_text_warnings(line))
        if b"  " in line and any(b"  " in part.strip() for part in fields[:FIELDS]):
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


def _field_errors(fields: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
    """What stops Moses in the fields after the scores."""
    if len(fields) > FIELDS and fields[FIELDS].strip():
        yield from alignment_errors(fields)
    if len(fields) > 6 and b"{{" in fields[6]:
        for key in _PROPERTY.findall(fields[6]):
            if key not in KNOWN_PROPERTIES:
                yield "a property that Moses does not know (it would stop)", key


def alignment_errors(fields: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
    """What is wrong with the fourth field of an entry, and the text that is."""
    source, target = len(fields[0].split()), len(fields[1].split())
    for point in fields[FIELDS].split():
        match = _POINT.fullmatch(point)
        if not match:
            yield "not an alignment point (Moses stops)", point
        elif any(
            whole_number(place, size - 1) is None
            for place, size in zip(match.groups(), (source, target), strict=True)
        ):
            yield "alignment point outside the phrases (Moses reads foreign memory)", point


class _Order:
    """Whether sources come in LC_ALL=C order, as sort and processPhraseTableMin see it."""

    def __init__(self) -> None:
        self._last, self._told = b"", False

    def warning(self, source: bytes) -> str | None:
        """The warning for the first source that is out of order."""
        last, self._last = self._last, source + SEPARATOR
        if self._told or self._last >= last:
            return None
        self._told = True
        return "not in LC_ALL=C order (processPhraseTableMin needs it; first place)"
