"""`score` as a user meets it, and models that it cannot use."""

from __future__ import annotations

import gzip
import io
import json
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from toys import PROGRAM, names, save_model

from phrase_scorer.errors import DataError
from phrase_scorer.models import ARCHITECTURES
from phrase_scorer.scoring import scorer as scorer_module
from phrase_scorer.scoring.score_file import ScoreColumn
from phrase_scorer.scoring.scorer import PhraseScorer

PAIRS = [("la maison", "the house"), ("la", ""), ("le chat", "the cat dog"), ("la maison", "the")]


@pytest.fixture
def expected_scores(model_path) -> str:
    values = PhraseScorer.load(model_path, "cpu").score(PAIRS)
    assert len(set(values.tolist())) == len(PAIRS)
    return "".join(f"{value:.6f}\n" for value in values)


@pytest.mark.parametrize("line", ["{}\t{}", "{} ||| {}", "{}|||{}", "{} ||| {} ||| 1 1 ||| 0-0"])
def test_score_writes_a_number_a_line(line, run, folder, model_path, expected_scores):
    (folder / "p").write_text("\n".join(line.format(*pair) for pair in PAIRS))
    done = run("score", "p", "--model", model_path)
    assert (done.code, done.out, done.err) == (0, expected_scores, "")
    assert all(re.fullmatch(r"-\d+\.\d{6}", number) for number in done.out.splitlines())
    assert run("score", "p", "--model", model_path, "--output", "o.gz").out == ""
    assert gzip.decompress((folder / "o.gz").read_bytes()).decode() == expected_scores


def test_score_reads_standard_input(run, model_path, expected_scores, monkeypatch):
    text = "".join(f"{source}\t{target}\n" for source, target in PAIRS).encode()
    for arguments in (["-"], []):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        assert run("score", *arguments, "--model", model_path).out == expected_scores


def test_score_of_an_inverse_model(run, folder):
    model = save_model(folder / "rnn", direction="inverse")
    (folder / "p").write_text("the house\tla maison\n")
    done = run("score", "p", "--model", "rnn")
    value = PhraseScorer.load(model, "cpu").score([("the house", "la maison")])[0]
    assert done.out == f"{value:.6f}\n"
    assert done.err == "the model is inverse: scores are ln p(source | target)\n"


def test_score_of_nothing_is_nothing(run, folder, model_path):
    (folder / "p").write_bytes(b"")
    done = run("score", "p", "--model", model_path)
    assert (done.code, done.out) == (0, "")


# -- files, models, formats ------------------------------------------------------------------------


@pytest.fixture
def two_models(folder) -> tuple[PhraseScorer, PhraseScorer]:
    """Of different weights, in the folders rnn and more/rnn; and PAIRS in p, in s and t."""
    (folder / "more").mkdir()
    paths = save_model(folder / "rnn"), save_model(folder / "more" / "rnn", seed=6)
    (folder / "p").write_text("".join(f"{source}\t{target}\n" for source, target in PAIRS))
    (folder / "s").write_text("".join(f"{source}\n" for source, _ in PAIRS))
    (folder / "t.gz").write_bytes(gzip.compress("\n".join(t for _, t in PAIRS).encode() + b"\n"))
    one, other = (PhraseScorer.load(path, "cpu") for path in paths)
    return one, other


MODELS = "--model", "rnn", "--model", "more/rnn"


def test_two_files(run, folder, model_path, expected_scores):
    (folder / "s").write_text("".join(f"{source}\n" for source, _ in PAIRS))
    (folder / "t.gz").write_bytes(gzip.compress("\n".join(t for _, t in PAIRS).encode()))
    assert run("score", "s", "t.gz", "--model", model_path).out == expected_scores
    (folder / "s").write_text("la\nla maison\n")
    done = run("score", "s", "t.gz", "--model", model_path)
    assert (done.code, done.last_error) == (
        1, 't.gz:3: s has only 2 lines: as many are needed: "the cat dog"',
    )  # fmt: skip
    assert run("score", "a", "b", "c", "--model", model_path).error == (
        "3 files: give one of pairs, or sources and targets"
    )


def test_a_column_for_each_model(run, two_models):
    columns = [model.score(PAIRS) for model in two_models]
    done = run("score", "p", *MODELS)
    expected = [f"{one:.6f}\t{other:.6f}" for one, other in zip(*columns, strict=True)]
    assert done.out.splitlines() == expected
    assert done.err == (
        "column 1: ln p(target | source) of rnn\ncolumn 2: ln p(target | source) of rnn.2\n"
    )


def test_an_ensemble_is_the_mean_of_probabilities(run, two_models):
    probabilities = [np.exp(model.score(PAIRS).astype(float)) for model in two_models]
    done = run("score", "p", *MODELS, "--ensemble")
    np.testing.assert_allclose(
        np.array(done.out.split(), float), np.log(np.mean(probabilities, axis=0)), atol=2e-6
    )
    assert done.err == ""


def test_word_scores_and_normalised_ones(run, two_models):
    one, _ = two_models
    lines = run("score", "p", "--model", "rnn", "--word-scores").out.splitlines()
    for line, (_, target), expected in zip(lines, PAIRS, one.word_scores(PAIRS), strict=True):
        total, words = line.split("\t")
        values = np.array(words.split(), float)
        assert len(values) == len(target.split()) + 1
        np.testing.assert_allclose(values, expected, atol=1e-6)
        assert float(total) == pytest.approx(values.sum(), abs=5e-6)
    normalised = run("score", "p", "--model", "rnn", "--normalize").out.split()
    symbols = [len(target.split()) + 1 for _, target in PAIRS]
    np.testing.assert_allclose(np.array(normalised, float), one.score(PAIRS) / symbols, atol=1e-6)


def test_pairs_beside_their_scores(run, two_models):
    columns = [model.score(PAIRS).tolist() for model in two_models]
    done = run("score", "s", "t.gz", *MODELS, "--format", "tsv")
    for line, pair, *scores in zip(done.out.splitlines(), PAIRS, *columns, strict=True):
        assert line.split("\t") == [*pair, *(f"{score:.6f}" for score in scores)]
    done = run("score", "p", *MODELS, "--format", "jsonl", "--word-scores")
    words = [model.word_scores(PAIRS) for model in two_models]
    for place, line in enumerate(done.out.splitlines()):
        found = json.loads(line)
        assert (found["source"], found["target"]) == PAIRS[place]
        assert list(found["scores"]) == list(found["word_scores"]) == ["rnn", "rnn.2"]
        for name, column, by_word in zip(found["scores"], columns, words, strict=True):
            assert found["scores"][name] == pytest.approx(column[place], abs=2e-6)
            assert found["word_scores"][name] == pytest.approx(by_word[place].tolist(), abs=1e-6)


def test_lines_that_are_no_pairs_are_kept_in_their_places(run, two_models, folder):
    """One line out per line in; an empty source is scored, as in Python."""
    one, _ = two_models
    (folder / "q").write_bytes(b"la\tthe\nno tab\n\tthe\n\xff\tthe\na\tb\tc\n")
    message = 'q:2: expected source, a tab, target: "no tab"'
    assert run("score", "q", "--model", "rnn").error == message
    keep = ["--model", "rnn", "--on-bad-line", "keep"]
    done = run("score", "q", *keep)
    values = one.score([("la", "the"), ("", "the"), (b"\xff", "the")]).tolist()
    first, empty, odd = (f"{value:.6f}" for value in values)
    assert done.out.splitlines() == [first, "nan", empty, odd, "nan"]
    assert done.last_line == "2 of 5 lines of q are no pairs, the first of them line 2"
    lines = run("score", "q", *keep, "--format", "jsonl").out.splitlines()
    assert json.loads(lines[1]) == {"line": "no tab", "scores": None}
    assert json.loads(lines[3])["source"] == "\\xff"
    assert run("score", "q", *keep, "--format", "tsv", "--output", "o").code == 0
    lines = (folder / "o").read_bytes().splitlines()
    assert lines[1] == b"no tab\t\tnan"
    assert lines[3].startswith(b"\xff\tthe\t-")
    assert lines[4] == b"a b c\t\tnan"
    (folder / "table").write_bytes(b"la ||| the ||| 1\nla ||| the ||| x\nla ||| the ||| 0.5\n")
    assert run("score", "table", *keep).out.splitlines() == [first, "nan", first]


def test_a_summary(run, two_models):
    one, _ = two_models
    done = run("score", "p", "--model", "rnn", "--summary")
    nats = -float(one.score(PAIRS).sum())
    symbols = sum(len(target.split()) + 1 for _, target in PAIRS)
    assert done.last_line == (
        f"rnn: 4 pairs, {symbols} symbols, {nats:.1f} nats; {nats / symbols:.4f} nats a symbol, "
        f"perplexity {np.exp(nats / symbols):.2f}; 0.0% of the source and 16.7% of the target "
        "words unknown"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ensemble", "--model", "rnn"], "--ensemble needs at least two models"),
        ([*MODELS, "--ensemble", "--word-scores"],
         "--word-scores are of a model, not of an --ensemble"),
        (["--model", "rnn", "--resume"], "--resume needs a file to go on with, not -"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("two_models")
def test_what_does_not_go_together(arguments, message, run):
    done = run("score", "p", *arguments)
    assert (done.code, done.error) == (2, message)


@pytest.mark.usefixtures("two_models")
def test_an_ensemble_has_one_direction(run, folder):
    save_model(folder / "inverse", direction="inverse")
    done = run("score", "p", "--model", "rnn", "--model", "inverse", "--ensemble")
    assert (done.code, done.error) == (2, "--ensemble of models of two directions")


def test_a_run_is_gone_on_with(run, two_models, folder, monkeypatch):
    """The same bytes and the same summary, whether it was broken off or not."""
    many = PAIRS * 30 + [("", "the")]
    (folder / "p").write_text("".join(f"{source}\t{target}\n" for source, target in many))
    monkeypatch.setattr(scorer_module, "BLOCK_PAIRS", 16)
    how = ["p", "--model", "rnn", "--resume", "--summary", "--on-bad-line", "keep", "--output"]
    assert run("score", *how, "whole.gz").code == 0
    summary = run("score", *how, "again.gz").last_line
    assert names(folder / ".") == sorted(["again.gz", "more", "p", "rnn", "s", "t.gz", "whole.gz"])
    done = []

    def breaks_off(column, block, **options):
        if len(done) == 3:
            raise DataError("the disk is gone", path="p")
        done.append(block)
        return scores(column, block, **options)

    scores = ScoreColumn.scores
    monkeypatch.setattr(ScoreColumn, "scores", breaks_off)
    broken = run("score", *how, "o.gz")
    assert broken.code == 1
    assert "48 lines are done and stay in o.gz.partial; --resume goes on with them" in broken.err
    done.clear()
    other = run("score", *how, "o.gz", "--normalize")
    assert other.code == 1
    assert "o.gz" in other.last_error
    gone_on = run("score", *how, "o.gz")
    assert gone_on.code == 1
    monkeypatch.setattr(ScoreColumn, "scores", scores)
    gone_on = run("score", *how, "o.gz")
    assert gone_on.code == 0
    assert gone_on.last_line == summary
    assert (folder / "o.gz").read_bytes() == (folder / "whole.gz").read_bytes()
    assert not (folder / "o.gz.journal").exists()


def test_a_line_is_answered_when_it_comes(folder, model_path, expected_scores):
    """By a program that waits for one answer before it writes the next line."""
    command = [*PROGRAM, "score", "--model", str(model_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        found = b""
        for source, target in PAIRS:
            process.stdin.write(f"{source} ||| {target}\n".encode())
            process.stdin.flush()
            found += process.stdout.readline()
        process.stdin.close()
        assert process.wait(20) == 0
    assert found.decode() == expected_scores


@pytest.mark.usefixtures("two_models")
def test_verbose_tells_files_models_and_what_decides_the_last_digits(run):
    said = run("score", "p", "--model", "rnn", "-v").err.splitlines()
    assert said[0] == "reading p"
    assert said[1].startswith("<PhraseScorer forward: encoder_decoder of 6 units, 8 and 7 words")
    assert said[1].split(": ")[-1].startswith("cpu, ")
    assert torch.__version__ in said[1]
    assert re.fullmatch(r"[\d.]+ seconds, .*", said[2])


UNKNOWN = (
    "unknown to the model (das Haus …): other casing, another language, or other tokenisation or "
    "escaping than in training?"
)


def test_unknown_words_are_told_before_anything_is_scored(run, two_models, folder):
    (folder / "q").write_text("das Haus\tthe house\n" * 3)
    done = run("score", "q", "--model", "rnn")
    assert done.err == f"warning: 100% of the first 6 source words are {UNKNOWN}\n"
    done = run("score", "q", "--model", "rnn", "--max-unknown", "0.5")
    what = f"100% of the first 6 source words are {UNKNOWN}"
    assert (done.code, done.error) == (
        1, f"q: {what.replace('):', '), more than --max-unknown 0.5:')}"
    )  # fmt: skip


def test_a_pipe_of_a_few_pairs_is_judged_by_all_of_them(run, two_models, monkeypatch):
    """But for a limit, for which the first ones are waited for."""

    def score(text: str, *options: str):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        return run("score", "--model", "rnn", *options)

    done = score("das Haus\tthe\n" * 2)
    assert done.err == f"warning: 100% of the source words are {UNKNOWN}\n"
    done = score("das Haus\tthe\n" * 2, "--max-unknown", "0.5")
    assert done.code == 1
    assert done.error.startswith("-: 100% of the first 4 source words are unknown")


def test_a_limit_waits_for_the_first_pairs_of_a_pipe(model_path, tmp_path):
    command = [*PROGRAM, "score", "--model", str(model_path), "--max-unknown", "0.5"]
    command += ["--output", str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(b"la\tthe\n")
        process.stdin.flush()
        time.sleep(0.5)
        process.stdin.write(b"das Haus\tthe\n" * 200)
        process.stdin.close()
        assert process.wait(20) == 1
        assert b"more than --max-unknown 0.5" in process.stderr.read()
    assert names(tmp_path) == []


def test_an_unfinished_run_is_not_forgotten(run, two_models, folder):
    for suffix in (".partial", ".journal"):
        (folder / f"o{suffix}").write_text("")
    done = run("score", "p", "--model", "rnn", "--output", "o")
    assert (done.code, done.error) == (
        1,
        "o: an unfinished run of it is here: --resume goes on with it, or delete o.partial and "
        "o.journal",
    )


@pytest.mark.usefixtures("two_models")
def test_one_model_twice_and_nothing_to_sum_up(run, folder):
    done = run("score", "p", "--model", "rnn", "--model", "rnn/")
    assert (done.code, done.error) == (2, "--model rnn is given twice")
    (folder / "p").write_bytes(b"")
    assert run("score", "p", "--model", "rnn", "--summary").last_line == "no pairs"


# -- models of other kinds -------------------------------------------------------------------------


CHOICES = ", ".join(ARCHITECTURES)


@pytest.mark.usefixtures("table")
def test_pseudo_probabilities_are_called_so(run, folder):
    save_model(folder / "m", architecture="masked", hidden=8, heads=2)
    said = "the model is masked: scores are pseudo-log-likelihoods, no log-probabilities\n"
    assert run("score", "table", "--model", "m")[2] == said
    _, _, error = run("rescore", "table", "out", "--model", "m", "--quiet")
    assert error.startswith(said)
    signature = json.loads((folder / "out.signature.json").read_text())
    assert "float32, pseudo-log-likelihood" in json.dumps(signature)


@pytest.mark.usefixtures("table")
def test_a_language_model_scores_no_pairs(run, folder):
    save_model(folder / "lm", architecture="cslm", order=3, hidden=4, second_hidden=4)
    message = (
        "error: lm: a language model scores text, not phrase pairs; see perplexity, export-arpa, "
        "nbest --cslm\n"
    )
    assert run("score", "table", "--model", "lm") == (2, "", message)
    assert run("rescore", "table", "out", "--model", "lm", "--quiet") == (2, "", message)


@pytest.mark.usefixtures("table")
def test_a_directory_of_an_architecture_that_is_not_known(run, folder):
    save_model(folder / "m")
    file = folder / "m" / "config.json"
    file.write_text(file.read_text().replace("encoder_decoder", "rwkv"))
    code, _, error = run("score", "table", "--model", "m")
    assert code == 1
    assert error == (
        "error: m/config.json: impossible model settings: unknown architecture 'rwkv'; "
        f"choose from {CHOICES}\n"
    )


@pytest.mark.usefixtures("table")
def test_weights_of_another_architecture(run, folder):
    save_model(folder / "m")
    save_model(folder / "other", architecture="attention")
    (folder / "other" / "model.safetensors").write_bytes(
        (folder / "m" / "model.safetensors").read_bytes()
    )
    code, _, error = run("score", "table", "--model", "other")
    assert code == 1
    assert error.startswith("error: other/model.safetensors: damaged, or not of this model: its ")


@pytest.mark.parametrize("command", ["score", "align"])
def test_an_output_is_refused_before_a_model_is_loaded(command, run, folder):
    (folder / "p").write_text("la\tthe\n")
    (folder / "hard").hardlink_to(folder / "p")
    for output, message in (
        ("none/o", "none/o: cannot write: No such file or directory"),
        (".", ".: cannot write: Is a directory"),
        ("hard", "hard: the output would overwrite the input"),
    ):
        done = run(command, "p", "--model", "no-model", "--output", output)
        assert done == (1, "", f"error: {message}\n")
