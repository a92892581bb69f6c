"""Architectures on the command line: train, score, rescore, generate, align, experiment systems."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from moses_integration.cli import main
from phrase_scorer.models import ARCHITECTURES, ModelConfig
from phrase_scorer.models import build as build_model
from phrase_scorer.models.directory import ModelDirectory
from phrase_scorer.text.vocabulary import Vocabulary

SOURCE_WORDS = b"la maison bleue le chat noir".split()
TARGET_WORDS = b"the blue house black cat".split()
TABLE = b"""la maison ||| the house ||| 0.5 0.25 ||| 0-0 1-1 ||| 2 2 1
la maison bleue ||| the blue house ||| 0.5 0.25 ||| 0-0 1-2 2-1 ||| 2 2 1
la ||| the ||| 1 0.5 ||| 0-0 ||| 4 4 4
la ||| her ||| 1 0.5 ||| 0-0 ||| 4 4 1
le chat ||| the cat ||| 1 1 ||| 0-0 1-1 ||| 1 1 2
le chat noir ||| the black cat ||| 1 1 ||| 0-0 1-2 2-1 ||| 1 1 1
le ||| the ||| 1 1 ||| 0-0 ||| 3 3 3
le ||| it ||| 1 1 ||| 0-0 ||| 3 3 1
"""


def save_model(path: Path, **settings: object) -> Path:
    vocabularies = Vocabulary(SOURCE_WORDS), Vocabulary(TARGET_WORDS)
    sizes = {"hidden": 6, "embedding": 4, "maxout": 3, "output_rank": 0}
    config = ModelConfig(*map(len, vocabularies), **{**sizes, **settings})
    directory = ModelDirectory(path)
    directory.create(config, vocabularies, {})
    directory.save_weights(build_model(config, seed=5, deviation=0.6).state_dict())
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table").write_bytes(TABLE)
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    def call(*arguments: object) -> tuple[int, str, str]:
        code = main(list(map(str, arguments)))
        return code, *capsys.readouterr()

    return call


TRAIN = ["--max-updates", "2", "--batch-pairs", "4", "--hidden", "8", "--quiet"]


@pytest.mark.parametrize(
    "options",
    [
        ["--cell", "lstm", "--forget-bias", "1"],
        ["--cell", "rnn"],
        ["--architecture", "seq2seq", "--layers", "3"],
        ["--dropout", "0.2"],
        ["--architecture", "attention", "--direction", "inverse"],
        ["--architecture", "transformer", "--heads", "2", "--positions", "learned"],
        ["--architecture", "decoder_only", "--shared-words", "--feed-forward", "12"],
        ["--architecture", "masked", "--heads", "4"],
    ],
    ids=" ".join,
)
def test_train_resume_score_and_rescore(run, folder, options):
    assert run("train", "table", "--model", "m", *TRAIN, *options)[0] == 0
    config = ModelDirectory(folder / "m").model_config()
    assert config.hidden == 8
    for option, value in zip(options[::2], options[1::2], strict=False):
        name = option.removeprefix("--").replace("-", "_")
        if name != "shared_words":
            assert str(getattr(config, name)) in (value, f"{value}.0")
    again = run("train", "table", "--model", "m", *TRAIN, *options, "--resume")
    assert again[0] == 0
    assert run("score", "table", "--model", "m", "--output", "scores")[0] == 0
    scores = np.loadtxt(folder / "scores")
    assert len(scores) == 8
    assert (scores < 0).all()
    model = "--inverse-model" if config.direction == "inverse" else "--model"
    assert run("rescore", "table", "out", model, "m", "--quiet")[0] == 0
    columns = [
        line.split(b" ||| ")[2].split() for line in (folder / "out").read_bytes().splitlines()
    ]
    np.testing.assert_allclose([float(c[2]) for c in columns], np.exp(scores), rtol=1e-4)
    if config.shared_words:
        words = [(folder / "m" / f"{side}.vocab").read_bytes() for side in ("source", "target")]
        assert words[0] == words[1]
        assert b"\nthe\n" in words[0]
        assert b"\nla\n" in words[0]


def test_pseudo_probabilities_are_called_so(run, folder):
    save_model(folder / "m", architecture="masked", hidden=8, heads=2)
    said = "the model is masked: scores are pseudo-log-likelihoods, no log-probabilities\n"
    assert run("score", "table", "--model", "m")[2] == said
    _, _, error = run("rescore", "table", "out", "--model", "m", "--quiet")
    assert error.startswith(said)
    signature = json.loads((folder / "out.signature.json").read_text())
    assert "float32, pseudo-log-likelihood" in json.dumps(signature)


def test_a_language_model_scores_no_pairs(run, folder):
    save_model(folder / "lm", architecture="cslm", order=3, hidden=4, second_hidden=4)
    message = (
        "error: lm: a language model scores text, not phrase pairs; see perplexity, export-arpa, "
        "nbest --cslm\n"
    )
    assert run("score", "table", "--model", "lm") == (2, "", message)
    assert run("rescore", "table", "out", "--model", "lm", "--quiet") == (2, "", message)


def test_another_architecture_cannot_resume(run, folder):
    assert run("train", "table", "--model", "m", *TRAIN)[0] == 0
    code, _, error = run(
        "train", "table", "--model", "m", *TRAIN, "--architecture", "attention", "--resume"
    )
    assert code == 1
    assert error.splitlines()[-1] == (
        "error: m: cannot resume: architecture was encoder_decoder, now attention"
    )


def test_a_timed_training_fills_its_time(run, folder):
    timed = ["--schedule", "timed", "--max-minutes", "0.02", "--hidden", "8", "--quiet"]
    code, _, error = run("train", "table", "--model", "m", *timed)
    assert code == 0
    assert "stopped by minutes after" in error
    log = [
        json.loads(line) for line in (folder / "m" / "training_log.jsonl").read_text().splitlines()
    ]
    rates = [line["learning_rate"] for line in log if "learning_rate" in line]
    assert log[-1]["seconds"] >= 1.2
    assert not rates or rates[-1] < 4e-3


CHOICES = ", ".join(ARCHITECTURES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--architecture", "bert"], f"unknown architecture 'bert'; choose from {CHOICES}"),
        (["--cell", "elman"], "unknown cell 'elman'; choose from rnn, lstm, gru"),
        (
            ["--architecture", "transformer", "--hidden", "10", "--heads", "4"],
            "hidden 10 cannot be divided among 4 heads; choose heads from 1, 2, 5, 10",
        ),
        (["--layers", "2"], "layers 2: encoder_decoder has no use for it"),
        (["--shared-words"], "shared_words True: encoder_decoder has no use for it"),
        (
            ["--architecture", "transformer", "--cell", "lstm"],
            "cell lstm: transformer has no use for it",
        ),
        (["--schedule", "timed"], "--schedule timed needs --max-minutes"),
        (["--heads", "3"], "heads 3: encoder_decoder has no use for it"),
        (["--forget-bias", "1"], "forget_bias 1.0: gru has no use for it"),
        (
            ["--cell", "lstm", "--forget-bias", "nan"],
            "forget_bias must be a number, not nan",
        ),
        (["--hidden", "0"], "hidden must be at least 1, not 0"),
    ],
)
def test_impossible_models(run, folder, options, message):
    code, out, error = run("train", "table", "--model", "m", *options)
    assert (code, out, error) == (2, "", f"error: {message}\n")
    assert not (folder / "m").exists()


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


def test_weights_of_another_architecture(run, folder):
    save_model(folder / "m")
    save_model(folder / "other", architecture="attention")
    (folder / "other" / "model.safetensors").write_bytes(
        (folder / "m" / "model.safetensors").read_bytes()
    )
    code, _, error = run("score", "table", "--model", "other")
    assert code == 1
    assert error.startswith("error: other/model.safetensors: weights do not fit config.json (first")


# -- generate --------------------------------------------------------------------------------------


def test_generate_by_beam(run, folder):
    save_model(folder / "m")
    code, out, error = run(
        "generate", "--model", "m", "la maison", "--beam", "7", "--max-words", "4"
    )
    assert (code, error) == (0, "")
    lines = [line.split("\t") for line in out.splitlines()]
    assert len(lines) == 7
    scores = [float(score) for score, _ in lines]
    assert scores == sorted(scores, reverse=True)
    (folder / "pairs").write_text("".join(f"la maison\t{target}\n" for _, target in lines))
    _, out, _ = run("score", "pairs", "--model", "m")
    np.testing.assert_allclose([float(line) for line in out.split()], scores, atol=1e-3)


def test_generate_by_sampling_as_json_from_standard_input(run, folder, monkeypatch):
    save_model(folder / "m")
    (folder / "phrases").write_text("la maison\nle chat noir\n")
    with open(folder / "phrases", "rb") as stream:
        monkeypatch.setattr(
            sys, "stdin", type("In", (), {"buffer": stream, "fileno": stream.fileno})
        )
        code, out, error = run(
            "generate", "--model", "m", "-", "--sample", 20, "--seed", 3, "--n-best", 2, "--json"
        )
    assert (code, error) == (0, "")
    found = [json.loads(line) for line in out.splitlines()]
    assert [f["source"] for f in found] == ["la maison", "le chat noir"]
    assert all(1 <= len(f["targets"]) <= 2 for f in found)
    assert {"target", "log_prob", "count"} == set(found[0]["targets"][0])


def test_generate_names_phrases_and_unknown_words(run, folder):
    save_model(folder / "m")
    _, out, error = run("generate", "--model", "m", "la souris", "le", "--n-best", 1)
    assert [line for line in out.splitlines() if line.startswith("#")] == ["# la souris", "# le"]
    assert error == "warning: unknown to the model: souris\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sample", "5", "--beam", "3"], "either --beam or --sample"),
        (["--temperature", "2"], "--temperature is for --sample"),
        (["--seed", "2"], "--seed is for --sample"),
        (["--n-best", "0"], "--n-best must be at least 1, not 0"),
        (["--beam", "0"], "--beam must be at least 1, not 0"),
        (["--max-words", "0"], "--max-words must be at least 1, not 0"),
    ],
)
def test_generate_wrongly(run, folder, options, message):
    save_model(folder / "m")
    assert run("generate", "--model", "m", "la", *options) == (2, "", f"error: {message}\n")
    assert run("generate", "--model", "m", " ") == (2, "", "error: an empty PHRASE\n")


# -- align -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_align(run, folder, direction):
    save_model(folder / "m", architecture="attention", direction=direction)
    code, out, error = run("align", "table", "--model", "m", "--plot", "first.svg")
    said = "the model is inverse: it reads the target, and predicts the source\n"
    assert (code, error) == (0, said if direction == "inverse" else "")
    found = [json.loads(line) for line in out.splitlines()]
    assert len(found) == 8
    sides = ["la", "maison", "bleue", "</s>"], ["the", "blue", "house", "</s>"]
    if direction == "inverse":
        sides = sides[::-1]
    assert (found[1]["source"], found[1]["target"]) == sides
    weights = np.array(found[1]["weights"])
    assert weights.shape == (4, 4)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-3)
    assert b"<svg" in (folder / "first.svg").read_bytes()


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_align_as_pharaoh(run, folder, direction):
    save_model(folder / "m", architecture="attention", direction=direction)
    code, _, _ = run("align", "table", "--model", "m", "--format", "pharaoh", "--output", "links")
    links = (folder / "links").read_text().splitlines()
    assert code == 0
    places = [[tuple(map(int, link.split("-"))) for link in line.split()] for line in links[:2]]
    predicted = 1 if direction == "forward" else 0  # i-j: source-target, as the pair was given
    assert [[link[predicted] for link in line] for line in places] == [[0, 1], [0, 1, 2]]
    assert all(link[1 - predicted] < 3 for link in places[1])


def test_align_draws_words_as_they_are(run, folder):
    save_model(folder / "m", architecture="attention")
    (folder / "odd").write_text("$x_$ la\t$\\frac$ the\n")
    assert run("align", "odd", "--model", "m", "--plot", "odd.png")[::2] == (0, "")
    (folder / "none").write_text("")
    _, _, error = run("align", "none", "--model", "m", "--plot", "none.png")
    assert error == "warning: no pairs, so none.png was not drawn\n"


def test_align_wrongly(run, folder):
    save_model(folder / "m")
    assert run("align", "table", "--model", "m") == (
        2,
        "",
        "error: m: a model of architecture encoder_decoder has no soft alignment; train one with "
        "--architecture attention\n",
    )
    save_model(folder / "a", architecture="attention")
    code, _, error = run("align", "table", "--model", "a", "--plot", "first.gif")
    assert (code, error) == (
        2,
        "error: first.gif: the name of a plot must end in .png, .svg or .pdf\n",
    )
    code, _, error = run("align", "table", "--model", "a", "--output", "table")
    assert (code, error) == (1, "error: table: the output would overwrite the input\n")


# -- gradients, experiment systems -----------------------------------------------------------------


def test_gradients(run, folder):
    (folder / "text").write_text("the red house\na man and a dog\n" * 9)
    code, out, error = run(
        "gradients", "--text", "text", "--output-dir", "g", "--updates", 3, "--distances", "2,4",
        "--steps", 5, "--hidden", 4, "--cells", "rnn,lstm", "--quiet",
    )  # fmt: skip
    assert code == 0
    assert "| sentences, trained | 4 |" in out
    assert error == "written: g/gradients.json, g/gradients.png, g/gradients.svg\n"


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--distances", "2,x"], 2, '--distances: "2,x" is not a list of numbers like 5,10,20'),
        (["--cells", "elman"], 2, "unknown cell 'elman'; choose from rnn, lstm, gru"),
        (["--text", "none"], 1, "none: cannot read: No such file or directory"),
        (["--text", "empty"], 1, "empty: no text"),
    ],
)
def test_gradients_wrongly(run, folder, options, code, message):
    (folder / "empty").write_text("\n")
    found = run("gradients", "--output-dir", "g", *options, "--quiet")
    assert found == (code, "", f"error: {message}\n")


def test_experiment_systems(run, folder):
    code, out, error = run(
        "experiment", "systems", "table", "--output-dir", "s", "--systems", "LSTM,decoder-only",
        "--parameters", 20000, "--minutes", 0.001, "--validation-pairs", 2, "--threads", 1,
        "--quiet",
    )  # fmt: skip
    assert code == 0
    assert [line.split(" | ")[0] for line in out.splitlines()[2:]] == [
        "| LSTM", "| decoder-only", "| the counts themselves",
    ]  # fmt: skip
    assert error.splitlines()[-1] == (
        "written: s/systems.md, s/systems.json, s/systems.svg, s/systems.png"
    )
    code, out, error = run("experiment", "systems", "table", "--output-dir", "s", "--systems", "x")
    assert (code, out) == (2, "")
    assert error.startswith("error: unknown system 'x'; choose from vanilla RNN, LSTM, GRU")
