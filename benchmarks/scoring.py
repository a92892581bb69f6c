"""The scoring engine against a plain PyTorch scorer, and against what the machine can multiply.

    python benchmarks/scoring.py phrase-table.gz [--entries 20000] [--preset paper] [--rounds 3]
    python benchmarks/scoring.py phrase-table.gz --model rnn/
    python benchmarks/scoring.py phrase-table.gz --entries 0 --device cuda --plain-batch 8192

Random weights unless a model is given. The plain scorer sorts the pairs by length, pads them in
batches of --plain-batch, and computes every pair by itself: output of the model's rank, log-softmax
over all words. The careful scorer is what a good engineer writes on one page: each distinct source
is encoded once, batches are of --careful-batch, PyTorch's cross_entropy, and autocast beside an
engine in reduced precision. Each round measures both, every precision, and the matrix products of
the same precision alone, one after the other in this process. Prints entries/s, the ratios to both
scorers (median over the rounds), the error against the plain one, and the floating-point operations
that are necessary (each distinct prefix once) per second, as a share of what products alone reach.
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
from torch import nn

from moses_integration.formats.phrase_table import PhraseTable
from phrase_scorer.models import EncoderDecoder, ModelConfig, build
from phrase_scorer.models.encoder_decoder import Context
from phrase_scorer.runtime.device import Arithmetic
from phrase_scorer.scoring.engine import ROWS_ON_CPU, ROWS_ON_GPU, distinct, with_end
from phrase_scorer.scoring.precision import int8_matrix
from phrase_scorer.scoring.prefix_tree import PrefixTree
from phrase_scorer.scoring.scorer import PhraseScorer
from phrase_scorer.text.batches import by_length, pair_batch, source_batch, target_batch
from phrase_scorer.text.phrase_pairs import PairBlock, PhrasePairs
from phrase_scorer.text.vocabulary import SPECIAL_WORDS, Vocabulary
from phrase_scorer.training.settings import PRESET_NAMES, preset_of

PLAIN_BATCH = 512
CAREFUL_BATCH = 64
SHORTLIST = 15_000
PRECISIONS = ("float32", "bfloat16", "int8")


def plain_scores(model: EncoderDecoder, pairs: PhrasePairs, batch: int = PLAIN_BATCH) -> np.ndarray:
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


def careful_scores(
    model: EncoderDecoder, pairs: PhrasePairs, batch: int, *, half: bool
) -> np.ndarray:
    """(pairs,) ln p; each distinct source encoded once, small batches of like targets."""
    device = model.output.bias.device
    scores = torch.zeros(len(pairs), device=device)
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half):
        sources, source_of = distinct(pairs.source)  # shortest first
        read = [
            model.read(source_batch(sources, rows, device))
            for rows in np.array_split(np.arange(len(sources)), -(-len(sources) // PLAIN_BATCH))
        ]
        contexts = [torch.cat(parts) for parts in zip(*read, strict=True)]
        for rows in by_length(pairs.target.lengths, batch):
            target = target_batch(pairs.target, rows, device)
            chosen = torch.from_numpy(source_of[rows]).to(device)
            context = Context(*(part.index_select(0, chosen) for part in contexts))
            logits = model.output(model.decode(context, target))
            losses = nn.functional.cross_entropy(
                logits.float(), target.symbol_words, reduction="none"
            )
            places = torch.from_numpy(rows).to(device).index_select(0, target.phrases)
            scores.index_add_(0, places, -losses)
    return scores.cpu().numpy()


def read_pairs(table: Path, entries: int, skip: int) -> list[tuple[list[bytes], list[bytes]]]:
    """Consecutive entries of a table."""
    pairs: list[tuple[list[bytes], list[bytes]]] = []
    for block in PhraseTable(table).blocks():
        pairs += zip(block.pairs.sources, block.pairs.targets, strict=True)
        if entries and len(pairs) >= skip + entries:
            break
    return pairs[skip : skip + entries] if entries else pairs


def random_model(
    preset: str, pairs: list[tuple[list[bytes], list[bytes]]], device: str = "cpu"
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
    """Entries/s of both baselines and of each precision; operations/s of products alone."""

    plain: float
    careful: dict[bool, float]  # without bfloat16, and with it
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
    parser.add_argument("--careful-batch", type=int, default=CAREFUL_BATCH, metavar="PAIRS")
    arguments = parser.parse_args()
    words = read_pairs(arguments.table, arguments.entries, arguments.skip)
    given = arguments.model and PhraseScorer.load(arguments.model, arguments.device)
    scorer = given or random_model(arguments.preset, words, arguments.device)
    pairs = pairs_of(scorer, words)
    batches = Batches(arguments.plain_batch, arguments.careful_batch)
    measure(scorer, pairs, arguments.precisions, arguments.rounds, batches)


class Batches(NamedTuple):
    """Pairs that a baseline computes at once."""

    plain: int
    careful: int


def measure(
    plain: PhraseScorer, pairs: PhrasePairs, precisions: list[str], number: int, batches: Batches
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
    plain_scores(plain.model, few, batches.plain)
    halves = sorted({name != "float32" for name in precisions})
    rounds, errors = [], {}
    for _ in range(number):
        speed, truth = timed(len(pairs), lambda: plain_scores(plain.model, pairs, batches.plain))
        careful, engine, peaks = {}, {}, {}
        for half in halves:
            careful[half], found = timed(
                len(pairs),
                lambda h=half: careful_scores(plain.model, pairs, batches.careful, half=h),
            )
            errors[f"careful {half}"] = np.abs(found - truth)
        for name, scorer in scorers.items():
            engine[name], found = timed(len(pairs), lambda s=scorer: s.score_ids(pairs))
            errors[name] = np.abs(found - truth)
            peaks[name] = peak(name, threads, config.hidden, plain.device)
        rounds.append(Round(speed, careful, engine, peaks))
    operations = necessary_operations(config, pairs)
    print(
        f"{len(pairs):,} entries, {_shown(plain.device)}; necessary: "
        f"{operations / len(pairs) / 1e6:.1f} million operations per entry"
    )
    plain_speed = statistics.median(r.plain for r in rounds)
    print(f"plain     {plain_speed:>9,.0f} entries/s")
    for half in halves:
        speed = statistics.median(r.careful[half] for r in rounds)
        ratio = statistics.median(r.careful[half] / r.plain for r in rounds)
        name = "careful, bfloat16" if half else "careful"
        print(
            f"{name:<9} {speed:>9,.0f} entries/s  {ratio:5.2f} × plain; error mean "
            f"{errors[f'careful {half}'].mean():.1e} nats"
        )
    for name in precisions:
        speed = statistics.median(r.engine[name] for r in rounds)
        ratios = [r.engine[name] / r.plain for r in rounds]
        shares = [r.engine[name] * operations / len(pairs) / r.peak[name] for r in rounds]
        careful = [r.engine[name] / r.careful[name != "float32"] for r in rounds]
        error = errors[name]
        print(
            f"{name:<9} {speed:>9,.0f} entries/s  {statistics.median(ratios):5.2f} × plain "
            f"(from {min(ratios):.2f} to {max(ratios):.2f}), "
            f"{statistics.median(careful):.2f} × careful (from {min(careful):.2f} to "
            f"{max(careful):.2f}); error mean {error.mean():.1e}, max "
            f"{error.max():.1e} nats; {statistics.median(shares):.0%} of the products' "
            f"{statistics.median(r.peak[name] for r in rounds) / 1e9:,.0f} Gop/s"
        )


def _shown(device: torch.device) -> str:
    if device.type == "cpu":
        return f"{torch.get_num_threads()} threads"
    return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"


if __name__ == "__main__":
    main()
