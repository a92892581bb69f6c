"""How to train: every choice with its default, the presets, and the learning rate's schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from phrase_scorer.errors import UsageError
from phrase_scorer.models import INITIAL_DEVIATION, training_preset

Optimizer = Literal["adamw", "adadelta"]
Schedule = Literal["constant", "linear", "inverse-sqrt", "timed"]
Reduction = Literal["mean", "sum"]
Precision = Literal["float32", "bfloat16"]


UNLIMITED = 1 << 40  # updates: never reached


@dataclass(frozen=True)
class TrainingSettings:
    """How to train; the default is the paper's (section 4.1.1), the rest as in GroundHog."""

    batch_pairs: int = 64
    optimizer: Optimizer = "adadelta"  # rho 0.95, epsilon 1e-6
    learning_rate: float = 1.0
    schedule: Schedule = "constant"
    warmup: int = 0  # updates in which the learning rate rises from 0
    initial_deviation: float = INITIAL_DEVIATION  # of the weights at the start
    clip_norm: float = 1.0  # largest norm of the gradient; 0: not clipped
    reduction: Reduction = "mean"  # objective over the pairs of a batch: eq. 4's mean, or a sum
    max_updates: int = 3_000_000
    minutes: float = 0.0  # that a timed schedule fills: the learning rate falls to 0, training ends
    pool_batches: int = 10  # batches sorted by length together
    validation_pairs: int = 5_000  # pairs of held-out source phrases
    validate_every: int = 1_000  # updates
    patience: int = 20  # validations without improvement before training stops; 0: never
    precision: Precision = "float32"  # of the recurrent and readout products
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("batch_pairs", "max_updates", "pool_batches", "validate_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        if (self.schedule == "timed") != (self.minutes > 0):
            raise UsageError(f"schedule {self.schedule} with minutes {self.minutes}")
        for name, kind in (
            ("optimizer", Optimizer),
            ("schedule", Schedule),
            ("reduction", Reduction),
            ("precision", Precision),
        ):
            if getattr(self, name) not in get_args(kind):
                choices = ", ".join(get_args(kind))
                raise UsageError(f"unknown {name} {getattr(self, name)!r}; choose from {choices}")

    def learning_rate_at(self, update: int, seconds: float = 0.0) -> float:
        """The learning rate of an update (from 0), `seconds` into the training."""
        rising = min(1.0, (update + 1) / (self.warmup + 1))
        if self.schedule == "timed":
            return self.learning_rate * min(rising, max(0.0, 1 - seconds / (60 * self.minutes)))
        if self.schedule == "linear":
            left = (self.max_updates - update) / max(1, self.max_updates - self.warmup)
            return self.learning_rate * min(rising, max(0.0, left))
        if self.schedule == "inverse-sqrt":
            falling = math.sqrt((self.warmup + 1) / (update + 1))
            return self.learning_rate * min(rising, falling)
        return self.learning_rate * rising


_FAST: dict[str, Any] = {
    "batch_pairs": 512,
    "optimizer": "adamw",
    "schedule": "linear",
    "warmup": 100,
    "initial_deviation": 0.1,
    "clip_norm": 5.0,
    "pool_batches": 50,
    "validate_every": 500,
    "patience": 6,
}
TRAINING_PRESETS: dict[str, dict[str, Any]] = {
    "small": {**_FAST, "learning_rate": 4e-3, "max_updates": 5_000},
    "base": {**_FAST, "learning_rate": 2e-3, "max_updates": 20_000},
    "paper": {},
}


def preset_settings(preset: str, architecture: str, chosen: dict[str, Any]) -> TrainingSettings:
    """The settings of a preset, as an architecture has them, with what was chosen otherwise.

    Raises:
        UsageError: A setting that cannot be.
    """
    own = training_preset(preset, architecture)
    return TrainingSettings(**TRAINING_PRESETS[preset] | own | chosen)
