"""`score` as a user meets it, and models that it cannot use."""

from __future__ import annotations

import gzip
import io
import json
import re
import sys

import pytest
from toys import save_model

from phrase_scorer.models import ARCHITECTURES
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
