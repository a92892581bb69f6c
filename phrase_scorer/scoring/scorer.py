"""Phrase pairs in, one natural-log probability each out.

In float32 equal to reference.py within 1e-4 nats a pair. Pairs are scored part by part
(`PART_PAIRS`), each by itself: within a part everything that pairs share is computed once
(engine.py). On a CPU several parts are scored at once, in as many threads as torch would use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from phrase_scorer.errors import UsageError, require_at_least, require_choice
from phrase_scorer.kernels.kernels import kernels_for
from phrase_scorer.models import Direction, EncoderDecoder, PhraseModel
from phrase_scorer.models.config import require_summary
from phrase_scorer.models.directory import ModelDirectory
from phrase_scorer.models.phrase_model import Affine
from phrase_scorer.runtime.device import Arithmetic, Precision
from phrase_scorer.runtime.workers import worker_number
from phrase_scorer.scoring.engine import Engine, PairwiseEngine, StepwiseEngine, distinct
from phrase_scorer.scoring.precision import computed_with
from phrase_scorer.scoring.recurrent_engine import RecurrentEngine
from phrase_scorer.text.given_pairs import Pairs, Phrase, blocks_of_pairs, blocks_of_phrases
from phrase_scorer.text.phrase_pairs import PairBlock, PhraseIds, PhrasePairs, Rows
from phrase_scorer.text.vocabulary import Vocabulary

BLOCK_PAIRS = 16384  # pairs taken from an iterator at once
PART_PAIRS = 8192  # pairs of which memory holds the states; among these work is shared
LEAST_PAIRS = 512  # not worth a thread of their own

Scores = npt.NDArray[np.float32]
Vectors = npt.NDArray[np.float32]  # (phrases or words, width)
_Some = TypeVar("_Some", PhrasePairs, PhraseIds)


class PhraseScorer:
    """A trained model, ready to score.

    A UsageError tells of a device that is not there, or cannot compute so.

    Args:
        model: In evaluation mode; it is moved to the device.
        source_vocabulary: Words of the model's input (for an inverse model, the target side).
        target_vocabulary: Words of the model's output.
        arithmetic: None: on the CPU in float32.
        fingerprint: That of the model directory, for signatures.
    """

    def __init__(
        self,
        model: PhraseModel,
        source_vocabulary: Vocabulary,
        target_vocabulary: Vocabulary,
        *,
        arithmetic: Arithmetic | None = None,
        fingerprint: str = "",
    ) -> None:
        self.arithmetic = arithmetic or Arithmetic("cpu")
        self.device = self.arithmetic.torch_device(worker_number())
        self.model = model.to(self.device)
        self.source_vocabulary = source_vocabulary
        self.target_vocabulary = target_vocabulary
        self.fingerprint = fingerprint
        self._engine = engine_for(self.model, self.arithmetic.precision)
        self._path: str | Path | None = None  # of the directory, if it was loaded from one

    @classmethod
    def load(cls, path: str | Path, arithmetic: Arithmetic | str = "auto") -> PhraseScorer:
        """The scorer of a model directory; `arithmetic` may be just the name of a device.

        Raises:
            ModelError: The directory is incomplete, broken, or of a newer format.
            UsageError: The device is not there, or cannot compute so; a language model.
        """
        directory = ModelDirectory(Path(path))
        model = directory.load_model()
        if not model.reads_source:
            raise UsageError(
                f"{path}: a language model scores text, not phrase pairs; see perplexity, "
                "export-arpa, nbest --cslm"
            )
        source, target = directory.vocabularies()
        if isinstance(arithmetic, str):
            arithmetic = Arithmetic(arithmetic)
        scorer = cls(
            model, source, target, arithmetic=arithmetic, fingerprint=directory.fingerprint()
        )
        scorer._path = path
        return scorer

    def __reduce__(self) -> tuple[Callable[..., PhraseScorer], tuple[Any, ...]]:
        """For another process: it loads the same directory again, with counts of its own."""
        if self._path is None:
            raise TypeError("a PhraseScorer that was not loaded from a directory is not pickled")
        return PhraseScorer.load, (self._path, self.arithmetic)

    def exact(self) -> PhraseScorer:
        """The same model in float32."""
        if self.arithmetic.is_exact:
            return self
        arithmetic = replace(self.arithmetic, device=str(self.device), precision="float32")
        parts = self.model, self.source_vocabulary, self.target_vocabulary
        return PhraseScorer(*parts, arithmetic=arithmetic, fingerprint=self.fingerprint)

    @property
    def precision(self) -> str:
        """How scores are computed, in the words of signatures, such as "int8"."""
        said = self.arithmetic.precision
        return said if self.is_probability else f"{said}, pseudo-log-likelihood"

    @property
    def computed_with(self) -> dict[str, str]:
        """What decides the last digits of scores: device, processor, precision, kernels, torch."""
        return computed_with(self.arithmetic, kernels_for(self.device))

    @property
    def is_probability(self) -> bool:
        """Whether probabilities sum to one over all targets; a masked model's do not."""
        return self.model.is_stepwise

    @property
    def vocabularies(self) -> dict[str, Vocabulary]:
        """By side of a pair, "source" and "target"; the side that the model reads comes first."""
        sides = ("source", "target") if self.direction == "forward" else ("target", "source")
        return dict(zip(sides, (self.source_vocabulary, self.target_vocabulary), strict=True))

    @property
    def direction(self) -> Direction:
        """Either "forward", ln p(target | source), or "inverse", ln p(source | target)."""
        return self.model.config.direction

    def __repr__(self) -> str:
        config, read = self.model.config, "source, target"
        if self.direction == "inverse":
            read = "target, source"
        words = " and ".join(f"{len(vocabulary):,}" for vocabulary in self.vocabularies.values())
        return (
            f"<PhraseScorer {self.direction}: {config.architecture} of {config.hidden} units, "
            f"{words} words ({read}), {self.precision} on {self.device}>"
        )

    def score(self, pairs: Pairs, targets: Iterable[Phrase] | None = None) -> Scores:
        """Scores (source, target) pairs, or as many sources and targets.

        A phrase is a string with blanks, or a list of words; an empty source is scored as any
        other.

        >>> scorer.score([("the house", "la maison"), ("the", "la")])  # doctest: +SKIP
        >>> scorer.score(["the house", "the"], ["la maison", "la"])  # doctest: +SKIP

        Returns:
            (pairs,) float32 natural-log probabilities, each summed over the target's words and the
            end-of-phrase symbol; in the order of the pairs. No length normalisation.

        Raises:
            TypeError: What is not a pair of phrases, by its place (from 0): a dict, say, or a
                string, of which two letters would be one; a source without a target.
        """
        blocks = blocks_of_pairs(pairs, targets, BLOCK_PAIRS)
        return np.concatenate([np.zeros(0, np.float32), *map(self.score_block, blocks)])

    def score_iterable(
        self,
        pairs: Pairs,
        targets: Iterable[Phrase] | None = None,
        *,
        block_pairs: int = BLOCK_PAIRS,
    ) -> Iterator[float]:
        """As `score`, one score after the other, of pairs without end: nothing is kept.

        `block_pairs` are taken at a time; the more, the faster.
        """
        require_at_least(1, "block_pairs", block_pairs)
        for block in blocks_of_pairs(pairs, targets, block_pairs):
            yield from self.score_block(block).tolist()

    def word_scores(self, pairs: Pairs, targets: Iterable[Phrase] | None = None) -> list[Scores]:
        """The natural-log probability of each target word after those before it.

        Takes and refuses what `score` does. For an inverse model, of each source word.

        Returns:
            For each pair (words + 1,) float32, the end-of-phrase symbol last. Their sum is the
            pair's score.
        """
        return list(self.word_scores_iterable(pairs, targets))

    def word_scores_iterable(
        self,
        pairs: Pairs,
        targets: Iterable[Phrase] | None = None,
        *,
        block_pairs: int = BLOCK_PAIRS,
    ) -> Iterator[Scores]:
        """As `word_scores`, one pair after the other; as `score_iterable`, of pairs without end."""
        require_at_least(1, "block_pairs", block_pairs)
        for block in blocks_of_pairs(pairs, targets, block_pairs):
            yield from self.word_scores_of_block(block)

    def vectors(self, phrases: Iterable[Phrase]) -> Vectors:
        """The summaries of phrases of the side that the model reads: of the source, if forward.

        Of an encoder-decoder c, which is all that its decoder sees of a source phrase (Cho et al.
        2014, section 2.2); of a seq2seq model the last state of its highest layer.

        Returns:
            (phrases, hidden) float32, in the order of the phrases.

        Raises:
            TypeError: What is not a phrase, by its place (from 0).
            UsageError: A model of another architecture: it keeps no phrase as one vector.
        """
        require_summary(self.model.config)
        nothing = np.zeros((0, self.model.config.hidden), np.float32)
        blocks = blocks_of_phrases(phrases, BLOCK_PAIRS)
        return np.concatenate([nothing, *map(self.vectors_of_block, blocks)])

    def vectors_of_block(self, phrases: Sequence[Sequence[bytes]]) -> Vectors:
        """As `vectors`, of a block of tokenised phrases, at least one."""
        different, place = distinct(self.source_vocabulary.ids(phrases))
        return self._in_parts(self._engine.summaries, different, different)[place]

    def embeddings(self, side: str = "target") -> Vectors:
        """The embeddings of the shortlist of a side of pairs, "source" or "target".

        As the network reads them: with their bias, before a Transformer's scale and positions.

        Returns:
            (words, width) float32; row i is of `vocabularies[side].words[i]`. The first two are the
            end of phrase and `<unk>`.
        """
        require_choice("side", side, self.vocabularies)
        embedding = self.model.target_embedding
        if side == next(iter(self.vocabularies)) and self.model.source_embedding is not None:
            embedding = self.model.source_embedding  # else the sides share one
        assert isinstance(embedding, Affine)
        with torch.inference_mode():
            words = torch.arange(len(self.vocabularies[side]), device=self.device)
            return embedding.embed(words).cpu().numpy()

    def score_block(self, block: PairBlock) -> Scores:
        """(pairs,) float32 natural-log probabilities of a block of tokenised pairs."""
        return self.score_ids(self.ids(block))

    def word_scores_of_block(self, block: PairBlock) -> list[Scores]:
        """As `word_scores`, of a block of tokenised pairs."""
        pairs = self.ids(block)
        ends = np.cumsum(pairs.target.lengths + 1)
        scores = self._in_parts(self._engine.score_symbols, pairs, pairs.source)
        return np.split(scores, ends[:-1])

    def ids(self, block: PairBlock, *, counted: bool = True) -> PhrasePairs:
        """The ids of a block; for an inverse model, the sides change places.

        The vocabularies count words looked up and unknown, unless `counted` is False.
        """
        if len(block.sources) != len(block.targets):
            raise UsageError(f"{len(block.sources)} sources, but {len(block.targets)} targets")
        phrases = {"source": block.sources, "target": block.targets}
        read, predicted = (
            words.ids(phrases[side], counted=counted) for side, words in self.vocabularies.items()
        )
        return PhrasePairs(read, predicted)

    def score_ids(self, pairs: PhrasePairs) -> Scores:
        """(pairs,) float32 natural-log probabilities."""
        return self._in_parts(self._engine.score, pairs, pairs.source)

    def _in_parts(
        self, compute: Callable[[_Some], torch.Tensor], given: _Some, sources: PhraseIds
    ) -> Scores:
        """What is computed of all of these pairs or phrases, which have these sources."""
        threads = torch.get_num_threads() if self.device.type == "cpu" else 1
        parts = [given.take(rows) for rows in _parts(sources, threads)]
        if threads == 1 or len(parts) < 2:
            found = list(map(compute, parts))
        else:
            with single_threaded_torch(), ThreadPoolExecutor(threads) as pool:
                found = list(pool.map(compute, parts))
        arrays = [part.numpy() for part in found]
        return np.concatenate(arrays) if arrays else np.zeros(0, np.float32)


def mixture(scores: Sequence[Scores]) -> Scores:
    """(pairs,) the natural logarithm of the mean of several models' probabilities."""
    every = np.stack([values.astype(np.float64) for values in scores])
    return np.asarray(np.logaddexp.reduce(every, axis=0) - np.log(len(scores)), np.float32)


def engine_for(model: PhraseModel, precision: Precision) -> Engine:
    """The fastest engine that knows the model."""
    if isinstance(model, EncoderDecoder):
        return RecurrentEngine(model, precision)
    if model.is_stepwise:
        return StepwiseEngine(model, precision)
    return PairwiseEngine(model, precision)


def _parts(sources: PhraseIds, threads: int) -> Iterator[Rows]:
    """Rows of parts of equal size, cut where the source changes if such a place is near."""
    if not len(sources):
        return
    count = -(-len(sources) // PART_PAIRS)
    if threads > 1:
        # As many for each thread, and not too few pairs in any.
        count = min(-(-count // threads) * threads, max(count, len(sources) // LEAST_PAIRS))
    size = -(-len(sources) // max(1, count))
    hashes = sources.hashes()
    changes = np.flatnonzero(hashes[1:] != hashes[:-1]) + 1
    start = 0
    while start < len(sources):
        stop = min(start + size, len(sources))
        following = changes[np.searchsorted(changes, stop) :]
        if len(following) and following[0] - stop < size // 8:
            stop = int(following[0])
        elif len(sources) - stop < size // 8:
            stop = len(sources)
        yield np.arange(start, stop)
        start = stop


@contextmanager
def single_threaded_torch() -> Iterator[None]:
    """Lets torch compute each product in the thread that asks for it, until the context is left."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def blocks_of(blocks: Iterable[PairBlock]) -> Iterator[PairBlock]:
    """The same pairs in blocks of at most `BLOCK_PAIRS`."""
    for block in blocks:
        for start in range(0, len(block.sources), BLOCK_PAIRS):
            chosen = slice(start, start + BLOCK_PAIRS)
            bad = {p - start: line for p, line in block.bad.items() if 0 <= p - start < BLOCK_PAIRS}
            yield PairBlock(block.sources[chosen], block.targets[chosen], bad=bad)
