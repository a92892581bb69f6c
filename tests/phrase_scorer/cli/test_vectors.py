"""`vectors` as a user meets it."""

from __future__ import annotations

import gzip
import io
import sys

import numpy as np
import pytest
from toys import names, program, save_model

from phrase_scorer import PhraseScorer

PHRASES = ["la maison", "le chat noir", "la"]
TEXT = "".join(f"{phrase}\n" for phrase in PHRASES).encode()


def test_vectors(run, folder, model_path):
    (folder / "p.gz").write_bytes(gzip.compress(TEXT))
    assert run("vectors", "p.gz", "--model", model_path, "-o", "c.npz") == (0, "", "")
    found = np.load("c.npz")
    assert found["phrases"].tolist() == PHRASES
    expected = PhraseScorer.load(model_path).vectors(PHRASES)
    np.testing.assert_allclose(found["vectors"], expected, rtol=0, atol=1e-6)
    assert run("vectors", "--model", model_path, "--embeddings", "source", "--output", "e")[0] == 0
    assert len(np.load("e")["words"]) == 8
    assert names(folder) == ["c.npz", "e", "p.gz"]


def test_from_standard_input_to_standard_output(folder, model_path):
    (folder / "p").write_bytes(TEXT)
    assert program("vectors", "p", "--model", model_path, "-o", "c.npz").returncode == 0
    done = program("vectors", "-", "--model", model_path, "--threads", 1, input=TEXT)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == (folder / "c.npz").read_bytes()
    assert np.load(io.BytesIO(done.stdout))["vectors"].shape == (3, 6)


def test_an_inverse_model_reads_the_target(run, folder):
    save_model(folder / "m", direction="inverse")
    (folder / "p").write_bytes(TEXT)
    done = run("vectors", "p", "--model", "m", "--output", "c")
    assert (done.code, done.err) == (
        0,
        "the model is inverse: PHRASES are of the target language\n",
    )


def test_unknown_words(run, folder, model_path):
    (folder / "p").write_bytes(TEXT + b"das Haus\n")
    what = "25% of the first 8 source words are unknown to the model (das Haus …)"
    why = "other casing, another language, or other tokenisation or escaping than in training?"
    command = "vectors", "p", "--model", model_path, "--output", "c"
    assert run(*command).err == f"warning: {what}: {why}\n"
    (folder / "c").unlink()
    done = run(*command, "--max-unknown", 0.1)
    assert (done.code, done.error) == (1, f"p: {what}, more than --max-unknown 0.1: {why}")
    assert names(folder) == ["p"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "give either PHRASES (- is standard input) or --embeddings"),
        (["p", "--embeddings", "source"], 2,
         "give either PHRASES (- is standard input) or --embeddings"),
        (["--embeddings", "source", "--max-unknown", "0.2"], 2, "--max-unknown is for PHRASES"),
        (["none"], 1, "none: cannot read: No such file or directory"),
        (["p", "--output", "p"], 1, "p: the output would overwrite the input"),
        (["p", "--output", "no/c"], 1, "no/c: cannot write: No such file or directory"),
        (["bad"], 1, "bad:2: empty phrase"),
        (["cut"], 1, "cut:1: compressed data is broken or cut short (Compressed file ended before "
         "the end-of-stream marker was reached)"),
    ],
)  # fmt: skip
def test_vectors_wrongly(run, folder, model_path, arguments, code, message):
    (folder / "p").write_bytes(TEXT)
    (folder / "bad").write_bytes(b"la\n\n")
    (folder / "cut").write_bytes(gzip.compress(TEXT)[:-10])
    output = () if "--output" in arguments else ("--output", "c")
    done = run("vectors", *arguments, "--model", model_path, *output)
    assert (done.code, done.error) == (code, message)
    assert names(folder) == ["bad", "cut", "p"]


def test_what_is_refused_of_a_model(run, folder):
    (folder / "p").write_bytes(TEXT)
    save_model(folder / "m", architecture="attention")
    done = run("vectors", "p", "--model", "m", "--output", "c")
    assert (done.code, done.error) == (
        2,
        "a model of architecture attention has no vector of a phrase; "
        "encoder_decoder and seq2seq have",
    )
    assert run("vectors", "--embeddings", "target", "--model", "m", "--output", "c").code == 0


def test_a_terminal_is_given_none(run, folder, model_path, monkeypatch):
    (folder / "p").write_bytes(TEXT)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    done = run("vectors", "p", "--model", model_path)
    assert (done.code, done.error) == (2, "an npz is not for a terminal: give --output FILE")
