"""How well a model trained on a phrase table predicts entries that it has not seen.

    python benchmarks/training_quality.py phrase-table.gz --work DIR [-- options of train]

Holds 5,000 random entries out of the table, trains on the rest with `phrase-scorer train`, and
prints nats per target symbol (end symbols included) on the random entries and on the entries of
held-out source phrases (the training's own validation), and the time of the training.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import subprocess
import sys
import time
from pathlib import Path

from moses_integration.formats.phrase_table import PhraseTable
from phrase_scorer.scoring.scorer import PhraseScorer

HELD_OUT = 5_000


def split(table: Path, work: Path) -> Path:
    """Writes the table without the held-out entries, and these; returns the former's path."""
    with gzip.open(table, "rb") as stream:
        lines = stream.read().split(b"\n")[:-1]
    held_out = set(random.Random(1).sample(range(len(lines)), HELD_OUT))
    for name, chosen in (
        ("train.gz", [line for i, line in enumerate(lines) if i not in held_out]),
        ("held-out.gz", [line for i, line in enumerate(lines) if i in held_out]),
    ):
        with gzip.open(work / name, "wb", compresslevel=1) as out:
            out.write(b"\n".join(chosen) + b"\n")
    return work / "train.gz"


def nats_per_symbol(model: Path, table: Path) -> float:
    """Mean -ln p of a target symbol over the entries of a table."""
    scorer = PhraseScorer.load(model, "cpu")
    total, symbols = 0.0, 0
    for block in PhraseTable(table).blocks():
        total -= float(scorer.score_block(block.pairs).sum())
        symbols += sum(len(target) + 1 for target in block.pairs.targets)
    return total / symbols


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("train_options", nargs="*")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    model = arguments.work / "model"
    rest = split(arguments.table, arguments.work)
    began = time.monotonic()
    command = [sys.executable, "-m", "moses_integration", "train", rest, "--every-pair-once"]
    command += ["--model", model]
    subprocess.run([*command, "--quiet", "--overwrite", *arguments.train_options], check=True)
    minutes = (time.monotonic() - began) / 60
    log = [json.loads(line) for line in (model / "training_log.jsonl").read_text().splitlines()]
    by_source = min(line["validation_loss"] for line in log if "validation_loss" in line)
    print(f"training            {minutes:.1f} minutes, {log[-1]['update']} updates")
    print(f"random entries      {nats_per_symbol(model, arguments.work / 'held-out.gz'):.4f} nats")
    print(f"held-out sources    {by_source:.4f} nats")


if __name__ == "__main__":
    main()
