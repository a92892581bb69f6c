"""A trained continuous-space language model: sentences and n-grams in, log-probabilities out.

All are natural logarithms. Sentences are whole: start symbols stand before the first word, and the
end symbol is predicted. The network itself is models/continuous_space.py; it is trained like any
other model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.kernels.kernels import kernels_for
from phrase_scorer.models.continuous_space import ContinuousSpaceModel
from phrase_scorer.models.directory import ModelDirectory
from phrase_scorer.runtime.streams import numbered_lines
from phrase_scorer.scoring.precision import PrecisionScheme
from phrase_scorer.scoring.softmax import Softmax
from phrase_scorer.text.phrase_pairs import PhraseIds, PhrasePairs, words_of
from phrase_scorer.text.vocabulary import END, Vocabulary

CONTEXTS_AT_ONCE = 4096

WordIds = npt.NDArray[np.int64]  # contexts: (contexts, order - 1), the oldest word first
LogProbs = npt.NDArray[np.float64]


@dataclass(frozen=True)
class NGrams:
    """Each symbol of some text with its context."""

    contexts: WordIds  # (symbols, order - 1)
    words: WordIds  # (symbols,)


class LanguageModel:
    """A model ready to be asked, in evaluation mode and on its device.

    Ids that are `excluded` have no probability; the others share it.
    """

    def __init__(
        self, model: ContinuousSpaceModel, vocabulary: Vocabulary, excluded: Sequence[int] = ()
    ) -> None:
        self.model = model
        self.vocabulary = vocabulary
        self.device = model.output.bias.device
        output = model.output
        with torch.inference_mode():
            if len(excluded):
                output = deepcopy(output).requires_grad_(False)
                output.bias[torch.tensor(excluded, device=self.device)] = -1e30
            scheme = PrecisionScheme("float32", self.device, kernels_for(self.device))
            self._softmax = Softmax(output, scheme)

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str = "cpu") -> LanguageModel:
        """The language model of a directory; UsageError where that holds a phrase model."""
        directory = ModelDirectory(Path(path))
        model = directory.load_model()
        if not isinstance(model, ContinuousSpaceModel):
            raise UsageError(f"{path}: not a language model but {model.config.architecture}")
        return cls(model.to(device), directory.vocabularies()[1])

    @property
    def order(self) -> int:
        """The n of its n-grams: history length + 1."""
        return self.model.config.order

    def ngrams(self, sentences: Sequence[Sequence[bytes]]) -> NGrams:
        """The n-grams of sentences, in order, end symbols included."""
        ids = self.vocabulary.ids(sentences)
        history = self.order - 1
        starts = np.full(history, self.model.start_symbol)
        contexts, words = [np.zeros((0, history), np.int64)], [np.zeros(0, np.int64)]
        for number in range(len(ids)):
            sentence = ids.phrase(number).astype(np.int64)
            before = np.concatenate([starts, sentence])
            contexts.append(np.lib.stride_tricks.sliding_window_view(before, history))
            words.append(np.append(sentence, END))
        return NGrams(np.concatenate(contexts), np.concatenate(words))

    def log_probs(self, ngrams: NGrams) -> LogProbs:
        """(symbols,) natural-log probability of each symbol after its context.

        A context that is repeated is computed once.
        """
        contexts, place = np.unique(ngrams.contexts, axis=0, return_inverse=True)
        return self.chosen_log_probs(contexts, place.reshape(-1), ngrams.words)

    @torch.inference_mode()
    def chosen_log_probs(self, contexts: WordIds, rows: WordIds, words: WordIds) -> LogProbs:
        """(len(rows),) natural-log probability of each word after the context of its row."""
        order = np.argsort(rows, kind="stable")
        starts = np.arange(0, len(contexts) + CONTEXTS_AT_ONCE, CONTEXTS_AT_ONCE)
        bounds = np.searchsorted(rows[order], starts)
        result = np.empty(len(rows))
        for number, start in enumerate(range(0, len(contexts), CONTEXTS_AT_ONCE)):
            some = self._tensor(contexts[start : start + CONTEXTS_AT_ONCE])
            features = self.model.context_features(some).contiguous()
            log_z = self._softmax.log_z(features).double()
            inside = order[bounds[number] : bounds[number + 1]]
            row = self._tensor(rows[inside] - start)
            logits = self._softmax.logits(features, row, self._tensor(words[inside]))
            result[inside] = (logits.double() - log_z.index_select(0, row)).cpu().numpy()
        return np.minimum(result, 0.0)  # what is nearly certain may be rounded up

    def _tensor(self, array: WordIds) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def score(self, sentences: Sequence[Sequence[bytes]]) -> LogProbs:
        """(sentences,) natural-log probability of each, its end symbol included."""
        found = self.log_probs(self.ngrams(sentences))
        ends = np.cumsum([len(sentence) + 1 for sentence in sentences])
        sums = np.concatenate([[0.0], np.cumsum(found)])[[0, *ends]]
        return np.diff(sums)


def read_sentences(path: str | Path) -> Iterator[list[bytes]]:
    """The sentences of a tokenised text, one per line (`-`: standard input; gz is read).

    An empty line is a DataError, and so is an empty file.
    """
    number = 0
    for number, line in numbered_lines(path, mark="strip"):
        words = words_of(line.removesuffix(b"\r"))
        if not words:
            raise DataError("empty line", path=path, line=number)
        yield words
    if not number:
        raise DataError("no text", path=path)


def text_vocabulary(sentences: Iterable[Sequence[bytes]], size: int, min_count: int) -> Vocabulary:
    """`<unk>` and the `size` - 1 most frequent words seen at least `min_count` times."""
    counts = Counter(chain.from_iterable(sentences))
    kept = {word: count for word, count in counts.items() if count >= min_count}
    return Vocabulary.shortlist(kept, size)


def text_pairs(sentences: Sequence[Sequence[bytes]], vocabulary: Vocabulary) -> PhrasePairs:
    """Sentences as the training code reads them: targets of a source without words."""
    targets = vocabulary.ids(sentences)
    nothing = PhraseIds(np.zeros(0, np.int32), np.zeros(len(targets) + 1, np.int64))
    return PhrasePairs(nothing, targets)
