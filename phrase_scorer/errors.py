"""The exceptions of the project; every one carries a message of one line.

    PhraseScorerError
    ├── UsageError            a wrong option, or options that do not go together (exit code 2)
    └── DataError             wrong content of a file: path, line number, text (exit code 1)
        └── ModelError        a model directory that cannot be used

`str(error)` is what a user reads: `phrase-table.gz:1042: 2 fields, expected at least 3: "a ||| b"`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from typing import Literal, get_args, get_origin, get_type_hints

LONGEST_QUOTE = 120  # characters of offending text that a message shows


class PhraseScorerError(Exception):
    """Base class: catch this one to catch all errors that the project raises on purpose."""

    exit_code = 1


class UsageError(PhraseScorerError):
    """A wrong option, or options that do not go together."""

    exit_code = 2


class DataError(PhraseScorerError):
    """Something is wrong in a file.

    Args:
        message: What is wrong, and where there is one, the remedy.
        path: The file, as the user named it.
        line: 1-based line number.
        text: The offending text as read; quoted, shortened, with unprintable bytes escaped.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str | os.PathLike[str] | None = None,
        line: int | None = None,
        text: bytes | str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.path = None if path is None else os.fspath(path)
        self.line = line
        self.text = text

    def __str__(self) -> str:
        place = "" if self.path is None else f"{self.path}: "
        if self.path is not None and self.line is not None:
            place = f"{self.path}:{self.line}: "
        return place + self.message + ("" if self.text is None else f": {quoted(self.text)}")


class ModelError(DataError):
    """A model directory is incomplete, of a newer format, or does not fit the use."""


def require_choice(what: str, value: str, choices: Collection[str]) -> None:
    """Checks a name against those that exist: a UsageError where it is not among them."""
    if value not in choices:
        raise UsageError(f"unknown {what} {value!r}; choose from {', '.join(choices)}")


def require_at_least(least: int, name: str, value: float) -> None:
    """Checks a number, named as the user knows it: a UsageError where it is smaller."""
    if not value >= least:  # nor is nan
        raise UsageError(f"{name} must be at least {least}, not {value}")


def require_between(least: int, most: int, name: str, value: int) -> None:
    """The same with a largest number, too."""
    require_at_least(least, name, value)
    if value > most:
        raise UsageError(f"{name} must be at most {most:,}, not {value:,}")


def require_finite(name: str, value: float, *, or_zero: bool = False) -> None:
    """Checks a number above 0: a UsageError where it is not, or is infinite, or nan."""
    if not 0 <= value < math.inf or (value == 0 and not or_zero):
        least = "at least 0" if or_zero else "above 0"
        raise UsageError(f"{name} must be a finite number {least}, not {value}")


def require_one_each(option: str, given: int, wanted: int, what: str) -> None:
    """Checks that an option was given as often as there is something that it is for."""
    if given != wanted:
        times = {1: "once", 2: "twice"}.get(given, f"{given} times")
        there = f"is one {what}" if wanted == 1 else f"are {wanted} {what}s"
        raise UsageError(f"{option} is given {times}, but there {there}")


def require_literals(settings: object) -> None:
    """Checks that the fields of a dataclass that are `Literal` have one of their values."""
    for name, kind in get_type_hints(type(settings)).items():
        if get_origin(kind) is Literal:
            require_choice(name, getattr(settings, name), get_args(kind))


def printable(text: str) -> str:
    """The text on one line, with what a terminal would obey, or cannot show, escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a file's name that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def shortened(what: object) -> str:
    """What another library says of a file, on one line: it may quote all of it."""
    text = str(what)
    if len(text) > 2 * LONGEST_QUOTE:
        text = f"{text[: 2 * LONGEST_QUOTE - 1]}…"
    return printable(text)


def quoted(text: bytes | str) -> str:
    """The text in double quotes on one line: control characters escaped, a long one shortened."""
    text = text[: 4 * (LONGEST_QUOTE + 1)]  # a character of UTF-8 has up to 4 bytes
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    text = printable(text)
    if len(text) > LONGEST_QUOTE:
        text = text[: LONGEST_QUOTE - 1] + "…"
    return f'"{text}"'
