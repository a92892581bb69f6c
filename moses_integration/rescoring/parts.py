"""A table rescored by several tasks that have nothing but a folder in common: who writes what.

Every task reads the whole table, and scores every N-th block of it (`rescore --part I/N`). It
leaves OUTPUT.partI-of-N, and beside it an index: what the run was, and which blocks stand where.
`joining.py` makes the table of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from moses_integration.formats.signature import SignedColumn
from moses_integration.rescoring.counts import Range, RescoreCounts
from phrase_scorer.errors import UsageError, quoted
from phrase_scorer.runtime.output import Place
from phrase_scorer.runtime.records import read_json
from phrase_scorer.runtime.report import write_json

_Block = TypeVar("_Block")

INDEX_SUFFIX = ".index.json"  # behind the name of a part
INDEX_FORMAT = 1
MOST_INDEX_BYTES = 1 << 30
MOST_PARTS = 100_000


@dataclass(frozen=True)
class TablePart:
    """The share of one of several tasks: each block whose number, from 1, is I, I + N, I + 2N, …"""

    number: int  # I, from 1
    of: int = 1  # N

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def parse(cls, text: str) -> TablePart:
        """Reads "I/N"; a UsageError tells of anything else."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
        number, of = map(int, found.groups()) if found else (0, 0)
        if not 1 <= number <= of <= MOST_PARTS:
            told = f"--part must be I/N, with I from 1 to N, say 2/8, not {quoted(text)}"
            raise UsageError(told)
        return cls(number, of)

    def path(self, output: Place) -> str:
        """Where it is written."""
        return f"{os.fspath(output)}.part{self.number}-of-{self.of}"

    def has(self, block: int) -> bool:
        """Whether it has a block, by its number in the table, from 0."""
        return block % self.of == self.number - 1


class Share:
    """The blocks of a part, or all; `blocks` counts those of the table that have come by."""

    def __init__(self, part: TablePart | None) -> None:
        self._part = part or TablePart(1)
        self.blocks = 0

    def of(self, blocks: Iterable[_Block]) -> Iterator[_Block]:
        """Those that the part has."""
        for number, block in enumerate(blocks):
            self.blocks = number + 1
            if self._part.has(number):
                yield block


@dataclass(frozen=True)
class InputTable:
    """The table that was rescored."""

    name: str
    path: str  # as it was seen from where it was read; "-": standard input
    sha256: str  # of its text
    scores: int


@dataclass(frozen=True)
class PartBlock:
    """A block in the file of a part, as the journal had it."""

    end: int  # where it ends there
    written: int  # CRC-32 of its bytes
    entries: int
    bad_lines: int
    floored: int
    ranges: tuple[Range, ...]

    @property
    def counts(self) -> RescoreCounts:
        """What was counted in it, but for unknown words, of which each task has told already."""
        return RescoreCounts(self.entries, self.bad_lines, self.floored, [*self.ranges])


@dataclass(frozen=True)
class PartIndex:
    """What a finished part is."""

    format: int
    number: int
    of: int
    run: dict[str, Any]  # all that decides the content, as in the journal
    columns: tuple[SignedColumn, ...]  # of the new table's signature
    new: tuple[int, ...]  # places of those that this run has computed
    replaced: bool  # whether they took the places of others
    input: InputTable
    table_blocks: int  # of the whole table
    blocks: tuple[PartBlock, ...]

    @classmethod
    def read(cls, part: Place) -> PartIndex:
        """The index beside a part; a DataError tells of one that cannot be read, or is none."""
        return read_json(f"{os.fspath(part)}{INDEX_SUFFIX}", cls, most_bytes=MOST_INDEX_BYTES)

    def write(self, part: Place) -> None:
        """Writes it beside a part."""
        write_json(Path(f"{os.fspath(part)}{INDEX_SUFFIX}"), asdict(self), indent=None)


def table_details(
    table: InputTable, counts: RescoreCounts, new: Iterable[int]
) -> dict[str, object]:
    """What a signature says beside the columns: the table that was read, and what was counted."""
    places = list(new)
    return {
        "input": {
            "name": table.name,
            "sha256": table.sha256,
            "entries": counts.entries,
            "scores": table.scores,
        },
        "bad_lines": counts.bad_lines,
        "floored": counts.floored,
        "constant_columns": [places[number] for number in counts.constant],
    }
