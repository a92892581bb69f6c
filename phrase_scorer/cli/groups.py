"""Groups whose commands are imported when they are wanted, and the options that every command has.

A command line is a table: heading -> name -> where the command is and what it does in a line. So
--help, -V and completion import no command, and a command imports no other.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem
from typing_extensions import override

from phrase_scorer.cli.options import OnceOption
from phrase_scorer.runtime.console import speak

PROGRAM = "phrase-scorer"
WIDTH = 100  # of help, in columns, where the terminal has them


class LazyCommand(NamedTuple):
    """A command that is not imported yet."""

    place: str  # "module:name"
    summary: str  # the first sentence of its help

    def load(self) -> click.Command:
        """The command."""
        module, _, name = self.place.partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command


Commands = Mapping[str, LazyCommand | click.Command]  # by name
Sections = Mapping[str, Sequence[str]]  # names, by the heading over them


def _flag(names: list[str], help_text: str) -> click.Option:
    def heed(_: click.Context, parameter: click.Parameter, given: bool) -> None:
        if given:
            speak(**{str(parameter.name): True})

    return OnceOption(
        names, is_flag=True, is_eager=True, expose_value=False, callback=heed, help=help_text
    )


# Of every command and group, so that they may stand anywhere.
SPEECH = (
    _flag(["-q", "--quiet"], "Show no progress and no notes, only results, warnings and errors."),
    _flag(["-v", "--verbose"], "Say more: device, kernels, processes, files, programs, seconds."),
    _flag(["--debug"], "Show where in the program an error was raised."),
)


class _Commands(UserDict[str, Any]):
    """Commands by name, each imported when it is asked for; so all of them by `values`."""

    @override
    def __getitem__(self, name: str) -> click.Command:
        found = self.data[name]
        if isinstance(found, LazyCommand):
            found = self.data[name] = found.load()
            if found.params[-1:] != [SPEECH[-1]]:
                found.params.extend(SPEECH)
        command: click.Command = found
        return command


class LazyGroup(click.Group):
    """A group whose help shows its commands under headings, in the order of work.

    `aliases` are other names of commands, which no help shows.
    """

    def __init__(
        self,
        commands: Commands,
        sections: Sections,
        aliases: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.table, self.sections, self.aliases = commands, sections, aliases or {}
        self.commands = _Commands(commands)
        self.params.extend(SPEECH)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, self.aliases.get(cmd_name, cmd_name))

    def summary_of(self, name: str) -> str:
        """What a command does, in a line."""
        known = self.table[name]
        if isinstance(known, LazyCommand):
            return known.summary
        return known.get_short_help_str(limit=1000)

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.commands))  # of all, so that the texts of all sections align
        for heading, names in self.sections.items():
            with formatter.section(heading):
                formatter.write_dl([(f"{name:<{width}}", self.summary_of(name)) for name in names])

    @override
    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = (name for name in self.list_commands(ctx) if name.startswith(incomplete))
        items = [CompletionItem(name, help=self.summary_of(name)) for name in names]
        return items + click.Command.shell_complete(self, ctx, incomplete)
