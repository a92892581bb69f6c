"""The command export-arpa: a continuous-space language model as a file that Moses reads."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from moses_integration.formats.ini_edits import with_language_model
from moses_integration.formats.moses_ini import MosesIni
from phrase_scorer.cli.options import device_options, model_option, quiet_option
from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.language_model.arpa import arpa_order
from phrase_scorer.runtime.console import say
from phrase_scorer.runtime.output import STANDARD, is_same_file, write_file

if TYPE_CHECKING:
    from phrase_scorer.language_model.arpa import Arpa

START_WEIGHT = 0.1  # of the new language model, before tuning


@click.command(
    name="export-arpa",
    epilog="""\b
Examples:
  phrase-scorer export-arpa --model cslm/ --arpa lm.arpa --output cslm.arpa
  phrase-scorer export-arpa --model cslm/ --arpa lm.arpa --output cslm.arpa \\
    --moses-ini moses.ini --moses-ini-out moses.cslm.ini
  phrase-scorer export-arpa --model cslm/ --arpa lm.arpa --output cslm.arpa --share 0.5 \\
    --nbest val.nbest.gz --nbest test.nbest.gz
  phrase-scorer export-arpa --model cslm/ --arpa lm.arpa --output cslm.arpa.gz --prune 1e-8""",
)
@model_option
@click.option("--arpa", required=True, metavar="FILE", help="Whose n-grams: a back-off model.")
@click.option("-o", "--output", required=True, metavar="FILE", help="gz where its name ends so.")
@click.option(
    "--text", "texts", multiple=True, metavar="FILE", help="Tokenised text, for more n-grams."
)
@click.option(
    "--nbest",
    "nbest_lists",
    multiple=True,
    metavar="LIST",
    help="n-best list of Moses, for the n-grams of its hypotheses.",
)
@click.option(
    "--min-count",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="How often texts and lists together must have an n-gram.",
)
@click.option(
    "--share",
    type=click.FloatRange(0.0, 1.0, min_open=True),
    default=1.0,
    show_default=True,
    metavar="X",
    help="Of the network in a mixture with the ARPA file's probabilities.",
)
@click.option(
    "--prune",
    type=click.FloatRange(0.0),
    default=0.0,
    metavar="SHARE",
    help="Leave out n-grams whose loss raises perplexity by less (Stolcke 1998), say 1e-8.",
)
@click.option("--moses-ini", metavar="FILE", help="A moses.ini that is to have the file, too.")
@click.option("--moses-ini-out", metavar="FILE", help="The edited moses.ini.")
@click.option(
    "--start-weight",
    type=float,
    default=START_WEIGHT,
    show_default=True,
    metavar="X",
    help="Of the new KENLM feature, before tuning.",
)
@device_options
@quiet_option
def export_arpa(model_path: Path, arpa: str, output: str, **options: Any) -> None:
    """Write a continuous-space language model as a back-off model, for any Moses and KenLM.

    The n-grams of an ARPA file get the network's probabilities, and back-off weights for which
    every context sums to one. The moses.ini gets one more KENLM line and its weight; tune it.

    What is not stored is backed off from, so the network is heard only at stored n-grams. Those of
    the n-best lists of a first decoding (--nbest) are the ones that the next decoding will ask for.
    """
    from phrase_scorer.language_model.arpa import read_arpa, write_arpa
    from phrase_scorer.language_model.export import export
    from phrase_scorer.language_model.model import LanguageModel
    from phrase_scorer.runtime.console import progress_bar
    from phrase_scorer.runtime.device import choose_device, set_threads

    set_threads(options["threads"])
    _check_files(arpa, output, options)
    ini = _edited_ini(arpa, output, options)
    model = LanguageModel.load(model_path, choose_device(options["device"]))
    given = _with_more_ngrams(read_arpa(arpa), arpa, options)
    total = sum(map(len, given.orders))
    with progress_bar("exporting", show=not options["quiet"], total=total, unit=" n-grams") as bar:
        exported = export(
            model, given, arpa,
            share=options["share"], prune=options["prune"], progress=bar.update,
        )  # fmt: skip
    write_arpa(exported, output)
    say(f"{output}: {sum(map(len, exported.orders)):,} of {total:,} n-grams")
    if ini:
        write_file(options["moses_ini_out"], ini.to_bytes())
        say(f"{options['moses_ini_out']}: one more KENLM; tune it")


def _with_more_ngrams(arpa: Arpa, path: str, options: dict[str, Any]) -> Arpa:
    """The same model with the n-grams of the texts and n-best lists that were named."""
    from phrase_scorer.language_model.export import grown
    from phrase_scorer.language_model.model import read_sentences

    texts, lists = options["texts"], options["nbest_lists"]
    if not texts and not lists:
        return arpa
    hypotheses = chain.from_iterable(map(_hypotheses, lists))
    sentences = chain(chain.from_iterable(map(read_sentences, texts)), hypotheses)
    larger = grown(arpa, sentences, path, options["min_count"])
    more = sum(map(len, larger.orders)) - sum(map(len, arpa.orders))
    say(f"{more:,} more n-grams, of {', '.join((*texts, *lists))}")
    return larger


def _hypotheses(path: str) -> Iterator[list[bytes]]:
    """The words of each hypothesis of an n-best list."""
    from moses_integration.formats.nbest import read_nbest

    is_empty = True
    for group in read_nbest(path):
        is_empty = False
        yield from (hypothesis.words for hypothesis in group)
    if is_empty:
        raise DataError("no hypotheses", path=path)


def _check_files(arpa: str, output: str, options: dict[str, Any]) -> None:
    """Refuses, before anything is loaded, files that cannot be read or must not be written."""
    more = (*options["texts"], *options["nbest_lists"])
    for file in more:
        if not Path(file).exists():
            raise DataError("cannot read: No such file or directory", path=file)
    if options["min_count"] > 1 and not more:
        raise UsageError("--min-count needs --text or --nbest")
    if output == STANDARD:
        raise UsageError("--output needs a file, not -: KenLM reads it by name")
    if any(is_same_file(file, output) for file in (arpa, *more)):
        raise DataError("the output would overwrite the input", path=output)


def _edited_ini(arpa: str, output: str, options: dict[str, Any]) -> MosesIni | None:
    """The edited moses.ini; what could not be written in the end is refused now."""
    path, out = options["moses_ini"], options["moses_ini_out"]
    if bool(path) != bool(out):
        raise UsageError("--moses-ini and --moses-ini-out go together")
    if not path:
        return None
    if is_same_file(path, out):
        raise UsageError(f"--moses-ini-out would overwrite --moses-ini: {out}")
    if not Path(out).parent.is_dir():
        raise UsageError(f"--moses-ini-out: there is no folder {Path(out).parent}")
    place, weight = str(Path(output).resolve()), options["start_weight"]
    return with_language_model(MosesIni.read(path), place, arpa_order(arpa), weight)
