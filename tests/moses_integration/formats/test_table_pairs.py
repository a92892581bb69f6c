"""Phrase tables and lists of pairs, as commands over pairs read them."""

from __future__ import annotations

import pytest

from moses_integration.formats.table_pairs import read_table_or_pairs
from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.text.pair_files import PairFiles


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (b"a\nb ||| c ||| 1\n", b"x\ny\n",
         's:2: a line of a phrase table: of two files, each line is one phrase '
         '(train takes a second table as --also): "b ||| c ||| 1"'),
        (b"a\n", b"x ||| y\n",
         't:1: a line of a phrase table: of two files, each line is one phrase '
         '(train takes a second table as --also): "x ||| y"'),
    ],
)  # fmt: skip
def test_a_table_is_none_of_two_files(source, target, message, folder):
    (folder / "s").write_bytes(source)
    (folder / "t").write_bytes(target)
    with pytest.raises(DataError) as caught:
        list(read_table_or_pairs(PairFiles(("s", "t"))))
    assert str(caught.value) == message


@pytest.mark.parametrize("line", ['"the house","la maison"', '{"source": "a"}', "a b", ""])
def test_what_is_read_is_told_where_it_is_something_else(line, folder):
    (folder / "p").write_text(f"{line}\na\tb\n")
    with pytest.raises(DataError) as caught:
        list(read_table_or_pairs(PairFiles(("p",))))
    assert str(caught.value) == (
        "p:1: neither source, a tab, target, nor source ||| target, nor an entry of a phrase table "
        f'(two files of lines are read, too): "{line}"'
    )


def test_bars_within_a_word_are_text(folder):
    (folder / "s").write_bytes(b"a|||b\n")
    (folder / "t").write_bytes(b"x\n")
    (block,) = read_table_or_pairs(PairFiles(("s", "t")))
    assert (block.sources, block.targets) == ([[b"a|||b"]], [[b"x"]])


def test_bad_entries_of_a_table_keep_their_places(folder):
    lines = [b"a ||| x ||| 1 1", b"b ||| y ||| 1", b" ||| z ||| 1 1", b"c ||| w ||| 1 0.5"]
    (folder / "t").write_bytes(b"\n".join(lines))
    (block,) = read_table_or_pairs(PairFiles(("t",), on_bad_line="keep"))
    assert block.sources == [[b"a"], [], [], [b"c"]]
    assert block.targets == [[b"x"], [], [], [b"w"]]
    assert block.bad == {1: lines[1], 2: lines[2]}


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        (b"\nno pair\na ||| b\n", [[], [], [b"a"]]),
        (b"\na ||| b ||| 1\n", [[], [b"a"]]),
        (b"x\na\tb\n", [[], [b"a"]]),
        (b"x\ny\n", [[], []]),
    ],
)
def test_where_bad_lines_are_kept_the_first_good_one_decides(text, sources, folder):
    (folder / "p").write_bytes(text)
    (block,) = read_table_or_pairs(PairFiles(("p",), on_bad_line="keep"))
    assert block.sources == sources
    assert len(block.bad) == sources.count([])


def test_a_tab_and_bars(folder):
    (folder / "p").write_bytes(b"a b|||c\tl homme\n")
    with pytest.raises(DataError) as caught:
        list(read_table_or_pairs(PairFiles(("p",))))
    assert str(caught.value) == (
        'p:1: both a tab and "|||": which of them is between source and target?: '
        '"a b|||c\\tl homme"'
    )


def test_what_only_a_table_has(folder):
    (folder / "p").write_bytes(b"a\tb\n")
    with pytest.raises(UsageError, match="--any-table needs a phrase table"):
        list(read_table_or_pairs(PairFiles(("p",), any_table=True)))


def test_bars_of_a_text_are_kept_where_bad_lines_are(folder):
    (folder / "s").write_bytes(b"a\na ||| b\n")
    (folder / "t").write_bytes(b"x\ny\n")
    (block,) = read_table_or_pairs(PairFiles(("s", "t"), on_bad_line="keep"))
    assert block.sources == [[b"a"], [b"a", b"|||", b"b"]]
