"""What Moses would not notice, or too late, is told in one line that names the place."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from moses_integration.formats.moses_ini import MosesIni
from moses_integration.system.check import check_model, stale_warnings
from phrase_scorer.errors import DataError

FEATURE = "PhraseDictionaryMemory name=TM0 num-features=2 path=pt.gz input-factor=0"
GOOD = f"""\
[feature]
WordPenalty
{FEATURE}
KENLM name=LM0 path=lm order=2
[weight]
WordPenalty0= -1
TM0= 0.2 0.3
LM0= 0.5
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the files of a good model."""
    monkeypatch.chdir(tmp_path)
    Path("pt.gz").write_bytes(gzip.compress(b"a ||| b ||| 0.5 1\n"))
    Path("lm").touch()
    return tmp_path


def check(text: str, *, for_tuning: bool = True) -> None:
    check_model(MosesIni.parse(text.encode()), for_tuning=for_tuning)


def error_of(text: str) -> str:
    with pytest.raises(DataError) as caught:
        check(text)
    assert caught.value.exit_code == 1
    return str(caught.value)


def test_good_model():
    check(GOOD)
    check(GOOD.replace("path=pt.gz", "path=pt"))  # as Moses' scripts take it


@pytest.mark.parametrize(("old", "line"), [("path=pt.gz", 3), ("path=lm", 4)])
def test_missing_file(old, line):
    text = GOOD.replace(old, "path=no")
    shown = text.splitlines()[line - 1]
    expected = f'moses.ini:{line}: the file of this line is not there: "{shown}"'
    assert error_of(text) == expected


def test_table_without_a_path():
    text = GOOD.replace(" path=pt.gz", "")
    expected = "moses.ini:3: no path= on the line of the phrase table"
    assert error_of(text).startswith(f"{expected}: ")


def test_num_features_is_not_that_of_the_table():
    text = GOOD.replace("num-features=2", "num-features=3").replace("0.2 0.3", "0.2 0.3 0.4")
    shown = text.splitlines()[2]
    expected = f'moses.ini:3: num-features is 3 but the phrase table has 2 scores: "{shown}"'
    assert error_of(text) == expected


def test_num_features_is_not_that_of_the_weights():
    text = GOOD.replace("0.2 0.3", "0.2 0.3 0.4")
    expected = 'moses.ini:7: TM0 has 3 weights but num-features is 2 in line 3: "TM0= 0.2 0.3 0.4"'
    assert error_of(text) == expected


def test_weights_of_binary_tables_are_checked_too():
    Path("probing").mkdir()
    text = GOOD.replace("PhraseDictionaryMemory", "ProbingPT").replace("pt.gz", "probing")
    check(text)
    expected = 'moses.ini:7: TM0 has 1 weights but num-features is 2 in line 3: "TM0= 0.2"'
    assert error_of(text.replace("0.2 0.3", "0.2")) == expected


def test_glue_grammars_are_not_opened():
    Path("glue-grammar").write_text("<s> [X] ||| <s> [S] ||| 1 ||| ||| 0\n")
    check(GOOD.replace("pt.gz", "glue-grammar"))


def test_name_that_mert_takes_for_sparse():
    text = GOOD.replace("LM0", "LM_0")
    why = "name=LM_0 is sparse to mert-moses.pl; use letters and digits only"
    assert error_of(text) == f'moses.ini:4: {why}: "KENLM name=LM_0 path=lm order=2"'
    check(text, for_tuning=False)


def test_no_weights():
    text = GOOD.split("[weight]")[0]
    assert error_of(text) == "moses.ini: no weights in [weight] to start from"
    check(text, for_tuning=False)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "pt.gz: the phrase table is empty"),
        (
            b"a ||| b\n",
            'pt.gz:1: 2 fields, expected at least 3 (source ||| target ||| scores): "a ||| b"',
        ),
        (b"\na ||| b ||| 1 1\n", 'pt.gz:1: blank line: ""'),
    ],
)
def test_table_that_is_none(content, expected, folder):
    Path("pt.gz").write_bytes(content)
    assert error_of(GOOD) == f"{folder}/{expected}"


# -- stale files -----------------------------------------------------------------------------------

TABLE = FEATURE.encode()
PLAIN = b"[feature]\nWordPenalty\n" + TABLE + b"\n[weight]\nWordPenalty0= -1\nTM0= 0.2 0.3\n"


def of(feature: bytes, weights: bytes = b"") -> bytes:
    return b"[feature]\n" + feature + b"\n[weight]\n" + weights


def warnings_of(data: bytes, name: str | None = None, new_columns: int = 1) -> list[str]:
    ini = MosesIni.parse(data, "nowhere/moses.ini")
    return stale_warnings(ini, ini.phrase_table(name), new_columns)


def test_no_warnings() -> None:
    other = b"[weight-overwrite]\nLM0= 1\n[feature-overwrite]\nTM0 table-limit=0\n"
    assert warnings_of(PLAIN + other) == []


WARNINGS = {
    "name": (
        of(b"PhraseDictionaryMemory name=T_0 path=p"),
        "2: name=T_0 is sparse to mert-moses.pl; use letters and digits only",
    ),
    "tuneable-components": (
        of(b"PhraseDictionaryMemory path=p tuneable-components=1"),
        "2: tuneable-components gets 2 more entries, 1 each; check which columns to tune",
    ),
    "weight-overwrite": (
        of(TABLE) + b"[weight-overwrite]\nLM0= 1 TM0= x 0.3\n",
        "5: [weight-overwrite] needs 2 more entries for TM0",
    ),
    "alternate-weight-setting": (
        of(TABLE) + b"[alternate-weight-setting]\nid=a\nTM0= 1 1\n",
        "6: [alternate-weight-setting] needs 2 more entries for TM0",
    ),
    "feature-overwrite": (
        of(TABLE) + b"[feature-overwrite]\nTM0 path=other.gz\n",
        "5: [feature-overwrite] replaces path= of TM0",
    ),
    "group": (
        of(TABLE + b"\nPhraseDictionaryGroup members=TM1,TM0 num-features=4"),
        "3: PhraseDictionaryGroup0 has TM0 among its members=; "
        "num-features, default-scores and weights may need 2 more entries",
    ),
}


@pytest.mark.parametrize(("data", "expected"), WARNINGS.values(), ids=WARNINGS.keys())
def test_warnings_about_lines(data: bytes, expected: str) -> None:
    assert warnings_of(data, new_columns=2) == [f"nowhere/moses.ini:{expected}"]


def test_warnings_about_caches_and_binarised_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = "moses.ini pt.gz pt.minphr od/TargetInd.dat pb/probing_hash.dat mert/features.list"
    for name in files.split():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(PLAIN)
    (tmp_path / "mert" / "filtered").mkdir()
    monkeypatch.chdir(tmp_path / "mert")  # where no pt.gz is
    ini = MosesIni.read(tmp_path / "moses.ini")
    again = "a binarised table without the new columns; binarise again:"
    assert stale_warnings(ini, ini.phrase_table(), 1) == [
        f"{tmp_path}/mert/features.list: mert-moses.pl reuses it without the new columns; "
        "take a new --working-dir",
        f"{tmp_path}/mert/filtered: tables filtered before are reused; "
        "delete it or filter into a new folder",
        f"{tmp_path}/pt.minphr: {again} "
        "processPhraseTableMin -in NEW.gz -out NEW -nscores 3 -threads 1",
        f"{tmp_path}/od/TargetInd.dat: {again} CreateOnDiskPt 1 1 3 100 2 NEW.gz NEW",
        f"{tmp_path}/pb/probing_hash.dat: {again} "
        "CreateProbingPT --num-scores 3 --log-prob --input-pt NEW.gz --output-dir NEW",
    ]
