"""The commands over phrase tables: rescore, check."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from moses_integration.moses_ini import MosesIni, PhraseTableFeature, require_scores
from moses_integration.phrase_table import OnBadLine, PhraseTable
from moses_integration.stale_files import stale_warnings
from phrase_scorer.cli import (
    device_options,
    model_option,
    quiet_option,
    say,
    warn_of_unknown,
)
from phrase_scorer.errors import UsageError
from phrase_scorer.streams import STANDARD, is_same_file, write_atomically

if TYPE_CHECKING:
    from moses_integration.rescore import Statistics
    from moses_integration.table_check import Finding
    from phrase_scorer.scorer import PhraseScorer

SHOWN_FINDINGS = 20
START_WEIGHT = 0.1


@click.command(
    epilog="""\b
Examples:
  phrase-scorer rescore phrase-table.gz phrase-table.rnn.gz --model rnn/ \\
      --moses-ini moses.ini --moses-ini-out moses.rnn.ini
  zcat phrase-table.gz | phrase-scorer rescore - - --model rnn/ | gzip > new.gz
  phrase-scorer rescore phrase-table.gz --model rnn/ --estimate"""
)
@click.argument("table", metavar="PHRASE_TABLE")
@click.argument("output", metavar="OUTPUT", required=False)
@model_option
@click.option("--moses-ini", metavar="FILE", help="The moses.ini that names PHRASE_TABLE.")
@click.option("--moses-ini-out", metavar="FILE", help="Where to write it with the new column.")
@click.option("--table-name", metavar="NAME", help="Which table of moses.ini, if it has several.")
@click.option(
    "--weight",
    type=float,
    default=START_WEIGHT,
    show_default=True,
    metavar="W",
    help="Start weight of the new column; tune it.",
)
@click.option(
    "--floor",
    type=float,
    default=-50.0,
    show_default=True,
    metavar="LN",
    help="Least ln p written.",
)
@click.option(
    "--on-bad-line",
    type=click.Choice(["stop", "keep"]),
    default="stop",
    show_default=True,
    help="keep: pass it through with the neutral score 1 (where it has scores), and count it.",
)
@click.option("--allow-duplicate", is_flag=True, help="Add a column that is there already.")
@click.option("--estimate", is_flag=True, help="Only say what it would take, from a sample.")
@device_options
@quiet_option
def rescore(table: str, output: str | None, **options: Any) -> None:  # fmt: skip
    """Write PHRASE_TABLE to OUTPUT with p(target | source) as one more score at the end.

    All else in a line stays byte for byte. OUTPUT appears only when it is whole, with a signature
    (OUTPUT.signature.json) that says what was added. `-` is standard input or output; gz where
    the name ends so.
    """
    from phrase_scorer.device import set_threads
    from phrase_scorer.scorer import PhraseScorer

    set_threads(options["threads"])
    ini = _IniEdit.of(table, output, options)
    scorer = PhraseScorer.load(options["model_path"], options["device"])
    if options["estimate"]:
        _estimate(table, scorer, options["on_bad_line"])
        return
    if output is None:
        raise UsageError("OUTPUT is missing (or use --estimate)")
    statistics = _rescore(table, output, scorer, ini, options)
    _tell(statistics, table, scorer)
    if ini:
        ini.write(output)


def _rescore(
    table: str,
    output: str,
    scorer: PhraseScorer,
    ini: _IniEdit | None,
    options: dict[str, Any],
) -> Statistics:
    from moses_integration.feature_columns import translation_column
    from moses_integration.rescore import rescore

    return rescore(
        PhraseTable(table, on_bad_line=options["on_bad_line"]),
        output,
        [translation_column(scorer, options["model_path"])],
        floor=options["floor"],
        allow_duplicate=options["allow_duplicate"],
        require_scores=ini.require_scores if ini else None,
        show_progress=not options["quiet"],
    )


def _tell(statistics: Statistics, table: str, scorer: PhraseScorer) -> None:
    said = f"{statistics.entries:,} entries scored"
    if statistics.floored:
        said += f"; {statistics.floored:,} below the floor"
    if statistics.bad_lines:
        said += f"; {statistics.bad_lines:,} bad lines of {table} kept as they were"
    say(said)
    for side, vocabulary in (
        ("source", scorer.source_vocabulary),
        ("target", scorer.target_vocabulary),
    ):
        warn_of_unknown(side, vocabulary.unknown_share, vocabulary.unknown_examples())


def _estimate(table: str, scorer: PhraseScorer, on_bad_line: OnBadLine) -> None:
    from moses_integration.estimate import estimate

    result = estimate(PhraseTable(table, on_bad_line=on_bad_line), scorer)
    for line in result.lines():
        click.echo(line)
    for name, side in result.sides.items():
        warn_of_unknown(name, side.share, side.examples)


class _IniEdit:
    """The edit of moses.ini that goes with a rescored table: checked first, written last."""

    def __init__(self, path: str, out: str | None, table: str, name: str | None, weight: float):
        self.ini = MosesIni.read(path)
        self.out = out
        self.table = table
        self.weight = weight
        self.feature: PhraseTableFeature = self.ini.phrase_table(name)

    @classmethod
    def of(cls, table: str, output: str | None, options: dict[str, Any]) -> _IniEdit | None:
        """The edit that the options ask for, or None."""
        path, out = options["moses_ini"], options["moses_ini_out"]
        if not path:
            for name in ("moses_ini_out", "table_name"):
                if options[name]:
                    raise UsageError(f"--{name.replace('_', '-')} needs --moses-ini")
            return None
        if out:
            cls._check_out(out, {"--moses-ini": path, "PHRASE_TABLE": table, "OUTPUT": output})
        edit = cls(path, out, table, options["table_name"], options["weight"])
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
        for warning in stale_warnings(self.ini, self.feature, 1):
            say(f"warning: {warning}")
        if not self.out:
            say(f"--moses-ini-out not given: {self.ini.path} was only checked")
            return
        write_atomically(self.out, self.edited(output).to_bytes())
        say(f"{self.out}: {self.feature.name} with {self.feature.num_features + 1} scores; tune it")

    def edited(self, output: str) -> MosesIni:
        """The new ini, for the table that will stand at `output`."""
        return self.ini.with_columns(
            self.feature.name, path=self._path_of(output), start_weights=[self.weight]
        )

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


@click.command(
    epilog="""\b
Examples:
  phrase-scorer check phrase-table.gz
  phrase-scorer check phrase-table.gz --moses-ini moses.ini"""
)
@click.argument("table", metavar="PHRASE_TABLE")
@click.option("--moses-ini", metavar="FILE", help="Check its num-features and weights, too.")
@click.option("--table-name", metavar="NAME", help="Which table of moses.ini, if it has several.")
@click.option("--all", "show_all", is_flag=True, help=f"Show all, not {SHOWN_FINDINGS} of a kind.")
def check(table: str, moses_ini: str | None, table_name: str | None, show_all: bool) -> int:
    """Check every line of PHRASE_TABLE; exit code 1 if any is wrong.

    Errors: missing fields, scores, alignments and properties that Moses cannot read. Warnings:
    encoding, control characters, order, blanks that some of its tools stumble over.
    """
    from moses_integration.table_check import check_table

    if table_name and not moses_ini:
        raise UsageError("--table-name needs --moses-ini")
    feature = MosesIni.read(moses_ini).phrase_table(table_name) if moses_ini else None
    shown: dict[str, int] = {}

    def show(finding: Finding) -> None:
        shown[finding.message] = shown.get(finding.message, 0) + 1
        if show_all or shown[finding.message] <= SHOWN_FINDINGS:
            click.echo(f"{table}:{finding}")

    report = check_table(
        table,
        require_scores=(lambda scores: require_scores(feature, scores)) if feature else None,
        on_finding=show,
    )
    for (level, message), count in report.counts.items():
        if count > SHOWN_FINDINGS and not show_all:
            click.echo(f"{table}: {level}: {message}: {count - SHOWN_FINDINGS:,} more")
    click.echo(
        f"{table}: {report.entries:,} entries with {report.scores} scores; "
        f"{report.errors:,} errors, {report.warnings:,} warnings"
    )
    return 1 if report.errors else 0
