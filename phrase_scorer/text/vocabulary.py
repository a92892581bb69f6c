"""Words and their ids: the shortlist of the most frequent words, `<unk>` and the end of phrase.

A word is bytes, compared byte for byte. File: one word per line, its number (from 0) is the id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from phrase_scorer.errors import ModelError
from phrase_scorer.runtime.output import reason, write_file
from phrase_scorer.text.phrase_pairs import ROWS_AT_ONCE, PairCollector, PhraseIds, PhrasePairs

END = 0  # closes every phrase, source and target; its probability is part of the pair's
UNKNOWN = 1  # stands for every word outside the shortlist
SPECIAL_WORDS = (b"</s>", b"<unk>")
REMEMBERED_UNKNOWN = 10_000  # distinct unknown words kept as examples
PASSED_ON = 20  # of them, the most frequent, that go from one process to another


@dataclass
class Counts:
    """What a vocabulary has counted; those of parts can be added."""

    looked_up: int = 0  # words, known or not
    unknown: int = 0
    examples: Counter[bytes] = field(default_factory=Counter)  # unknown words: how often met

    def __iadd__(self, other: Counts) -> Counts:
        self.looked_up += other.looked_up
        self.unknown += other.unknown
        self.examples.update(other.examples)
        return self

    def to_json(self) -> list[Any]:
        """The counts as a journal holds them; words are bytes, so in hexadecimal."""
        examples = {word.hex(): count for word, count in self.examples.items()}
        return [self.looked_up, self.unknown, examples]

    @classmethod
    def from_json(cls, content: Sequence[Any]) -> Counts:
        """Reads what `to_json` gave."""
        looked_up, unknown, examples = content
        words = {bytes.fromhex(word): count for word, count in examples.items()}
        return cls(looked_up, unknown, Counter(words))


class Vocabulary:
    """Words with ids from 0: `</s>`, `<unk>`, then the shortlist (`words`) by falling frequency."""

    def __init__(self, words: Iterable[bytes]) -> None:
        self.words = (*SPECIAL_WORDS, *words)
        self.unknown_words: Counter[bytes] = Counter()  # examples, with how often they were met
        self.looked_up = 0  # words, known or not
        self.unknown = 0
        self._ids = _Lookup(self)

    @classmethod
    def shortlist(
        cls, words: Sequence[bytes], counts: npt.NDArray[np.int64], size: int
    ) -> Vocabulary:
        """The `size` - 1 most frequent words, `<unk>` having the place of one.

        That is the released code's count (GroundHog: 15,001 rows for a shortlist of 15,000). Ties
        are broken by the words' bytes, so that the order of the table does not matter.
        """
        order = sorted(range(len(words)), key=lambda i: (-counts[i], words[i]))
        chosen = (words[i] for i in order if words[i] not in SPECIAL_WORDS)
        return cls([word for word, _ in zip(chosen, range(size - 1), strict=False)])

    def __len__(self) -> int:
        return len(self.words)

    def ids(self, phrases: Sequence[Sequence[bytes]], *, counted: bool = True) -> PhraseIds:
        """The ids of tokenised phrases; a word outside the shortlist is `UNKNOWN`."""
        if not counted:
            return PhraseIds.collect(phrases, self.id)
        found = PhraseIds.collect(phrases, self._ids.__getitem__)
        self.looked_up += len(found.ids)
        return found

    def take_counts(self) -> Counts:
        """The counts so far, which begin again at 0; only some of the examples."""
        examples = Counter(dict(self.unknown_words.most_common(PASSED_ON)))
        counts = Counts(self.looked_up, self.unknown, examples)
        self.looked_up = self.unknown = 0
        self.unknown_words.clear()
        return counts

    def add_counts(self, counts: Counts) -> None:
        """Adds what another process has counted."""
        self.looked_up += counts.looked_up
        self.unknown += counts.unknown
        self.unknown_words.update(counts.examples)

    @property
    def unknown_share(self) -> float:
        """Of the words looked up so far, those that are not in the shortlist."""
        return self.unknown / max(1, self.looked_up)

    def unknown_examples(self, count: int = 5) -> list[bytes]:
        """The most frequent of the unknown words met so far."""
        return [word for word, _ in self.unknown_words.most_common(count)]

    def id(self, word: bytes) -> int:
        """The id of one word; `UNKNOWN` outside the shortlist."""
        return self._ids.get(word, UNKNOWN)

    def save(self, path: Path) -> None:
        """Writes the words, one per line."""
        write_file(path, b"".join(word + b"\n" for word in self.words))

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Reads what `save` wrote.

        Raises:
            ModelError: Not such a file.
        """
        try:
            words = path.read_bytes().removesuffix(b"\n").split(b"\n")
        except OSError as error:
            raise ModelError(f"cannot read: {reason(error)}", path=path) from error
        if tuple(words[:2]) != SPECIAL_WORDS:
            raise ModelError("not a vocabulary: the first lines are not </s> and <unk>", path=path)
        if len(set(words)) != len(words):
            twice = next(word for word, count in Counter(words).items() if count > 1)
            raise ModelError("a word stands twice", path=path, text=twice)
        return cls(words[2:])


class _Lookup(dict[bytes, int]):
    """word -> id; `__missing__` is run by Python for unknown words only, so the rest stays in C."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__((word, i) for i, word in enumerate(vocabulary.words))
        # A word of the table that reads "</s>" is a word, not the end of the phrase.
        del self[SPECIAL_WORDS[END]]
        self._vocabulary = vocabulary

    def __missing__(self, word: bytes) -> int:
        self._vocabulary.unknown += 1
        examples = self._vocabulary.unknown_words
        if word in examples or len(examples) < REMEMBERED_UNKNOWN:
            examples[word] += 1
        return UNKNOWN


def shortlists(
    collector: PairCollector, pairs: PhrasePairs, size: int
) -> tuple[Vocabulary, Vocabulary]:
    """(source, target) vocabularies, each of `size` words with `<unk>`, of collected pairs.

    The ids of the pairs are the collector's before the call, and the vocabularies' after it.
    """
    result = []
    for words, phrases in _sides(collector, pairs):
        vocabulary = Vocabulary.shortlist(list(words), _counts(words, phrases), size)
        _give_ids(phrases, words, vocabulary)
        result.append(vocabulary)
    return result[0], result[1]


def shared_shortlist(
    collector: PairCollector, pairs: PhrasePairs, size: int
) -> tuple[Vocabulary, Vocabulary]:
    """As `shortlists`, but both are the same: the most frequent words of the two sides together."""
    counts: Counter[bytes] = Counter()
    for words, phrases in _sides(collector, pairs):
        counts.update(dict(zip(words, _counts(words, phrases).tolist(), strict=True)))
    totals = np.fromiter(counts.values(), np.int64, len(counts))
    vocabulary = Vocabulary.shortlist(list(counts), totals, size)
    for words, phrases in _sides(collector, pairs):
        _give_ids(phrases, words, vocabulary)
    return vocabulary, vocabulary


def _sides(
    collector: PairCollector, pairs: PhrasePairs
) -> tuple[tuple[dict[bytes, int], PhraseIds], ...]:
    return (collector.source_words, pairs.source), (collector.target_words, pairs.target)


def _counts(words: dict[bytes, int], phrases: PhraseIds) -> npt.NDArray[np.int64]:
    return np.bincount(phrases.ids, minlength=len(words)).astype(np.int64)


def _give_ids(phrases: PhraseIds, words: dict[bytes, int], vocabulary: Vocabulary) -> None:
    """Changes the collector's ids in place to the vocabulary's."""
    mapping = np.fromiter(map(vocabulary.id, words), np.int32, len(words))
    for start in range(0, len(phrases.ids), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        phrases.ids[part] = mapping[phrases.ids[part]]
