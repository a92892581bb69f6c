"""Phrase pairs as flat arrays: the same answers as lists of ids would give."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import phrase_ids, phrase_pairs

from phrase_scorer.errors import DataError
from phrase_scorer.text import phrase_pairs as module
from phrase_scorer.text.phrase_pairs import (
    PhraseIds,
    PhrasePairs,
    PhraseText,
    mixed,
    words_of,
    words_of_each,
)

PHRASES = [[5, 6, 7], [], [8], [], [9, 9], [7, 6, 5], [0], [0, 0]]
id_lists = st.lists(st.lists(st.integers(0, 3), max_size=4), max_size=6)


@pytest.fixture(params=[1, 3, 1 << 20], ids="{} rows at once".format)
def _rows_at_once(request, monkeypatch):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", request.param)


def as_lists(phrases):
    return [phrases.phrase(row).tolist() for row in range(len(phrases))]


def as_pairs(pairs):
    sides = (tuple(map(tuple, as_lists(side))) for side in (pairs.source, pairs.target))
    return list(zip(*sides, strict=True))


def from_lists(phrases):
    offsets = np.cumsum([0, *map(len, phrases)]).astype(np.int64)
    return PhraseIds(np.array([i for phrase in phrases for i in phrase], np.int32), offsets)


# -- PhraseIds ---------------------------------------------------------------------------------


def test_collect():
    ids = {b"a": 4, b"b": 2}
    phrases = PhraseIds.collect([[b"a", b"b"], [], [b"b"]], ids.__getitem__)
    assert as_lists(phrases) == [[4, 2], [], [2]]
    assert phrases.lengths.tolist() == [2, 0, 1]
    assert phrases.ids.dtype == np.int32
    assert len(PhraseIds.collect([], ids.__getitem__)) == 0
    with pytest.raises(KeyError):
        PhraseIds.collect([[b"c"]], ids.__getitem__)


@pytest.mark.usefixtures("_rows_at_once")
@pytest.mark.parametrize("rows", [[], [0], [1, 3], [7, 0, 0, 1, 5], list(range(8))])
def test_take(rows):
    taken = phrase_ids(PHRASES).take(np.array(rows, np.int64))
    assert as_lists(taken) == [PHRASES[row] for row in rows]
    assert taken.ids.dtype == np.int32


@pytest.mark.parametrize("rows", [[0, 1, 2], [1], [1, 3], [], [4, 0, 4]])
def test_padded(rows):
    padded = phrase_ids(PHRASES).padded(np.array(rows, np.int64), -7)
    width = max((len(PHRASES[row]) for row in rows), default=0) + 1
    assert padded.shape == (len(rows), width)
    assert padded.dtype == np.int32
    assert padded.tolist() == [PHRASES[row] + [-7] * (width - len(PHRASES[row])) for row in rows]


def test_padded_without_any_word():
    assert phrase_ids([[], []]).padded(np.array([1, 0]), 3).tolist() == [[3], [3]]


@pytest.mark.usefixtures("_rows_at_once")
def test_hashes():
    hashes = phrase_ids(PHRASES).hashes()
    assert hashes.dtype == np.uint64
    assert len(hashes) == len(PHRASES)
    assert len(set(hashes.tolist())) == 7  # all but the two empty phrases differ
    assert hashes[1] == hashes[3]
    backwards = phrase_ids(PHRASES[::-1]).hashes()
    assert backwards[::-1].tolist() == hashes.tolist()
    assert phrase_ids([]).hashes().shape == (0,)


@settings(max_examples=60, deadline=None)
@given(id_lists, id_lists)
def test_hashes_are_equal_where_ids_are(left, right):
    hashes = from_lists(left + right).hashes().tolist()
    phrases = left + right
    for i, one in enumerate(phrases):
        for j, other in enumerate(phrases):
            assert (hashes[i] == hashes[j]) == (one == other)


def test_mixed_is_splitmix64():
    """Its first outputs from state 0 are known: https://prng.di.unimi.it/splitmix64.c"""
    gamma = np.uint64(0x9E3779B97F4A7C15)
    states = np.cumsum(np.full(3, gamma))
    assert [hex(value) for value in mixed(states)] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]


# -- PhrasePairs -------------------------------------------------------------------------------


def test_pairs_take():
    pairs = phrase_pairs([([1], [2, 3]), ([4, 5], []), ([6], [7])], [1, 2, 3])
    taken = pairs.take(np.array([2, 0]))
    assert as_pairs(taken) == [((6,), (7,)), ((1,), (2, 3))]
    assert taken.weights.tolist() == [3, 1]


def test_hashes_of_pairs_know_the_sides():
    pairs = phrase_pairs([([1], [2]), ([2], [1]), ([1, 2], []), ([], [1, 2]), ([1], [2])])
    hashes = pairs.hashes().tolist()
    assert len(set(hashes)) == 4
    assert hashes[0] == hashes[4]


def test_unique_keeps_first_places_and_adds_weights():
    listed = [([3], [1]), ([2], [2]), ([3], [1]), ([2], []), ([2], [2]), ([3], [1])]
    kept = phrase_pairs(listed, [1, 10, 2, 100, 20, 4]).unique()
    assert as_pairs(kept) == [((3,), (1,)), ((2,), (2,)), ((2,), ())]
    assert kept.weights.tolist() == [7, 30, 100]
    assert kept.weights.dtype == np.float32
    assert as_pairs(phrase_pairs(listed).unique()) == as_pairs(kept)
    assert phrase_pairs(listed).unique().weights is None


def test_unique_of_unique_pairs_and_of_none():
    pairs = phrase_pairs([([3], [1]), ([1], [3])], [5, 6])
    assert as_pairs(pairs.unique()) == as_pairs(pairs)
    assert pairs.unique().weights.tolist() == [5, 6]
    assert len(phrase_pairs([]).unique()) == 0


@pytest.mark.parametrize("collide", [False, True])
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.lists(st.integers(0, 2), max_size=2), st.lists(st.just(1)))))
def test_unique_is_that_of_a_dictionary(collide, listed):
    weights = np.arange(len(listed), dtype=np.float32) + 0.5
    pairs = PhrasePairs(
        from_lists([source for source, _ in listed]),
        from_lists([target for _, target in listed]),
        weights,
    )
    expected = defaultdict(float)
    for (source, target), weight in zip(listed, weights.tolist(), strict=True):
        expected[tuple(source), tuple(target)] += weight
    with pytest.MonkeyPatch.context() as patch:
        if collide:  # different pairs have the same hash
            patch.setattr(PhrasePairs, "hashes", lambda all_: all_.source.lengths.astype("u8"))
        kept = pairs.unique()
    assert as_pairs(kept) == list(expected)
    assert kept.weights.tolist() == list(expected.values())


@pytest.fixture(scope="module")
def split_pairs():
    """300 sources with 1 to 3 targets each."""
    return phrase_pairs(
        [([2 + i % 7, 2 + i, 3], [n]) for i in range(300) for n in range(1, 2 + i % 3)]
    )


def test_split_has_no_source_in_common(split_pairs):
    training, validation = split_pairs.split_by_source(100, seed=1)
    sides = [set(as_pairs(part)) for part in (training, validation)]
    assert sides[0] | sides[1] == set(as_pairs(split_pairs))
    assert len(training) + len(validation) == len(split_pairs)
    assert not {source for source, _ in sides[0]} & {source for source, _ in sides[1]}
    assert 60 < len(validation) < 140


def test_split_depends_on_the_words_and_the_seed_alone(split_pairs):
    _, validation = split_pairs.split_by_source(100, seed=1)
    shuffled = split_pairs.take(np.random.default_rng(3).permutation(len(split_pairs)))
    _, again = shuffled.split_by_source(100, seed=1)
    assert set(as_pairs(again)) == set(as_pairs(validation))
    _, other = split_pairs.split_by_source(100, seed=2)
    assert set(as_pairs(other)) != set(as_pairs(validation))


@pytest.mark.parametrize(
    ("sources", "held_out", "expected"),
    [
        (5, 0, 0),
        (5, -1, 0),
        (1, 1, 0),  # one pair: nothing to hold out
        (5, 1, None),  # few pairs: at least one source is held out, never all
        (2, 1, None),
        (5, 10_000, None),
        (0, 5, 0),
    ],
)
def test_split_of_few(sources, held_out, expected):
    pairs = phrase_pairs([([2 + i], [1]) for i in range(sources)])
    for seed in range(8):
        training, validation = pairs.split_by_source(held_out, seed)
        assert len(training) + len(validation) == sources
        if expected is None:
            assert 0 < len(validation) < sources
        else:
            assert len(validation) == expected


def test_split_of_one_source_with_many_targets():
    training, validation = phrase_pairs([([2], [i]) for i in range(9)]).split_by_source(3, 1)
    assert (len(training), len(validation)) == (9, 0)


# -- words --------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [b"\r", b"\v", b"\f", b"\x1c", b"\x85", b"\xc2\xa0"])
def test_words_break_at_blank_and_tab_alone(other):
    text = b" \ta" + other + b"b " + other + b"\t\t c "
    words = [b"a" + other + b"b", other, b"c"]
    assert words_of(text) == words
    assert words_of_each([text, b"d e", b""]) == [words, [b"d", b"e"], []]


PHRASE_LISTS = [[b"la", b"maison"], [], [b"x" * 20], [b""], [b"la"]]


def test_phrases_in_a_text_are_a_list_of_lists():
    phrases = PhraseText.of(PHRASE_LISTS)
    assert phrases == PHRASE_LISTS
    assert phrases != PHRASE_LISTS[1:]
    assert phrases != 5
    assert PhraseText.of(phrases) is phrases
    assert list(phrases) == PHRASE_LISTS
    assert len(phrases) == len(PHRASE_LISTS)
    for part in (slice(1, 3), slice(None, None, -2), slice(4, 2), slice(-2, None), slice(9, 12)):
        assert phrases[part] == PHRASE_LISTS[part]
    assert [phrases[place] for place in range(-5, 5)] == PHRASE_LISTS * 2
    with pytest.raises(IndexError):
        phrases[5]
    assert PhraseText.of([]) == []


def _trigrams(phrases: PhraseIds) -> list[set[tuple[int, ...]]]:
    rows = [phrases.phrase(row).tolist() for row in range(len(phrases))]
    return [set(zip(words, words[1:], words[2:], strict=False)) for words in rows]


@pytest.mark.parametrize("seed", [1, 2])
def test_sources_held_out_by_trigrams_are_far_from_the_rest(seed):
    draw = np.random.default_rng(seed)
    sources = [draw.integers(2, 6, draw.integers(0, 6)).tolist() for _ in range(600)]
    pairs = phrase_pairs([(source, [place]) for place, source in enumerate(sources)])
    training, validation = pairs.split_by_trigram(60, seed)
    assert len(training) + len(validation) == len(pairs)
    assert 60 <= len(validation) < 120
    known = set().union(*_trigrams(training.source))
    assert all(trigrams - known for trigrams in _trigrams(validation.source))
    again = pairs.take(np.arange(len(pairs))[::-1]).split_by_trigram(60, seed)[1]
    assert sorted(again.target.ids.tolist()) == sorted(validation.target.ids.tolist())


def test_the_only_trigram_is_held_out():
    pairs = phrase_pairs([([2, 3, 4], [2]), *(([i], [i]) for i in range(2, 9))])
    training, validation = pairs.split_by_trigram(4, 1)
    assert (len(training), validation.source.ids.tolist()) == (7, [2, 3, 4])
    assert len(pairs.split_by_trigram(0, 1)[1]) == 0
    with pytest.raises(DataError, match=r"^no source phrase has three words: no trigrams to hold"):
        training.split_by_trigram(4, 1)
