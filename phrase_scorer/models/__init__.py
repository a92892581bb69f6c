"""The models, each behind one contract (phrase_model.py).

A new architecture is a class and a line in `ARCHITECTURES` (architectures.py), a new cell a class
and a line in `CELLS` (cells.py). What needs no torch, config.py and files.py, is imported without.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from phrase_scorer.models.config import Direction, ModelConfig

if TYPE_CHECKING:
    from phrase_scorer.models.architectures import (
        ARCHITECTURES,
        LANGUAGE_MODELS,
        architecture_class,
        build,
    )
    from phrase_scorer.models.cells import CELLS
    from phrase_scorer.models.encoder_decoder import EncoderDecoder
    from phrase_scorer.models.phrase_model import PhraseModel

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

_LAZY = {
    "ARCHITECTURES": "architectures",
    "CELLS": "cells",
    "EncoderDecoder": "encoder_decoder",
    "LANGUAGE_MODELS": "architectures",
    "PhraseModel": "phrase_model",
    "architecture_class": "architectures",
    "build": "architectures",
}


def __getattr__(name: str) -> Any:
    """Imports on first use, and torch with it."""
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
