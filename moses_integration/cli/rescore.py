"""The commands over phrase tables: rescore, check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from moses_integration.cli.options import models_option, unknown_words_of_option
from moses_integration.cli.rescored_ini import IniEdit
from moses_integration.formats.moses_ini import MosesIni, require_scores
from moses_integration.formats.phrase_table import OnBadLine, PhraseTable
from phrase_scorer.cli.options import precision_option, quiet_option, several_devices_options
from phrase_scorer.cli.score import tell_accuracy, tell_pseudo, warn_of_unknown
from phrase_scorer.errors import UsageError
from phrase_scorer.runtime.console import say
from phrase_scorer.runtime.output import STANDARD, make_new_folder
from phrase_scorer.runtime.workers import SMALL_INPUT, available_cores, start_imports
from phrase_scorer.text.phrase_pairs import PairBlock

if TYPE_CHECKING:
    from moses_integration.formats.table_check import Finding
    from moses_integration.rescoring.block import Statistics
    from moses_integration.rescoring.columns import FeatureColumn
    from phrase_scorer.scoring.scorer import PhraseScorer

SHOWN_FINDINGS = 20
SAMPLED_ENTRIES = 20_000  # of the table's beginning; some of them measure the accuracy
START_WEIGHT = 0.1


@click.command(
    epilog="""\b
Examples:
  phrase-scorer rescore phrase-table.gz phrase-table.rnn.gz --model rnn/ \\
      --moses-ini moses.ini --moses-ini-out moses.rnn.ini
  zcat phrase-table.gz | phrase-scorer rescore - - --model rnn/ | gzip > new.gz
  phrase-scorer rescore filtered/ filtered.rnn/ --model rnn/ --inverse-model inverse/ \\
      --unknown-words --weight 0.1 --weight 0.1 --weight 0
  phrase-scorer rescore phrase-table.gz new.gz --model rnn1/ --model rnn2/ --ensemble
  phrase-scorer rescore phrase-table.gz --model rnn/ --estimate
  phrase-scorer rescore phrase-table.gz new.gz --model rnn/ --precision int8 --resume
  phrase-scorer rescore phrase-table.gz new.gz --model rnn/ --precision bfloat16 \\
      --device cuda:0,cuda:1"""
)
@click.argument("table", metavar="PHRASE_TABLE")
@click.argument("output", metavar="[OUTPUT]", required=False)
@models_option("--model", "p(target | source)")
@models_option("--inverse-model", "p(source | target)")
@click.option("--ensemble", is_flag=True, help="One column a direction: the mean of its models.")
@click.option(
    "--unknown-words",
    is_flag=True,
    help="A column for the target words outside the (first) model's shortlist: exp(-count).",
)
@unknown_words_of_option
@click.option("--moses-ini", metavar="FILE", help="The moses.ini that names PHRASE_TABLE.")
@click.option("--moses-ini-out", metavar="FILE", help="Where to write it with the new columns.")
@click.option("--table-name", metavar="NAME", help="Which table of moses.ini, if it has several.")
@click.option(
    "--weight",
    "weights",
    type=float,
    multiple=True,
    metavar="W",
    help=f"Start weight of the new columns, or of each in turn; tune them.  [{START_WEIGHT}]",
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
@click.option(
    "--resume", is_flag=True, help="Go on with a run that was broken off, if there is one."
)
@precision_option
@several_devices_options
@quiet_option
def rescore(table: str, output: str | None, **options: Any) -> None:  # fmt: skip
    """Write PHRASE_TABLE to OUTPUT with p(target | source) as one more score at the end.

    New scores stand in this order: a column for each --model, for each --inverse-model, unknown
    words. All else in a line stays byte for byte. OUTPUT appears only when it is whole, with a
    signature (OUTPUT.signature.json) that says what was added. `-` is standard input or output; gz
    where the name ends so. A PHRASE_TABLE that is a folder made by `filter` becomes another such
    folder, OUTPUT, with its own moses.ini.

    Scores in one process for each core (--threads), which share the GPU, or several of them if
    --device names several; the output does not depend on how many processes there are. Of a run
    that was killed, OUTPUT.partial and OUTPUT.journal stay, and --resume goes on with it: the
    result is the same byte for byte.
    """
    if options["threads"] != 1 and not options["estimate"] and _is_large(table):
        start_imports()
    from phrase_scorer.runtime.device import set_threads

    set_threads(options["threads"])
    weights = _start_weights(options)
    if Path(table).is_dir():
        table, output = _folder(table, output, options)
    ini = IniEdit.of(table, output, weights, options)
    scorers, columns = _columns(options)
    for scorer in scorers:
        tell_pseudo(scorer)
    _tell_accuracies(table, scorers, options["on_bad_line"])
    if options["estimate"]:
        _estimate(table, scorers, options["on_bad_line"])
        return
    if output is None:
        raise UsageError("OUTPUT is missing (or use --estimate)")
    statistics = _rescore(table, output, columns, ini, options)
    _tell(statistics, table, scorers[0])
    if ini:
        ini.write(output)


def _is_large(table: str) -> bool:
    return table == STANDARD or (Path(table).is_file() and Path(table).stat().st_size > SMALL_INPUT)


def _start_weights(options: dict[str, Any]) -> list[float]:
    """A start weight for each column that the options ask for."""
    forward, inverse = len(options["models"]), len(options["inverse_models"])
    if not forward + inverse:
        raise UsageError("give --model DIR, --inverse-model DIR, or several of them")
    if options["ensemble"]:
        if max(forward, inverse) < 2:
            raise UsageError("--ensemble needs at least two models of one direction")
        forward, inverse = min(forward, 1), min(inverse, 1)
    if options["unknown_words"] and options["unknown_words_of"]:
        raise UsageError("--unknown-words or --unknown-words-of DIR, not both")
    count = forward + inverse + bool(options["unknown_words"] or options["unknown_words_of"])
    weights = options["weights"] or (START_WEIGHT,)
    if len(weights) not in (1, count):
        raise UsageError(f"{len(weights)} times --weight, but {count} new columns")
    return list(weights) * count if len(weights) == 1 else list(weights)


def _columns(options: dict[str, Any]) -> tuple[list[PhraseScorer], list[FeatureColumn]]:
    """The models, loaded, and the columns made of them."""
    from moses_integration.rescoring import columns as feature_columns
    from phrase_scorer.runtime.device import Arithmetic
    from phrase_scorer.scoring.scorer import PhraseScorer

    scorers, columns = [], []
    for paths, column in (
        (options["models"], feature_columns.translation_column),
        (options["inverse_models"], feature_columns.inverse_column),
    ):
        how = Arithmetic(options["device"], options["precision"], options["threads"])
        loaded = [PhraseScorer.load(path, how) for path in paths]
        made = [column(scorer, path) for scorer, path in zip(loaded, paths, strict=True)]
        if options["ensemble"] and len(made) > 1:
            made = [feature_columns.ensemble_column(made)]
        scorers += loaded
        columns += made
    if options["unknown_words"]:
        columns.append(feature_columns.unknown_words_column(scorers[0]))
    if options["unknown_words_of"]:
        columns.append(feature_columns.words_unknown_to(options["unknown_words_of"]))
    if not options["allow_duplicate"]:
        for place, new in enumerate(columns):
            if (new.name, new.model) in {(c.name, c.model) for c in columns[:place]}:
                what = f"two of the new columns are {new.name} of one model ({new.model})"
                raise UsageError(f"{what}; --allow-duplicate adds both")
    return scorers, columns


def _folder(folder: str, output: str | None, options: dict[str, Any]) -> tuple[str, str | None]:
    """(table, its rescored file) of a folder with a moses.ini; sets the options for the ini."""
    if options["moses_ini"] or options["moses_ini_out"]:
        raise UsageError("PHRASE_TABLE is a folder: its own moses.ini is read and rewritten")
    options["moses_ini"] = str(Path(folder, "moses.ini"))
    ini = MosesIni.read(options["moses_ini"])
    feature = ini.phrase_table(options["table_name"])
    table = feature.file()
    if output is None:
        return str(table), None
    if output == STANDARD:
        raise UsageError("PHRASE_TABLE is a folder, so OUTPUT must be one, not -")
    if not (options["resume"] and Path(output).is_dir()):
        make_new_folder(output, "OUTPUT")
    options["moses_ini_out"] = str(Path(output, "moses.ini"))
    return str(table), str(Path(output, table.name).resolve())


def _rescore(
    table: str,
    output: str,
    columns: Sequence[FeatureColumn],
    ini: IniEdit | None,
    options: dict[str, Any],
) -> Statistics:
    from moses_integration.rescoring.stream import rescore

    return rescore(
        PhraseTable(table, on_bad_line=options["on_bad_line"]),
        output,
        columns,
        floor=options["floor"],
        allow_duplicate=options["allow_duplicate"],
        require_scores=ini.require_scores if ini else None,
        processes=options["threads"] or available_cores(),
        resume=options["resume"],
        show_progress=not options["quiet"],
    )


def _tell_accuracies(table: str, scorers: Sequence[PhraseScorer], on_bad_line: OnBadLine) -> None:
    """Says how far scores are from exact ones, where they are not exact."""
    rounded = [scorer for scorer in scorers if not scorer.is_exact]
    if not rounded:
        return
    if table == STANDARD:
        say(f"{rounded[0].precision}: standard input is read once, so no error is measured")
        return
    block = PairBlock([], [])
    for read in PhraseTable(table, on_bad_line=on_bad_line).blocks():
        block.sources.extend(read.pairs.sources)
        block.targets.extend(read.pairs.targets)
        if len(block.sources) >= SAMPLED_ENTRIES:
            break
    for scorer in rounded:
        tell_accuracy(scorer, block)


def _tell(statistics: Statistics, table: str, scorer: PhraseScorer) -> None:
    said = f"{statistics.entries:,} entries scored"
    if statistics.floored:
        said += f"; {statistics.floored:,} below the floor"
    if statistics.bad_lines:
        said += f"; {statistics.bad_lines:,} bad lines of {table} kept as they were"
    say(said)
    sides = ("source", "target") if scorer.direction == "forward" else ("target", "source")
    for side, vocabulary in zip(
        sides, (scorer.source_vocabulary, scorer.target_vocabulary), strict=True
    ):
        warn_of_unknown(side, vocabulary.unknown_share, vocabulary.unknown_examples())


def _estimate(table: str, scorers: Sequence[PhraseScorer], on_bad_line: OnBadLine) -> None:
    from moses_integration.rescoring.estimate import estimate

    result = estimate(PhraseTable(table, on_bad_line=on_bad_line), scorers)
    for line in result.lines():
        click.echo(line)
    for name, side in result.sides.items():
        warn_of_unknown(name, side.share, side.examples)


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
    from moses_integration.formats.table_check import check_table

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
