"""Training on phrase pairs: objective, optimisers, schedule, validation, early stopping, resume.

In: a `TrainingJob`. Out: a model directory (models/directory.py). Whatever happens in an update is
a function of the settings, the pairs and the update's number, so a training that was stopped and
resumed ends with the weights of one that was not.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from phrase_scorer.errors import DataError, ModelError, PhraseScorerError
from phrase_scorer.models import ModelConfig, PhraseModel, build
from phrase_scorer.models.directory import ModelDirectory, first_difference, shapes_of
from phrase_scorer.models.files import EACH_ONCE, Progress, TrainingState
from phrase_scorer.runtime.console import collected_signals, note, progress_bar, say
from phrase_scorer.runtime.output import locked_folder
from phrase_scorer.runtime.streams import prefetch
from phrase_scorer.text.batches import Batch, MixedOrder, TrainingOrder, by_length, pair_batch
from phrase_scorer.training.events import open_events
from phrase_scorer.training.job import NO_LIMITS, RunLimits, TrainingJob, TrainingResult
from phrase_scorer.training.log import TrainingLog, open_log
from phrase_scorer.training.loss import chosen_log_probs
from phrase_scorer.training.objective import TRIED, Gradients, Objective, faster_precision
from phrase_scorer.training.optimizer import KEPT_OF_A_PARAMETER, optimizer_of
from phrase_scorer.training.settings import TrainingSettings

VALIDATION_BATCH = 512
DIVERGED = 20  # updates in a row without a finite gradient
TIMED_BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"


def run_training(
    job: TrainingJob,
    limits: RunLimits = NO_LIMITS,
    *,
    device: torch.device | str = "cpu",
    resume: bool = False,
    show_progress: bool = True,
    events: Path | None = None,
) -> TrainingResult:
    """Trains a model and leaves it in its directory; with `resume` it goes on from a saved state.

    The job's pairs are unique, the model's input side first. `events` is a folder for TensorBoard.

    Raises:
        DataError: No pairs; a state that comes from other pairs or settings; a file that cannot be
            written.
        ModelError: Nothing to resume, or a state that is broken.
        UsageError: Another process is training in the directory.
        PhraseScorerError: The training diverged.
    """
    pairs = job.data.pairs
    if not len(pairs):
        raise DataError("no phrase pairs to train on")
    if resume:
        ModelDirectory(job.path).require_state()
    with locked_folder(job.path, "training"):
        trainer = Trainer(job, torch.device(device))
        trainer.settle_precision(resumed=resume)
        if resume:
            trainer.load_state()
        else:
            known = {
                "training": vars(trainer.settings),
                "data": {"pairs": len(pairs), "fingerprint": trainer.fingerprint, **job.details},
            }
            if job.start is not None:
                known["start"] = msgspec.structs.asdict(job.start.known)
            trainer.directory.create(job.config, job.data.vocabularies, known)
        return trainer.run(limits, show_progress=show_progress, events=events)


class Trainer:
    """One training: the model, its optimiser, the pairs, and where it stands."""

    def __init__(self, job: TrainingJob, device: torch.device) -> None:
        self.settings = settings = job.settings
        self.directory = ModelDirectory(job.path)
        self.device = device
        self.vocabularies = job.data.vocabularies
        self.fingerprint = _digest(job.data.pairs.hashes())
        given = job.data.validation
        weights = job.data.pairs.weights
        # What decides the result besides pairs and settings, in words.
        self._weighting = EACH_ONCE if weights is None else f"by counts ({_digest(weights)})"
        self._validation = "on held-out pairs" if given is None else f"on {_digest(given.hashes())}"
        self.pairs, self.validation = job.data.split(
            settings.validation_pairs, settings.seed, settings.hold_out
        )
        how = settings.batch_pairs, settings.pool_batches, settings.seed
        shares = job.data.shares
        self._mix = ", ".join(f"{share:.6g}" for share in shares) or "none"
        self.order = (
            MixedOrder(self.pairs, *how, shares) if shares else TrainingOrder(self.pairs, *how)
        )
        self.model = build(job.config, settings.seed, settings.initial_deviation).to(device)
        self._began_from_model = job.start is not None
        if job.start is not None:
            self.model.load_state_dict(job.start.weights)
        self.optimizer = optimizer_of(self.model, settings)
        self.progress = Progress()
        self.best_weights = _weights(self.model)
        # A running mean of the weights, or these themselves: what is validated and kept.
        self.mean = [weight.detach() for weight in self.model.parameters()]
        if settings.averaged:
            self.mean = [weight.clone() for weight in self.mean]
        self._not_finite = 0
        words = job.config.target_words
        self.objective = Objective(settings, self.pairs, words, device)
        self.gradients = Gradients(self.objective, self.model, device)

    def settle_precision(self, *, resumed: bool) -> None:
        """Puts the faster precision in the place of "auto", or that which a training began with."""
        if self.settings.precision != "auto":
            return
        if resumed:
            precision = self.directory.known_state().settings.get("precision", "float32")
        else:
            rows = map(self.order.rows, range(TRIED))
            batches = (pair_batch(self.pairs, each, self.device) for each in rows)
            precision, ratio = faster_precision(self.objective, self.gradients, batches)
            told = f"{ratio:.1f} times as fast in bfloat16 as in float32"
            note(f"products in {precision}: an update is {told} here (--precision)")
        self.settings = self.objective.settings = replace(self.settings, precision=precision)

    # -- one update ------------------------------------------------------------------------------

    def update(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One step of the optimiser; returns (nats per symbol, norm of the gradient)."""
        progress, settings = self.progress, self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate_at(progress.update, progress.seconds)
        self.optimizer.zero_grad(set_to_none=True)
        pairs = batch.target.words.shape[1]
        scale = 1.0 / pairs if settings.reduction == "mean" else 1.0
        loss = self.gradients(batch, scale, progress)
        limit = settings.clip_norm or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        self._not_finite = 0 if norm.isfinite() else self._not_finite + 1
        if self._not_finite >= DIVERGED:
            raise _diverged(f"no finite gradient in {DIVERGED} updates", progress)
        if not self._not_finite:
            self.optimizer.step()
        progress.update += 1
        if settings.averaged:
            latest = [weight.detach() for weight in self.model.parameters()]
            torch._foreach_lerp_(self.mean, latest, settings.newest_share(progress.update))
        return loss / len(batch.target.symbols), norm

    # -- validation ------------------------------------------------------------------------------

    @torch.inference_mode()
    def validate(self) -> float:
        """Nats per target symbol (words and end symbols) on the held-out source phrases."""
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

    @contextlib.contextmanager
    def _mean_in_place(self) -> Iterator[None]:
        """The model with the running mean of its weights, for a while."""
        parameters = list(self.model.parameters())
        latest = [weight.data for weight in parameters]
        try:
            for weight, mean in zip(parameters, self.mean, strict=True):
                weight.data = mean
            yield
        finally:
            for weight, before in zip(parameters, latest, strict=True):
                weight.data = before

    def _keep_best(self, log: TrainingLog) -> None:
        """Validates and keeps the best weights; without validation pairs these are the latest."""
        progress = self.progress
        if not all(value.isfinite().all() for value in self.model.parameters()):
            raise _diverged("weights that are not finite", progress)
        with self._mean_in_place():
            loss, weights = self.validate(), _weights(self.model)
        if loss < progress.best_loss or not len(self.validation):
            progress.best_loss = loss
            progress.best_update = progress.update
            progress.waited = 0
            self.best_weights = weights
            self._save_best()
        else:
            progress.waited += 1
        log.note_validation(progress, loss if len(self.validation) else None)

    def _save_best(self) -> None:
        self.directory.save_weights(
            self.best_weights, self.progress if len(self.validation) else None
        )

    # -- state -----------------------------------------------------------------------------------

    def save_state(self) -> None:
        """Saves all that resuming needs."""
        optimizer = {
            f"{name}/{key}": torch.as_tensor(value).cpu()
            for name, parameter in self.model.named_parameters()
            for key, value in self.optimizer.state[parameter].items()
        }
        known = TrainingState(
            self.progress, self.model.config.as_dict(), vars(self.settings),
            self.fingerprint, self._weighting, self._validation, self._mix,
        )  # fmt: skip
        parts = {"model": _weights(self.model), "best": self.best_weights, "optimizer": optimizer}
        if self.settings.averaged:
            with self._mean_in_place():
                parts["mean"] = _weights(self.model)
        self.directory.save_state(parts, known)

    def load_state(self) -> None:
        """Continues where `save_state` was called, refused for other pairs or settings."""
        parts, known = self.directory.load_state()
        self._require_same(known)
        self._require_fitting(parts)
        self.model.load_state_dict(parts["model"])
        self.best_weights = parts["best"]
        for weight, (name, _) in zip(self.mean, self.model.named_parameters(), strict=True):
            weight.copy_(parts["mean" if self.settings.averaged else "model"][name])
        numbers = {name: i for i, (name, _) in enumerate(self.model.named_parameters())}
        state: dict[int, dict[str, Tensor]] = defaultdict(dict)
        for place, value in parts.get("optimizer", {}).items():
            name, _, key = place.rpartition("/")
            state[numbers[name]][key] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": dict(state), "param_groups": groups})
        self.progress = known.progress
        if math.isfinite(self.progress.best_loss):
            self._save_best()

    def _require_same(self, known: TrainingState) -> None:
        if known.mix != self._mix:
            message = f"cannot resume: mix was {known.mix}, now {self._mix}"
            raise DataError(message, path=self.directory.path)
        words = [vocabulary.words for vocabulary in self.directory.vocabularies()]
        if known.data != self.fingerprint or words != [v.words for v in self.vocabularies]:
            message = "cannot resume: it was trained on other phrase pairs"
            raise DataError(message, path=self.directory.path)
        now = vars(self.model.config) | vars(self.settings)
        now |= {"weighting": self._weighting, "validation": self._validation}
        # Of settings that are younger than the state, the default.
        before: dict[str, Any] = {
            name: getattr(ModelConfig, name, None) for name in vars(self.model.config)
        }
        before |= known.config | vars(TrainingSettings()) | known.settings
        before |= {
            "weighting": known.weighting or self._weighting,
            "validation": known.validation or self._validation,
        }
        gone = before.keys() - now.keys()  # settings of an older version: 0 was as without them
        now |= {name: before[name] and type(before[name])() for name in gone}
        free = ["patience", "max_updates", "minutes"]  # a training may go on past its end
        for name, value in now.items():
            if before.get(name) == value:
                continue
            if name in free:
                note(f"{name} was {before.get(name)}, from now on {value}")
            else:
                message = f"cannot resume: {name} was {before.get(name)}, now {value}"
                raise DataError(message, path=self.directory.path)

    def _require_fitting(self, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Checks that the tensors of a state are those that this model and optimiser need."""
        shapes = shapes_of(self.model.state_dict())
        whole = ("model", "best", "mean") if self.settings.averaged else ("model", "best")
        expected = {f"{part}/{name}": shapes[name] for part in whole for name in shapes}
        updated = {place.rpartition("/")[0] for place in parts.get("optimizer", {})}
        for name in updated & shapes.keys():  # what was never updated has nothing there
            for key in KEPT_OF_A_PARAMETER[self.settings.optimizer]:
                expected[f"optimizer/{name}/{key}"] = () if key == "step" else shapes[name]
        found = {f"{part}/{n}": tuple(v.shape) for part in parts for n, v in parts[part].items()}
        if difference := first_difference(expected, found):
            message = f"not the state of this model (first difference: {difference})"
            raise ModelError(message, path=self.directory.state_file)

    # -- the loop --------------------------------------------------------------------------------

    def run(
        self, limits: RunLimits, *, show_progress: bool = True, events: Path | None = None
    ) -> TrainingResult:
        """Updates until something says stop; saves the state, then the best weights."""
        saved = time.monotonic()
        began = saved - self.progress.seconds
        end = math.inf if limits.max_minutes is None else saved + 60 * limits.max_minutes
        with (
            collected_signals() as received,
            self._bar(show_progress) as bar,
            open_log(self.directory.log_file) as file,
            open_events(events, self.progress.update and self.progress.update + 1) as points,
            contextlib.closing(prefetch(self._batches())) as batches,
        ):
            log = TrainingLog(file, bar, self.settings, points)
            if self._began_from_model and not math.isfinite(self.progress.best_loss):
                self._keep_best(log)  # no worse than it began
            while not (stopped := self._stop(received, end)):
                batch = next(batches)
                loss, norm = self.update(batch)
                self.progress.seconds = time.monotonic() - began
                log.note(self.progress, loss, norm, batch)
                if self.progress.update % self.settings.validate_every == 0:
                    self._keep_best(log)
                if time.monotonic() - saved > 60 * limits.checkpoint_minutes:
                    self.save_state()
                    saved = time.monotonic()
            # The state is that of an undisturbed run: a validation out of turn comes after it.
            self.save_state()
            if self.progress.update % self.settings.validate_every and stopped not in received:
                self._keep_best(log)
        if self.directory.weights_file.exists():
            try:
                self.directory.save_card()
            except DataError as error:  # the model is whole without it
                say(f"warning: {error}")
        return TrainingResult(self.progress, stopped, len(self.validation) > 0)

    def _stop(self, received: list[str], end: float) -> str:
        """Why to stop now, or an empty string."""
        if received:
            return received[0]
        if self.progress.update >= self.settings.max_updates:
            return "updates"
        if self.settings.patience and self.progress.waited >= self.settings.patience:
            return "patience"
        filled = self.settings.minutes and self.progress.seconds >= 60 * self.settings.minutes
        return "minutes" if filled or time.monotonic() >= end else ""

    def _batches(self) -> Iterator[Batch]:
        for number in range(self.progress.update, self.settings.max_updates):
            yield pair_batch(self.pairs, self.order.rows(number), self.device)

    def _bar(self, show: bool) -> tqdm[Any]:
        """A bar over the pairs of all updates or, where a timed schedule ends it, over its time."""
        if minutes := self.settings.minutes:
            done = min(self.progress.seconds, 60 * minutes)
            return progress_bar(
                "training",
                show=show,
                total=60 * minutes,
                initial=done,
                unit="",
                bar_format=TIMED_BAR,
            )
        per_update = min(self.settings.batch_pairs, len(self.pairs))
        return progress_bar(
            "training",
            show=show,
            total=self.settings.max_updates * per_update,
            initial=self.progress.update * per_update,
            unit=" pairs" if self.model.reads_source else " sentences",
            smoothing=0.05,
        )


def _digest(array: npt.NDArray[Any]) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()[:16]


def _diverged(what: str, progress: Progress) -> PhraseScorerError:
    where = f"up to update {progress.update}"
    return PhraseScorerError(f"training diverged: {what} {where}; lower --learning-rate")


def _weights(model: PhraseModel) -> dict[str, Tensor]:
    """A copy of the weights on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
