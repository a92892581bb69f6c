"""What a rescoring counts: entries, bad lines, values below the floor, ranges, unknown words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from phrase_scorer.runtime.records import Origin, typed
from phrase_scorer.text.vocabulary import Counts


class Range(NamedTuple):
    """The least and the largest value of a column, as written."""

    least: float
    largest: float


@dataclass
class RescoreCounts:
    """What was counted in a block, or in several; those of parts can be added."""

    entries: int = 0
    bad_lines: int = 0  # kept as they were, with a neutral score where there is a place for one
    floored: int = 0  # values below the floor, over all columns
    ranges: list[Range] = field(default_factory=list, compare=False)  # of columns; []: none scored
    vocabularies: list[Counts] = field(default_factory=list, compare=False)  # `vocabularies_of`

    def __iadd__(self, other: RescoreCounts) -> RescoreCounts:
        self.entries += other.entries
        self.bad_lines += other.bad_lines
        self.floored += other.floored
        both = zip(self.ranges or other.ranges, other.ranges or self.ranges, strict=True)
        self.ranges = [Range(min(a, c), max(b, d)) for (a, b), (c, d) in both]
        self.vocabularies = self.vocabularies or [Counts() for _ in other.vocabularies]
        for total, counted in zip(self.vocabularies, other.vocabularies, strict=True):
            total += counted
        return self

    @property
    def scored(self) -> int:
        """The entries that a model has scored."""
        return self.entries - self.bad_lines

    @property
    def constant(self) -> list[int]:
        """The columns with one value in all entries, of several: their weights tell nothing."""
        if self.scored < 2:
            return []
        return [place for place, (least, largest) in enumerate(self.ranges) if least == largest]

    def to_json(self) -> dict[str, Any]:
        """The counts as a journal holds them."""
        return vars(self) | {"vocabularies": [counts.to_json() for counts in self.vocabularies]}

    @classmethod
    def from_json(
        cls, content: Mapping[str, Any], columns: int, vocabularies: int, origin: Origin
    ) -> RescoreCounts:
        """Reads what `to_json` gave for so many of both; a DataError tells of anything else."""
        found = typed(content, _Journaled, origin)
        if len(found.vocabularies) != vocabularies:
            origin.refuse(f"vocabularies: {len(found.vocabularies)}, of other columns")
        if len(found.ranges) not in (0, columns):
            origin.refuse(f"ranges: {len(found.ranges)}, of other columns")
        try:
            known = [Counts.from_json(counts) for counts in found.vocabularies]
        except ValueError as error:
            origin.refuse(f"vocabularies: {error}", error)
        return cls(**vars(found) | {"vocabularies": known})


@dataclass(frozen=True)
class _Journaled:
    """`RescoreCounts` in JSON."""

    entries: int
    bad_lines: int
    floored: int
    ranges: list[Range]
    vocabularies: list[tuple[int, int, dict[str, int]]]
