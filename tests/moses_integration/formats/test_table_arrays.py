"""Reading for training: as a plain reader with dictionaries and lists, and refused as by line."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import DATA

from moses_integration.formats.phrase_table import PhraseTable, diagnose
from moses_integration.formats.table_arrays import RegularEntries
from moses_integration.formats.table_pairs import read_table_or_pairs
from phrase_scorer.errors import DataError
from phrase_scorer.text.line_words import LONGEST_TEXT, LineWords
from phrase_scorer.text.pair_files import PairFiles
from phrase_scorer.text.phrase_pairs import PhraseText
from phrase_scorer.training.data import PairsOfFile, collect_training_data

SHORTLIST = 6  # so that there are unknown words

# -- the plain reader --------------------------------------------------------------------------


def plain_words(text: bytes, *, factors: bool = False) -> list[bytes]:
    words = [word for word in text.replace(b"\t", b" ").split(b" ") if word]
    return [word.split(b"|")[0] for word in words] if factors else words


def plain_entry(line: bytes) -> tuple[list[bytes], list[bytes], float]:
    source, target, _, *rest = line.removesuffix(b"\r").split(b"|||")
    counts = rest[1].split() if len(rest) > 1 else []
    weight = float(counts[-1]) if counts else 1.0
    return plain_words(source, factors=True), plain_words(target, factors=True), weight


def plain_training_data(pairs) -> dict[str, list]:
    """What is trained on, of (source words, target words, weight)."""
    sums: dict[tuple, float] = defaultdict(float)
    for source, target, weight in pairs:
        sums[tuple(source), tuple(target)] += float(np.float32(weight))
    data: dict[str, list] = {"weights": [float(np.float32(value)) for value in sums.values()]}
    for side, name in enumerate(["source", "target"]):
        counts = Counter(word for pair in sums for word in pair[side])
        special = [b"</s>", b"<unk>"]
        known = sorted((w for w in counts if w not in special), key=lambda w: (-counts[w], w))
        data[f"{name} words"] = vocabulary = [*special, *known[: SHORTLIST - 1]]
        ids = {word: place for place, word in enumerate(vocabulary) if word != b"</s>"}
        data[name] = [[ids.get(word, 1) for word in pair[side]] for pair in sums]
    data["hashes"] = [
        mix(plain_hash(source) * 0x9E3779B97F4A7C15 + plain_hash(target))
        for source, target in zip(data["source"], data["target"], strict=True)
    ]
    return data


def plain_hash(ids: list[int]) -> int:
    return mix(sum(mix(number + (place << 32)) for place, number in enumerate(ids)) + len(ids))


def mix(value: int) -> int:
    """splitmix64's finaliser (Steele, Lea and Flood 2014)."""
    value %= 2**64
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
    return value ^ (value >> 31)


def read_data(*paths, counts: bool = False) -> dict[str, list]:
    given = PairFiles(tuple(map(str, paths)), with_counts=counts)
    found = collect_training_data(
        [PairsOfFile("t", read_table_or_pairs(given))], shortlist=SHORTLIST
    )
    pairs = found.pairs
    weights = np.ones(len(pairs)) if pairs.weights is None else pairs.weights
    data = {"weights": weights.tolist(), "hashes": pairs.hashes().tolist()}
    sides = zip(("source", "target"), (pairs.source, pairs.target), found.vocabularies, strict=True)
    for name, phrases, vocabulary in sides:
        assert phrases.ids.dtype == np.int32
        data[name] = [phrases.ids[a:b].tolist() for a, b in pairwise(phrases.offsets.tolist())]
        data[f"{name} words"] = list(vocabulary.words)
    return data


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("read")


WORDS = [
    *[b"la", b"maison", b"le", b"</s>", b"<unk>", b"[x", b"y]", b"a-b", b"'", b"0.5", b"1"],
    *[
        "\u00e9t\u00e9".encode(),
        "\u2028".encode(),
        b"\xff\xfe",
        b"\x00",
        b"x\x00",
        b"\x1c",
        b"\x85",
    ],
    *[b"telephone", b"telephones", b"telephoned", b"t" * 16, b"t" * 17, b"t" * 64, b"t" * 90],
]
FACTORED = [b"la|DET", b"maison|", b"|N", b"a|b|c|d"]
blanks = st.sampled_from([b" ", b" ", b" ", b"  ", b"\t", b" \t "])


def phrases(words, least):
    """Words with odd blanks between and around them."""
    parts = st.lists(st.tuples(st.sampled_from(words), blanks), min_size=least, max_size=4)
    return st.builds(lambda before, parts: before + b"".join(map(b"".join, parts)), blanks, parts)


def some(words, separator, *rest):
    """Lines, of which some stand there twice, and some end in a carriage return."""
    line = st.tuples(phrases(words, 1), phrases(words, 0), *rest)
    line = st.builds(lambda parts, end: separator.join(parts) + end, line, ends)
    return st.lists(line, min_size=1, max_size=9).map(lambda lines: lines + lines[:2])


ends = st.sampled_from([b"", b"", b"", b"\r"])
scores = st.sampled_from([b" 1 0.5 ", b" 0.25  1e-05", b" .5 2.71828 ", b" 1e+05 0 "])
alignments = st.sampled_from([b" ||| 0-0 ", b" |||  ", b" |||"])
counts = st.sampled_from(
    [b" ||| 2 2 1", b" ||| 9 9 0.25 |||", b" |||  ||| |||", b" ||| 1 2 3.5\t", b""]
)


@pytest.mark.parametrize("words", [WORDS, WORDS + FACTORED], ids=["plain", "factors"])
@settings(deadline=None)
@given(st.data())
def test_a_table_is_read_as_plainly(words, place, data):
    third = st.builds(lambda *parts: b"".join(parts), scores, alignments, counts)
    lines = data.draw(some(words, b" ||| ", third))
    (place / "t").write_bytes(b"\n".join(lines))
    entries = list(map(plain_entry, lines))
    assert read_data(place / "t", counts=True) == plain_training_data(entries)
    unweighted = plain_training_data(entries) | {"weights": [1.0] * len({*map(str, entries)})}
    found = read_data(place / "t")
    assert found == unweighted | {"weights": [1.0] * len(found["source"])}


@settings(deadline=None)
@given(some([word for word in WORDS + FACTORED if b"\t" not in word], b"\x01"))
def test_lines_and_two_files_are_read_as_plainly(place, lines):
    sides = [line.removesuffix(b"\r").replace(b"\t", b" ").split(b"\x01") for line in lines]
    expected = plain_training_data([(plain_words(s), plain_words(t), 1) for s, t in sides])
    expected["weights"] = [1.0] * len(expected["source"])
    ends = [b"\r" * line.endswith(b"\r") for line in lines]
    pairs = [b"\t".join(side) + end for side, end in zip(sides, ends, strict=True)]
    (place / "p").write_bytes(b"\n".join(pairs) + b"\n")
    assert read_data(place / "p") == expected
    for name, side in zip("st", zip(*sides, strict=True), strict=True):
        (place / name).write_bytes(b"\n".join(map(bytes.__add__, side, ends)) + b"\n")
    assert read_data(place / "s", place / "t") == expected


# -- refusals ----------------------------------------------------------------------------------

pieces = st.sampled_from([
    *[b" ||| ", b" ||| ", b" ||| ", b"|||", b"||", b"|", b"||||", b" ", b"\t", b"\r", b"\v", b"\f"],
    *[b"a", b"maison", b"[x]", b"[", b"]", b"1", b"0.5", b"1 0.5", b"-1", b"nan", b"1_0", b"1e-05"],
])  # fmt: skip
good_lines = [b"a b ||| c ||| 1 0.5 ||| 0-0", b"a ||| ||| 0 1e-05"]
bad_lines = st.lists(pieces, max_size=12).map(b"".join)


@settings(max_examples=300, deadline=None)
@given(st.lists(bad_lines | st.sampled_from(good_lines), max_size=3))
def test_what_is_no_entry_is_refused_as_line_by_line(place, lines):
    path = place / "r"
    path.write_bytes(b"\n".join([good_lines[0], *lines, b""]))
    found = []
    for read in (lambda: (block.pairs for block in PhraseTable(path).blocks()),
                 lambda: read_table_or_pairs(PairFiles((str(path),)))):  # fmt: skip
        try:
            found.append([(list(pairs.sources), list(pairs.targets)) for pairs in read()])
        except DataError as error:
            found.append(str(error))
    assert found[0] == found[1]


NUMBERS = [b"1", b"0.25", b"2.5e-05", b"1e-05", b"12345678", b"123456789", b"1.e-05", b"1.5e-5"]
ALMOST = [b".e-05", b"1e-0x", b"1..5", b"1.5.e-05", b"e-05", b"1e-05.", b"1.2e-", b"1e--05", b"1e"]
OTHERS = [b"0" * 17, b"1" * 16, b"1" * 39, b"3.4028236e38", b"-0", b"+1", b".5", b"5.", b".", b"-"]
ODD = [b"inf", b"NaN", b"1_0", b"\xb2", b"1\0", b"\xb0.25", b"0.2\xb0"]


def assert_taken_if_good(text):
    line = b"a ||| b ||| 1 " + text
    found = RegularEntries.of([line], 2)
    assert (found is None) == (diagnose(line, 2) is not None)


@settings(max_examples=2000, deadline=None)
@given(st.text("0123456789.e+-", min_size=1, max_size=18).map(str.encode))
def test_scores_are_taken_that_are_taken_line_by_line(text):
    assert_taken_if_good(text)


@pytest.mark.parametrize("text", [*NUMBERS, *ALMOST, *OTHERS, *ODD])
def test_scores_of_unusual_forms(text):
    assert_taken_if_good(text)


# -- what is read by arrays --------------------------------------------------------------------


@pytest.mark.parametrize("counts", [False, True])
def test_a_usual_table_is_read_by_arrays(counts, tmp_path):
    (path,) = (DATA / "model").glob("phrase-table*gz")
    blocks = list(read_table_or_pairs(PairFiles((str(path),), with_counts=counts)))
    assert all(isinstance(block.sources, PhraseText) for block in blocks)
    table = [block.pairs for block in PhraseTable(path, with_counts=counts).blocks()]
    assert blocks == table


@pytest.mark.parametrize(
    "line",
    [
        *[b"a ||| b ||| 1\r", b"a|x ||| b ||| 1", b"a\v ||| b ||| 1", b"a ||| b|||1", b""],
        *[b"[a] ||| b ||| 1", b"a ||| b", b" ||| b ||| 1", b"a ||| b ||| 1 1"],
        *[b"a ||| b ||| ||| 1", b"|ab ||| x|| ||| 1", b"a ||| b ||| -1", b"a |||| b ||| 1"],
    ],
)  # fmt: skip
def test_what_is_irregular_is_left_to_the_other_reader(line):
    assert RegularEntries.of([b"a ||| b ||| 1", b"a ||| b ||| 0.5"], 1) is not None
    assert RegularEntries.of([b"a ||| b ||| 1", line], 1) is None


def test_no_arrays_of_very_long_lines():
    assert LineWords.of([b"x" * LONGEST_TEXT]) is None
