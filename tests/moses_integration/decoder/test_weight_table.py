"""Weights before and after tuning as a user reads them."""

from __future__ import annotations

import pytest
from toys import GOLDEN as ALL_GOLDEN

from moses_integration.decoder.weight_table import added_columns, weight_table
from moses_integration.formats.moses_ini import MosesIni, weights_of
from moses_integration.formats.signature import SignedColumn, write_signature
from phrase_scorer.errors import DataError

GOLDEN = ALL_GOLDEN / "tuning"


def test_table_worked_by_hand():
    """Those before are shown with absolute values that sum to 1: 0.5 + 0.3 + 0.2 + 1 = 2."""
    before = {"LM0": (0.5,), "TM0": (-0.3, 0.2), "New0": (1.0,), "UnknownWordPenalty0": (1.0,)}
    after = {"LM0": (0.25,), "TM0": (0.125, -0.5), "New0": (0.125,), "UnknownWordPenalty0": (1.0,)}
    assert list(weight_table(before, after, {("TM0", 1): "p(target | source)"})) == [
        "weight                  before    after",
        "LM0                     0.2500   0.2500",
        "TM0 1                  -0.1500   0.1250",
        "TM0 2                   0.1000  -0.5000  <- p(target | source)",
        "New0                    0.5000   0.1250",
        "UnknownWordPenalty0     1.0000   1.0000",
    ]


def test_weights_that_there_were_none_of():
    assert list(weight_table({"A0": (2.0,)}, {"A0": (0.5, 0.25), "B0": (0.25,)}, {})) == [
        "weight   before    after",
        "A0 1     1.0000   0.5000",
        "A0 2     0.0000   0.2500",
        "B0       0.0000   0.2500",
    ]


def test_no_weights():
    assert list(weight_table({}, {}, {})) == ["weight   before    after"]


def test_weights_that_mert_found_sum_to_one():
    after = weights_of(MosesIni.read(GOLDEN / "mert-moses.ini"))
    before = {name: tuple(2.0 for _ in values) for name, values in after.items()}
    before["UnknownWordPenalty0"] = (1.0,)
    rows = [line.split() for line in weight_table(before, after, {})][1:]
    assert len(rows) == 15
    for column in (-2, -1):
        total = sum(abs(float(row[column])) for row in rows if row[0] != "UnknownWordPenalty0")
        assert total == pytest.approx(1, abs=1e-3)


def test_columns_that_we_added(tmp_path):
    names = ["p(target | source)", "unknown target words"]
    signed = [SignedColumn(place, name, "m", -50.0) for place, name in enumerate(names, 4)]
    (tmp_path / "pt.gz").touch()
    write_signature(tmp_path / "pt.gz", signed, {})
    (tmp_path / "plain").touch()
    ini = MosesIni.parse(
        b"[feature]\nPhraseDictionaryMemory name=TM0 num-features=6 path=pt\n"
        b"PhraseDictionaryMemory name=TM1 num-features=4 path=plain\n",
        tmp_path / "moses.ini",
    )
    assert added_columns(ini) == {("TM0", 4): names[0], ("TM0", 5): names[1]}


def test_table_that_is_not_there(tmp_path):
    ini = MosesIni.parse(b"[feature]\nPhraseDictionaryMemory path=no\n", tmp_path / "moses.ini")
    with pytest.raises(DataError) as caught:
        added_columns(ini)
    line = '"PhraseDictionaryMemory path=no"'
    expected = f"{tmp_path}/moses.ini:2: the file of this line is not there: {line}"
    assert str(caught.value) == expected
