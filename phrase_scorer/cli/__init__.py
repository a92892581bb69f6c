"""The commands that need no Moses file.

A command parses its options and calls one function; what it reads its pairs with is handed in
(`PairReader`), so that the same commands serve tab-separated pairs here and phrase tables in
moses_integration.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from phrase_scorer.cli.inspect import align, generate
from phrase_scorer.cli.language_model import perplexity, train_lm
from phrase_scorer.cli.options import PairReader, read_pairs
from phrase_scorer.cli.score import info, score
from phrase_scorer.cli.studies import experiment, gradients
from phrase_scorer.cli.train import train
from phrase_scorer.runtime.console import run
from phrase_scorer.version import __version__

COMMANDS = (train, score, info, generate, align, gradients, experiment, train_lm, perplexity)


def build_group(read: PairReader) -> click.Group:
    """The group of commands, reading pairs with `read`."""

    @click.group(context_settings={"help_option_names": ["-h", "--help"], "obj": read})
    @click.version_option(__version__, prog_name="phrase-scorer")
    @click.option("--debug", is_flag=True, help="Show where in the program an error was raised.")
    def group(debug: bool) -> None:
        """Scores the phrase pairs of Moses phrase tables with an RNN encoder-decoder.

        Train on a phrase table, then add p(target | source) to each of its lines as one more
        score, for Moses to tune (Cho et al. 2014).
        """

    for command in COMMANDS:
        group.add_command(command)
    return group


def main(arguments: Sequence[str] | None = None) -> int:
    """The core's own entry point (`python -m phrase_scorer`): tab-separated pairs only."""
    return run(build_group(read_pairs), arguments)
