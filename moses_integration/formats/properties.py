"""Phrase properties, the seventh field of an entry: which of them stop Moses, or let it crash.

`{{Key value}} {{Key value}}`, read in TargetPhrase::SetProperties (moses/TargetPhrase.cpp); each
key has a class that reads its value (moses/PP).
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeVar

from phrase_scorer.runtime.numbers import LARGEST_FLOAT32, real_number, whole_number
from phrase_scorer.text.phrase_pairs import words_of

_MOST_SYMBOLS = 1000  # non-terminals of a rule: Moses allocates for as many as a value names
_Number = TypeVar("_Number", int, float)


def property_errors(text: bytes) -> Iterator[tuple[str, bytes]]:
    """What is wrong with the properties of an entry, and the text that is."""
    for part in text.split(b"{{"):
        item = part.strip(b" \t\r")
        end = item.rfind(b"}")
        key, blank, value = (item[: end - 1] if end > 0 else item).partition(b" ")
        if not item:
            continue
        if not blank:
            yield "not a property with a value (Moses stops)", item
        elif key not in PROPERTIES:
            yield "a property that Moses does not know (it would stop)", key
        else:
            try:
                PROPERTIES[key](value)
            except ValueError:
                yield f"not a value of the property {key.decode()} (Moses stops)", value


class _Words:
    """The words of a value, taken one by one, as a C++ stream does; ValueError where it fails."""

    def __init__(self, value: bytes) -> None:
        self._words = deque(value.split())
        self._blank = value[-1:].isspace()

    def more(self) -> bool:
        """Whether the stream is not at its end, be it but a blank that is left."""
        return bool(self._words) or self._blank

    def whole(self) -> int:
        return self._taken(whole_number)

    def real(self) -> float:
        number = self._taken(real_number)
        if abs(number) > LARGEST_FLOAT32:
            raise ValueError
        return number

    def _taken(self, read: Callable[[bytes], _Number | None]) -> _Number:
        number = read(self._words.popleft()) if self._words else None
        if number is None:
            raise ValueError
        return number


def _numbers(count: int) -> Callable[[bytes], None]:
    """So many numbers; what follows is not read."""

    def read(value: bytes) -> None:
        words = _Words(value)
        for _ in range(count):
            words.real()

    return read


def _labels(value: bytes) -> None:
    """The symbols of a rule, a count; then labels and counts (SourceLabelsPhraseProperty.cpp)."""
    words = _Words(value)
    symbols = words.whole()
    words.real()
    while words.more():
        following = sys.maxsize
        if symbols != 1:  # a hierarchical rule
            for _ in range((symbols - 1) % 2**64):
                words.whole()
            words.real()
            following = words.whole()
        while following and words.more():
            words.whole()
            words.real()
            following -= 1


def _constituents(value: bytes) -> None:
    """Constituents and counts in turn: Moses crashes where the last count is missing."""
    if sum(map(bool, value.split(b" "))) % 2:
        raise ValueError


def _spans(value: bytes) -> None:
    """Counts, and before each the non-terminals with their spans: index,source,target."""
    for word in words_of(value):
        parts = [part for part in word.split(b",") if part]
        if len(parts) == 3:
            fitting = whole_number(parts[0], _MOST_SYMBOLS) is not None
        else:
            fitting = len(parts) == 1
        if not fitting:
            raise ValueError


def _contexts(value: bytes) -> None:
    """The number of non-terminals, then for each its index and 4 words, and a count."""
    number, *rest = words_of(value) or [b""]
    symbols = whole_number(number, _MOST_SYMBOLS)
    if symbols is None or len(rest) % (5 * symbols + 1):
        raise ValueError


def _anything(_: bytes) -> None:
    pass


PROPERTIES: dict[bytes, Callable[[bytes], None]] = {  # moses/PP/Factory.cpp
    b"Counts": _numbers(3),
    b"SourceLabels": _labels,
    b"TargetConstituentBoundariesLeft": _constituents,
    b"TargetConstituentBoundariesRightAdjacent": _constituents,
    b"TargetPreferences": _labels,
    b"Tree": _anything,
    b"SpanLength": _spans,
    b"NonTermContext": _contexts,
    b"Orientation": _numbers(8),
}
