"""ini and filter as a user meets them; tests of fitting and filtering have the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from moses_integration.cli import main

INI = "[feature]\nPhraseDictionaryMemory name=TM0 num-features=1 path=t\n[weight]\nTM0= 0.2\n"
ARPA = "\\data\\\nngram 1=1\nngram 2=0\n\n\\1-grams:\n-1\ta\n\n\\2-grams:\n\n\\end\\\n"


@pytest.fixture(autouse=True)
def folder(folder: Path) -> Path:
    """The current folder, with a model and a language model."""
    Path("moses.ini").write_text(INI)
    Path("t").write_text("a ||| b ||| 0.5\nb ||| c ||| 0.5\n")
    Path("lm.arpa").write_text(ARPA)
    return folder


def test_ini_adds_language_models(folder, capsys):
    arguments = ["ini", "moses.ini", "--in-place", "--weight", "0.3"]
    assert main([*arguments, "--language-model", "lm.arpa", "--language-model", "lm.arpa"]) == 0
    kenlm = "KENLM name=LM{} factor=0 path=" + f"{folder}/lm.arpa order=2\n"
    expected = INI.replace("[weight]", kenlm.format(0) + kenlm.format(1) + "[weight]")
    assert Path("moses.ini").read_text() == expected + "LM0= 0.3\nLM1= 0.3\n"
    fits, more = "TM0: 1 scores, as num-features says", "moses.ini: one more KENLM, lm.arpa"
    assert capsys.readouterr().err.splitlines() == [f"moses.ini:2: {fits}", more, more]


def test_ini_does_not_replace_the_language_model(capsys):
    code = main(["ini", "moses.ini", "--language-model", "lm.arpa", "--output", "./lm.arpa"])
    assert code == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "error: ./lm.arpa: the output would overwrite the input"
    assert Path("lm.arpa").read_text() == ARPA


def test_ini_may_be_its_own_output():
    Path("t").write_text("a ||| b ||| 0.5 1\n")
    assert main(["ini", "moses.ini", "--output", "moses.ini"]) == 0
    expected = INI.replace("num-features=1", "num-features=2").replace("0.2\n", "0.2 0.1\n")
    assert Path("moses.ini").read_text() == expected


def test_filter_takes_more_inputs_behind_the_first(folder, capsys):
    Path("in").write_text("x\n")
    Path("more").write_text("b\n")
    arguments = ["filter", "--moses-ini", "moses.ini", "--input", "in", "more"]
    assert main([*arguments, "--output-dir", "out", "--quiet"]) == 0
    said = ["t: 1 of 2 entries kept (50.0%)", "out/moses.ini names them"]
    assert capsys.readouterr().err.splitlines() == said
    assert main([*arguments, "--output-dir", "out"]) == 2
    expected = "error: --output-dir out is not empty; choose a new folder\n"
    assert capsys.readouterr().err == expected
