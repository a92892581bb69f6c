"""What Moses will not notice about a moses.ini and its tables, checked before hours are spent.

Moses says nothing, or too late, where num-features and the table disagree (moses2, ProbingPT: no
error at all), where a feature's name makes mert-moses.pl take it for sparse, or where a file is
missing: `moses -show-weights`, which tuning starts with, succeeds all the same. Nor does it notice
files that still describe a table as it was before its new columns: it finds caches by name.
`IniTarget` says which moses.ini goes with a table, and where the edited one is written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from moses_integration.formats.ini_edits import seen_from
from moses_integration.formats.moses_ini import (
    BINARISERS,
    MERT_NAME,
    TEXT_TABLE,
    Feature,
    MosesIni,
    PhraseTableFeature,
    feature_files,
    require_scores,
    require_weights,
    weights_of,
)
from moses_integration.formats.phrase_table import first_entry_scores
from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.runtime.output import Place, check_option, is_same_file, real_path, write_file

BINARY_TABLES = {  # a file that only this binariser writes, seen from the folder of the table
    "*.minphr": "PhraseDictionaryCompact",
    "*/TargetInd.dat": "PhraseDictionaryOnDisk",
    "*/probing_hash.dat": "ProbingPT",
}
CACHES = {  # found again by name, whatever the table holds now
    "features.list": "mert-moses.pl reuses it without the new columns; take a new --working-dir",
    "filtered": "tables filtered before are reused; delete it or filter into a new folder",
}


def check_model(ini: MosesIni, *, for_tuning: bool = False) -> None:
    """Checks that the files are there and that each text table has its num-features.

    Raises:
        DataError: A file is missing; num-features, weights and the table's scores disagree; with
            `for_tuning`, a feature's name has anything but letters and digits, or no weights.
    """
    for feature in feature_files(ini):
        feature.place()
    for table in ini.phrase_tables:
        require_weights(table)
        if table.class_name == TEXT_TABLE and not table.is_glue_grammar:
            require_scores(table, first_entry_scores(table.file()))
    if for_tuning:
        _check_names(ini)


def _check_names(ini: MosesIni) -> None:
    for item in ini.values("feature", "feature-add"):
        for token in item.tokens:
            name = token.removeprefix(b"name=").decode("utf-8", "replace")
            if token.startswith(b"name=") and not MERT_NAME.fullmatch(name):
                raise item.error(_sparse(name))
    if not weights_of(ini):
        raise DataError("no weights in [weight] to start from", path=ini.path)


def _sparse(name: str) -> str:
    return f"name={name} is sparse to mert-moses.pl; use letters and digits only"


def stale_warnings(ini: MosesIni, table: PhraseTableFeature, new_columns: int) -> list[str]:
    """What still describes the table without its new columns, one line each.

    `ini` and `table` are those before the edit; no new columns: some have other
    values. Moses and its scripts take most of it without an error: caches are found by name
    (mert-moses.pl, filter-model-given-input.pl).
    """
    more = "1 more entry" if new_columns == 1 else f"{new_columns} more entries"
    more *= new_columns > 0
    folder = Path(ini.path).parent
    return [
        *_line_warnings(ini, table, more),
        *_cache_warnings(folder),
        *_binary_warnings(folder, table, table.num_features + new_columns),
    ]


def _line_warnings(ini: MosesIni, table: PhraseTableFeature, more: str) -> Iterator[str]:
    place = f"{ini.path}:{table.line}"
    if not MERT_NAME.fullmatch(table.name):
        yield f"{place}: {_sparse(table.name)}"
    if more and "tuneable-components" in table.options:
        yield f"{place}: tuneable-components gets {more}, 1 each; check which columns to tune"
    for section in ("weight-overwrite", "alternate-weight-setting"):
        for item in ini.values(section) if more else ():
            if os.fsencode(f"{table.name}=") in item.tokens:
                yield f"{ini.path}:{item.line}: [{section}] needs {more} for {table.name}"
    for item in ini.values("feature-overwrite"):
        if item.name == table.name and b"path=" in item.text:
            yield f"{ini.path}:{item.line}: [feature-overwrite] replaces path= of {table.name}"
    for parent in ini.phrase_tables:
        if more and table.name in parent.options.get("members", "").split(","):
            where = f"{ini.path}:{parent.line}: {parent.name} has {table.name} among its members="
            yield f"{where}; num-features, default-scores and weights may need {more}"


def _cache_warnings(folder: Path) -> Iterator[str]:
    for name, why in CACHES.items():
        for path in sorted([*folder.glob(name), *folder.glob(f"*/{name}")]):
            yield f"{path}: {why}"


def _binary_warnings(ini_folder: Path, table: PhraseTableFeature, scores: int) -> Iterator[str]:
    # Moses takes a relative path from where it runs, which is often the folder of the ini.
    places = (Path(table.path), ini_folder / table.path)
    folder = next((place.parent for place in places if place.is_file()), None)
    for pattern, class_name in BINARY_TABLES.items():
        command = BINARISERS[class_name].format(scores)
        for path in sorted(folder.glob(pattern)) if folder else []:
            yield f"{path}: a binarised table without the new columns; binarise again: {command}"


@dataclass(frozen=True)
class IniTarget:
    """A moses.ini to read, and perhaps one to write; without `moses_ini` neither may be wanted."""

    moses_ini: str | None = None
    moses_ini_out: str | None = None
    table_name: str | None = None

    def __post_init__(self) -> None:
        for name in ("moses_ini_out", "table_name"):
            if getattr(self, name) and not self.moses_ini:
                raise UsageError(f"--{name.replace('_', '-')} needs --moses-ini")

    def check_out(self, others: Mapping[str, Place | None]) -> None:
        """Checks by `check_option`, before hours of work, the moses.ini that is written after them.

        It must not be `moses_ini`, nor one of `others`: the command's other files, by their names.
        """
        if self.moses_ini_out:
            named = {"--moses-ini": self.moses_ini, **others}
            check_option("--moses-ini-out", self.moses_ini_out, named)

    def read(self) -> MosesIni | None:
        """The moses.ini; None where none was named."""
        return MosesIni.read(self.moses_ini) if self.moses_ini else None

    def feature(self, ini: MosesIni) -> PhraseTableFeature:
        """The phrase table that is meant, chosen by `MosesIni.phrase_table`."""
        return ini.phrase_table(self.table_name)

    @property
    def moves_to(self) -> Path | None:
        """The folder where the edited moses.ini is written, if it is another one than before."""
        if not self.moses_ini or not self.moses_ini_out:
            return None
        old, new = (real_path(path).parent for path in (self.moses_ini, self.moses_ini_out))
        return None if new == old else new

    def seen_from_out(self, ini: MosesIni) -> MosesIni:
        """The ini as it must read where it is written: its relative paths hold from there."""
        return ini if self.moves_to is None else seen_from(ini, self.moves_to)

    def new_path(self, feature: Feature, old: str, new: str) -> str:
        """`path=` of a new file that stands in for the one of a feature: absolute where that was.

        A relative one is relative to where Moses is run: the folder that the ini moves to or, where
        it stays, the current folder or the ini's, whichever leads from the path to the old file.
        """
        if not os.path.isabs(feature.path):
            if self.moves_to is not None:
                return os.path.relpath(new, self.moves_to)
            for folder in (Path.cwd(), real_path(feature.item.ini_path).parent):
                if is_same_file(folder / feature.path, old):
                    return os.path.relpath(new, folder)
        return str(real_path(new))

    def require_named(self, feature: Feature, file: str) -> None:
        """Refuses (DataError) a file that is not the feature's: its line would change its meaning.

        What is no regular file, a pipe say, cannot be compared; nor can one that the ini names and
        that is not there be, but by its name.
        """
        if not os.path.isfile(file):
            return
        try:
            is_named = is_same_file(feature.file(), file)
        except DataError:  # not there
            named = Path(feature.path).name
            is_named = Path(file).name in (named, f"{named}.gz")
        if not is_named:
            message = f"names {feature.path}, not {file}"
            raise DataError(message, path=feature.item.ini_path, line=feature.line)

    def write(self, ini: MosesIni) -> bool:
        """Writes the edited moses.ini, if it is wanted; whether it was."""
        if self.moses_ini_out:
            write_file(self.moses_ini_out, ini.to_bytes())
        return bool(self.moses_ini_out)


class NamedInIni:
    """What a request with an `ini_target` knows of its table in moses.ini."""

    ini_target: IniTarget

    @property
    def target(self) -> IniTarget:
        """The moses.ini that is meant."""
        return self.ini_target

    @cached_property
    def moses_ini(self) -> MosesIni | None:
        """The moses.ini that names the table, as it is; None where none is given."""
        return self.target.read()

    @cached_property
    def feature(self) -> PhraseTableFeature | None:
        """The table's line in moses.ini."""
        return self.target.feature(self.moses_ini) if self.moses_ini else None
