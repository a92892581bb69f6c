"""The models, each behind one contract (phrase_model.py).

A new architecture is a class and a line in `ARCHITECTURES`, a new cell a class and a line in
`CELLS` (cells.py).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from phrase_scorer.errors import UsageError, require_choice
from phrase_scorer.models.attention import AttentionModel
from phrase_scorer.models.cells import CELLS
from phrase_scorer.models.config import Direction, ModelConfig
from phrase_scorer.models.continuous_space import ContinuousSpaceModel
from phrase_scorer.models.encoder_decoder import EncoderDecoder
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
    "Direction",
    "EncoderDecoder",
    "ModelConfig",
    "PhraseModel",
    "architecture_class",
    "build",
]


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
    wanted = config.chosen().union(given)
    for name, value in vars(config).items():
        if name in wanted and kind.uses is not None and name not in kind.uses:
            raise UsageError(f"{name} {value}: {config.architecture} has no use for it")
    model = kind(config)
    if config.forget_bias and "forget_bias" not in CELLS[config.cell].uses:
        raise UsageError(f"forget_bias {config.forget_bias}: {config.cell} has no use for it")
    if seed is not None:
        model.reset_parameters(deviation, torch.Generator().manual_seed(seed))
    return model
