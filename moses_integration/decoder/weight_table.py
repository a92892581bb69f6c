"""Weights before and after tuning as a table, the columns that phrase-scorer added named."""

from __future__ import annotations

from collections.abc import Iterator

from moses_integration.formats.moses_ini import TEXT_TABLE, MosesIni, Weights
from moses_integration.formats.signature import read_signature

Component = tuple[str, int]  # feature name and place among its scores, from 0


def added_columns(ini: MosesIni) -> dict[Component, str]:
    """What the signatures beside the ini's phrase tables name: (feature, place) -> column.

    Raises:
        DataError: A table is not there, or its signature is broken.
    """
    return {
        (table.name, column.place): column.name
        for table in ini.phrase_tables
        if table.class_name == TEXT_TABLE
        for column in read_signature(table.file())
    }


def weight_table(before: Weights, after: Weights, added: dict[Component, str]) -> Iterator[str]:
    """A line for each weight: name, before, after, and what it weighs if we added it.

    Tuning leaves weights whose absolute values sum to 1; those before are shown so, too. Weights
    that it does not touch (UnknownWordPenalty0) stay out of the sums.
    """
    names = [(name, place) for name in after for place in range(len(after[name]))]
    width = max(len("weight"), *(len(f"{name} {place + 1}") for name, place in names), 0)
    tuned = [name for name in after if after[name] != before.get(name)]
    total = sum(abs(_weight(before, name, p)) for name in tuned for p in range(len(after[name])))
    yield f"{'weight':<{width}}   before    after"
    for name, place in names:
        first = _weight(before, name, place) / (total if name in tuned and total else 1.0)
        mark = f"  <- {added[name, place]}" if (name, place) in added else ""
        label = f"{name} {place + 1}" if len(after[name]) > 1 else name
        yield f"{label:<{width}} {first:8.4f} {after[name][place]:8.4f}{mark}"


def _weight(weights: Weights, name: str, place: int) -> float:
    """A weight; 0 where there was none."""
    values = weights.get(name, ())
    return values[place] if place < len(values) else 0.0
