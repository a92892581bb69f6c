"""The models, each behind one contract: `log_probs(batch) -> (pairs, time)` natural logs.

A new architecture is a class and a line in `ARCHITECTURES`.
"""

from __future__ import annotations

import torch

from phrase_scorer.errors import UsageError
from phrase_scorer.models.cells import CELLS
from phrase_scorer.models.config import PRESETS, Direction, ModelConfig, Variant
from phrase_scorer.models.encoder_decoder import Context, EncoderDecoder

INITIAL_DEVIATION = 0.01  # of all weights but the recurrent ones (paper, section 4.1.1)

ARCHITECTURES: dict[str, type[EncoderDecoder]] = {"encoder_decoder": EncoderDecoder}

__all__ = [
    "ARCHITECTURES",
    "PRESETS",
    "Context",
    "Direction",
    "EncoderDecoder",
    "ModelConfig",
    "Variant",
    "build",
]


def build(
    config: ModelConfig, seed: int | None = None, deviation: float = INITIAL_DEVIATION
) -> EncoderDecoder:
    """The model of a configuration; with `seed`, its parameters drawn at random, else unset.

    Args:
        config: Its sizes.
        seed: Of the random numbers.
        deviation: Of the weights' normal distribution; the paper's is 0.01.

    Raises:
        UsageError: Unknown architecture or cell.
    """
    for what, name, known in (
        ("architecture", config.architecture, ARCHITECTURES),
        ("cell", config.cell, CELLS),
    ):
        if name not in known:
            raise UsageError(f"unknown {what} {name!r}; choose from {', '.join(known)}")
    model = ARCHITECTURES[config.architecture](config)
    if seed is not None:
        model.reset_parameters(deviation, torch.Generator().manual_seed(seed))
    return model
