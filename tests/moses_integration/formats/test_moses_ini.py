"""moses.ini: bytes that are not edited stay; edits, refusals and warnings are worked by hand.

The rules come from Moses (Parameter.cpp, FeatureFunction.cpp, Factory.cpp) and mert-moses.pl.
"""

from __future__ import annotations

import math
import shutil
import subprocess
from pathlib import Path

import pytest
from toys import ROOT

from moses_integration.formats.moses_ini import MosesIni, require_scores
from phrase_scorer.errors import DataError, UsageError

REAL_INI = ROOT.parent / "shared" / "data" / "multi30k-en-fr" / "moses.ini"

FEATURE = b"PhraseDictionaryMemory name=TM0 num-features=2 path=pt.gz input-factor=0"
PLAIN = b"[feature]\nWordPenalty\n" + FEATURE + b"\n[weight]\nWordPenalty0= -1\nTM0= 0.2 0.3\n"


def with_one_column(data: bytes) -> bytes:
    return MosesIni.parse(data).with_columns(path="new.gz", start_weights=[0.1]).to_bytes()


def message(data: bytes, name: str | None = None, new_columns: int = 1) -> str:
    """The one-line refusal of an ini, at reading or at choosing the table."""
    with pytest.raises((DataError, UsageError)) as caught:
        MosesIni.parse(data).phrase_table(name, new_columns)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"\n\n  \n\t\n",
        b"# only a comment",
        PLAIN,
        PLAIN[:-1],  # no final newline
        PLAIN.replace(b"\n", b"\r\n"),
        PLAIN.replace(b"\n", b"\r\n", 2),  # mixed line ends
        PLAIN.replace(b"\n", b" \t\n"),
        PLAIN.replace(b"[weight]\n", b"[weight]\n\n[weight]\n# x\n[feature]\n[weight]\n"),
        b"\xef\xbb\xbf" + PLAIN,
        b"# caf\xe9 \xff\xfe\n" + PLAIN,
        b"[stack\n100\n]\n" + PLAIN,
        b"value before any section\n" + PLAIN,
        b"\x00\x0b\x0c\x1c\x85\n" + PLAIN,
        "# \u2028 \u0085 line separators of Unicode\n".encode() + PLAIN,
        PLAIN + b"[feature]\nKENLM name=LM0 a=b a=c bare path=l\xe9.arpa # \xe9\n[weight]\nLM0= 1",
    ],
)
def test_unchanged_bytes_round_trip(data: bytes) -> None:
    assert MosesIni.parse(data).to_bytes() == data


def test_read_keeps_bytes_and_path(tmp_path: Path) -> None:
    path = tmp_path / "moses.ini"
    path.write_bytes(PLAIN.replace(b"\n", b"\r\n"))
    ini = MosesIni.read(path)
    assert ini.to_bytes() == path.read_bytes()
    assert ini.path == str(path)


def test_missing_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        MosesIni.read(tmp_path / "no.ini")
    assert str(caught.value) == f"{tmp_path / 'no.ini'}: cannot read: No such file or directory"


def test_fields_of_a_phrase_table() -> None:
    (table,) = MosesIni.parse(PLAIN).phrase_tables
    assert (table.class_name, table.name, table.num_features) == (
        "PhraseDictionaryMemory",
        "TM0",
        2,
    )
    assert (table.path, table.line, table.weights) == ("pt.gz", 3, (0.2, 0.3))


def test_default_names_count_the_unnamed_lines_of_a_class() -> None:
    lines = b"[feature]\n" + b"".join(
        b"%s path=%d\n" % (c, i)
        for i, c in enumerate(
            [
                b"PhraseDictionaryMemory",
                b"ProbingPT",
                b"PhraseDictionaryMemory name=x",
                b"PhraseDictionaryMemory",
            ]
        )
    )
    names = [table.name for table in MosesIni.parse(lines).phrase_tables]
    assert names == ["PhraseDictionaryMemory0", "ProbingPT0", "x", "PhraseDictionaryMemory1"]


def test_missing_num_features_is_one_and_missing_weights_are_none() -> None:
    (table,) = MosesIni.parse(b"[feature]\nPhraseDictionaryMemory path=p\n").phrase_tables
    assert table.num_features == 1
    assert table.weights is None


def test_comment_ends_a_value() -> None:
    (table,) = MosesIni.parse(b"[feature]\nPhraseDictionaryMemory path=a#b name=x\n").phrase_tables
    assert (table.path, table.name) == ("a", "PhraseDictionaryMemory0")


EDITS = {
    "plain": (
        PLAIN,
        b"[feature]\nWordPenalty\n"
        b"PhraseDictionaryMemory name=TM0 num-features=3 path=new.gz input-factor=0\n"
        b"[weight]\nWordPenalty0= -1\nTM0= 0.2 0.3 0.1\n",
    ),
    "CRLF": (
        b"[feature]\r\nPhraseDictionaryMemory name=TM0 num-features=2 path=p\r\n"
        b"[weight]\r\nTM0= 1 2\r\n",
        b"[feature]\r\nPhraseDictionaryMemory name=TM0 num-features=3 path=new.gz\r\n"
        b"[weight]\r\nTM0= 1 2 0.1\r\n",
    ),
    "comments, tabs, blanks, Latin-1": (
        b"[feature] # \xe9\n"
        b"\t PhraseDictionaryMemory\tpath=caf\xe9=x  num-features=2 name=T\t # \xff\n"
        b"\n[weight]#w\n T=\t1   2 \t#  tuned\n#end",
        b"[feature] # \xe9\n"
        b"\t PhraseDictionaryMemory\tpath=new.gz  num-features=3 name=T\t # \xff\n"
        b"\n[weight]#w\n T=\t1   2 0.1 \t#  tuned\n#end",
    ),
    "no final newline": (
        b"[weight]\nT= 1\n[feature]\nPhraseDictionaryMemory name=T num-features=1 path=p",
        b"[weight]\nT= 1 0.1\n[feature]\nPhraseDictionaryMemory name=T num-features=2 path=new.gz",
    ),
    "no num-features": (
        b"[feature]\nPhraseDictionaryMemory name=T path=p  #c\n[weight]\nT= 1\n",
        b"[feature]\nPhraseDictionaryMemory name=T path=new.gz num-features=2  #c\n"
        b"[weight]\nT= 1 0.1\n",
    ),
    "the last weight line counts": (
        b"[weight]\nT= 1\nT= 2\n[feature]\nPhraseDictionaryMemory name=T path=p num-features=1\n",
        b"[weight]\nT= 1\nT= 2 0.1\n"
        b"[feature]\nPhraseDictionaryMemory name=T path=new.gz num-features=2\n",
    ),
    "no weight line": (
        b"[feature]\nPhraseDictionaryMemory name=T path=p num-features=2\n"
        b"[weight]\nLM0= 1\n\n# next\n[v]\n0\n",
        b"[feature]\nPhraseDictionaryMemory name=T path=new.gz num-features=3\n"
        b"[weight]\nLM0= 1\nT= 1 1 0.1\n\n# next\n[v]\n0\n",
    ),
    "no weight line, CRLF, no final newline": (
        b"[feature]\r\nPhraseDictionaryMemory path=p\r\n[weight]\r\nLM0= 1",
        b"[feature]\r\nPhraseDictionaryMemory path=new.gz num-features=2\r\n[weight]\r\nLM0= 1\r\n"
        b"PhraseDictionaryMemory0= 1 0.1",
    ),
    "no weight section": (
        b"[feature]\nPhraseDictionaryMemory path=p num-features=1\n[v]\n0\n",
        b"[feature]\nPhraseDictionaryMemory path=new.gz num-features=2\n[v]\n0\n"
        b"\n[weight]\nPhraseDictionaryMemory0= 1 0.1\n",
    ),
    "an empty weight section": (
        b"[weight]\n\n[feature]\nPhraseDictionaryMemory path=p num-features=1\n",
        b"[weight]\nPhraseDictionaryMemory0= 1 0.1\n\n"
        b"[feature]\nPhraseDictionaryMemory path=new.gz num-features=2\n",
    ),
    "glue grammar is left alone": (
        b"[feature]\nPhraseDictionaryMemory name=G path=m/glue-grammar num-features=1\n"
        b"PhraseDictionaryMemory name=T path=p num-features=1\n[weight]\nG= 1\nT= 1\n",
        b"[feature]\nPhraseDictionaryMemory name=G path=m/glue-grammar num-features=1\n"
        b"PhraseDictionaryMemory name=T path=new.gz num-features=2\n[weight]\nG= 1\nT= 1 0.1\n",
    ),
    "tuneable-components": (
        b"[feature]\nPhraseDictionaryMemory path=p tuneable-components=0,1 num-features=2\n"
        b"[weight]\nPhraseDictionaryMemory0= 1 1\n",
        b"[feature]\nPhraseDictionaryMemory path=new.gz tuneable-components=0,1,1 num-features=3\n"
        b"[weight]\nPhraseDictionaryMemory0= 1 1 0.1\n",
    ),
}


@pytest.mark.parametrize(("before", "after"), EDITS.values(), ids=EDITS.keys())
def test_with_columns_changes_only_the_necessary_bytes(before: bytes, after: bytes) -> None:
    assert with_one_column(before) == after


def test_several_columns_and_their_number_format() -> None:
    ini = MosesIni.parse(PLAIN)
    wider = ini.with_columns("TM0", path="n", start_weights=[0, 0.1, -1 / 3, 1e-7])
    assert b"num-features=6" in wider.to_bytes()
    assert wider.to_bytes().endswith(b"TM0= 0.2 0.3 0 0.1 -0.333333 1e-07\n")
    assert ini.to_bytes() == PLAIN  # the old one is as it was
    assert wider.phrase_table().weights == (0.2, 0.3, 0.0, 0.1, -0.333333, 1e-7)


def test_editing_twice_equals_editing_once() -> None:
    once = MosesIni.parse(PLAIN).with_columns(path="n", start_weights=[0.1, 0.2])
    first = MosesIni.parse(PLAIN).with_columns(path="m", start_weights=[0.1])
    assert first.with_columns(path="n", start_weights=[0.2]).to_bytes() == once.to_bytes()


def test_table_is_chosen_by_name() -> None:
    two = PLAIN.replace(b"[weight]", FEATURE.replace(b"TM0", b"TM1") + b"\n[weight]\nTM1= 7 7")
    edited = MosesIni.parse(two).with_columns("TM1", path="n", start_weights=[0]).to_bytes()
    assert b"TM1= 7 7 0\n" in edited
    assert FEATURE in edited  # TM0


def of(feature: bytes, weights: bytes = b"") -> bytes:
    return b"[feature]\n" + feature + b"\n[weight]\n" + weights


BINARY_CLASSES = {
    "PhraseDictionaryCompact": "processPhraseTableMin -in NEW.gz -out NEW -nscores 6 -threads 1",
    "PhraseDictionaryOnDisk": "CreateOnDiskPt 1 1 6 100 2 NEW.gz NEW",
    "ProbingPT": "CreateProbingPT --num-scores 6 --log-prob --input-pt NEW.gz --output-dir NEW",
}


@pytest.mark.parametrize(("class_name", "command"), BINARY_CLASSES.items())
@pytest.mark.parametrize("name", [None, "T"])
def test_binary_table_is_refused_with_the_command(
    class_name: str, command: str, name: str | None
) -> None:
    line = f"{class_name} name=T num-features=4 path=p"
    assert message(of(line.encode()), name, new_columns=2) == (
        f"moses.ini:2: {class_name} does not read a phrase table in text form; put the text table "
        f"here with class PhraseDictionaryMemory and rescore that, then binarise it again: "
        f'{command}: "{line}"'
    )


@pytest.mark.parametrize("class_name", ["PhraseDictionaryBinary", "PhraseDictionarySCFG", "Mmsapt"])
def test_other_table_is_refused(class_name: str) -> None:
    assert message(of(class_name.encode() + b" path=p")) == (
        f"moses.ini:2: {class_name} does not read a phrase table in text form; put the text table "
        f'here with class PhraseDictionaryMemory and rescore that: "{class_name} path=p"'
    )


@pytest.mark.parametrize("class_name", ["PhraseDictionaryGroup", "PhraseDictionaryMultiModel"])
def test_combining_table_is_refused(class_name: str) -> None:
    assert message(of(class_name.encode() + b" members=A,B")) == (
        f"moses.ini:2: {class_name} combines tables; name a member with --table-name: "
        f'"{class_name} members=A,B"'
    )


REFUSALS = {
    "empty": (b"", "moses.ini: no phrase table in [feature]"),
    "other features only": (of(b"WordPenalty"), "moses.ini: no phrase table in [feature]"),
    "glue grammar only": (
        of(b"PhraseDictionaryMemory path=glue-grammar"),
        "moses.ini: no phrase table in [feature]",
    ),
    "no path": (
        of(b"PhraseDictionaryMemory num-features=1"),
        "moses.ini:2: no path= on the line of the phrase table: "
        '"PhraseDictionaryMemory num-features=1"',
    ),
    "old style": (
        b"# c\n[ttable-file]\n0 0 0 5 phrase-table.gz\n",
        "moses.ini:2: old-style moses.ini; make one with [feature] (train-model.perl): "
        '"[ttable-file]"',
    ),
    "too few weights": (
        of(FEATURE, b"TM0= 0.2 # x\n"),
        'moses.ini:4: TM0 has 1 weights but num-features is 2 in line 2: "TM0= 0.2"',
    ),
    "a weight that is no number": (
        of(FEATURE, b"TM0= 0.2 x\n"),
        'moses.ini:4: a weight is not a number: "TM0= 0.2 x"',
    ),
    "no blank after =": (
        of(FEATURE, b"TM0= 0.2 0.2\nLM0=0.5\n"),
        'moses.ini:5: a weight line must be Name= 0.2 0.2, with a blank after the =: "LM0=0.5"',
    ),
    "no blank before the first of several": (
        of(FEATURE, b"TM0=0.2 0.2\n"),
        'moses.ini:4: a weight line must be Name= 0.2 0.2, with a blank after the =: "TM0=0.2 0.2"',
    ),
    "blank before =": (
        of(FEATURE, b"TM0 = 0.2 0.2\n"),
        "moses.ini:4: a weight line must be Name= 0.2 0.2, with a blank after the =: "
        '"TM0 = 0.2 0.2"',
    ),
    "no weights": (
        of(FEATURE, b"TM0=\n"),
        'moses.ini:4: a weight line must be Name= 0.2 0.2, with a blank after the =: "TM0="',
    ),
    "duplicate key": (
        of(b"PhraseDictionaryMemory path=a path=b"),
        'moses.ini:2: duplicate key path=: "PhraseDictionaryMemory path=a path=b"',
    ),
    "blank around =": (
        of(b"PhraseDictionaryMemory path= a"),
        'moses.ini:2: not of the form key=value: "a": "PhraseDictionaryMemory path= a"',
    ),
    "num-features": (
        of(b"PhraseDictionaryMemory num-features=4x path=p"),
        'moses.ini:2: num-features is not a number: "4x": '
        '"PhraseDictionaryMemory num-features=4x path=p"',
    ),
}


@pytest.mark.parametrize(("data", "expected"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refusals(data: bytes, expected: str) -> None:
    assert message(data) == expected


def test_several_tables_need_a_name() -> None:
    two = of(b"PhraseDictionaryMemory path=a\nPhraseDictionaryMemory path=b name=B")
    assert message(two) == (
        "moses.ini: several phrase tables: PhraseDictionaryMemory0, B; choose one with --table-name"
    )
    assert MosesIni.parse(two).phrase_table("B").path == "b"


def test_unknown_name_lists_the_tables() -> None:
    assert message(PLAIN, "LM0") == (
        'moses.ini: no phrase table "LM0" among TM0; choose one with --table-name'
    )


def test_wrong_choice_is_a_usage_error_and_wrong_content_a_data_error() -> None:
    with pytest.raises(UsageError):
        MosesIni.parse(PLAIN).phrase_table("other")
    with pytest.raises(DataError):
        MosesIni.parse(b"").phrase_table("other")


@pytest.mark.parametrize(
    ("path", "shown"),
    [("a#b", "a#b"), ("a b", "a b"), ("a\tb", r"a\tb"), ("a\n", r"a\n"), ("", "")],
)
def test_path_that_an_ini_cannot_hold(path: str, shown: str) -> None:
    with pytest.raises(UsageError) as caught:
        MosesIni.parse(PLAIN).with_columns(path=path, start_weights=[0.1])
    assert str(caught.value) == (
        f'moses.ini cannot hold the path "{shown}": it must not be empty, nor have a blank or a # '
        "in it"
    )


@pytest.mark.parametrize(
    ("weights", "shown"), [([], "none"), ([math.nan], "nan"), ([0.1, math.inf], "0.1 inf")]
)
def test_start_weights_that_moses_cannot_use(weights: list[float], shown: str) -> None:
    with pytest.raises(UsageError) as caught:
        MosesIni.parse(PLAIN).with_columns(path="n", start_weights=weights)
    assert str(caught.value) == f"every new column needs a finite start weight, given: {shown}"


def test_path_outside_utf8_is_written_as_given() -> None:
    path = b"mod\xe9le.gz".decode("utf-8", "surrogateescape")
    edited = MosesIni.parse(PLAIN).with_columns(path=path, start_weights=[0.1])
    assert b" path=mod\xe9le.gz " in edited.to_bytes()
    assert edited.phrase_table().path == path


def test_require_scores() -> None:
    table = MosesIni.parse(PLAIN).phrase_table()
    require_scores(table, 2)
    with pytest.raises(DataError) as caught:
        require_scores(table, 5)
    assert str(caught.value) == (
        f'moses.ini:3: num-features is 2 but the phrase table has 5 scores: "{FEATURE.decode()}"'
    )


@pytest.mark.skipif(not REAL_INI.is_file(), reason="the shared moses.ini is not on this machine")
def test_ini_that_moses_training_wrote() -> None:
    data = REAL_INI.read_bytes()
    ini = MosesIni.read(REAL_INI)
    assert ini.to_bytes() == data
    table = ini.phrase_table()
    assert (table.name, table.num_features) == ("TranslationModel0", 4)
    assert table.weights == (0.2, 0.2, 0.2, 0.2)
    edited = ini.with_columns(path="model/new.gz", start_weights=[0.1])
    expected = data.replace(
        b"num-features=4 path=model/phrase-table", b"num-features=5 path=model/new"
    )
    old = b"TranslationModel0= 0.2 0.2 0.2 0.2"
    assert edited.to_bytes() == expected.replace(old, old + b" 0.1")


@pytest.mark.skipif(shutil.which("moses") is None, reason="Moses is not on the PATH")
def test_moses_accepts_an_edited_ini(tmp_path: Path) -> None:
    features = b"UnknownWordPenalty\nWordPenalty\nDistortion\n" + FEATURE + b" output-factor=0"
    weights = b"UnknownWordPenalty0= 1\nWordPenalty0= -1\nDistortion0= 0.3\nTM0= 0.2 0.3\n"
    ini = of(features, weights) + b"[input-factors]\n0\n[mapping]\n0 T 0\n"
    path = tmp_path / "moses.ini"
    path.write_bytes(with_one_column(ini))
    shown = subprocess.run(
        ["moses", "-f", str(path), "-show-weights"], capture_output=True, check=True, timeout=60
    )
    assert b"TM0= 0.200000 0.300000 0.100000" in shown.stdout
