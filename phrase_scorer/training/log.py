"""What a training says of itself: the progress bar, and training_log.jsonl, a line at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import msgspec
import torch
from torch import Tensor
from tqdm import tqdm

from phrase_scorer.models.files import Progress
from phrase_scorer.runtime.output import write_errors
from phrase_scorer.runtime.records import Origin, parse_json
from phrase_scorer.runtime.report import as_json
from phrase_scorer.runtime.streams import numbered_lines
from phrase_scorer.text.batches import Batch
from phrase_scorer.training.events import Events
from phrase_scorer.training.settings import TrainingSettings

LOG_EVERY = 50  # updates


def open_log(path: Path) -> TextIO:
    """A training_log.jsonl, to be appended to."""
    with write_errors(path):
        return open(path, "a", encoding="utf-8")


class TrainingLog:
    """Writes the log, a line every `LOG_EVERY` updates and at each validation; moves the bar."""

    def __init__(
        self, file: TextIO, bar: tqdm[Any], settings: TrainingSettings,
        events: Events | None = None,
    ) -> None:  # fmt: skip
        self._file = file
        self._events = events
        self._bar = bar
        self._settings = settings
        self._losses: list[Tensor] = []
        self._validation: float | None = None

    def note(self, progress: Progress, loss: Tensor, norm: Tensor, batch: Batch) -> None:
        """After an update."""
        self._losses.append(loss)
        if minutes := self._settings.minutes:
            self._bar.update(min(progress.seconds, 60 * minutes) - self._bar.n)
        else:
            self._bar.update(batch.target.words.shape[1])
        if progress.update % LOG_EVERY:
            return
        mean = float(torch.stack(self._losses).mean())
        self._losses = []
        rate = self._settings.learning_rate_at(progress.update - 1, progress.seconds)
        values = {"train_loss": round(mean, 5), "gradient_norm": round(float(norm), 4)}
        self._write(progress, **values, learning_rate=rate)
        shown = {"nats/symbol": f"{mean:.3f}"}
        if self._validation is not None:
            shown["validation"] = f"{self._validation:.3f}"
        self._bar.set_postfix(shown, refresh=False)

    def note_validation(self, progress: Progress, loss: float | None) -> None:
        """After a validation; None: no pairs to validate on."""
        self._validation = loss
        if loss is not None:
            self._write(progress, validation_loss=round(loss, 5))

    def _write(self, progress: Progress, **values: Any) -> None:
        line = {"update": progress.update, "seconds": round(progress.seconds, 1), **values}
        with write_errors(getattr(self._file, "name", "training log")):
            self._file.write(as_json(line, indent=None))
            self._file.flush()
        if self._events is not None:
            for name, value in values.items():
                self._events.add(name, value, progress.update)


class LoggedLine(msgspec.Struct):
    """A line of training_log.jsonl, as far as it is read again."""

    update: int
    seconds: float
    validation_loss: float | None = None
    train_loss: float | None = None  # mean since the last line that has one
    learning_rate: float | None = None
    gradient_norm: float | None = None


def read_log(path: Path) -> Iterator[LoggedLine]:
    """The lines of a training_log.jsonl; a DataError tells of one that is none."""
    for number, line in numbered_lines(path):
        yield parse_json(line, LoggedLine, Origin(path, number), finite=False)
