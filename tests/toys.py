"""What several test files share: where data stands, toy words, phrase tables and models."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from phrase_scorer.models import ModelConfig, PhraseModel, build
from phrase_scorer.models.directory import ModelDirectory
from phrase_scorer.text.phrase_pairs import PhraseIds, PhrasePairs
from phrase_scorer.text.vocabulary import Vocabulary

ROOT = Path(__file__).parent.parent
DATA = ROOT / "data"  # the project's own small corpus and its models
GOLDEN = ROOT / "tests" / "golden"  # what Moses wrote

SOURCE_WORDS = b"la maison bleue le chat noir".split()
TARGET_WORDS = b"the blue house black cat".split()

TOY_LINES = [
    b"la maison ||| the house ||| 0.5 0.25 ||| 0-0 1-1 ||| 2 2 1",
    b"la ||| the ||| 1 0.5 ||| 0-0 ||| 4 4 4",
    b"le chat noir ||| the black cat ||| 1 1 ||| 0-0 1-2 2-1 ||| 1 1 1",
    b"le ||| the ||| 1 1 ||| 0-0 ||| 3 3 3",
]
TOY_TABLE = b"".join(line + b"\n" for line in TOY_LINES)

# A moses.ini for a table with two scores; its path is to be filled in.
TOY_INI = """[feature]
WordPenalty
PhraseDictionaryMemory name=TM0 num-features=2 path={} input-factor=0 output-factor=0

[weight]
WordPenalty0= -1
TM0= 0.2 0.3
"""

PROGRAM = [sys.executable, "-m", "moses_integration"]  # the command, as a process of its own

IdLists = Sequence[Sequence[int]]

# A line of [feature], a plain moses.ini with it, and one with all that Moses reads over.
FEATURE = b"PhraseDictionaryMemory name=TM0 num-features=2 path=pt.gz input-factor=0"
PLAIN = b"[feature]\nWordPenalty\n" + FEATURE + b"\n[weight]\nWordPenalty0= -1\nTM0= 0.2 0.3\n"
MIXED = b"""\
# caf\xe9, path=not/this
[feature]\r
UnknownWordPenalty
\t PhraseDictionaryMemory  name=TM0\tnum-features=2  path=pt.gz input-factor=0 # path=old.gz
KENLM name=LM0 path=lm.arpa order=3
NoPath name=N0 mypath=x
  [weight]
UnknownWordPenalty0= 1
  TM0= 0.2  0.3 # tuned by hand
# LM0= 9
LM0= 0.5\r
"""


def phrase_ids(phrases: IdLists) -> PhraseIds:
    """Phrases from lists of ids."""
    offsets = np.cumsum([0, *map(len, phrases)]).astype(np.int64)
    return PhraseIds(np.array([i for phrase in phrases for i in phrase], np.int32), offsets)


def phrase_pairs(pairs: Sequence[tuple], weights: Sequence[float] | None = None) -> PhrasePairs:
    """Pairs from (source ids, target ids) and, where wanted, weights."""
    return PhrasePairs(
        phrase_ids([source for source, _ in pairs]),
        phrase_ids([target for _, target in pairs]),
        None if weights is None else np.array(weights, np.float32),
    )


def toy_lines(entries: int) -> list[bytes]:
    """That many entries of a table, a few targets per source, some words unknown to the model."""
    chance, made = random.Random(entries), []
    while len(made) < entries:
        source = b" ".join(chance.choices([*SOURCE_WORDS, b"Haus"], k=chance.randint(1, 4)))
        for _ in range(chance.randint(1, 5)):
            words = chance.choices([*TARGET_WORDS, b"Katze"], k=chance.randint(0, 4))
            scores = b" ".join(b"%.5g" % chance.uniform(0, 1) for _ in range(4))
            rest = b"0-0 ||| 3 2 1 ||| |||"
            made.append(b"%b ||| %b ||| %b ||| %b" % (source, b" ".join(words), scores, rest))
    return made[:entries]


def tiny_model(
    variant: str = "paper",
    *,
    deviation: float = 0.5,
    seed: int = 1,
    dtype: torch.dtype = torch.float32,
    **sizes: object,
) -> PhraseModel:
    """A random model of a few units; its biases are random too, so that a forgotten one is seen."""
    defaults = {"source_words": 12, "target_words": 9, "hidden": 5, "embedding": 4, "maxout": 3}
    if sizes.get("architecture") in ("transformer", "decoder_only", "masked"):
        defaults |= {"hidden": 8, "heads": 2, "feed_forward": 10, "layers": 2}
    config = ModelConfig(variant=variant, **{**defaults, "output_rank": 2, **sizes})
    model = build(config, seed=seed, deviation=deviation)
    generator = torch.Generator().manual_seed(seed + 1000)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0.0, deviation, generator=generator)
    return model.to(dtype).eval().requires_grad_(False)


def parameters_of(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """A model's parameters as float64 arrays, as reference.py reads them."""
    return {name: value.detach().double().numpy() for name, value in model.named_parameters()}


def save_model(
    path: Path,
    source_words: list[bytes] = SOURCE_WORDS,
    target_words: list[bytes] = TARGET_WORDS,
    *,
    seed: int = 5,
    **settings: object,
) -> Path:
    """A model directory with random weights, as training would leave it."""
    vocabularies = Vocabulary(source_words), Vocabulary(target_words)
    sizes = {"hidden": 6, "embedding": 4, "maxout": 3, "output_rank": 0}
    config = ModelConfig(*map(len, vocabularies), **{**sizes, **settings})
    directory = ModelDirectory(path)
    directory.create(config, vocabularies, {})
    directory.save_weights(build(config, seed=seed, deviation=0.6).state_dict())
    return path


class Ran(NamedTuple):
    """What a call of `main` returned and printed."""

    code: int
    out: str
    err: str

    @property
    def last_error(self) -> str:
        """The error, whatever is said before it."""
        line = self.err.splitlines()[-1]
        assert line.startswith("error: ")
        return line[len("error: ") :]

    @property
    def last_line(self) -> str:
        """What was said last, on standard error."""
        return self.err.splitlines()[-1]

    @property
    def error(self) -> str:
        """The one line on standard error, where that is all there is."""
        assert self.err.startswith("error: ")
        assert self.err.count("\n") == 1
        assert self.err.endswith("\n")
        assert self.out == ""
        return self.err[len("error: ") : -1]


def program(*arguments: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own, for signals, pipes and limits on files."""
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=60, **options)


def names(folder: Path) -> list[str]:
    """The names in a folder."""
    return sorted(path.name for path in folder.iterdir())
