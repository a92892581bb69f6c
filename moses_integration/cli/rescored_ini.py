"""The edit of moses.ini that goes with a rescored table: checked first, written last."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moses_integration.formats.ini_edits import with_columns
from moses_integration.formats.moses_ini import MosesIni, PhraseTableFeature, require_scores
from moses_integration.system.check import stale_warnings
from phrase_scorer.errors import UsageError
from phrase_scorer.runtime.console import say
from phrase_scorer.runtime.output import STANDARD, is_same_file, write_file


class IniEdit:
    """The edit of moses.ini that goes with a rescored table: checked first, written last."""

    def __init__(
        self, path: str, out: str | None, table: str, name: str | None, weights: Sequence[float]
    ):
        self.ini = MosesIni.read(path)
        self.out = out
        self.table = table
        self.weights = weights
        self.feature: PhraseTableFeature = self.ini.phrase_table(name)

    @classmethod
    def of(
        cls, table: str, output: str | None, weights: Sequence[float], options: dict[str, Any]
    ) -> IniEdit | None:
        """The edit that the options ask for, a start weight for each new column; or None."""
        path, out = options["moses_ini"], options["moses_ini_out"]
        if not path:
            for name in ("moses_ini_out", "table_name"):
                if options[name]:
                    raise UsageError(f"--{name.replace('_', '-')} needs --moses-ini")
            return None
        if out:
            cls._check_out(out, {"--moses-ini": path, "PHRASE_TABLE": table, "OUTPUT": output})
        edit = cls(path, out, table, options["table_name"], weights)
        if out and output is not None:
            edit.edited(output)  # An impossible edit is refused before hours of scoring.
        return edit

    @staticmethod
    def _check_out(out: str, others: dict[str, str | None]) -> None:
        """Refuses, before hours of scoring, what could not be written after them."""
        if others["OUTPUT"] == STANDARD:
            raise UsageError("--moses-ini-out needs a file as OUTPUT, not -")
        for name, other in others.items():
            if other and is_same_file(other, out):
                raise UsageError(f"--moses-ini-out would overwrite {name}: {out}")
        if not Path(out).parent.is_dir():
            raise UsageError(f"--moses-ini-out: there is no folder {Path(out).parent}")

    def require_scores(self, scores: int) -> None:
        """Refuses a table whose number of scores is not the ini's."""
        require_scores(self.feature, scores)

    def write(self, output: str) -> None:
        """Writes the new ini and says what it leaves stale."""
        for warning in stale_warnings(self.ini, self.feature, len(self.weights)):
            say(f"warning: {warning}")
        if not self.out:
            say(f"--moses-ini-out not given: {self.ini.path} was only checked")
            return
        write_file(self.out, self.edited(output).to_bytes())
        scores = self.feature.num_features + len(self.weights)
        say(f"{self.out}: {self.feature.name} with {scores} scores; tune it")

    def edited(self, output: str) -> MosesIni:
        """The new ini, for the table that will stand at `output`."""
        path = self._path_of(output)
        return with_columns(self.ini, self.feature, path=path, start_weights=self.weights)

    def _path_of(self, output: str) -> str:
        """`path=` of the new table: absolute where the old one was.

        A relative one is relative to where Moses is run: the current folder or the ini's,
        whichever leads from the old path to the table that was read.
        """
        if not os.path.isabs(self.feature.path):
            for folder in (Path.cwd(), Path(self.ini.path).resolve().parent):
                if is_same_file(folder / self.feature.path, self.table):
                    return os.path.relpath(output, folder)
        return str(Path(output).resolve())
