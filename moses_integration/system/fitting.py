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

from moses_integration.formats.ini_edits import with_columns
from moses_integration.formats.moses_ini import (
    MOST_FEATURES,
    TEXT_TABLE,
    MosesIni,
    PhraseTableFeature,
    require_scores,
    require_weights,
)
from moses_integration.formats.phrase_table import first_entry_scores
from moses_integration.formats.signature import read_signature
from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.runtime.numbers import whole_number
from phrase_scorer.runtime.output import reason

NOTED_SCORES = {  # where a binarised table notes its number of scores: file in its folder, pattern
    "PhraseDictionaryOnDisk": ("Misc.dat", r"^NumScores (\d+)$"),  # OnDiskWrapper.cpp, SaveMisc
    "ProbingPT": ("config", r"^num_scores\t(\d+)$"),  # probingpt/storing.cpp, createProbingPT
}
COMPACT_TABLE = "PhraseDictionaryCompact"


@dataclass(frozen=True)
class Fit:
    """What was found out about a phrase table of moses.ini."""

    table: PhraseTableFeature  # as it was
    scores: int | None  # per entry; None: they cannot be counted

    @property
    def new_columns(self) -> int:
        """How many scores moses.ini did not know of."""
        return 0 if self.scores is None else self.scores - self.table.num_features


def fit_ini(
    ini: MosesIni, *, weight: float, name: str | None = None, scores: int | None = None
) -> tuple[MosesIni, list[Fit]]:
    """(the ini with num-features and weights for the scores that its tables have, what was found).

    It is the same ini where all fits. Without `name`, all tables are fitted but glue grammars and
    those that combine others. `scores` is for a table that does not say how many it has, `weight`
    the start weight of each new one. `path=` may lack the suffix .gz, as EMS leaves it off.

    Raises:
        DataError: A table is not there or begins with a bad line; it has fewer scores than
            num-features; the weights did not fit before; no table says how many scores it has.
        UsageError: No table of that name; `scores` for several tables; a weight that is not finite.
    """
    tables = [t for t in ini.tables(name) if name or "members" not in t.options]
    if not tables:
        raise DataError("no phrase table in [feature]", path=ini.path)
    if scores is not None and len(tables) > 1:
        names = ", ".join(table.name for table in tables)
        raise UsageError(f"{ini.path}: --scores is for one table; give --table-name: {names}")
    fits = [Fit(table, scores or count_scores(table)) for table in tables]
    if all(fit.scores is None for fit in fits):
        table = fits[0].table
        remedy = "give --scores N, with --table-name where there are several tables"
        raise table.item.error(f"{table.name} does not say how many scores it has; {remedy}")
    fitted = ini
    for fit in fits:
        if fit.scores is not None:
            if fit.new_columns < 0:
                require_scores(fit.table, fit.scores)
            table = fitted.tables(fit.table.name)[0]  # edits before may have moved its lines
            require_weights(table)
            if new := [weight] * fit.new_columns:
                fitted = with_columns(fitted, table, path=table.path, start_weights=new)
    return fitted, fits


def count_scores(table: PhraseTableFeature) -> int | None:
    """How many scores the entries of a table have; None where its class does not let us see.

    A text table tells it by its first entry (DataError for a bad one), OnDisk and ProbingPT by
    what they note beside it, a Compact table by the signature of the table that it was made from.
    """
    if table.class_name not in (TEXT_TABLE, COMPACT_TABLE, *NOTED_SCORES):
        return None
    table.require_path()
    try:
        place = table.place()
    except DataError as error:
        raise table.item.error("the phrase table of this line is not there") from error
    if table.class_name == TEXT_TABLE:
        return first_entry_scores(table.file())
    if table.class_name == COMPACT_TABLE:
        return _signed_scores(place)
    return _noted_scores(place, *NOTED_SCORES[table.class_name])


def _noted_scores(folder: Path, name: str, pattern: str) -> int:
    path = folder / name
    try:
        found = re.search(pattern, path.read_text("latin-1"), re.MULTILINE)
    except OSError as error:
        raise DataError(f"cannot read: {reason(error)}", path=path) from error
    scores = whole_number(found[1], MOST_FEATURES) if found else None
    if scores is None:
        raise DataError("no number of scores in it", path=path)
    return scores


def _signed_scores(place: Path) -> int | None:
    """The number after the last column that we added, for we add at the end."""
    stem = os.fspath(place).removesuffix(".minphr")
    for path in (stem, f"{stem}.gz"):
        if columns := read_signature(path):
            return 1 + max(column.place for column in columns)
    return None
