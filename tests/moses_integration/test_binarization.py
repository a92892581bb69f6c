"""Binary tables: what a format cannot hold, comparing n-best lists; and real ones by real Moses."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from moses_integration.binarization import (
    FORMATS,
    BinarySettings,
    binarize,
    check_lines,
    compare_nbest,
)
from moses_integration.cli import main
from moses_integration.filtering import filter_model
from moses_integration.moses_ini import MosesIni
from moses_integration.programs import Moses
from phrase_scorer.errors import DataError, PhraseScorerError, UsageError

DATA = Path(__file__).parents[2] / "data"
GOOD = b"a b ||| x y ||| 0.5 1 ||| 0-0 1-1 ||| 1 1 1\na ||| x ||| 0.5 1 ||| 0-0 ||| 1 1 1 ||| |||\n"


def test_commands_have_the_number_of_scores():
    table, output, settings = Path("/t.gz"), Path("/out"), BinarySettings(7, 1, 3)
    commands = {kind: form.command(table, output, 6, settings) for kind, form in FORMATS.items()}
    assert commands == {
        "probing": ["--num-scores", "6", "--log-prob", "--input-pt", table, "--output-dir", output],
        "ondisk": ["1", "1", "6", "7", "1", table, output],
        "compact": ["-in", table, "-out", output, "-nscores", "6", "-threads", "3"],
    }


@pytest.mark.parametrize("kind", FORMATS)
def test_good_lines(kind, tmp_path):
    (tmp_path / "t").write_bytes(GOOD)
    assert check_lines(tmp_path / "t", kind, show_progress=False) == 2


@pytest.mark.parametrize(
    ("kind", "line", "message"),
    [
        ("probing", b"b ||| x ||| 0.5  1 ||| 0-0 ||| 1",
         "two blanks or a tab: CreateProbingPT would read a score too many"),
        ("probing", b"b ||| x\ty ||| 0.5 1 ||| 0-0 ||| 1",
         "two blanks or a tab: CreateProbingPT would read a score too many"),
        ("ondisk", b"b |||  ||| 0.5 1 ||| ||| 1",
         "empty target: an on-disk table cannot hold it"),
        ("compact", b"b ||| x ||| 0.5 1",
         "no alignment: processPhraseTableMin wants one in every line"),
        ("compact", b"b ||| x ||| 0.5 1 |||  ||| 1",
         "no alignment: processPhraseTableMin wants one in every line"),
        ("compact", b"A ||| x ||| 0.5 1 ||| 0-0",
         "not in the order of LC_ALL=C sort, which processPhraseTableMin wants"),
        ("probing", b"a b ||| z ||| 0.5 1 ||| 0-0",
         "this source phrase stands further up, too: its entries must stand together"),
        ("ondisk", b"a b ||| z ||| 0.5 1 ||| 0-0",
         "this source phrase stands further up, too: its entries must stand together"),
        ("ondisk", b"b ||| z ||| 0.5 1 1 ||| 0-0", "3 scores, expected 2"),
    ],
)  # fmt: skip
def test_lines_that_a_format_cannot_hold(kind, line, message, tmp_path):
    table = tmp_path / "t"
    table.write_bytes(GOOD + line + b"\n")
    with pytest.raises(DataError) as caught:
        check_lines(table, kind, show_progress=False)
    assert str(caught.value).startswith(f"{table}:3: {message}: ")


NBEST = (
    "0 ||| a b  ||| LM0= -1 TM0= -2 -3.5 TM_x= 1 ||| -4\n"
    "0 ||| a c  ||| LM0= -2 TM0= -2 -3.5 ||| -5\n"
    "0 ||| a d  ||| LM0= -3 TM0= -2 -3.5 ||| -5\n"
    "0 ||| last  ||| LM0= -4 TM0= -2 -3.5 ||| -9\n"
)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("", "", None),
        ("a b", "a b", None),
        ("-3.5 ||| -5\n0 ||| a d  ||| LM0= -3", "-3.5 ||| -5\n0 ||| a d  ||| LM0= -3", None),
        (" TM_x= 1", "", None),  # binary tables keep no sparse features
        ("last", "other", None),  # of several with the last total, one list may show another
        ("LM0= -1 ", "LM0= -1.5 ", "sentence 0, 'a b': no such hypothesis with these features"),
        ("a b ", "a x ", "sentence 0, 'a b': no such hypothesis with these features"),
        ("TM0= -2 -3.5 TM_x", "TM0= -2 TM_x",
         "sentence 0, 'a b': no such hypothesis with these features"),
        ("||| -4", "||| -4.1", "sentence 0, 'a b': total -4, not -4.1"),
    ],
)  # fmt: skip
def test_comparing_lists(old, new, message, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text(NBEST)
    other.write_text(NBEST.replace(old, new, 1))
    if message is None:
        compare_nbest(one, other)
        return
    with pytest.raises(PhraseScorerError) as caught:
        compare_nbest(one, other)
    assert str(caught.value) == f"the binary table decodes otherwise: {message}"


def test_ties_may_stand_in_another_order(tmp_path):
    lines = NBEST.splitlines(keepends=True)
    (tmp_path / "one").write_text(NBEST)
    (tmp_path / "other").write_text("".join([lines[0], lines[2], lines[1], lines[3]]))
    compare_nbest(tmp_path / "one", tmp_path / "other")


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
    if shutil.which(FORMATS[kind].program) is None:
        pytest.skip(f"{FORMATS[kind].program} is not on PATH")
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
    from phrase_scorer.checkpoint import ModelDirectory

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


@pytest.mark.moses
def test_nothing_is_left_of_a_program_that_fails(small, tmp_path):
    table, log = tmp_path / "t.gz", tmp_path / "log"
    table.write_bytes(b"a ||| b ||| 1 1 1 1 ||| 0-0 ||| 1\n")
    place = tmp_path / "no" / "o"  # there is no such folder
    with pytest.raises(PhraseScorerError) as caught:
        binarize(Moses(), table, place, "probing", log=log, show_progress=False)
    assert str(caught.value).startswith("CreateProbingPT ")
    assert str(caught.value).endswith(f"; its log is {log}")
    assert log.read_text().startswith("# Moses ")
    assert not (tmp_path / "no").exists()


@pytest.mark.moses
def test_a_score_to_sort_by_that_is_not_there(small, tmp_path):
    table = tmp_path / "t.gz"
    table.write_bytes(GOOD)
    with pytest.raises(UsageError) as caught:
        binarize(Moses(), table, tmp_path / "o", "ondisk", log=tmp_path / "l", show_progress=False)
    assert str(caught.value) == "--sort-score 2: there are 2 scores, from 0"


def test_refusals(tmp_path, monkeypatch):
    table = tmp_path / "t"
    table.write_bytes(b"\x1f\x8b")
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.delenv("MOSES_BIN", raising=False)
    with pytest.raises(UsageError, match=r"processPhraseTableMin .* --with-cmph"):
        binarize(Moses(), table, tmp_path / "o", "compact", log=tmp_path / "l")
