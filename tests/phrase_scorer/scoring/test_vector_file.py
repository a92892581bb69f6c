"""Files of vectors: what numpy reads of them is what the scorer gives."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from toys import save_model

from phrase_scorer import PhraseScorer
from phrase_scorer.errors import DataError
from phrase_scorer.scoring import vector_file
from phrase_scorer.scoring.vector_file import (
    MOST_CHARACTERS,
    VectorRequest,
    read_phrases,
    write_vectors,
)

ODD = "l'été \udce9 \U0001f600"  # beyond ASCII, no UTF-8, beyond 16 bits


def written(**options) -> dict[str, np.ndarray]:
    request = VectorRequest(model_path=Path("m"), output="out", **options)
    write_vectors(request, PhraseScorer.load("m"))
    with np.load("out", allow_pickle=False) as found:
        return dict(found)


@pytest.fixture(autouse=True)
def folder(folder: Path) -> Path:
    """The current folder, with a model `m`."""
    save_model(folder / "m")
    return folder


@pytest.mark.parametrize("at_once", [2, 100])
def test_phrases(folder, at_once, monkeypatch):
    phrases = ["la maison", "le", "la maison", ODD, "le chat noir"]
    text = "\n".join([*phrases[:2], " la  maison\r", *phrases[3:]])
    (folder / "p").write_bytes(text.encode("utf-8", "surrogateescape"))
    monkeypatch.setattr(vector_file, "PHRASES_AT_ONCE", at_once)
    found = written(phrases="p")
    assert list(found) == ["phrases", "vectors"]
    assert found["phrases"].tolist() == phrases
    assert found["phrases"].dtype == "<U12"
    assert found["vectors"].dtype == "<f4"
    expected = PhraseScorer.load("m").vectors(phrases)
    np.testing.assert_allclose(found["vectors"], expected, rtol=0, atol=1e-6)
    before = (folder / "out").read_bytes()
    written(phrases="p")
    assert (folder / "out").read_bytes() == before
    with zipfile.ZipFile("out") as archive:
        assert archive.testzip() is None


def test_no_phrases(folder):
    (folder / "p").write_bytes(b"")
    found = written(phrases="p")
    assert [found[name].shape for name in ("phrases", "vectors")] == [(0,), (0, 6)]


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_embeddings(folder, direction):
    save_model(folder / "m", [b"noir", "été".encode()], [b"black"], direction=direction)
    scorer = PhraseScorer.load("m")
    for side in ("source", "target"):
        found = written(phrases=None, embeddings=side)
        assert list(found) == ["words", "vectors"]
        words = scorer.vocabularies[side].words
        assert [word.encode() for word in found["words"].tolist()] == list(words)
        np.testing.assert_array_equal(found["vectors"], scorer.embeddings(side))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"  ", "empty phrase"),
        (b"la\tthe", 'a TAB: expected a phrase, not a pair: "la\\tthe"'),
        (b"la \0", 'a NUL at the end, which numpy\'s strings do not keep: "la \\x00"'),
        (b"a" * (MOST_CHARACTERS + 1), f'a phrase of more than 4,096 characters: "{"a" * 119}…"'),
    ],
)
def test_what_is_no_phrase(folder, line, message):
    (folder / "p").write_bytes(b"la\n" + line + b"\nle\n")
    with pytest.raises(DataError) as raised:
        read_phrases("p")
    assert str(raised.value) == f"p:2: {message}"


def test_a_word_that_numpy_does_not_keep(folder):
    save_model(folder / "m", [b"noir"], [b"black", b"x\0"])
    with pytest.raises(DataError) as raised:
        written(phrases=None, embeddings="target")
    assert str(raised.value).startswith("m/target.vocab:4: a NUL at the end")
    assert not (folder / "out").exists()
