"""The scoring engine against CTranslate2's `score_batch`, on the same pairs.

    pip install ctranslate2
    python benchmarks/ctranslate2_peer.py phrase-table.gz [--entries 20000] [--rounds 3]

CTranslate2 runs no recurrent networks; so its model is a Transformer (3 + 3 layers of 256, a
feed-forward layer of 1024, shortlists of 15,000) of about as many parameters as the paper's model,
both of random weights: the times are those of trained ones. It needs about 3.3 times the operations
of ours, whose output matrix has rank 100 and whose pairs share prefixes; so the ratio compares what
a user can run, not two programs of one model. It sorts the pairs by length itself.
Each round measures every system once, in turn, with as many threads.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import ctranslate2
import numpy as np
import torch
from ctranslate2.specs import TransformerSpec
from ctranslate2.specs.common_spec import EmbeddingsSpec, LayerNormSpec, LinearSpec
from scoring import pairs_of, random_model, read_pairs, timed

from phrase_scorer.runtime.device import Arithmetic
from phrase_scorer.scoring.scorer import PhraseScorer

WIDTH, FEED_FORWARD, LAYERS, HEADS = 256, 1024, 3, 4
TOKENS_AT_ONCE = 512  # of a batch: the logits of 8,192 are 500 MB, whose page faults cost a third


class RandomTransformer:
    """Writes a model directory of CTranslate2."""

    def __init__(self, seed: int = 1) -> None:
        self.parameters = 0
        self._draw = np.random.default_rng(seed)

    def write(self, folder: Path, source_words: list[str], target_words: list[str]) -> None:
        """Leaves the model in a folder, which is made."""
        folder.mkdir()
        spec = TransformerSpec.from_config(LAYERS, HEADS)
        sides = ((spec.encoder, len(source_words)), (spec.decoder, len(target_words)))
        self._embedding(spec.encoder.embeddings[0], len(source_words))
        self._embedding(spec.decoder.embeddings, len(target_words))
        self._linear(spec.decoder.projection, len(target_words), WIDTH)
        for side, _ in sides:
            self._norm(side.layer_norm)
            for layer in side.layer:
                self._attention(layer.self_attention, 3)
                if side is spec.decoder:
                    self._attention(layer.attention, 1, 2)
                self._norm(layer.ffn.layer_norm)
                self._linear(layer.ffn.linear_0, FEED_FORWARD, WIDTH)
                self._linear(layer.ffn.linear_1, WIDTH, FEED_FORWARD)
        spec.register_source_vocabulary(source_words)
        spec.register_target_vocabulary(target_words)
        spec.config.add_source_eos = True
        spec.validate()
        spec.optimize()
        spec.save(str(folder))

    def _attention(self, attention: object, *multiples: int) -> None:
        self._norm(attention.layer_norm)
        for linear, multiple in zip(attention.linear, (*multiples, 1), strict=True):
            self._linear(linear, multiple * WIDTH, WIDTH)

    def _linear(self, linear: LinearSpec, outputs: int, inputs: int) -> None:
        linear.weight = self._random(outputs, inputs)
        linear.bias = self._random(outputs)

    def _embedding(self, embedding: EmbeddingsSpec, words: int) -> None:
        embedding.weight = self._random(words, WIDTH)

    def _norm(self, norm: LayerNormSpec) -> None:
        norm.gamma, norm.beta = 1 + self._random(WIDTH), self._random(WIDTH)

    def _random(self, *shape: int) -> np.ndarray:
        self.parameters += int(np.prod(shape))
        return self._draw.normal(0, 0.03, shape).astype(np.float32)


def peer(folder: Path, kind: str, threads: int) -> Callable[[list, list], np.ndarray]:
    """Scores pairs of word lists as CTranslate2 does."""
    # One replica a core: faster here than one of several threads, as its documentation says.
    translator = ctranslate2.Translator(
        str(folder), "cpu", compute_type=kind, inter_threads=threads, intra_threads=1
    )

    def score(sources: list, targets: list) -> np.ndarray:
        results = translator.score_batch(
            sources, targets, max_batch_size=TOKENS_AT_ONCE, batch_type="tokens"
        )
        return np.array([sum(result.log_probs) for result in results], np.float32)

    return score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--entries", type=int, default=20_000)
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    words = read_pairs(arguments.table, arguments.entries, arguments.skip)
    scorer = random_model("paper", words)
    pairs = pairs_of(scorer, words)
    sources = [[word.decode() for word in source] for source, _ in words]
    targets = [[word.decode() for word in target] for _, target in words]
    threads = torch.get_num_threads()
    vocabularies = scorer.source_vocabulary, scorer.target_vocabulary
    tasks: dict[str, Callable[[], np.ndarray]] = {}
    for name in ("float32", "bfloat16", "int8"):
        ours = PhraseScorer(scorer.model, *vocabularies, arithmetic=Arithmetic("cpu", name))
        tasks[f"ours {name}"] = lambda s=ours: s.score_ids(pairs)
    with tempfile.TemporaryDirectory() as folder:
        names = [["<s>", *(w.decode() for w in v.words)] for v in vocabularies]
        transformer = RandomTransformer()
        transformer.write(Path(folder) / "model", *names)
        for name in ("float32", "int8_float32"):
            theirs = peer(Path(folder) / "model", name, threads)
            tasks[f"CTranslate2 {name}"] = lambda t=theirs: t(sources, targets)
        parameters = sum(p.numel() for p in scorer.model.parameters())
        print(f"{len(pairs):,} pairs, {threads} threads; {parameters:,} parameters; ", end="")
        print(f"CTranslate2 {ctranslate2.__version__}: {transformer.parameters:,}")
        speeds: dict[str, list[float]] = {name: [] for name in tasks}
        for _ in range(arguments.rounds):
            for name, task in tasks.items():
                speeds[name].append(timed(len(pairs), task)[0])
    for name, values in speeds.items():
        ratios = [v / b for v, b in zip(values, speeds["CTranslate2 float32"], strict=True)]
        print(
            f"{name:<26} {statistics.median(values):>9,.0f} pairs/s  "
            f"{statistics.median(ratios):5.2f} × CTranslate2 float32 "
            f"(from {min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
