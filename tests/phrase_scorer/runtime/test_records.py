"""JSON of any shape is read as the wanted type, or refused in one line."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phrase_scorer.errors import DataError, ModelError
from phrase_scorer.runtime.records import Origin, parse_json, read_json, typed


@dataclass
class Known:
    count: int
    share: float = 0.5
    side: Literal["source", "target"] = "source"
    words: dict[str, int] = field(default_factory=dict)


class Closed(msgspec.Struct, forbid_unknown_fields=True):
    count: int


def test_what_fits_is_read(folder):
    (folder / "a.json").write_text('{"count": 3, "share": 1, "words": {"é": 2}, "more": []}')
    assert read_json("a.json", Known) == Known(3, 1.0, "source", {"é": 2})
    assert read_json("a.json", dict[str, Any])["more"] == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON: Expecting value (line 1, column 1)"),
        (b"{\n", "not JSON: Expecting property name enclosed in double quotes (line 2, column 1)"),
        (b'{"count": "\xff"}', "not JSON: not UTF-8 at byte 12"),
        (b"[" * 100_000, "not JSON that can be used: nested too deep"),
        (b'{"count":' * 100_000, "not JSON that can be used: nested too deep"),
        (b"1" * 5000, "not JSON that can be used: a number has too many digits"),
        (b'{"count": NaN}', "not a number that can be used: NaN"),
        (b'{"count": 1, "share": -Infinity}', "not a number that can be used: -Infinity"),
        (b'{"count": 1, "share": 1e999}', "not a number that can be used: 1e999"),
        (b"[]", "expected object, got array"),
        (b"{}", "object missing required field count"),
        (b'{"count": "3"}', "count: expected int, got str"),
        (b'{"count": true}', "count: expected int, got bool"),
        (b'{"count": 1, "share": "a\\ud800"}', "half of a character (a lone surrogate)"),
        (b'{"count": 1, "share": null}', "share: expected float, got null"),
        (b'{"count": 1, "side": "\\u001b[31m"}', "side: unknown value '\\x1b[31m'"),
        (b'{"count": 1, "words": {"a": []}}', "words[...]: expected int, got array"),
    ],
)  # fmt: skip
def test_what_does_not_is_refused(folder, content, message):
    (folder / "a.json").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_json("a.json", Known)
    assert str(caught.value) == f"a.json: {message}"
    with pytest.raises(ModelError) as caught:
        parse_json(content, Known, Origin("a.jsonl", 7, ModelError))
    assert str(caught.value) == f"a.jsonl:7: {message}"


def test_unknown_fields_where_they_are_forbidden():
    with pytest.raises(DataError) as caught:
        parse_json(b'{"count": 1, "x\\u001b": 2}', Closed, Origin("a.json"))
    assert str(caught.value) == "a.json: object contains unknown field x\\x1b"
    with pytest.raises(DataError) as caught:
        typed({"count": 1, "x" * 9999: 2}, Closed, Origin("a.json"))
    assert len(str(caught.value)) < 300


def test_what_is_not_finite_where_it_is_allowed():
    content = b'{"count": 1, "share": Infinity}'
    assert parse_json(content, Known, Origin("a.json"), finite=False).share == math.inf


def test_files_that_cannot_be_read(folder):
    os.mkfifo("fifo")
    (folder / "long").write_text(json.dumps("x" * 100))
    for name, message in {
        "none": "none: cannot read: No such file or directory",
        ".": ".: cannot read: not a file",
        "fifo": "fifo: cannot read: not a file",
        "long": "long: larger than 99 bytes",
    }.items():
        with pytest.raises(DataError) as caught:
            read_json(name, str, most_bytes=99)
        assert str(caught.value) == message


@given(st.binary() | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["count", "side"]), inner),
).map(lambda content: json.dumps(content).encode()))  # fmt: skip
def test_any_bytes_give_a_value_or_one_line(content):
    said = "a.json: "
    try:
        assert isinstance(parse_json(content, Known, Origin("a.json")), Known)
    except DataError as error:
        said = str(error)
    assert said.startswith("a.json: ")
    assert said.isprintable()
