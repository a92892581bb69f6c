"""`strip` gives back what was rescored, byte for byte."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import DATA, TOY_INI, TOY_TABLE, names

from moses_integration.formats.phrase_table import PhraseTable
from moses_integration.formats.signature import SignedColumn, write_signature
from phrase_scorer.runtime.streams import Lines

LINES = [
    b"a ||| x ||| 0.5 0.25 ||| 0-0 ||| 1 1 1",
    b"a ||| y |||  0.5\t1  ||| ||| 2 ||| |||",
    b"b ||| ||| 1e-3 0 |||",
    b"c|||z|||1 1",
    b"d ||| x ||| 1 1\r",
    b"bad",
    b"e ||| x ||| 0.5 ||| 0-0",
    b"e ||| x ||| 0.5 nan 3",
    b"e ||| x ||| ||| 0-0",
    b"",
]


@given(
    st.lists(st.sampled_from(LINES), min_size=1).map(lambda lines: [LINES[0], *lines]),
    st.integers(1, 3),
    st.booleans(),
)
def test_stripping_undoes_adding(lines, columns, ended):
    table = PhraseTable("t", on_bad_line="keep")
    added = [[b"0.1234567"] * len(lines)] * columns
    text = table.parse(Lines(1, lines, ended)).with_scores(added)
    again = PhraseTable("t", on_bad_line="keep")
    found = again.parse(Lines(1, (text[:-1] if ended else text).split(b"\n"), ended))
    assert again.scores == 2 + columns
    places = range(2, 2 + columns)
    assert found.without_scores(places, 2 + columns) == b"\n".join(lines) + b"\n" * ended


def test_a_rescored_table(run, folder, model_path):
    (folder / "t").write_bytes(TOY_TABLE)
    (folder / "ini").write_text(TOY_INI.format("t"))
    arguments = ["--moses-ini", "ini", "--moses-ini-out", "new.ini", "--quiet", "--unknown-words"]
    assert run("rescore", "t", "new", "--model", model_path, *arguments).code == 0
    back = ["--moses-ini", "new.ini", "--moses-ini-out", "old.ini", "--quiet"]
    done = run("strip", "new", "old.gz", *back)
    assert (done.code, done.err.splitlines()) == (
        0, ["2 scores taken off 4 entries", "old.ini names the new files; tune it"],
    )  # fmt: skip
    assert gzip.decompress((folder / "old.gz").read_bytes()) == TOY_TABLE
    assert (folder / "old.ini").read_text() == TOY_INI.format("old.gz")
    assert not (folder / "old.gz.signature.json").exists()
    assert run("rescore", "t", "old.gz", "--model", model_path, "--quiet").code == 0
    assert run("strip", "new", "old.gz", "--quiet").code == 0
    assert names(folder) == [
        "ini",
        "new",
        "new.ini",
        "new.signature.json",
        "old.gz",
        "old.ini",
        "t",
    ]
    assert run("strip", "new", "-", "--quiet").out.encode() == TOY_TABLE


def test_scores_that_another_program_added_stay(run, folder):
    (folder / "t").write_bytes(b"a ||| x ||| 0.5 0.7 0.25 ||| 0-0\nb ||| x ||| 1 2 3\n")
    (folder / "ini").write_text(
        TOY_INI.format("t tuneable-components=1,0,1")
        .replace("num-features=2", "num-features=3")
        .replace("0.2 0.3", "0.2 0.3 0.4")
    )
    write_signature("t", [SignedColumn(1, "one", "1", -50)], {})
    ini = ["--moses-ini", "ini", "--moses-ini-out", "new.ini"]
    assert run("strip", "t", "n", *ini, "--quiet").code == 0
    assert (folder / "n").read_bytes() == b"a ||| x ||| 0.5 0.25 ||| 0-0\nb ||| x ||| 1 3\n"
    expected = TOY_INI.format("n tuneable-components=1,1").replace("0.2 0.3", "0.2 0.4")
    assert (folder / "new.ini").read_text() == expected


@pytest.mark.parametrize(
    ("table", "line"),
    [(b"a ||| x ||| 0.5 1\nb ||| x ||| 1\n", 2), (b"a ||| x ||| 0.5\n", 1)],
)
def test_a_line_without_the_column(run, folder, table, line):
    (folder / "t").write_bytes(table)
    write_signature("t", [SignedColumn(1, "one", "1", -50)], {})
    done = run("strip", "t", "n", "--quiet")
    message = "has not all the columns that the signature names"
    assert (done.code, done.error) == (1, f"t:{line}: {message}")
    assert names(folder) == ["t", "t.signature.json"]


def test_a_table_without_a_signature(run, folder):
    (folder / "t").write_bytes(TOY_TABLE)
    for place in ("t", "-"):
        done = run("strip", place, "n", "--quiet")
        message = "has no signature beside it, so that which scores are of rescore is not known"
        assert (done.code, done.error) == (1, f"{place}: {message}")
    assert names(folder) == ["t"]
    write_signature("t", [SignedColumn(1, "one", "1", -50)], {})
    done = run("strip", "t", "t", "--quiet")
    assert (done.code, done.error) == (1, "t: the output would overwrite the input")


def test_the_table_of_the_project(run, folder, model_path):
    table = DATA / "model" / "phrase-table.gz"
    assert run("rescore", table, "new.gz", "--model", model_path, "--quiet").code == 0
    assert run("strip", "new.gz", "old.gz", "--quiet").code == 0
    old = gzip.decompress((folder / "old.gz").read_bytes())
    assert old == gzip.decompress(table.read_bytes())
