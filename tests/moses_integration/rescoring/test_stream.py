"""The stream: the input plus one score a line, the scorer's; whole or not there at all."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import toy_lines

from moses_integration.formats.phrase_table import PhraseTable
from moses_integration.rescoring.columns import Column, score_texts, translation_column
from moses_integration.rescoring.stream import RescoreCounts, TableReader, rescore_table
from phrase_scorer.errors import DataError, PhraseScorerError, UsageError
from phrase_scorer.kernels.library import compiled_library

LAST_SCORE = re.compile(rb"^(.*?\|\|\|.*?\|\|\|[^|]*?) (\S+)(?=[ \t\r]*(?:\|\|\||$))")


def constant(value: float = -1.0, name: str = "constant") -> Column:
    return Column(name, "m", lambda block: np.full(len(block.sources), value, np.float32))


def run(path: Path | str, output: Path | str, columns: list[Column], **options) -> RescoreCounts:
    known = {"on_bad_line", "block_entries", "scores"}
    table = PhraseTable(path, **{key: options.pop(key) for key in known & options.keys()})
    return rescore_table(TableReader(table), output, columns, show_progress=False, **options)


def read(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content


def stripped(text: bytes) -> bytes:
    return b"\n".join(LAST_SCORE.sub(rb"\1", line) for line in text.split(b"\n"))


def last_scores(text: bytes) -> list[bytes]:
    return [line.split(b"|||")[2].split()[-1] for line in text.split(b"\n") if line]


def pairs_of(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    return [tuple(line.split(b"|||")[:2]) for line in lines]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table"
    path.write_bytes(b"".join(line + b"\n" for line in toy_lines(300)))
    return path


def test_lines_are_the_input_and_the_score_of_the_scorer(table, tmp_path, scorer):
    lines = toy_lines(300)
    statistics = run(table, tmp_path / "out", [translation_column(scorer)])
    found = read(tmp_path / "out")
    values = scorer.score(pairs_of(lines))
    assert last_scores(found) == score_texts(values)
    assert len(set(last_scores(found))) > 50  # it is not one number for all
    assert stripped(found) == table.read_bytes()
    assert statistics == RescoreCounts(entries=300, bad_lines=0, floored=0)


@pytest.mark.parametrize("input_gz", [False, True])
@pytest.mark.parametrize("output_name", ["out", "out.gz"])
def test_compression_follows_the_names(input_gz, output_name, table, tmp_path):
    text = table.read_bytes()
    path = tmp_path / "input"
    path.write_bytes(gzip.compress(text) if input_gz else text)
    output = tmp_path / output_name
    run(path, output, [constant()])
    assert output.read_bytes().startswith(b"\x1f\x8b") == (output_name == "out.gz")
    assert last_scores(read(output)) == [b"0.3678794"] * 300
    assert stripped(read(output)) == text


def test_standard_input_and_output(table, tmp_path, monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(table.read_bytes())))
    )
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.chdir(tmp_path)
    run("-", "-", [constant()])
    assert stripped(stdout.buffer.getvalue()) == table.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["table"]  # no signature of nothing


@pytest.mark.parametrize("name", ["fifo", "fifo.gz"])
def test_a_fifo_is_written_into(name, table, tmp_path):
    """Whoever reads it gets the bytes of a file, while they are made; no journal, no signature."""
    os.mkfifo(tmp_path / name)
    expected = tmp_path / name.replace("fifo", "file")
    run(table, expected, [constant()])
    signature = Path(f"{expected}.signature.json")
    before = sorted(os.listdir(tmp_path))
    with ThreadPoolExecutor(1) as pool:
        read_there = pool.submit((tmp_path / name).read_bytes)
        run(table, tmp_path / name, [constant()])
        assert read_there.result(10) == expected.read_bytes()
    assert signature.exists()
    assert sorted(os.listdir(tmp_path)) == before
    assert (tmp_path / name).is_fifo()
    with pytest.raises(UsageError, match=f"--resume needs a file to go on with, not .*{name}$"):
        run(table, tmp_path / name, [constant()], resume=True)


def test_of_a_link_the_file_that_it_leads_to_is_written(table, tmp_path):
    (tmp_path / "link").symlink_to("real")
    run(table, tmp_path / "link", [constant()])
    assert (tmp_path / "link").is_symlink()
    assert stripped((tmp_path / "real").read_bytes()) == table.read_bytes()


def test_small_blocks_change_no_score_and_runs_repeat(table, tmp_path, scorer):
    whole, small, again = (tmp_path / name for name in ("whole.gz", "small.gz", "again.gz"))
    run(table, whole, [translation_column(scorer)])
    run(table, small, [translation_column(scorer)], block_entries=3)
    run(table, again, [translation_column(scorer)], block_entries=3)
    assert small.read_bytes() == again.read_bytes()
    assert gzip.decompress(small.read_bytes()).count(b"\n") == 300
    assert small.read_bytes().count(b"\x1f\x8b\x08") > 10  # it was cut into many blocks indeed
    ours, theirs = (np.log(np.array(last_scores(read(path)), float)) for path in (whole, small))
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)
    assert stripped(read(small)) == table.read_bytes()


def test_several_columns(table, tmp_path):
    run(table, tmp_path / "out", [constant(-1.0, "one"), constant(-2.0, "two")])
    line = read(tmp_path / "out").split(b"\n")[0]
    before = table.read_bytes().split(b"\n")[0]
    fields = before.split(b" ||| ")
    fields[2] += b" 0.3678794 0.1353353"
    assert line == b" ||| ".join(fields)


def test_no_final_newline_and_odd_bytes(tmp_path):
    text = b"a\xff\x00|||b\xe9 ||| .5\t||| 0-0\r\nc\xe2\x80\xa8 ||| ||| 1\r"
    (tmp_path / "t").write_bytes(text)
    run(tmp_path / "t", tmp_path / "out", [constant()])
    expected = b"a\xff\x00|||b\xe9 ||| .5 0.3678794\t||| 0-0\r\nc\xe2\x80\xa8 ||| ||| 1 0.3678794\r"
    assert (tmp_path / "out").read_bytes() == expected


def test_floored_values_are_counted(table, tmp_path):
    statistics = run(table, tmp_path / "out", [constant(-3), constant(-9, "x")], floor=-5.0)
    assert statistics == RescoreCounts(entries=300, floored=300)
    assert last_scores(read(tmp_path / "out")) == [b"0.006737947"] * 300


def test_statistics_add():
    total = RescoreCounts(1, 2, 3)
    total += RescoreCounts(10, 20, 30)
    assert total == RescoreCounts(11, 22, 33)


# -- whole or not at all -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out", "out.gz"])
def test_error_late_in_the_table_leaves_what_is_done(name, tmp_path):
    lines = toy_lines(4000)
    lines[2999] = b"broken"
    table = tmp_path / "table"
    table.write_bytes(b"\n".join(lines))
    seen = []

    def values(block):
        seen.append((tmp_path / f"{name}.partial").exists())
        return np.zeros(len(block.sources), np.float32)

    with pytest.raises(DataError) as caught:
        run(table, tmp_path / name, [Column("x", "m", values)], block_entries=50)
    assert str(caught.value) == (
        f'{table}:3000: 1 field, expected at least 3 (source ||| target ||| scores): "broken"'
    )
    assert any(seen)  # writing had begun
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"{name}.journal",
        f"{name}.partial",
        "table",
    ]
    done = len(read(tmp_path / f"{name}.partial").splitlines())
    assert 50 <= done <= 2999
    assert caught.value.__notes__ == [
        f"{done:,} lines are done and stay in {tmp_path / name}.partial; --resume goes on with them"
    ]


def test_error_leaves_an_older_output_as_it_was(table, tmp_path):
    output = tmp_path / "out"
    run(table, output, [constant()])
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    before["table"] += b"broken"
    table.write_bytes(before["table"])
    with pytest.raises(DataError, match="1 field"):
        run(table, output, [constant()])
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_error_of_the_scorer_leaves_nothing_and_no_thread(table, tmp_path):
    def values(block):
        raise PhraseScorerError("no more")

    threads = threading.active_count()
    with pytest.raises(PhraseScorerError, match=r"^no more$"):
        run(table, tmp_path / "out", [Column("x", "m", values)], block_entries=5)
    assert [p.name for p in tmp_path.iterdir()] == ["table"]
    assert threading.active_count() == threads


def test_score_that_is_no_number_leaves_nothing(table, tmp_path):
    with pytest.raises(PhraseScorerError, match="not a number"):
        run(table, tmp_path / "out", [constant(np.nan)])
    assert [p.name for p in tmp_path.iterdir()] == ["table"]


def test_output_equal_to_input(table, tmp_path, monkeypatch):
    before = table.read_bytes()
    (tmp_path / "link").symlink_to(table)
    monkeypatch.chdir(tmp_path)
    for name in (table, "table", "./table", "link"):
        with pytest.raises(DataError) as caught:
            run(table, name, [constant()])
        assert str(caught.value) == f"{name}: the output would overwrite the input"
    assert table.read_bytes() == before
    assert not (tmp_path / "table.partial").exists()


def test_output_that_is_a_folder(table, tmp_path):
    with pytest.raises(DataError) as caught:
        run(table, tmp_path, [constant()])
    assert str(caught.value) == f"{tmp_path}: cannot write: Is a directory"


def test_output_in_no_folder(table, tmp_path):
    output = tmp_path / "no" / "out"
    with pytest.raises(DataError) as caught:
        run(table, output, [constant()])
    assert str(caught.value) == f"{output}: cannot write: No such file or directory"


def test_impossible_floor_is_refused_first(tmp_path):
    with pytest.raises(UsageError, match=r"^--floor must be"):
        run(tmp_path / "not there", tmp_path / "out", [constant()], floor=1.0)


def test_required_scores_are_asked_before_anything_is_written(table, tmp_path):
    asked = []

    def require(scores: int) -> None:
        asked.append((scores, sorted(os.listdir(tmp_path))))
        raise DataError("not these")

    with pytest.raises(DataError, match=r"^not these$"):
        run(table, tmp_path / "out", [constant()], require_scores=require)
    assert asked == [(4, ["table"])]
    assert sorted(os.listdir(tmp_path)) == ["table"]


# -- bad lines kept ------------------------------------------------------------------------------


def test_bad_lines_may_be_kept(tmp_path):
    lines = [b"la ||| the ||| 1 1", b"", b"x", b"a ||| b ||| 1 nan ||| 0-0", b"le ||| the ||| 1 1"]
    (tmp_path / "t").write_bytes(b"\n".join(lines) + b"\n")
    for block_entries in (1, 2, 100):
        output = tmp_path / f"out{block_entries}"
        statistics = run(
            tmp_path / "t", output, [constant()], on_bad_line="keep", block_entries=block_entries
        )
        assert statistics == RescoreCounts(entries=5, bad_lines=3, floored=0)
        assert output.read_bytes().split(b"\n") == [
            b"la ||| the ||| 1 1 0.3678794",
            b"",
            b"x",
            b"a ||| b ||| 1 nan 1 ||| 0-0",
            b"le ||| the ||| 1 1 0.3678794",
            b"",
        ]


def test_scores_stand_by_their_lines_though_bad_ones_are_kept(tmp_path, scorer):
    lines = toy_lines(120)
    values = iter(scorer.score(pairs_of(lines)))
    expected = dict(enumerate(score_texts(np.array(list(values)))))
    for place in (0, 7, 8, 50, 119):
        lines[place] = b"a ||| b ||| bad"
        expected[place] = b"1"
    (tmp_path / "t").write_bytes(b"\n".join(lines))
    run(
        tmp_path / "t",
        tmp_path / "out",
        [translation_column(scorer)],
        on_bad_line="keep",
        block_entries=10,
        scores=4,
    )
    found = np.log(np.array(last_scores(read(tmp_path / "out")), float))
    wanted = np.log(np.array([expected[place] for place in range(120)], float))
    np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=0)


# -- signature -----------------------------------------------------------------------------------


def test_signature_says_what_was_done(table, tmp_path, scorer):
    output = tmp_path / "out.gz"
    run(table, output, [translation_column(scorer)], floor=-30.0)
    content = json.loads((tmp_path / "out.gz.signature.json").read_bytes())
    assert content.pop("phrase_scorer")
    assert content == {
        "format": 1,
        "columns": [
            {
                "place": 4,
                "name": "p(target | source)",
                "model": scorer.fingerprint,
                "floor": -30.0,
                "unit": "probability (Moses takes its natural logarithm)",
                "precision": "float32",
                "arithmetic": {
                    "device": "cpu",
                    "processor": torch.backends.cpu.get_cpu_capability(),
                    "precision": "float32",
                    "kind of kernels": "compiled" if compiled_library() else "torch",
                    "torch version": torch.__version__,
                },
            }
        ],
        "input": {
            "name": "table",
            "sha256": hashlib.sha256(table.read_bytes()).hexdigest(),
            "entries": 300,
            "scores": 4,
        },
        "bad_lines": 0,
        "floored": 0,
        "constant_columns": [],
    }


def test_constant_columns_are_told(table, tmp_path, scorer):
    """Their weights would tell nothing; of a single entry every column is constant."""
    columns = [constant(-2.0, "one"), translation_column(scorer), constant(-60.0, "floored")]
    counts = run(table, tmp_path / "out", columns)
    assert counts.constant == [0, 2]
    content = json.loads((tmp_path / "out.signature.json").read_bytes())
    assert content["constant_columns"] == [4, 6]
    (tmp_path / "one").write_bytes(table.read_bytes().split(b"\n")[0])
    assert run(tmp_path / "one", tmp_path / "out1", columns).constant == []


def test_same_column_twice_is_refused_unless_allowed(table, tmp_path, scorer):
    column = translation_column(scorer)
    once, twice = tmp_path / "once", tmp_path / "twice"
    run(table, once, [column])
    with pytest.raises(DataError) as caught:
        run(once, twice, [column])
    assert str(caught.value) == (
        f"{once}: score 5 of each line is already p(target | source) of this model "
        f"({scorer.fingerprint}); --allow-duplicate adds it again"
    )
    assert not twice.exists()
    run(once, twice, [column], allow_duplicate=True)
    assert stripped(read(twice)) == read(once)
    assert last_scores(read(twice)) == last_scores(read(once))
    columns = json.loads((tmp_path / "twice.signature.json").read_bytes())["columns"]
    assert [(c["place"], c["model"]) for c in columns] == [(4, column.model), (5, column.model)]


def test_another_column_follows_in_the_signature(table, tmp_path):
    run(table, tmp_path / "one", [constant(-1, "one")])
    run(tmp_path / "one", tmp_path / "two", [constant(-2, "two")])
    columns = json.loads((tmp_path / "two.signature.json").read_bytes())["columns"]
    assert [(c["place"], c["name"]) for c in columns] == [(4, "one"), (5, "two")]


# -- progress ------------------------------------------------------------------------------------


def test_progress_bar_reaches_the_size_of_the_file(table, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    rescore_table(TableReader(PhraseTable(table)), tmp_path / "out", [constant()])
    shown = capsys.readouterr().err.split("\r")[-1]
    assert shown.startswith("rescoring: 100%")
    assert "300 entries" in shown
