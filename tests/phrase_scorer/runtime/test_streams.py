"""Files: every boundary of a block gives the same lines; output is whole or not there at all."""

from __future__ import annotations

import bz2
import gc
import gzip
import io
import lzma
import random
import sys
import threading
import time
import tracemalloc
from types import SimpleNamespace

import pytest
from xopen import xopen

from phrase_scorer.errors import LONGEST_QUOTE, DataError
from phrase_scorer.runtime.streams import (
    line_blocks,
    paused_garbage_collection,
    prefetch,
    text_blocks,
)

TEXT = "la maison\r\n\n\x00b\u2028c\x85d\x0b\x0c\x1c\nlast é".encode() + b"\xff"


def zst(content):
    """Of xopen, for its module is another one in each version of Python."""
    packed = io.BytesIO()
    with xopen(packed, "wb", format="zst", threads=0) as stream:
        stream.write(content)
    return packed.getvalue()


LINES = TEXT.split(b"\n")
TWO_MEMBERS = gzip.compress(TEXT[:9]) + gzip.compress(b"") + gzip.compress(TEXT[9:])


def lines_of(path, block_bytes=1 << 20):
    """All lines, after a check that the blocks' numbers run on."""
    lines = []
    for block in line_blocks(path, block_bytes):
        assert block.first == len(lines) + 1
        assert block.lines
        lines += block.lines
    return lines


@pytest.mark.parametrize("block_bytes", [*range(1, 12), 1000])
@pytest.mark.parametrize(
    "content",
    [TEXT, gzip.compress(TEXT), TWO_MEMBERS, bz2.compress(TEXT), lzma.compress(TEXT)],
    ids=["plain", "gz", "gz members", "bz2", "xz"],
)
@pytest.mark.parametrize("newline", [b"", b"\n"])
def test_lines(content, block_bytes, newline, tmp_path):
    path = tmp_path / "text"  # the name says nothing: magic bytes do
    if newline:
        opened = {b"la": TEXT, b"BZ": bz2.compress(TEXT + newline)}
        packed = {b"\x1f\x8b": TWO_MEMBERS + gzip.compress(newline), b"\xfd7": None, **opened}
        content = packed[content[:2]] or lzma.compress(TEXT + newline)
        content = content + newline if content == TEXT else content
    path.write_bytes(content)
    assert lines_of(path, block_bytes) == LINES
    *_, last = line_blocks(path, block_bytes)
    assert last.ended == bool(newline)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n", [b""]),
        (b"\n\n", [b"", b""]),
        (b"x", [b"x"]),
        (gzip.compress(b"", mtime=0), []),
    ],
)
@pytest.mark.parametrize("block_bytes", [1, 2, 100])
def test_small_files(content, expected, block_bytes, tmp_path):
    path = tmp_path / "text"
    path.write_bytes(content)
    assert lines_of(path, block_bytes) == expected


def test_blocks_are_about_as_large_as_asked(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"123456789\n" * 100)
    blocks = list(line_blocks(path, 50))
    assert len(blocks) == 20
    assert all(len(block.lines) == 5 for block in blocks)


def test_callbacks_see_text_and_position(tmp_path):
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(TEXT))
    chunks, positions = [], []
    list(line_blocks(path, 4, on_chunk=chunks.append, position=positions.append))
    assert b"".join(chunks) == TEXT
    assert positions == sorted(positions)
    assert positions[-1] == path.stat().st_size


COMPRESSORS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zst}


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_compressed_data_cut_or_changed_anywhere(kind, tmp_path):
    text = b"".join(b"word%d ||| mot%d ||| 0.%d 0.5\n" % (i, i, i) for i in range(20))
    whole, path = COMPRESSORS[kind](text), tmp_path / "table.gz"
    rng = random.Random(1)
    messages = []
    for place in range(8, len(whole)):  # before that, magic bytes say what it is
        changed = bytearray(whole)
        changed[place] ^= rng.randrange(1, 256)
        for content in (whole[:place], changed):
            path.write_bytes(content)
            try:
                list(line_blocks(path))
            except DataError as error:
                messages.append(str(error))
    assert len(messages) > len(whole) - 8  # those that are cut, at least
    start = f"{path}:1: compressed data is broken or cut short ("
    assert all(message.startswith(start) for message in messages)


def test_a_line_without_an_end(tmp_path):
    path = tmp_path / "bomb"
    member = gzip.compress(b"x" * (1 << 20))
    path.write_bytes(gzip.compress(b"a b\n") + member * 1024)  # 1 GiB in 1 MB
    started = time.monotonic()
    tracemalloc.start()
    with pytest.raises(DataError) as caught:
        list(line_blocks(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    shown = "x" * (LONGEST_QUOTE - 1) + "…"
    assert str(caught.value) == f'{path}:2: a line of more than 64 MiB: "{shown}"'
    assert peak < 80 << 20
    assert time.monotonic() - started < 20


def test_a_long_line_takes_linear_time(tmp_path, monkeypatch):
    path = tmp_path / "text"
    path.write_bytes(b"x" * 3_000_000 + b"\ny")
    started = time.monotonic()
    assert lines_of(path, 10) == [b"x" * 3_000_000, b"y"]
    assert time.monotonic() - started < 10  # quadratic: minutes


MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 4, 100])
@pytest.mark.parametrize("content", [b"", b"\n", b"a", b"a b\nc", MARK + b"\n"])
def test_a_byte_order_mark(content, block_bytes, tmp_path, capsys):
    path = tmp_path / "text"
    path.write_bytes(MARK + content)
    marked, bare = (MARK + content).split(b"\n"), content.split(b"\n")

    def read(mark):
        blocks = line_blocks(path, block_bytes, mark=mark)
        return [line for block in blocks for line in block.lines]

    def without_end(lines):
        return lines if lines[-1] else lines[:-1]

    assert read("strip") == without_end(bare)
    assert read("keep") == without_end(marked)
    assert capsys.readouterr().err == ""
    for _ in range(2):  # told once
        assert read("tell") == without_end(marked)
    told = f"{path} begins with a byte order mark, which is taken for a part of its text"
    assert capsys.readouterr().err == f"warning: {told}\n"


def test_text_is_without_byte_order_mark(tmp_path, capsys):
    path = tmp_path / "text"
    path.write_bytes(gzip.compress(MARK + b"caf\xc3\xa9\n"))
    assert list(text_blocks(path)) == [["café"]]
    assert capsys.readouterr().err == ""


def test_standard_input(monkeypatch):
    for content in (TEXT, gzip.compress(TEXT)):
        stream = SimpleNamespace(buffer=io.BufferedReader(io.BytesIO(content)))
        monkeypatch.setattr(sys, "stdin", stream)
        assert lines_of("-", 3) == LINES


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_data_cut_short(compress, tmp_path):
    path = tmp_path / "table.gz"
    noise = random.Random(1).randbytes(5000).hex().encode()  # one line that compresses badly
    whole, cut = compress(b"a\nb\nc\n"), compress(noise)
    path.write_bytes(whole + cut[: len(cut) // 2])
    seen: list[bytes] = []
    with pytest.raises(DataError) as caught:
        for block in line_blocks(path, 2):
            seen += block.lines
    # The line named is the first that was not delivered; what stood in a buffer is lost, too.
    assert seen == [b"a", b"b", b"c"][: len(seen)]
    start = f"{path}:{len(seen) + 1}: compressed data is broken or cut short ("
    assert str(caught.value).startswith(start)
    assert str(caught.value).endswith(")")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_data_broken(compress, tmp_path):
    path = tmp_path / "table.gz"
    content = bytearray(compress(random.Random(1).randbytes(5000).hex().encode()))
    middle = len(content) // 2
    content[middle : middle + 20] = b"\xa5" * 20
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(line_blocks(path))
    assert str(caught.value).startswith(str(path))


def test_unreadable_files(tmp_path):
    for path, why in ((tmp_path / "none", "No such file or directory"), (tmp_path, "Is a dir")):
        with pytest.raises(DataError) as caught:
            list(line_blocks(path))
        assert str(caught.value).startswith(f"{path}: cannot read: {why}")


# -- threads and memory ------------------------------------------------------------------------


def test_paused_garbage_collection():
    assert gc.isenabled()
    with pytest.raises(KeyError), paused_garbage_collection():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    try:
        with paused_garbage_collection():
            pass
        assert not gc.isenabled()  # it was off before
    finally:
        gc.enable()


def running():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.mark.parametrize("depth", [1, 2, 50])
def test_prefetch_keeps_the_order(depth):
    assert list(prefetch(iter(range(40)), depth)) == list(range(40))
    assert list(prefetch([])) == []
    assert list(prefetch([None, None])) == [None, None]
    assert not running()


def test_prefetch_raises_in_its_place():
    def items():
        yield 1
        yield 2
        raise DataError("broken", path="p", line=3)

    seen = []
    with pytest.raises(DataError) as caught:
        for item in prefetch(items()):
            seen.append(item)  # noqa: PERF402 - what was seen before the error counts
    assert seen == [1, 2]
    assert str(caught.value) == "p:3: broken"
    assert not running()


def test_prefetch_stops_with_its_consumer():
    made, closed = [], []

    def items():
        try:
            for number in range(10_000):
                made.append(number)
                yield number
        finally:
            closed.append(True)

    consumer = prefetch(items(), depth=2)
    assert next(consumer) == 0
    assert len(running()) == 1
    deadline = time.monotonic() + 10
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.05)
    assert len(made) == 4  # one taken, two waiting, one in hand
    consumer.close()
    assert not running()
    assert closed == [True]
