"""A command's options become one request; what no field takes is a mistake of ours, and told."""

from __future__ import annotations

from dataclasses import dataclass, field

import click
import pytest

from phrase_scorer.cli.options import option, request_of, takes, together
from phrase_scorer.cli.train import PRESET
from phrase_scorer.errors import UsageError
from phrase_scorer.runtime.device import Arithmetic
from phrase_scorer.training.settings import PRESET_NAMES


@dataclass(frozen=True)
class Request:
    path: str
    limit: int | None
    arithmetic: Arithmetic = field(default_factory=Arithmetic)
    names: tuple[str, ...] = ("a",)

    def __post_init__(self) -> None:
        if self.limit == 0:
            raise UsageError("--limit must not be 0")


def test_a_field_takes_the_option_of_its_name():
    options = {"path": "p", "limit": None, "device": "cpu", "threads": 3, "names": ("x", "y")}
    found = request_of(Request, options)
    assert found == Request("p", None, Arithmetic("cpu", threads=3), ("x", "y"))
    assert request_of(Request, {"path": "p", "limit": 1, "names": None}).names == ("a",)


def test_a_command_is_given_one_request_or_refused():
    seen = []

    @click.command()
    @click.option("--path")
    @click.option("--limit", type=int)
    @takes(Request)
    def command(request: Request) -> None:
        seen.append(request)

    command.main(["--path", "p", "--limit", "2"], standalone_mode=False)
    assert seen == [Request("p", 2)]
    with pytest.raises(UsageError, match="--limit must not be 0"):
        command.main(["--path", "p", "--limit", "0"], standalone_mode=False)


def test_an_option_that_no_field_takes():
    @click.command()
    @click.option("--pth")
    @takes(Request)
    def command(request: Request) -> None:
        raise AssertionError

    with pytest.raises(TypeError, match="Request has no field for pth"):
        command.main(["--pth", "p"], standalone_mode=False)


def test_options_together_keep_their_order_and_show_their_defaults():
    both = together(option("--first", default=1, help="One."), option("--second", help="Two."))

    @click.command()
    @both
    def command(first: int, second: str | None) -> None:
        raise AssertionError

    assert [parameter.name for parameter in command.params] == ["first", "second"]
    text = command.get_help(click.Context(command))
    assert "One.  [default: 1]\n" in text
    assert "Two.\n" in text


def test_presets_are_those_of_training():
    assert tuple(PRESET.choices) == PRESET_NAMES
