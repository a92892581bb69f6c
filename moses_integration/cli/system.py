"""The commands over a moses.ini and its tables: ini, ems, filter."""

from __future__ import annotations

import os
from pathlib import Path

import click

from moses_integration.formats.ini_edits import with_language_model
from moses_integration.formats.moses_ini import MosesIni
from moses_integration.system.check import stale_warnings
from moses_integration.system.fitting import Fit, fit_ini
from phrase_scorer.cli.options import quiet_option
from phrase_scorer.errors import UsageError
from phrase_scorer.language_model.arpa import arpa_order
from phrase_scorer.runtime.console import say
from phrase_scorer.runtime.output import OutputFile, make_new_folder

START_WEIGHT = 0.1


@click.command(
    epilog="""\b
Examples:
  phrase-scorer ini model/moses.ini --output model/moses.rnn.ini
  phrase-scorer ini moses.ini --in-place --table-name TranslationModel1 --weight 0.2
  phrase-scorer ini moses.ini --language-model cslm.arpa --output moses.cslm.ini"""
)
@click.argument("moses_ini", metavar="MOSES_INI")
@click.option("--output", metavar="FILE", help="Where to write it; - is standard output.")
@click.option("--in-place", is_flag=True, help="Replace MOSES_INI, where anything is to change.")
@click.option(
    "--weight", type=float, default=START_WEIGHT, show_default=True, metavar="W",
    help="Start weight of each new score; tune them.",
)  # fmt: skip
@click.option("--table-name", metavar="NAME", help="Only this table.  [default: all]")
@click.option(
    "--scores", type=click.IntRange(1), metavar="N",
    help="How many the table has, where it cannot be read (PhraseDictionaryCompact).",
)  # fmt: skip
@click.option(
    "--language-model", "language_models", multiple=True, metavar="FILE",
    help="A further n-gram model, an ARPA file; --weight is its start weight, too.",
)  # fmt: skip
def ini(
    moses_ini: str,
    output: str | None,
    in_place: bool,
    weight: float,
    table_name: str | None,
    scores: int | None,
    language_models: tuple[str, ...],
) -> None:
    """Make num-features and the weights of MOSES_INI fit the scores that its phrase tables have.

    With --language-model, n-gram models are added, too, as KENLM features.

    For a moses.ini that train-model.perl wrote: it counts 4 scores in every table. Text tables are
    asked by their first entry, binarised ones by what they note; all else stays byte for byte. A
    table with fewer scores than num-features is an error.
    """
    if in_place == bool(output):
        raise UsageError("give --output FILE or --in-place")
    before = MosesIni.read(moses_ini)
    after, fits = fit_ini(before, weight=weight, name=table_name, scores=scores)
    for fit in fits:
        _tell(before, fit, weight)
    for path in language_models:
        after = with_language_model(after, str(Path(path).resolve()), arpa_order(path), weight)
        say(f"{moses_ini}: one more KENLM, {path}")
    if output or after is not before:
        with OutputFile(output or os.path.realpath(moses_ini)) as out:
            out.write(after.to_bytes())


def _tell(before: MosesIni, fit: Fit, weight: float) -> None:
    place = f"{before.path}:{fit.table.line}: {fit.table.name}"
    if fit.scores is None:
        say(f"{place}: left as it is: {fit.table.class_name} does not say its number of scores")
    elif not fit.new_columns:
        say(f"{place}: {fit.scores} scores, as num-features says")
    else:
        added = " ".join([f"{weight:g}"] * fit.new_columns)
        say(f"{place}: num-features {fit.table.num_features} -> {fit.scores}; new weights: {added}")
        for warning in stale_warnings(before, fit.table, fit.new_columns):
            say(f"warning: {warning}")


@click.command(
    epilog="""\b
Example:
  phrase-scorer ems --output-dir phrase-scorer-ems/
  less phrase-scorer-ems/config.phrase-scorer"""
)
@click.option("--output-dir", required=True, metavar="DIR", help="A folder that is new or empty.")
def ems(output_dir: str) -> None:
    """Write what Moses' experiment management system (EMS, experiment.perl) needs into a folder.

    rescore-hook.sh adds the column when EMS has built the phrase table; train-model-wrapper.sh
    makes each moses.ini of EMS fit it; config.phrase-scorer has the lines for your config, which
    say the rest.
    """
    from moses_integration.ems import installed_program, write_ems_files

    program = installed_program()
    for path in write_ems_files(make_new_folder(output_dir, "--output-dir"), program):
        click.echo(path)


@click.command(
    name="filter",
    epilog="""\b
Examples:
  phrase-scorer filter --moses-ini moses.ini --input val.en --input test.en --output-dir filtered/
  phrase-scorer rescore filtered/ filtered.rnn/ --model rnn/""",
)
@click.option("--moses-ini", required=True, metavar="FILE", help="The model.")
@click.option(
    "--input",
    "inputs",
    required=True,
    multiple=True,
    metavar="FILE",
    help="Tokenised text; repeat.",
)
@click.argument("more_inputs", nargs=-1, metavar="[FILE]...")
@click.option("--output-dir", required=True, metavar="DIR", help="A new folder.")
@click.option(
    "--longest",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    metavar="N",
    help="Longest source phrase, in words.",
)
@quiet_option
def filter_command(
    moses_ini: str,
    inputs: tuple[str, ...],
    more_inputs: tuple[str, ...],
    output_dir: str,
    longest: int,
    quiet: bool,
) -> None:  # fmt: skip
    """Write the part of a model that some inputs need: its text tables, and a moses.ini for them.

    The tables are read once for all inputs together, so that tuning and test sets can then be
    rescored together. More files may follow the first --input.
    """
    from moses_integration.system.filtering import filter_model

    ini = MosesIni.read(moses_ini)
    folder = make_new_folder(output_dir, "--output-dir")
    for table in filter_model(
        ini, [*inputs, *more_inputs], folder, longest=longest, show_progress=not quiet
    ):
        share = table.kept / table.entries
        say(f"{table.name}: {table.kept:,} of {table.entries:,} entries kept ({share:.1%})")
    say(f"{folder / 'moses.ini'} names them")
