"""What several commands around Moses have in common: its options, and new folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from moses_integration.decoder.programs import Moses
from phrase_scorer.errors import UsageError
from phrase_scorer.runtime.streams import reason

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


def make_new_folder(path: str | Path, option: str) -> Path:
    """Makes a folder, which must be new or empty: what stands in an old one is found by name.

    Raises:
        UsageError: It holds something, or cannot be made.
    """
    folder = Path(path)
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise UsageError(f"{option} {path} is not empty; choose a new folder")
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(f"{option} {path}: {reason(error)}") from error
    return folder
