"""Where the time of scoring goes, by part: of the plain scorer and of the engine, in one thread.

    python benchmarks/scoring_profile.py phrase-table.gz [--entries 20000] [--preset paper]

The same pairs and random weights as in scoring.py. Prints microseconds per entry and the share of
the whole; what a part does besides the parts inside it is told under its own name.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from scoring import PRECISIONS, pairs_of, plain_scores, random_model, read_pairs

from phrase_scorer.kernels.kernels import Kernels
from phrase_scorer.models.cells import GatedRecurrentUnit
from phrase_scorer.models.encoder_decoder import EncoderDecoder
from phrase_scorer.models.phrase_model import Output, Readout
from phrase_scorer.runtime.device import Arithmetic
from phrase_scorer.scoring.engine import Engine
from phrase_scorer.scoring.precision import Bfloat16Weights, Int8Weights, MatrixWeights
from phrase_scorer.scoring.prefix_tree import PrefixTree
from phrase_scorer.scoring.recurrent_engine import GatedRecurrence, RecurrentEngine
from phrase_scorer.scoring.scorer import PhraseScorer
from phrase_scorer.scoring.softmax import Softmax

PLAIN = {
    "recurrent steps": [(GatedRecurrentUnit, "forward")],
    "readout": [(Readout, "forward"), (Output, "features")],
    "logits and log-softmax": [(EncoderDecoder, "log_probs")],
    "the rest of the model": [(EncoderDecoder, "features")],
}


def engine_parts() -> dict[str, list[tuple[Any, str]]]:
    """What the engine calls, by part."""
    weights = (MatrixWeights, Bfloat16Weights, Int8Weights)
    return {
        "product": [(kind, "product") for kind in weights],
        "rounding": [(kind, "rounded") for kind in weights[1:]],
        "gates": [
            (Kernels, name) for name in ("reset_after", "reset_before_gates", "reset_before_state")
        ],
        "maxout": [(Kernels, "maxout")],
        "sum of exponentials": [(Kernels, "add_sum_exp")],
        "recurrence": [(GatedRecurrence, "step")],
        "softmax": [(Softmax, "log_z")],
        "contexts": [(RecurrentEngine, "_contexts")],
        "readout": [(RecurrentEngine, "_features")],
        "chosen words": [(Engine, "_sums")],
        "prefix trees": [(PrefixTree, "of")],
        "the rest": [(Engine, "score")],
    }


class Clock:
    """Seconds by part; those of a part inside another are not the outer one's."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = [0.0]
        self._outer = [""]

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, which reports its time; a product is told by where it is made."""

        def call(*arguments: Any, **options: Any) -> Any:
            place = f"{self._outer[-1]}: {part}" if part in ("product", "rounding") else part
            self._inner.append(0.0)
            self._outer.append(part)
            began = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                seconds = time.perf_counter() - began
                self._outer.pop()
                self.seconds[place] += seconds - self._inner.pop()
                self._inner[-1] += seconds

        return call


@contextmanager
def clocked(parts: dict[str, list[tuple[Any, str]]]) -> Iterator[Clock]:
    """Times the calls of these methods."""
    clock = Clock()
    with ExitStack() as stack:
        for part, methods in parts.items():
            for owner, name in methods:
                timed = clock.timed(part, getattr(owner, name))
                made: Any = staticmethod(timed) if name == "of" else timed
                stack.enter_context(mock.patch.object(owner, name, made))
        yield clock


def tell(name: str, clock: Clock, entries: int) -> None:
    total = sum(clock.seconds.values())
    print(f"{name}: {total / entries * 1e6:.1f} µs per entry")
    for part, seconds in sorted(clock.seconds.items(), key=lambda item: -item[1]):
        print(f"    {part:<28} {seconds / entries * 1e6:7.1f} µs  {seconds / total:4.0%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--entries", type=int, default=20_000)
    parser.add_argument("--skip", type=int, default=0, help="entries at the table's start")
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    words = read_pairs(arguments.table, arguments.entries, arguments.skip)
    scorer = random_model(arguments.preset, words)
    pairs = pairs_of(scorer, words)
    with clocked(PLAIN) as clock:
        plain_scores(scorer.model, pairs)
    tell("plain", clock, len(pairs))
    vocabularies = scorer.source_vocabulary, scorer.target_vocabulary
    for precision in arguments.precisions:
        rounded = PhraseScorer(scorer.model, *vocabularies, arithmetic=Arithmetic("cpu", precision))
        rounded.score_ids(pairs)
        with clocked(engine_parts()) as clock:
            rounded.score_ids(pairs)
        tell(precision, clock, len(pairs))


if __name__ == "__main__":
    main()
