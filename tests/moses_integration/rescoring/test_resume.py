"""A rescoring that is killed, starved or disturbed, and gone on with: the same bytes in the end."""

from __future__ import annotations

import gzip
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toys import TOY_TABLE, program, toy_lines

from moses_integration.formats.phrase_table import PhraseTable
from moses_integration.rescoring.columns import Column, translation_column
from moses_integration.rescoring.stream import RescoreCounts, TableReader, rescore_table
from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.kernels.library import compiled_library
from phrase_scorer.scoring.scorer import PhraseScorer
from phrase_scorer.text.phrase_pairs import PairBlock

KILLS = 60
BLOCK_ENTRIES = 10


def slow_values(block: PairBlock) -> np.ndarray:
    """Of the words, and slow enough to be killed at it."""
    time.sleep(0.002)
    return np.array([-0.01 * sum(map(len, words)) for words in block.targets], np.float32)


SLOW = Column("length", "m", slow_values)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.gz"
    path.write_bytes(gzip.compress(b"".join(line + b"\n" for line in toy_lines(400)), mtime=0))
    return path


def run(table: Path, output: Path, column: Column = SLOW, **options) -> RescoreCounts:
    known = PhraseTable(table, block_entries=BLOCK_ENTRIES)
    return rescore_table(TableReader(known), output, [column], show_progress=False, **options)


def content(folder: Path, name: str = "out.gz") -> dict[str, bytes]:
    """The output and its signature."""
    return {
        path.name.replace(name, "out.gz"): path.read_bytes()
        for path in folder.iterdir()
        if path.name.startswith(name)
    }


def killed(table: Path, output: Path, seconds: float) -> bool:
    """Runs and resumes in a process that is killed after so long; whether it was in time."""
    child = os.fork()
    if child == 0:
        try:
            run(table, output, resume=True)
            os._exit(0)
        finally:
            os._exit(1)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.slow
def test_killed_at_random_moments_and_gone_on_with(table, tmp_path):
    run(table, tmp_path / "undisturbed.gz")
    expected = content(tmp_path, "undisturbed.gz")
    assert len(expected) == 2
    draw = random.Random(11)
    kills = endings = 0
    while kills < KILLS:
        if killed(table, tmp_path / "out.gz", draw.uniform(0.0, 0.15)):
            kills += 1
        else:
            endings += 1
            assert content(tmp_path) == expected
            for name in expected:
                (tmp_path / name).unlink()
    run(table, tmp_path / "out.gz", resume=True)
    assert content(tmp_path) == expected
    assert endings > 2  # kills fell everywhere, to the very end


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_any_number_of_processes_writes_the_same(processes, tmp_path, model_path):
    table = tmp_path / "table"
    table.write_bytes(
        b"".join(line + b"\n" for line in toy_lines(600)) + b"zz xx ||| q q ||| 1 1 1 1\n"
    )
    column = translation_column(PhraseScorer.load(model_path, "cpu"))
    statistics = run(table, tmp_path / "out.gz", column, processes=processes)
    (scorer,) = column.scorers
    found = scorer.source_vocabulary.counts
    counted = (found.looked_up, found.most_frequent())
    alone = translation_column(PhraseScorer.load(model_path, "cpu"))
    assert run(table, tmp_path / "alone.gz", alone) == statistics
    assert content(tmp_path) == content(tmp_path, "alone.gz")
    found = alone.scorers[0].source_vocabulary.counts
    assert counted == (found.looked_up, found.most_frequent())
    assert found.unknown >= 2


def test_a_bad_line_is_told_by_workers_as_without(tmp_path, model_path):
    lines = toy_lines(200)
    lines[122] = b"broken"
    lines[190] = b"broken, too"
    (tmp_path / "t").write_bytes(b"\n".join(lines))
    column = translation_column(PhraseScorer.load(model_path, "cpu"))
    with pytest.raises(DataError) as caught:
        run(tmp_path / "t", tmp_path / "out", column, processes=2)
    assert str(caught.value) == (
        f'{tmp_path}/t:123: 1 field, expected at least 3 (source ||| target ||| scores): "broken"'
    )
    lines[122], lines[190] = toy_lines(200)[122], toy_lines(200)[190]
    (tmp_path / "t").write_bytes(b"\n".join(lines))  # mended: what was done holds
    run(tmp_path / "t", tmp_path / "out", column, processes=2, resume=True)
    run(tmp_path / "t", tmp_path / "again", column)
    assert (tmp_path / "out").read_bytes() == (tmp_path / "again").read_bytes()


def test_statistics_and_unknown_words_are_those_of_both_runs(table, tmp_path):
    whole = run(table, tmp_path / "whole.gz", floor=-0.1)
    assert killed_before_the_end(table, tmp_path / "out.gz")
    assert run(table, tmp_path / "out.gz", resume=True, floor=-0.1) == whole
    assert whole.floored > 0


def killed_before_the_end(table: Path, output: Path, **details: object) -> bool:
    def values(block: PairBlock) -> np.ndarray:
        if len(seen) == 5:
            raise KeyboardInterrupt
        seen.append(block)
        return slow_values(block)

    seen: list[PairBlock] = []
    with pytest.raises(KeyboardInterrupt):
        run(table, output, Column("length", "m", values, **details), floor=-0.1)
    return Path(f"{output}.journal").exists()


def test_a_processor_that_computes_otherwise_is_told(table, tmp_path):
    assert killed_before_the_end(table, tmp_path / "out.gz")

    def otherwise(block: PairBlock) -> np.ndarray:
        return slow_values(block) * np.float32(1.01)

    with pytest.raises(DataError) as caught:
        run(table, tmp_path / "out.gz", replace(SLOW, values=otherwise), resume=True, floor=-0.1)
    told = f"{tmp_path / 'out.gz'}: the unfinished run here had another digest of its first scores"
    assert str(caught.value).startswith(f"{told} (")


def test_another_input_is_not_gone_on_with(table, tmp_path):
    assert killed_before_the_end(table, tmp_path / "out.gz")
    lines = gzip.decompress(table.read_bytes()).split(b"\n")
    lines[12] = lines[12].replace(b" ||| ", b" x ||| ", 1)
    table.write_bytes(gzip.compress(b"\n".join(lines)))
    with pytest.raises(DataError) as caught:
        run(table, tmp_path / "out.gz", resume=True, floor=-0.1)
    first, last = str(caught.value).removeprefix(f"{table}: lines ").split()[0:3:2]
    assert int(first) <= 13 <= int(last)
    assert str(caught.value).endswith("are not those that the unfinished run has read")
    table.write_bytes(gzip.compress(b"\n".join(lines[:8])))
    with pytest.raises(
        DataError, match=r"lines 1 to \d+ are not those that the unfinished run has read"
    ):
        run(table, tmp_path / "out.gz", resume=True, floor=-0.1)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"floor": -20.0}, "columns"),
        (
            {"column": Column("length", "another model", slow_values), "floor": -0.1},
            "columns",
        ),
    ],
)
def test_another_run_is_not_gone_on_with(table, tmp_path, options, what):
    assert killed_before_the_end(table, tmp_path / "out.gz")
    with pytest.raises(DataError, match=rf"the unfinished run here had another {what} \("):
        run(table, tmp_path / "out.gz", resume=True, **options)


@pytest.mark.parametrize(
    ("key", "now"),
    [
        ("kind of kernels", "torch"),
        ("processor", "AVX2"),
        ("torch version", "3"),
        ("device", "GPU"),
    ],
)
def test_another_arithmetic_is_not_gone_on_with(table, tmp_path, key, now):
    arithmetic = {
        "device": "cpu", "processor": "AVX512", "precision": "float32",
        "kind of kernels": "compiled", "torch version": "2.5",
    }  # fmt: skip
    output = tmp_path / "out.gz"
    assert killed_before_the_end(table, output, arithmetic=arithmetic)
    other = replace(SLOW, arithmetic=arithmetic | {key: now})
    with pytest.raises(DataError) as caught:
        run(table, output, other, resume=True, floor=-0.1)
    assert str(caught.value) == (
        f"{output}: the unfinished run here had another {key} ({arithmetic[key]}, now {now}); "
        f"delete {output}.partial to begin again"
    )
    run(table, output, replace(SLOW, arithmetic=arithmetic), resume=True, floor=-0.1)


@pytest.mark.slow
@pytest.mark.skipif(compiled_library() is None, reason="there is no C++ compiler")
def test_other_kernels_are_not_gone_on_with(folder, model_path):
    (folder / "t").write_bytes(TOY_TABLE * 7500 + b"bad\n")
    command = ["rescore", "t", "out", "--model", model_path, "--quiet", "--device", "cpu"]
    assert program(*command).returncode == 1
    environment = os.environ | {"PHRASE_SCORER_NATIVE": "0"}
    done = program(*command, "--resume", env=environment)
    assert (done.returncode, done.stderr) == (
        1,
        b"error: out: the unfinished run here had another kind of kernels (compiled, now torch); "
        b"delete out.partial to begin again\n",
    )


COUNTED = {"entries": 10, "bad_lines": 0, "floored": 0, "ranges": [[-1, -1]], "vocabularies": []}


@pytest.mark.parametrize(
    ("counted", "what"),
    [
        ({}, "object missing required field entries"),
        (COUNTED | {"entries": "ten"}, "entries: expected int, got str"),
        (COUNTED | {"ranges": [[1]]}, "ranges[0]: expected array of length 2, got 1"),
        (COUNTED | {"ranges": [[1, 2], [1, 2]]}, "ranges: 2, of other columns"),
        (COUNTED | {"vocabularies": [[1, 1, {}]]}, "vocabularies: 1, of other columns"),
    ],
)
def test_a_journal_of_another_shape_is_told(table, tmp_path, counted, what):
    assert killed_before_the_end(table, tmp_path / "out.gz")
    journal = tmp_path / "out.gz.journal"
    first, second, *others = journal.read_bytes().splitlines(keepends=True)
    changed = json.dumps(json.loads(second.partition(b" ")[2]) | {"counted": counted}).encode()
    line = b"%08x %b\n" % (zlib.crc32(changed), changed)
    journal.write_bytes(b"".join([first, line, *others]))
    with pytest.raises(DataError) as caught:
        run(table, tmp_path / "out.gz", resume=True, floor=-0.1)
    assert str(caught.value) == f"{journal}:2: {what}"


def test_disk_full_then_more_room(table, tmp_path):
    """A limit on the size of files stands for the disk; blocks that fit are not lost."""
    run(table, tmp_path / "undisturbed.gz")
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
        try:
            run(table, tmp_path / "out.gz")
        except DataError as error:
            os._exit(0 if str(error).endswith("out.gz: cannot write: File too large") else 1)
        os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert (tmp_path / "out.gz.partial").stat().st_size > 1000
    run(table, tmp_path / "out.gz", resume=True)
    assert content(tmp_path) == content(tmp_path, "undisturbed.gz")


def test_a_cut_input_is_gone_on_with_when_it_is_whole(table, tmp_path):
    run(table, tmp_path / "undisturbed.gz")
    whole = gzip.decompress(table.read_bytes())
    (tmp_path / "part").write_bytes(whole[: len(whole) * 2 // 3] + b"cut")
    with pytest.raises(DataError):
        run(tmp_path / "part", tmp_path / "out.gz")
    (tmp_path / "part").write_bytes(whole)
    run(tmp_path / "part", tmp_path / "out.gz", resume=True)
    assert content(tmp_path)["out.gz"] == (tmp_path / "undisturbed.gz").read_bytes()


def test_standard_output_cannot_be_gone_on_with(table):
    with pytest.raises(UsageError) as caught:
        run(table, "-", resume=True)
    assert str(caught.value) == "--resume needs a file to go on with, not -"


@pytest.mark.slow
def test_the_command_killed_with_its_workers_at_work(tmp_path, model_path):
    table = tmp_path / "table"
    lines = [b"w%d %b" % (n // 40, line) for n, line in enumerate(toy_lines(400) * 150)]
    table.write_bytes(b"".join(line + b"\n" for line in lines))
    command = [sys.executable, "-m", "moses_integration", "rescore", str(table)]
    options = ["--model", str(model_path), "--quiet", "--device", "cpu"]
    again = [*command, str(tmp_path / "alone.gz"), *options, "--threads", "1"]
    subprocess.run(again, check=True, capture_output=True, timeout=100)
    resumed = [*command, str(tmp_path / "out.gz"), *options, "--threads", "2", "--resume"]
    for _ in range(3):
        with subprocess.Popen(resumed, stderr=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 60
            partial, size = tmp_path / "out.gz.partial", -1
            before = partial.stat().st_size if partial.exists() else 0
            while size <= before and process.poll() is None and time.monotonic() < deadline:
                size = partial.stat().st_size if partial.exists() else -1
                time.sleep(0.002)
            process.kill()
    subprocess.run(resumed, check=True, capture_output=True, timeout=100)
    assert content(tmp_path) == content(tmp_path, "alone.gz")
