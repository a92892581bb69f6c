"""Parts of a table, and the table that is joined of them: the bytes of one run, or refused."""

from __future__ import annotations

import json
import os
import shutil
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from toys import TOY_INI, program, save_model, toy_lines

from moses_integration.cli import main
from moses_integration.formats.phrase_table import PhraseTable
from moses_integration.rescoring.columns import Column
from moses_integration.rescoring.joining import JoinRequest
from moses_integration.rescoring.parts import Share, TablePart
from moses_integration.rescoring.request import RescoreRequest
from moses_integration.rescoring.stream import PROBE, TableReader, rescore_table
from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.text.phrase_pairs import PairBlock

BLOCK_ENTRIES = 20


def lengths(block: PairBlock) -> np.ndarray:
    return np.array([-0.25 * sum(map(len, words)) for words in block.targets], np.float32)


def ones(block: PairBlock) -> np.ndarray:
    return np.zeros(len(block.targets), np.float32)


LENGTH, ONE = Column("length", "m", lengths), Column("one", "n", ones)


@pytest.fixture
def table(folder) -> Path:
    lines = toy_lines(300)
    lines[123] = b"no scores ||| here"
    (folder / "t").write_bytes(b"".join(line + b"\n" for line in lines))
    return folder


def run(output: str, *columns: Column, part: str | None = None, **options):
    known = PhraseTable("t", block_entries=BLOCK_ENTRIES, on_bad_line="keep")
    share = TablePart.parse(part) if part else None
    columns = columns or (LENGTH,)
    return rescore_table(
        TableReader(known), output, columns, show_progress=False, part=share, **options
    )


def parts_of(output: str, count: int, *columns: Column, **options) -> None:
    for number in range(count, 0, -1):  # in any order
        run(output, *columns, part=f"{number}/{count}", **options)


def test_shares_hold_each_block_once():
    shares = [Share(TablePart(number, 3)) for number in (1, 2, 3)]
    parts = [list(share.of(range(10))) for share in shares]
    assert parts == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]
    assert [share.blocks for share in shares] == [10, 10, 10]


@pytest.mark.parametrize("name", ["new", "new.gz"])
@pytest.mark.parametrize(
    ("count", "columns", "options"),
    [
        (1, [LENGTH], {}),
        (2, [LENGTH], {"processes": 2}),
        (3, [LENGTH, ONE], {"floor": -2.0}),
        (40, [ONE], {}),  # more than there are blocks
    ],
)
def test_joined_as_in_one_run(table, capsys, name, count, columns, options):
    counts = run(name, *columns, **options)
    whole = [Path(name).read_bytes(), Path(f"{name}.signature.json").read_bytes()]
    os.unlink(name)
    os.unlink(f"{name}.signature.json")
    parts_of(name, count, *columns, **options)
    assert main(["join", name, "--keep-parts", "--format", "json"]) == 0
    assert [Path(name).read_bytes(), Path(f"{name}.signature.json").read_bytes()] == whole
    told = json.loads(capsys.readouterr().out)
    assert (told["entries"], told["floored"]) == (counts.entries, counts.floored)
    assert (told["bad_lines"], told["columns"]) == (1, [column.name for column in columns])
    assert told["constant_columns"] == ["one"] * (ONE in columns)
    assert main(["join", name]) == 0
    assert sorted(os.listdir()) == sorted([name, f"{name}.signature.json", "t"])


def test_the_command_writes_parts_and_a_moses_ini_of_the_whole(table, capsys):
    lines = [line for line in (table / "t").read_bytes().splitlines(True) if b"no sc" not in line]
    (table / "t").write_bytes(b"".join(lines))
    (table / "ini").write_text(TOY_INI.format("t").replace("features=2", "features=4"))
    save_model(table / "rnn")
    text = (table / "ini").read_text().replace("0.2 0.3", "0.2 0.3 0.1 0.1")
    (table / "ini").write_text(text)
    common = "--model rnn --threads 1 --quiet"
    ini = "--moses-ini ini --moses-ini-out new.ini --weight 0.07"
    assert main(f"rescore t new.gz {common} {ini}".split()) == 0
    expected = {name: (table / name).read_bytes() for name in ("new.gz", "new.ini")}
    for name in expected:
        os.unlink(name)
    for number in (1, 2):
        assert main(f"rescore t new.gz {common} --part {number}/2".split()) == 0
    capsys.readouterr()
    assert main(f"join new.gz {ini}".split()) == 0
    assert {name: (table / name).read_bytes() for name in expected} == expected
    assert capsys.readouterr().err.splitlines() == [
        "new.gz: 299 entries of 2 parts",
        "new.ini: TM0 with 5 scores; tune it",
    ]


def test_columns_that_took_the_places_of_others(table):
    run("first", LENGTH, ONE)
    shutil.copy("first", "t")
    shutil.copy("first.signature.json", "t.signature.json")
    other = Column("length", "better", lengths)
    run("whole", other, replaced=[4])
    for number in (1, 2):
        run("new", other, replaced=[4], part=f"{number}/2")
    assert main(["join", "new", "--quiet"]) == 0
    assert Path("new").read_bytes() == Path("whole").read_bytes()
    assert Path("new.signature.json").read_bytes() == Path("whole.signature.json").read_bytes()
    for number in (1, 2):
        run("new", other, replaced=[4], part=f"{number}/2")
    with pytest.raises(UsageError) as caught:
        JoinRequest("new", weights=(0.5,))
    told = "the new columns took the places of others, with their weights: not with --weight"
    assert str(caught.value) == told


class BrokenError(Exception):
    """A task that ends."""


def mortal() -> Column:
    """The column of lengths, until it is asked the third time: for the second block."""
    asked: list[PairBlock] = []

    def values(block: PairBlock) -> np.ndarray:
        asked.append(block)
        if len(asked) == 3:
            raise BrokenError
        return lengths(block)

    return Column("length", "m", values)


def test_a_part_that_was_broken_off_goes_on(table):
    run("whole.gz")
    run("new.gz", part="1/2")
    with pytest.raises(BrokenError):
        run("new.gz", mortal(), part="2/2")
    with pytest.raises(DataError) as caught:
        JoinRequest("new.gz")
    told = "part 2 of 2 is unfinished: `rescore --part 2/2 --resume` ends part 2/2"
    assert str(caught.value) == f"new.gz: {told}"
    with pytest.raises(DataError, match=r"an unfinished run of .* lines is here; --resume goes on"):
        run("new.gz", part="2/2")
    run("new.gz", part="2/2", resume=True)
    assert main(["join", "new.gz", "--quiet"]) == 0
    assert Path("new.gz").read_bytes() == Path("whole.gz").read_bytes()


def test_parts_of_machines_that_compute_otherwise(table):
    def otherwise(block: PairBlock) -> np.ndarray:
        return lengths(block) * np.float32(1 + 1e-6)

    run("new", part="1/2")
    run("new", Column("length", "m", otherwise), part="2/2")
    digests = [json.loads(Path(f"{name}.index.json").read_text())["run"][PROBE] for name in (A, B)]
    with pytest.raises(DataError) as caught:
        JoinRequest("new")
    told = f"is of a run with another {PROBE} ({digests[1]}; part 1 has {digests[0]})"
    assert str(caught.value) == f"{B}.index.json: {told}"
    assert digests[0] != digests[1]


def test_a_table_that_changed_under_a_part_is_told_with_its_lines(table):
    with pytest.raises(BrokenError):
        run("new", mortal(), part="2/2")
    lines = Path("t").read_bytes().splitlines(True)
    second = [len(block.lines) for block in blocks_of("t")][:2]
    lines[second[0]] = lines[second[0]].replace(b" ||| ", b" x ||| ", 1)
    Path("t").write_bytes(b"".join(lines))
    with pytest.raises(DataError) as caught:
        run("new", part="2/2", resume=True)
    first, last = second[0] + 1, sum(second)
    told = f"t: lines {first} to {last} are not those that the unfinished run has read"
    assert str(caught.value) == told


def blocks_of(path: str):
    return [
        block.lines
        for block in PhraseTable(path, block_entries=BLOCK_ENTRIES, on_bad_line="keep").blocks(
            TableReader(PhraseTable(path))._lines()
        )
    ]


def spoil(name: str, **changes: object) -> None:
    path = Path(f"{name}.index.json")
    content = json.loads(path.read_text())
    for key, value in changes.items():
        place = content
        *way, last = key.split("__")
        for step in way:
            place = place[int(step) if step.isdigit() else step]
        place[last] = value(place[last]) if callable(value) else value
    path.write_text(json.dumps(content))


A, B = "new.part1-of-2", "new.part2-of-2"
SPOILED = {
    "a part is missing": (
        lambda: os.unlink(B),
        "new: part 2 of 2 is missing: `rescore --part 2/2` makes part 2/2",
    ),
    "all but one are missing": (
        lambda: (os.rename(A, "new.part2-of-30"), os.unlink(B)),
        "new: parts 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, "
        "14, 15, 16, 17, 18, 19, 20, 21 and 9 more of 30 are missing: "
        "`rescore --part 1/30` makes part 1/30",
    ),
    "no parts": (
        lambda: (os.unlink(A), os.unlink(B)),
        "new: there are no parts of it (new.part1-of-N, by `rescore --part 1/N`)",
    ),
    "parts of two divisions": (
        lambda: shutil.copy(A, "new.part1-of-3"),
        "new: there are parts of 2 and of 3: move away those that are not meant",
    ),
    "no index": (
        lambda: os.unlink(f"{B}.index.json"),
        f"{B}.index.json: cannot read: No such file or directory",
    ),
    "broken index": (
        lambda: Path(f"{B}.index.json").write_text("{"),
        f"{B}.index.json: not JSON: Expecting property name enclosed in double quotes "
        "(line 1, column 2)",
    ),
    "newer": (
        lambda: spoil(B, format=2),
        f"{B}.index.json: format 2 is newer than this program",
    ),
    "another's index": (
        lambda: shutil.copy(f"{A}.index.json", f"{B}.index.json"),
        f"{B}.index.json: is of part 1 of 2",
    ),
    "another model": (
        lambda: spoil(B, run=lambda run: run | {"columns": []}),
        None,
    ),
    "another table": (
        lambda: spoil(B, input__sha256="0"),
        None,
    ),
    "columns that are not there": (
        lambda: spoil(B, new=[7]),
        f"{B}.index.json: the columns in it do not fit together",
    ),
    "ranges of other columns": (
        lambda: spoil(B, blocks__0__ranges=[[0, 0], [0, 0]]),
        f"{B}.index.json: the columns in it do not fit together",
    ),
    "blocks lost": (
        lambda: spoil(B, blocks=lambda blocks: blocks[:-1]),
        f"{B}.index.json: 6 blocks, where the part has 7",
    ),
}


@pytest.mark.parametrize("case", SPOILED)
def test_what_is_not_whole_is_refused(table, case):
    parts_of("new", 2)
    change, message = SPOILED[case]
    digest = json.loads(Path(f"{A}.index.json").read_text())["input"]["sha256"]
    columns = json.loads(Path(f"{A}.index.json").read_text())["run"]["columns"]
    messages = {
        "another model": f"is of a run with another columns ([]; part 1 has {columns})",
        "another table": f"is of a run with another table (0; part 1 has {digest})",
    }
    change()
    with pytest.raises(DataError) as caught:
        JoinRequest("new")
    assert str(caught.value) == (message or f"{B}.index.json: {messages[case]}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-1], "bytes {start} to {end} are not those that its index tells of"),
        (lambda text: b"x" + text[1:], "bytes 0 to {first} are not those that its index tells of"),
        (lambda text: text + b"x", "goes on where its index says that it ends"),
    ],
)
def test_a_part_that_was_damaged(table, run_lines, change, message):
    parts_of("new", 2)
    blocks = json.loads(Path(f"{A}.index.json").read_text())["blocks"]
    ends = [0, *(block["end"] for block in blocks)]
    Path(A).write_bytes(change(Path(A).read_bytes()))
    expected = message.format(start=f"{ends[-2]:,}", end=f"{ends[-1]:,}", first=f"{ends[1]:,}")
    code, (line,) = run_lines("join", "new", "--quiet")
    assert code == 1
    more = ": make the part again" * ("bytes" in message)
    assert line == f"error: {A}: {expected}{more}"
    names = chain.from_iterable((name, f"{name}.index.json") for name in (A, B))
    assert sorted(os.listdir()) == sorted(["t", *names])  # no output, and all parts


@pytest.fixture
def run_lines(capsys):
    def running(*arguments: str) -> tuple[int, list[str]]:
        capsys.readouterr()
        code = main([*arguments])
        return code, capsys.readouterr().err.splitlines()

    return running


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimate": True}, "--part is of a run, and --estimate makes none"),
        ({"output": "-"}, "--part needs a file as OUTPUT, not -"),
        ({"table": "folder"}, "--part: PHRASE_TABLE must be a file, not a folder"),
    ],
)
def test_what_a_part_cannot_be(table, options, message):
    os.mkdir("folder")
    given = {"table": "t", "output": "new", "models": (Path("m"),), "part": TablePart(1, 2)}
    with pytest.raises((UsageError, DataError)) as caught:
        RescoreRequest(**(given | options))
    assert str(caught.value) == message


@pytest.mark.parametrize("option", ["--moses-ini ini --moses-ini-out new.ini", "--weight 0.2"])
def test_a_part_writes_no_ini(table, run_lines, option):
    (table / "ini").write_text(TOY_INI.format("t").replace("features=2", "features=4"))
    save_model(table / "rnn")
    name = option.partition(" ")[0]
    told = f"error: --part writes no moses.ini: give {name} to `join`"
    assert run_lines(*f"rescore t new --model rnn --part 1/2 {option}".split()) == (2, [told])


@pytest.mark.parametrize("output", ["t", "./rnn/model.safetensors"])
def test_the_whole_overwrites_no_input(table, run_lines, output):
    save_model(table / "rnn")
    told = f"error: {output}: the output would overwrite the input"
    command = f"rescore t {output} --model rnn --part 1/2"
    assert run_lines(*command.split()) == (1, [told])


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "1/2/3", "-1/2", "²/3", ""])
def test_parts_that_cannot_be(table, run_lines, text):
    save_model(table / "rnn")
    code, lines = run_lines("rescore", "t", "new", "--model", "rnn", f"--part={text}")
    assert code == 2
    shown = text.encode("ascii", "backslashreplace").decode() if text == "²/3" else text
    assert lines[0].startswith("error: --part must be I/N, with I from 1 to N, say 2/8, not ")
    assert text in lines[0] or shown in lines[0]


@pytest.mark.parametrize("there", [True, False])
def test_an_ini_of_another_table(table, run_lines, there):
    """Of the same name; where the parts' own table cannot be seen, names are compared."""
    os.mkdir("x")
    shutil.move("t", "x/t")
    os.chdir("x")
    parts_of("new", 2)
    os.chdir("..")
    text = TOY_INI.format("y/t" if there else "other").replace("features=2", "features=4")
    (table / "ini").write_text(text.replace("0.2 0.3", "0.2 0.3 0.1 0.1"))
    os.mkdir("y")
    shutil.copy("x/t", "y/t")
    if not there:
        os.unlink("x/t")
    code, (line,) = run_lines("join", "x/new", "--moses-ini", "ini")
    assert code == 1
    assert line.startswith("error: ini:")
    here = Path("x/t").absolute()
    told = f": names y/t, not {here}" if there else ": names other, but the parts are of t"
    assert line.endswith(told)


def test_parts_of_standard_input(table, run_lines):
    lines = [line for line in (table / "t").read_bytes().splitlines(True) if b"no sc" not in line]
    (table / "t").write_bytes(b"".join(lines))
    save_model(table / "rnn")
    for number in (1, 2):
        command = f"rescore - new --model rnn --threads 1 --part {number}/2"
        with open("t", "rb") as stdin:
            done = program(*command.split(), stdin=stdin)
        assert done.returncode == 0, done.stderr
    text = TOY_INI.format("t").replace("features=2", "features=4")
    (table / "ini").write_text(text.replace("0.2 0.3", "0.2 0.3 0.1 0.1"))
    code, lines = run_lines(*["join", "new", "--moses-ini", "ini", "--moses-ini-out", "out.ini"])
    assert (code, lines[-1]) == (0, "out.ini: TM0 with 5 scores; tune it")
    assert b"path=new" in (table / "out.ini").read_bytes()


def test_what_lies_beside_parts(table, run_lines):
    parts_of("new", 2)
    for name in ("new.part1-of-0", "new.part0-of-2", "new.part1-of-2x", "new.part1-of-9999999"):
        Path(name).write_text("")
    assert main(["join", "new", "--keep-parts", "--quiet"]) == 0
    os.unlink(A)
    told = (
        "error: new: part 1 of 2 is missing: `rescore --part 1/2` makes part 1/2; the table is "
        "there: if it was joined already, delete the other parts"
    )
    assert run_lines("join", "new") == (1, [told])
    os.unlink(B)
    (line,) = run_lines("join", "new")[1]
    assert line.endswith(
        "(new.part1-of-N, by `rescore --part 1/N`), but it is there: joined already?"
    )


def test_a_part_that_was_made_anew_stays(table):
    parts_of("new", 2)
    request = JoinRequest("new")
    _ = request.indexes
    run("new", ONE, part="2/2")
    request.remove_parts()
    assert not Path(A).exists()
    assert Path(B).exists()
    assert Path(f"{B}.index.json").exists()


def test_standard_output_has_no_parts(table, run_lines):
    told = "error: OUTPUT names the parts: it must be a file, not -"
    assert run_lines("join", "-") == (2, [told])
