"""The command `phrase-scorer`: the core's commands over Moses' files, and those of Moses itself.

A command parses its options, checks what can be checked at once, and calls one function.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import click

from moses_integration.cli.decoder import binarize, decode, nbest, tune
from moses_integration.cli.evaluate import evaluate_command
from moses_integration.cli.experiment import table1
from moses_integration.cli.export_arpa import export_arpa
from moses_integration.cli.rescore import check, prune_command, rescore_command, strip_command
from moses_integration.cli.system import ems, filter_command, ini, prepare
from moses_integration.formats.phrase_table import SEPARATOR, PhraseTable
from phrase_scorer.cli import build_group
from phrase_scorer.cli.language_model import perplexity, train_lm
from phrase_scorer.cli.score import align, generate, info, score
from phrase_scorer.cli.studies import experiment, gradients
from phrase_scorer.cli.train import train_command
from phrase_scorer.errors import UsageError
from phrase_scorer.runtime.console import run
from phrase_scorer.runtime.streams import line_blocks
from phrase_scorer.text.phrase_pairs import PairBlock, pairs_of_lines

HELP_SECTIONS = {
    "The column": (train_command, rescore_command, strip_command, score, check, info),
    "With Moses": (
        *(prepare, filter_command, prune_command, tune, decode, nbest, evaluate_command),
        *(ini, binarize, ems),
    ),
    "Language model": (train_lm, perplexity, export_arpa),
    "Looking inside": (generate, align),
    "Studies": (gradients, experiment),
}


def read_table_or_pairs(
    path: str, *, with_counts: bool | None = False, any_table: bool = False
) -> Iterator[PairBlock]:
    """The pairs of a phrase table, or of lines "source<TAB>target" or "source ||| target".

    The first line decides: two bars or more make a phrase table, one bar a list of pairs.
    """
    blocks = line_blocks(path, mark="strip")
    first = next(blocks, None)
    if first is None:
        return
    lines = chain([first], blocks)
    bars = first.lines[0].count(SEPARATOR)
    if bars > 1:
        table = PhraseTable(path, with_counts=with_counts is not False, any_table=any_table)
        yield from (block.pairs for block in table.blocks(lines))
        return
    if with_counts:
        raise UsageError("--weight-by-count needs a phrase table with counts")
    separator = SEPARATOR if bars else b"\t"
    for block in lines:
        yield pairs_of_lines(block, separator, path)


def command_line() -> click.Group:
    """The whole command line."""
    experiment.add_command(table1)
    return build_group(read_table_or_pairs, HELP_SECTIONS)


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point of `phrase-scorer`."""
    return run(command_line(), arguments)
