"""Phrase pairs as a Python program gives them: strings or lists of words, as pairs or by side.

Out: blocks of tokenised pairs. What is no pair is a TypeError that tells its place, from 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from itertools import islice, zip_longest
from typing import Any

from phrase_scorer.text.phrase_pairs import PairBlock, words_of

Phrase = str | bytes | Sequence[str]  # with blanks between words, or a list of them
Pairs = Iterable[tuple[Phrase, Phrase]] | Iterable[Phrase]  # the latter are sources, with targets


def blocks_of_pairs(
    pairs: Pairs, targets: Iterable[Phrase] | None, size: int
) -> Iterator[PairBlock]:
    """The pairs as words, so many at once."""
    if targets is None:
        _refuse_text("pairs", pairs, "(source, target)")
        every: Iterator[object] = iter(pairs)
    else:
        _refuse_text("sources", pairs, "phrases")
        _refuse_text("targets", targets, "phrases")
        every = _joined(pairs, targets)
    first = 0
    while block := list(islice(every, size)):
        yield _block(block, first)
        first += len(block)


def blocks_of_phrases(phrases: Iterable[Phrase], size: int) -> Iterator[list[list[bytes]]]:
    """The words of phrases that have no other side, so many at once."""
    _refuse_text("phrases", phrases, "phrases")
    words = (_phrase(f"phrase {place}", phrase) for place, phrase in enumerate(phrases))
    while block := list(islice(words, size)):
        yield block


def _refuse_text(name: str, given: object, of: str) -> None:
    if isinstance(given, str | bytes | Mapping | Set) or not isinstance(given, Iterable):
        raise TypeError(f"{name} must be a sequence of {of}, not {_kind(given)}")


def _joined(sources: Iterable[object], targets: Iterable[object]) -> Iterator[object]:
    missing = object()
    for place, (source, target) in enumerate(zip_longest(sources, targets, fillvalue=missing)):
        if target is missing:
            raise TypeError(f"source {place} has no target: as many of both are needed")
        if source is missing:
            raise TypeError(f"target {place} has no source: as many of both are needed")
        yield source, target


def _block(pairs: Sequence[object], first: int) -> PairBlock:
    """Pairs as words; `first` is the place of the first one, for messages."""
    with suppress(TypeError, ValueError, AttributeError):  # refused below, one by one
        if {*map(type, pairs)} <= {tuple, list}:
            both: Sequence[Any] = pairs
            return PairBlock([_words(s) for s, _ in both], [_words(t) for _, t in both])
    words = [_pair(*numbered) for numbered in enumerate(pairs, first)]
    return PairBlock([source for source, _ in words], [target for _, target in words])


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"


def _pair(place: int, pair: object) -> tuple[list[bytes], list[bytes]]:
    """The words of a (source, target); its place is for the message."""
    is_pair = isinstance(pair, Iterable) and not isinstance(pair, str | bytes | Mapping | Set)
    both = tuple(pair) if isinstance(pair, Iterable) and is_pair else ()
    if len(both) != 2:
        size = f" of {len(both)}" if is_pair else ""
        raise TypeError(f"pair {place} must be (source, target), not {_kind(pair)}{size}")
    of = f"of pair {place}"
    return _phrase(f"the source {of}", both[0]), _phrase(f"the target {of}", both[1])


def _phrase(name: str, phrase: Phrase) -> list[bytes]:
    try:
        return _words(phrase)
    except ValueError as error:
        raise TypeError(f"{name} {error}") from None
    except (TypeError, AttributeError):
        kind = "a string with blanks, or a list of words"
        raise TypeError(f"{name} must be {kind}, not {_kind(phrase)}") from None


def _words(phrase: Phrase) -> list[bytes]:
    """The words; of a line of a file, without its end."""
    if isinstance(phrase, str):
        phrase = phrase.encode("utf-8", "surrogateescape")
    if isinstance(phrase, bytes):
        if b"\n" in phrase:
            phrase = phrase.removesuffix(b"\n").removesuffix(b"\r")
            if b"\n" in phrase:
                raise ValueError("has several lines")
        return words_of(phrase)
    if type(phrase) is not list and isinstance(phrase, Mapping | Set):
        raise TypeError
    words = [word.encode("utf-8", "surrogateescape") for word in phrase]
    if len(words_of(b" ".join(words))) != len(words) or b"\n" in b"".join(words):
        raise ValueError("is a list in which a word is empty, or has a blank or a line end")
    return words
