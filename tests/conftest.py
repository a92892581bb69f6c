"""What several test files share: one thread, phrase pairs from id lists, tiny models."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; tiny products

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from phrase_scorer.models import ModelConfig, PhraseModel, build
from phrase_scorer.text.phrase_pairs import PhraseIds, PhrasePairs

IdLists = Sequence[Sequence[int]]


def _phrases(phrases: IdLists) -> PhraseIds:
    offsets = np.cumsum([0, *map(len, phrases)]).astype(np.int64)
    return PhraseIds(np.array([i for phrase in phrases for i in phrase], np.int32), offsets)


def _pairs(pairs: Sequence[tuple], weights: Sequence[float] | None = None) -> PhrasePairs:
    return PhrasePairs(
        _phrases([source for source, _ in pairs]),
        _phrases([target for _, target in pairs]),
        None if weights is None else np.array(weights, np.float32),
    )


def _tiny_model(
    variant: str = "paper",
    *,
    deviation: float = 0.5,
    seed: int = 1,
    dtype: torch.dtype = torch.float32,
    **sizes: object,
) -> PhraseModel:
    """A model whose biases are random too, so that a forgotten bias is seen."""
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


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def phrase_ids() -> Callable[[IdLists], PhraseIds]:
    """Phrases from lists of ids."""
    return _phrases


@pytest.fixture(scope="session")
def phrase_pairs() -> Callable[..., PhrasePairs]:
    """Pairs from (source ids, target ids) and, where wanted, weights."""
    return _pairs


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., PhraseModel]:
    """A random model of a few units: variant, sizes, deviation, seed, dtype."""
    return _tiny_model


@pytest.fixture(scope="session")
def parameters_of() -> Callable[[torch.nn.Module], dict[str, np.ndarray]]:
    """A model's parameters as float64 arrays, as reference.py reads them."""
    return lambda model: {
        name: value.detach().double().numpy() for name, value in model.named_parameters()
    }
