"""What still speaks of a table without its new columns: each kind of line, folder, binary table."""

from __future__ import annotations

from pathlib import Path

import pytest

from moses_integration.formats.moses_ini import MosesIni
from moses_integration.system.check import stale_warnings

FEATURE = b"PhraseDictionaryMemory name=TM0 num-features=2 path=pt.gz input-factor=0"
PLAIN = b"[feature]\nWordPenalty\n" + FEATURE + b"\n[weight]\nWordPenalty0= -1\nTM0= 0.2 0.3\n"


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
        of(FEATURE) + b"[weight-overwrite]\nLM0= 1 TM0= x 0.3\n",
        "5: [weight-overwrite] needs 2 more entries for TM0",
    ),
    "alternate-weight-setting": (
        of(FEATURE) + b"[alternate-weight-setting]\nid=a\nTM0= 1 1\n",
        "6: [alternate-weight-setting] needs 2 more entries for TM0",
    ),
    "feature-overwrite": (
        of(FEATURE) + b"[feature-overwrite]\nTM0 path=other.gz\n",
        "5: [feature-overwrite] replaces path= of TM0",
    ),
    "group": (
        of(FEATURE + b"\nPhraseDictionaryGroup members=TM1,TM0 num-features=4"),
        "3: PhraseDictionaryGroup0 has TM0 among its members=; "
        "num-features, default-scores and weights may need 2 more entries",
    ),
}


@pytest.mark.parametrize(("data", "expected"), WARNINGS.values(), ids=WARNINGS.keys())
def test_warnings_about_lines(data: bytes, expected: str) -> None:
    assert warnings_of(data, new_columns=2) == [f"nowhere/moses.ini:{expected}"]


def test_warnings_about_caches_and_binarised_tables(tmp_path: Path) -> None:
    files = "moses.ini pt.gz pt.minphr od/TargetInd.dat pb/probing_hash.dat mert/features.list"
    for name in files.split():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(PLAIN)
    (tmp_path / "mert" / "filtered").mkdir()
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
