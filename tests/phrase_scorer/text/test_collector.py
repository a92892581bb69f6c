"""Collecting pairs: arrays that grow, and words numbered as a dictionary would number them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phrase_scorer.text import collector as module
from phrase_scorer.text.collector import LONGEST_HASHED, ArrayBuilder, PairCollector, WordTable
from phrase_scorer.text.phrase_pairs import PairBlock, PhraseText


def as_lists(phrases):
    return [phrases.phrase(row).tolist() for row in range(len(phrases))]


@pytest.mark.parametrize("limit", [0, 5, 40, 10_000])
def test_an_array_in_a_file_equals_one_in_memory(limit):
    parts = [np.arange(n, dtype=np.int64) for n in (3, 0, 7, 1)]
    builder = ArrayBuilder(np.int32, limit)
    for part in parts:
        builder.append(part)
    array = builder.finish()
    assert isinstance(array, np.memmap) == (limit < 44)  # 11 elements of 4 bytes
    assert array.dtype == np.int32
    assert array.tolist() == np.concatenate(parts).tolist()
    assert builder.size == 11
    array[0] = 77  # ids are replaced in place
    assert array[0] == 77


def test_an_empty_array():
    assert ArrayBuilder(np.float32).finish().tolist() == []


BLOCKS = [
    PairBlock([[b"la", b"maison"], [b"la"]], [[b"the", b"house"], []], [2.0, 3.0]),
    PairBlock([], [], []),
    PairBlock([[b"maison", b"\xff"], [b"la"]], [[b"house"], [b"the", b"the"]], [1.0, 0.5]),
]


@pytest.mark.parametrize("limit", [4, 10_000])
def test_collector(limit):
    collector = PairCollector(limit)
    for block in BLOCKS:
        collector.add(block)
    pairs = collector.finish()
    assert sorted(collector.source_words) == [*[b"la", b"maison", b"\xff"][:2], b"\xff"]
    assert sorted(collector.source_words.values()) == [0, 1, 2]
    names = [{i: word for word, i in words.items()} for words in
             (collector.source_words, collector.target_words)]  # fmt: skip
    words = [
        [[names[side][i] for i in phrase] for phrase in as_lists(phrases)]
        for side, phrases in enumerate((pairs.source, pairs.target))
    ]
    assert words[0] == [phrase for block in BLOCKS for phrase in block.sources]
    assert words[1] == [phrase for block in BLOCKS for phrase in block.targets]
    assert pairs.weights.tolist() == [2.0, 3.0, 1.0, 0.5]
    assert isinstance(pairs.source.ids.base, np.memmap) == (limit == 4)


def test_collector_without_counts_and_without_pairs():
    collector = PairCollector()
    collector.add(PairBlock([[b"a"]], [[b"b"]]))
    assert collector.finish().weights is None
    assert len(PairCollector().finish()) == 0


# -- the table of words ------------------------------------------------------------------------

# Words that begin alike: of up to 8 bytes, of some times 8, and too long for a slot.
LENGTHS = [0, 1, 2, 7, 8, 9, 15, 16, 17, 24, 63, LONGEST_HASHED, LONGEST_HASHED + 1, 200]
words = st.builds(
    lambda length, end: b"x" * (length - len(end)) + end[:length],
    st.sampled_from(LENGTHS),
    st.sampled_from([b"", b"\0", b"\0\0", b"y", b"y\0", "\u00e9".encode(), b"\xff"]),
)
blocks = st.lists(st.lists(st.lists(words, max_size=4), max_size=6), max_size=4)


def assert_numbered_as_by_a_dictionary(blocks):
    table, numbers = WordTable(), {}
    for block in blocks:
        found = table.ids(PhraseText.of(block))
        assert as_lists(found) == [[table.words[word] for word in phrase] for phrase in block]
        assert found.ids.dtype == np.int32
        for word in (word for phrase in block for word in phrase):
            numbers.setdefault(word, len(numbers))
        assert table.words.keys() == numbers.keys()
        assert list(table.words.values()) == list(range(len(numbers)))


@given(blocks)
def test_words_are_numbered(blocks):
    assert_numbered_as_by_a_dictionary(blocks)


@given(blocks)
def test_words_with_the_same_hash_are_told_apart(blocks):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SPREAD", np.uint64(0))  # all hashes are 0: one slot for all
        assert_numbered_as_by_a_dictionary(blocks)


def test_many_words_in_small_parts():
    several = [b"%d" % (n * n) for n in range(30_000)]
    parts = [[several[start : start + 700]] for start in range(0, len(several), 700)]
    assert_numbered_as_by_a_dictionary([*parts, [several[::-1]]])


def test_words_are_numbered_in_their_order():
    table = WordTable()
    table.ids(PhraseText.of([[b"b", b"a"], [], [b"c" * 100, b"b"]]))
    table.ids(PhraseText.of([[b"d"]]))
    assert table.words == {b"b": 0, b"a": 1, b"c" * 100: 2, b"d": 3}
