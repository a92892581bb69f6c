"""`rescore --replace`: what comes out is what rescoring the old table would have given."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import DATA, SOURCE_WORDS, TARGET_WORDS, TOY_INI, TOY_TABLE, names, save_model, toy_lines

from moses_integration.formats.phrase_table import PhraseTable
from moses_integration.formats.signature import SignedColumn, read_signature, write_signature
from moses_integration.rescoring.columns import Column, score_texts
from moses_integration.rescoring.stream import TableReader, rescore_table
from phrase_scorer.errors import DataError
from phrase_scorer.models.directory import ModelDirectory
from phrase_scorer.runtime.streams import Lines, numbered_lines

NAME = "p(target | source)"
BAD = b"bad\ne ||| x ||| 0.5 ||| 0-0\nf ||| x ||| 0.5 nan ||| 0-0\n\nla ||| ||| 1 1\r\n"


@pytest.fixture
def models(folder):
    """Two forward models and two inverse ones, by short names in the current folder."""
    for seed, name in enumerate(("a", "b", "ia", "ib"), 11):
        inverse = name.startswith("i")
        sides = (TARGET_WORDS, SOURCE_WORDS) if inverse else (SOURCE_WORDS, TARGET_WORDS)
        save_model(Path(name), *sides, seed=seed, direction="inverse" if inverse else "forward")
    return folder


def signed(table: str) -> list[SignedColumn]:
    return read_signature(table)


@pytest.mark.parametrize("name", [NAME, "3"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_as_if_the_old_table_had_been_rescored(name, suffix, run, models):
    """With lines that are bad, and kept: byte for byte, the signature's columns, too."""
    table = TOY_TABLE + BAD
    Path("t").write_bytes(table)
    Path("ini").write_text(TOY_INI.format("t"))
    keep = "--on-bad-line", "keep", "--quiet"
    inis = "--moses-ini", "ini", "--moses-ini-out"
    first, second, expected = (f"{stem}{suffix}" for stem in ("first", "second", "expected"))
    assert run("rescore", "t", first, "--model", "a", *keep, *inis, "first.ini").code == 0
    tuned = Path("first.ini").read_text().replace("0.2 0.3 0.1", "0.7 0.8 0.9")
    Path("first.ini").write_text(tuned)
    inis = "--moses-ini", "first.ini", "--moses-ini-out"
    command = "rescore", first, second, "--model", "b", "--replace", name, *keep
    done = run(*command, *inis, "second.ini")
    assert (done.code, done.err) == (
        0,
        f"5 entries scored; 4 bad lines of {first} kept as they were\n"
        "second.ini: TM0 with 3 scores; tune it\n",
    )
    assert Path("second.ini").read_text() == tuned.replace(first, second)
    assert run("rescore", "t", expected, "--model", "b", *keep).code == 0
    assert Path(second).read_bytes() == Path(expected).read_bytes()
    assert Path(second).read_bytes() != Path(first).read_bytes()
    assert signed(second) == signed(expected)
    content = json.loads(Path(f"{second}.signature.json").read_bytes())
    assert (content["input"]["name"], content["input"]["scores"]) == (first, 3)
    assert run("strip", second, "stripped", "--quiet").code == 0
    assert Path("stripped").read_bytes() == table


def test_several_columns_in_the_order_of_the_models(run, models):
    """Of two that are called alike each by its number; a third stays as it is."""
    Path("t").write_bytes(TOY_TABLE)
    other = save_model(Path("other"), seed=20)
    old = ["--model", "a", "--model", other, "--inverse-model", "ia", "--unknown-words"]
    assert run("rescore", "t", "first", *old, "--quiet").code == 0
    replace = ["--replace", "3", "--replace", "p(source | target)"]
    new = ["--model", "b", "--inverse-model", "ib", *replace, "--quiet"]
    assert run("rescore", "first", "second", *new).code == 0
    all_new = ["--model", "b", "--model", other, "--inverse-model", "ib"]
    unknown = ["--unknown-words-of", "a"]
    assert run("rescore", "t", "expected", *all_new, *unknown, "--quiet").code == 0
    assert Path("second").read_bytes() == Path("expected").read_bytes()
    assert signed("second") == signed("expected")
    swapped = ["--model", "a", "--inverse-model", "ia", "--replace", "3", "--replace", "5"]
    assert run("rescore", "second", "third", *swapped, "--quiet").code == 0
    assert Path("third").read_bytes() == Path("first").read_bytes()
    assert signed("third") == signed("first")


@given(
    st.lists(st.lists(st.sampled_from([b"1", b"0.5", b"1e-3"]), min_size=4, max_size=4),
             min_size=1, max_size=4),
    st.permutations([0, 1, 2, 3]).flatmap(lambda p: st.integers(1, 4).map(lambda n: p[:n])),
    st.sampled_from([b" ", b"  ", b"\t"]), st.sampled_from([b"", b" ", b"\r", b" ||| 0-0 1-1"]),
)  # fmt: skip
def test_only_these_scores_change(rows, places, blank, rest):
    lines = [b"a 1 ||| 0.5 1|||" + blank + blank.join(row) + rest for row in rows]
    block = PhraseTable("t").parse(Lines(1, lines))
    found = block.with_other_scores(places, [[b"0.1234567"] * len(lines)] * len(places))
    changed = [[b"0.1234567" if i in places else x for i, x in enumerate(row)] for row in rows]
    expected = [b"a 1 ||| 0.5 1|||" + blank + blank.join(row) + rest for row in changed]
    assert found == b"".join(line + b"\n" for line in expected)


@pytest.mark.parametrize("threads", ["1", "2"])
def test_in_several_processes(threads, run, models):
    table = DATA / "model" / "phrase-table.gz"  # large enough for two
    common = "--quiet", "--threads", threads
    assert run("rescore", table, "first.gz", "--model", "a", *common).code == 0
    assert run("rescore", table, "expected.gz", "--model", "b", *common).code == 0
    replace = "--replace", NAME
    assert run("rescore", "first.gz", "second.gz", "--model", "b", *replace, *common).code == 0
    assert Path("second.gz").read_bytes() == Path("expected.gz").read_bytes()


def test_the_same_model_in_another_precision(run, models):
    """Is no column twice."""
    Path("t").write_bytes(TOY_TABLE)
    rough = run("rescore", "t", "first", "--model", "a", "--precision", "int8", "--quiet")
    assert rough.code == 0
    command = "rescore", "first", "second", "--model", "a", "--replace", NAME, "--quiet"
    assert run(*command).code == 0
    assert run("rescore", "t", "expected", "--model", "a", "--quiet").code == 0
    assert Path("second").read_bytes() == Path("expected").read_bytes()
    assert run("rescore", "first", "both", "--model", "b", "--quiet").code == 0
    done = run("rescore", "both", "twice", "--model", "b", "--replace", "3", "--quiet")
    assert done.error == (
        f"both: score 4 of each line is already {NAME} of this model "
        f"({ModelDirectory(Path('b')).fingerprint()}); --allow-duplicate adds it again"
    )


def test_a_folder(run, models):
    Path("old").mkdir()
    Path("old/t.gz").write_bytes(TOY_TABLE)
    Path("old/moses.ini").write_text(TOY_INI.format("t.gz"))
    assert run("rescore", "old", "first", "--model", "a", "--weight", "0.7", "--quiet").code == 0
    command = "rescore", "first", "second", "--model", "b", "--replace", NAME, "--quiet"
    assert run(*command).code == 0
    assert run("rescore", "old", "expected", "--model", "b", "--weight", "0.7", "--quiet").code == 0
    for name in ("t.gz", "moses.ini"):
        assert Path("second", name).read_bytes() == Path("expected", name).read_bytes()


COLUMN = Column("length", "new", lambda block: -0.01 * _lengths(block))
PLACE = 4  # of the column in toy lines that have been rescored


def _lengths(block):
    return np.array([sum(map(len, words)) for words in block.targets], np.float32)


class StoppedError(Exception):
    pass


def stopping(after: int) -> Column:
    """The same column, which ends the run after so many blocks."""
    calls = []

    def values(block):
        calls.append(block)
        if len(calls) > after:
            raise StoppedError
        return COLUMN.values(block)

    return Column(COLUMN.name, COLUMN.model, values)


def replaced(table: str, output: str, column: Column = COLUMN, **options):
    known = PhraseTable(table, block_entries=10)
    options = {"replaced": [PLACE], "show_progress": False} | options
    return rescore_table(TableReader(known), output, [column], **options)


def test_resume(folder):
    """A run that was broken off is gone on with, and an adding run is told from a replacing one."""
    Path("t").write_bytes(b"".join(line + b"\n" for line in toy_lines(200)))
    old = Column("length", "old", lambda block: -0.5 * _lengths(block))
    rescore_table(TableReader(PhraseTable("t")), "first.gz", [old], show_progress=False)
    replaced("first.gz", "expected.gz")
    with pytest.raises(StoppedError):
        replaced("first.gz", "out.gz", stopping(7))
    assert Path("out.gz.partial").stat().st_size
    journal = Path("out.gz.journal").read_bytes()
    with pytest.raises(DataError, match="the unfinished run here had another columns"):
        replaced("first.gz", "out.gz", replaced=[], resume=True)  # adds it
    with pytest.raises(DataError, match="the unfinished run here had another replaced columns"):
        replaced("t", "out.gz", replaced=[], resume=True)  # adds it, to the table of before
    assert Path("out.gz.journal").read_bytes() == journal
    replaced("first.gz", "out.gz", resume=True)
    assert Path("out.gz").read_bytes() == Path("expected.gz").read_bytes()
    assert signed("out.gz") == signed("expected.gz")
    with pytest.raises(StoppedError):
        replaced("t", "added.gz", stopping(7), replaced=[])
    told = r"had another replaced columns \(None, now \[4\]\)"
    with pytest.raises(DataError, match=told):
        replaced("first.gz", "added.gz", resume=True)
    texts = score_texts(_lengths(PhraseTable("t").parse(_lines("t")).pairs) * -0.01)
    assert [line.split()[-1] for line in _scores("out.gz")] == texts


def _lines(path: str) -> Lines:
    return Lines(1, Path(path).read_bytes().split(b"\n")[:-1])


def _scores(path: str) -> list[bytes]:
    return [line.split(b"|||")[2] for _, line in numbered_lines(path)]


@pytest.mark.parametrize(
    ("options", "code", "expected"),
    [
        (["--model", "b", "--replace", "rnn"], 1,
         f'first: no single score "rnn" in its signature (3: {NAME}, 4: p(source | target), '
         "5: p(source | target)); give its number"),
        (["--inverse-model", "ib", "--replace", "p(source | target)"], 1,
         f'first: no single score "p(source | target)" in its signature (3: {NAME}, '
         "4: p(source | target), 5: p(source | target)); give its number"),
        (["--model", "b", "--replace", "1"], 1,
         f'first: no single score "1" in its signature (3: {NAME}, 4: p(source | target), '
         "5: p(source | target)); give its number"),
        (["--model", "b", "--replace", "4"], 1,
         f"first: score 4 is p(source | target): {NAME} cannot replace it, for its weight stays"),
        (["--model", "b", "--replace", "4", "--estimate"], 1,
         f"first: score 4 is p(source | target): {NAME} cannot replace it, for its weight stays"),
        (["--model", "b", "--replace", "3", "--replace", "4"], 2,
         "--replace is given twice, but there is one new column"),
        (["--model", "b", "--inverse-model", "ib", "--replace", "3"], 2,
         "--replace is given once, but there are 2 new columns"),
        (["--inverse-model", "ia", "--inverse-model", "ib", "--replace", "4", "--replace", "4"], 2,
         "--replace names score 4 twice"),
        (["--model", "b", "--replace", "3", "--weight", "0.1"], 2,
         "--replace keeps the weights: not with --weight"),
    ],
)  # fmt: skip
def test_refused(options, code, expected, run, models):
    Path("t").write_bytes(TOY_TABLE)
    both = "--inverse-model", "ia", "--inverse-model", "ib"
    assert run("rescore", "t", "first", "--model", "a", *both, "--quiet").code == 0
    before = names(models)
    done = run("rescore", "first", "out", *options, "--quiet")
    assert (done.code, done.out, done.err) == (code, "", f"error: {expected}\n")
    assert names(models) == before


def test_without_a_signature(run, models):
    Path("t").write_bytes(TOY_TABLE)
    os.mkfifo("pipe")
    command = "--model", "b", "--replace", NAME, "--quiet"
    message = "has no signature beside it, so that which scores are of rescore is not known"
    for place in ("t", "-", "pipe"):
        done = run("rescore", place, "out", *command)
        assert (done.code, done.error) == (1, f"{place}: {message}")


def test_a_pipe_with_a_signature_is_read(run, models):
    """What stands beside it is believed, as beside any table; the output may be standard output."""
    Path("t").write_bytes(TOY_TABLE)
    assert run("rescore", "t", "first", "--model", "a", "--quiet").code == 0
    assert run("rescore", "t", "expected", "--model", "b", "--quiet").code == 0
    os.mkfifo("pipe")
    shutil.copy("first.signature.json", "pipe.signature.json")
    writer = threading.Thread(target=lambda: Path("pipe").write_bytes(Path("first").read_bytes()))
    writer.start()
    done = run("rescore", "pipe", "-", "--model", "b", "--replace", NAME, "--quiet")
    writer.join()
    assert (done.code, done.out.encode()) == (0, Path("expected").read_bytes())


def test_a_signature_of_another_table(run, models):
    Path("t").write_bytes(TOY_TABLE)
    write_signature("t", [SignedColumn(2, NAME, "m", -50)], {})
    done = run("rescore", "t", "out", "--model", "b", "--replace", NAME, "--quiet")
    assert (done.code, done.error) == (1, "t: 2 scores, but the signature names score 3")
    assert not Path("out").exists()
