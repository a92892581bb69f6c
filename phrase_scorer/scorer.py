"""Phrase pairs in, one natural-log probability each out: sorted, batched, sources encoded once.

Equal to reference.py within 1e-4 nats a pair. A block is scored by itself, so a score depends on
no pair outside its block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from phrase_scorer.batches import by_length, source_batch, target_batch
from phrase_scorer.checkpoint import ModelDirectory
from phrase_scorer.device import choose_device
from phrase_scorer.models import Context, Direction, EncoderDecoder
from phrase_scorer.normalizer import chosen_log_probs
from phrase_scorer.phrase_pairs import PairBlock, PhraseIds, PhrasePairs, Rows
from phrase_scorer.vocabulary import Vocabulary

BLOCK_PAIRS = 8192  # pairs among which sources are shared
BATCH_PHRASES = 512  # phrases that go through a recurrent step together

Phrase = str | bytes | Sequence[str]
Scores = npt.NDArray[np.float32]


class PhraseScorer:
    """A trained model, ready to score.

    Args:
        model: Parameters set, in evaluation mode.
        source_vocabulary: Of the model's input (for an inverse model: words of the target side).
        target_vocabulary: Of the model's output.
        device: Where to compute.
        fingerprint: Of the model directory, for signatures.
    """

    def __init__(
        self,
        model: EncoderDecoder,
        source_vocabulary: Vocabulary,
        target_vocabulary: Vocabulary,
        *,
        device: torch.device | str = "cpu",
        fingerprint: str = "",
    ) -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self.source_vocabulary = source_vocabulary
        self.target_vocabulary = target_vocabulary
        self.fingerprint = fingerprint

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> PhraseScorer:
        """The scorer of a model directory.

        Raises:
            ModelError: The directory is incomplete, broken, or of a newer format.
            UsageError: The device is not there.
        """
        directory = ModelDirectory(Path(path))
        model = directory.load_model()
        source, target = directory.vocabularies()
        return cls(
            model,
            source,
            target,
            device=choose_device(device),
            fingerprint=directory.fingerprint(),
        )

    @property
    def direction(self) -> Direction:
        """Of a score: ln p(target | source) if "forward", ln p(source | target) if "inverse"."""
        return self.model.config.direction

    def score(self, pairs: Iterable[tuple[Phrase, Phrase]]) -> Scores:
        """Scores (source, target) pairs; a phrase is a string with blanks, or a list of words.

        Returns:
            (pairs,) float32 natural-log probabilities, each summed over the target's words and the
            end-of-phrase symbol; in the order of the pairs. No length normalisation.
        """
        remaining, parts = iter(pairs), []
        while block := list(islice(remaining, BLOCK_PAIRS)):
            sources = [_words(source) for source, _ in block]
            targets = [_words(target) for _, target in block]
            parts.append(self.score_block(PairBlock(sources, targets)))
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def score_block(self, block: PairBlock) -> Scores:
        """(pairs,) float32 natural-log probabilities of a block of tokenised pairs."""
        return self.score_ids(self.ids(block))

    def ids(self, block: PairBlock) -> PhrasePairs:
        """The ids of a block; for an inverse model, the sides change places."""
        sides = (block.sources, block.targets)
        if self.direction == "inverse":
            sides = (block.targets, block.sources)
        return PhrasePairs(
            self.source_vocabulary.ids(sides[0]), self.target_vocabulary.ids(sides[1])
        )

    @torch.inference_mode()
    def score_ids(self, pairs: PhrasePairs) -> Scores:
        """(pairs,) float32 natural-log probabilities; each distinct source is encoded once."""
        if not len(pairs):
            return np.zeros(0, np.float32)
        sources, source_of = distinct(pairs.source)
        context = self._contexts(pairs.source, sources)
        scores = torch.zeros(len(pairs), device=self.device)
        for rows in by_length(pairs.target.lengths, BATCH_PHRASES):
            chosen = torch.from_numpy(source_of[rows]).to(self.device)
            sums = self._sums(context.take(chosen), pairs.target, rows)
            scores[torch.from_numpy(rows).to(self.device)] = sums
        result: Scores = scores.cpu().numpy()
        return result

    def _contexts(self, phrases: PhraseIds, rows: Rows) -> Context:
        """What the decoder needs of the sources of these rows, in their order."""
        batches = list(by_length(phrases.lengths[rows], BATCH_PHRASES))
        encoded = [
            self.model.encode(source_batch(phrases, rows[batch], self.device)) for batch in batches
        ]
        places = torch.from_numpy(np.argsort(np.concatenate(batches))).to(self.device)
        return self.model.context(torch.cat(encoded).index_select(0, places))

    def _sums(self, context: Context, phrases: PhraseIds, rows: Rows) -> Tensor:
        """(rows,) ln p of whole target phrases."""
        target = target_batch(phrases, rows, self.device)
        output = self.model.output
        log_probs = chosen_log_probs(
            self.model.decode(context, target), output.right, output.bias, target.symbol_words
        )
        return log_probs.new_zeros(len(rows)).index_add_(0, target.phrases, log_probs)


def distinct(phrases: PhraseIds) -> tuple[Rows, Rows]:
    """(rows of the distinct phrases, for each phrase the place of its equal among those)."""
    every = np.arange(len(phrases))
    padded = np.ascontiguousarray(phrases.padded(every, -1))  # (phrases, longest + 1)
    keys = padded.view(np.dtype((np.void, padded.strides[0]))).ravel()
    _, first, place = np.unique(keys, return_index=True, return_inverse=True)
    return first.astype(np.int64), place.astype(np.int64)


def _words(phrase: Phrase) -> list[bytes]:
    if isinstance(phrase, str):
        return phrase.encode("utf-8", "surrogateescape").split()
    if isinstance(phrase, bytes):
        return phrase.split()
    return [word.encode("utf-8", "surrogateescape") for word in phrase]


def blocks_of(blocks: Iterable[PairBlock]) -> Iterator[PairBlock]:
    """The same pairs in blocks of at most `BLOCK_PAIRS`."""
    for block in blocks:
        for start in range(0, len(block.sources), BLOCK_PAIRS):
            chosen = slice(start, start + BLOCK_PAIRS)
            yield PairBlock(block.sources[chosen], block.targets[chosen])
