"""Options that several commands have, and how commands read pairs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, get_args, get_type_hints

import click

from phrase_scorer.errors import UsageError
from phrase_scorer.runtime.device import Arithmetic, Precision
from phrase_scorer.runtime.output import STANDARD, OutputFile
from phrase_scorer.text.phrase_pairs import PairBlock, read_tab_separated

Command = TypeVar("Command", bound=Callable[..., Any])
Request = TypeVar("Request")
Answer = TypeVar("Answer")

option = functools.partial(click.option, show_default=True)  # what every command declares with
SEED = click.IntRange(0, 2**31 - 1)
PRESET = click.Choice(["small", "base", "paper"])  # PRESET_NAMES, without importing torch


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

    A TypeError when the command runs says that it has an option which no field takes.
    """
    known = frozenset(_fields_of(kind))

    def decorate(command: Callable[..., Answer]) -> Callable[..., Answer]:
        @functools.wraps(command)
        def with_options(*arguments: Any, **options: Any) -> Answer:
            if unread := options.keys() - known:
                raise TypeError(f"{kind.__name__} has no field for {', '.join(sorted(unread))}")
            return command(*arguments, request_of(kind, options))

        return with_options

    return decorate


class PairReader(Protocol):
    """Reads the pairs of a file, block by block.

    `with_counts`: how often each was seen, too; None: if the file says so. `any_table`: take what
    looks like another kind of table.
    """

    def __call__(
        self, path: str, *, with_counts: bool | None = False, any_table: bool = False
    ) -> Iterator[PairBlock]:
        """The blocks, in the order of the file."""


def read_pairs(
    path: str, *, with_counts: bool | None = False, any_table: bool = False
) -> Iterator[PairBlock]:
    """The reader for "source<TAB>target" lines, which have no counts."""
    if with_counts:
        raise UsageError("--weight-by-count needs a phrase table with counts")
    if any_table:
        raise UsageError("--any-table needs a phrase table")
    return read_tab_separated(path)


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
_threads = option("--threads", type=int, metavar="N", help="CPU cores to use.  [default: all]")
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
shortlist_option = option(
    "--shortlist", type=click.IntRange(2), default=15_000,  # paper, section 4.1: of each language
    metavar="N", help="Most frequent words that the model knows (of each side), <unk> included.",
)  # fmt: skip
quiet_option = option("--quiet", is_flag=True, help="Show no progress bar.")
any_table_option = option("--any-table", is_flag=True, help="Take what looks like a reordering "
                          "table for a phrase table.")  # fmt: skip
# With `device_options` all that a `PairsRequest` is made of.
scoring_options = together(
    click.argument("pairs", metavar="PAIRS", default=STANDARD),
    model_option,
    output_option,
    any_table_option,
)


@dataclass(frozen=True)
class PairsRequest:
    """What a command over pairs is asked: to read them here, and to write there what it finds."""

    pairs: str
    output: str
    model_path: Path
    any_table: bool
    arithmetic: Arithmetic

    def __post_init__(self) -> None:
        self.output_file()  # refused where it cannot be written

    def output_file(self) -> OutputFile:
        """Where the command writes."""
        return OutputFile(self.output, inputs=[self.pairs])
