"""moses.ini as Moses reads it: features, weights, files; refusals are worked by hand.

The rules come from Moses (Parameter.cpp, FeatureFunction.cpp, Factory.cpp) and mert-moses.pl.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from toys import FEATURE, GOLDEN, MIXED, PLAIN

from moses_integration.formats.moses_ini import (
    MosesIni,
    PhraseTableFeature,
    feature_files,
    require_scores,
    weights_of,
)
from phrase_scorer.errors import DataError, UsageError, quoted


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
        b"# caf\xe9 \xff\xfe\n" + PLAIN,
        b"[x]\n[stack\n100\n]\n" + PLAIN,
        b"[x]\n\x00\x0b\x0c\x1c\x85\n" + PLAIN,
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
    "value before any section": (
        b"5\n[feature]\n",
        'moses.ini:1: a line before the first [section] (Moses stops): "5"',
    ),
    **{
        f"byte order mark, {len(data)}": (
            b"\xef\xbb\xbf" + data,
            "moses.ini:1: a line before the first [section], here behind a byte order mark (Moses "
            f'stops): "\\ufeff{shown}"',
        )
        for data, shown in ((b"# comment\n[feature]\n", ""), (b"[feature]\n", "[feature]"))
    },
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
    **{
        f"num-features={text[:12]}": (
            of(b"PhraseDictionaryMemory num-features=%b" % text.encode()),
            f"moses.ini:2: num-features is not a number up to 10000: {quoted(text)}: "
            + quoted(f"PhraseDictionaryMemory num-features={text}"),
        )
        for text in ("4x", "", "-1", "1_0", "10001", "2000000000", "9" * 5000)
    },
    **{
        f"weight {text}": (
            of(b"PhraseDictionaryMemory", f"PhraseDictionaryMemory0= {text}".encode()),
            f'moses.ini:4: a weight is not a number: "PhraseDictionaryMemory0= {text}"',
        )
        for text in ("nan", "inf", "1_0", "٣", "1e999")
    },
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


def test_require_scores() -> None:
    table = MosesIni.parse(PLAIN).phrase_table()
    require_scores(table, 2)
    with pytest.raises(DataError) as caught:
        require_scores(table, 5)
    assert str(caught.value) == (
        f'moses.ini:3: num-features is 2 but the phrase table has 5 scores: "{FEATURE.decode()}"'
    )


# -- files -----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder; the ini's is `model` in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    return tmp_path


def table_at(path: str) -> PhraseTableFeature:
    data = f"[feature]\nPhraseDictionaryMemory path={path}\n".encode()
    (table,) = MosesIni.parse(data, "model/moses.ini").phrase_tables
    return table


def test_lines_with_a_path():
    files = feature_files(MosesIni.parse(MIXED))
    found = [(file.line, file.class_name, file.path) for file in files]
    assert found == [(4, "PhraseDictionaryMemory", "pt.gz"), (5, "KENLM", "lm.arpa")]


def test_a_file_is_sought_here_and_beside_the_ini(folder):
    (folder / "model" / "pt").touch()
    assert table_at("pt").place() == table_at("pt").file() == folder / "model" / "pt"
    (folder / "pt.gz").touch()
    assert table_at("pt").place() == folder / "pt"  # first here, as Moses does
    assert table_at("pt").file() == folder / "pt.gz"
    assert table_at(str(folder / "model" / "pt")).place() == folder / "model" / "pt"


@pytest.mark.parametrize("end", ["", ".gz", ".minphr", ".minlexr", ".binphr.idx", ".binlexr.idx"])
def test_names_that_moses_completes(end, folder):
    (folder / f"table{end}").touch()
    assert table_at("table").place() == folder / "table"


def test_a_folder_is_a_file_too(folder):
    (folder / "ondisk").mkdir()
    assert table_at("ondisk").place() == folder / "ondisk"


def test_no_such_file(folder):
    with pytest.raises(DataError) as caught:
        table_at("pt").file()
    line = '"PhraseDictionaryMemory path=pt"'
    assert str(caught.value) == f"model/moses.ini:2: the file of this line is not there: {line}"


def test_no_path():
    with pytest.raises(DataError) as caught:
        table_at("").place()
    line = '"PhraseDictionaryMemory path="'
    expected = f"model/moses.ini:2: no path= on the line of the phrase table: {line}"
    assert str(caught.value) == expected


# -- weights ---------------------------------------------------------------------------------------


def test_weights_by_name():
    expected = {"UnknownWordPenalty0": (1.0,), "TM0": (0.2, 0.3), "LM0": (0.5,)}
    assert weights_of(MosesIni.parse(MIXED)) == expected
    assert list(weights_of(MosesIni.parse(MIXED))) == list(expected)


def test_weights_of_an_ini_that_mert_wrote():
    """The numbers are those of its last BEST line, in the order of features.list."""
    weights = weights_of(MosesIni.read(GOLDEN / "tuning" / "mert-moses.ini"))
    said = (GOLDEN / "tuning" / "mert-moses.out").read_text()
    best = said.split("BEST at 2: ")[1].split(" => ")[0].split()
    found = [value for name, values in weights.items() for value in values]
    assert found == [*map(float, best), 1.0]
    assert list(weights)[-1] == "UnknownWordPenalty0"
    assert len(weights["LexicalReordering0"]) == 6


def test_weight_that_is_no_number():
    with pytest.raises(DataError) as caught:
        weights_of(MosesIni.parse(b"[weight]\nA0= 1\nB0= 0,5\n"))
    assert str(caught.value) == 'moses.ini:3: a weight is not a number: "B0= 0,5"'
