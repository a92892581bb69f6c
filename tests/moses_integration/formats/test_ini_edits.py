"""Only what is edited changes: every other byte of moses.ini stays where it was."""

from __future__ import annotations

import difflib
import math
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from toys import FEATURE, MIXED, PLAIN, ROOT

from moses_integration.formats.ini_edits import (
    with_absolute_paths,
    with_columns,
    with_files,
    with_language_model,
    with_weight_file,
    with_weights,
)
from moses_integration.formats.moses_ini import MosesIni, feature_files, weights_of
from phrase_scorer.errors import DataError, UsageError

REAL_INI = ROOT.parent / "shared" / "data" / "multi30k-en-fr" / "moses.ini"


def of(data: bytes, folder: Path | None = None) -> MosesIni:
    return MosesIni.parse(data, (folder or Path()) / "moses.ini")


def changes(before: bytes, after: bytes) -> list[tuple[bytes, bytes]]:
    """(old, new) of each line that differs, by a program that knows nothing of moses.ini."""
    old, new = (data.decode("latin-1").splitlines(keepends=True) for data in (before, after))
    found = []
    for tag, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            parts = "".join(old[i:j]), "".join(new[k:m])
            found.append(tuple(part.encode("latin-1") for part in parts))
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder; the ini's is `model` in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    return tmp_path


# -- columns ---------------------------------------------------------------------------------------


def widened(
    data: bytes, path: str = "new.gz", weights: Sequence[float] = (0.1,), name: str | None = None
) -> MosesIni:
    ini = MosesIni.parse(data)
    return with_columns(ini, ini.phrase_table(name), path=path, start_weights=weights)


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
    assert widened(before).to_bytes() == after


def test_several_columns_and_their_number_format() -> None:
    ini = MosesIni.parse(PLAIN)
    wider = with_columns(
        ini, ini.phrase_table("TM0"), path="n", start_weights=[0, 0.1, -1 / 3, 1e-7]
    )
    assert b"num-features=6" in wider.to_bytes()
    assert wider.to_bytes().endswith(b"TM0= 0.2 0.3 0 0.1 -0.333333 1e-07\n")
    assert ini.to_bytes() == PLAIN  # the old one is as it was
    assert wider.phrase_table().weights == (0.2, 0.3, 0.0, 0.1, -0.333333, 1e-7)


def test_editing_twice_equals_editing_once() -> None:
    once = widened(PLAIN, "n", [0.1, 0.2])
    first = widened(PLAIN, "m", [0.1])
    assert widened(first.to_bytes(), "n", [0.2]).to_bytes() == once.to_bytes()


def test_table_is_chosen_by_name() -> None:
    two = PLAIN.replace(b"[weight]", FEATURE.replace(b"TM0", b"TM1") + b"\n[weight]\nTM1= 7 7")
    edited = widened(two, "n", [0], "TM1").to_bytes()
    assert b"TM1= 7 7 0\n" in edited
    assert FEATURE in edited  # TM0


@pytest.mark.parametrize(
    ("path", "shown"),
    [("a#b", "a#b"), ("a b", "a b"), ("a\tb", r"a\tb"), ("a\n", r"a\n"), ("", "")],
)
def test_path_that_an_ini_cannot_hold(path: str, shown: str) -> None:
    with pytest.raises(UsageError) as caught:
        widened(PLAIN, path)
    assert str(caught.value) == (
        f'moses.ini cannot hold the path "{shown}": it must not be empty, nor have a blank or a # '
        "in it"
    )


@pytest.mark.parametrize(
    ("weights", "shown"), [([], "none"), ([math.nan], "nan"), ([0.1, math.inf], "0.1 inf")]
)
def test_start_weights_that_moses_cannot_use(weights: list[float], shown: str) -> None:
    with pytest.raises(UsageError) as caught:
        widened(PLAIN, "n", weights)
    assert str(caught.value) == f"every new column needs a finite start weight, given: {shown}"


def test_path_outside_utf8_is_written_as_given() -> None:
    path = b"mod\xe9le.gz".decode("utf-8", "surrogateescape")
    edited = widened(PLAIN, path)
    assert b" path=mod\xe9le.gz " in edited.to_bytes()
    assert edited.phrase_table().path == path


@pytest.mark.skipif(not REAL_INI.is_file(), reason="the shared moses.ini is not on this machine")
def test_ini_that_moses_training_wrote() -> None:
    data = REAL_INI.read_bytes()
    ini = MosesIni.read(REAL_INI)
    assert ini.to_bytes() == data
    table = ini.phrase_table()
    assert (table.name, table.num_features) == ("TranslationModel0", 4)
    assert table.weights == (0.2, 0.2, 0.2, 0.2)
    edited = widened(data, "model/new.gz")
    expected = data.replace(
        b"num-features=4 path=model/phrase-table", b"num-features=5 path=model/new"
    )
    old = b"TranslationModel0= 0.2 0.2 0.2 0.2"
    assert edited.to_bytes() == expected.replace(old, old + b" 0.1")


@pytest.mark.skipif(shutil.which("moses") is None, reason="Moses is not on the PATH")
def test_moses_accepts_an_edited_ini(tmp_path: Path) -> None:
    features = b"UnknownWordPenalty\nWordPenalty\nDistortion\n" + FEATURE + b" output-factor=0"
    weights = b"UnknownWordPenalty0= 1\nWordPenalty0= -1\nDistortion0= 0.3\nTM0= 0.2 0.3\n"
    ini = b"[feature]\n" + features + b"\n[weight]\n" + weights
    ini += b"[input-factors]\n0\n[mapping]\n0 T 0\n"
    path = tmp_path / "moses.ini"
    path.write_bytes(widened(ini).to_bytes())
    shown = subprocess.run(
        ["moses", "-f", str(path), "-show-weights"], capture_output=True, check=True, timeout=60
    )
    assert b"TM0= 0.200000 0.300000 0.100000" in shown.stdout


# -- files -----------------------------------------------------------------------------------------


def test_new_files_byte_for_byte():
    after = with_files(of(MIXED), {4: ("ProbingPT", "/new/\\1pt"), 5: ("KENLM", "/lm")}).to_bytes()
    assert after == MIXED.replace(
        b"PhraseDictionaryMemory  name=TM0\tnum-features=2  path=pt.gz ",
        b"ProbingPT  name=TM0\tnum-features=2  path=/new/\\1pt ",
    ).replace(b"lm.arpa", b"/lm")


def test_file_name_of_any_bytes():
    before = b"[feature]\nKENLM name=LM0 path=mod\xe9l\n"
    (file,) = feature_files(of(before))
    assert with_files(of(before), {2: ("KENLM", file.path)}).to_bytes() == before


@pytest.mark.parametrize(("path", "shown"), [("", ""), ("a b", "a b"), ("a#b", "a#b")])
def test_path_that_the_ini_cannot_hold(path, shown):
    with pytest.raises(UsageError) as caught:
        with_files(of(MIXED), {5: ("KENLM", path)})
    why = "it must not be empty, nor have a blank or a # in it"
    assert str(caught.value) == f'moses.ini cannot hold the path "{shown}": {why}'


def test_absolute_paths(folder):
    (folder / "model" / "pt.gz").touch()
    (folder / "lm.arpa").touch()
    after = with_absolute_paths(of(MIXED, Path("model"))).to_bytes()
    expected = MIXED.replace(b"path=pt.gz", b"path=%b/model/pt.gz" % bytes(folder))
    assert after == expected.replace(b"path=lm.arpa", b"path=%b/lm.arpa" % bytes(folder))


def test_text_table_gets_its_whole_name(folder):
    """The decoder reads no NAME.gz for NAME, where the scripts do (LoaderFactory.cpp)."""
    (folder / "pt.gz").touch()
    lines = b"[feature]\nPhraseDictionaryMemory path=pt\nLexicalReordering path=pt\n"
    after = with_absolute_paths(of(lines)).to_bytes()
    here = bytes(folder)
    expected = b"[feature]\nPhraseDictionaryMemory path=%b/pt.gz\nLexicalReordering path=%b/pt\n"
    assert after == expected % (here, here)


def test_absolute_path_of_the_weight_file(folder):
    (folder / "model" / "sparse").touch()
    lines = b"[weight-file]\n sparse # old\n"
    after = with_absolute_paths(of(lines, Path("model"))).to_bytes()
    assert after == b"[weight-file]\n %b/model/sparse # old\n" % bytes(folder)


def test_file_of_a_line_is_not_there(folder):
    (folder / "pt.gz").touch()
    with pytest.raises(DataError) as caught:
        with_absolute_paths(of(MIXED))
    line = '"KENLM name=LM0 path=lm.arpa order=3"'
    assert str(caught.value) == f"moses.ini:5: the file of this line is not there: {line}"


# -- weights ---------------------------------------------------------------------------------------


def test_new_weights_byte_for_byte():
    after = with_weights(of(MIXED), {"TM0": (0.125, -1e-7), "LM0": (2.0,)}).to_bytes()
    assert changes(MIXED, after) == [
        (b"  TM0= 0.2  0.3 # tuned by hand\n", b"  TM0= 0.125 -1e-07 # tuned by hand\n"),
        (b"LM0= 0.5\r\n", b"LM0= 2\r\n"),
    ]


def test_same_weights_no_change():
    before = MIXED.replace(b"0.2  0.3", b"0.2 0.3")
    assert with_weights(of(before), weights_of(of(before))).to_bytes() == before


def test_weights_of_new_features():
    after = with_weights(of(MIXED), {"New0": (1, 2)}).to_bytes()
    assert after == MIXED + b"New0= 1 2\n"
    before = b"[weight]\nA0= 1\n\n[threads]\n2"
    after = with_weights(of(before), {"B0": (3,), "A0": (2,)}).to_bytes()
    assert after == b"[weight]\nA0= 2\nB0= 3\n\n[threads]\n2"


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_section_of_weights_where_there_was_none(end):
    before = b"[feature]\nDistortion" + end
    after = with_weights(of(before), {"Distortion0": (0.3,)}).to_bytes()
    assert after.startswith(before)
    assert after.split() == b"[feature] Distortion [weight] Distortion0= 0.3".split()
    assert weights_of(of(after)) == {"Distortion0": (0.3,)}


def test_last_line_without_an_end():
    after = with_weights(of(b"[weight]\nA0= 1"), {"B0": (1,)}).to_bytes()
    assert after == b"[weight]\nA0= 1\nB0= 1\n"


def test_sparse_weights_replace_others():
    before = b"[weight-file]\nold  # mine\n[weight]\nA0= 1"
    after = with_weight_file(of(before), "/new/sparse")
    assert after.to_bytes() == (
        b"[weight-file]\n# old  # mine\n[weight]\nA0= 1\n\n[weight-file]\n/new/sparse\n"
    )
    assert [item.text for item in after.values("weight-file")] == [b"/new/sparse"]
    assert weights_of(after) == {"A0": (1.0,)}


# -- line ends -------------------------------------------------------------------------------------


@pytest.mark.parametrize("final", [True, False])
def test_new_lines_end_as_the_first_line_does(final):
    before = b"[feature]\r\nDistortion\r\n" + b"[weight]\r\nA0= 1" + b"\r\n" * final
    weights = b"[weight]\r\nA0= 1\r\nB0= 2\r\nC0= 3\r\n"
    after = with_weights(of(before), {"B0": (2,), "C0": (3,)}).to_bytes()
    assert after == b"[feature]\r\nDistortion\r\n" + weights
    after = with_language_model(of(before), "lm.arpa", 3, 0.5).to_bytes()
    lines = b"Distortion\r\nKENLM name=LM0 factor=0 path=lm.arpa order=3\r\n"
    assert after == b"[feature]\r\n" + lines + b"[weight]\r\nA0= 1\r\nLM0= 0.5\r\n"
    after = with_weight_file(of(before), "/sparse").to_bytes()
    assert after == before + b"\r\n" * (not final) + b"\r\n[weight-file]\r\n/sparse\r\n"


def test_new_section_ends_its_lines_as_the_first_line_does():
    before = b"[feature]\r\nDistortion\r\n"
    after = with_weights(of(before), {"Distortion0": (0.3,)}).to_bytes()
    assert after == before + b"\r\n[weight]\r\nDistortion0= 0.3\r\n"


def test_weights_go_into_an_empty_section():
    after = with_weights(of(b"[weight]\n\n[feature]\nDistortion\n"), {"Distortion0": (0.3,)})
    assert after.to_bytes() == b"[weight]\nDistortion0= 0.3\n\n[feature]\nDistortion\n"
