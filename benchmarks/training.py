"""Time to quality: recipes of training beside each other, by the CPU seconds that they take.

    python benchmarks/training.py phrase-table.gz --seconds 120 --nats 1.5 \\
        --recipe "before precision=float32 softmax=full batch_pairs=512 learning_rate=4e-3" \\
        --recipe now

A recipe is a name and fields of `TrainingSettings` and `ModelConfig` that are other than in the
preset. All run in one process, each in turn for some seconds, so that whatever else the machine
does meets all of them; one thread; what counts is CPU seconds, validations left out. With
schedule=timed the learning rate falls to 0 at --seconds. Prints nats a target symbol on held-out
source phrases as they fall, and when a recipe reaches --nats.
"""

from __future__ import annotations

import argparse
import ast
import tempfile
import time
from dataclasses import fields, replace
from pathlib import Path

import torch

from moses_integration.formats.table_pairs import read_table_or_pairs
from phrase_scorer.models import ModelConfig
from phrase_scorer.text.batches import pair_batch
from phrase_scorer.text.pair_files import PairFiles
from phrase_scorer.training.data import PairsOfFile, TrainingData
from phrase_scorer.training.job import TrainingJob
from phrase_scorer.training.request import TrainRequest
from phrase_scorer.training.settings import TrainingSettings, preset_of
from phrase_scorer.training.trainer import Trainer


class Recipe:
    """One training, and what it has shown."""

    def __init__(self, text: str, data: TrainingData, given: argparse.Namespace) -> None:
        self.name, *pairs = text.split()
        chosen = {key: _value(value) for key, _, value in (pair.partition("=") for pair in pairs)}
        preset = preset_of(chosen.pop("preset", given.preset), "encoder_decoder")
        sizes = preset.sizes | {
            f.name: chosen.pop(f.name) for f in fields(ModelConfig) if f.name in chosen
        }
        training = preset.training | {"seed": given.seed} | chosen
        if training.get("schedule") == "timed":
            training |= {"minutes": given.seconds / 60, "max_updates": 1 << 40}
        config = ModelConfig(*map(len, data.vocabularies), **sizes)
        job = TrainingJob(data, config, TrainingSettings(**training), Path(tempfile.mkdtemp()))
        self.trainer = Trainer(job, torch.device("cpu"))
        self.trainer.settle_precision(resumed=False)
        self.marks: list[tuple[float, float]] = []  # (CPU seconds, nats)

    def run(self, seconds: float) -> None:
        """Updates for so many CPU seconds."""
        trainer, began = self.trainer, time.process_time()
        before = trainer.progress.seconds
        while (used := time.process_time() - began) < seconds:
            trainer.progress.seconds = before + used
            if trainer.progress.update >= trainer.settings.max_updates:
                break
            trainer.update(pair_batch(trainer.pairs, trainer.order.rows(trainer.progress.update)))
        trainer.progress.seconds = before + time.process_time() - began

    def validate(self) -> float:
        """Nats a symbol on the held-out source phrases."""
        with self.trainer._mean_in_place():
            self.marks.append((self.trainer.progress.seconds, self.trainer.validate()))
        return self.marks[-1][1]

    def seconds_to(self, nats: float) -> float | None:
        """CPU seconds to so many nats, between two validations in proportion."""
        for (earlier, high), (later, low) in zip(self.marks, self.marks[1:], strict=False):
            if low <= nats < high:
                return earlier + (later - earlier) * (high - nats) / (high - low)
        return None


def _value(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def collected(table: str) -> TrainingData:
    """The pairs of a table, of which 2,500 are validated on."""
    request = TrainRequest(pairs=PairFiles((table,)), model_path=Path(tempfile.mkdtemp()) / "none")
    data = request.collect([PairsOfFile(table, read_table_or_pairs(request.pairs))], request.plan())
    train, held_out = data.split(2_500, 1)
    return replace(data, pairs=train, validation=held_out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table")
    parser.add_argument("--recipe", action="append", required=True)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--nats", type=float, default=1.5)
    parser.add_argument("--every", type=float, default=10, help="CPU seconds between validations")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--to-the-end", action="store_true", help="go on when --nats are reached")
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = collected(given.table)
    recipes = [Recipe(text, data, given) for text in given.recipe]
    running = list(recipes)
    while running:
        for recipe in list(running):
            recipe.run(given.every)
            nats, progress = recipe.validate(), recipe.trainer.progress
            print(
                f"{recipe.name:<24} {progress.seconds:7.1f} CPU s  {progress.update:6} updates  "
                f"{nats:.4f} nats",
                flush=True,
            )
            ended = progress.seconds >= given.seconds - 0.5
            ended |= progress.update >= recipe.trainer.settings.max_updates
            if ended or (nats <= given.nats and not given.to_the_end):
                running.remove(recipe)
    first = recipes[0].seconds_to(given.nats)
    for recipe in recipes:
        reached = recipe.seconds_to(given.nats)
        told = "not reached" if reached is None else f"{reached:.1f} CPU s"
        ratio = (
            f", {first / reached:.2f} × as fast as {recipes[0].name}" if first and reached else ""
        )
        print(
            f"{recipe.name:<24} seed {given.seed}: {given.nats} nats {told}{ratio}; "
            f"{recipe.trainer.progress.update} updates, {recipe.marks[-1][1]:.4f} nats at the end "
            f"({recipe.trainer.settings.precision})"
        )


if __name__ == "__main__":
    main()
