"""`info`, `generate` and `align` as a user meets them."""

from __future__ import annotations

import json
import re
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from toys import save_model

from phrase_scorer.kernels.library import kernels_in_words
from phrase_scorer.models.directory import ModelDirectory
from phrase_scorer.version import __version__


def test_info(run, model_path):
    done = run("info", model_path)
    assert (done.code, done.err) == (0, "")
    facts = dict(re.split(r"  +", line, maxsplit=1) for line in done.out.splitlines())
    assert facts["direction"] == "forward"
    assert facts["hidden"] == "6"
    assert facts["source_words"] == "8"
    assert facts["fingerprint"] == ModelDirectory(model_path).fingerprint()
    assert facts["written_by"] == f"phrase-scorer {__version__}"
    as_json = json.loads(run("info", model_path, "--json").out)
    assert as_json["hidden"] == 6
    assert {**as_json, "training": {}, "data": {}} == as_json
    assert facts.keys() == as_json.keys() - {"training", "data"}
    assert run("info", model_path, "--format", "json").out == run("info", model_path, "--json").out
    assert facts["kernels"] == as_json["kernels"] == kernels_in_words()


def test_strings_of_a_stranger_are_escaped(run, folder):
    model = save_model(folder / "m", target_words=[b"the\x1b]0;x\x07", "a\u009b31m".encode()])
    config = json.loads((model / "config.json").read_text())
    config["data"] = {"path": "\x1b[31m\nred", "\x1b": 1, "é\xa0": "é"}
    config["phrase_scorer"] = "\x07"
    (model / "config.json").write_text(json.dumps(config))
    out = run("info", "m").out
    assert "\ndata: path    \\x1b[31m\\nred\n" in out
    assert "\ndata: \\x1b    1\n" in out
    assert "\nwritten_by    phrase-scorer \\x07\n" in out
    assert out.replace("\n", "").isprintable()
    for options in ([], ["--json"], ["--sample", 60]):
        out = run("generate", "--model", "m", "la", "--max-words", 1, *options).out
        assert "a\\u009b31m" in out
        assert "the\\u001b]0;x\\u0007" in out
        assert out.replace("\n", "").replace("\t", "").isprintable()
    config["model"]["\x1b[31m"] = 1
    (model / "config.json").write_text(json.dumps(config))
    assert run("info", "m").error.isprintable()


def test_a_name_of_a_tensor_is_escaped(run, folder):
    model = save_model(folder / "m")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "sha256": {}}))
    save_file({"\x1b[31m": torch.zeros(1)}, model / "model.safetensors")
    message = r"weights do not fit config.json (first difference: \x1b[31m)"
    (folder / "p").write_bytes(b"la\tthe\n")
    assert run("score", "p", "--model", "m").error == f"m/model.safetensors: {message}"


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
        (["--n-best", "0"], "--n-best must be a whole number from 1 to 2147483647, not 0"),
        (["--beam", "0"], "--beam must be a whole number from 1 to 2147483647, not 0"),
        (["--max-words", "0"], "--max-words must be a whole number from 1 to 2147483647, not 0"),
    ],
)
def test_generate_wrongly(run, folder, options, message):
    save_model(folder / "m")
    assert run("generate", "--model", "m", "la", *options) == (2, "", f"error: {message}\n")
    assert run("generate", "--model", "m", " ") == (2, "", "error: an empty PHRASE\n")


# -- align -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("table")
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
    said = "ln p(target | source)" if direction == "forward" else "ln p(source | target)"
    _, score, _ = run("score", "--model", "m", "table")
    title = f"<title>{said} = {float(score.split()[0]):.2f}</title>"
    assert title in (folder / "first.svg").read_text()


@pytest.mark.usefixtures("table")
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


@pytest.mark.usefixtures("table")
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
