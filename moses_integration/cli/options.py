"""The options that several commands around Moses have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from phrase_scorer.cli.options import Command


def moses_options(command: Command) -> Command:
    """--moses-bin and --moses-scripts."""
    command = click.option(
        "--moses-scripts", metavar="DIR",
        help="Folder of Moses' scripts.  [default: $MOSES_SCRIPTS, else scripts beside programs]",
    )(command)  # fmt: skip
    return click.option(
        "--moses-bin", metavar="DIR",
        help="Folder of Moses' programs.  [default: $MOSES_BIN, else PATH]",
    )(command)  # fmt: skip


def ini_options(written_with: str) -> Callable[[Command], Command]:
    """--moses-ini, --moses-ini-out and --table-name, for what makes a new PHRASE_TABLE."""

    def decorate(command: Command) -> Command:
        out = f"Where to write it with {written_with}."
        for option in (
            click.option("--table-name", metavar="NAME",
                         help="Which table of moses.ini, if it has several."),
            click.option("--moses-ini-out", metavar="FILE", help=out),
            click.option("--moses-ini", metavar="FILE",
                         help="The moses.ini that names PHRASE_TABLE."),
        ):  # fmt: skip
            command = option(command)
        return command

    return decorate


def models_option(name: str, column: str) -> Callable[[Command], Command]:
    """An option that names a model directory, and may be given several times."""
    return click.option(
        name, f"{name[2:].replace('-', '_')}s", type=click.Path(path_type=Path), multiple=True,
        metavar="DIR", help=f"Model directory: a column {column}. Repeat for several.",
    )  # fmt: skip


def unknown_words_of_option(command: Command) -> Command:
    """--unknown-words-of."""
    return click.option(
        "--unknown-words-of", type=click.Path(path_type=Path), metavar="DIR",
        help="The same for the shortlist of another model, say a train-lm's.",
    )(command)  # fmt: skip
