"""Words and ids: the shortlist's size and ties, unknown words, the file and what is wrong in it."""

from __future__ import annotations

import pytest

from phrase_scorer.errors import DataError, ModelError
from phrase_scorer.text import vocabulary as module
from phrase_scorer.text.collector import PairCollector
from phrase_scorer.text.phrase_pairs import PairBlock
from phrase_scorer.text.vocabulary import END, UNKNOWN, Vocabulary, shortlists


def shortlist(counts, size):
    return Vocabulary.shortlist(counts, size).words


def test_unknown_has_a_place_in_the_shortlist_and_the_end_has_none():
    counts = {b"rare": 1, b"often": 9, b"some": 5}
    assert shortlist(counts, 3) == (b"</s>", b"<unk>", b"often", b"some")
    assert shortlist(counts, 1) == (b"</s>", b"<unk>")
    assert shortlist(counts, 100) == (b"</s>", b"<unk>", b"often", b"some", b"rare")


def test_paper_size():
    counts = {b"%d" % i: i for i in range(20_000)}
    assert len(shortlist(counts, 15_000)) == 15_001  # GroundHog's rows


def test_ties_are_broken_by_bytes():
    counts = {b"b": 2, b"\xff": 2, b"a": 2, b"z": 3}
    assert shortlist(counts, 4)[2:] == (b"z", b"a", b"b")
    assert shortlist(dict(reversed(counts.items())), 4)[2:] == (b"z", b"a", b"b")


def test_special_words_in_the_text():
    """`</s>` in a table is a word that the network does not know; `<unk>` is the unknown word."""
    vocabulary = Vocabulary.shortlist({b"</s>": 100, b"<unk>": 50, b"a": 1}, 5)
    assert vocabulary.words == (b"</s>", b"<unk>", b"a")
    assert vocabulary.id(b"</s>") == UNKNOWN
    assert END not in vocabulary.ids([[b"</s>", b"<unk>", b"a"]]).ids
    assert vocabulary.ids([[b"</s>", b"<unk>", b"a"]]).phrase(0).tolist() == [1, 1, 2]


def test_unknown_words_are_counted():
    vocabulary = Vocabulary([b"a", b"b"])
    assert vocabulary.counts.unknown_share == 0
    ids = vocabulary.ids([[b"a", b"x"], [], [b"y", b"x", b"b", b"x"]])
    assert [ids.phrase(row).tolist() for row in range(3)] == [[2, 1], [], [1, 1, 3, 1]]
    assert (vocabulary.counts.looked_up, vocabulary.counts.unknown) == (6, 4)
    assert vocabulary.counts.unknown_share == pytest.approx(4 / 6)
    assert vocabulary.counts.most_frequent() == [b"x", b"y"]
    assert vocabulary.counts.most_frequent(1) == [b"x"]
    vocabulary.id(b"x")  # a single look-up is not part of the statistics
    assert vocabulary.counts.unknown == 4


def test_remembered_examples_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED_UNKNOWN", 2)
    vocabulary = Vocabulary([])
    vocabulary.ids([[b"x", b"y", b"z", b"x", b"z"]])
    assert dict(vocabulary.counts.examples) == {b"x": 2, b"y": 1}
    assert vocabulary.counts.unknown == 5


# -- the file ----------------------------------------------------------------------------------


def test_round_trip(tmp_path):
    words = [b"caf\xc3\xa9", b"\xff\xfe", b"\xe2\x80\xa8", b"a\rb", b"|", b"\x00"]
    path = tmp_path / "v"
    Vocabulary(words).save(path)
    assert path.read_bytes().startswith(b"</s>\n<unk>\ncaf")
    loaded = Vocabulary.load(path)
    assert loaded.words == (b"</s>", b"<unk>", *words)
    assert [loaded.id(word) for word in words] == [2, 3, 4, 5, 6, 7]


def test_round_trip_without_words(tmp_path):
    Vocabulary([]).save(tmp_path / "v")
    assert len(Vocabulary.load(tmp_path / "v")) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a vocabulary: the first lines are not </s> and <unk>"),
        (b"the\nhouse\n", "not a vocabulary: the first lines are not </s> and <unk>"),
        (b"<unk>\n</s>\n", "not a vocabulary: the first lines are not </s> and <unk>"),
        (b"</s>\n<unk>\na\nb\xff\na\nb\xff\nb\xff\n", 'a word stands twice: "a"'),
        (b"</s>\n<unk>\na\n</s>\n", 'a word stands twice: "</s>"'),
        (b"</s>\r\n<unk>\r\na\r\n", "not a vocabulary: the first lines are not </s> and <unk>"),
        (b"\xef\xbb\xbf</s>\n<unk>\n", "not a vocabulary: the first lines are not </s> and <unk>"),
        (b"</s>\n<unk>\na\n\nb\n", "4: a blank line"),
        (b"</s>\n<unk>\na\n\n", "4: a blank line"),
    ],
)
def test_wrong_files(content, message, tmp_path):
    path = tmp_path / "v"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        Vocabulary.load(path)
    assert str(caught.value) == f"{path}:{'' if message[0].isdigit() else ' '}{message}"


def test_unreadable_and_unwritable_files(tmp_path):
    with pytest.raises(ModelError) as caught:
        Vocabulary.load(tmp_path / "none")
    assert str(caught.value) == f"{tmp_path / 'none'}: cannot read: No such file or directory"
    with pytest.raises(ModelError) as caught:
        Vocabulary.load(tmp_path)
    assert str(caught.value) == f"{tmp_path}: cannot read: Is a directory"
    with pytest.raises(DataError) as caught:
        Vocabulary([]).save(tmp_path / "none" / "v")
    expected = f"{tmp_path / 'none' / 'v'}: cannot write: No such file or directory"
    assert str(caught.value) == expected


# -- shortlists of collected pairs -------------------------------------------------------------


@pytest.mark.parametrize("rows_at_once", [2, 1 << 20])
def test_shortlists_replace_the_ids(rows_at_once, monkeypatch):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", rows_at_once)
    sources = [[b"a", b"b"], [b"b"], [b"c", b"b", b"a"], []]
    targets = [[b"x"], [], [b"y", b"y"], [b"</s>"]]
    collector = PairCollector()
    collector.add(PairBlock(sources, targets))
    pairs = collector.finish()
    source, target = shortlists(collector, pairs, 3)
    assert source.words[2:] == (b"b", b"a")
    assert target.words[2:] == (b"y", b"x")
    assert [pairs.source.phrase(row).tolist() for row in range(4)] == [[3, 2], [2], [1, 2, 3], []]
    assert [pairs.target.phrase(row).tolist() for row in range(4)] == [[3], [], [2, 2], [1]]
    again = source.ids(sources)
    assert again.ids.tolist() == pairs.source.ids.tolist()
