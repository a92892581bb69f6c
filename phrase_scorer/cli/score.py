"""The command `score`, and what scoring tells the user besides scores, in `rescore`, too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import click

from phrase_scorer.cli.options import (
    PairReader,
    PairsRequest,
    device_options,
    precision_option,
    scoring_options,
    takes,
)
from phrase_scorer.runtime.console import say
from phrase_scorer.text.phrase_pairs import PairBlock

if TYPE_CHECKING:
    from phrase_scorer.scoring.scorer import PhraseScorer

MANY_UNKNOWN = 0.2  # share of unknown words that is more likely a mistake than a rare domain


@click.command(epilog="""\b
Examples:
  phrase-scorer score --model rnn/ pairs.tsv > scores.txt
  paste source.txt target.txt | phrase-scorer score --model rnn/ -
  echo "the blue house ||| la maison bleue" | phrase-scorer score --model rnn/ -
  phrase-scorer score --model rnn/ --precision int8 phrase-table.gz > scores.txt
""")  # fmt: skip
@scoring_options
@precision_option
@device_options
@click.pass_obj
@takes(PairsRequest)
def score(read: PairReader, request: PairsRequest) -> None:
    """Score the pairs of PAIRS: lines "source<TAB>target" or "source ||| target".

    Writes one number per line, in the same order: the natural logarithm of p(target | source),
    summed over the target's words and the end of the phrase, not normalised for length. For a
    model of direction inverse it is ln p(source | target).
    """
    from phrase_scorer.scoring.scorer import PhraseScorer, blocks_of

    request.arithmetic.use_threads()
    scorer = PhraseScorer.load(request.model_path, request.arithmetic)
    if scorer.direction == "inverse":
        say("the model is inverse: scores are ln p(source | target)")
    blocks = blocks_of(read(request.pairs))
    first = next(blocks, PairBlock([], []))
    tell_scoring([scorer], lambda: first)
    with request.output_file() as out:
        for block in chain([first], blocks):
            values = scorer.score_block(block)
            out.write("".join(f"{value:.6f}\n" for value in values.tolist()).encode())


def tell_scoring(scorers: Sequence[PhraseScorer], sample: Callable[[], PairBlock] | None) -> None:
    """Tells where scores are no probabilities, and the error of those that are not exact.

    It is measured on the pairs of `sample`, which are read only then; None: they cannot be.
    """
    for scorer in scorers:
        if not scorer.is_probability:
            say("the model is masked: scores are pseudo-log-likelihoods, no log-probabilities")
    rounded = [scorer for scorer in scorers if not scorer.arithmetic.is_exact]
    if not rounded:
        return
    if sample is None:
        say(f"{rounded[0].precision}: standard input is read once, so no error is measured")
        return
    from phrase_scorer.scoring.accuracy import measure_accuracy

    block = sample()
    for scorer in rounded:
        if block.sources:
            say(f"{scorer.precision}, against exact scores: {measure_accuracy(scorer, block)}")


def warn_of_unknown(side: str, share: float, examples: Sequence[bytes]) -> None:
    """Warns where so many words are unknown to the model that something is likely wrong."""
    if share <= MANY_UNKNOWN:
        return
    shown = " ".join(word.decode("utf-8", "backslashreplace") for word in examples)
    say(
        f"warning: {share:.0%} of the {side} words are unknown to the model ({shown} …): other "
        "casing, another language, or other tokenisation or escaping than in training?"
    )
