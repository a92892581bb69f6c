"""`phrase-scorer evaluate` as a user meets it: reports, files, messages, exit codes."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import sacrebleu

from moses_integration.cli.options import LANGUAGE

REFERENCE = ["le chat noir dort .", "la maison est bleue .", "il fait beau ici ."]
FILES = {
    "test.en": ["the black cat sleeps .", "the house is blue .", "the weather is fine here ."],
    "test.fr": REFERENCE,
    "second.fr": ["le chat noir dort bien .", "la maison bleue .", "il fait bon ici ."],
    "base.out": ["le chat noir dors .", "la maison est bleu .", "il fait beau ."],
    "new.out": ["le chat noir dort .", "la maison est bleu .", ""],
    "new2.out": ["le chat noir dort .", "la maison est bleue .", "il est beau ici ."],
    "short.out": ["le chat noir dort .", "la maison est bleue ."],
}


@pytest.fixture
def folder(folder: Path) -> Path:
    """The files, in the current folder."""
    for name, lines in FILES.items():
        Path(name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


@pytest.fixture
def run(folder, run):
    """Runs `evaluate` with the options of a line, and more."""
    return lambda line, *more: run("evaluate", *line.split(), *more)


def new_names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - set(FILES)


# -- what comes out --------------------------------------------------------------------------------


def test_scores_are_those_of_sacrebleu(run):
    ran = run(
        "--reference test.fr --reference second.fr base=base.out new=new.out new=new2.out "
        "--format json --samples 10 --seed 4"
    )
    content = json.loads(ran.out)
    assert (ran.code, ran.err) == (0, "")
    assert (content["baseline"], content["references"]) == ("base", 2)
    assert content["settings"]["samples"] == 10
    references = [FILES["test.fr"], FILES["second.fr"]]
    new = content["systems"][1]["scores"]["BLEU"]["runs"]
    assert new == [
        sacrebleu.corpus_bleu(FILES[name], references, tokenize="none", force=True).score
        for name in ("new.out", "new2.out")
    ]
    assert "seed:4" in content["signatures"]["BLEU"]
    assert content["systems"][1]["lengths"]["empty"] == 1


def test_options_reach_the_metrics(run):
    ran = run(
        "--reference test.fr base=base.out --detokenize fr --tokenize intl --lowercase "
        "--no-significance --format json"
    )
    content = json.loads(ran.out)
    assert content["settings"] == {
        "tokenize": "intl", "detokenize": "fr", "lowercase": True,
        "samples": 1000, "seed": 12345, "significance": False,
    }  # fmt: skip
    assert "case:lc|eff:no|tok:intl" in content["signatures"]["BLEU"]
    assert content["systems"][0]["scores"]["BLEU"]["interval"] is None


NO_FRENCH = (
    "Invalid value for '--detokenize': 'french' is not one of "
    f"{', '.join(map(repr, LANGUAGE.choices))}. See phrase-scorer evaluate --help."
)


@pytest.mark.parametrize(("form", "start"), [("text", "BLEU\n"), ("markdown", "### BLEU\n\n| ")])
def test_report_in_a_file(form, start, run, folder):
    ran = run(
        f"--reference test.fr base=base.out new=new.out --samples 9 --format {form} "
        "--output report --source test.en"
    )
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert new_names(folder) == {"report"}
    report = Path("report").read_text(encoding="utf-8")
    assert report.startswith(
        f"3 sentences; 1 reference; baseline: base; 9 samples, seed 12345\n\n{start}"
    )
    assert "the weather is fine here ." in report


def test_the_same_report_from_compressed_files_and_standard_input(run, monkeypatch):
    plain = run("--reference test.fr base=base.out new=new.out --samples 9")
    for name in ("test.fr", "new.out"):
        Path(f"{name}.gz").write_bytes(gzip.compress(Path(name).read_bytes()))
    stdin = io.TextIOWrapper(io.BytesIO(Path("base.out").read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    ran = run("--reference test.fr.gz base=- new=new.out.gz --samples 9")
    assert ran.code == 0
    assert ran.out == plain.out


def test_plot(run, folder):
    ran = run("--reference test.fr base=base.out new=new.out --samples 9 --plot plot.svg")
    assert ran.code == 0
    assert "system" in ran.out
    assert new_names(folder) == {"plot.svg"}


def test_plot_without_pyplot(folder):
    """Pyplot would look for a display, and keep figures alive."""
    code = (
        "import sys; from moses_integration.cli import main; "
        "main('evaluate --reference test.fr a=base.out b=new.out --plot p.png "
        "--no-significance --output r'.split()); sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert {"p.png", "r"} <= new_names(folder)


def test_a_file_name_may_hold_an_equals_sign(run):
    Path("a=b.out").write_bytes(Path("base.out").read_bytes())
    ran = run("--reference test.fr base=a=b.out --samples 2")
    assert ran.code == 0
    assert "\nbase  " in ran.out


def test_empty_reference_lines_are_told(run):
    Path("gaps.fr").write_text("le chat noir dort .\n \n\n", encoding="utf-8")
    ran = run("--reference gaps.fr base=base.out --samples 2")
    assert ran.code == 0
    assert ran.err == "warning: 2 lines of gaps.fr are empty\n"


def test_help_says_why_text_is_not_tokenized(run):
    told = " ".join(run("--help").out.split())
    assert "none, since Moses' output is tokenised already" in told


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("a=short.out", 1, "short.out: 2 lines, but test.fr has 3"),
        ("a=base.out a=short.out", 1, "short.out: 2 lines, but test.fr has 3"),
        ("a=base.out --reference short.out", 1, "short.out: 2 lines, but test.fr has 3"),
        ("a=base.out --source short.out", 1, "short.out: 2 lines, but test.fr has 3"),
        ("a=none.out", 1, "none.out: cannot read: No such file or directory"),
        ("a=latin.out", 1, 'latin.out:2: not UTF-8: "\\xe9"'),
        ("base.out", 2, "base.out: expected NAME=FILE"),
        ("=base.out", 2, "=base.out: expected NAME=FILE"),
        ("a=", 2, "a=: expected NAME=FILE"),
        ("a\x07=base.out", 2, "'a\\x07': a name must be printable"),
        ("a=- b=-", 2, "standard input (-) can be read only once"),
        ("a=base.out --detokenize french", 2, NO_FRENCH),
        ("a=base.out --output base.out", 2, "--output base.out is one of the inputs"),
        ("a=base.out b=new.out --plot new.out", 2, "--plot new.out is one of the inputs"),
        (
            "a=base.out b=new.out --plot p.gif", 2,
            "p.gif: the name of a plot must end in .png, .svg or .pdf",
        ),
        ("a=base.out --plot p.png", 2, "--plot needs a system beside the baseline"),
        ("a=base.out b=new.out --plot none/p.png", 2, "--plot: there is no folder none"),
        (
            "a=base.out b=new.out --plot p.png --output p.png", 2,
            "--plot and --output are both p.png",
        ),
        ("a=base.out --output none/r", 1, "none/r: cannot write: No such file or directory"),
    ],
)  # fmt: skip
def test_errors_are_one_line(line, code, message, run, folder):
    Path("latin.out").write_bytes(b"a\n\xe9\nb\n")
    ran = run("--reference test.fr --samples 2", *line.split(" "))
    assert (ran.code, ran.out, ran.err) == (code, "", f"error: {message}\n")
    assert new_names(folder) == {"latin.out"}


def test_an_empty_reference(run, folder):
    Path("empty.fr").write_bytes(b"")
    ran = run("--reference empty.fr a=empty.fr --output report")
    assert (ran.code, ran.err) == (1, "error: empty.fr: empty: no reference to compare with\n")
    assert new_names(folder) == {"empty.fr"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--reference test.fr", "Missing argument 'NAME=FILE...'"),
        ("a=base.out", "Missing option '--reference'"),
        (
            "--reference test.fr a=base.out --tokenize 14",
            "'14' is not one of 'none', '13a', 'intl', 'char', 'zh'",
        ),
        (
            "--reference test.fr a=base.out --samples 0",
            "--samples must be a whole number from 1 to 2147483647, not 0",
        ),
        (
            "--reference test.fr a=base.out --seed -1",
            "--seed must be a whole number from 0 to 2147483647, not -1",
        ),
    ],
)
def test_usage(line, message, run):
    ran = run(line)
    assert ran.code == 2
    assert message in ran.err
