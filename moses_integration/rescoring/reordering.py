"""A lexicalised reordering table that is read in step with its phrase table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from moses_integration.formats.phrase_table import FIELDS, SEPARATOR
from phrase_scorer.errors import DataError, quoted
from phrase_scorer.runtime.streams import numbered_lines


def source_of(line: bytes) -> bytes:
    """The source phrase of a line of either table."""
    return line.partition(SEPARATOR)[0].strip(b" \t")


def target_of(line: bytes) -> bytes:
    """Its target phrase."""
    return line.split(SEPARATOR, 2)[1].strip(b" \t")


class ReorderingTable:
    """A lexicalised reordering table, sorted as the phrase table is, read along with it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._entries = 0
        self._groups = groupby(self._lines(), source_of)

    def _lines(self) -> Iterator[bytes]:
        for number, line in numbered_lines(self._path):
            if line.count(SEPARATOR) != FIELDS - 1:
                message = "not source ||| target ||| probabilities"
                raise DataError(message, path=self._path, line=number, text=line)
            self._entries = number
            yield line

    def of(self, wanted: Iterable[tuple[bytes, set[bytes]]]) -> Iterator[bytes]:
        """The lines of these pairs; a source that is not in the rest of the file is a DataError.

        Sources between them, which the phrase table does not have, are passed over: Moses would
        never look them up.
        """
        for source, targets in wanted:
            for there, lines in self._groups:
                if there == source:
                    yield from (line for line in lines if target_of(line) in targets)
                    break
            else:
                message = "is not in it, or it is sorted otherwise: the two must be in step"
                raise DataError(f"source phrase {quoted(source)} {message}", path=self._path)

    def count_all(self) -> int:
        """How many entries the whole file has."""
        for _ in self._groups:
            pass
        return self._entries
