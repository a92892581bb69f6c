"""The models, each behind one contract (phrase_model.py).

A new architecture is a class and a line in `ARCHITECTURES`, a new cell a class and a line in
`CELLS` (cells.py).
"""

from __future__ import annotations

from typing import Any

import torch

from phrase_scorer.errors import UsageError
from phrase_scorer.models.attention import AttentionModel
from phrase_scorer.models.cells import CELLS
from phrase_scorer.models.config import PRESETS, Direction, ModelConfig, Variant
from phrase_scorer.models.continuous_space import ContinuousSpaceModel
from phrase_scorer.models.encoder_decoder import Context, EncoderDecoder
from phrase_scorer.models.phrase_model import PhraseModel
from phrase_scorer.models.seq2seq import SequenceToSequence
from phrase_scorer.models.transformer import DecoderOnly, MaskedModel, Transformer

INITIAL_DEVIATION = 0.01  # of all weights but the recurrent ones (paper, section 4.1.1)

ARCHITECTURES: dict[str, type[PhraseModel]] = {
    "encoder_decoder": EncoderDecoder,
    "seq2seq": SequenceToSequence,
    "attention": AttentionModel,
    "transformer": Transformer,
    "decoder_only": DecoderOnly,
    "masked": MaskedModel,
}
LANGUAGE_MODELS: dict[str, type[PhraseModel]] = {"cslm": ContinuousSpaceModel}

__all__ = [
    "ARCHITECTURES",
    "CELLS",
    "LANGUAGE_MODELS",
    "PRESETS",
    "Context",
    "Direction",
    "EncoderDecoder",
    "ModelConfig",
    "PhraseModel",
    "Variant",
    "architecture_class",
    "build",
    "preset_sizes",
    "training_preset",
]


def architecture_class(name: str) -> type[PhraseModel]:
    """The class of an architecture.

    Raises:
        UsageError: There is no such architecture.
    """
    every = ARCHITECTURES | LANGUAGE_MODELS
    if name not in every:
        choices = ", ".join(ARCHITECTURES)
        raise UsageError(f"unknown architecture {name!r}; choose from {choices}")
    return every[name]


def preset_sizes(preset: str, architecture: str) -> dict[str, Any]:
    """The sizes of a preset, as fields of `ModelConfig`, for an architecture."""
    chosen = architecture_class(architecture)
    return {**PRESETS[preset], "cell": chosen.default_cell, **chosen.presets.get(preset, {})}


def training_preset(preset: str, architecture: str) -> dict[str, Any]:
    """Where an architecture's training settings differ from those of a preset."""
    return dict(architecture_class(architecture).training_presets.get(preset, {}))


def build(
    config: ModelConfig, seed: int | None = None, deviation: float = INITIAL_DEVIATION
) -> PhraseModel:
    """The model of a configuration; with `seed`, its parameters drawn at random, else unset.

    Args:
        config: Its sizes.
        seed: Of the random numbers.
        deviation: Of the weights' normal distribution; the paper's is 0.01.

    Raises:
        UsageError: Unknown architecture or cell, or sizes that do not go together.
    """
    model = architecture_class(config.architecture)(config)
    if seed is not None:
        model.reset_parameters(deviation, torch.Generator().manual_seed(seed))
    return model
