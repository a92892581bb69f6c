"""Only what is edited changes: every other byte of moses.ini stays where it was."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
from toys import GOLDEN

from moses_integration.formats.ini_edits import (
    existing,
    feature_files,
    find_file,
    weights_of,
    with_absolute_paths,
    with_files,
    with_weight_file,
    with_weights,
)
from moses_integration.formats.moses_ini import MosesIni
from phrase_scorer.errors import DataError, UsageError

INI = b"""\
# caf\xe9, path=not/this
[feature]\r
UnknownWordPenalty
\t PhraseDictionaryMemory  name=TM0\tnum-features=2  path=pt.gz input-factor=0 # path=old.gz
KENLM name=LM0 path=lm.arpa order=3
NoPath name=N0 mypath=x
  [weight]
UnknownWordPenalty0= 1
  TM0= 0.2  0.3 # tuned by hand
# LM0= 9
LM0= 0.5\r
"""


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


# -- files -----------------------------------------------------------------------------------------


def test_lines_with_a_path():
    found = [(file.item.line, file.class_name, file.path) for file in feature_files(of(INI))]
    assert found == [(4, "PhraseDictionaryMemory", "pt.gz"), (5, "KENLM", "lm.arpa")]


def test_new_files_byte_for_byte():
    after = with_files(of(INI), {4: ("ProbingPT", "/new/\\1pt"), 5: ("KENLM", "/lm")}).to_bytes()
    assert after == INI.replace(
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
        with_files(of(INI), {5: ("KENLM", path)})
    why = "it must not be empty, nor have a blank or a # in it"
    assert str(caught.value) == f'moses.ini cannot hold the path "{shown}": {why}'


def test_a_file_is_sought_here_and_beside_the_ini(folder):
    (folder / "model" / "pt").touch()
    assert find_file("pt", "model/moses.ini") == folder / "model" / "pt"
    (folder / "pt.gz").touch()
    assert find_file("pt", "model/moses.ini") == folder / "pt"  # first here, as Moses does
    assert existing(folder / "pt") == folder / "pt.gz"
    assert find_file(str(folder / "model" / "pt"), "model/moses.ini") == folder / "model" / "pt"


@pytest.mark.parametrize("end", ["", ".gz", ".minphr", ".minlexr", ".binphr.idx", ".binlexr.idx"])
def test_names_that_moses_completes(end, folder):
    (folder / f"table{end}").touch()
    assert find_file("table", "moses.ini") == folder / "table"


def test_a_folder_is_a_file_too(folder):
    (folder / "ondisk").mkdir()
    assert find_file("ondisk", "moses.ini") == folder / "ondisk"


def test_no_such_file(folder):
    with pytest.raises(DataError) as caught:
        find_file("pt", "model/moses.ini")
    assert str(caught.value) == 'model/moses.ini: moses.ini names a file that is not there: "pt"'


def test_absolute_paths(folder):
    (folder / "model" / "pt.gz").touch()
    (folder / "lm.arpa").touch()
    after = with_absolute_paths(of(INI, Path("model"))).to_bytes()
    expected = INI.replace(b"path=pt.gz", b"path=%b/model/pt.gz" % bytes(folder))
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
        with_absolute_paths(of(INI))
    line = '"KENLM name=LM0 path=lm.arpa order=3"'
    assert str(caught.value) == f"moses.ini:5: the file of this line is not there: {line}"


# -- weights ---------------------------------------------------------------------------------------


def test_weights_by_name():
    expected = {"UnknownWordPenalty0": (1.0,), "TM0": (0.2, 0.3), "LM0": (0.5,)}
    assert weights_of(of(INI)) == expected
    assert list(weights_of(of(INI))) == list(expected)


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
        weights_of(of(b"[weight]\nA0= 1\nB0= 0,5\n"))
    assert str(caught.value) == 'moses.ini:3: a weight is not a number: "B0= 0,5"'


def test_new_weights_byte_for_byte():
    after = with_weights(of(INI), {"TM0": (0.125, -1e-7), "LM0": (2.0,)}).to_bytes()
    assert changes(INI, after) == [
        (b"  TM0= 0.2  0.3 # tuned by hand\n", b"  TM0= 0.125 -1e-07 # tuned by hand\n"),
        (b"LM0= 0.5\r\n", b"LM0= 2\r\n"),
    ]


def test_same_weights_no_change():
    before = INI.replace(b"0.2  0.3", b"0.2 0.3")
    assert with_weights(of(before), weights_of(of(before))).to_bytes() == before


def test_weights_of_new_features():
    after = with_weights(of(INI), {"New0": (1, 2)}).to_bytes()
    assert after == INI + b"New0= 1 2\n"
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
