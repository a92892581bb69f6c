"""The command ini: moses.ini made to fit its phrase tables; further language models."""

from __future__ import annotations

import os
from pathlib import Path

import click

from moses_integration.ini_edits import with_language_model
from moses_integration.ini_fitting import Fit, fit_ini
from moses_integration.moses_ini import MosesIni
from moses_integration.stale_files import stale_warnings
from phrase_scorer.arpa import arpa_order
from phrase_scorer.command_line import say
from phrase_scorer.errors import UsageError
from phrase_scorer.streams import OutputFile

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
