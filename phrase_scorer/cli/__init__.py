"""The commands that need no Moses file.

A command parses its options and calls one function; what it reads its pairs with is handed in
(`PairReader`), so that the same commands serve tab-separated pairs here and phrase tables in
moses_integration.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from phrase_scorer.cli.groups import PROGRAM, WIDTH, Commands, LazyCommand, LazyGroup, Sections
from phrase_scorer.cli.options import OnceOption

if TYPE_CHECKING:
    from phrase_scorer.text.pair_files import PairReader

CORE_COMMANDS: Commands = {
    "train": LazyCommand(
        "phrase_scorer.cli.train:train_command",
        "Train a model on phrase pairs: a phrase table, lines of pairs, or two files side by side.",
    ),
    "score": LazyCommand(
        "phrase_scorer.cli.score:score",
        "Score phrase pairs: one number per line, the natural logarithm of p(target | source).",
    ),
    "info": LazyCommand(
        "phrase_scorer.cli.score:info",
        "Show what a model is: sizes, direction, training, fingerprint.",
    ),
    "train-lm": LazyCommand(
        "phrase_scorer.cli.language_model:train_lm",
        "Train a continuous-space language model (CSLM) on TEXT: tokenised, one sentence per line.",
    ),
    "perplexity": LazyCommand(
        "phrase_scorer.cli.language_model:perplexity",
        "Perplexity of a continuous-space language model on TEXT, and of n-gram LMs beside it.",
    ),
    "generate": LazyCommand(
        "phrase_scorer.cli.score:generate",
        'Show what a model would say for a source PHRASE ("-": the lines of standard input).',
    ),
    "align": LazyCommand(
        "phrase_scorer.cli.score:align",
        "Show the soft alignment of an attention model for PAIRS, as `score` reads them.",
    ),
    "vectors": LazyCommand(
        "phrase_scorer.cli.vectors:vectors",
        "Write the vectors that the network makes of PHRASES, or of its words, as an npz of numpy.",
    ),
    "gradients": LazyCommand(
        "phrase_scorer.cli.studies:gradients",
        "Measure how much of a loss reaches the past: vanilla RNN, LSTM and GRU, and why gates.",
    ),
}
CORE_EXPERIMENTS: Commands = {
    "systems": LazyCommand(
        "phrase_scorer.cli.studies:systems",
        "Compare every architecture on one table, at equal parameters and equal training time.",
    ),
}
CORE_SECTIONS = {
    "The column": ("train", "score", "info"),
    "Language model": ("train-lm", "perplexity"),
    "Looking inside": ("generate", "align", "vectors"),
    "Studies": ("gradients", "experiment"),
}


def _tell_version(context: click.Context, _: click.Parameter, given: bool) -> None:
    if given and not context.resilient_parsing:
        from phrase_scorer.version import __version__

        click.echo(f"{PROGRAM}, version {__version__}")
        context.exit()


def experiment_group(commands: Commands, aliases: Mapping[str, str] | None = None) -> LazyGroup:
    """The group `experiment`."""
    return LazyGroup(
        commands,
        {"Experiments": tuple(commands)},
        aliases,
        name="experiment",
        help="Run a whole experiment; it goes on where it was stopped.",
        epilog="""\b
Example:
  phrase-scorer experiment systems phrase-table.gz --output-dir systems/ --minutes 20
""",
    )


def build_group(read: PairReader, commands: Commands, sections: Sections) -> LazyGroup:
    """The group of these commands, reading pairs with `read`."""
    version = OnceOption(
        ["-V", "--version"], is_flag=True, is_eager=True, expose_value=False,
        callback=_tell_version, help="Show the version and exit.",
    )  # fmt: skip
    return LazyGroup(
        commands,
        sections,
        params=[version],
        context_settings={
            "help_option_names": ["-h", "--help"], "obj": read, "max_content_width": WIDTH,
        },
        help="""Scores the phrase pairs of Moses phrase tables with an RNN encoder-decoder.

        Train on a phrase table, then add p(target | source) to each of its lines as one more
        score, for Moses to tune (Cho et al. 2014).
        """,
    )  # fmt: skip
