"""The scoring engine against a plain PyTorch scorer, and against what the machine can multiply.

    python benchmarks/scoring.py phrase-table.gz [--entries 20000] [--preset paper] [--rounds 3]
    python benchmarks/scoring.py phrase-table.gz --model rnn/
    python benchmarks/scoring.py phrase-table.gz --entries 0 --device cuda --plain-batch 8192

Random weights unless a model is given. The plain scorer sorts the pairs by length, pads them in
batches of --plain-batch, and computes every pair by itself: output of the model's rank, log-softmax
over all words. Each round measures the plain scorer, every precision and the matrix products of the
same precision alone, one after the other in this process. Prints entries/s, the ratio to the plain
scorer (median over the rounds), the error against it, and the floating-point operations that are
necessary (each distinct prefix once) per second, as a share of what products alone reach.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from moses_integration.formats.phrase_table import PhraseTable
from phrase_scorer.models import EncoderDecoder, ModelConfig, build
from phrase_scorer.runtime.device import Arithmetic
from phrase_scorer.scoring.engine import ROWS_ON_CPU, ROWS_ON_GPU, with_end
from phrase_scorer.scoring.precision import int8_matrix
from phrase_scorer.scoring.prefix_tree import PrefixTree
from phrase_scorer.scoring.scorer import PhraseScorer
from phrase_scorer.text.batches import pair_batch
from phrase_scorer.text.phrase_pairs import PairBlock, PhrasePairs
from phrase_scorer.text.vocabulary import SPECIAL_WORDS, Vocabulary
from phrase_scorer.training.settings import PRESET_NAMES, preset_of

PLAIN_BATCH = 512
SHORTLIST = 15_000
PRECISIONS = ("float32", "bfloat16", "int8")


def plain_scores(model: EncoderDecoder, pairs: PhrasePairs, batch: int) -> np.ndarray:
    """(pairs,) ln p; every pair by itself, pairs of like length together."""
    order = np.lexsort((pairs.source.lengths, pairs.target.lengths))
    scores, device = [torch.zeros(0)], model.output.bias.device
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            scores.append(model.log_probs(pair_batch(pairs, rows, device)).sum(1))
        found = torch.cat([part.to(device) for part in scores]).cpu().numpy()
    in_order = np.empty(len(pairs), np.float32)
    in_order[order] = found
    return in_order


def read_pairs(table: Path, entries: int, skip: int) -> list[tuple[list[bytes], list[bytes]]]:
    """Consecutive entries of a table."""
    pairs: list[tuple[list[bytes], list[bytes]]] = []
    for block in PhraseTable(table).blocks():
        pairs += zip(block.pairs.sources, block.pairs.targets, strict=True)
        if entries and len(pairs) >= skip + entries:
            break
    return pairs[skip : skip + entries] if entries else pairs


def random_model(
    preset: str, pairs: list[tuple[list[bytes], list[bytes]]], device: str
) -> PhraseScorer:
    """A model of random weights whose vocabularies are the table's words, filled up to 15,000."""
    vocabularies = []
    for side in range(2):
        words = dict.fromkeys(chain.from_iterable(pair[side] for pair in pairs))
        filler = (b"filler%d" % i for i in range(SHORTLIST))
        every = [*(word for word in words if word not in SPECIAL_WORDS), *filler]
        vocabularies.append(Vocabulary(every[: SHORTLIST - len(SPECIAL_WORDS)]))
    config = ModelConfig(SHORTLIST, SHORTLIST, **preset_of(preset, "encoder_decoder").sizes)
    model = build(config, seed=1, deviation=0.03).eval().requires_grad_(False)
    return PhraseScorer(model, *vocabularies, arithmetic=Arithmetic(device))


def pairs_of(scorer: PhraseScorer, words: list[tuple[list[bytes], list[bytes]]]) -> PhrasePairs:
    """The ids of pairs."""
    return scorer.ids(PairBlock(*map(list, zip(*words, strict=True))))


def necessary_operations(config: ModelConfig, pairs: PhrasePairs) -> float:
    """Multiplications and additions of the matrix products, every distinct prefix once."""
    sources = PrefixTree.of(with_end(pairs.source))
    ends, source_of = np.unique(sources.node_of, return_inverse=True)
    targets = PrefixTree.of(pairs.target, source_of.astype(np.int64), len(ends))
    hidden, pieces, rank = config.hidden, 2 * config.maxout, config.output_rank
    gates_of = len(np.unique(sources.parents))  # inner nodes: U_z h and U_r h serve all children
    encoder = gates_of * 2 * hidden * hidden + (len(sources) - 1) * hidden * hidden
    contexts = len(ends) * hidden * (hidden + hidden + 3 * hidden + pieces)  # V, V', C, O_c
    steps = (len(ends) + len(np.unique(targets.parents))) * 3 * hidden * hidden
    readout = len(targets) * (hidden * pieces + config.maxout * rank)
    output = len(targets) * (config.output_rank or config.maxout) * config.target_words
    return 2.0 * (encoder + contexts + steps + readout + output)


def peak(precision: str, threads: int, hidden: int, device: torch.device) -> float:
    """Operations per second of the recurrent product alone, with as many threads as the scorer."""
    on_gpu = device.type != "cpu"
    rows, threads = (ROWS_ON_GPU, 1) if on_gpu else (ROWS_ON_CPU, threads)
    left = torch.rand(rows, hidden, device=device) - 0.5
    right = torch.rand(hidden, 3 * hidden, device=device) - 0.5
    multiply: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = torch.mm
    if precision == "bfloat16":
        left, right = left.bfloat16(), right.bfloat16()
    elif precision == "int8" and on_gpu:
        left, right = (left * 127).to(torch.int8), (right * 127).to(torch.int8)
        multiply = torch._int_mm
    elif precision == "int8":
        left, matrix = (left * 127).to(torch.int8), (right * 127).to(torch.int8)
        packed = int8_matrix(matrix, torch.ones(3 * hidden))

        def multiply(left: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
            return packed.product(left, 1.0)

    def work(_: int) -> None:
        for _ in range(20):
            multiply(left, right)
        if on_gpu:
            torch.cuda.synchronize(device)

    allowed = torch.get_num_threads()
    torch.set_num_threads(1)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
        began = time.perf_counter()
        list(pool.map(work, range(threads)))
        seconds = time.perf_counter() - began
    torch.set_num_threads(allowed)
    return threads * 20 * 2.0 * rows * hidden * 3 * hidden / seconds


class Round(NamedTuple):
    """Entries/s of the plain scorer and of each precision; operations/s of products alone."""

    plain: float
    engine: dict[str, float]
    peak: dict[str, float]


def timed(entries: int, task: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    began = time.perf_counter()
    result = task()
    return entries / (time.perf_counter() - began), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--entries", type=int, default=20_000, help="0: all")
    parser.add_argument("--skip", type=int, default=0, help="entries at the table's start")
    parser.add_argument("--preset", default="paper", choices=PRESET_NAMES)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--plain-batch", type=int, default=PLAIN_BATCH, metavar="PAIRS")
    arguments = parser.parse_args()
    words = read_pairs(arguments.table, arguments.entries, arguments.skip)
    given = arguments.model and PhraseScorer.load(arguments.model, arguments.device)
    scorer = given or random_model(arguments.preset, words, arguments.device)
    pairs = pairs_of(scorer, words)
    measure(scorer, pairs, arguments.precisions, arguments.rounds, arguments.plain_batch)


def measure(
    plain: PhraseScorer, pairs: PhrasePairs, precisions: list[str], number: int, batch: int
) -> None:
    threads, config = torch.get_num_threads(), plain.model.config
    scorers = {
        name: PhraseScorer(
            plain.model,
            plain.source_vocabulary,
            plain.target_vocabulary,
            arithmetic=Arithmetic(str(plain.device), name),
        )
        for name in precisions
    }
    few = pairs.take(np.arange(min(1000, len(pairs))))
    for scorer in scorers.values():
        scorer.score_ids(few)
    plain_scores(plain.model, few, batch)
    rounds, errors = [], {}
    for _ in range(number):
        speed, truth = timed(len(pairs), lambda: plain_scores(plain.model, pairs, batch))
        engine, peaks = {}, {}
        for name, scorer in scorers.items():
            engine[name], found = timed(len(pairs), lambda s=scorer: s.score_ids(pairs))
            errors[name] = np.abs(found - truth)
            peaks[name] = peak(name, threads, config.hidden, plain.device)
        rounds.append(Round(speed, engine, peaks))
    operations = necessary_operations(config, pairs)
    print(
        f"{len(pairs):,} entries, {_shown(plain.device)}; necessary: "
        f"{operations / len(pairs) / 1e6:.1f} million operations per entry"
    )
    plain_speed = statistics.median(r.plain for r in rounds)
    print(f"plain     {plain_speed:>9,.0f} entries/s")
    for name in precisions:
        speed = statistics.median(r.engine[name] for r in rounds)
        ratios = [r.engine[name] / r.plain for r in rounds]
        shares = [r.engine[name] * operations / len(pairs) / r.peak[name] for r in rounds]
        error = errors[name]
        print(
            f"{name:<9} {speed:>9,.0f} entries/s  {statistics.median(ratios):5.2f} × plain "
            f"(from {min(ratios):.2f} to {max(ratios):.2f}); error mean {error.mean():.1e}, max "
            f"{error.max():.1e} nats; {statistics.median(shares):.0%} of the products' "
            f"{statistics.median(r.peak[name] for r in rounds) / 1e9:,.0f} Gop/s"
        )


def _shown(device: torch.device) -> str:
    if device.type == "cpu":
        return f"{torch.get_num_threads()} threads"
    return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"


if __name__ == "__main__":
    main()
