"""A random model of a few units on disk, its scorer, and toy phrase tables of seven fields."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from phrase_scorer.checkpoint import ModelDirectory
from phrase_scorer.models import ModelConfig, build
from phrase_scorer.scorer import PhraseScorer
from phrase_scorer.vocabulary import Vocabulary

SOURCE_WORDS = b"la maison bleue le chat noir petit".split()
TARGET_WORDS = b"the blue house black cat small".split()


def save_model(path: Path, **settings: object) -> Path:
    """A model directory with random weights, as training would leave it."""
    vocabularies = Vocabulary(SOURCE_WORDS), Vocabulary(TARGET_WORDS)
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
