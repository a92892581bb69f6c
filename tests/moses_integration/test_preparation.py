"""Preparation against what Moses' own perl scripts wrote (tests/golden/preparation), and live."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toys import DATA
from toys import GOLDEN as ALL_GOLDEN

from moses_integration.cli import main
from moses_integration.cli.options import LANGUAGE
from moses_integration.preparation import (
    Preparation,
    PreparationSettings,
    PrepareRequest,
    Tokenizer,
    TruecaseCounts,
    prepare_corpus,
    why_dropped,
)
from phrase_scorer.errors import DataError, UsageError

GOLDEN = ALL_GOLDEN / "preparation"
LANGUAGES = ["en", "fr"]
AS_IT_IS = PreparationSettings(casing="keep")


def prepare(*arguments: object, **options: object) -> Preparation:
    """Prepares without a progress bar."""
    return prepare_corpus(PrepareRequest(*arguments, quiet=True, **options))


def lines_of(path: Path) -> list[str]:
    """The lines; perl leaves blanks at the ends of some."""
    return [line.strip(" ") for line in path.read_text().split("\n")]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("name", "escape"), [("tokenised", True), ("unescaped", False)])
def test_tokens_are_those_of_tokenizer_perl(name, escape, language):
    tokenizer = Tokenizer(language, PreparationSettings(escape=escape))
    expected = lines_of(GOLDEN / f"{name}.{language}")
    assert [tokenizer(line) for line in (GOLDEN / f"raw.{language}").read_text().split("\n")] == (
        expected
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_casing_is_that_of_the_scripts(language, tmp_path):
    shutil.copy(GOLDEN / f"truecase-model.{language}", tmp_path)
    for casing, name in (("truecase", "truecased"), ("lowercase", "lowercased")):
        settings = PreparationSettings(casing=casing)
        models = tmp_path if casing == "truecase" else None
        folder = tmp_path / casing
        prepare([GOLDEN / f"raw.{language}"], [language], folder, settings,
                truecase_model_dir=models)  # fmt: skip
        assert lines_of(folder / f"raw.{language}") == lines_of(GOLDEN / f"{name}.{language}")


@pytest.mark.parametrize("language", LANGUAGES)
def test_truecaser_counts_as_train_truecaser_perl_but_for_what_is_documented(language, tmp_path):
    counts = TruecaseCounts()
    for line in (GOLDEN / f"tokenised.{language}").read_text().split("\n"):
        counts.add(line)
    counts.write(tmp_path / "model")
    ours = set((tmp_path / "model").read_text().splitlines())
    theirs = set((GOLDEN / f"truecase-model.{language}").read_text().splitlines())
    assert len(theirs - ours) <= 5
    assert len(ours & theirs) > 170


@pytest.mark.parametrize(
    ("sides", "reason"),
    [
        (("a b", "c"), None),
        (("", "c"), "empty side"),
        (("a b c d", "c d"), "more than 3 words"),
        (("a b c", "d"), "lengths beyond 1:2.5"),
        (("a b c", "d e"), None),
        (("a", "b" * 1000), None),
        (("a", "b" * 1001), "a word of more than 1000 characters"),
    ],
)
def test_why_a_pair_is_dropped(sides, reason):
    assert why_dropped(sides, PreparationSettings(max_length=3, ratio=2.5)) == reason


def test_too_short():
    assert why_dropped(["a b", "c"], PreparationSettings(min_length=2)) == "fewer than 2 words"


@pytest.fixture
def corpus(tmp_path):
    """Three pairs, of which the second has an empty side; the French side is gzipped."""
    (tmp_path / "c.en").write_bytes(b"The dog | runs.\n\nA  small\tdog\n")
    (tmp_path / "c.fr.gz").write_bytes(gzip.compress("Le chien court.\nRien\nL'été\n".encode()))
    return [str(tmp_path / "c.en"), str(tmp_path / "c.fr.gz")]


@pytest.mark.parametrize("processes", [1, 2])
def test_both_sides(corpus, processes, tmp_path):
    settings = PreparationSettings(casing="lowercase", processes=processes, escape=False)
    result = prepare(corpus, LANGUAGES, tmp_path / "out", settings)
    assert (result.lines, result.kept, dict(result.dropped)) == (3, 2, {"empty side": 1})
    assert (tmp_path / "out" / "c.en").read_bytes() == b"the dog runs .\na small dog\n"
    french = gzip.decompress((tmp_path / "out" / "c.fr.gz").read_bytes())
    assert french.decode() == "le chien court .\nl' été\n"
    assert sorted(os.listdir(tmp_path / "out")) == ["c.en", "c.fr.gz"]


def test_no_process_imports_torch(corpus, tmp_path):
    """It takes seconds, and preparing has no use for it."""
    arguments = [*corpus, "--languages", "en", "fr", "--output-dir", "out", "--threads", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "moses_integration", "prepare", *arguments],
        env=os.environ | {"PYTHONPROFILEIMPORTTIME": "1"},  # every process tells its imports
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "multiprocessing.forkserver" in imported
    assert "torch" not in imported


def test_truecasers_are_kept_for_the_next_text(corpus, tmp_path, capsys):
    out = str(tmp_path / "out")
    arguments = ["prepare", *corpus, "--languages", "en", "fr", "--output-dir", out, "--quiet"]
    assert main(arguments) == 0
    assert capsys.readouterr().err == (
        f"dropped: 1 (empty side)\n2 of 3 lines written to {out}/c.en, {out}/c.fr.gz\n"
    )
    assert (tmp_path / "out" / "truecase-model.en").is_file()
    (tmp_path / "t.en").write_text("DOG\n\nSmall\n")
    arguments = ["prepare", str(tmp_path / "t.en"), "--languages", "en", "--quiet"]
    options = ["--truecase-model-dir", out, "--output-dir", str(tmp_path / "test")]
    assert main([*arguments, *options]) == 0
    assert (tmp_path / "test" / "t.en").read_text() == "dog\n\nsmall\n"  # the empty line stays
    assert os.listdir(tmp_path / "test") == ["t.en"]


def test_blocks_of_text_change_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("moses_integration.preparation.TEXT_BLOCK_BYTES", 50)
    monkeypatch.setattr("moses_integration.preparation.BATCH_LINES", 3)
    prepare([GOLDEN / "raw.en"], ["en"], tmp_path, AS_IT_IS)
    written = (tmp_path / "raw.en").read_text().rstrip("\n").split("\n")
    assert written == lines_of(GOLDEN / "tokenised.en")[: len(written)]


# -- refusals --------------------------------------------------------------------------------------


def refusal(*arguments, **options) -> str:
    with pytest.raises((DataError, UsageError)) as caught:
        prepare(*arguments, **options)
    return str(caught.value)


def test_refusals(tmp_path):
    good, bad = tmp_path / "a.en", tmp_path / "b.fr"
    good.write_bytes(b"a\nb\n")
    bad.write_bytes(b"a\n\xff b\n")
    out = tmp_path / "out"
    both = "give one file and its language, or two files and two languages"
    assert refusal([good], LANGUAGES, out, AS_IT_IS) == both
    assert refusal([good], ["English"], out, AS_IT_IS) == "English is not a language code like en"
    assert refusal([good, bad], ["en", "en"], out, AS_IT_IS) == "both languages are en"
    same = "both files are called a.en; rename one"
    assert refusal([good, tmp_path / "x" / "a.en"], LANGUAGES, out, AS_IT_IS) == same
    over = f"the output would overwrite {good}; choose another --output-dir"
    assert refusal([good], ["en"], tmp_path, AS_IT_IS) == over
    assert refusal([good, bad], LANGUAGES, out, AS_IT_IS) == f'{bad}:2: not UTF-8: "\\xff b"'
    bad.write_bytes(b"a\n")
    short = f"{bad}: 1 lines, but {good} has more"
    assert refusal([good, bad], LANGUAGES, out, PreparationSettings()) == short
    missing = f"there is no truecaser {tmp_path}/truecase-model.en; an earlier prepare makes it"
    model = {"truecase_model_dir": tmp_path}
    assert refusal([good], ["en"], out, PreparationSettings(), **model) == missing
    assert os.listdir(out) == []  # nothing half-written


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--min-length", "81"], "--min-length must be at least 1 and at most --max-length"),
        (["--ratio", "0.5"], "--ratio must be a number from 1 to 1000000000, not 0.5"),
        (["--lowercase", "--truecase-model-dir", "m"],
         "--truecase-model-dir goes with --truecase only"),
        (["fr"], "give one file and its language, or two files and two languages"),
    ],
)  # fmt: skip
def test_usage_errors(options, message, tmp_path, capsys):
    (tmp_path / "a.en").write_text("a\n")
    arguments = ["prepare", str(tmp_path / "a.en"), "--languages", "en", "--output-dir"]
    assert main([*arguments, str(tmp_path / "out"), *options]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


ORDERS = [
    "--languages en fr a.en b.fr", "a.en b.fr --languages en fr", "a.en --languages en fr b.fr",
]  # fmt: skip


@pytest.mark.parametrize("arguments", ORDERS)
def test_two_languages_wherever_they_stand(arguments, run, folder):
    (folder / "a.en").write_text("A house .\n")
    (folder / "b.fr").write_text("L'arbre .\n")
    done = run("prepare", *arguments.split(), "--keep-case", "--output-dir", "out")
    assert (done.code, done.out) == (0, "")
    assert (folder / "out" / "a.en").read_text() == "A house .\n"
    assert (folder / "out" / "b.fr").read_text() == "L&apos; arbre .\n"


@pytest.mark.parametrize("arguments", ["a.en --languages xx", "--languages en xx a.en b.fr"])
def test_languages_without_rules(arguments, run):
    done = run("prepare", *arguments.split(), "--output-dir", "out")
    known = ", ".join(f"'{code}'" for code in LANGUAGE.choices)
    expected = f"Invalid value for '--languages': 'xx' is not one of {known}"
    assert (done.code, done.error) == (2, f"{expected}. See phrase-scorer prepare --help.")


def test_the_languages_are_those_of_sacremoses():
    from sacremoses.corpus import NonbreakingPrefixes

    codes = {*NonbreakingPrefixes().available_langs.values(), "ja", "ko"}
    assert sorted(codes) == list(LANGUAGE.choices)


def test_long_words_and_lines_take_no_longer_than_their_letters(tmp_path):
    """Where time is quadratic each of them takes more than 5 s, and the first half a minute."""
    lines = ["b" * 32_000, "1." * 16_000, '" ' * 16_000, "x," * 16_000 + "."]
    (tmp_path / "a.en").write_text("".join(f"{line}\n" for line in lines))
    started = time.process_time()
    prepare([tmp_path / "a.en"], ["en"], tmp_path / "out", PreparationSettings())
    assert time.process_time() - started < 8
    tokenise = Tokenizer("en", AS_IT_IS)
    assert [tokenise(end) for end in ("bb.", ".", "b .", "b..", "1.")] == [
        "bb .", ".", "b .", "b ..", "1 .",
    ]  # fmt: skip


@pytest.mark.moses
def test_cleaning_is_that_of_clean_corpus_n_perl(tmp_path):
    moses = shutil.which("moses")
    if moses is None:
        pytest.skip("moses is not on PATH")
    beside = Path(moses).resolve().parent.parent / "scripts"
    scripts = Path(os.environ.get("MOSES_SCRIPTS") or beside)
    data = DATA / "corpus"
    for language in LANGUAGES:
        text = (data / f"train.{language}").read_text().split("\n")[:300]
        text = [line.replace("&apos;", "'").replace(" ", "  ") for line in text]
        text[5:7], text[9] = ["", "a|b c | d e"], f"{'x' * 1001} y z w"
        (tmp_path / f"raw.{language}").write_text("\n".join(text) + "\n")
    settings = PreparationSettings(
        casing="lowercase", escape=False, normalise=False, min_length=4, max_length=9, ratio=1.5
    )
    raw = [tmp_path / f"raw.{language}" for language in LANGUAGES]
    prepare(raw, LANGUAGES, tmp_path / "ours", settings)
    everything = PreparationSettings(casing="lowercase", escape=False, normalise=False, clean=False)
    prepare(raw, LANGUAGES, tmp_path / "whole", everything)
    command = ["perl", str(scripts / "training" / "clean-corpus-n.perl"), "-ratio", "1.5"]
    names = [str(tmp_path / "whole" / "raw"), *LANGUAGES, str(tmp_path / "theirs"), "4", "9"]
    subprocess.run([*command, *names], check=True, capture_output=True, timeout=60)
    for language in LANGUAGES:
        ours = (tmp_path / "ours" / f"raw.{language}").read_bytes()
        assert ours == (tmp_path / f"theirs.{language}").read_bytes()
        assert ours
