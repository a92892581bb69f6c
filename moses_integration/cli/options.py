"""The options that several commands around Moses have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from moses_integration.decoder.programs import Moses

Command = TypeVar("Command", bound=Callable[..., Any])


def moses_options(command: Command) -> Command:
    """--moses-bin and --moses-scripts."""
    command = click.option(
        "--moses-scripts", metavar="DIR",
        help="Moses' scripts.  [default: $MOSES_SCRIPTS, else scripts beside the programs' folder]",
    )(command)  # fmt: skip
    return click.option(
        "--moses-bin", metavar="DIR",
        help="Moses' programs.  [default: $MOSES_BIN, else PATH]",
    )(command)  # fmt: skip


def moses_of(options: dict[str, Any]) -> Moses:
    """The installation that the options name.

    Raises:
        UsageError: There is none, or it is too old.
    """
    moses = Moses(options["moses_bin"], options["moses_scripts"])
    _ = moses.version
    return moses


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
