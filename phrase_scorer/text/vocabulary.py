"""Words and their ids: the shortlist of the most frequent words, `<unk>` and the end of phrase.

A word is bytes, compared byte for byte. File: one word per line, its number (from 0) is the id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from phrase_scorer.errors import ModelError
from phrase_scorer.runtime.output import reason, write_file
from phrase_scorer.text.collector import PairCollector
from phrase_scorer.text.phrase_pairs import ROWS_AT_ONCE, PhraseIds, PhrasePairs

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

    @property
    def unknown_share(self) -> float:
        """Of the words looked up, those that are not in the shortlist."""
        return self.unknown / max(1, self.looked_up)

    def most_frequent(self, count: int = 5) -> list[bytes]:
        """The most frequent unknown words."""
        return [word for word, _ in self.examples.most_common(count)]

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
        self.counts = Counts()
        self._ids = _Lookup(self)

    @classmethod
    def shortlist(cls, counts: Mapping[bytes, int], size: int) -> Vocabulary:
        """The `size` - 1 most frequent words, `<unk>` having the place of one.

        That is the released code's count (GroundHog: 15,001 rows for a shortlist of 15,000). Ties
        are broken by the words' bytes, so that the order of the table does not matter.
        """
        words = sorted(counts.keys() - SPECIAL_WORDS, key=lambda word: (-counts[word], word))
        return cls(words[: size - 1])

    def __len__(self) -> int:
        return len(self.words)

    def ids(self, phrases: Sequence[Sequence[bytes]], *, counted: bool = True) -> PhraseIds:
        """The ids of tokenised phrases; a word outside the shortlist is `UNKNOWN`."""
        if not counted:
            return PhraseIds.collect(phrases, self.id)
        found = PhraseIds.collect(phrases, self._ids.__getitem__)
        self.counts.looked_up += len(found.ids)
        return found

    def counts_of(self, phrases: Iterable[Sequence[bytes]]) -> Counts:
        """What `ids` would count of these phrases; `counts` stays as it is."""
        words = Counter(chain.from_iterable(phrases))
        unknown = {word: count for word, count in words.items() if self.id(word) == UNKNOWN}
        return Counts(words.total(), sum(unknown.values()), Counter(unknown))

    def take_counts(self) -> Counts:
        """The counts so far, which begin again at 0; only some of the examples."""
        counts, self.counts = self.counts, Counts()
        counts.examples = Counter(dict(counts.examples.most_common(PASSED_ON)))
        return counts

    def id(self, word: bytes) -> int:
        """The id of one word; `UNKNOWN` outside the shortlist."""
        return self._ids.get(word, UNKNOWN)

    def save(self, path: Path) -> None:
        """Writes the words, one per line."""
        write_file(path, b"".join(word + b"\n" for word in self.words))

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Reads what `save` wrote; ModelError for any other file."""
        try:
            words = path.read_bytes().removesuffix(b"\n").split(b"\n")
        except OSError as error:
            raise ModelError(f"cannot read: {reason(error)}", path=path) from error
        if tuple(words[:2]) != SPECIAL_WORDS:
            raise ModelError("not a vocabulary: the first lines are not </s> and <unk>", path=path)
        if b"" in words:
            raise ModelError("a blank line", path=path, line=words.index(b"") + 1)
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
        counts = self._vocabulary.counts
        counts.unknown += 1
        if word in counts.examples or len(counts.examples) < REMEMBERED_UNKNOWN:
            counts.examples[word] += 1
        return UNKNOWN


def shortlists(
    collector: PairCollector, pairs: PhrasePairs, size: int, *, shared: bool = False
) -> tuple[Vocabulary, Vocabulary]:
    """(source, target) vocabularies, each of `size` words with `<unk>`, of collected pairs.

    The ids of the pairs are the collector's before the call, and the vocabularies' after it. With
    `shared` both are the same: the most frequent words of the two sides together.
    """
    counts = [_counts(words, phrases) for words, phrases in _sides(collector, pairs)]
    if shared:
        vocabularies = (Vocabulary.shortlist(counts[0] + counts[1], size),) * 2
    else:
        vocabularies = Vocabulary.shortlist(counts[0], size), Vocabulary.shortlist(counts[1], size)
    _renumber(collector, pairs, vocabularies)
    return vocabularies


def renumbered(
    collector: PairCollector, pairs: PhrasePairs, vocabularies: tuple[Vocabulary, Vocabulary]
) -> dict[str, Counts]:
    """Makes the ids of collected pairs those of given vocabularies; by side, what they lack."""
    found = {}
    sides = zip(("source", "target"), _sides(collector, pairs), vocabularies, strict=True)
    for name, (words, phrases), vocabulary in sides:
        counts = _counts(words, phrases)
        lacking = Counter({
            word: count for word, count in counts.items()
            if count and vocabulary.id(word) == UNKNOWN
        })  # fmt: skip
        found[name] = Counts(counts.total(), lacking.total(), lacking)
    _renumber(collector, pairs, vocabularies)
    return found


def _sides(
    collector: PairCollector, pairs: PhrasePairs
) -> tuple[tuple[dict[bytes, int], PhraseIds], ...]:
    return (collector.source_words, pairs.source), (collector.target_words, pairs.target)


def _renumber(
    collector: PairCollector, pairs: PhrasePairs, vocabularies: tuple[Vocabulary, Vocabulary]
) -> None:
    sides = zip(_sides(collector, pairs), vocabularies, strict=True)
    for (words, phrases), vocabulary in sides:
        mapping = np.fromiter(map(vocabulary.id, words), np.int32, len(words))
        for start in range(0, len(phrases.ids), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            phrases.ids[part] = mapping[phrases.ids[part]]


def _counts(words: dict[bytes, int], phrases: PhraseIds) -> Counter[bytes]:
    found = np.bincount(phrases.ids, minlength=len(words)).tolist()
    return Counter(dict(zip(words, found, strict=True)))
