"""One thread in every test; a model on disk; the command line in an empty folder."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; tiny products

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from toys import Ran, save_model

from moses_integration.cli import main


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a random forward model of a few units."""
    return save_model(tmp_path_factory.mktemp("models") / "forward")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, so that messages hold short names."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs a command."""

    def call(*arguments: object) -> Ran:
        code = main(list(map(str, arguments)))
        return Ran(code, *capsys.readouterr())

    return call
