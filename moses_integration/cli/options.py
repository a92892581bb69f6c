"""What several commands around Moses have in common: its options, and new folders."""

from __future__ import annotations

from collections.abc import Callable
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
