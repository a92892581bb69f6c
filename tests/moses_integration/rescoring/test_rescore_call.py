"""`rescore` in one call: the bytes that the command writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from toys import TOY_INI, TOY_TABLE, names, save_model

from moses_integration import rescore
from phrase_scorer import DataError, UsageError


@pytest.fixture
def model(folder) -> Path:
    (folder / "t").write_bytes(TOY_TABLE)
    (folder / "ini").write_text(TOY_INI.format("t"))
    return save_model(folder / "rnn")


def test_the_bytes_of_the_command(run, model, folder):
    inis = ["--moses-ini", "ini", "--moses-ini-out", "one.ini"]
    how = ["--unknown-words", "--floor", "-5", "--device", "cpu"]
    assert run("rescore", "t", "one.gz", "--model", model, *how, *inis).code == 0
    counts = rescore(
        "t", "two.gz", models=[model], unknown_words=True, floor=-5,
        moses_ini="ini", moses_ini_out=folder / "two.ini",
    )  # fmt: skip
    assert (counts.entries, counts.bad_lines) == (4, 0)
    one, two = folder / "one.gz", folder / "two.gz"
    assert one.read_bytes() == two.read_bytes()
    for suffix in (".signature.json",):
        assert Path(f"{one}{suffix}").read_bytes() == Path(f"{two}{suffix}").read_bytes()
    named = (folder / "two.ini").read_text()
    assert named.replace(f"{folder}/two.gz", "two.gz") == (folder / "one.ini").read_text().replace(
        "one.gz", "two.gz"
    )


def test_what_cannot_be(model, folder):
    with pytest.raises(UsageError, match="give --model DIR"):
        rescore("t", "o")
    (folder / "t").write_bytes(b"a ||| b\n")
    with pytest.raises(DataError, match=r"t:1: 2 fields, expected at least 3"):
        rescore("t", "o", models=[model])
    assert names(folder) == ["ini", "rnn", "t"]


def test_one_model_by_its_name_and_too_many_unknown_words(model, folder):
    rescore("t", "one", models=[model])
    rescore("t", "two", models=str(model))
    assert (folder / "one").read_bytes() == (folder / "two").read_bytes()
    (folder / "t").write_bytes(b"das Haus ||| the house ||| 1 1\n")
    with pytest.raises(DataError, match=r"t: 100% of the first 2 source words are unknown"):
        rescore("t", "three", models=model, max_unknown=0.5)
    with pytest.raises(UsageError, match="unknown treatment of bad lines 'zz'"):
        rescore("t", "three", models=model, on_bad_line="zz")
    assert "three" not in names(folder)
