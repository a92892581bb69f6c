"""What Moses reads in a column is the log-probability, floored; the signature says what it is."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moses_integration.formats.signature import (
    SignedColumn,
    read_signature,
    refuse_twice,
    signature_path,
    write_signature,
)
from moses_integration.rescoring.columns import (
    Column,
    ensemble_column,
    score_texts,
    sign_columns,
    translation_column,
    unknown_words_column,
    words_unknown_to,
)
from phrase_scorer.errors import DataError, ModelError, PhraseScorerError
from phrase_scorer.scoring.scorer import PhraseScorer
from phrase_scorer.text.phrase_pairs import PairBlock
from phrase_scorer.version import __version__


def texts(*values: float, **options: float) -> list[bytes]:
    return score_texts(np.array(values, np.float32), **options)


# -- numbers -------------------------------------------------------------------------------------


def test_numbers_worked_by_hand():
    assert texts(0, -1, -0.5, -10) == [b"1", b"0.3678794", b"0.6065307", b"4.539993e-05"]


def test_values_above_zero_are_one():
    assert texts(1e-6, 0.5, np.inf) == [b"1", b"1", b"1"]


def test_values_below_the_floor_are_the_floor():
    assert texts(-49.5, -50, -51, -1e30, -np.inf) == [b"3.179971e-22", *[b"1.92875e-22"] * 4]
    assert texts(-1.9, -2, -3, floor=-2.0) == [b"0.1495686", b"0.1353353", b"0.1353353"]


def test_lowest_floor_is_still_a_normal_float32():
    (text,) = texts(-100, floor=-87.0)
    assert float(np.float32(text)) >= float(np.finfo(np.float32).tiny)


def test_no_values_no_texts():
    assert texts() == []


def test_a_value_that_is_no_number_is_an_error():
    with pytest.raises(PhraseScorerError) as caught:
        texts(-1, np.nan)
    expected = "the model gives a score that is not a number: broken weights?"
    assert str(caught.value) == expected


@given(st.lists(st.floats(-50, 0, width=32), min_size=1))
def test_moses_reads_the_value(values):
    found = texts(*values)
    assert len(found) == len(values)
    for text, value in zip(found, values, strict=True):
        assert re.fullmatch(rb"\d(\.\d{1,6})?(e-\d\d)?|0\.0{0,3}\d{1,7}", text)
        assert 0 < float(text) <= 1
        assert abs(np.log(float(text)) - value) <= 6e-7
        read = np.log(np.float64(np.float32(text)))  # Moses reads float32
        assert abs(read - value) <= 7e-7


@given(st.lists(st.floats(allow_nan=False, width=32), min_size=1), st.floats(-87, -0.01))
def test_never_zero_negative_or_infinite(values, floor):
    for text in texts(*values, floor=floor):
        assert np.exp(floor) * (1 - 1e-6) <= float(text) <= 1


def test_order_of_values_is_kept():
    values = np.sort(np.random.default_rng(1).uniform(-50, 0, 2000).astype(np.float32))
    numbers = [float(text) for text in score_texts(values)]
    assert numbers == sorted(numbers)


# -- columns -------------------------------------------------------------------------------------


def test_translation_column_is_what_the_scorer_says(scorer):
    column = translation_column(scorer)
    assert (column.name, column.model) == ("p(target | source)", scorer.fingerprint)
    block = PairBlock([[b"la"], [b"chat"]], [[b"the"], []])
    assert column.values(block).tolist() == scorer.score_block(block).tolist()


def test_model_of_the_other_direction(inverse_path):
    with pytest.raises(ModelError) as caught:
        translation_column(PhraseScorer.load(inverse_path, "cpu"), "rnn/")
    assert str(caught.value) == (
        "rnn/: the model was trained in the other direction, p(source | target); "
        "train one with --direction forward"
    )


def test_inverse_column_is_the_other_direction(inverse_path):
    """By the model itself: its source is the table's target."""
    scorer = PhraseScorer.load(inverse_path, "cpu")
    column = translation_column(scorer, wanted="inverse")
    assert (column.name, column.model) == ("p(source | target)", scorer.fingerprint)
    block = PairBlock([[b"la"], [b"le", b"chat"], [b"la"]], [[b"the"], [b"the", b"cat"], []])
    expected = scorer.score([("la", "the"), ("le chat", "the cat"), ("la", "")])
    assert column.values(block) == pytest.approx(expected, abs=1e-5)


def test_forward_model_is_no_inverse_one(scorer):
    with pytest.raises(ModelError) as caught:
        translation_column(scorer, "rnn/", "inverse")
    assert str(caught.value) == (
        "rnn/: the model was trained in the other direction, p(target | source); "
        "train one with --direction inverse"
    )


def fixed(name: str, model: str, *values: float) -> Column:
    return Column(name, model, lambda block: np.array(values, np.float32))


def test_ensemble_is_the_mean_of_the_probabilities():
    columns = [
        fixed("p", "a", -1, -80, 0),
        fixed("p", "b", -3, -90, -1),
        fixed("p", "c", -2, -95, 0),
    ]
    mixture = ensemble_column(columns)
    assert (mixture.name, mixture.model) == ("p, mean of 3 models", "a+b+c")
    found = mixture.values(PairBlock([], []))
    assert found.dtype == np.float32
    for place, value in enumerate(found.tolist()):
        values = [column.values(PairBlock([], [])).tolist()[place] for column in columns]
        assert value == pytest.approx(math.log(math.fsum(map(math.exp, values)) / 3), abs=1e-5)


def test_ensemble_where_all_probabilities_vanish():
    (found,) = ensemble_column([fixed("p", "a", -1000), fixed("p", "b", -1000)]).values(None)
    assert found == -1000


def test_ensemble_of_copies_is_the_model(scorer):
    block = PairBlock([[b"la"], [b"chat", b"noir"]], [[b"the"], [b"black", b"cat"]])
    column = translation_column(scorer)
    expected = column.values(block)
    assert ensemble_column([column, column]).values(block) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_unknown_target_words_are_counted(direction, model_path, inverse_path):
    """A forward model knows the table's targets as targets, an inverse one as sources."""
    scorer = PhraseScorer.load(model_path if direction == "forward" else inverse_path, "cpu")
    known = scorer.target_vocabulary if direction == "forward" else scorer.source_vocabulary
    targets = [[b"the", b"Katze"], [], [b"la", b"la", b"</s>"], [b"cat"], [b"chat"], [b"<unk>"]]
    column = unknown_words_column(scorer)
    assert (column.name, column.model) == ("unknown target words", scorer.fingerprint)
    words = set(known.words) - {b"</s>", b"<unk>"}
    expected = [-sum(word not in words for word in target) for target in targets]
    assert column.values(PairBlock([[b"x"]] * 6, targets)).tolist() == expected
    assert sorted(set(expected)) == [-3, -1, 0] if direction == "forward" else [-2, -1, 0]


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_words_unknown_to_a_directory(direction, model_path, inverse_path):
    """As for a loaded model, whichever its direction."""
    path = model_path if direction == "forward" else inverse_path
    column, same = words_unknown_to(path), unknown_words_column(PhraseScorer.load(path, "cpu"))
    block = PairBlock([[b"x"]] * 3, [[b"the", b"Katze"], [], [b"la", b"la", b"</s>"]])
    assert column.values(block).tolist() == same.values(block).tolist()
    assert (column.name, column.model) == (same.name, same.model)


def test_moses_reads_the_number_of_unknown_words():
    assert texts(0, -1, -2) == [b"1", b"%.7g" % math.exp(-1), b"%.7g" % math.exp(-2)]


# -- signatures ----------------------------------------------------------------------------------


def column(name: str = "p", model: str = "m1") -> Column:
    return Column(name, model, lambda block: np.zeros(len(block.sources), np.float32))


def test_signature_round_trip(tmp_path):
    table = tmp_path / "table.gz"
    signed = sign_columns([column(), column("q")], [4, 5], -50.0)
    assert signed == [SignedColumn(4, "p", "m1", -50.0), SignedColumn(5, "q", "m1", -50.0)]
    write_signature(table, signed, {"input": {"name": "t\udcff", "entries": 3}})
    assert signature_path(table) == tmp_path / "table.gz.signature.json"
    assert read_signature(table) == signed
    content = json.loads(signature_path(table).read_bytes())
    assert content["format"] == 1
    assert content["phrase_scorer"] == __version__
    assert content["input"]["entries"] == 3
    before = signature_path(table).read_bytes()
    write_signature(table, signed, {"input": {"name": "t\udcff", "entries": 3}})
    assert signature_path(table).read_bytes() == before


def test_no_signature_no_columns(tmp_path):
    assert read_signature(tmp_path / "table") == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"format": 2, "columns": []}', "format 2 is newer than this program"),
        (b'{"format": 2, "columns": [{"of": "another shape"}]}', "format 2 is newer than this"),
        (b"{", "not JSON: Expecting property name enclosed in double quotes (line 1, column 2)"),
        (b"{}", "object missing required field format"),
        (b'{"format": 1}', "object missing required field columns"),
        (b'{"format": 1, "columns": 3}', "columns: expected array, got int"),
        (b'{"format": "1", "columns": []}', "format: expected int, got str"),
        (b"[]", "expected object, got array"),
        (b'{"format": 1, "columns": [{}]}', "[0]: object missing required field place"),
        (b'{"format": 1, "columns": [null]}', "[0]: expected object, got null"),
        (b'{"format": 1' + b"1" * 5000 + b"}", "not JSON that can be used: a number has too many"),
        (b"[" * 100_000, "not JSON that can be used: nested too deep"),
        (b"\xff", "not JSON: not UTF-8 at byte 1"),
    ],
)
def test_signature_that_cannot_be_used(content, expected, tmp_path):
    path = signature_path(tmp_path / "table")
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_signature(tmp_path / "table")
    assert str(caught.value).startswith(f"{path}: {expected}")
    assert "\n" not in str(caught.value)


def test_signature_that_cannot_be_read(tmp_path):
    signature_path(tmp_path / "table").mkdir()
    with pytest.raises(DataError) as caught:
        read_signature(tmp_path / "table")
    assert str(caught.value) == f"{tmp_path}/table.signature.json: cannot read: not a file"


def test_same_column_twice():
    known = [SignedColumn(3, "q", "m1", -50.0), SignedColumn(4, "p", "m1", -50.0)]
    with pytest.raises(DataError) as caught:
        refuse_twice("t.gz", known, column().name, column().model)
    assert str(caught.value) == (
        "t.gz: score 5 of each line is already p of this model (m1); "
        "--allow-duplicate adds it again"
    )


@pytest.mark.parametrize("other", [column("q"), column(model="m2")])
def test_another_column_is_no_repetition(other):
    assert (
        refuse_twice("t.gz", [SignedColumn(4, "p", "m1", -50.0)], other.name, other.model) is None
    )
