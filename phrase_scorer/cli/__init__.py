"""The commands that need no Moses file.

A command parses its options and calls one function; what it reads its pairs with is handed in
(`PairReader`), so that the same commands serve tab-separated pairs here and phrase tables in
moses_integration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import click
from typing_extensions import override

from phrase_scorer.cli.language_model import perplexity, train_lm
from phrase_scorer.cli.options import PairReader, option
from phrase_scorer.cli.score import align, generate, info, score
from phrase_scorer.cli.studies import experiment, gradients
from phrase_scorer.cli.train import train_command
from phrase_scorer.version import __version__

CORE_SECTIONS = {
    "The column": (train_command, score, info),
    "Language model": (train_lm, perplexity),
    "Looking inside": (generate, align),
    "Studies": (gradients, experiment),
}


class SectionedGroup(click.Group):
    """A group whose help shows its commands under headings, in the order of work."""

    def __init__(self, *, sections: Mapping[str, Sequence[click.Command]], **options: Any) -> None:
        super().__init__(**options)
        self.sections = sections
        for command in chain.from_iterable(sections.values()):
            self.add_command(command)

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.commands))  # of all, so that the texts of all sections align
        for heading, commands in self.sections.items():
            with formatter.section(heading):
                formatter.write_dl(
                    [(f"{c.name:<{width}}", c.get_short_help_str(limit=1000)) for c in commands]
                )


def build_group(read: PairReader, sections: Mapping[str, Sequence[click.Command]]) -> click.Group:
    """The group of these commands, reading pairs with `read`."""

    @click.group(
        cls=SectionedGroup,
        sections=sections,
        context_settings={"help_option_names": ["-h", "--help"], "obj": read},
    )
    @click.version_option(__version__, prog_name="phrase-scorer")
    @option("--debug", is_flag=True, help="Show where in the program an error was raised.")
    def group(debug: bool) -> None:
        """Scores the phrase pairs of Moses phrase tables with an RNN encoder-decoder.

        Train on a phrase table, then add p(target | source) to each of its lines as one more
        score, for Moses to tune (Cho et al. 2014).
        """

    return group
