"""The command that checks each line of a phrase table."""

from __future__ import annotations

import click

from moses_integration.cli.options import table_name_option
from moses_integration.formats.moses_ini import require_scores
from moses_integration.formats.table_check import Finding, check_table
from moses_integration.system.check import IniTarget
from phrase_scorer.cli.options import (
    answer,
    any_table_option,
    option,
    statistics_option,
    wants_json,
)

SHOWN_FINDINGS = 20


@click.command(epilog="""\b
Examples:
  phrase-scorer check phrase-table.gz
  phrase-scorer check phrase-table.gz --moses-ini moses.ini
""")  # fmt: skip
@click.argument("table", metavar="PHRASE_TABLE")
@option("--moses-ini", metavar="FILE",
        help="Check the num-features and weights of this moses.ini, too.")  # fmt: skip
@table_name_option
@any_table_option
@option("--all", "show_all", is_flag=True,
        help=f"Show all findings, not {SHOWN_FINDINGS} per kind.")  # fmt: skip
@statistics_option
def check(
    table: str, moses_ini: str | None, table_name: str | None, any_table: bool, show_all: bool
) -> int:
    """Check every line of PHRASE_TABLE; the exit code is 1 if any is wrong.

    Errors: missing fields; scores, alignments and properties that Moses cannot read. Warnings:
    encoding, control characters, order, blanks that some of its tools stumble over.
    """
    target = IniTarget(moses_ini, table_name=table_name)
    ini = target.read()
    feature = target.feature(ini) if ini else None
    shown: dict[str, int] = {}
    findings: list[Finding] = []

    def show(finding: Finding) -> None:
        shown[finding.message] = shown.get(finding.message, 0) + 1
        if show_all or shown[finding.message] <= SHOWN_FINDINGS:
            findings.append(finding)
            if not wants_json():
                click.echo(f"{table}:{finding}")

    report = check_table(
        table,
        any_table=any_table,
        require_scores=(lambda scores: require_scores(feature, scores)) if feature else None,
        factors=feature.factor_counts if feature else (1, 1),
        on_finding=show,
    )
    if wants_json():
        answer(report.statistics(findings))
        return 1 if report.count("error") else 0
    for (level, message), count in report.counts.items():
        if count > SHOWN_FINDINGS and not show_all:
            click.echo(f"{table}: {level}: {message}: {count - SHOWN_FINDINGS:,} more")
    click.echo(
        f"{table}: {report.entries:,} entries with {report.scores} scores; "
        f"{report.count('error'):,} errors, {report.count('warning'):,} warnings"
    )
    return 1 if report.count("error") else 0
