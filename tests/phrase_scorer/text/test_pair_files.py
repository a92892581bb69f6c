"""Lines of pairs, and two files side by side: as they are, or refused by line."""

from __future__ import annotations

import gzip
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.runtime.streams import Lines, line_blocks
from phrase_scorer.text.pair_files import PairFiles, pairs_of_lines, read_pairs


def pairs_in(*paths, **how) -> list[tuple[bytes, bytes]]:
    blocks = list(read_pairs(PairFiles(tuple(map(str, paths)), **how)))
    return [
        (b" ".join(source), b" ".join(target))
        for block in blocks
        for source, target in zip(block.sources, block.targets, strict=True)
    ]


def test_read_tab_separated(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_bytes(b" la  maison \tthe house\nla\t\n\xff \ta\nx\ty")
    blocks = list(read_pairs(PairFiles((str(path),))))
    sources = [source for block in blocks for source in block.sources]
    targets = [target for block in blocks for target in block.targets]
    assert sources == [[b"la", b"maison"], [b"la"], [b"\xff"], [b"x"]]
    assert targets == [[b"the", b"house"], [], [b"a"], [b"y"]]
    assert all(block.counts is None for block in blocks)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"no tab", '3: expected source, a tab, target: "no tab"'),
        (b"", '3: expected source, a tab, target: ""'),
        (b" \tx", '3: empty source: " \\tx"'),
        (b"\t", '3: empty source: "\\t"'),
        (b"a\tb\t", '3: 3 columns, expected source, a tab, target: "a\\tb\\t"'),
        (b"a\tb\t0.5\t", '3: 4 columns, expected source, a tab, target: "a\\tb\\t0.5\\t"'),
    ],
)
def test_wrong_lines(line, message, tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_bytes(b"a\tb\nc\td\n" + line + b"\ne\tf\n")
    with pytest.raises(DataError) as caught:
        list(read_pairs(PairFiles((str(path),))))
    assert str(caught.value) == f"{path}:{message}"


def test_another_separator():
    block = pairs_of_lines(Lines(1, [b"a b ## c"]), b"##", "p")
    assert (block.sources, block.targets) == ([[b"a", b"b"]], [[b"c"]])
    with pytest.raises(DataError) as caught:
        pairs_of_lines(Lines(9, [b"a ## c", b"a b"]), b"##", "p")
    assert str(caught.value) == 'p:10: expected source, "##", target: "a b"'


@pytest.mark.parametrize("other", [b"\r", b"\v", b"\f", b"\x1c", b"\x85", b"\xc2\xa0"])
def test_words_of_pairs_break_at_blank_and_tab_alone(other):
    block = pairs_of_lines(Lines(1, [b"a" + other + b"b\t" + other + b" c\r"]), b"\t", "p")
    assert (block.sources, block.targets) == ([[b"a" + other + b"b"]], [[other, b"c"]])


def test_kept_lines_are_told_by_their_places():
    """An empty source is a pair, then; what is none has no words."""
    lines = Lines(5, [b"a\tb", b" \tc", b"no tab", b"d\t", b"e\tf\tg\r"])
    block = pairs_of_lines(lines, b"\t", "p", "keep")
    assert block.sources == [[b"a"], [], [], [b"d"], []]
    assert block.targets == [[b"b"], [b"c"], [], [], []]
    assert block.bad == {2: b"no tab", 4: b"e\tf\tg\r"}


# -- two files -------------------------------------------------------------------------------------


def test_line_n_belongs_to_line_n(tmp_path, monkeypatch):
    """Compressed or not, wherever their blocks end, with a carriage return or without."""
    sources = [b"s%d  x" % number * (number % 7 + 1) for number in range(500)]
    targets = [b"" if number % 9 == 0 else b"\tt%d " % number for number in range(500)]
    (tmp_path / "s").write_bytes(b"\r\n".join(sources))
    (tmp_path / "t").write_bytes(gzip.compress(b"\n".join(targets) + b"\n"))
    monkeypatch.setattr(line_blocks, "__defaults__", (64,))
    expected = [
        (b" ".join(s.split()), b" ".join(t.split())) for s, t in zip(sources, targets, strict=True)
    ]
    assert pairs_in(tmp_path / "s", tmp_path / "t") == expected


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (b"a\nb\nc\n", b"x\ny\n", 's:3: t has only 2 lines: as many are needed: "c"'),
        (b"a\n", b"x\ny", 't:2: s has only 1 lines: as many are needed: "y"'),
        (b"", b"x\n", 't:1: s has only 0 lines: as many are needed: "x"'),
        (b"a\n \n", b"x\ny\n", "s:2: empty source"),
    ],
)  # fmt: skip
def test_files_that_are_not_side_by_side(source, target, message, folder):
    (folder / "s").write_bytes(source)
    (folder / "t").write_bytes(target)
    with pytest.raises(DataError) as caught:
        pairs_in("s", "t")
    assert str(caught.value) == message


def test_an_empty_source_is_kept_where_that_is_wanted(folder):
    (folder / "s").write_bytes(b"a\n\nb\n")
    (folder / "t").write_bytes(b"x\ny\n\n")
    assert pairs_in("s", "t", on_bad_line="keep") == [(b"a", b"x"), (b"", b"y"), (b"b", b"")]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (("a", "b", "c"), "3 files: give one of pairs, or sources and targets"),
        (("-", "-"), "standard input is one file: give another for the targets"),
    ],
)
def test_files_that_cannot_be(paths, message):
    with pytest.raises(UsageError) as caught:
        PairFiles(paths)
    assert str(caught.value) == message


# -- a pipe that waits -----------------------------------------------------------------------------


@contextmanager
def waiting_pipe(first: bytes, rest: bytes) -> Iterator[threading.Event]:
    """A FIFO called fifo that gets its rest only when the event says that the first was read."""
    os.mkfifo("fifo")
    seen = threading.Event()

    def write() -> None:
        with open("fifo", "wb") as pipe:
            pipe.write(first)
            pipe.flush()
            assert seen.wait(10)
            pipe.write(rest)

    writer = threading.Thread(target=write)
    writer.start()
    yield seen
    writer.join()


def test_what_a_pipe_has_is_given_at_once(folder):
    """The second line is written only when the first was read."""
    with waiting_pipe(b"a\tb\nc", b"\td\n" + b"e\tf\n" * 100_000) as seen:
        blocks = read_pairs(PairFiles(("fifo",), at_once=True))
        assert next(blocks).sources == [[b"a"]]
        seen.set()
        rest = list(blocks)
    sources = [source for block in rest for source in block.sources]
    assert sources == [[b"c"], *[[b"e"]] * 100_000]


@pytest.mark.parametrize("side", [0, 1])
def test_either_of_two_files_may_be_a_pipe_that_waits(side, folder):
    (folder / "text").write_bytes(b"a\nb\n")
    with waiting_pipe(b"x\n", b"y\n") as seen:
        paths = ("fifo", "text") if side == 0 else ("text", "fifo")
        blocks = read_pairs(PairFiles(paths, at_once=True))
        first = next(blocks)
        seen.set()
        rest = list(blocks)
    assert (first.sources, first.targets)[side] == [[b"x"]]
    assert [(block.sources, block.targets)[side] for block in rest] == [[[b"y"]]]
