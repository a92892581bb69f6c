"""Every architecture on one table: as many parameters, as much training time, and what comes out.

Each system is trained into a directory of its own, its learning rate falling until its time is
filled; then scored, in a process of its own, on held-out source phrases and on the table itself.
What is done is not done again, and a training that was stopped goes on.
"""

from __future__ import annotations

import bisect
import hashlib
import multiprocessing
import re
import resource
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from phrase_scorer.errors import DataError, UsageError, require_choice
from phrase_scorer.models import ModelConfig, build
from phrase_scorer.models.config import USES
from phrase_scorer.models.directory import ModelDirectory
from phrase_scorer.runtime.console import SIGNAL_EXIT_CODES
from phrase_scorer.runtime.records import Origin, read_json, typed
from phrase_scorer.runtime.report import write_json
from phrase_scorer.scoring.accuracy import Ranking, ranking_quality
from phrase_scorer.scoring.scorer import PhraseScorer
from phrase_scorer.studies.settings import SYSTEMS, SystemsSettings
from phrase_scorer.text.batches import TrainingOrder, pair_batch
from phrase_scorer.text.phrase_pairs import PhrasePairs
from phrase_scorer.training.data import TrainingData
from phrase_scorer.training.job import TrainingJob
from phrase_scorer.training.log import read_log
from phrase_scorer.training.settings import UNLIMITED, TrainingSettings, preset_of
from phrase_scorer.training.trainer import Trainer, run_training

WIDTHS = range(8, 1 << 16, 8)  # that a system may have
TIMED_UPDATES = 12
WARMING_UPDATES = 2  # before them
SCORED_PAIRS = 20_000  # of the table, for the speed
SCORING_ROUNDS = 3
VALIDATIONS = 12  # in a training, about
NOTES = {"result": "result.json", "training": "plan.json"}

Note = TypeVar("Note")


@dataclass(frozen=True)
class SystemResult:
    """What came of one system."""

    name: str  # key of `SYSTEMS`
    parameters: int
    hidden: int
    updates: int
    minutes: float  # that the updates took
    nats: float  # per target symbol, on held-out source phrases; pseudo-nats of a masked model
    ranked_first: float | None  # see `Ranking`; None: the table has no counts
    reciprocal_rank: float | None
    entries_per_second: float  # when scoring the table
    peak_megabytes: float  # of a process that scores; on a GPU, of its memory
    curve: list[tuple[float, float]]  # (minutes, nats) at each validation


def run_systems(
    data: TrainingData,
    names: Sequence[str],
    settings: SystemsSettings,
    folder: Path,
    say: Callable[[str], None],
    *,
    show_progress: bool = True,
) -> list[SystemResult]:
    """Trains and measures these of the `SYSTEMS`, one after the other.

    The weights of the data's pairs are how often each was aligned. The folder gets a model
    directory and a result per system; `say` is told what is going on. A UsageError tells of an
    unknown system, or too few parameters for one.
    """
    for name in names:
        require_choice("system", name, SYSTEMS)
    comparison = _Comparison(data, settings, show_progress)
    words = (len(data.vocabularies[0]), len(data.vocabularies[1]))
    configs = {name: sized_config(SYSTEMS[name], words, settings.parameters) for name in names}
    results = []
    for name, config in configs.items():
        system = _System(name, config, folder / folder_name(name), comparison.key(config))
        known = system.noted("result", SystemResult)
        what = "done before" if known else f"training for {settings.minutes:g} minutes"
        say(f"{name}: {what}")
        results.append(known or comparison.run(system))
    return results


def folder_name(system: str) -> str:
    """A system's name as that of a directory."""
    return "_".join(re.findall(r"[^\W_]+", system.lower()))


def sized_config(system: dict[str, str], words: tuple[int, int], parameters: int) -> ModelConfig:
    """The configuration of a system with about so many parameters.

    Embeddings and maxout units of recurrent models are half as many as hidden units, a
    Transformer's blocks four times as wide inside. A UsageError tells where even the smallest
    model has more.
    """

    def config(hidden: int) -> ModelConfig:
        sizes = {
            **preset_of("small", system["architecture"]).sizes,
            **system,
            "hidden": hidden,
            "embedding": hidden // 2,
            "maxout": hidden // 2,
            "output_rank": 0,
        }
        if "feed_forward" in USES[system["architecture"]]:
            sizes["feed_forward"] = 4 * hidden
        return ModelConfig(source_words=words[0], target_words=words[1], **sizes)

    def size(hidden: int) -> int:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in build(config(hidden)).parameters())

    place = bisect.bisect_left(WIDTHS, parameters, key=size)
    around = WIDTHS[max(0, place - 1) : place + 1]
    nearest = min(around, key=lambda hidden: abs(size(hidden) - parameters))
    if abs(size(nearest) - parameters) > parameters / 4:
        raise UsageError(
            f"--parameters {parameters:,}: the nearest {system['architecture']} has "
            f"{size(nearest):,}; with shortlists of {words[0]:,} and {words[1]:,} words"
        )
    return config(nearest)


@dataclass(frozen=True)
class _System:
    """A system in its directory."""

    name: str
    config: ModelConfig
    path: Path
    key: dict[str, Any]  # all that decides its result

    def noted(self, what: str, kind: type[Note]) -> Note | None:
        """What `note` wrote, if all that decides the result is still the same."""
        path = self.path / NOTES[what]
        if not path.exists():
            return None
        content = read_json(path, dict[str, Any])
        # A setting that only an earlier version had is passed over.
        if content.get("key") != self.key:
            return None
        return typed(content.get(what), kind, Origin(path))

    def note(self, what: str, content: object) -> None:
        write_json(self.path / NOTES[what], {"key": self.key, what: content}, indent=1)


class _Comparison:
    """What all systems share, and how each is trained and measured."""

    def __init__(self, data: TrainingData, settings: SystemsSettings, show_progress: bool) -> None:
        self.settings, self.show_progress = settings, show_progress
        self.held_out = _held_out(data, settings)
        if not len(self.held_out):
            raise DataError("one source phrase cannot be trained on and held out")
        start = max(0, (len(data.pairs) - SCORED_PAIRS) // 2)
        self.sample = data.pairs.take(np.arange(start, min(start + SCORED_PAIRS, len(data.pairs))))
        self.trained = data
        if not settings.weight_by_count:
            unweighted = PhrasePairs(data.pairs.source, data.pairs.target)
            self.trained = TrainingData(unweighted, data.vocabularies)
        digest = hashlib.sha256(data.pairs.hashes().tobytes())
        if data.pairs.weights is not None:
            digest.update(data.pairs.weights.tobytes())
        for vocabulary in data.vocabularies:
            digest.update(b"\n".join(vocabulary.words))
        self._digest = digest.hexdigest()

    def key(self, config: ModelConfig) -> dict[str, Any]:
        return {"config": asdict(config), "settings": asdict(self.settings), "data": self._digest}

    def run(self, system: _System) -> SystemResult:
        arithmetic = self.settings.arithmetic
        arithmetic.use_threads()
        device = arithmetic.torch_device()
        training = self._training(system, device)
        directory = ModelDirectory(system.path)
        result = run_training(
            TrainingJob(self.trained, system.config, training, system.path), device=device,
            resume=directory.state_file.exists(), show_progress=self.show_progress,
        )  # fmt: skip
        if result.stopped in SIGNAL_EXIT_CODES:
            # The state is saved: now the signal does what it came for.
            signal.raise_signal(signal.Signals[result.stopped])
            raise KeyboardInterrupt
        # In a fresh process, so that its peak memory is its own.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            arguments = (system.path, self.held_out, self.sample, self.settings)
            measured = pool.submit(_measure, *arguments).result()
        curve = {
            line.update: (line.seconds / 60, line.validation_loss)
            for line in read_log(directory.log_file)
            if line.validation_loss is not None
        }
        found = SystemResult(
            name=system.name,
            parameters=sum(p.numel() for p in directory.load_model().parameters()),
            hidden=system.config.hidden,
            updates=result.progress.update,
            minutes=result.progress.seconds / 60,
            nats=result.progress.best_loss,
            curve=list(curve.values()),
            **measured,
        )
        system.note("result", found)
        return found

    def _training(self, system: _System, device: torch.device) -> TrainingSettings:
        """How to train; how often to validate is measured once, then remembered."""
        planned = system.noted("training", TrainingSettings)
        if planned:
            return planned
        directory = ModelDirectory(system.path)
        if (system.path / NOTES["training"]).exists():  # of another training
            directory.state_file.unlink(missing_ok=True)
        elif directory.config_file.exists():
            raise UsageError(f"{system.path} holds a model that is not of this study: move it away")
        preset = preset_of(self.settings.preset, system.config.architecture).training
        training = replace(
            TrainingSettings(**preset), validation_pairs=self.settings.validation_pairs,
            seed=self.settings.seed, patience=0, schedule="timed", minutes=self.settings.minutes,
            max_updates=UNLIMITED,
        )  # fmt: skip
        seconds = self._seconds_per_update(system.config, training, device)
        between = round(60 * self.settings.minutes / seconds / VALIDATIONS)
        training = replace(training, validate_every=max(1, between))
        system.path.mkdir(parents=True, exist_ok=True)
        system.note("training", training)
        return training

    def _seconds_per_update(
        self, config: ModelConfig, training: TrainingSettings, device: torch.device
    ) -> float:
        """Mean over some updates of random batches, as they come in training."""
        pairs, pool = self.trained.pairs, (training.batch_pairs, training.pool_batches)
        order = TrainingOrder(pairs, *pool, training.seed)
        job = TrainingJob(self.trained, config, training, Path("not written"))
        trainer = Trainer(job, device)
        trainer.settle_precision(resumed=False)
        times = []
        for number in range(WARMING_UPDATES + TIMED_UPDATES):
            batch = pair_batch(pairs, order.rows(number), device)
            began = time.perf_counter()
            loss, _ = trainer.update(batch)
            float(loss)  # waits for a GPU
            times.append(time.perf_counter() - began)
        return statistics.fmean(times[WARMING_UPDATES:])


def _measure(
    path: Path, held_out: PhrasePairs, sample: PhrasePairs, settings: SystemsSettings
) -> dict[str, Any]:
    """Ranking quality on held-out pairs, speed on a sample, memory."""
    settings.arithmetic.use_threads()
    scorer = PhraseScorer.load(path, settings.arithmetic)
    scores = scorer.score_ids(PhrasePairs(held_out.source, held_out.target))
    ranking = ranking_quality(held_out, scores)
    times = []
    for _ in range(SCORING_ROUNDS):
        began = time.perf_counter()
        scorer.score_ids(sample)
        times.append(time.perf_counter() - began)
    return {
        "ranked_first": ranking and ranking.first,
        "reciprocal_rank": ranking and ranking.reciprocal,
        "entries_per_second": len(sample) / statistics.median(times),
        "peak_megabytes": _peak_megabytes(scorer.device),
    }


def _peak_megabytes(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        # Not ru_maxrss: Linux lets a new program begin with its parent's peak.
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1e3
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # macOS: in bytes


def best_ranking(data: TrainingData, settings: SystemsSettings) -> Ranking | None:
    """The ranking by the counts themselves, on the held-out phrases: no model can do better."""
    held_out = _held_out(data, settings)
    return None if held_out.weights is None else ranking_quality(held_out, held_out.weights)


def _held_out(data: TrainingData, settings: SystemsSettings) -> PhrasePairs:
    return data.pairs.split_by_source(settings.validation_pairs, settings.seed)[1]
