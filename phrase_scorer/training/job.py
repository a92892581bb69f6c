"""What one training is given, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phrase_scorer.errors import require_finite
from phrase_scorer.models import ModelConfig
from phrase_scorer.models.files import Progress
from phrase_scorer.training.data import TrainingData
from phrase_scorer.training.settings import TrainingSettings
from phrase_scorer.training.start import StartModel


@dataclass(frozen=True)
class TrainingJob:
    """What is trained, how, and where it is kept."""

    data: TrainingData
    config: ModelConfig
    settings: TrainingSettings
    path: Path  # the model directory
    details: Mapping[str, Any] = field(default_factory=dict)  # more to note in config.json
    start: StartModel | None = None  # None: weights drawn at random


@dataclass(frozen=True)
class RunLimits:
    """How long a run goes on, and how often it saves."""

    max_minutes: float | None = None  # stop after this time, at the end of an update
    checkpoint_minutes: float = 10.0  # save the state this often (and at SIGINT and SIGTERM)

    def __post_init__(self) -> None:
        if self.max_minutes is not None:
            require_finite("max_minutes", self.max_minutes)
        require_finite("checkpoint_minutes", self.checkpoint_minutes, or_zero=True)


NO_LIMITS = RunLimits()


@dataclass(frozen=True)
class TrainingResult:
    """What came of a training."""

    progress: Progress
    stopped: str  # why: "updates", "minutes", "patience", or the name of a signal
    validated: bool = True  # whether there were pairs to validate on
