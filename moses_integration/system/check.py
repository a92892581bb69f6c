"""What Moses will not notice about a moses.ini and its tables, checked before hours are spent.

Moses says nothing, or too late, where num-features and the table disagree (moses2, ProbingPT: no
error at all), where a feature's name makes mert-moses.pl take it for sparse, or where a file is
missing: `moses -show-weights`, which tuning starts with, succeeds all the same. Nor does it notice
files that still describe a table as it was before its new columns: it finds caches by name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from moses_integration.formats.ini_edits import existing, feature_files, place_of, weights_of
from moses_integration.formats.moses_ini import (
    BINARISERS,
    MERT_NAME,
    TEXT_TABLE,
    MosesIni,
    PhraseTableFeature,
    require_scores,
    require_weights,
)
from moses_integration.formats.phrase_table import BLANKS, FIELDS, SEPARATOR
from phrase_scorer.errors import DataError
from phrase_scorer.runtime.streams import line_blocks


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


BINARY_TABLES = {  # a file that only this binariser writes, seen from the folder of the table
    "*.minphr": "PhraseDictionaryCompact",
    "*/TargetInd.dat": "PhraseDictionaryOnDisk",
    "*/probing_hash.dat": "ProbingPT",
}
CACHES = {  # found again by name, whatever the table holds now
    "features.list": "mert-moses.pl reuses it without the new columns; take a new --working-dir",
    "filtered": "tables filtered before are reused; delete it or filter into a new folder",
}


def stale_warnings(ini: MosesIni, table: PhraseTableFeature, new_columns: int) -> list[str]:
    """What still speaks of the table without its new columns, one line each.

    `ini` and `table` are those before the edit. Moses and its scripts take most of it without
    an error: caches are found by name (mert-moses.pl, filter-model-given-input.pl).
    """
    return [
        *_line_warnings(table, new_columns),
        *_section_warnings(ini, table, new_columns),
        *_cache_warnings(Path(ini.path).parent),
        *_binary_warnings(Path(ini.path).parent, table, new_columns),
    ]


def _more(new_columns: int) -> str:
    return "1 more entry" if new_columns == 1 else f"{new_columns} more entries"


def _line_warnings(table: PhraseTableFeature, n: int) -> Iterator[str]:
    place = f"{table.item.ini_path}:{table.line}"
    if not MERT_NAME.fullmatch(table.name):
        yield f"{place}: name={table.name} is sparse to mert-moses.pl; use letters and digits only"
    if "tuneable-components" in table.options:
        yield f"{place}: tuneable-components gets {_more(n)}, 1 each; check which columns to tune"


def _section_warnings(ini: MosesIni, table: PhraseTableFeature, n: int) -> Iterator[str]:
    for section in ("weight-overwrite", "alternate-weight-setting"):
        for item in ini.values(section):
            if os.fsencode(f"{table.name}=") in item.tokens:
                yield f"{ini.path}:{item.line}: [{section}] needs {_more(n)} for {table.name}"
    for item in ini.values("feature-overwrite"):
        if item.tokens[0] == os.fsencode(table.name) and b"path=" in item.text:
            yield f"{ini.path}:{item.line}: [feature-overwrite] replaces path= of {table.name}"
    for parent in ini.phrase_tables:
        if table.name in parent.options.get("members", "").split(","):
            where = f"{ini.path}:{parent.line}: {parent.name} has {table.name} among its members="
            yield f"{where}; num-features, default-scores and weights may need {_more(n)}"


def _cache_warnings(ini_folder: Path) -> Iterator[str]:
    for name, reason in CACHES.items():
        for path in sorted([*ini_folder.glob(name), *ini_folder.glob(f"*/{name}")]):
            yield f"{path}: {reason}"


def _binary_warnings(ini_folder: Path, table: PhraseTableFeature, n: int) -> Iterator[str]:
    # Moses takes a relative path from where it runs, which is often the folder of the ini.
    places = (Path(table.path), ini_folder / table.path)
    folders = [place.parent for place in places if place.is_file()]
    for pattern, class_name in BINARY_TABLES.items():
        command = BINARISERS[class_name].format(table.num_features + n)
        for path in sorted(folders[0].glob(pattern)) if folders else []:
            yield f"{path}: a binarised table without the new columns; binarise again: {command}"
