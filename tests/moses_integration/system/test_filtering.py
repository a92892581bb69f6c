"""The same entries as filter-model-given-input.pl keeps, byte for byte and in order."""

from __future__ import annotations

import gzip
import os
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import DATA
from toys import GOLDEN as ALL_GOLDEN

from moses_integration.formats.moses_ini import MosesIni
from moses_integration.formats.signature import SignedColumn, read_signature, write_signature
from moses_integration.system.filtering import Filtered, filter_model, filter_table, source_phrases
from phrase_scorer.errors import DataError, UsageError, quoted

GOLDEN = ALL_GOLDEN / "filtering"


def run_filter(ini: Path, inputs: list[Path], folder: Path, **options: object) -> list[Filtered]:
    folder.mkdir()
    return filter_model(MosesIni.read(ini), inputs, folder, show_progress=False, **options)


def unpacked(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


# -- phrases of the inputs -------------------------------------------------------------------------


@given(
    st.lists(st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=14), max_size=5),
    st.integers(1, 12),
    st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=12),
)
def test_a_phrase_is_kept_if_a_line_has_it(tmp_path_factory, lines, longest, phrase):
    """By looking for the text of the phrase in the text of each line."""
    path = tmp_path_factory.mktemp("input") / "input"
    path.write_text("".join(" ".join(line) + "\n" for line in lines))
    text = " ".join(phrase)
    occurs = any(f" {text} " in f" {' '.join(line)} " for line in lines)
    (phrases,) = source_phrases([path], longest=longest).values()
    assert (text.encode() in phrases) == (occurs and len(phrase) <= longest)


def test_several_inputs_packed_and_not(tmp_path):
    (tmp_path / "one").write_bytes(b"  a\tb  \n\n")
    (tmp_path / "two.gz").write_bytes(gzip.compress(b"b c"))
    (phrases,) = source_phrases([tmp_path / "one", tmp_path / "two.gz"]).values()
    assert phrases == {b"a", b"a b", b"b", b"b c", b"c"}


def test_only_blanks_separate_words(tmp_path):
    """As in Moses: no-break spaces, form feeds and U+2028 belong to words."""
    (tmp_path / "in").write_bytes("a\u00a0b c\x0cd e\u2028f\n".encode())
    (phrases,) = source_phrases([tmp_path / "in"], longest=1).values()
    assert phrases == {"a\u00a0b".encode(), b"c\x0cd", "e\u2028f".encode()}


def test_factors(tmp_path):
    (tmp_path / "in").write_bytes(b"Houses|house|NNS are|be|VB\n")
    phrases = source_phrases([tmp_path / "in"], [(0,), (1, 2)])
    assert phrases[(0,)] == {b"Houses", b"are", b"Houses are"}
    assert phrases[(1, 2)] == {b"house|NNS", b"be|VB", b"house|NNS be|VB"}


def test_input_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError) as caught:
        source_phrases([tmp_path / "no"])
    assert str(caught.value) == f"{tmp_path}/no: cannot read: No such file or directory"


# -- a table ---------------------------------------------------------------------------------------


def test_table_against_brute_force(tmp_path):
    chance = random.Random(3)
    lines, text = [], [chance.choices(b"a b c \xe9 d".split(), k=9) for _ in range(6)]
    for number in range(3000):
        source = b" ".join(chance.choices(b"a b c \xe9 d".split(), k=chance.randint(1, 5)))
        lines.append(b"%b ||| t%d ||| 1 0.%d ||| 0-0" % (source, number, number))
    table = tmp_path / "table.gz"
    table.write_bytes(gzip.compress(b"\n".join(lines) + b"\n"))
    (tmp_path / "in").write_bytes(b"\n".join(map(b" ".join, text)))
    phrases = source_phrases([tmp_path / "in"])[(0,)]
    done = filter_table(table, tmp_path / "out.gz", phrases, show_progress=False)
    sentences = [b" " + b" ".join(line) + b" " for line in text]
    expected = [line for line in lines if any(b" " + line.split(b"|||")[0] in s for s in sentences)]
    assert done == Filtered("table.gz", len(expected), 3000)
    assert 300 < len(expected) < 2700
    assert unpacked(tmp_path / "out.gz") == b"\n".join(expected) + b"\n"


def test_nothing_to_keep(tmp_path):
    (tmp_path / "t").write_bytes(b"a ||| b ||| 1\n")
    assert filter_table(tmp_path / "t", tmp_path / "o.gz", set(), show_progress=False).kept == 0
    assert unpacked(tmp_path / "o.gz") == b""


def test_empty_table(tmp_path):
    (tmp_path / "t").touch()
    with pytest.raises(DataError) as caught:
        filter_table(tmp_path / "t", tmp_path / "o", set(), show_progress=False)
    assert str(caught.value) == f"{tmp_path}/t: the table is empty"
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


# -- a model ---------------------------------------------------------------------------------------


def test_what_the_real_script_kept(tmp_path):
    out = tmp_path / "out"
    done = run_filter(GOLDEN / "moses.ini", [GOLDEN / "input"], out)
    assert unpacked(out / "phrase-table.gz") == (GOLDEN / "phrase-table.expected").read_bytes()
    expected = (GOLDEN / "reordering-table.expected").read_bytes()
    assert unpacked(out / "reordering-table.gz") == expected
    assert [(table.name, table.kept, table.entries) for table in done] == [
        ("phrase-table", 32, 45),
        ("reordering-table", 32, 45),
    ]
    text = (GOLDEN / "moses.ini").read_text()
    for name in ("phrase-table", "reordering-table"):
        text = text.replace(f"path={name}", f"path={out / name}.gz")
    assert (out / "moses.ini").read_text() == text


@pytest.mark.moses
def test_what_the_installed_script_keeps(tmp_path):
    moses = shutil.which("moses")
    if moses is None:
        pytest.skip("moses is not on PATH")
    scripts = Path(os.environ.get("MOSES_SCRIPTS") or Path(moses).resolve().parents[1] / "scripts")
    script = scripts / "training" / "filter-model-given-input.pl"
    if not script.is_file():
        pytest.skip(f"there is no training/filter-model-given-input.pl in {scripts}")
    command = ["perl", script, tmp_path / "theirs", "moses.ini", "corpus/tune.en"]
    subprocess.run(command, cwd=DATA, check=True, capture_output=True, timeout=60)
    run_filter(DATA / "moses.ini", [DATA / "corpus" / "tune.en"], tmp_path / "ours")
    theirs = unpacked(tmp_path / "theirs" / "phrase-table.0-0.1.1.gz")
    assert unpacked(tmp_path / "ours" / "phrase-table.gz") == theirs
    assert theirs.count(b"\n") > 1000
    (reordering,) = (tmp_path / "theirs").glob("reordering-table*")
    ours = tmp_path / "ours" / "reordering-table.wbe-msd-bidirectional-fe.gz"
    assert unpacked(ours) == reordering.read_bytes()


TABLE = b"a ||| x ||| 1 1\nb ||| y ||| 1 1\na b ||| z ||| 1 1\n"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with two tables of one name, and an input."""
    monkeypatch.chdir(tmp_path)
    for place in (Path("t.gz"), Path("other", "t.gz")):
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(gzip.compress(TABLE))
    Path("input").write_text("b a\n")
    return tmp_path


def paths_of(ini: Path) -> list[str]:
    return re.findall(r"path=(\S+)", ini.read_text())


def test_tables_of_one_name(model):
    lines = "[feature]\nPhraseDictionaryMemory path=t.gz\nPhraseDictionaryMemory path=other/t\n"
    Path("ini").write_text(lines)
    run_filter(Path("ini"), [Path("input")], Path("out"))
    assert paths_of(Path("out/moses.ini")) == [f"{model}/out/t.gz", f"{model}/out/t.2.gz"]
    assert unpacked(Path("out/t.2.gz")) == b"a ||| x ||| 1 1\nb ||| y ||| 1 1\n"


def test_tables_that_stay_whole(model):
    Path("glue-grammar").write_bytes(TABLE)
    Path("ro.minlexr").touch()
    Path("ini").write_text(
        "[feature]\nPhraseDictionaryMemory path=t.gz\n"
        "PhraseDictionaryMemory path=glue-grammar\n"
        "PhraseDictionaryMemory path=other/t.gz filterable=false\n"
        "LexicalReordering path=ro\nKENLM path=input\n"
    )
    done = run_filter(Path("ini"), [Path("input")], Path("out"))
    assert [table.name for table in done] == ["t.gz"]
    names = ["out/t.gz", "glue-grammar", "other/t.gz", "ro", "input"]
    assert paths_of(Path("out/moses.ini")) == [f"{model}/{name}" for name in names]


def test_signature_goes_with_the_table(model):
    signed = [SignedColumn(1, "p(target | source)", "abc", -50.0)]
    write_signature("t.gz", signed, {})
    Path("ini").write_text("[feature]\nPhraseDictionaryMemory path=t.gz\n")
    run_filter(Path("ini"), [Path("input")], Path("out"))
    assert read_signature("out/t.gz") == signed
    text = Path("out/t.gz.signature.json").read_text()
    assert '"filtered_from": "t.gz"' in text
    assert '"entries": 2' in text


def test_a_missing_file_is_told_before_filtering(model):
    Path("ini").write_text("[feature]\nPhraseDictionaryMemory path=t.gz\nKENLM path=lm\n")
    with pytest.raises(DataError) as caught:
        run_filter(Path("ini"), [Path("input")], Path("out"))
    assert str(caught.value) == 'ini:3: the file of this line is not there: "KENLM path=lm"'
    assert list(Path("out").iterdir()) == []


def test_a_text_table_that_stands_there_only_binarised(model):
    Path("pt.minphr").touch()
    Path("ini").write_text("[feature]\nPhraseDictionaryMemory path=pt\n")
    with pytest.raises(DataError) as caught:
        run_filter(Path("ini"), [Path("input")], Path("out"))
    assert str(caught.value) == f"{model}/pt.gz: cannot read: No such file or directory"
    assert list(Path("out").iterdir()) == []


def test_a_folder_with_a_blank_is_told_before_filtering(model):
    Path("ini").write_text("[feature]\nPhraseDictionaryMemory path=t.gz\n")
    with pytest.raises(UsageError) as caught:
        run_filter(Path("ini"), [Path("input")], Path("o t"))
    path = f"{model}/o t/t.gz"
    why = "it must not be empty, nor have a blank or a # in it"
    assert str(caught.value) == f'moses.ini cannot hold the path "{path}": {why}'
    assert list(Path("o t").iterdir()) == []


@pytest.mark.parametrize("text", ["x", "0,", "9" * 5000, "1_0"])
def test_factors_that_are_no_numbers(text, model):
    line = f"PhraseDictionaryMemory path=t.gz input-factor={text}"
    Path("ini").write_text(f"[feature]\n{line}\n")
    with pytest.raises(DataError) as caught:
        run_filter(Path("ini"), [Path("input")], Path("out"))
    assert str(caught.value) == f"ini:2: not a list of factors: input-factor=0,1: {quoted(line)}"


def test_no_table_to_filter(model):
    Path("ini").write_text("[feature]\nProbingPT path=other\n")
    with pytest.raises(UsageError) as caught:
        run_filter(Path("ini"), [Path("input")], Path("out"))
    assert str(caught.value) == "ini: no PhraseDictionaryMemory or LexicalReordering to filter"
