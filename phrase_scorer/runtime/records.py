"""What a file says in JSON, as the types that its reader knows: right, or refused in one line.

Whoever wrote the file, a `DataError` (or another class of it) tells of all that can be wrong: it
cannot be read, is too large, is not JSON, or has a field of another type.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

import msgspec

from phrase_scorer.errors import DataError, shortened
from phrase_scorer.runtime.output import Place, reason

MOST_BYTES = 64 << 20  # of one file of JSON, or of one line of a file

Kind = TypeVar("Kind")


class Origin(NamedTuple):
    """Where JSON comes from, and what is raised where it is wrong."""

    path: Place
    line: int | None = None
    error: type[DataError] = DataError

    def refuse(self, what: str, cause: BaseException | None = None) -> NoReturn:
        """Raises the error."""
        raise self.error(shortened(what), path=self.path, line=self.line) from cause


def read_json(
    path: Place,
    kind: type[Kind],
    *,
    error: type[DataError] = DataError,
    finite: bool = True,
    most_bytes: int = MOST_BYTES,
) -> Kind:
    """The content of a JSON file as a type: dataclass, msgspec.Struct, or one with parameters.

    Unknown fields are passed over, unless a Struct forbids them. Without `finite`, NaN and the
    infinities that Python writes are numbers, too.
    """
    origin = Origin(path, error=error)
    try:
        if Path(path).exists() and not Path(path).is_file():
            origin.refuse("cannot read: not a file")
        with open(path, "rb") as file:
            content = file.read(most_bytes + 1)
    except OSError as why:
        origin.refuse(f"cannot read: {reason(why)}", why)
    if len(content) > most_bytes:
        origin.refuse(f"larger than {most_bytes:,} bytes")
    return parse_json(content, kind, origin, finite=finite, most_bytes=most_bytes)


def parse_json(
    content: bytes,
    kind: type[Kind],
    origin: Origin,
    *,
    finite: bool = True,
    most_bytes: int = MOST_BYTES,
) -> Kind:
    """The same of JSON that was read already: a line of a file, say."""

    def number(text: str) -> float:
        value = float(text)
        if finite and not math.isfinite(value):
            origin.refuse(f"not a number that can be used: {text}")
        return value

    if len(content) > most_bytes:
        origin.refuse(f"larger than {most_bytes:,} bytes")
    try:
        plain = json.loads(content.decode(), parse_float=number, parse_constant=number)
    except UnicodeDecodeError as error:
        origin.refuse(f"not JSON: not UTF-8 at byte {error.start + 1}", error)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        origin.refuse(f"not JSON: {error.msg} ({where})", error)
    except RecursionError as error:
        origin.refuse("not JSON that can be used: nested too deep", error)
    except ValueError as error:  # Python's bound, against quadratic time
        origin.refuse("not JSON that can be used: a number has too many digits", error)
    return typed(plain, kind, origin)


def typed(plain: Any, kind: type[Kind], origin: Origin) -> Kind:
    """What `json.loads` gave, as a type."""
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        origin.refuse(_plainly(str(error)), error)
    except RecursionError as error:
        origin.refuse("nested too deep", error)
    except UnicodeEncodeError as error:
        origin.refuse("half of a character (a lone surrogate)", error)


def _plainly(message: str) -> str:
    """What msgspec says, the place first: "model.hidden: expected int, got str"."""
    what, _, place = message.rpartition(" - at `$")
    if not what:
        what, place = message, ""
    what = re.sub("^Invalid enum value", "unknown value", what.replace("`", ""))
    what = what[0].lower() + what[1:]
    place = place.removesuffix("`").removeprefix(".")
    return f"{place}: {what}" if place else what
