"""What still speaks of a phrase table without its new columns: lines, folders, binary tables.

Moses and its scripts take most of it without an error, for they find caches by name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from moses_integration.model_check import MERT_NAME
from moses_integration.moses_ini import BINARISERS, MosesIni, PhraseTableFeature

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
