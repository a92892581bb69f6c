"""N-best lists: those that real Moses wrote (tests/golden/nbest), and each kind of broken line."""

from __future__ import annotations

import shlex
import shutil
import subprocess

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
            spans = hypothesis.segmentation(lengths[hypothesis.sentence])
            covered = sorted(place for (first, end), _ in spans for place in range(first, end))
            assert covered == list(range(lengths[hypothesis.sentence]))
            targets = [place for _, span in spans for place in range(*span)]
            assert targets == list(range(len(hypothesis.words)))


def test_words_break_at_blanks_and_tabs_alone():
    text = b"0 ||| a\x0cb\tx\ry \x0b th\xc2\xa0e h\xc2\x85o  ||| LM0= 1 ||| 1"
    assert hypothesis_of(text).words == [b"a\x0cb", b"x\ry", b"\x0b", b"th\xc2\xa0e", b"h\xc2\x85o"]


def test_words_are_surface_factors():
    hypothesis = hypothesis_of(b"0 ||| la|D zzz|UNK|UNK|UNK maison  ||| LM0= 1 ||| 1")
    assert hypothesis.words == [b"la", b"zzz", b"maison"]
    assert hypothesis.tokens == [b"la|D", b"zzz|UNK|UNK|UNK", b"maison"]


ODD = GOLDEN / "odd"
COMMANDS = [
    line.strip() for line in (ODD / "README.md").read_text().splitlines() if "moses  -f" in line
]


@pytest.mark.moses
@pytest.mark.parametrize("command", COMMANDS)
def test_moses_still_writes_the_odd_lists(command, moses, tmp_path):
    command, _, source = command.partition(" < ")
    words = shlex.split(command)
    name = words[words.index("-n-best-list") + 1]
    for path in ODD.iterdir():
        if path.name != name:
            shutil.copy(path, tmp_path)
    with (tmp_path / source).open("rb") as text:
        subprocess.run([moses.program("moses"), *words[1:]], stdin=text, cwd=tmp_path,
                       capture_output=True, check=True)  # fmt: skip
    assert (tmp_path / name).read_bytes() == (ODD / name).read_bytes()


def sizes_of(source: str) -> list[int]:
    return [
        len(line.split(b" ")) if line else 0 for line in (ODD / source).read_bytes().split(b"\n")
    ]


@pytest.mark.parametrize(
    ("name", "source"),
    [("empty", "source.en"), ("dropped", "source.en"), ("all-factors", "source.en"),
     ("factored", "source.factored.en")],
)  # fmt: skip
def test_every_segmentation_of_the_odd_lists_is_read(name, source):
    sizes = sizes_of(source)
    empty = 0
    for hypothesis in (h for group in read_nbest(ODD / name) for h in group):
        spans = hypothesis.segmentation(sizes[hypothesis.sentence])
        covered = sorted(place for (first, end), _ in spans for place in range(first, end))
        assert covered == list(range(sizes[hypothesis.sentence]))
        targets = [place for _, span in spans for place in range(*span)]
        assert targets == list(range(len(hypothesis.words)))
        empty += sum(start == end for _, (start, end) in spans)
    assert empty > 2


@pytest.mark.parametrize(
    ("words", "source", "text", "spans"),
    [
        (4, 5, b"0-1=0-1 2=2 3-4=2-3", [((0, 2), (0, 2)), ((2, 3), (2, 2)), ((3, 5), (2, 4))]),
        (2, 3, b"1-2=0-1 0=2", [((1, 3), (0, 2)), ((0, 1), (2, 2))]),
        (2, 3, b"0=0-18446744073709551615 1-2=0-1", [((0, 1), (0, 0)), ((1, 3), (0, 2))]),
        (1, 2, b"0=0-4294967295 1=0", [((0, 1), (0, 0)), ((1, 2), (0, 1))]),
        (1, 3, b"0=0 1=1 2=1", [((0, 1), (0, 1)), ((1, 2), (1, 1)), ((2, 3), (1, 1))]),
        (1, 2, b"0=0 1=0", [((0, 1), (0, 0)), ((1, 2), (0, 1))]),
        (0, 1, b"0=0-18446744073709551615", [((0, 1), (0, 0))]),
        (0, 0, b"", []),
    ],
)
def test_empty_targets(words, source, text, spans):
    """A span that begins where the next one begins, or at the end of the hypothesis, is empty."""
    line = b"0 ||| %b ||| LM0= 1 ||| 1 ||| %b" % (b" ".join([b"w"] * words), text)
    assert hypothesis_of(line).segmentation(source) == spans


@pytest.mark.parametrize(
    ("words", "source", "text"),
    [
        (1, 2, b"0=0"),  # a source word too few
        (1, 1, b"0=0 0=1"),  # one twice
        (1, 1, b"0-1=0"),  # one too many
        (3, 2, b"0=0 1=1"),  # a target word too few
        (2, 2, b"0=0-1 1=1"),  # one twice
        (2, 2, b"0=0 1=1-2"),
        (2, 2, b"0=1 1=0"),  # not in target order
        (1, 2, b"0=0 1=1-18446744073709551615"),
        (1, 2, b"1-0=0 0-1=0"),
        (1, 1, b"0=" + b"9" * 20),
    ],
)
def test_segmentations_that_do_not_fit(words, source, text):
    hypothesis = hypothesis_of(
        b"0 ||| %b ||| LM0= 1 ||| 1 ||| %b" % (b" ".join([b"w"] * words), text)
    )
    with pytest.raises(DataError) as caught:
        hypothesis.segmentation(source)
    sizes = f"{source} source and {words} target words"
    assert str(caught.value).startswith(f"list:7: the segmentation does not fit {sizes}: ")


@pytest.mark.parametrize("text", [b"0=%b", b"0=0-%b", b"%b=0", b"0-%b=0"])
def test_numbers_without_an_end_in_a_segmentation(text):
    hypothesis = hypothesis_of(b"0 ||| w ||| LM0= 1 ||| 1 ||| " + text % (b"9" * 5000))
    with pytest.raises(DataError, match=r"^list:7: not a segmentation "):
        hypothesis.segmentation(1)


@pytest.mark.parametrize("source", [1, 0])
def test_no_segmentation_at_all(source):
    """The word alignment alone, or nothing, of a hypothesis or sentence that is not empty."""
    for line in (b"0 ||| %b ||| A= 1 ||| 1", b"0 ||| %b ||| A= 1 ||| 1 ||| ",
                 b"0 ||| %b ||| A= 1 ||| 1 ||| 0-0 "):  # fmt: skip
        with pytest.raises(DataError) as caught:
            hypothesis_of(line % (b"" if source else b"w")).segmentation(source)
        assert str(caught.value) == "list:7: no segmentation; decode with --segmentation"


def test_a_hypothesis_with_bars_is_refused():
    """As moses writes it with another -factor-delimiter; its own readers take it apart wrongly."""
    with pytest.raises(DataError) as caught:
        list(read_nbest(ODD / "bars"))
    path = ODD / "bars"
    assert str(caught.value) == f'{path}:1: neither Name= nor a number among the features: "maison"'
    line = path.read_bytes().splitlines()[1]
    with pytest.raises(DataError, match="the total is not a number"):
        hypothesis_of(line)


def test_an_empty_list_is_refused(tmp_path):
    (tmp_path / "list").touch()
    with pytest.raises(DataError) as caught:
        list(read_nbest(tmp_path / "list"))
    assert str(caught.value) == f"{tmp_path}/list: the n-best list is empty"


@pytest.mark.parametrize("number", [b"9" * 5000, b"99999999999"])
def test_sentence_numbers_that_no_list_has(number, tmp_path):
    path = tmp_path / "list"
    path.write_bytes(number + b" ||| a ||| LM0= 1 ||| 1\n")
    with pytest.raises(DataError) as caught:
        list(read_nbest(path))
    assert str(caught.value).startswith(f"{path}:1: the sentence number is not a number: ")


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
        (b"2 ||| a ||| 1 LM0= 1 ||| 1",
         'values without names; decode with -labeled-n-best-list true: "1 LM0= 1"'),
        (b"2 ||| a ||| LM0= 1_0 ||| 1", 'neither Name= nor a number among the features: "1_0"'),
        (b"2 ||| a ||| 7 ||| 8 ||| LM0= 1 ||| 1", 'a hypothesis with ||| in it: "a ||| 7 ||| 8"'),
        (b"2 ||| a ||| LM0= 1,5 ||| 1", 'neither Name= nor a number among the features: "1,5"'),
        (b"2 ||| a ||| LM0= 1 LM0= 2 ||| 1", 'a feature stands twice: "LM0="'),
        (b"9" * 5000 + b" ||| a ||| LM0= 1 ||| 1", "the sentence number is not a number: "
         + quoted("9" * 5000)),
        (b"2 ||| a ||| LM0= 1 ||| 1 ||| 0=" + b"9" * 5000, "not a segmentation "
         "(source=target \u2026): " + quoted("0=" + "9" * 5000)),
        (b"2 ||| a ||| LM0= 1 ||| best", 'the total is not a number: "best"'),
        (b"2 ||| a ||| LM0= 1 ||| 1", "no segmentation; decode with --segmentation"),
        (b"2 ||| a ||| LM0= 1 ||| 1 ||| 0-0", "no segmentation; decode with --segmentation"),
        (b"2 ||| a ||| LM0= 1 ||| 1 ||| 0=0 x=1",
         'not a segmentation (source=target \u2026): "0=0 x=1"'),
        (b"2 ||| a |0-0| ||| LM0= 1 ||| 1",
         'a word without a surface factor (from -report-segmentation?): "|0-0|"'),
    ],
)  # fmt: skip
def test_broken_lines(line, message, tmp_path):
    path = tmp_path / "list"
    path.write_bytes(b"2 ||| a ||| LM0= 1 ||| 1 ||| 0=0\n" + line + b"\n")
    with pytest.raises(DataError) as caught:
        for group in read_nbest(path):
            for hypothesis in group:
                _ = hypothesis.features, hypothesis.total, hypothesis.segmentation(1)
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
