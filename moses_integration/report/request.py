"""What is asked of a report, checked before anything is read."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from moses_integration.formats.signature import SignedColumn, require_signature
from moses_integration.report.findings import Compared
from moses_integration.rescoring.request import PROBABILITIES
from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.models.files import ModelFiles
from phrase_scorer.runtime.output import check_new_folder, check_option

PACKAGES = ("jinja2", "vl_convert")  # without which there is no page
MISSING = "report needs jinja2 and vl-convert-python: pip install 'phrase-scorer[report]'"
# The score that each column is compared with, by Moses' order: p(f|e), lex(f|e), p(e|f), lex(e|f).
AGAINST = {PROBABILITIES["forward"]: 3, PROBABILITIES["inverse"]: 1}
MOSES_SCORES = 4  # of an entry, as Moses' own training writes them
PAGE = ".html"


@dataclass(frozen=True)
class ReportRequest:
    """Which table, what is known beside it, and where the report goes.

    Raises:
        UsageError: No place for an output, or a package is missing.
        DataError: The table has no signature, no column of that model, or no such score.
    """

    table: str
    model: Path | None = None
    moses_ini: str | None = None
    tuning: Path | None = None
    log: Path | None = None  # of the run of `rescore`
    output: str = "report.html"
    figures: Path | None = None
    against: int | None = None  # number of the table's own score, from 1
    sample: int = 20_000
    seed: int = 1
    maps: bool = True

    def __post_init__(self) -> None:
        if not self.output.endswith(PAGE):
            told = "its numbers go to a file of that name that ends in .json"
            raise UsageError(f"--output {self.output} must end in {PAGE}: {told}")
        inputs = {"PHRASE_TABLE": self.table, "--moses-ini": self.moses_ini, "--log": self.log}
        check_option("--output", self.output, inputs)
        check_option("--output, whose numbers go beside it,", self.json_output, inputs)
        if self.figures:
            check_new_folder(self.figures, "--figures")
        if any(find_spec(package) is None for package in PACKAGES):
            raise UsageError(MISSING)
        self.compared  # noqa: B018 - what it refuses is refused here

    @property
    def json_output(self) -> str:
        """Where the numbers go."""
        return self.output.removesuffix(PAGE) + ".json"

    @cached_property
    def columns(self) -> list[SignedColumn]:
        """What the signature says of the new columns."""
        return require_signature(self.table)

    @cached_property
    def column(self) -> SignedColumn:
        """The column that the report is about: the model's, else the first probability."""
        probabilities = [c for c in self.columns if c.name.partition(",")[0] in AGAINST]
        known = ", ".join(f"{c.place + 1}: {c.name} of {c.model}" for c in self.columns)
        if self.model is None:
            if not probabilities:
                raise DataError(f"no probability among its new columns ({known})", path=self.table)
            return probabilities[0]
        fingerprint = ModelFiles(self.model).fingerprint()
        for column in probabilities:
            if column.model == fingerprint:
                return column
        what = f"no column of the model {self.model} ({fingerprint}) in its signature ({known})"
        raise DataError(what, path=self.table)

    @cached_property
    def compared(self) -> Compared:
        """The two scores that are compared."""
        kind = self.column.name.partition(",")[0]
        number = self.against or AGAINST[kind]
        ours = {column.place for column in self.columns}
        if number - 1 in ours or (self.against is None and min(ours) < MOSES_SCORES):
            what = f"score {number} is not the table's own {kind}; name one with --against"
            raise DataError(what, path=self.table)
        if number > self.scores:
            what = f"has {self.scores} scores: there is no score {number} (--against)"
            raise DataError(what, path=self.table)
        return Compared(number - 1, self.column.place, self.column.floor)

    @property
    def scores(self) -> int:
        """How many scores an entry has, as the signature knows it."""
        return max(column.place for column in self.columns) + 1

    @property
    def command(self) -> str:
        """The command that makes this report again."""
        given: list[tuple[str, object]] = [
            ("--model", self.model), ("--moses-ini", self.moses_ini), ("--tuning", self.tuning),
            ("--log", self.log), ("--against", self.against), ("--output", self.output),
            ("--sample", self.sample), ("--seed", self.seed),
        ]  # fmt: skip
        words = [word for name, value in given if value is not None for word in (name, str(value))]
        words += [] if self.maps else ["--no-maps"]
        return shlex.join(["phrase-scorer", "report", self.table, *words])
