"""The options that several commands around Moses have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from phrase_scorer.cli.options import Command, option, together

FILE = click.Path(path_type=Path)
# Those whose abbreviations, or letters, sacremoses knows; it would take any other for English.
LANGUAGES = (
    "as bn ca cs de el en es et fi fr ga gu hi hu is it ja kn ko lt lv ml mni mr nl or pa pl pt ro "
    "ru sk sl sv ta tdt te yue zh"
)
LANGUAGE = click.Choice(LANGUAGES.split())

moses_options = together(
    option("--moses-bin", metavar="DIR",
           help="Folder of Moses' programs.  [default: $MOSES_BIN, else PATH]"),
    option("--moses-scripts", metavar="DIR", help="Folder of Moses' scripts.  "
           "[default: $MOSES_SCRIPTS, else scripts beside programs]"),
)  # fmt: skip
table_name_option = option(
    "--table-name", metavar="NAME", help="Which table of moses.ini, if it has several."
)
unknown_words_of_option = option(
    "--unknown-words-of", type=FILE, metavar="DIR",
    help="The same for the shortlist of another model, say a train-lm's.",
)  # fmt: skip
new_folder_option = option(
    "--output-dir", required=True, metavar="DIR", help="A folder that is new or empty."
)


def ini_options(written_with: str) -> Callable[[Command], Command]:
    """--moses-ini, --moses-ini-out and --table-name, for what makes a new PHRASE_TABLE."""
    return together(
        option("--moses-ini", metavar="FILE", help="The moses.ini that names PHRASE_TABLE."),
        option("--moses-ini-out", metavar="FILE", help=f"Where to write it with {written_with}."),
        table_name_option,
    )


def models_option(name: str, column: str) -> Callable[[Command], Command]:
    """An option that names a model directory, and may be given several times."""
    return option(
        name, f"{name[2:].replace('-', '_')}s", type=FILE, multiple=True, metavar="DIR",
        help=f"Model directory: a column {column}. Repeat for several.",
    )  # fmt: skip
