"""Numbers as files write them: ASCII digits alone, within bounds.

Python's int() and float() also take `1_0`, other scripts' digits and blanks around them, and int()
raises for a number of thousands of digits.
"""

from __future__ import annotations

import math
import re

LARGEST_FLOAT32 = (2 - 2**-23) * 2.0**127
LARGEST = 2**31 - 1  # more than any count, place or size that a file should name

_MOST_DIGITS = 1000  # leading zeros among them
_DECIMAL = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(rb"[+-]?(?:inf(?:inity)?|nan)")  # as C++ reads and prints them


def whole_number(text: bytes | str, largest: int = LARGEST) -> int | None:
    """The number that digits alone write; None: other text, or a number above `largest`."""
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        return None
    number = int(text)
    return number if number <= largest else None


def real_number(text: bytes | str, *, finite: bool = True) -> float | None:
    """The number of a text such as -0.5 or 1e-3; None: other text, or a number that overflows.

    Without `finite` it may be inf, -inf and nan, too.
    """
    if isinstance(text, str):
        text = text.encode("utf-8", "surrogateescape")
    if _DECIMAL.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) or not finite else None
    return float(text) if not finite and _NOT_FINITE.fullmatch(text) else None
