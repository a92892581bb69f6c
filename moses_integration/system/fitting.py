"""moses.ini made to fit its phrase tables: num-features and weights for the scores that are there.

train-model.perl writes 4 scores into moses.ini whatever the table holds, and EMS cannot tell it
otherwise; a table that was rescored has more. How many, the table itself says: its first entry, or
the file in which a binarised one notes it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from moses_integration.formats.ini_edits import existing, find_file
from moses_integration.formats.moses_ini import (
    TEXT_TABLE,
    MosesIni,
    PhraseTableFeature,
    require_scores,
    require_weights,
)
from moses_integration.formats.phrase_table import PhraseTable
from phrase_scorer.errors import DataError, UsageError, quoted
from phrase_scorer.runtime.output import reason
from phrase_scorer.runtime.streams import Lines, line_blocks

NOTED_SCORES = {  # where a binarised table notes its number of scores: file in its folder, pattern
    "PhraseDictionaryOnDisk": ("Misc.dat", r"^NumScores (\d+)$"),  # OnDiskWrapper.cpp, SaveMisc
    "ProbingPT": ("config", r"^num_scores\t(\d+)$"),  # probingpt/storing.cpp, createProbingPT
}
COMPACT_TABLE = "PhraseDictionaryCompact"
_COMPACT_SUFFIX = ".minphr"


@dataclass(frozen=True)
class Fit:
    """What was found of a phrase table of moses.ini.

    Attributes:
        table: Its feature line, as it was.
        scores: How many its entries have; None: that cannot be told.
    """

    table: PhraseTableFeature
    scores: int | None

    @property
    def new_columns(self) -> int:
        """How many scores moses.ini did not know of."""
        return 0 if self.scores is None else self.scores - self.table.num_features


@dataclass(frozen=True)
class _AnyTableIni(MosesIni):
    """A moses.ini whose tables get columns whatever their class: the tables have them already."""

    def phrase_table(
        self,
        name: str | None = None,
        new_columns: int = 1,  # noqa: ARG002 - for a message of the other class
    ) -> PhraseTableFeature:
        """The table of that name, its weights checked."""
        table = next(table for table in self.phrase_tables if table.name == name)
        require_weights(table)
        return table


def fit_ini(
    ini: MosesIni, *, weight: float, name: str | None = None, scores: int | None = None
) -> tuple[MosesIni, list[Fit]]:
    """Makes num-features and weights fit the number of scores of the phrase tables.

    Without a name all tables are fitted but glue grammars and those that combine others.

    Args:
        ini: Tables are looked for as Moses does, and from the folder of the ini; `path=` may lack
            the suffix .gz, as EMS leaves it off.
        weight: Start weight of each new score.
        name: The one table to fit.
        scores: How many it has, where the table does not say.

    Returns:
        The new ini, the same one where all fits; and what was found.

    Raises:
        DataError: A table is not there, is empty or its first entry is none; it has fewer scores
            than num-features; the weights did not fit num-features before; of no table, or not
            of the named one, the number of scores can be told.
        UsageError: No table of that name; `scores` for several tables; a weight that is not finite.
    """
    tables = _tables(ini, name)
    if scores is not None and len(tables) > 1:
        names = ", ".join(table.name for table in tables)
        raise UsageError(f"{ini.path}: --scores is for one table; give --table-name: {names}")
    fits = [Fit(table, scores or count_scores(table)) for table in tables]
    if all(fit.scores is None for fit in fits):
        table = fits[0].table
        remedy = "give --scores N, with --table-name where there are several tables"
        raise table.item.error(f"{table.name} does not say how many scores it has; {remedy}")
    fitted: MosesIni = _AnyTableIni(ini.path, ini.lines)
    for fit in fits:
        if fit.scores is not None:
            fitted = _fitted(fitted, fit, weight)
    return (ini if fitted.lines == ini.lines else fitted), fits


def _tables(ini: MosesIni, name: str | None) -> list[PhraseTableFeature]:
    """The named table, or those that have entries of their own."""
    if name:
        chosen = [table for table in ini.phrase_tables if table.name == name]
    else:
        chosen = [
            table
            for table in ini.phrase_tables
            if "members" not in table.options and "glue-grammar" not in table.path
        ]
    if not chosen and name and ini.phrase_tables:
        names = ", ".join(table.name for table in ini.phrase_tables)
        raise UsageError(f"{ini.path}: no phrase table {quoted(name)} among {names}")
    if not chosen:
        raise DataError("no phrase table in [feature]", path=ini.path)
    return chosen


def _fitted(ini: MosesIni, fit: Fit, weight: float) -> MosesIni:
    assert fit.scores is not None
    if fit.new_columns < 0:
        require_scores(fit.table, fit.scores)
    ini = _AnyTableIni(ini.path, ini.lines)
    table = ini.phrase_table(fit.table.name)
    if not fit.new_columns:
        return ini
    weights = [weight] * fit.new_columns
    return ini.with_columns(table.name, path=table.path, start_weights=weights)


def count_scores(table: PhraseTableFeature) -> int | None:
    """How many scores the entries of a table have; None where its class does not let us see.

    A text table is asked by its first entry, OnDisk and ProbingPT by what they note beside it, a
    Compact table by the signature of the table that it was made from.

    Raises:
        DataError: The table is not there, is empty, or its first entry is none.
    """
    if table.class_name != TEXT_TABLE and table.class_name not in (*NOTED_SCORES, COMPACT_TABLE):
        return None
    if not table.path:
        raise table.item.error("no path= on the line of the phrase table")
    try:
        place = find_file(table.path, table.item.ini_path)
    except DataError as error:
        raise table.item.error("the phrase table of this line is not there") from error
    if table.class_name == TEXT_TABLE:
        return _scores_of_first_entry(existing(place))
    if table.class_name == COMPACT_TABLE:
        return _signed_scores(place)
    return _noted_scores(place, *NOTED_SCORES[table.class_name])


def _scores_of_first_entry(path: Path) -> int:
    block = next(line_blocks(path), None)
    if block is None:
        raise DataError("the phrase table is empty", path=path)
    table = PhraseTable(path)
    table.parse(Lines(block.first, block.lines[:1]))
    assert table.scores is not None
    return table.scores


def _noted_scores(folder: Path, name: str, pattern: str) -> int:
    path = folder / name
    try:
        found = re.search(pattern, path.read_text("latin-1"), re.MULTILINE)
    except OSError as error:
        raise DataError(f"cannot read: {reason(error)}", path=path) from error
    if not found:
        raise DataError("no number of scores in it", path=path)
    return int(found[1])


def _signed_scores(place: Path) -> int | None:
    """After the last column that we added, for we add at the end."""
    from moses_integration.formats.signature import read_signature

    stem = os.fspath(place).removesuffix(_COMPACT_SUFFIX)
    for path in (stem, f"{stem}.gz"):
        if columns := read_signature(path):
            return 1 + max(column.place for column in columns)
    return None
