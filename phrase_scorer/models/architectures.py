"""The architectures by name.

A new one is a class, a line in `ARCHITECTURES`, and one in `USES` (config.py) that lets the command
line offer it, and refuse what it has no use for, before torch is imported.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from phrase_scorer.errors import require_choice
from phrase_scorer.models.attention import AttentionModel
from phrase_scorer.models.config import INITIAL_DEVIATION, ModelConfig, check_settings
from phrase_scorer.models.continuous_space import ContinuousSpaceModel
from phrase_scorer.models.encoder_decoder import EncoderDecoder
from phrase_scorer.models.phrase_model import PhraseModel
from phrase_scorer.models.seq2seq import SequenceToSequence
from phrase_scorer.models.transformer import DecoderOnly, MaskedModel, Transformer

ARCHITECTURES: dict[str, type[PhraseModel]] = {
    "encoder_decoder": EncoderDecoder,
    "seq2seq": SequenceToSequence,
    "attention": AttentionModel,
    "transformer": Transformer,
    "decoder_only": DecoderOnly,
    "masked": MaskedModel,
}
LANGUAGE_MODELS: dict[str, type[PhraseModel]] = {"cslm": ContinuousSpaceModel}


def architecture_class(name: str) -> type[PhraseModel]:
    """The class of an architecture; a name that is not one is a UsageError."""
    if name not in LANGUAGE_MODELS:
        require_choice("architecture", name, ARCHITECTURES)
    return (ARCHITECTURES | LANGUAGE_MODELS)[name]


def build(
    config: ModelConfig,
    seed: int | None = None,
    deviation: float = INITIAL_DEVIATION,
    *,
    given: Iterable[str] = (),
) -> PhraseModel:
    """The model of a configuration; with `seed`, its parameters drawn at random, else unset.

    Args:
        config: What is built.
        seed: Decides the random numbers.
        deviation: Standard deviation of the weights.
        given: Fields of the configuration that a user asked for: refused where they have no effect,
            even with their default.

    Raises:
        UsageError: Unknown architecture or cell, sizes that do not go together, or something that
            this architecture or cell has no use for.
    """
    kind = architecture_class(config.architecture)
    check_settings(config, given)
    model = kind(config)
    if seed is not None:
        model.reset_parameters(deviation, torch.Generator().manual_seed(seed))
    return model
