"""The journaled file: cut anywhere, gone on with, and equal in the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from toys import names

from phrase_scorer.errors import DataError
from phrase_scorer.runtime.journal import JournaledFile

RUN = {"model": "abc", "floor": -50.0}
BLOCKS = [b"first\n", b"", b"third block\n" * 20, b"x"]


def write(path: Path, blocks: list[bytes], *, resume: bool = False, whole: bool = True) -> int:
    """Writes those blocks that are not there; how many were."""
    with JournaledFile(path, RUN, resume=resume) as file:
        found = len(file.finished)
        for number, block in enumerate(blocks[found:], found):
            file.write(block, read=number, lines=1, counted={"number": number})
        if whole:
            file.complete()
    return found


def test_whole(tmp_path):
    write(tmp_path / "out", BLOCKS)
    assert (tmp_path / "out").read_bytes() == b"".join(BLOCKS)
    assert names(tmp_path) == ["out"]


def test_without_a_block_nothing_stays(tmp_path):
    write(tmp_path / "out", [], whole=False)
    assert names(tmp_path) == []


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path):
    (tmp_path / "out").write_bytes(b"old")
    write(tmp_path / "out", BLOCKS[:2], whole=False)
    assert (tmp_path / "out").read_bytes() == b"old"
    write(tmp_path / "out", BLOCKS, resume=True)
    assert (tmp_path / "out").read_bytes() == b"".join(BLOCKS)


def test_cut_at_every_byte(tmp_path, monkeypatch):
    """A process may be killed between any two bytes of either file, but for the journal's head."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # a matter of seconds here
    path = tmp_path / "out"
    write(path, BLOCKS[:3], whole=False)
    partial, journal = (tmp_path / "out.partial"), (tmp_path / "out.journal")
    written, noted = partial.read_bytes(), journal.read_bytes()
    head = noted.index(b"\n") + 1
    cuts = [(len(written), cut) for cut in range(head, len(noted) + 1)]
    cuts += [(cut, len(noted)) for cut in range(len(written))]
    found = set()
    for size, noted_size in cuts:
        partial.write_bytes(written[:size] + b"half a block" * (size == len(written)))
        journal.write_bytes(noted[:noted_size])
        found.add(write(path, BLOCKS, resume=True))
        assert path.read_bytes() == b"".join(BLOCKS)
        assert names(tmp_path) == ["out"]
    assert found == {0, 1, 2, 3}  # nothing that was whole was done again: see below
    partial.write_bytes(written)
    journal.write_bytes(noted)
    assert write(path, BLOCKS, resume=True) == 3


def test_killed_between_the_new_name_and_the_end(tmp_path):
    write(tmp_path / "out", BLOCKS, whole=False)
    (tmp_path / "out.partial").rename(tmp_path / "out")
    assert write(tmp_path / "out", BLOCKS, resume=True) == len(BLOCKS)
    assert (tmp_path / "out").read_bytes() == b"".join(BLOCKS)
    assert names(tmp_path) == ["out"]


def test_killed_before_anything_was_written(tmp_path):
    (tmp_path / "out.partial").touch()
    assert write(tmp_path / "out", BLOCKS) == 0
    assert names(tmp_path) == ["out"]


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names(folder)}


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(
    "there",
    [
        {"out.partial": b"of somebody"},
        {"out.journal": b"of somebody"},
        {"out.journal": b'{"run": 1}\n'},
        {"out.partial": b"of somebody", "out.journal": b""},
        {"out.partial": b"of somebody", "out.journal": b'{"run": {"model"'},
        {"out": b"older", "out.journal": b"[1]\n"},
        {"out": b"older", "out.journal": b"[" * 100_000 + b"\n"},
        {"out": b"older", "out.journal": b'{"run": {"a": 1' + b"1" * 5000 + b"}}\n"},
    ],
)
def test_a_file_of_our_name_that_is_not_ours_is_left_alone(there, resume, tmp_path):
    for name, content in there.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        write(tmp_path / "out", BLOCKS, resume=resume)
    name = "out.partial" if "out.partial" in there else "out.journal"
    assert str(caught.value) == (
        f"{tmp_path}/out: {tmp_path}/{name} is there, and not from an unfinished run: move it away"
    )
    assert contents(tmp_path) == there


@pytest.mark.parametrize(
    "line",
    [b"[" * 100_000, b"null", b"{}", b'{"read": "1", "lines": 1, "end": 6, "written": 1}', b"\xff"],
)
def test_lines_of_another_shape_are_as_if_cut_off(line, tmp_path):
    write(tmp_path / "out", BLOCKS[:3], whole=False)
    journal = tmp_path / "out.journal"
    first, second, _ = journal.read_bytes().split(b"\n", 2)
    line = b"%08x %b" % (zlib.crc32(line), line)
    journal.write_bytes(b"\n".join([first, second, line, line, b""]))
    assert write(tmp_path / "out", BLOCKS, resume=True) == 1
    assert (tmp_path / "out").read_bytes() == b"".join(BLOCKS)


@pytest.mark.parametrize("name", ["out.partial", "out.journal"])
def test_a_planted_link_is_not_followed(name, tmp_path):
    (tmp_path / "precious").write_bytes(b"")
    (tmp_path / name).symlink_to("precious")
    with pytest.raises(DataError) as caught:
        write(tmp_path / "out", BLOCKS)
    assert str(caught.value) == (
        f"{tmp_path}/out: {tmp_path}/{name} is there, and not from an unfinished run: move it away"
    )
    assert names(tmp_path) == sorted([name, "precious"])


def test_nobody_else_reads_it_before_it_has_its_name_and_mode(tmp_path):
    path, before = tmp_path / "out", os.umask(0o027)
    try:
        for mode in (0o640, 0o604):
            write(path, BLOCKS[:1], whole=False)
            assert (tmp_path / "out.partial").stat().st_mode & 0o777 == 0o600
            write(path, BLOCKS, resume=True)
            assert path.stat().st_mode & 0o777 == mode
            path.chmod(0o604)
    finally:
        os.umask(before)


def test_a_block_that_was_changed_is_done_again(tmp_path):
    write(tmp_path / "out", BLOCKS[:3], whole=False)
    content = bytearray((tmp_path / "out.partial").read_bytes())
    content[20] ^= 1
    (tmp_path / "out.partial").write_bytes(content)
    assert write(tmp_path / "out", BLOCKS, resume=True) == 2
    assert (tmp_path / "out").read_bytes() == b"".join(BLOCKS)


def test_an_unfinished_run_is_not_begun_again_unasked(tmp_path):
    path = tmp_path / "out"
    write(path, BLOCKS[:3], whole=False)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    with pytest.raises(DataError) as caught:
        write(path, BLOCKS)
    assert str(caught.value) == (
        f"{path}: an unfinished run of 3 lines is here; --resume goes on with it, or delete "
        f"{path}.partial to begin again"
    )
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before
    (tmp_path / "out.partial").unlink()
    assert write(path, BLOCKS) == 0


def test_a_run_of_another_kind_is_not_gone_on_with(tmp_path):
    path = tmp_path / "out"
    write(path, BLOCKS[:1], whole=False)
    with pytest.raises(DataError) as caught, JournaledFile(path, {**RUN, "floor": -9}, resume=True):
        pass
    assert str(caught.value) == (
        f"{path}: the unfinished run here had another floor (-50.0, now -9); "
        f"delete {path}.partial to begin again"
    )


def test_a_file_that_has_its_name_keeps_it_when_going_on_is_refused(tmp_path):
    """Killed before its journal was removed; then resumed otherwise, or broken off again."""
    path = tmp_path / "out"
    write(path, BLOCKS, whole=False)
    (tmp_path / "out.partial").rename(path)
    there = contents(tmp_path)
    with pytest.raises(DataError) as caught, JournaledFile(path, {**RUN, "floor": -9}, resume=True):
        pass
    assert str(caught.value) == (
        f"{path}: the unfinished run here had another floor (-50.0, now -9); "
        f"delete {path}.journal to begin again"
    )
    assert contents(tmp_path) == there
    with pytest.raises(KeyError) as broken, JournaledFile(path, RUN, resume=True):
        raise KeyError
    assert broken.value.__notes__ == [
        f"4 lines are done and stay in {path}; --resume goes on with them"
    ]
    assert contents(tmp_path) == there
    more = [*BLOCKS, b"what the input has more\n"]
    assert write(path, more, resume=True) == len(BLOCKS)
    assert contents(tmp_path) == {"out": b"".join(more)}


def test_another_file_of_the_same_size_is_not_gone_on_with(tmp_path):
    """The partial file was deleted, and an older result stands there, just as long."""
    path = tmp_path / "out"
    write(path, BLOCKS[:1], whole=False)
    (tmp_path / "out.partial").unlink()
    path.write_bytes(b"older\n")
    write(path, BLOCKS[:2], resume=True, whole=False)
    assert path.read_bytes() == b"older\n"
    assert (tmp_path / "out.partial").read_bytes() == b"".join(BLOCKS[:2])


def test_two_at_once(tmp_path):
    path = tmp_path / "out"
    with JournaledFile(path, RUN) as file:
        for resume in (False, True):
            with pytest.raises(DataError) as caught:
                write(path, BLOCKS, resume=resume)
            assert str(caught.value) == f"{path}: another run is writing this file"
        file.write(b"mine", 0, 1, {})
        file.complete()
    assert path.read_bytes() == b"mine"


def test_a_second_run_at_the_very_end_of_the_first_takes_nothing_away(tmp_path, monkeypatch):
    """It starts when the file has its name, and the journal is about to be removed."""
    path, refused = tmp_path / "out", []

    def unlink(place: str) -> None:
        with pytest.raises(DataError) as caught:
            write(path, BLOCKS, resume=True)
        refused.append(str(caught.value))
        remove(place)

    remove = os.unlink
    with monkeypatch.context() as patch:
        patch.setattr("phrase_scorer.runtime.journal.os.unlink", unlink)
        write(path, BLOCKS)
    assert refused == [f"{path}: another run is writing this file"]
    assert path.read_bytes() == b"".join(BLOCKS)
    assert names(tmp_path) == ["out"]


def test_two_processes_at_the_very_end_of_the_first(tmp_path):
    """The first stands still when the file has its name, the journal not yet removed."""
    code = """
import os
from phrase_scorer.runtime.journal import JournaledFile

def replace(old, new):
    rename(old, new)
    if new == "out":
        print("named", flush=True)
        input()

rename, os.replace = os.replace, replace
with JournaledFile("out", {"floor": -50.0, "model": "abc"}) as file:
    file.write(b"all", 0, 1, {})
    file.complete()
"""
    path = tmp_path / "out"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdin=-1, stdout=-1) as first:
        assert first.stdout.readline() == b"named\n"
        with pytest.raises(DataError) as caught:
            write(path, BLOCKS, resume=True)
        assert str(caught.value) == f"{path}: another run is writing this file"
        assert names(tmp_path) == ["out", "out.journal"]
        # One that begins anew may: what it notes is not the first one's to remove.
        write(path, BLOCKS[:2], whole=False)
        first.communicate(b"\n")
    assert first.returncode == 0
    assert names(tmp_path) == ["out", "out.journal", "out.partial"]
    assert path.read_bytes() == b"all"
    assert write(path, BLOCKS, resume=True) == 2


def test_of_a_link_the_file_that_it_leads_to_is_written(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "out").symlink_to("there/real")
    write(tmp_path / "out", BLOCKS[:2], whole=False)
    assert names(tmp_path / "there") == ["real.journal", "real.partial"]
    assert write(tmp_path / "out", BLOCKS, resume=True) == 2
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "there" / "real").read_bytes() == b"".join(BLOCKS)
    assert names(tmp_path / "there") == ["real"]


def test_the_journal_says_what_was_counted(tmp_path):
    write(tmp_path / "out", BLOCKS[:2], whole=False)
    lines = (tmp_path / "out.journal").read_bytes().splitlines()
    run, *blocks = (json.loads(line.partition(b" ")[2]) for line in lines)
    assert run == {"run": RUN}
    assert [block["counted"] for block in blocks] == [{"number": 0}, {"number": 1}]


def test_no_such_folder(tmp_path):
    with pytest.raises(DataError) as caught:
        write(tmp_path / "no" / "out", BLOCKS)
    assert str(caught.value) == f"{tmp_path}/no/out: cannot write: No such file or directory"


def test_a_line_that_was_changed_is_not_believed(tmp_path):
    """What it counted would else be told of the whole; and a number may stand for any other."""
    path, journal = tmp_path / "out", tmp_path / "out.journal"
    write(path, BLOCKS[:3], whole=False)
    content = journal.read_bytes()
    changed = content.replace(b'"number": 1', b'"number": 7')
    assert changed != content
    for broken in (changed, content.replace(b'{"number": 1}', b"[" * 100_000)):
        journal.write_bytes(broken)
        with JournaledFile(path, RUN, resume=True) as file:
            assert [block.counted for block in file.finished] == [{"number": 0}]
        journal.write_bytes(content)
