"""An inverse model, the scorer of a forward one, and the real Moses.

For the tests that run the real Moses: the model of data/, filtered for a few sentences, with and
without a column of ours.
"""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest
from toys import DATA, save_model

from moses_integration.cli import main
from moses_integration.decoder.programs import Moses
from phrase_scorer.scoring.scorer import PhraseScorer

SENTENCES = 30


@pytest.fixture(scope="session")
def inverse_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of an inverse model."""
    return save_model(tmp_path_factory.mktemp("models") / "inverse", direction="inverse")


@pytest.fixture(scope="session")
def scorer(model_path: Path) -> PhraseScorer:
    """The forward model, loaded."""
    return PhraseScorer.load(model_path, "cpu")


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
