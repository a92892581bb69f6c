"""What a model is trained on, in both directions."""

from __future__ import annotations

import numpy as np
import pytest

from phrase_scorer.errors import DataError
from phrase_scorer.text.phrase_pairs import PairBlock
from phrase_scorer.text.vocabulary import Vocabulary
from phrase_scorer.training.data import PairsOfFile, collect_training_data

BLOCKS = [
    PairBlock([[b"la", b"maison"], [b"la"]], [[b"the", b"house"], []], [2.0, 3.0]),
    PairBlock([[b"la"]], [[]], [0.5]),
]
FILE = [PairsOfFile("t", BLOCKS)]


def as_words(data):
    sides = zip((data.pairs.source, data.pairs.target), data.vocabularies, strict=True)
    source, target = (
        [[vocabulary.words[i] for i in phrases.phrase(row)] for row in range(len(phrases))]
        for phrases, vocabulary in sides
    )
    return source, target, data.pairs.weights.tolist()


def test_distinct_pairs_with_the_sums_of_their_counts():
    data = collect_training_data(FILE, shortlist=9)
    assert as_words(data) == (
        [[b"la", b"maison"], [b"la"]], [[b"the", b"house"], []], [2.0, 3.5]
    )  # fmt: skip


def test_an_inverse_model_reads_the_target():
    source, target, weights = as_words(collect_training_data(FILE, shortlist=9))
    inverse = collect_training_data(FILE, shortlist=9, direction="inverse")
    assert as_words(inverse) == (target, source, weights)


def test_one_shortlist_for_both_sides():
    data = collect_training_data(FILE, shortlist=9, shared_words=True)
    assert data.vocabularies[0] is data.vocabularies[1]
    assert data.vocabularies[0].words[2:] == (b"la", b"house", b"maison", b"the")
    assert as_words(data) == as_words(collect_training_data(FILE, shortlist=9))


def test_no_pairs():
    with pytest.raises(DataError) as error:
        collect_training_data([PairsOfFile("t", [])], shortlist=9)
    assert str(error.value) == "t: no pairs to train on"


HERE = PairBlock([[b"a"], [b"b"], [b"a"]], [[b"x"], [b"y"], [b"x"]], [1.0, 8.0, 3.0])
THERE = PairBlock([[b"a"], [b"c"]], [[b"x"], [b"z"]], [10.0, 30.0])
FILES = [PairsOfFile("here", [HERE]), PairsOfFile("there", [THERE])]


def test_several_files_are_as_one():
    data = collect_training_data(FILES, shortlist=9)
    together = collect_training_data([PairsOfFile("t", [HERE, THERE])], shortlist=9)
    assert as_words(data) == as_words(together)
    assert as_words(data)[2] == [14.0, 8.0, 30.0]
    assert (data.shares, data.pairs.files) == ((), None)


def test_with_shares_a_pair_counts_in_each_file():
    data = collect_training_data(FILES, shortlist=9, shares=(3, 1))
    source, target, weights = as_words(data)
    assert source == [[b"a"], [b"b"], [b"a"], [b"c"]]
    assert target == [[b"x"], [b"y"], [b"x"], [b"z"]]
    assert data.pairs.files.tolist() == [0, 0, 1, 1]
    assert weights == pytest.approx([4 / 6, 8 / 6, 0.5, 1.5])  # a mean of 1 in each
    assert data.mix == (("here", 0.75), ("there", 0.25))


def test_the_files_are_part_of_the_fingerprint():
    one, two = (collect_training_data(files, shortlist=9, shares=(1, 1)) for files in (
        FILES, [FILES[0], PairsOfFile("more", [PairBlock([[b"a"]], [[b"x"]], [1.0])])],
    ))  # fmt: skip
    assert one.pairs.hashes()[:2].tolist() == two.pairs.hashes()[:2].tolist()
    assert len(set(one.pairs.hashes().tolist())) == 4


@pytest.mark.parametrize("shares", [(), (1, 1)])
def test_a_file_without_pairs(shares):
    with pytest.raises(DataError) as error:
        collect_training_data([*FILES[:1], PairsOfFile("no", [])], shortlist=9, shares=shares)
    assert str(error.value) == "no: no pairs to train on"


def many(count, first=0):
    words = [[b"w%d" % (first + number)] for number in range(count)]
    return PairBlock(words, words)


def test_sources_are_held_out_from_all_files():
    files = [PairsOfFile("few", [many(400)]), PairsOfFile("many", [many(8_000, 200)])]
    data = collect_training_data(files, shortlist=10_000, shares=(1, 1))
    kept, held_out = data.split(100, seed=1)
    sources = [set(part.source.hashes().tolist()) for part in (kept, held_out)]
    assert not sources[0] & sources[1]
    counts = np.bincount(held_out.files)
    assert 30 < counts[0] < 75  # about its share of 100
    assert 30 < counts[1] < 75
    assert np.bincount(data.split(10_000, seed=1)[1].files)[0] < 110  # at most a fifth
    assert len(data.split(0, seed=1)[1]) == 0
    again = data.split(100, seed=1)[1]
    assert again.hashes().tolist() == held_out.hashes().tolist()


def test_a_file_that_is_all_held_out():
    block = PairBlock([[b"a"]], [[b"x"]])
    data = collect_training_data(
        [PairsOfFile("here", [block]), PairsOfFile("there", [block])], shortlist=9, shares=(1, 1)
    )
    with pytest.raises(DataError) as error:
        data.split(1, seed=1)
    expected = "all its sources are held out to validate: lower --validation-pairs"
    assert str(error.value) == f"here: {expected}"


def test_words_of_a_model():
    words = Vocabulary([b"a", b"b"]), Vocabulary([b"y"])
    data = collect_training_data(FILES, shortlist=2, vocabularies=words)
    source, target, _ = as_words(data)
    assert source == [[b"a"], [b"b"], [b"<unk>"]]
    assert target == [[b"<unk>"], [b"y"], [b"<unk>"]]
    assert data.vocabularies == words
    lacking = data.unknown["source"]
    assert (lacking.looked_up, lacking.unknown, lacking.most_frequent()) == (3, 1, [b"c"])
    assert sorted(data.unknown["target"].examples) == [b"x", b"z"]
