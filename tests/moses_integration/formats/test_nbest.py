"""N-best lists: those that real Moses wrote (tests/golden/nbest), and each kind of broken line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import GOLDEN as ALL_GOLDEN

from moses_integration.formats.nbest import Hypothesis, check_feature_name, read_nbest
from phrase_scorer.errors import DataError, UsageError, quoted

GOLDEN = ALL_GOLDEN / "nbest"
LISTS = ["plain", "all-fields", "moses2"]


def hypothesis_of(text: bytes) -> Hypothesis:
    return Hypothesis("list", 7, text.split(b"|||"))


@pytest.mark.parametrize("name", LISTS)
def test_lines_of_real_lists_are_read(name):
    groups = list(read_nbest(GOLDEN / name))
    assert [group[0].sentence for group in groups] == [0, 1, 2, 3]
    assert all(len({h.sentence for h in group}) == 1 for group in groups)
    first = groups[0][0]
    assert first.words == [b"la", b"maison", b"bleue"]
    assert first.features[b"TranslationModel0"] == [0.0, -0.0992095, 0.0, -1.78235]
    assert first.features[b"LM0"] == [-19.962]
    assert first.total == -7.31056
    assert groups[1][0].words == []


@pytest.mark.parametrize("name", LISTS)
def test_what_is_not_added_stays_byte_for_byte(name):
    lines = (GOLDEN / name).read_bytes().splitlines()
    hypotheses = [h for group in read_nbest(GOLDEN / name) for h in group]
    for line, hypothesis in zip(lines, hypotheses, strict=True):
        assert b"|||".join(hypothesis.fields) == line
        added = hypothesis.with_features([("RNN0", -1.5), ("WP0", -2.0)])
        assert added.replace(b" RNN0= -1.5 WP0= -2", b"") == line
        fields = added.split(b"|||")
        assert fields[2].endswith(b" RNN0= -1.5 WP0= -2 ")
        total = hypothesis.with_total(-0.25)
        assert hypothesis_of(total).total == -0.25
        assert total.split(b"|||")[:3] == hypothesis.fields[:3]


def test_segmentation_of_a_real_list():
    """Its phrases cover the source once, and the translation from its first to its last word."""
    lengths = [len(line.split()) for line in (GOLDEN / "source.en").read_text().splitlines()]
    for group in read_nbest(GOLDEN / "all-fields"):
        for hypothesis in group:
            spans = hypothesis.segmentation
            covered = sorted(place for (first, end), _ in spans for place in range(first, end))
            assert covered == list(range(lengths[hypothesis.sentence]))
            targets = [place for _, span in spans for place in range(*span)]
            assert targets == list(range(len(hypothesis.words)))


names = st.from_regex(rb"[A-Za-z][A-Za-z0-9]{0,6}", fullmatch=True)
values = st.floats(-1e6, 1e6).map(lambda value: float(f"{value:.6g}"))


@given(st.dictionaries(names, st.lists(values, min_size=1, max_size=4), min_size=1, max_size=5))
def test_features_are_read_as_they_are_written(features):
    text = b" ".join(
        b"%b= %b" % (name, " ".join(f"{v:.6g}" for v in numbers).encode())
        for name, numbers in features.items()
    )
    hypothesis = hypothesis_of(b"0 ||| a ||| %b ||| -1" % text)
    assert hypothesis.features == features
    added = hypothesis_of(hypothesis.with_features([("zzzzzzzzz", 0.5)]))
    assert added.features == {**features, b"zzzzzzzzz": [0.5]}


def test_sparse_features_have_a_value_each():
    hypothesis = hypothesis_of(b"0 ||| a ||| LM0= -1 PP_the_le= 1 PP_a|b= 2 TM0= -2 -3 ||| -1")
    assert hypothesis.features == {
        b"LM0": [-1], b"PP_the_le": [1], b"PP_a|b": [2], b"TM0": [-2, -3]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"0 ||| a ||| LM0= 1", "3 fields, expected number ||| hypothesis ||| features ||| total: "
         '"0 ||| a ||| LM0= 1"'),
        (b"", '1 field, expected number ||| hypothesis ||| features ||| total: ""'),
        (b"x ||| a ||| LM0= 1 ||| 1", 'the sentence number is not a number: "x"'),
        (b"0 ||| a ||| LM0= 1 ||| 1", "the list is out of order, sentence 0 after sentence 2: "
         '"0"'),
        (b"2 ||| a ||| 1 LM0= 1 ||| 1", 'neither Name= nor a number among the features: "1"'),
        (b"2 ||| a ||| LM0= 1,5 ||| 1", 'neither Name= nor a number among the features: "1,5"'),
        (b"2 ||| a ||| LM0= 1 LM0= 2 ||| 1", 'a feature stands twice: "LM0="'),
        (b"2 ||| a ||| LM0= 1_0 ||| 1", 'neither Name= nor a number among the features: "1_0"'),
        (b"9" * 5000 + b" ||| a ||| LM0= 1 ||| 1", "the sentence number is not a number: "
         + quoted("9" * 5000)),
        (b"2 ||| a ||| LM0= 1 ||| 1 ||| 0=" + b"9" * 5000, "not a segmentation "
         "(source=target \u2026): " + quoted("0=" + "9" * 5000)),
        (b"2 ||| a ||| LM0= 1 ||| best", 'the total is not a number: "best"'),
        (b"2 ||| a ||| LM0= 1 ||| 1", "no segmentation; decode with --segmentation"),
        (b"2 ||| a ||| LM0= 1 ||| 1 ||| 0-0", "no segmentation; decode with --segmentation"),
        (b"2 ||| a ||| LM0= 1 ||| 1 ||| 0=0 x=1",
         'not a segmentation (source=target \u2026): "0=0 x=1"'),
    ],
)  # fmt: skip
def test_broken_lines(line, message, tmp_path):
    path = tmp_path / "list"
    path.write_bytes(b"2 ||| a ||| LM0= 1 ||| 1 ||| 0=0\n" + line + b"\n")
    with pytest.raises(DataError) as caught:
        for group in read_nbest(path):
            for hypothesis in group:
                _ = hypothesis.features, hypothesis.total, hypothesis.segmentation
    assert str(caught.value) == f"{path}:2: {message}"


@pytest.mark.parametrize("name", ["RNN0", "x", "A1b2"])
def test_good_names(name):
    check_feature_name(name)


@pytest.mark.parametrize("name", ["", "0RNN", "RNN_0", "RNN 0", "RNN=", "é"])
def test_bad_names(name):
    with pytest.raises(UsageError) as caught:
        check_feature_name(name)
    why = "a letter, then letters and digits (mert takes others for sparse)"
    assert str(caught.value) == f'a feature cannot be called "{name}": {why}'
