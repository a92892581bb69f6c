"""Natural-log probabilities p(target | source) of phrase pairs, from an RNN encoder-decoder.

    pairs ── vocabulary ─▶ ids ── batches ─▶ tensors
          ── models ─▶ log-probabilities ── scorer ─▶ one float per pair

    >>> from phrase_scorer import PhraseScorer
    >>> scorer = PhraseScorer.load("rnn/")
    >>> scorer.score([("the blue house", "la maison bleue")])
    array([-1.5232], dtype=float32)

It knows words, ids and tensors; what knows Moses' files is the package `moses_integration`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from phrase_scorer.errors import DataError, ModelError, PhraseScorerError, UsageError

if TYPE_CHECKING:
    from phrase_scorer.scoring.scorer import PhraseScorer
    from phrase_scorer.training.call import train
    from phrase_scorer.training.job import TrainingResult
    from phrase_scorer.training.request import Choices
    from phrase_scorer.version import __version__

__all__ = [
    "Choices",
    "DataError",
    "ModelError",
    "PhraseScorer",
    "PhraseScorerError",
    "TrainingResult",
    "UsageError",
    "__version__",
    "train",
]

_LAZY = {
    "__version__": "phrase_scorer.version",
    "Choices": "phrase_scorer.training.request",
    "PhraseScorer": "phrase_scorer.scoring.scorer",
    "TrainingResult": "phrase_scorer.training.job",
    "train": "phrase_scorer.training.call",
}


def __getattr__(name: str) -> Any:
    """Imports on first use: `phrase-scorer --help` must not wait for torch, nor for metadata."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """All names, those not imported yet too: for completion, and for what documents them."""
    return sorted({*globals(), *__all__})
