"""The commands over a trained model: score, info; and what scoring says of itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from phrase_scorer.cli.options import PairReader, device_options, model_option, precision_option
from phrase_scorer.errors import DataError
from phrase_scorer.runtime.console import say
from phrase_scorer.text.phrase_pairs import PairBlock

if TYPE_CHECKING:
    from phrase_scorer.scoring.scorer import PhraseScorer

MANY_UNKNOWN = 0.2  # share of unknown words that is more likely a mistake than a rare domain


@click.command(
    epilog="""\b
Examples:
  phrase-scorer score --model rnn/ pairs.tsv > scores.txt
  paste source.txt target.txt | phrase-scorer score --model rnn/ -
  echo "the blue house ||| la maison bleue" | phrase-scorer score --model rnn/ -
  phrase-scorer score --model rnn/ --precision int8 phrase-table.gz > scores.txt"""
)
@click.argument("pairs", metavar="PAIRS", default="-")
@model_option
@click.option("--output", default="-", metavar="FILE", help="Where to write.  [default: stdout]")
@precision_option
@device_options
@click.pass_obj
def score(read: PairReader, /, pairs: str, output: str, **options: Any) -> None:
    """Score the pairs of PAIRS: "source<TAB>target" or "source ||| target", a line each.

    Writes one number a line, in the same order: the natural logarithm of p(target | source),
    summed over the target's words and the end of the phrase, not normalised for length. For a
    model of direction inverse it is ln p(source | target).
    """
    from phrase_scorer.runtime.device import Arithmetic, set_threads
    from phrase_scorer.runtime.output import OutputFile, is_same_file
    from phrase_scorer.scoring.scorer import PhraseScorer, blocks_of

    set_threads(options["threads"])
    if output != "-" and is_same_file(pairs, output):
        raise DataError("the output would overwrite the input", path=output)
    scorer = PhraseScorer.load(
        options["model_path"],
        Arithmetic(options["device"], options["precision"], options["threads"]),
    )
    if scorer.direction == "inverse":
        say("the model is inverse: scores are ln p(source | target)")
    tell_pseudo(scorer)
    with OutputFile(output) as out:
        for number, block in enumerate(blocks_of(read(pairs))):
            if number == 0:
                tell_accuracy(scorer, block)
            values = scorer.score_block(block)
            out.write("".join(f"{value:.6f}\n" for value in values.tolist()).encode())


def tell_pseudo(scorer: PhraseScorer) -> None:
    """Says where scores are no probabilities."""
    if not scorer.is_probability:
        say("the model is masked: scores are pseudo-log-likelihoods, no log-probabilities")


def tell_accuracy(scorer: PhraseScorer, block: PairBlock) -> None:
    """Says how far the scores are from exact ones on a sample of a block, if they are not exact."""
    if scorer.is_exact:
        return
    from phrase_scorer.scoring.accuracy import measure_accuracy

    say(f"{scorer.precision}, against exact scores: {measure_accuracy(scorer, block)}")


@click.command(epilog="\b\nExample:\n  phrase-scorer info rnn/")
@click.argument("model_path", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def info(model_path: Path, as_json: bool) -> None:
    """Show what a model is: sizes, direction, training, fingerprint."""
    from phrase_scorer.models.directory import ModelDirectory

    directory = ModelDirectory(model_path)
    facts = directory.describe()
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        counted = isinstance(value, int) and not isinstance(value, bool)
        click.echo(f"{name:<{width}}  {value:,}" if counted else f"{name:<{width}}  {value}")


def warn_of_unknown(side: str, share: float, examples: Sequence[bytes]) -> None:
    """Warns where so many words are unknown to the model that something is likely wrong."""
    if share <= MANY_UNKNOWN:
        return
    shown = " ".join(word.decode("utf-8", "backslashreplace") for word in examples)
    say(
        f"warning: {share:.0%} of the {side} words are unknown to the model ({shown} …): other "
        "casing, another language, or other tokenisation or escaping than in training?"
    )
