"""Where a training stands, and what it says of itself: the bar and training_log.jsonl."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from phrase_scorer.text.batches import Batch
from phrase_scorer.training.settings import TrainingSettings

LOG_EVERY = 50  # updates


@dataclass
class Progress:
    """Where a training stands; saved with its state."""

    update: int = 0  # updates done
    best_loss: float = math.inf  # nats a target symbol on the validation pairs
    best_update: int = 0
    waited: int = 0  # validations since the best
    seconds: float = 0.0  # spent so far, over all runs


class TrainingLog:
    """What a training says of itself: the progress bar and training_log.jsonl."""

    def __init__(self, log: Any, bar: tqdm[Any], settings: TrainingSettings) -> None:
        self.log = log
        self.bar = bar
        self.settings = settings
        self.losses: list[Tensor] = []
        self.validation: float | None = None

    def note(self, progress: Progress, loss: Tensor, norm: Tensor, batch: Batch) -> None:
        """After an update."""
        self.losses.append(loss)
        self.bar.update(batch.target.words.shape[1])
        if progress.update % LOG_EVERY == 0:
            mean = float(torch.stack(self.losses).mean())
            self.losses = []
            self._write(
                progress,
                train_loss=round(mean, 5),
                gradient_norm=round(float(norm), 4),
                learning_rate=self.settings.learning_rate_at(progress.update - 1, progress.seconds),
            )
            self._show(mean)

    def note_validation(self, progress: Progress, loss: float | None) -> None:
        """After a validation; None: there is nothing to validate on."""
        self.validation = loss
        if loss is not None:
            self._write(progress, validation_loss=round(loss, 5))

    def _write(self, progress: Progress, **values: Any) -> None:
        line = {"update": progress.update, "seconds": round(progress.seconds, 1), **values}
        self.log.write(json.dumps(line) + "\n")
        self.log.flush()

    def _show(self, mean: float) -> None:
        shown = {"nats/symbol": f"{mean:.3f}"}
        if self.validation is not None:
            shown["validation"] = f"{self.validation:.3f}"
        self.bar.set_postfix(shown, refresh=False)
