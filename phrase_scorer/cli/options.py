"""Options that several commands have, and how commands read pairs."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, get_args, get_type_hints

import click
from click.core import ParameterSource
from typing_extensions import override

from phrase_scorer.errors import LONGEST_QUOTE, UsageError, quoted
from phrase_scorer.runtime.console import manner, say
from phrase_scorer.runtime.device import Precision
from phrase_scorer.runtime.output import STANDARD
from phrase_scorer.runtime.report import as_json

Command = TypeVar("Command", bound=Callable[..., Any])
Request = TypeVar("Request")
Answer = TypeVar("Answer")


class Bounded(click.ParamType):  # type: ignore[type-arg]  # some versions are not generic
    """A number within bounds: neither nan nor infinite, nor so large that nobody means it."""

    name = "number"

    def __init__(
        self, kind: type[int] | type[float], least: float, most: float, *, above: bool = False
    ) -> None:
        self.kind, self.least, self.most, self.above = kind, least, most, above

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            number = self.kind(value)
        except ValueError:
            number = float("nan")
        if not self.least <= number <= self.most or (self.above and number == self.least):
            name = param.opts[0] if param else self.name
            raise UsageError(f"{name} must be {self}, not {_shown(value)}")
        return number

    def __str__(self) -> str:
        what = "a whole number" if self.kind is int else "a number"
        if self.above:
            return f"{what} above {self.least:g} and at most {self.most:g}"
        return f"{what} from {self.least:.10g} to {self.most:.10g}"


COUNT = Bounded(int, 1, 2**31 - 1)
COUNT_OR_NONE = Bounded(int, 0, 2**31 - 1)
SEED = COUNT_OR_NONE
WORDS = Bounded(int, 2, 2**31 - 1)  # of a shortlist
CORES = Bounded(int, 1, 4096)
MINUTES = Bounded(float, 0, 1e9, above=True)
SHARE = Bounded(float, 0, 1)
POSITIVE = Bounded(float, 0, 1e6, above=True)
WEIGHT = Bounded(float, -1e6, 1e6)


PLACES = {"FILE", "DIR", "LIST", "WEIGHTS"}  # what an option is called that names a file


class OnceOption(click.Option):
    """An option that takes one value (unless `multiple`): a second one is refused, not dropped."""

    @override
    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        def add(action: str, **given: Any) -> None:
            parser.add_option(action=action.replace("store", "append"), **given)

        super().add_to_parser(SimpleNamespace(add_option=add), ctx)  # type: ignore[arg-type]

    @override
    def consume_value(self, ctx: click.Context, opts: Any) -> tuple[Any, ParameterSource]:
        values, source = super().consume_value(ctx, opts)
        if source is not ParameterSource.COMMANDLINE:
            return values, source
        if not self.multiple:
            self._require_once(ctx, values)
        if self.metavar in PLACES and "" in values:  # of a shell variable that is not set, say
            raise UsageError(f"{self.opts[0]} is empty")
        return values if self.multiple else values[0], source

    def _require_once(self, ctx: click.Context, values: Sequence[Any]) -> None:
        """Refuses several values, or flags of one setting that differ."""
        if self.is_flag and len(set(values)) > 1:
            rivals = [o for o in ctx.command.params if o.name == self.name]
            given = [o.opts[0] for o in rivals if getattr(o, "flag_value", None) in values]
            raise UsageError(f"{' and '.join(given)} contradict each other; give one of them")
        if not self.is_flag and len(values) > 1:
            times = "twice" if len(values) == 2 else f"{len(values)} times"
            shown = ", ".join(map(_shown, values))
            raise UsageError(f"{self.opts[0]} is given {times} ({shown}); it takes one value")


class SectionedCommand(click.Command):
    """A command whose help shows its options under headings.

    Args:
        headings: Heading -> names of its options; all others stand last, under "Running".
        options: As of `click.Command`.
    """

    def __init__(self, *, headings: Mapping[str, str], **options: Any) -> None:
        super().__init__(**options)
        self.headings = headings

    @override
    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        heading_of = {name: heading for heading in self.headings
                      for name in self.headings[heading].split()}  # fmt: skip
        sections: dict[str, list[tuple[str, str]]] = {name: [] for name in self.headings}
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                heading = heading_of.get(str(parameter.name), "Running")
                sections.setdefault(heading, []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def _shown(value: Any) -> str:
    """A value of an option as it was typed; in quotes where it is long or not printable."""
    text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text if text.isprintable() and 0 < len(text) <= LONGEST_QUOTE else quoted(text)


# What every command declares with.
option = functools.partial(click.option, cls=OnceOption, show_default=True)


def request_of(kind: type[Request], options: Mapping[str, Any]) -> Request:
    """The request that a command's options make: the one way from options to what is asked.

    A field of a dataclass takes the option of its name; a field that is itself a dataclass is made
    of the same options (`Arithmetic`, `IniTarget`). A field without an option, or whose
    option was not given (None), keeps its default.
    """
    hints = get_type_hints(kind)
    made = {}
    for field in fields(kind):  # type: ignore[arg-type]
        if is_dataclass(hints[field.name]):
            made[field.name] = request_of(hints[field.name], options)
        elif field.name in options and (options[field.name] is not None or _is_required(field)):
            made[field.name] = options[field.name]
    return kind(**made)


def _fields_of(kind: Any) -> Iterator[str]:
    """The names of all fields that options can fill, those of the parts too."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        part = hints[field.name]
        yield from _fields_of(part) if is_dataclass(part) else (field.name,)


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def takes(kind: type[Request]) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """A decorator: the command is given one request, all refusals made, instead of its options.

    A field `quiet` says what --quiet said, which every command has (groups.py).

    A TypeError when the command runs says that it has an option which no field takes.
    """
    known = frozenset(_fields_of(kind))

    def decorate(command: Callable[..., Answer]) -> Callable[..., Answer]:
        @functools.wraps(command)
        def with_options(*arguments: Any, **options: Any) -> Answer:
            if unread := options.keys() - known:
                raise TypeError(f"{kind.__name__} has no field for {', '.join(sorted(unread))}")
            options["quiet"] = manner().quiet
            return command(*arguments, request_of(kind, options))

        return with_options

    return decorate


def require_models(*paths: str | Path) -> None:
    """Refuses (ModelError), before torch is imported, model directories that are not whole."""
    from phrase_scorer.models.files import ModelFiles

    for path in paths:
        ModelFiles(Path(path)).require_complete()


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator; the help shows them in this order."""

    def decorate(command: Command) -> Command:
        for decorator in reversed(options):
            command = decorator(command)
        return command

    return decorate


def _one_device(_: click.Context, __: click.Parameter, name: str) -> str:
    if "," in name:
        raise UsageError(f"--device {name}: only rescore computes on several devices")
    return name


_DEVICES = "Where to compute: auto, cpu, cuda, cuda:1, …"
_threads = option("--threads", type=CORES, metavar="N", help="CPU cores to use.  [default: all]")
device_options = together(
    option("--device", default="auto", callback=_one_device, help=_DEVICES), _threads
)
several_devices_options = together(
    option("--device", default="auto", help=f"{_DEVICES}; several: cuda:0,cuda:1."), _threads
)
precision_option = option(
    "--precision", type=click.Choice(get_args(Precision)), default="float32",
    help="Numbers of the large products; unless float32, their error is measured and told.",
)  # fmt: skip
model_option = option("--model", "model_path", required=True, type=click.Path(path_type=Path),
                      metavar="DIR", help="Directory of the trained model.")  # fmt: skip
output_option = option("--output", default=STANDARD, show_default=False, metavar="FILE",
                       help="Where to write.  [default: stdout]")  # fmt: skip
seed_option = option("--seed", type=SEED, default=1, metavar="N",
                     help="Seed of all random numbers.")  # fmt: skip
max_unknown_option = option(
    "--max-unknown", type=SHARE, metavar="X", help="Stop if a model does not know more than this "
    "share of the first words of a side, say 0.2.",
)  # fmt: skip
format_option = option("--format", "form", type=click.Choice(["text", "json"]), default="text",
                       help="Form of what is printed on standard output.")  # fmt: skip


def _want_json(ctx: click.Context, _: click.Parameter, given: str | bool) -> None:
    ctx.meta[_JSON] = ctx.meta.get(_JSON, False) or given in ("json", True)


def wants_json() -> bool:
    """Whether the command that runs was asked for its statistics in JSON (`statistics_option`)."""
    return bool(click.get_current_context().meta.get(_JSON))


def answer(statistics: object) -> None:
    """Writes the statistics of what was done to standard output, where they are wanted in JSON."""
    if wants_json():
        click.echo(as_json(statistics), nl=False)


_JSON = "phrase_scorer.json"
statistics_option = option(
    "--format", type=click.Choice(["text", "json"]), default="text", expose_value=False,
    callback=_want_json, help="json: the statistics on standard output, as one JSON object.",
)  # fmt: skip
json_option = option(
    "--json", is_flag=True, expose_value=False, callback=_want_json,
    help="The statistics on standard output, as one JSON object.",
)  # fmt: skip
any_table_option = option("--any-table", is_flag=True, help="Take what looks like a reordering "
                          "table for a phrase table.")  # fmt: skip


def _or_standard(_: click.Context, __: click.Parameter, paths: tuple[str, ...]) -> tuple[str, ...]:
    if not paths and sys.stdin.isatty():
        say("reading pairs from standard input")
    return paths or (STANDARD,)


# What a `PairFiles` is made of.
pairs_argument = click.argument(
    "paths", metavar="[PAIRS | SOURCES TARGETS]", nargs=-1, callback=_or_standard
)
