"""Joins two directions of word alignment into the "bal" form that Moses' symal reads.

    python symmetrise.py FORWARD REVERSE SOURCE TARGET > BAL

Three lines a sentence pair: "1", the target with the source position of each word, the source with
the target position of each word (1-based, 0: none). symal then prints source-target points.
"""

import sys
from itertools import islice
from pathlib import Path


def links(line: str, side: int) -> dict[int, int]:
    """The position on the other side, of the first link of each word of a side."""
    found: dict[int, int] = {}
    for point in line.split():
        pair = [int(place) for place in point.split("-")]
        found.setdefault(pair[side], pair[1 - side] + 1)
    return found


def described(words: str, other: dict[int, int]) -> str:
    """A line of the bal form: "n word word … # place place …"."""
    split = words.split()
    places = " ".join(str(other.get(i, 0)) for i in range(len(split)))
    return f"{len(split)} {words.strip()}  # {places}"


def main() -> None:
    """Writes the alignment of all sentences."""
    columns = [Path(name).read_text("utf-8").splitlines() for name in islice(sys.argv, 1, 5)]
    for forward, reverse, source, target in zip(*columns, strict=True):
        print(1)
        print(described(target, links(forward, 1)))
        print(described(source, links(reverse, 0)))


if __name__ == "__main__":
    main()
