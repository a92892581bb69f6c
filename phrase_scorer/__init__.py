"""Natural-log probabilities p(target | source) of phrase pairs, from an RNN encoder-decoder.

    pairs ── vocabulary ─▶ ids ── batches ─▶ tensors
          ── models ─▶ log-probabilities ── scorer ─▶ one float a pair

    >>> from phrase_scorer import PhraseScorer
    >>> scorer = PhraseScorer.load("rnn/")
    >>> scorer.score([("la maison bleue", "the blue house")])
    array([-1.5232], dtype=float32)

It knows words, ids and tensors; what knows Moses' files is the package `moses_integration`.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from phrase_scorer.errors import DataError, ModelError, PhraseScorerError, UsageError

if TYPE_CHECKING:
    from phrase_scorer.models import ModelConfig
    from phrase_scorer.scorer import PhraseScorer
    from phrase_scorer.training import train
    from phrase_scorer.training_settings import TrainingSettings

__all__ = [
    "DataError",
    "ModelConfig",
    "ModelError",
    "PhraseScorer",
    "PhraseScorerError",
    "TrainingSettings",
    "UsageError",
    "__version__",
    "train",
]

__version__ = version("phrase-scorer")

_LAZY = {
    "ModelConfig": "phrase_scorer.models",
    "PhraseScorer": "phrase_scorer.scorer",
    "TrainingSettings": "phrase_scorer.training_settings",
    "train": "phrase_scorer.training",
}


def __getattr__(name: str) -> Any:
    """Imports what needs torch on first use: `phrase-scorer --help` must not wait for it."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
