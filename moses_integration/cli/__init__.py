"""The command `phrase-scorer`: the core's commands over Moses' files, and those of Moses itself.

A command parses its options, checks what can be checked at once, and calls one function.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from phrase_scorer.cli import (
    CORE_COMMANDS,
    CORE_EXPERIMENTS,
    build_group,
    experiment_group,
)
from phrase_scorer.cli.groups import Commands, LazyCommand, LazyGroup
from phrase_scorer.runtime.console import run

if TYPE_CHECKING:
    from phrase_scorer.text.pair_files import PairFiles
    from phrase_scorer.text.phrase_pairs import PairBlock

EXPERIMENTS: Commands = {
    **CORE_EXPERIMENTS,
    "run": LazyCommand(
        "moses_integration.cli.experiment:run_command",
        "Train, rescore, tune several times, decode and evaluate every system of the "
        "configuration.",
    ),
}
COMMANDS: Commands = {
    **CORE_COMMANDS,
    "rescore": LazyCommand(
        "moses_integration.cli.rescore:rescore_command",
        "Write PHRASE_TABLE to OUTPUT with p(target | source) as one more score at the end.",
    ),
    "join": LazyCommand(
        "moses_integration.cli.rescore:join_command",
        "Make OUTPUT of its parts, which `rescore --part` wrote: the same bytes as in one run.",
    ),
    "strip": LazyCommand(
        "moses_integration.cli.rescore:strip_command",
        "Write PHRASE_TABLE to OUTPUT without the scores that `rescore` has added.",
    ),
    "check": LazyCommand(
        "moses_integration.cli.check:check",
        "Check every line of PHRASE_TABLE; the exit code is 1 if any is wrong.",
    ),
    "report": LazyCommand(
        "moses_integration.cli.report:report_command",
        "Show what the network did to PHRASE_TABLE, which `rescore` wrote, on one page.",
    ),
    "prepare": LazyCommand(
        "moses_integration.cli.system:prepare",
        "Normalise, tokenise, case and clean a corpus (two files), or a text (one file).",
    ),
    "filter": LazyCommand(
        "moses_integration.cli.system:filter_command",
        "Write the part of a model that some inputs need: its text tables, and a moses.ini for "
        "them.",
    ),
    "prune": LazyCommand(
        "moses_integration.cli.rescore:prune_command",
        "Write the better entries of PHRASE_TABLE to OUTPUT, judged by a score or a model.",
    ),
    "tune": LazyCommand(
        "moses_integration.cli.decoder:tune",
        "Tune the weights of a model with mert-moses.pl; the best run's are in DIR/moses.ini.",
    ),
    "decode": LazyCommand(
        "moses_integration.cli.decoder:decode",
        "Translate text with Moses: one line for each line.",
    ),
    "nbest": LazyCommand(
        "moses_integration.cli.decoder:nbest",
        "Add features to each hypothesis of a Moses n-best list, or pick the best under new "
        "weights.",
    ),
    "evaluate": LazyCommand(
        "moses_integration.cli.evaluate:evaluate_command",
        "Score translations with sacreBLEU: BLEU, chrF2 and TER, with significance.",
    ),
    "ini": LazyCommand(
        "moses_integration.cli.system:ini",
        "Make num-features and the weights of MOSES_INI fit the scores that its phrase tables "
        "have.",
    ),
    "binarize": LazyCommand(
        "moses_integration.cli.decoder:binarize",
        "Make a binary phrase table of PHRASE_TABLE, with as many scores as it has.",
    ),
    "ems": LazyCommand(
        "moses_integration.cli.system:ems",
        "Write what Moses' experiment management system (EMS, experiment.perl) needs into a "
        "folder.",
    ),
    "export-arpa": LazyCommand(
        "moses_integration.cli.export_arpa:export_arpa",
        "Write a continuous-space language model as a back-off model, for any Moses and KenLM.",
    ),
    "experiment": experiment_group(EXPERIMENTS, {"table1": "run"}),
}
HELP_SECTIONS = {
    "The column": ("train", "rescore", "join", "strip", "score", "check", "info"),
    "With Moses": (
        *("prepare", "filter", "prune", "tune", "decode", "nbest", "evaluate"),
        *("ini", "binarize", "ems"),
    ),
    "Language model": ("train-lm", "perplexity", "export-arpa"),
    "Looking inside": ("report", "generate", "align", "vectors"),
    "Studies": ("gradients", "experiment"),
}


def _read(given: PairFiles) -> Iterator[PairBlock]:
    from moses_integration.formats.table_pairs import read_table_or_pairs

    return read_table_or_pairs(given)


def command_line() -> LazyGroup:
    """The whole command line."""
    return build_group(_read, COMMANDS, HELP_SECTIONS)


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point of `phrase-scorer`."""
    return run(command_line(), arguments)
