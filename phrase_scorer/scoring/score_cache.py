"""Scores that were computed before, kept in a file (SQLite) for the next table of the same model.

A table filtered for another test set shares most of its entries with the last one: with a cache
only what is new is computed. One file serves any number of models. The program that writes a
table's scores adds them to the cache after they stand in the table, so that a run that is killed
and gone on with finds what it would have found undisturbed. A known score is the one of the table
it was computed for: it may differ from a new one in the last digit (float32), as it would with
other neighbours; so, too, of a pair that stands in a table several times.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from phrase_scorer.errors import DataError
from phrase_scorer.text.phrase_pairs import PairBlock, Rows

APPLICATION = 0x50685363  # "PhSc", where SQLite's header has a place for it
FORMAT = 1
PATIENCE = 60.0  # seconds to wait for another process that writes
KEYS_AT_ONCE = 500  # of one query

Scores = npt.NDArray[np.float32]
NewScores = list[tuple[bytes, float]]


class ScoreCache:
    """The known scores of one model; what is computed now is remembered until it is added.

    Args:
        path: Of the file; made if it is not there.
        model: All that decides a score: the model's fingerprint, the precision.

    Raises:
        DataError: The file is no such cache, of a newer format, or cannot be opened.
    """

    def __init__(self, path: str | Path, model: str) -> None:
        self.path = os.fspath(path)
        self.model = model
        self._new: NewScores = []
        with self._telling_errors():
            self._connection = sqlite3.connect(
                self.path, timeout=PATIENCE, isolation_level=None, check_same_thread=False
            )
            self._require_format()
            self._number = self._numbered()

    def __reduce__(self) -> tuple[type[ScoreCache], tuple[str, str]]:
        return ScoreCache, (self.path, self.model)

    def complete(self, block: PairBlock, compute: Callable[[Rows], Scores]) -> Scores:
        """(pairs,) scores of a block: the known ones, and `compute(rows)` for the others."""
        keys = [
            b" ".join(source) + b"\n" + b" ".join(target)
            for source, target in zip(block.sources, block.targets, strict=True)
        ]
        known = self._known(keys)
        scores = np.array([known.get(key, np.nan) for key in keys], np.float32)
        missing = np.flatnonzero(np.isnan(scores))
        if len(missing):
            scores[missing] = compute(missing)
            values = scores[missing].tolist()
            self._new += zip([keys[row] for row in missing], values, strict=True)
        return scores

    def take_new(self) -> NewScores:
        """What was computed since the last call: for `add`, here or in another process."""
        new, self._new = self._new, []
        return new

    def add(self, new: NewScores) -> None:
        """Adds scores.

        Raises:
            DataError: The file cannot be written.
        """
        if not new:
            return
        with self._telling_errors(), self._transaction():
            self._connection.executemany(
                "INSERT OR IGNORE INTO scores VALUES (?, ?, ?)",
                ((self._number, key, score) for key, score in new),
            )

    def _known(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        known: dict[bytes, float] = {}
        with self._telling_errors():
            for start in range(0, len(keys), KEYS_AT_ONCE):
                some = keys[start : start + KEYS_AT_ONCE]
                places = ",".join("?" * len(some))
                query = f"SELECT pair, score FROM scores WHERE model = ? AND pair IN ({places})"
                known.update(self._connection.execute(query, (self._number, *some)))
        return known

    def _require_format(self) -> None:
        (application,) = self._connection.execute("PRAGMA application_id").fetchone()
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application != APPLICATION:
            raise DataError("not a score cache", path=self.path)
        if version > FORMAT:
            raise DataError(f"format {version} is newer than this program", path=self.path)
        self._connection.execute("PRAGMA journal_mode = WAL")  # readers do not wait for a writer
        self._connection.execute("PRAGMA synchronous = NORMAL")

    def _numbered(self) -> int:
        """The number by which the file knows the model."""
        with self._transaction():
            for statement in (
                f"PRAGMA application_id = {APPLICATION}",
                f"PRAGMA user_version = {FORMAT}",
                "CREATE TABLE IF NOT EXISTS models (number INTEGER PRIMARY KEY, model TEXT UNIQUE)",
                "CREATE TABLE IF NOT EXISTS scores (model INTEGER, pair BLOB, score REAL, "
                "PRIMARY KEY (model, pair)) WITHOUT ROWID",
            ):
                self._connection.execute(statement)
            self._connection.execute(
                "INSERT OR IGNORE INTO models (model) VALUES (?)", (self.model,)
            )
            query = "SELECT number FROM models WHERE model = ?"
            (number,) = self._connection.execute(query, (self.model,)).fetchone()
        return int(number)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextmanager
    def _telling_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise DataError(f"score cache: {error}", path=self.path) from error
