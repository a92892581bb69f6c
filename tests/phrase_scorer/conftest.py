"""A small back-off model that several tests read, and a network over nearly the same words."""

from __future__ import annotations

from pathlib import Path

import pytest

from phrase_scorer.language_model.arpa import Arpa, read_arpa
from phrase_scorer.language_model.model import LanguageModel
from phrase_scorer.models import ModelConfig, build
from phrase_scorer.text.vocabulary import Vocabulary

GIVEN = """
\\data\\
ngram 1=7
ngram 2=6
ngram 3=4

\\1-grams:
-1.5\t<unk>\t0
-99\t<s>\t-0.3
-0.9\t</s>\t0
-0.6\tun\t-0.2
-0.8\thomme\t-0.1
-1.2\tchat\t-0.1
-1.6\tvélo\t0

\\2-grams:
-0.3\t<s> un\t-0.1
-0.4\tun homme\t-0.2
-0.9\tun chat\t-0.2
-0.2\thomme </s>\t0
-0.7\tchat un\t0
-0.9\tchat vélo\t0

\\3-grams:
-0.3\t<s> un homme
-0.9\t<s> un chat
-0.1\tun homme </s>
-0.8\tun chat vélo

\\end\\
"""


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Arpa:
    monkeypatch.chdir(tmp_path)
    Path("given.arpa").write_text(GIVEN, encoding="utf-8")
    return read_arpa("given.arpa")


@pytest.fixture
def model() -> LanguageModel:
    words = [b"un", b"homme", b"chien"]  # "chien" is not in the file
    config = ModelConfig(
        2, 5, architecture="cslm", order=4, embedding=3, hidden=6, second_hidden=5, output_rank=0
    )
    network = build(config, 4, 0.9).eval().requires_grad_(False)
    return LanguageModel(network, Vocabulary(words))
