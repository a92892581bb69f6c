"""The place to write: whole or not at all, and what is refused before anything is written."""

from __future__ import annotations

import gc
import gzip
import os
import re
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from toys import names

from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.runtime.output import (
    OutputFile,
    check_option,
    is_same_file,
    locked_folder,
    make_new_folder,
    write_file,
)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Makes a write beyond so many bytes fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def assert_temporary(folder: Path, name: str) -> None:
    """The only file in a folder is a temporary one for this name, and says whose it is."""
    [found] = folder.iterdir()
    pattern = rf"{re.escape(name)}\.phrase-scorer-{os.getpid()}-\w{{8}}\.partial"
    assert re.fullmatch(pattern, found.name)
    assert mode_of(found) == 0o600


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


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
            assert_temporary(path.parent, name)
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
def test_a_write_that_fails(size, tmp_path):
    path = tmp_path / "out.txt"
    with files_of_at_most(5), pytest.raises(DataError) as caught, OutputFile(path) as out:
        out.write(b"x" * size)
    assert str(caught.value) == f"{path}: cannot write: File too large"
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
    with files_of_at_most(3), pytest.raises(DataError) as caught:
        write_file(path, b"three")
    assert str(caught.value) == f"{path}: cannot write: File too large"
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


def test_another_file_of_the_temporary_name_is_not_touched(tmp_path):
    """Every output was once written as OUT.partial, whatever had that name."""
    (tmp_path / "precious").write_bytes(b"precious")
    for name in ("a", "b"):
        write_file(tmp_path / name, b"old")
    (tmp_path / "a.partial").write_bytes(b"mine")
    (tmp_path / "b.partial").symlink_to("precious")
    for name in ("a", "b"):
        write_file(tmp_path / name, b"new")
        assert (tmp_path / name).read_bytes() == b"new"
    assert (tmp_path / "a.partial").read_bytes() == b"mine"
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert names(tmp_path) == ["a", "a.partial", "b", "b.partial", "precious"]


def test_of_two_writers_each_leaves_a_whole_file(tmp_path):
    path = tmp_path / "out"
    with OutputFile(path) as first:
        first.write(b"1" * 100_000)
        with OutputFile(path) as second:
            second.write(b"2" * 1_000)
        assert path.read_bytes() == b"2" * 1_000
        first.write(b"1" * 100_000)
    assert path.read_bytes() == b"1" * 200_000
    assert names(tmp_path) == ["out"]


def test_what_killed_processes_left_does_not_gather(tmp_path):
    for _ in range(2):
        code = "import os, signal; from phrase_scorer.runtime.output import OutputFile\n"
        code += "OutputFile('out').__enter__(); os.kill(os.getpid(), signal.SIGKILL)"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=False)
        [left] = tmp_path.iterdir()
        assert re.fullmatch(r"out\.phrase-scorer-\d+-\w{8}\.partial", left.name)
    kept = {left.name.replace("out", "other"), f"{left.name}.gz", "out.partial"}
    for name in kept:
        (tmp_path / name).touch()
    (tmp_path / "out.phrase-scorer-1-abcdefgh.partial").symlink_to("out.partial")
    with OutputFile(tmp_path / "out", inputs=[left]):  # an input is never taken for one
        assert left.exists()
    with OutputFile(tmp_path / "out") as first:
        first.write(b"1")
        write_file(tmp_path / "out", b"2")
    assert (tmp_path / "out").read_bytes() == b"1"
    assert set(names(tmp_path)) == kept | {"out", "out.phrase-scorer-1-abcdefgh.partial"}


def test_two_processes_that_write_one_file(tmp_path):
    code = """
import sys
from phrase_scorer.runtime.output import OutputFile
for _ in range(40):
    with OutputFile("out") as out:
        for _ in range(20):
            out.write(sys.argv[1].encode() * 5_000)
    content = open("out", "rb").read()
    assert content in (b"1" * 100_000, b"2" * 100_000), len(content)
"""
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    writers = [
        subprocess.Popen([*command, number], cwd=tmp_path, env=environment) for number in "12"
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert names(tmp_path) == ["out"]


def test_the_mode_of_a_result(tmp_path):
    before = os.umask(0o027)
    try:
        for name, mode in (("new", None), ("private", 0o600), ("shared", 0o664), ("run", 0o755)):
            path = tmp_path / name
            if mode is not None:
                path.touch()
                path.chmod(mode)
            write_file(path, b"content")
            assert mode_of(path) == (0o640 if mode is None else mode), name
        assert os.umask(0o027) == 0o027  # reading it has not changed it
    finally:
        os.umask(before)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_the_owner_of_a_result(tmp_path):
    path = tmp_path / "theirs"
    path.touch()
    os.chown(path, 1234, 2345)
    path.chmod(0o640)
    write_file(path, b"content")
    status = path.stat()
    assert (status.st_uid, status.st_gid, mode_of(path)) == (1234, 2345, 0o640)


def test_a_result_and_its_name_are_on_disk(tmp_path, monkeypatch):
    calls = []

    def note(function):
        def noted(first, *others):
            name = os.readlink(f"/proc/self/fd/{first}") if isinstance(first, int) else first
            calls.append((function.__name__, re.sub(r"phrase-scorer.*", "…", os.fspath(name))))
            return function(first, *others)

        return noted

    for function in (os.fsync, os.replace):
        monkeypatch.setattr(os, function.__name__, note(function))
    write_file(tmp_path / "out", b"content")
    temporary = f"{tmp_path}/out.…"
    assert calls == [("fsync", temporary), ("replace", temporary), ("fsync", str(tmp_path))]


def test_a_name_of_the_greatest_length(tmp_path):
    for name in ("n" * 255, "é" * 127):
        write_file(tmp_path / name, b"content")
        assert (tmp_path / name).read_bytes() == b"content"
    with pytest.raises(DataError) as caught:
        OutputFile(tmp_path / ("n" * 256))
    assert str(caught.value).endswith("nnn: cannot write: File name too long")


def test_more_places_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.symlink("loop", "loop")
    Path("file").touch()
    for path, why in (
        ("", "Is a directory"),
        ("new/", "Is a directory"),
        ("file/", "Not a directory"),
        ("loop", "Too many levels of symbolic links"),
    ):
        with pytest.raises(DataError) as caught:
            OutputFile(path)
        assert str(caught.value) == f"{path}: cannot write: {why}"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become somebody else")
def test_a_folder_that_may_not_be_written_to_is_told_before_anything_is(tmp_path):
    code = """
import os, sys
from phrase_scorer.runtime.output import OutputFile
os.setuid(1234)
OutputFile("closed/out")
"""
    (tmp_path / "closed").mkdir()
    tmp_path.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    ran = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.stderr.splitlines()[-1].endswith("closed/out: cannot write: Permission denied")


def test_a_file_beside_the_output_may_not_be_an_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("out.journal").touch()
    os.link("out.journal", "table")
    beside = (".partial", ".journal")
    for given in ("table", "out.journal"):
        with pytest.raises(DataError) as caught:
            OutputFile("out", inputs=[None, given], beside=beside)
        message = "out: out.journal, written beside it, would overwrite an input"
        assert str(caught.value) == message
    OutputFile("out", inputs=["table"], beside=(".partial",))


def test_a_file_on_standard_input_is_never_the_output(tmp_path):
    code = "from phrase_scorer.runtime.output import OutputFile; OutputFile('table', inputs=['-'])"
    (tmp_path / "table").write_bytes(b"precious")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with open(tmp_path / "table", "rb") as stdin:
        ran = subprocess.run(
            [sys.executable, "-c", code],
            stdin=stdin, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert ran.stderr.splitlines()[-1].endswith("table: the output would overwrite the input")


@pytest.mark.parametrize("place", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_what_a_shell_has_opened_is_written_into(place, tmp_path):
    (tmp_path / "log").write_bytes(b"before\n")
    (tmp_path / "link").symlink_to(place)
    code = "import sys; from phrase_scorer.runtime.output import write_file; "
    code += "write_file(sys.argv[1], b'written\\n')"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    inode = (tmp_path / "log").stat().st_ino
    for name in (place, "link"):
        with open(tmp_path / "log", "ab") as stdout:
            command = [sys.executable, "-c", code, name]
            subprocess.run(command, stdout=stdout, cwd=tmp_path, env=environment, check=True)
        piped = subprocess.run(command, stdout=-1, cwd=tmp_path, env=environment, check=True)
        assert piped.stdout == b"written\n"
    assert (tmp_path / "log").read_bytes() == b"before\nwritten\nwritten\n"
    assert (tmp_path / "log").stat().st_ino == inode


def test_a_compressed_fifo_is_valid_even_if_nothing_is_written(tmp_path):
    os.mkfifo(tmp_path / "fifo.gz")
    read = []
    reader = threading.Thread(
        target=lambda: read.append((tmp_path / "fifo.gz").read_bytes()), daemon=True
    )
    reader.start()
    with OutputFile(tmp_path / "fifo.gz"):
        pass
    reader.join(10)
    assert gzip.decompress(read[0]) == b""


def test_a_folder_is_locked_while_its_owner_lives(tmp_path):
    with locked_folder(tmp_path, "training"):
        with pytest.raises(UsageError) as caught, locked_folder(tmp_path, "training"):
            pass
        assert str(caught.value) == f"another process is training in {tmp_path}"
    with locked_folder(tmp_path, "training"):
        pass


def test_a_lock_dies_with_its_process(tmp_path):
    code = """
import time
from phrase_scorer.runtime.output import locked_folder
with locked_folder(".", "training"):
    print("locked", flush=True)
    time.sleep(60)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=-1) as owner:
        assert owner.stdout.readline() == b"locked\n"
        with pytest.raises(UsageError), locked_folder(tmp_path, "training"):
            pass
        owner.kill()
    with locked_folder(tmp_path, "training"):
        pass


def test_a_lock_follows_no_link(tmp_path):
    (tmp_path / ".lock").symlink_to("elsewhere")
    with pytest.raises(DataError) as caught, locked_folder(tmp_path, "training"):
        pass
    why = "cannot write: Too many levels of symbolic links"
    assert str(caught.value) == f"{tmp_path}: {why}"
    assert names(tmp_path) == [".lock"]
