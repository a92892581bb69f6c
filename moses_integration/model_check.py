"""What Moses will not notice about a moses.ini and its tables, checked before hours are spent.

Moses says nothing, or too late, where num-features and the table disagree (moses2, ProbingPT: no
error at all), where a feature's name makes mert-moses.pl take it for sparse, or where a file is
missing: `moses -show-weights`, which tuning starts with, succeeds all the same.
"""

from __future__ import annotations

import re
from pathlib import Path

from moses_integration.ini_edits import existing, feature_files, place_of, weights_of
from moses_integration.moses_ini import (
    TEXT_TABLE,
    MosesIni,
    require_scores,
    require_weights,
)
from moses_integration.phrase_table import BLANKS, FIELDS, SEPARATOR
from phrase_scorer.errors import DataError
from phrase_scorer.streams import line_blocks

MERT_NAME = re.compile(r"[A-Za-z][0-9A-Za-z]*")  # mert-moses.pl takes any other for sparse


def check_model(ini: MosesIni, *, for_tuning: bool = False) -> None:
    """Checks that the files are there and that each text table has its num-features.

    Raises:
        DataError: A file is missing; num-features, weights and the table's scores disagree; with
            `for_tuning`, a feature's name has anything but letters and digits, or no weights.
    """
    for file in feature_files(ini):
        place_of(file.item, file.path)
    for table in ini.phrase_tables:
        require_weights(table)
        if table.class_name == TEXT_TABLE and "glue-grammar" not in table.path:
            if not table.path:
                raise table.item.error("no path= on the line of the phrase table")
            path = existing(place_of(table.item, table.path))
            require_scores(table, first_scores(path))
    if for_tuning:
        _check_names(ini)


def first_scores(table: str | Path) -> int:
    """How many scores the first entry of a phrase table has.

    Raises:
        DataError: It is no entry, the table is empty, or cannot be read.
    """
    block = next(line_blocks(table), None)
    if block is None:
        raise DataError("the phrase table is empty", path=table)
    fields = block.lines[0].split(SEPARATOR, FIELDS)
    if len(fields) < FIELDS:
        raise DataError("not an entry of a phrase table", path=table, line=1, text=block.lines[0])
    return len(fields[2].strip(BLANKS).split())


def _check_names(ini: MosesIni) -> None:
    for item in ini.values("feature", "feature-add"):
        for token in item.tokens:
            if token.startswith(b"name="):
                name = token[len(b"name=") :].decode("utf-8", "replace")
                if not MERT_NAME.fullmatch(name):
                    raise item.error(
                        f"name={name} is sparse to mert-moses.pl; use letters and digits only"
                    )
    if not weights_of(ini):
        raise DataError("no weights in [weight] to start from", path=ini.path)
