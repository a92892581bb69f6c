"""What an update makes smaller: the loss of a batch, as settings and the update's number say.

In: a model and a batch. Out: summed -ln p in nats, with its gradient. Sampled words, dropout and
precision are decided here, so that all of them are functions of the update's number.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from phrase_scorer.models import PhraseModel
from phrase_scorer.models.files import Progress
from phrase_scorer.text.batches import Batch, split_batch
from phrase_scorer.text.phrase_pairs import PhrasePairs
from phrase_scorer.text.vocabulary import END
from phrase_scorer.training.loss import WordSampler, cross_entropy
from phrase_scorer.training.settings import TrainingPrecision, TrainingSettings

FULL_FROM = 0.75  # share of a training after which the softmax is over all words
TRIED = 3  # batches by which the precision is chosen
TRIES = 4  # of each of them in each precision
LEAST_PART = 64  # pairs of a batch that a thread of its own is worth
WORTH = 1.1  # times as fast bfloat16 must be


class Objective:
    """The loss of a batch for a model on a device, of a training on `pairs`."""

    def __init__(
        self, settings: TrainingSettings, pairs: PhrasePairs, words: int, device: torch.device
    ) -> None:
        self.settings = settings
        self._device = device
        # Weights of pairs (counts) are scaled to a mean of 1, so that they change no step size.
        mean = 1.0 if pairs.weights is None else float(pairs.weights.mean(dtype=float))
        self._weight_scale = 1.0 / mean if mean > 0 else 1.0
        self._sampler: WordSampler | None = None
        if settings.softmax == "sampled":
            counts = np.bincount(pairs.target.ids, minlength=words)
            counts[END] = len(pairs)
            self._sampler = WordSampler(counts, settings.sampled_words, settings.seed)

    def __call__(self, model: PhraseModel, batch: Batch, progress: Progress) -> Tensor:
        """Summed -ln p of a batch's target symbols, in nats."""
        half = self.settings.precision == "bfloat16"
        devices = [self._device] if self._device.type == "cuda" else []
        with (
            torch.random.fork_rng(devices, enabled=draws_at_random(model)),
            torch.autocast(self._device.type, torch.bfloat16, enabled=half),
        ):
            if draws_at_random(model):  # dropout, too, is a function of the update's number
                torch.manual_seed(self.settings.seed << 32 | progress.update)
            features = model.features(batch)
        weights = torch.ones(len(features), device=self._device)
        if batch.weights is not None:
            weights = batch.weights.index_select(0, batch.target.phrases) * self._weight_scale
        output, words, sample = model.output, batch.target.symbol_words, None
        if (
            self._sampler
            and self.settings.share_done(progress.update, progress.seconds) < FULL_FROM
        ):
            sample = self._sampler.draw(words, progress.update)
        return cross_entropy(
            features, output.right, output.bias, words, weights,
            sample=sample, label_smoothing=self.settings.label_smoothing,
        )  # fmt: skip


def draws_at_random(model: PhraseModel) -> bool:
    """Whether its features are other each time: dropout, histories cut short."""
    return model.config.dropout > 0 or not model.reads_source


class Gradients:
    """The gradient of a batch, whose parts several threads compute side by side.

    Products of a small model's size gain nothing from a second core, but two halves of a batch do.
    """

    def __init__(self, objective: Objective, model: PhraseModel, device: torch.device) -> None:
        self._objective = objective
        self._model = model
        threads, pairs = torch.get_num_threads(), objective.settings.batch_pairs
        self._parts = max(1, min(threads, pairs // LEAST_PART))
        if device.type != "cpu" or draws_at_random(model):
            self._parts = 1
        self._pool: ThreadPoolExecutor | None = None
        if self._parts > 1:
            each = max(1, threads // self._parts)
            self._pool = ThreadPoolExecutor(self._parts, "gradient", torch.set_num_threads, (each,))

    def __call__(self, batch: Batch, scale: float, progress: Progress) -> Tensor:
        """Puts the gradient of `scale` times the loss into the model; the loss, in nats."""
        if self._pool is None:
            loss = self._objective(self._model, batch, progress)
            (loss * scale).backward()
            return loss.detach()
        parameters = list(self._model.parameters())

        def gradient(part: Batch) -> tuple[Tensor, list[Tensor]]:
            loss = self._objective(self._model, part, progress)
            made = torch.autograd.grad(loss * scale, parameters, allow_unused=True)
            pairs = zip(made, parameters, strict=True)
            return loss.detach(), [torch.zeros_like(p) if g is None else g for g, p in pairs]

        count = min(self._parts, batch.target.words.shape[1])
        (whole, sums), *others = self._pool.map(gradient, split_batch(batch, count))
        for loss, gradients in others:  # in order, so that the sum is always the same
            whole = whole + loss
            torch._foreach_add_(sums, gradients)
        for parameter, total in zip(parameters, sums, strict=True):
            parameter.grad = total
        return whole


def faster_precision(
    objective: Objective, gradients: Gradients, batches: Iterable[Batch]
) -> tuple[TrainingPrecision, float]:
    """(the precision in which updates are faster here, how many times as fast bfloat16 is).

    Measured on loss and gradient of a few batches, each precision in turn: the fastest of some
    tries, for at the first oneDNN makes a kernel for every new size, and others use the machine,
    too. The weights stay as they are, what gradients they have does not.
    """
    names: tuple[TrainingPrecision, ...] = get_args(TrainingPrecision)
    seconds: dict[TrainingPrecision, list[float]] = {name: [] for name in names}
    settings = objective.settings
    for batch in batches:
        tries: dict[TrainingPrecision, list[float]] = {name: [] for name in names}
        for _, name in product(range(TRIES), names):
            objective.settings = replace(settings, precision=name)
            began = time.perf_counter()
            gradients(batch, 1.0, Progress())
            if batch.source.words.is_cuda:
                torch.cuda.synchronize()
            tries[name].append(time.perf_counter() - began)
        for name in names:
            seconds[name].append(min(tries[name]))
    objective.settings = settings
    ratio = sum(seconds["float32"]) / sum(seconds["bfloat16"])
    return ("bfloat16" if ratio >= WORTH else "float32"), ratio
