"""Binary tables: what a format cannot hold; and real ones by real Moses."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from toys import DATA

from moses_integration.cli import main
from moses_integration.decoder.binarization import (
    FORMATS,
    BinarizeRequest,
    BinarySettings,
    TableFacts,
    inspect_table,
    make_binary,
    sorted_copy,
)
from moses_integration.decoder.programs import Moses, ProgramError
from moses_integration.formats.moses_ini import MosesIni
from moses_integration.system.filtering import filter_model
from phrase_scorer.errors import DataError, UsageError

GOOD = b"a b ||| x y ||| 0.5 1 ||| 0-0 1-1 ||| 1 1 1\na ||| x ||| 0.5 1 ||| 0-0 ||| 1 1 1 ||| |||\n"


def test_commands_have_the_number_of_scores():
    table, output, settings = Path("/t.gz"), Path("/out"), BinarySettings(7, 1, 3)
    facts = TableFacts(6, (2, 1))
    commands = {
        kind: form.command(table, output, facts, settings) for kind, form in FORMATS.items()
    }
    assert commands == {
        "probing": ["--num-scores", "6", "--log-prob", "--input-pt", table, "--output-dir", output],
        "ondisk": ["2", "1", "6", "7", "1", table, output],
        "compact": ["-in", table, "-out", output, "-nscores", "6", "-threads", "3"],
    }


# -- the text table --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_good_lines(kind, tmp_path):
    (tmp_path / "t").write_bytes(GOOD)
    assert inspect_table(tmp_path / "t", kind, show_progress=False) == TableFacts(2)


def test_factors(tmp_path):
    (tmp_path / "t").write_bytes(b"a|N b|N ||| x ||| 1 ||| 0-0 ||| 1\n")
    assert inspect_table(tmp_path / "t", "ondisk", show_progress=False) == TableFacts(1, (2, 1))


UNREADY = {
    "two blanks": b"b ||| x ||| 0.5  1 ||| 0-0 ||| 1\n",
    "tab": b"b ||| x\ty ||| 0.5 1 ||| 0-0 ||| 1\n",
    "CRLF": b"b ||| x ||| 0.5 1 ||| 0-0 ||| 1\r\n",
    "blank before": b" b ||| x ||| 0.5 1 ||| 0-0 ||| 1\n",
    "bars without blanks": b"b|||x|||0.5 1|||0-0|||1\n",
    "empty fields": b"b ||| x ||| 0.5 1 ||| 0-0 ||| 1 ||||||\n",
    "order": b"A ||| x ||| 0.5 1 ||| 0-0\n",
    "source again": b"a b ||| z ||| 0.5 1 ||| 0-0\n",
    # CreateOnDiskPt loses it: what begins with the same words must stand together, too
    "prefix again": b"b ||| x ||| 1 1 ||| 0-0\na a ||| z ||| 0.5 1 ||| 0-0\n",
}


@pytest.mark.parametrize("what", UNREADY)
def test_what_needs_a_sorted_copy(what, tmp_path):
    table = tmp_path / "t"
    table.write_bytes(GOOD + UNREADY[what])
    assert not inspect_table(table, "probing", show_progress=False).ready
    copy = sorted_copy(table, tmp_path, tmp_path / "log")
    assert inspect_table(copy, "probing", show_progress=False) == TableFacts(2)
    entries = [line.replace(b"|||", b" ||| ").split() for line in table.read_bytes().splitlines()]
    assert sorted(line.split() for line in copy.read_bytes().splitlines()) == sorted(entries)
    again = subprocess.run(["sort", "-c", copy], env={"LC_ALL": "C", "PATH": os.defpath})
    assert again.returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"t", "log", "sorted"}


def test_order_across_blocks(tmp_path):
    """Entries of several blocks; "a b" before "a", and "a!" behind "a": the order of lines."""
    many = [b"x%05d ||| x ||| 1\n" % number for number in range(20_000)]
    for sources, ready in (((b"a b", b"a", b"b"), True), ((b"a", b"a b", b"b"), False)):
        few = [b"%b ||| x ||| 1\n" % source for source in sources]
        (tmp_path / "t").write_bytes(b"".join([*few, *many]))
        assert inspect_table(tmp_path / "t", "ondisk", show_progress=False).ready == ready
        assert (sorted(few) == few) == ready
    (tmp_path / "t").write_bytes(b"".join([*many, *many[:1]]))
    assert not inspect_table(tmp_path / "t", "ondisk", show_progress=False).ready


@pytest.mark.parametrize(
    ("kind", "line", "message"),
    [
        ("probing", b"b ||| ||| 0.5 1 ||| 0-0 ||| 1",
         "empty target: a binary table cannot hold it"),
        ("ondisk", b"b |||  ||| 0.5 1 ||| ||| 1",
         "empty target: a binary table cannot hold it"),
        ("probing", b"b ||| x ||| 0.5 1 ||| 0-0 ||| 1 ||| ||| {{LexRO 0.1}}",
         "LexRO property: CreateProbingPT would take its numbers for scores"),
        ("ondisk", b"b ||| x\0 ||| 0.5 1",
         "zero byte: CreateOnDiskPt would end the line there"),
        ("compact", b"b ||| x ||| 0.5 1",
         "no alignment: processPhraseTableMin wants one in every line"),
        ("compact", b"b ||| x ||| 0.5 1 |||  ||| 1",
         "no alignment: processPhraseTableMin wants one in every line"),
        ("compact", b"b ||| x ||| 0.5 1 ||| 0-0 0-1 ||| 1",
         'alignment point "0-1" does not fit the phrases'),
        ("compact", b"b ||| x ||| 0.5 1 ||| 0- ||| 1",
         'alignment point "0-" does not fit the phrases'),
        ("ondisk", b"b ||| z ||| 0.5 1 1 ||| 0-0", "3 scores, expected 2"),
        ("probing", b"b ||| z ||| 0.5 ||| 0-0", "1 scores, expected 2"),
    ],
)  # fmt: skip
def test_lines_that_a_format_cannot_hold(kind, line, message, tmp_path):
    table = tmp_path / "t"
    table.write_bytes(GOOD + line + b"\n")
    with pytest.raises(DataError) as caught:
        inspect_table(table, kind, show_progress=False)
    assert str(caught.value).startswith(f"{table}:3: {message}: ")


# -- real tables -----------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    """data/'s model, filtered for the first 12 sentences of its test set."""
    if shutil.which("moses") is None:
        pytest.skip("moses is not on PATH")
    lines = (DATA / "corpus" / "test.en").read_bytes().split(b"\n")[:12]
    (tmp_path / "t.en").write_bytes(b"\n".join(lines) + b"\n")
    (tmp_path / "model").mkdir()
    ini = MosesIni.read(DATA / "moses.ini")
    filter_model(ini, [tmp_path / "t.en"], tmp_path / "model", show_progress=False)
    return tmp_path


@pytest.mark.moses
@pytest.mark.parametrize("kind", FORMATS)
def test_real_binary_tables_decode_as_the_text(kind, small, scorer, capsys):
    require(kind)
    model = small / "model"
    arguments = ["rescore", str(model), str(small / "rnn"), "--unknown-words", "--quiet"]
    assert main([*arguments, "--model", str(scorer_path(small, scorer))]) == 0
    capsys.readouterr()
    ini, out = small / "rnn" / "moses.ini", small / "binary.ini"
    arguments = [
        "binarize", str(small / "rnn" / "phrase-table.gz"), "--format", kind, "--quiet",
        "--output", str(small / kind), "--moses-ini", str(ini), "--moses-ini-out", str(out),
        "--check-input", str(small / "t.en"), "--check-sentences", "6",
    ]  # fmt: skip
    assert main(arguments) == 0
    said = capsys.readouterr().err
    assert f"{small / kind}: 6 scores; " in said
    assert "moses: the same n-best lists with both tables (6 sentences)" in said
    assert "moses2: the same n-best lists" in said or not FORMATS[kind].moses2
    line = next(line for line in out.read_text().splitlines() if FORMATS[kind].class_name in line)
    assert f"num-features=6 path={small / kind}" in line
    assert main(arguments) == 2
    name = f"{small / kind}{FORMATS[kind].suffix}"
    assert capsys.readouterr().err == f"error: --output {name} is there already\n"


def scorer_path(folder: Path, scorer) -> Path:
    """A model directory with the scorer's own content."""
    from phrase_scorer.models.directory import ModelDirectory

    directory = ModelDirectory(folder / "random")
    directory.create(scorer.model.config, (scorer.source_vocabulary, scorer.target_vocabulary), {})
    directory.save_weights(scorer.model.state_dict())
    return folder / "random"


@pytest.mark.moses
def test_an_ini_that_does_not_fit(small, capsys):
    ini = small / "model" / "moses.ini"
    ini.write_bytes(
        ini.read_bytes()
        .replace(b"num-features=4", b"num-features=5")
        .replace(b"TranslationModel0= 0.2", b"TranslationModel0= 0.2 0.2")
    )
    table = str(small / "model" / "phrase-table.gz")
    arguments = ["binarize", table, "--format", "ondisk", "--output", str(small / "o"), "--quiet"]
    assert main([*arguments, "--moses-ini", str(ini)]) == 1
    assert "num-features is 5 but the phrase table has 4 scores" in capsys.readouterr().err
    assert not (small / "o").exists()


# Given as they are, all make a table that decodes otherwise (compact: or none), mostly unsaid.
MISREAD = {
    "two blanks in a source": (b"a  b ||| x y ||| 0.5 1 0.2 ||| 0-0 1-1\n", "probing compact"),
    "two blanks in a target": (b"a ||| x  y ||| 0.5 1 0.2 ||| 0-0\n", "probing"),
    "two blanks in scores": (b"a ||| x ||| 0.5  1 0.2 ||| 0-0\n", "probing"),
    "tab in a source": (b"a\tb ||| x y ||| 0.5 1 0.2 ||| 0-0\n", "probing compact ondisk"),
    "tab in scores": (b"a ||| x ||| 0.5\t1 0.2 ||| 0-0\n", "probing ondisk"),
    "CRLF": (b"a ||| x ||| 0.5 1 0.2 ||| 0-0 ||| 1 1 1 ||| |||\r\n", "ondisk"),
    "bars without blanks": (b"a|||x|||0.5 1 0.2|||0-0\n", "ondisk"),
    "source again": (b"b a ||| y ||| 0.5 1 0.2 ||| 0-0\na ||| x ||| 0.5 1 0.2 ||| 0-0\n"
                     b"b a ||| z ||| 0.5 1 0.4 ||| 0-0\n", "probing compact ondisk"),
    "prefix again": (b"a ||| x ||| 0.5 1 0.2 ||| 0-0\nb ||| y ||| 0.5 1 0.2 ||| 0-0\n"
                     b"a b ||| z ||| 0.5 1 0.2 ||| 0-0\n", "compact ondisk"),
}  # fmt: skip
WAYS = [(what, kind) for what, (_, kinds) in MISREAD.items() for kind in kinds.split()]
SMALL_INI = """[input-factors]
{lines}
[mapping]
0 T 0
[feature]
UnknownWordPenalty
WordPenalty
Distortion
PhraseDictionaryMemory name=TM0 num-features=3 path=t input-factor={row} output-factor={row}
[weight]
TM0= 1 1 1
WordPenalty0= 0.1
Distortion0= 0.1
"""


def check_small(folder: Path, kind: str, table: bytes, sentences: str, factors: str = "0") -> int:
    """The exit code of binarize with its check by decoding, of a table named t."""
    (folder / "t").write_bytes(table)
    (folder / "s").write_text(sentences)
    ini = SMALL_INI.format(lines=factors.replace(",", "\n"), row=factors)
    (folder / "ini").write_text(ini)
    arguments = ["--moses-ini", str(folder / "ini"), "--check-input", str(folder / "s"), "--quiet"]
    command = ["binarize", str(folder / "t"), "--format", kind, "--output", str(folder / "o")]
    return main([*command, *arguments])


def require(kind: str) -> None:
    for program in ("moses", FORMATS[kind].program):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not on PATH")


@pytest.mark.moses
@pytest.mark.parametrize(("what", "kind"), WAYS)
def test_what_programs_misread_decodes_as_the_text(what, kind, tmp_path, capsys):
    require(kind)
    table = MISREAD[what][0] + b"c ||| v ||| 0.5 1 0.3 ||| 0-0 ||| 1 1 1\n"
    assert check_small(tmp_path, kind, table, "a\nb\na b\nb a c\n") == 0
    said = capsys.readouterr().err
    assert f"{tmp_path}/t: not sorted, or more than single blanks" in said
    assert "moses: the same n-best lists with both tables (4 sentences)" in said
    names = {"t", "s", "ini", "o.log", f"o{FORMATS[kind].suffix}"}
    assert {path.name for path in tmp_path.iterdir()} == names


@pytest.mark.moses
@pytest.mark.parametrize("kind", FORMATS)
def test_factors_decode_as_the_text(kind, tmp_path, capsys):
    require(kind)
    table = b"a|N ||| x|M ||| 0.5 1 0.2 ||| 0-0\nb|N ||| y|M ||| 0.5 1 0.3 ||| 0-0\n"
    assert check_small(tmp_path, kind, table, "a|N b|N\n", "0,1") == 0
    assert "the same n-best lists" in capsys.readouterr().err


@pytest.mark.moses
def test_a_table_that_decodes_otherwise_is_told(tmp_path, capsys):
    """An on-disk table with one target a source, of two: what --table-limit does."""
    require("ondisk")
    table = b"a ||| x ||| 0.5 1 0.2 ||| 0-0\na ||| y ||| 0.5 1 0.1 ||| 0-0\n"
    assert check_small(tmp_path, "ondisk", table, "a\n") == 0
    shutil.rmtree(tmp_path / "o")
    capsys.readouterr()
    command = ["binarize", "t", "--format", "ondisk", "--output", "o", "--table-limit", "1"]
    files = ["--moses-ini", "ini", "--check-input", "s", "--moses-ini-out", "bin.ini", "--quiet"]
    with contextlib.chdir(tmp_path):
        assert main([*command, *files]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    what = 'sentence 0, "y" is in one n-best list only'
    assert said == f"error: the binary table decodes otherwise: {what}"
    assert not (tmp_path / "bin.ini").exists()


EARLY = {
    "no such input": (["--check-input", "no"], 1, "no: cannot read: No such file or directory"),
    "empty input": (["--check-input", "empty"], 1, "empty: no sentence in it to decode"),
    "no folder": (["--moses-ini-out", "no/ini"], 2, "--moses-ini-out: there is no folder no"),
    "blank": (["--output", "a b"], 2, 'moses.ini cannot hold the path "'),
    "no such table": (["--table-name", "TM7"], 2, 'ini: no phrase table "TM7" among TM0'),
}


@pytest.mark.moses
@pytest.mark.parametrize("what", EARLY)
def test_told_before_anything_is_written(what, tmp_path, capsys):
    require("ondisk")
    assert check_small(tmp_path, "ondisk", b"a ||| x ||| 0.5 1 0.2 ||| 0-0\n", "a\n") == 0
    (tmp_path / "empty").write_text("\n\n")
    before = sorted(tmp_path.iterdir())
    capsys.readouterr()
    arguments, code, message = EARLY[what]
    command = ["binarize", "t", "--format", "ondisk", "--moses-ini", "ini", *arguments]
    command += ["--output", "p"] * ("--output" not in arguments)
    with contextlib.chdir(tmp_path):
        assert main(command) == code
    said = capsys.readouterr().err
    assert said.startswith(f"error: {message}")
    assert said.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.moses
def test_nothing_is_left_of_a_program_that_fails(tmp_path, monkeypatch):
    require("probing")
    table, log, out = tmp_path / "t.gz", tmp_path / "o.log", tmp_path / "o"
    table.write_bytes(b"a ||| b ||| 1 1 1 1 ||| 0-0 ||| 1\n")
    (tmp_path / "o.partial").mkdir()  # of somebody
    form = replace(FORMATS["probing"], command=lambda *_: ["--no-such-option"])
    monkeypatch.setitem(FORMATS, "probing", form)
    with pytest.raises(ProgramError) as caught:
        make_binary(BinarizeRequest(Moses(), table, "probing", out, quiet=True))
    assert str(caught.value).startswith("CreateProbingPT failed with exit code 1: ")
    assert str(caught.value).endswith(f"; its log is {log}")
    assert log.read_text().startswith("# Moses ")
    assert {path.name for path in tmp_path.iterdir()} == {"t.gz", "o.log", "o.partial"}


@pytest.mark.moses
def test_a_score_to_sort_by_that_is_not_there(tmp_path):
    """It is of no matter to the formats that do not sort."""
    require("ondisk")
    require("probing")
    table = tmp_path / "t.gz"
    table.write_bytes(GOOD)
    make_binary(BinarizeRequest(Moses(), table, "probing", tmp_path / "p", quiet=True))
    with pytest.raises(UsageError) as caught:
        make_binary(BinarizeRequest(Moses(), table, "ondisk", tmp_path / "o", quiet=True))
    assert str(caught.value) == "--sort-score 2: there are 2 scores, from 0"


@pytest.mark.moses
@pytest.mark.parametrize(("name", "kind"), [("t", "gz"), ("t.gz", "bz2"), ("t.xz", "xz")])
def test_compressions_that_moses_does_not_read(name, kind, tmp_path):
    require("ondisk")
    table = tmp_path / name
    compress = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[kind]
    table.write_bytes(compress(GOOD))
    with pytest.raises(DataError) as caught:
        make_binary(BinarizeRequest(Moses(), table, "ondisk", tmp_path / "o"))
    what = "Moses' programs read plain text, and gz where it ends in .gz"
    assert str(caught.value) == f"{table}: {kind} compressed: {what}"


def test_a_build_without_the_program(tmp_path, monkeypatch):
    (tmp_path / "t").write_bytes(GOOD)
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.delenv("MOSES_BIN", raising=False)
    with pytest.raises(UsageError, match=r"processPhraseTableMin .* --with-cmph"):
        make_binary(BinarizeRequest(Moses(), tmp_path / "t", "compact", tmp_path / "o"))


REFUSED = {
    "ini onto table": (
        ["--moses-ini", "ini", "--moses-ini-out", "t"],
        "--moses-ini-out would overwrite PHRASE_TABLE: t",
    ),
    "ini onto itself": (
        ["--moses-ini", "ini", "--moses-ini-out", "ini"],
        "--moses-ini-out would overwrite --moses-ini: ini",
    ),
    "ini onto sentences": (
        ["--moses-ini", "ini", "--moses-ini-out", "s", "--check-input", "s"],
        "--moses-ini-out would overwrite --check-input: s",
    ),
    "log onto ini": (
        ["--moses-ini", "o.log"],
        "--output would overwrite --moses-ini: o.log",
    ),
    "there already": (["--output", "s"], "--output s is there already"),
    "no folder": (["--output", "no/o"], "--output: there is no folder no"),
    "no ini": (["--check-input", "s"], "--check-input needs --moses-ini"),
    "no ini for a table": (["--table-name", "TM0"], "--table-name needs --moses-ini"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_before_moses_is_asked(what, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("t", "s", "ini", "o.log"):
        Path(name).write_bytes(GOOD)
    options, message = REFUSED[what]
    command = ["binarize", "t", "--format", "ondisk", "--moses-bin", "none", *options]
    assert main([*command, *["--output", "o"] * ("--output" not in options)]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert {path.name for path in tmp_path.iterdir()} == {"t", "s", "ini", "o.log"}
    assert {Path(name).read_bytes() for name in ("t", "s", "ini", "o.log")} == {GOOD}
