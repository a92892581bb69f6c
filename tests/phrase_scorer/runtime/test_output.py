"""The place to write: whole or not at all, and what is refused before anything is written."""

from __future__ import annotations

import gc
import gzip
import os
import stat
import threading

import pytest

from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.runtime.output import (
    OutputFile,
    check_option,
    is_same_file,
    make_new_folder,
    write_file,
)


@pytest.mark.parametrize("name", ["out.txt", "out.gz"])
@pytest.mark.parametrize("blocks", [[], [b""], [b"one\n", b"two\n", b"three"]])
def test_output(name, blocks, tmp_path):
    contents = []
    for folder in ("a", "b"):
        path = tmp_path / folder / name
        path.parent.mkdir()
        with OutputFile(path) as out:
            for block in blocks:
                out.write(block)
            assert [file.name for file in path.parent.iterdir()] == [f"{name}.partial"]
        assert [file.name for file in path.parent.iterdir()] == [name]
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]
    text = gzip.decompress(contents[0]) if name.endswith("gz") else contents[0]
    assert text == b"".join(blocks)
    if name.endswith("gz"):  # an empty one is valid too; bytes 4 to 8 would tell the time
        assert contents[0][:2] == b"\x1f\x8b"
        assert contents[0][4:8] == bytes(4)


def test_an_output_that_failed_leaves_nothing(tmp_path):
    path = tmp_path / "out.gz"
    path.write_bytes(b"what was there")
    with pytest.raises(KeyError), OutputFile(path) as out:
        out.write(b"half")
        raise KeyError
    assert [file.name for file in tmp_path.iterdir()] == ["out.gz"]
    assert path.read_bytes() == b"what was there"


@pytest.mark.parametrize("size", [10, 1 << 20])  # within the buffer, and beyond it
def test_disk_full(size, tmp_path):
    """/dev/full behind the temporary name: every write that reaches it fails."""
    path = tmp_path / "out.txt"
    (tmp_path / "out.txt.partial").symlink_to("/dev/full")
    with pytest.raises(DataError) as caught, OutputFile(path) as out:
        out.write(b"x" * size)
    assert str(caught.value) == f"{path}: cannot write: No space left on device"
    assert list(tmp_path.iterdir()) == []
    gc.collect()  # a stream left open would warn here


def test_an_output_that_cannot_be_opened(tmp_path):
    path = tmp_path / "none" / "out"
    with pytest.raises(DataError) as caught, OutputFile(path):
        pass
    assert str(caught.value) == f"{path}: cannot write: No such file or directory"


def test_standard_output(capfdbinary):
    with OutputFile("-") as out:
        out.write(b"a\xff\n")
    assert capfdbinary.readouterr().out == b"a\xff\n"


def test_write_atomically(tmp_path):
    path = tmp_path / "f"
    for content in (b"one", b"two"):
        write_file(path, content)
        assert path.read_bytes() == content
    (tmp_path / "f.partial").symlink_to("/dev/full")
    with pytest.raises(DataError) as caught:
        write_file(path, b"three")
    assert str(caught.value) == f"{path}: cannot write: No space left on device"
    assert path.read_bytes() == b"two"
    assert [file.name for file in tmp_path.iterdir()] == ["f"]


def test_is_same_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    (tmp_path / "link").symlink_to("a")
    assert is_same_file("a", tmp_path / "a")
    assert is_same_file("link", "a")
    assert not is_same_file("a", "b")
    assert is_same_file("./new", tmp_path / "new")
    assert not is_same_file("a", "new")


def test_what_cannot_be_written_is_told_before_anything_is(tmp_path):
    for path, why in (
        (tmp_path, "Is a directory"),
        (tmp_path / "none" / "out", "No such file or directory"),
    ):
        with pytest.raises(DataError) as caught:
            OutputFile(path)
        assert str(caught.value) == f"{path}: cannot write: {why}"
    assert list(tmp_path.iterdir()) == []


def test_an_input_is_never_the_output_by_whatever_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table").write_bytes(b"precious")
    os.link("table", "hard")
    os.symlink("table", "soft")
    for name in ("table", "./table", "hard", "soft"):
        with pytest.raises(DataError) as caught:
            OutputFile(name, inputs=["other", "table"])
        assert str(caught.value) == f"{name}: the output would overwrite the input"
    assert (tmp_path / "table").read_bytes() == b"precious"
    OutputFile("new", inputs=["table", "-"])
    OutputFile("-", inputs=["-"])


def test_a_fifo_is_written_into_and_stays_one(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    read = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()), daemon=True)
    reader.start()
    with OutputFile(fifo) as out:
        out.write(b"one ")
        out.write(b"two")
    reader.join(10)
    assert read == [b"one two"]
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert list(tmp_path.iterdir()) == [fifo]


def test_a_symbolic_link_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to("real/target")
    with OutputFile(link) as out:
        out.write(b"new")
        assert target.read_bytes() == b"old"
    assert os.readlink(link) == "real/target"
    assert target.read_bytes() == b"new"
    assert {path.name for path in tmp_path.rglob("*")} == {"link", "real", "target"}


def test_a_link_to_nothing_makes_what_it_leads_to(tmp_path):
    (tmp_path / "link").symlink_to("new")
    write_file(tmp_path / "link", b"made")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "new").read_bytes() == b"made"


def test_the_file_of_an_option_is_checked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").touch()
    os.link("a", "b")
    check_option("--plot", "new", {"INPUT": "a", "OUTPUT": None})
    for path, message in (
        ("b", "--plot would overwrite INPUT: b"),
        (".", "--plot . is a folder"),
        ("none/x", "--plot: there is no folder none"),
    ):
        with pytest.raises(UsageError) as caught:
            check_option("--plot", path, {"INPUT": "a", "OUTPUT": None})
        assert str(caught.value) == message


def test_a_new_folder_is_new_or_empty(tmp_path):
    folder = tmp_path / "new"
    assert make_new_folder(folder, "--output-dir") == folder
    assert make_new_folder(folder, "--output-dir") == folder
    (folder / "x").touch()
    for path, message in (
        (folder, f"--output-dir {folder} is not empty; choose a new folder"),
        (tmp_path / "no" / "new", f"--output-dir {tmp_path}/no/new: No such file or directory"),
    ):
        with pytest.raises(UsageError) as caught:
            make_new_folder(path, "--output-dir")
        assert str(caught.value) == message
