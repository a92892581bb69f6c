"""A random model of a few units on disk, its scorer, and toy phrase tables of seven fields.

For the tests that run the real Moses: the model of data/, filtered for a few sentences, with and
without a column of ours.
"""

from __future__ import annotations

import gzip
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from toys import DATA

from moses_integration.cli import main
from moses_integration.decoder.programs import Moses
from phrase_scorer.models import ModelConfig, build
from phrase_scorer.models.directory import ModelDirectory
from phrase_scorer.scoring.scorer import PhraseScorer
from phrase_scorer.text.vocabulary import Vocabulary

SOURCE_WORDS = b"la maison bleue le chat noir petit".split()
TARGET_WORDS = b"the blue house black cat small".split()


SENTENCES = 30


def save_model(
    path: Path,
    source_words: list[bytes] = SOURCE_WORDS,
    target_words: list[bytes] = TARGET_WORDS,
    **settings: object,
) -> Path:
    """A model directory with random weights, as training would leave it."""
    vocabularies = Vocabulary(source_words), Vocabulary(target_words)
    sizes = {"hidden": 6, "embedding": 4, "maxout": 3, "output_rank": 0}
    config = ModelConfig(*map(len, vocabularies), **{**sizes, **settings})
    directory = ModelDirectory(path)
    directory.create(config, vocabularies, {})
    directory.save_weights(build(config, seed=5, deviation=0.6).state_dict())
    return path


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a forward model."""
    return save_model(tmp_path_factory.mktemp("models") / "forward")


@pytest.fixture(scope="session")
def inverse_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of an inverse model."""
    return save_model(tmp_path_factory.mktemp("models") / "inverse", direction="inverse")


@pytest.fixture(scope="session")
def scorer(model_path: Path) -> PhraseScorer:
    """The forward model, loaded."""
    return PhraseScorer.load(model_path, "cpu")


@pytest.fixture(scope="session")
def toy_lines() -> Callable[[int], list[bytes]]:
    """That many entries of a table, a few targets a source, some words unknown to the model."""

    def lines(entries: int) -> list[bytes]:
        chance, made = random.Random(entries), []
        while len(made) < entries:
            source = b" ".join(chance.choices([*SOURCE_WORDS, b"Haus"], k=chance.randint(1, 4)))
            for _ in range(chance.randint(1, 5)):
                words = chance.choices([*TARGET_WORDS, b"Katze"], k=chance.randint(0, 4))
                scores = b" ".join(b"%.5g" % chance.uniform(0, 1) for _ in range(4))
                rest = b"0-0 ||| 3 2 1 ||| |||"
                made.append(b"%b ||| %b ||| %b ||| %b" % (source, b" ".join(words), scores, rest))
        return made[:entries]

    return lines


@pytest.fixture(scope="session")
def moses() -> Moses:
    """The real Moses; skips where it is not on PATH."""
    if shutil.which("moses") is None:
        pytest.skip("moses is not on PATH")
    return Moses()


@pytest.fixture(scope="session")
def moses_model(moses: Moses, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder: tune.en, tune.fr; old/ is data/ filtered for them, new/ has a column more.

    The column is that of a random model that knows half of the words; its weight is 0.1.
    """
    folder = tmp_path_factory.mktemp("moses")
    for name in ("tune.en", "tune.fr"):
        lines = (DATA / "corpus" / name).read_bytes().splitlines(keepends=True)
        (folder / name).write_bytes(b"".join(lines[:SENTENCES]))
    old, new = folder / "old", folder / "new"
    command = ["filter", "--moses-ini", DATA / "moses.ini", "--input", folder / "tune.en"]
    assert main([*map(str, command), "--output-dir", str(old), "--quiet"]) == 0
    table = gzip.decompress((old / "phrase-table.gz").read_bytes()).splitlines()
    sides = [sorted({w for line in table for w in line.split(b"|||")[i].split()}) for i in (0, 1)]
    model = save_model(folder / "rnn", sides[0][::2], sides[1][::2])
    assert main(["rescore", str(old), str(new), "--model", str(model), "--quiet"]) == 0
    return folder
