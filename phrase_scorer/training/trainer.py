"""Training on phrase pairs: objective, optimisers, schedule, validation, early stopping, resume.

In: `PhrasePairs` as ids, a configuration. Out: a model directory (checkpoint.py). Whatever happens
in an update is a function of the settings, the pairs and the update's number, so a training that
was stopped and resumed ends with the weights of one that was not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from phrase_scorer.errors import DataError, PhraseScorerError
from phrase_scorer.models import ModelConfig, PhraseModel, build
from phrase_scorer.models.directory import ModelDirectory
from phrase_scorer.runtime.console import progress_bar
from phrase_scorer.runtime.streams import prefetch
from phrase_scorer.text.batches import Batch, TrainingOrder, by_length, pair_batch
from phrase_scorer.text.phrase_pairs import PhrasePairs
from phrase_scorer.text.vocabulary import Vocabulary
from phrase_scorer.training.log import Progress, TrainingLog
from phrase_scorer.training.loss import chosen_log_probs, cross_entropy
from phrase_scorer.training.settings import TrainingSettings

VALIDATION_BATCH = 512
DIVERGED = 20  # updates in a row without a finite gradient


@dataclass(frozen=True)
class TrainingResult:
    """What came of a training.

    Attributes:
        progress: Where it stands.
        stopped: Why: "updates", "minutes", "patience", or the name of a signal.
        validated: Whether there were pairs to validate on.
    """

    progress: Progress
    stopped: str
    validated: bool = True


def train(
    pairs: PhrasePairs,
    vocabularies: tuple[Vocabulary, Vocabulary],
    config: ModelConfig,
    settings: TrainingSettings,
    path: str | Path,
    *,
    device: torch.device | str = "cpu",
    max_minutes: float | None = None,
    checkpoint_minutes: float = 10.0,
    resume: bool = False,
    show_progress: bool = True,
    details: Mapping[str, Any] | None = None,
    validation: PhrasePairs | None = None,
) -> TrainingResult:
    """Trains a model and leaves it in a directory.

    Args:
        pairs: Unique pairs, as ids of the vocabularies, source first (the model's input side).
        vocabularies: (source, target).
        config: Sizes of the model.
        settings: How to train.
        path: The model directory.
        device: Where to compute.
        max_minutes: Stop after this time, at the end of an update.
        checkpoint_minutes: Save the state this often (and at SIGINT and SIGTERM).
        resume: Continue from the saved state.
        show_progress: A progress bar on standard error.
        details: More to note in config.json (the data's path, say).
        validation: Pairs to validate on; None: those of some source phrases are held out.

    Raises:
        DataError: No pairs.
        ModelError: Nothing to resume, or from other data or settings.
        PhraseScorerError: The training diverged.
    """
    if not len(pairs):
        raise DataError("no phrase pairs to train on")
    directory = ModelDirectory(Path(path))
    trainer = Trainer(pairs, config, settings, directory, torch.device(device), validation)
    if resume:
        trainer.load_state()
    else:
        known = {
            "training": dataclasses.asdict(settings),
            "data": {"pairs": len(pairs), "fingerprint": trainer.fingerprint, **(details or {})},
        }
        directory.create(config, vocabularies, known)
    return trainer.run(max_minutes, checkpoint_minutes, show_progress=show_progress)


class Trainer:
    """One training: the model, its optimiser, the pairs, and where it stands."""

    def __init__(
        self,
        pairs: PhrasePairs,
        config: ModelConfig,
        settings: TrainingSettings,
        directory: ModelDirectory,
        device: torch.device,
        validation: PhrasePairs | None = None,
    ) -> None:
        self.settings = settings
        self.directory = directory
        self.device = device
        self.fingerprint = hashlib.sha256(pairs.hashes().tobytes()).hexdigest()[:16]
        self.pairs, self.validation = (
            (pairs, validation)
            if validation is not None
            else pairs.split_by_source(settings.validation_pairs, settings.seed)
        )
        self.order = TrainingOrder(
            self.pairs, settings.batch_pairs, settings.pool_batches, settings.seed
        )
        self.model = build(config, settings.seed, settings.initial_deviation).to(device)
        self.optimizer = _optimizer(self.model, settings)
        self.progress = Progress()
        self.best_weights = _weights(self.model)
        self._not_finite = 0
        # Weights of pairs (counts) are scaled to a mean of 1, so that they change no step size.
        mean = 1.0 if self.pairs.weights is None else float(self.pairs.weights.mean(dtype=float))
        self._weight_scale = 1.0 / mean if mean > 0 else 1.0

    # -- one update ------------------------------------------------------------------------------

    def update(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One step of the optimiser; returns (nats a symbol, norm of the gradient)."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate_at(
                self.progress.update, self.progress.seconds
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._objective(batch)
        pairs = batch.target.words.shape[1]
        scale = 1.0 / pairs if self.settings.reduction == "mean" else 1.0
        (loss * scale).backward()
        limit = self.settings.clip_norm or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        if self._finite(norm):
            self.optimizer.step()
        self.progress.update += 1
        return loss.detach() / len(batch.target.symbols), norm

    def _objective(self, batch: Batch) -> Tensor:
        """Summed -ln p of a batch's target symbols, in nats."""
        features = self._features(batch)
        weights = torch.ones(len(features), device=self.device)
        if batch.weights is not None:
            weights = batch.weights.index_select(0, batch.target.phrases) * self._weight_scale
        output = self.model.output
        words = batch.target.symbol_words
        return cross_entropy(features, output.right, output.bias, words, weights)

    def _features(self, batch: Batch) -> Tensor:
        half = self.settings.precision == "bfloat16"
        devices = [self.device] if self.device.type == "cuda" else []
        with (
            torch.random.fork_rng(devices),
            torch.autocast(self.device.type, torch.bfloat16, enabled=half),
        ):
            # Dropout, too, is a function of the update's number.
            torch.manual_seed(self.settings.seed << 32 | self.progress.update)
            return self.model.features(batch)

    def _finite(self, norm: Tensor) -> bool:
        if bool(norm.isfinite()):
            self._not_finite = 0
            return True
        self._not_finite += 1
        if self._not_finite >= DIVERGED:
            raise PhraseScorerError(
                f"training diverged: no finite gradient in {DIVERGED} updates up to update "
                f"{self.progress.update}; lower --learning-rate"
            )
        return False

    # -- validation ------------------------------------------------------------------------------

    @torch.inference_mode()
    def validate(self) -> float:
        """Nats a target symbol (words and end symbols) on the held-out source phrases."""
        total, symbols = 0.0, 0
        output = self.model.eval().output
        for rows in by_length(self.validation.target.lengths, VALIDATION_BATCH):
            batch = pair_batch(self.validation, rows, self.device)
            words = batch.target.symbol_words
            features = self.model.features(batch)
            total -= float(chosen_log_probs(features, output.right, output.bias, words).sum())
            symbols += len(words)
        self.model.train()
        return total / max(1, symbols)

    def _note_validation(self, loss: float) -> None:
        """Keeps the best weights; without validation pairs the latest are the best."""
        if loss < self.progress.best_loss or not len(self.validation):
            self.progress.best_loss = loss
            self.progress.best_update = self.progress.update
            self.progress.waited = 0
            self.best_weights = _weights(self.model)
            self.directory.save_weights(self.best_weights)
        else:
            self.progress.waited += 1

    # -- state -----------------------------------------------------------------------------------

    def save_state(self) -> None:
        """Saves all that resuming needs."""
        tensors = {f"model/{name}": value for name, value in _weights(self.model).items()}
        tensors |= {f"best/{name}": value for name, value in self.best_weights.items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"optimizer/{name}/{key}"] = torch.as_tensor(value).cpu()
        known = {
            "progress": dataclasses.asdict(self.progress),
            "config": self.model.config.as_dict(),
            "settings": dataclasses.asdict(self.settings),
            "data": self.fingerprint,
        }
        self.directory.save_state(tensors, known)

    def load_state(self) -> None:
        """Continues where `save_state` was called.

        Raises:
            ModelError: There is no state, or it is of other data or settings.
        """
        tensors, known = self.directory.load_state()
        self._require_same(known)
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
        for name, value in tensors.items():
            part, _, rest = name.partition("/")
            parts[part][rest] = value
        self.model.load_state_dict(parts["model"])
        self.best_weights = parts["best"]
        state: dict[int, dict[str, Tensor]] = {}
        for number, (name, _) in enumerate(self.model.named_parameters()):
            prefix = f"{name}/"
            state[number] = {
                key.removeprefix(prefix): value
                for key, value in parts["optimizer"].items()
                if key.startswith(prefix)
            }
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.progress = Progress(**known["progress"])
        if self.progress.best_update:
            self.directory.save_weights(self.best_weights)

    def _require_same(self, known: Mapping[str, Any]) -> None:
        if known["data"] != self.fingerprint:
            message = "cannot resume: it was trained on other phrase pairs"
            raise DataError(message, path=self.directory.path)
        now = {**dataclasses.asdict(self.model.config), **dataclasses.asdict(self.settings)}
        defaults = dataclasses.asdict(TrainingSettings())  # of settings that are younger
        config = dataclasses.asdict(ModelConfig(**known["config"]))
        before = {**config, **defaults, **known["settings"]}
        now |= {name: type(value)() for name, value in before.items() if name not in now}  # gone
        for name, value in now.items():
            # A constant schedule may be prolonged; a falling one depends on its end.
            free = name == "patience" or (
                name == "max_updates" and self.settings.schedule != "linear"
            )
            if not free and before.get(name) != value:
                message = f"cannot resume: {name} was {before.get(name)}, now {value}"
                raise DataError(message, path=self.directory.path)

    # -- the loop --------------------------------------------------------------------------------

    def run(
        self, max_minutes: float | None, checkpoint_minutes: float, *, show_progress: bool = True
    ) -> TrainingResult:
        """Updates until something says stop; saves the state, then the best weights."""
        began = time.monotonic() - self.progress.seconds
        limit = math.inf if max_minutes is None else time.monotonic() + 60 * max_minutes
        saved = time.monotonic()
        stopped = ""
        with (
            _signals() as received,
            self._bar(show_progress) as bar,
            open(self.directory.log_file, "a", encoding="utf-8") as log,
            contextlib.closing(prefetch(self._batches())) as batches,
        ):
            journal = TrainingLog(log, bar, self.settings)
            while not (stopped := self._stop(received, limit)):
                batch = next(batches)
                loss, norm = self.update(batch)
                self.progress.seconds = time.monotonic() - began
                journal.note(self.progress, loss, norm, batch)
                if self.progress.update % self.settings.validate_every == 0:
                    self._validate_and_note(journal)
                if time.monotonic() - saved > 60 * checkpoint_minutes:
                    self.save_state()
                    saved = time.monotonic()
            # The state is that of an undisturbed run: a validation out of turn comes after it.
            self.save_state()
            if self.progress.update % self.settings.validate_every and stopped not in _SIGNALS:
                self._validate_and_note(journal)
        return TrainingResult(self.progress, stopped, len(self.validation) > 0)

    def _validate_and_note(self, journal: TrainingLog) -> None:
        loss = self.validate()
        self._note_validation(loss)
        journal.note_validation(self.progress, loss if len(self.validation) else None)

    def _stop(self, received: list[str], limit: float) -> str:
        """Why to stop now, or an empty string."""
        if received:
            return received[0]
        if self.progress.update >= self.settings.max_updates:
            return "updates"
        if self.settings.patience and self.progress.waited >= self.settings.patience:
            return "patience"
        filled = self.settings.minutes and self.progress.seconds >= 60 * self.settings.minutes
        return "minutes" if filled or time.monotonic() >= limit else ""

    def _batches(self) -> Iterator[Batch]:
        for number in range(self.progress.update, self.settings.max_updates):
            yield pair_batch(self.pairs, self.order.rows(number), self.device)

    def _bar(self, show: bool) -> tqdm[Any]:
        per_update = min(self.settings.batch_pairs, len(self.pairs))
        return progress_bar(
            "training",
            show=show,
            total=None if self.settings.minutes else self.settings.max_updates * per_update,
            initial=self.progress.update * per_update,
            unit=" pairs" if self.model.reads_source else " sentences",
            smoothing=0.05,
        )


_SIGNALS = ("SIGINT", "SIGTERM")


@contextlib.contextmanager
def _signals() -> Iterator[list[str]]:
    """Collects the names of SIGINT and SIGTERM instead of dying of them (main thread only)."""
    received: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def note(number: int, _: FrameType | None) -> None:
        received.append(signal.Signals(number).name)

    before = {name: signal.signal(getattr(signal, name), note) for name in _SIGNALS}
    try:
        yield received
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def _optimizer(model: PhraseModel, settings: TrainingSettings) -> torch.optim.Optimizer:
    parameters = list(model.parameters())
    if settings.optimizer == "adadelta":
        return torch.optim.Adadelta(parameters, lr=settings.learning_rate, rho=0.95, eps=1e-6)
    return torch.optim.AdamW(
        parameters, lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True
    )


def _weights(model: PhraseModel) -> dict[str, Tensor]:
    """A copy of the weights on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
