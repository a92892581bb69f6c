"""The journaled file: cut anywhere, gone on with, and equal in the end."""

from __future__ import annotations

import json
import os
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


def test_cut_at_every_byte(tmp_path):
    """A process may be killed between any two bytes of either file."""
    path = tmp_path / "out"
    write(path, BLOCKS[:3], whole=False)
    partial, journal = (tmp_path / "out.partial"), (tmp_path / "out.journal")
    written, noted = partial.read_bytes(), journal.read_bytes()
    cuts = [(len(written), cut) for cut in range(len(noted) + 1)]
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
    run, *blocks = map(json.loads, (tmp_path / "out.journal").read_bytes().splitlines())
    assert run == {"run": RUN}
    assert [block["counted"] for block in blocks] == [{"number": 0}, {"number": 1}]


def test_no_such_folder(tmp_path):
    with pytest.raises(DataError) as caught:
        write(tmp_path / "no" / "out", BLOCKS)
    assert str(caught.value) == f"{tmp_path}/no/out: cannot write: No such file or directory"
