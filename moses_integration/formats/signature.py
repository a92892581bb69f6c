"""The signature: a small JSON file beside a rescored table that says which columns are ours.

Enough to make the table again, and to refuse the same column twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from phrase_scorer.errors import DataError, quoted
from phrase_scorer.runtime.output import STANDARD, write_errors, write_file
from phrase_scorer.runtime.records import Origin, read_json, typed
from phrase_scorer.version import __version__

SIGNATURE_FORMAT = 1
SIGNATURE_SUFFIX = ".signature.json"  # behind the table's name


@dataclass(frozen=True)
class SignedColumn:
    """What the signature says of a column."""

    place: int  # among the scores of a line, from 0
    name: str
    model: str
    floor: float
    unit: str = "probability (Moses takes its natural logarithm)"
    precision: str = "float32"
    arithmetic: dict[str, str] = field(default_factory=dict)  # what decides its last digits


@dataclass(frozen=True)
class _Signature:
    """What must stand in the file; what a column is depends on the format."""

    format: int
    columns: list[Any]


def signature_path(table: str | Path) -> Path:
    """Where the signature of a table stands."""
    return Path(f"{os.fspath(table)}{SIGNATURE_SUFFIX}")


def write_signature(
    table: str | Path, columns: Sequence[SignedColumn], details: dict[str, Any]
) -> None:
    """Writes the signature of a table; equal runs write equal bytes.

    To be called before the table has its name: without columns, it removes the signature of a table
    that is replaced, for it would speak of the new one.
    """
    if not columns:
        with write_errors(signature_path(table)):
            signature_path(table).unlink(missing_ok=True)
        return
    ours = {"format": SIGNATURE_FORMAT, "phrase_scorer": __version__}
    content = {**ours, "columns": [asdict(column) for column in columns], **details}
    text = json.dumps(content, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace")
    write_file(signature_path(table), text + b"\n")


def read_signature(table: str | Path) -> list[SignedColumn]:
    """The columns that a table is known to have from us; no signature beside it, no columns.

    A broken signature, or one of a newer format, is a DataError.
    """
    path = signature_path(table)
    if not os.path.exists(path):
        return []
    content = read_json(path, _Signature)
    if content.format > SIGNATURE_FORMAT:
        raise DataError(f"format {content.format} is newer than this program", path=path)
    return typed(content.columns, list[SignedColumn], Origin(path))


def require_signature(table: str | Path) -> list[SignedColumn]:
    """`read_signature`, or a DataError where there is none."""
    known = read_signature(table) if os.fspath(table) != STANDARD else []
    if not known:
        message = "has no signature beside it, so that which scores are of rescore is not known"
        raise DataError(message, path=table)
    return known


def signed_place(table: str | Path, name: str) -> int:
    """The place of the column with this name, or number from 1; else a DataError lists them."""
    known = require_signature(table)
    places = [column.place for column in known if name in (column.name, f"{column.place + 1}")]
    if len(places) != 1:
        names = ", ".join(f"{column.place + 1}: {column.name}" for column in known)
        message = f"no single score {quoted(name)} in its signature ({names}); give its number"
        raise DataError(message, path=table)
    return places[0]


def refuse_other_kind(table: str | Path, old: SignedColumn, name: str) -> None:
    """Refuses (DataError) to put a column called `name` in the place of one of another kind."""
    was, new = (whole.partition(",")[0] for whole in (old.name, name))
    if was != new:
        message = f"score {old.place + 1} is {was}: {new} cannot replace it, for its weight stays"
        raise DataError(message, path=table)


def refuse_twice(table: str | Path, known: Sequence[SignedColumn], name: str, model: str) -> None:
    """Refuses (DataError) a column that the table has already."""
    for column in known:
        if (column.name, column.model) == (name, model):
            already = f"score {column.place + 1} of each line is already {name} of this model"
            raise DataError(f"{already} ({model}); --allow-duplicate adds it again", path=table)
