"""Every architecture on one table: as many parameters, as much training time, and what comes out.

Each system is trained into a directory of its own, its learning rate falling until its time is
filled; then scored, in a process of its own, on held-out source phrases and on the table itself.
What is done is not done again, and a training that was stopped goes on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.models import ModelConfig
from phrase_scorer.models.directory import ModelDirectory
from phrase_scorer.runtime.device import choose_device, set_threads
from phrase_scorer.runtime.output import write_file
from phrase_scorer.scoring.scorer import PhraseScorer
from phrase_scorer.studies.system_configs import (
    SYSTEMS,
    Ranking,
    ranking_quality,
    require_systems,
    sized_config,
)
from phrase_scorer.text.batches import TrainingOrder, pair_batch
from phrase_scorer.text.phrase_pairs import PhrasePairs
from phrase_scorer.training.data import TrainingData
from phrase_scorer.training.settings import UNLIMITED, TrainingSettings, preset_of
from phrase_scorer.training.trainer import Trainer, train

TIMED_UPDATES = 12
SCORED_PAIRS = 20_000  # of the table, for the speed
SCORING_ROUNDS = 3
VALIDATIONS = 12  # in a training, about


@dataclass(frozen=True)
class SystemsSettings:
    """What all systems share.

    Attributes:
        parameters: Of each model, about.
        minutes: Of training, each.
        preset: Training settings, where an architecture has no others (small, base, paper).
        validation_pairs: About how many pairs of held-out source phrases.
        weight_by_count: Whether training weighs pairs by their counts.
        device: Where to compute.
        threads: CPU cores; None: all.
        seed: Of all that is random.
    """

    parameters: int = 5_000_000
    minutes: float = 10.0
    preset: str = "small"
    validation_pairs: int = 10_000
    weight_by_count: bool = False
    device: str = "auto"
    threads: int | None = None
    seed: int = 1

    def __post_init__(self) -> None:
        if self.parameters < 1:
            raise UsageError(f"--parameters must be at least 1, not {self.parameters}")
        if not 0 < self.minutes < math.inf:
            raise UsageError(f"--minutes must be above 0, not {self.minutes}")
        if self.validation_pairs < 1:
            raise UsageError(f"--validation-pairs must be at least 1, not {self.validation_pairs}")


@dataclass(frozen=True)
class SystemResult:
    """What came of one system.

    Attributes:
        name: Key of `SYSTEMS`.
        parameters: Of the model.
        hidden: Its width.
        updates: Of training.
        minutes: That they took.
        nats: A target symbol, on held-out source phrases; of a masked model pseudo-nats.
        ranked_first: Of the held-out aligned occurrences, the share whose target the model puts
            first among the table's targets of that source (`ranking.py`); None: no counts.
        reciprocal_rank: Mean of 1 / rank of the target over these occurrences.
        entries_per_second: Scored, of the table.
        peak_megabytes: Of a process that scores; on a GPU of its memory.
        curve: (minutes, nats) at each validation.
    """

    name: str
    parameters: int
    hidden: int
    updates: int
    minutes: float
    nats: float
    ranked_first: float | None
    reciprocal_rank: float | None
    entries_per_second: float
    peak_megabytes: float
    curve: list[tuple[float, float]]


def run_systems(
    data: TrainingData,
    names: Sequence[str],
    settings: SystemsSettings,
    folder: Path,
    say: Callable[[str], None],
    *,
    show_progress: bool = True,
) -> list[SystemResult]:
    """Trains and measures these systems, one after the other.

    Args:
        data: The table's pairs; their weights are how often each was aligned.
        names: Keys of `SYSTEMS`.
        settings: What they share.
        folder: For a model directory and a result each.
        say: Told what is going on.
        show_progress: Progress bars of the trainings.

    Raises:
        UsageError: A system that there is not.
        DataError: No source phrase can be held out.
    """
    require_systems(names)
    if not len(_held_out(data, settings)):
        raise DataError("one source phrase cannot be trained on and held out")
    words = (len(data.vocabularies[0]), len(data.vocabularies[1]))
    configs = {name: sized_config(SYSTEMS[name], words, settings.parameters) for name in names}
    digest, results = _digest(data), []
    for name in names:
        path = folder / file_name(name)
        key = _key(configs[name], settings, digest)
        known = _known_result(path, key)
        if known:
            say(f"{name}: done before")
        else:
            say(f"{name}: training for {settings.minutes:g} minutes")
            known = _run(
                name, data, configs[name], settings, path, key, show_progress=show_progress
            )
        results.append(known)
    return results


def file_name(system: str) -> str:
    """A system's name as that of a directory."""
    plain = "".join(c if c.isalnum() else " " for c in system.lower())
    return "_".join(plain.split())


def _digest(data: TrainingData) -> str:
    """Changes with the pairs, their counts, and the shortlists."""
    digest = hashlib.sha256(data.pairs.hashes().tobytes())
    if data.pairs.weights is not None:
        digest.update(data.pairs.weights.tobytes())
    for vocabulary in data.vocabularies:
        digest.update(b"\n".join(vocabulary.words))
    return digest.hexdigest()


def _key(config: ModelConfig, settings: SystemsSettings, digest: str) -> dict[str, Any]:
    """What decides a result."""
    return {
        "config": dataclasses.asdict(config),
        "settings": dataclasses.asdict(settings),
        "data": digest,
    }


def _known_result(path: Path, key: dict[str, Any]) -> SystemResult | None:
    try:
        content = json.loads((path / "result.json").read_bytes())
    except FileNotFoundError:
        return None
    if content["key"] != key:
        return None
    return SystemResult(**content["result"])


def _run(
    name: str,
    data: TrainingData,
    config: ModelConfig,
    settings: SystemsSettings,
    path: Path,
    key: dict[str, Any],
    *,
    show_progress: bool,
) -> SystemResult:
    pairs = data.pairs
    if not settings.weight_by_count:
        pairs = PhrasePairs(pairs.source, pairs.target)
    set_threads(settings.threads)
    device = choose_device(settings.device)
    training = _planned(pairs, config, settings, path, key, device)
    directory = ModelDirectory(path)
    result = train(
        pairs,
        data.vocabularies,
        config,
        training,
        path,
        device=device,
        resume=directory.state_file.exists(),
        show_progress=show_progress,
    )
    if result.stopped in ("SIGINT", "SIGTERM"):
        raise KeyboardInterrupt
    every = data.pairs
    start = max(0, (len(every) - SCORED_PAIRS) // 2)
    sample = every.take(np.arange(start, min(start + SCORED_PAIRS, len(every))))
    measured = _in_a_process(_measure, path, _held_out(data, settings), sample, settings)
    curve = {
        line["update"]: (line["seconds"] / 60, line["validation_loss"])
        for line in map(json.loads, directory.log_file.read_text().splitlines())
        if "validation_loss" in line
    }
    found = SystemResult(
        name=name,
        parameters=sum(p.numel() for p in directory.load_model().parameters()),
        hidden=config.hidden,
        updates=result.progress.update,
        minutes=result.progress.seconds / 60,
        nats=result.progress.best_loss,
        curve=list(curve.values()),
        **measured,
    )
    content = {"key": key, "result": dataclasses.asdict(found)}
    write_file(path / "result.json", json.dumps(content, indent=1).encode() + b"\n")
    return found


def _planned(
    pairs: PhrasePairs,
    config: ModelConfig,
    settings: SystemsSettings,
    path: Path,
    key: dict[str, Any],
    device: torch.device,
) -> TrainingSettings:
    """How to train; how often to validate is measured once, then remembered."""
    plan_file = path / "plan.json"
    if plan_file.exists():
        plan = json.loads(plan_file.read_bytes())
        if plan["key"] == key:
            return TrainingSettings(**plan["training"])
        ModelDirectory(path).state_file.unlink(missing_ok=True)
    timed = {
        "validation_pairs": settings.validation_pairs,
        "seed": settings.seed,
        "patience": 0,
        "schedule": "timed",
        "minutes": settings.minutes,
        "max_updates": UNLIMITED,
    }
    preset = preset_of(settings.preset, config.architecture)
    training = TrainingSettings(**{**preset.training, **timed})
    seconds = _seconds_per_update(pairs, config, training, device)
    between = round(60 * settings.minutes / seconds / VALIDATIONS)
    training = dataclasses.replace(training, validate_every=max(1, between))
    path.mkdir(parents=True, exist_ok=True)
    content = {"key": key, "training": dataclasses.asdict(training)}
    write_file(plan_file, json.dumps(content, indent=1).encode() + b"\n")
    return training


def _seconds_per_update(
    pairs: PhrasePairs, config: ModelConfig, training: TrainingSettings, device: torch.device
) -> float:
    """Mean over some updates of random batches, as they come in training."""
    order = TrainingOrder(pairs, training.batch_pairs, training.pool_batches, training.seed)
    nowhere = ModelDirectory(Path("not written"))
    trainer = Trainer(pairs, config, training, nowhere, device)
    times = []
    for number in range(TIMED_UPDATES + 2):
        batch = pair_batch(pairs, order.rows(number), device)
        began = time.perf_counter()
        loss, _ = trainer.update(batch)
        float(loss)  # waits for a GPU
        times.append(time.perf_counter() - began)
    return statistics.fmean(times[2:])


def _in_a_process(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """The function's result from a fresh process, so that its peak memory is its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def _measure(
    path: Path, held_out: PhrasePairs, sample: PhrasePairs, settings: SystemsSettings
) -> dict[str, float | None]:
    """Ranking quality on held-out pairs, speed on a sample, memory."""
    set_threads(settings.threads)
    scorer = PhraseScorer.load(path, settings.device)
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
    """Of the counts themselves, on the held-out source phrases: no model can have more."""
    held_out = _held_out(data, settings)
    return None if held_out.weights is None else ranking_quality(held_out, held_out.weights)


def _held_out(data: TrainingData, settings: SystemsSettings) -> PhrasePairs:
    return data.pairs.split_by_source(settings.validation_pairs, settings.seed)[1]
