"""How docs/ becomes pages: `make docs`, with warnings as errors."""

from __future__ import annotations

from pathlib import Path

import click
from sphinx.application import Sphinx

from moses_integration.cli import command_line
from phrase_scorer import __version__

project = "phrase-scorer"
author = "The phrase-scorer authors"
copyright = "2026, the phrase-scorer authors"  # noqa: A001 - the name that Sphinx reads
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
myst_heading_anchors = 3
default_role = "code"  # docstrings write `name`, as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True

COMMANDS = Path(__file__).parent / "commands.md"
WIDTH = 90  # of a help text, in columns


def write_commands(_: Sphinx) -> None:
    """The page of all commands: what --help shows of each, under the headings of --help."""
    group = command_line()
    context = click.Context(group, info_name="phrase-scorer", max_content_width=WIDTH)
    parts = ["# Commands", _help(group, context)]
    for heading, names in group.sections.items():
        parts.append(f"## {heading}")
        for name in names:
            parts += _page(group.commands[name], context)
    COMMANDS.write_text("\n\n".join(parts) + "\n")


def _page(command: click.Command, parent: click.Context) -> list[str]:
    context = click.Context(command, info_name=command.name, parent=parent, terminal_width=WIDTH)
    name = context.command_path.removeprefix("phrase-scorer ")
    parts = [f"### {name}", _help(command, context)]
    inner = command.commands.values() if isinstance(command, click.Group) else ()
    return parts + [part for one in inner for part in _page(one, context)]


def _help(command: click.Command, context: click.Context) -> str:
    return f"```text\n{command.get_help(context)}\n```"


def without_module_text(
    _: Sphinx, what: str, __: str, ___: object, ____: object, lines: list[str]
) -> None:
    """Takes a module's own docstring away: api.md says what it says."""
    if what == "module":
        lines.clear()


def setup(app: Sphinx) -> None:
    """Connects both."""
    app.connect("builder-inited", write_commands)
    app.connect("autodoc-process-docstring", without_module_text)
