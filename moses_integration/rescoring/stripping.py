"""The columns that `rescore` has added, taken off again: the table as it was, byte for byte."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from moses_integration.formats.ini_edits import without_columns
from moses_integration.formats.moses_ini import MosesIni, require_scores
from moses_integration.formats.phrase_table import PhraseTable
from moses_integration.formats.signature import require_signature, write_signature
from moses_integration.system.check import IniTarget, NamedInIni
from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.runtime.output import STANDARD, OutputFile
from phrase_scorer.runtime.streams import shown_blocks


@dataclass(frozen=True)
class StripRequest(NamedInIni):
    """A rescored table, and where it is written without the columns of its signature.

    Raises:
        UsageError: Standard output, where a moses.ini is to name it.
        DataError: A table without a signature; the output would overwrite it; a moses.ini that does
            not name it.
    """

    table: str
    output: str
    quiet: bool = False
    ini_target: IniTarget = field(default_factory=IniTarget)

    def __post_init__(self) -> None:
        OutputFile(self.output, inputs=[self.table, self.ini_target.moses_ini])
        self.ini_target.check_out({"PHRASE_TABLE": self.table, "OUTPUT": self.output})
        if self.ini_target.moses_ini_out and self.output == STANDARD:
            raise UsageError("--moses-ini-out needs a file as OUTPUT, not -")
        _ = self.places, self.edited_ini

    @cached_property
    def places(self) -> frozenset[int]:
        """Which scores are ours, from 0."""
        return frozenset(column.place for column in require_signature(self.table))

    @cached_property
    def edited_ini(self) -> MosesIni | None:
        """The moses.ini that names the new table; DataError where it does not name the old one."""
        target, ini, feature = self.ini_target, self.moses_ini, self.feature
        if ini is None or feature is None:
            return None
        target.require_named(feature, self.table)
        path = target.new_path(feature, self.table, self.output)
        return without_columns(target.seen_from_out(ini), feature, path=path, places=self.places)


@dataclass
class StripCounts:
    """What was read."""

    entries: int = 0
    bad_lines: int = 0  # those that `rescore` had kept


def strip(request: StripRequest) -> StripCounts:
    """Writes the table without its columns, or raises DataError for a line that lacks one of them.

    Lines that `rescore --on-bad-line keep` has kept are given back, too.
    """
    counts, place = StripCounts(), request.table
    table = PhraseTable(place, on_bad_line="keep")
    with (
        OutputFile(request.output, inputs=[place]) as out,
        shown_blocks(place, "stripping", show=not request.quiet) as lines,
    ):
        for block in table.blocks(lines):
            assert table.scores is not None
            if request.feature and not counts.entries:
                require_scores(request.feature, table.scores)
            text = block.without_scores(request.places, table.scores)
            if isinstance(text, int):
                message = "has not all the columns that the signature names"
                raise DataError(message, path=place, line=text)
            out.write(text)
            counts.entries += len(block.lines.lines)
            counts.bad_lines += len(block.bad)
        if out.replaces:
            write_signature(out.path, [], {})
    return counts
