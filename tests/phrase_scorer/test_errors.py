"""Messages of one line: place, what, the text; unprintable bytes shown, long text shortened."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from phrase_scorer.errors import (
    LONGEST_QUOTE,
    DataError,
    ModelError,
    PhraseScorerError,
    UsageError,
    quoted,
)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, "bad"),
        ({"path": "a.gz"}, "a.gz: bad"),
        ({"path": Path("d/a.gz"), "line": 7}, "d/a.gz:7: bad"),
        ({"path": "a.gz", "line": 7, "text": b"x \xff\t"}, 'a.gz:7: bad: "x \\xff\\t"'),
        ({"line": 7}, "bad"),
        ({"text": ""}, 'bad: ""'),
    ],
)
def test_message(where, expected):
    assert str(DataError("bad", **where)) == expected


def test_tree_and_exit_codes():
    assert issubclass(ModelError, DataError)
    assert issubclass(DataError, PhraseScorerError)
    assert issubclass(UsageError, PhraseScorerError)
    assert not issubclass(UsageError, DataError)
    codes = [kind.exit_code for kind in (PhraseScorerError, DataError, ModelError, UsageError)]
    assert codes == [1, 1, 1, 2]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("naïve 家", '"naïve 家"'),
        (b"\xe4\xb8", '"\\xe4\\xb8"'),
        ("a\nb\r\x00\u2028c", '"a\\nb\\r\\x00\\u2028c"'),
        ("y" * LONGEST_QUOTE, '"' + "y" * LONGEST_QUOTE + '"'),
        ("y" * (LONGEST_QUOTE + 1), '"' + "y" * (LONGEST_QUOTE - 1) + '…"'),
    ],
)
def test_quoted(text, expected):
    assert quoted(text) == expected


@pytest.mark.parametrize("text", ["é" * 10**7, "\U0001f600" * 10**7, "\x00" * 10**7])
def test_a_long_text_is_quoted_by_its_beginning(text):
    shown = "".join(c if c.isprintable() else "\\x00" for c in text[:LONGEST_QUOTE])
    started = time.monotonic()
    for given in (text, text.encode()):
        assert quoted(given) == f'"{shown[: LONGEST_QUOTE - 1]}…"'
    assert time.monotonic() - started < 1
