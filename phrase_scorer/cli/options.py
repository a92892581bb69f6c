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

SEED = click.IntRange(0, 2**31 - 1)
SHORTLIST = 15_000  # paper, section 4.1: 15,000 most frequent words of each language


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

    `with_counts`: how often each was seen, too; None: if the file says so.
    """

    def __call__(self, path: str, *, with_counts: bool | None = False) -> Iterator[PairBlock]:
        """The blocks, in the order of the file."""


def read_pairs(path: str, *, with_counts: bool | None = False) -> Iterator[PairBlock]:
    """The reader for "source<TAB>target" lines, which have no counts."""
    if with_counts:
        raise UsageError("--weight-by-count needs a phrase table with counts")
    return read_tab_separated(path)


def model_option(command: Command) -> Command:
    """--model DIR."""
    return click.option(
        "--model", "model_path", required=True, type=click.Path(path_type=Path),
        metavar="DIR", help="Directory of the trained model.",
    )(command)  # fmt: skip


def scoring_options(command: Command) -> Command:
    """PAIRS, --model and --output: what a `PairsRequest` is made of, with `device_options`."""
    command = click.option(
        "--output", default=STANDARD, metavar="FILE", help="Where to write.  [default: stdout]"
    )(command)
    return click.argument("pairs", metavar="PAIRS", default=STANDARD)(model_option(command))


@dataclass(frozen=True)
class PairsRequest:
    """What a command over pairs is asked: to read them here, and to write there what it finds."""

    pairs: str
    output: str
    model_path: Path
    arithmetic: Arithmetic

    def __post_init__(self) -> None:
        self.output_file()  # refused where it cannot be written

    def output_file(self) -> OutputFile:
        """Where the command writes."""
        return OutputFile(self.output, inputs=[self.pairs])


_DEVICES = "Where to compute: auto, cpu, cuda, cuda:1, …"


def device_options(command: Command) -> Command:
    """--device and --threads."""
    return _device_options(command, _DEVICES, callback=_one_device)


def several_devices_options(command: Command) -> Command:
    """--device, of which there may be several, and --threads."""
    return _device_options(command, f"{_DEVICES}; several: cuda:0,cuda:1.")


def _device_options(command: Command, text: str, **options: Any) -> Command:
    device = click.option("--device", default="auto", show_default=True, help=text, **options)
    return click.option(
        "--threads", type=int, metavar="N", help="CPU cores to use.  [default: all]"
    )(device(command))


def _one_device(_: click.Context, __: click.Parameter, name: str) -> str:
    if "," in name:
        raise UsageError(f"--device {name}: only rescore computes on several devices")
    return name


def precision_option(command: Command) -> Command:
    """--precision, of scoring."""
    return click.option(
        "--precision", type=click.Choice(get_args(Precision)), default="float32",
        show_default=True,
        help="Numbers of the large products; unless float32, their error is measured and told.",
    )(command)  # fmt: skip


def quiet_option(command: Command) -> Command:
    """--quiet."""
    return click.option("--quiet", is_flag=True, help="Show no progress bar.")(command)
