"""moses.ini made to fit its tables: expected files by hand; binarised tables by Moses' programs."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from moses_integration.cli import main
from moses_integration.formats.moses_ini import MosesIni
from moses_integration.system.fitting import count_scores, fit_ini
from phrase_scorer.errors import DataError, UsageError

ENTRY = "la maison ||| the house ||| 0.9 0.6 0.5 0.4 0.03 ||| 0-0 1-1 ||| 4 4 3 ||| |||\n"
MEMORY = "PhraseDictionaryMemory"
ONDISK = "PhraseDictionaryOnDisk"
COMPACT = "PhraseDictionaryCompact"


def line(path: object, n: int = 4, *, name: str = "name=TM0 ", kind: str = MEMORY) -> str:
    return f"{kind} {name}num-features={n} path={path} input-factor=0 output-factor=0"


def content(*features: str, weights: str = "TM0= 0.20 0.2 0.2 0.2") -> str:
    listed = "\n".join(features)
    return (
        f"# kept\n[feature]\nWordPenalty\n{listed} # too\n\n[weight]\nWordPenalty0= -1\n{weights}\n"
    )


def parsed(text: str, folder: Path) -> MosesIni:
    return MosesIni.parse(text.encode(), folder / "moses.ini")


def fitted(text: str, folder: Path, **arguments: object) -> str:
    return fit_ini(parsed(text, folder), **{"weight": 0.1, **arguments})[0].to_bytes().decode()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table with five scores."""
    with gzip.open(tmp_path / "table.gz", "wt") as stream:
        stream.write(ENTRY * 3)
    return tmp_path / "table.gz"


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_num_features_and_weights_become_those_of_the_table(suffix, table, tmp_path):
    path = tmp_path / f"table{suffix}"  # EMS leaves .gz off
    expected = content(line(path, 5), weights="TM0= 0.20 0.2 0.2 0.2 0.1")
    assert fitted(content(line(path)), tmp_path) == expected


def test_several_new_scores(table, tmp_path):
    text = content(line(table, 2) + " tuneable-components=1,0", weights="TM0= 0.1 0.2")
    expected = content(
        line(table, 5) + " tuneable-components=1,0,1,1,1", weights="TM0= 0.1 0.2 0.5 0.5 0.5"
    )
    assert fitted(text, tmp_path, weight=0.5) == expected


def test_missing_weights_are_ones(table, tmp_path):
    """As Moses takes them (FeatureFunction.cpp)."""
    text = content(line(table), weights="Distortion0= 0.3")
    expected = content(line(table, 5), weights="Distortion0= 0.3\nTM0= 1 1 1 1 0.1")
    assert fitted(text, tmp_path) == expected


def test_what_fits_is_the_same(table, tmp_path):
    ini = parsed(content(line(table, 5), weights="TM0= 1 1 1 1 1"), tmp_path)
    after, (fit,) = fit_ini(ini, weight=0.1)
    assert after is ini
    assert (fit.table.name, fit.scores, fit.new_columns) == ("TM0", 5, 0)


def test_path_seen_from_the_folder_of_the_ini(table, tmp_path):
    assert "num-features=5 path=table " in fitted(content(line("table")), tmp_path)


def test_all_tables_but_those_without_entries_of_their_own(table, tmp_path):
    text = content(
        line(table),
        line(table, 2, name="name=TM1 "),
        line("glue-grammar", 1, name="name=TM2 "),
        "PhraseDictionaryGroup name=G members=TM0,TM1 num-features=6 default-scores=0",
        weights="TM0= 1 1 1 1\nTM1= 1 1\nTM2= 1\nG= 1 1 1 1 1 1",
    )
    expected = text.replace("num-features=4", "num-features=5").replace(
        "name=TM1 num-features=2", "name=TM1 num-features=5"
    )
    expected = expected.replace("TM0= 1 1 1 1\n", "TM0= 1 1 1 1 0.1\n")
    expected = expected.replace("TM1= 1 1\n", "TM1= 1 1 0.1 0.1 0.1\n")
    assert fitted(text, tmp_path) == expected
    only_one = fitted(text, tmp_path, name="TM1")
    assert "TM0= 1 1 1 1\n" in only_one
    assert "TM1= 1 1 0.1 0.1 0.1\n" in only_one


def test_weights_before_features_and_unnamed_tables(tmp_path):
    (tmp_path / "pt").mkdir()
    (tmp_path / "pt" / "Misc.dat").write_text("Version 8\nNumScores 5\n")
    text = f"[weight]\nX0= 1\n[feature]\n{line('pt', name='', kind=ONDISK)}\n"
    assert fitted(text, tmp_path) == (
        f"[weight]\nX0= 1\n{ONDISK}0= 1 1 1 1 0.1\n"
        f"[feature]\n{line('pt', 5, name='', kind=ONDISK)}\n"
    )


def test_compact_table_by_the_signature_of_its_text_table(table, model_path, tmp_path):
    arguments = ["rescore", str(table), str(tmp_path / "new.gz"), "--model", str(model_path)]
    assert main([*arguments, "--quiet"]) == 0
    (tmp_path / "new.minphr").touch()
    for path in ("new", "new.minphr"):
        text = content(line(path, kind=COMPACT))
        expected = content(line(path, 6, kind=COMPACT), weights="TM0= 0.20 0.2 0.2 0.2 0.1 0.1")
        assert fitted(text, tmp_path) == expected


def test_scores_where_the_table_does_not_tell(tmp_path):
    (tmp_path / "pt.minphr").touch()
    text = content(line("pt", kind=COMPACT))
    expected = content(line("pt", 5, kind=COMPACT), weights="TM0= 0.20 0.2 0.2 0.2 0.1")
    assert fitted(text, tmp_path, scores=5) == expected


def test_a_table_that_does_not_tell_beside_one_that_does(table, tmp_path):
    text = content(
        line(table), line("x", 1, name="name=T1 ", kind="PhraseDictionaryTransliteration")
    )
    after, fits = fit_ini(parsed(text, tmp_path), weight=0.1)
    assert [(fit.table.name, fit.scores, fit.new_columns) for fit in fits] == [
        ("TM0", 5, 1),
        ("T1", None, 0),
    ]
    assert after.phrase_tables[1].num_features == 1


@pytest.mark.moses
@pytest.mark.parametrize(
    ("kind", "command"),
    [
        (ONDISK, "CreateOnDiskPt 1 1 5 100 2 table.gz pt"),
        (
            "ProbingPT",
            "CreateProbingPT --num-scores 5 --log-prob --input-pt table.gz --output-dir pt",
        ),
    ],
)
def test_binarised_tables_by_what_moses_notes(kind, command, table, tmp_path):
    program = command.split()[0]
    if shutil.which("moses") is None or shutil.which(program) is None:
        pytest.skip(f"{program} of Moses is not on the PATH")
    subprocess.run(command.split(), cwd=tmp_path, capture_output=True, check=True, timeout=60)
    text = content(line("pt", kind=kind))
    expected = content(line("pt", 5, kind=kind), weights="TM0= 0.20 0.2 0.2 0.2 0.1")
    assert fitted(text, tmp_path) == expected


# -- refusals --------------------------------------------------------------------------------------


def refusal(text: str, folder: Path, **arguments: object) -> str:
    with pytest.raises((DataError, UsageError)) as caught:
        fitted(text, folder, **arguments)
    return str(caught.value).replace(f"{folder}/", "")


def test_fewer_scores_than_num_features(table, tmp_path):
    text = content(line("table", 6), weights="TM0= 1 1 1 1 1 1")
    assert refusal(text, tmp_path) == (
        f'moses.ini:4: num-features is 6 but the phrase table has 5 scores: "{line("table", 6)}"'
    )


@pytest.mark.parametrize("features", [4, 5])
def test_weights_that_did_not_fit_before(features, table, tmp_path):
    text = content(line("table", features), weights="TM0= 1 1 1")
    assert refusal(text, tmp_path) == (
        f'moses.ini:8: TM0 has 3 weights but num-features is {features} in line 4: "TM0= 1 1 1"'
    )


def test_table_that_is_not_there(tmp_path):
    assert refusal(content(line("gone")), tmp_path) == (
        f'moses.ini:4: the phrase table of this line is not there: "{line("gone")}"'
    )


def test_table_without_path(tmp_path):
    feature = f"{MEMORY} name=TM0 num-features=4"
    assert refusal(content(feature), tmp_path) == (
        f'moses.ini:4: no path= on the line of the phrase table: "{feature}"'
    )


@pytest.mark.parametrize(
    ("first", "message"),
    [
        ("", "the phrase table is empty"),
        ("\n", 'blank line: ""'),
        ("a ||| b\n", '2 fields, expected at least 3 (source ||| target ||| scores): "a ||| b"'),
    ],
)
def test_first_entry_that_is_none(first, message, tmp_path):
    (tmp_path / "bad").write_text(first)
    place = "bad: " if not first else "bad:1: "
    assert refusal(content(line("bad")), tmp_path) == place + message


def test_binarised_table_that_notes_nothing(tmp_path):
    (tmp_path / "pt").mkdir()
    text = content(line("pt", kind=ONDISK))
    assert refusal(text, tmp_path) == "pt/Misc.dat: cannot read: No such file or directory"
    (tmp_path / "pt" / "Misc.dat").write_text("Version 8\n")
    assert refusal(text, tmp_path) == "pt/Misc.dat: no number of scores in it"
    (tmp_path / "pt" / "Misc.dat").write_text(f"NumScores {'9' * 5000}\n")
    assert refusal(text, tmp_path) == "pt/Misc.dat: no number of scores in it"


def test_no_table_tells(tmp_path):
    (tmp_path / "pt.minphr").touch()
    assert refusal(content(line("pt", kind=COMPACT)), tmp_path) == (
        "moses.ini:4: TM0 does not say how many scores it has; give --scores N, with --table-name "
        f'where there are several tables: "{line("pt", kind=COMPACT)}"'
    )


def test_choices_that_do_not_fit(table, tmp_path):
    text = content(line("table"), line("table", name="name=TM1 "))
    assert refusal(text, tmp_path, name="TM2") == (
        'moses.ini: no phrase table "TM2" among TM0, TM1; choose one with --table-name'
    )
    assert refusal(text, tmp_path, scores=5) == (
        "moses.ini: --scores is for one table; give --table-name: TM0, TM1"
    )
    assert refusal("[feature]\nWordPenalty\n", tmp_path) == (
        "moses.ini: no phrase table in [feature]"
    )
    assert refusal(content(line("table")), tmp_path, weight=float("nan")) == (
        "every new column needs a finite start weight, given: nan"
    )


def test_count_of_a_class_we_do_not_know(tmp_path):
    (table,) = parsed(content(line("pt", kind="Mmsapt")), tmp_path).phrase_tables
    assert count_scores(table) is None


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture
def ini(table, tmp_path) -> Path:
    path = tmp_path / "moses.ini"
    path.write_text(content(line(table)))
    return path


def test_command_in_place_through_a_link(ini, table, tmp_path, capsys):
    (tmp_path / "link.ini").symlink_to(ini)
    arguments = ["ini", str(tmp_path / "link.ini"), "--in-place"]
    assert main(arguments) == 0
    expected = content(line(table, 5), weights="TM0= 0.20 0.2 0.2 0.2 0.1")
    assert ini.read_text() == expected
    assert (tmp_path / "link.ini").is_symlink()
    place = f"{tmp_path}/link.ini:4: TM0: "
    assert capsys.readouterr() == ("", f"{place}num-features 4 -> 5; new weights: 0.1\n")
    before = ini.stat()
    assert main(arguments) == 0
    assert (ini.stat().st_ino, ini.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert capsys.readouterr() == ("", f"{place}5 scores, as num-features says\n")


def test_command_in_place_keeps_mode_and_owner(ini):
    ini.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(ini, 1234, 2345)
    before = ini.stat()
    assert main(["ini", str(ini), "--in-place"]) == 0
    after = ini.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode, before.st_uid, before.st_gid,
    )  # fmt: skip
    assert after.st_ino != before.st_ino


def test_command_writes_elsewhere(ini, table, tmp_path, capsys):
    expected = content(line(table, 5), weights="TM0= 0.20 0.2 0.2 0.2 0.3")
    before = ini.read_bytes()
    assert main(["ini", str(ini), "--output", "-", "--weight", "0.3"]) == 0
    assert capsys.readouterr().out == expected
    new = tmp_path / "new.ini"
    assert main(["ini", str(ini), "--output", str(new), "--weight", "0.3"]) == 0
    assert new.read_text() == expected
    assert ini.read_bytes() == before
    assert main(["ini", str(new), "--output", str(tmp_path / "same.ini")]) == 0
    assert (tmp_path / "same.ini").read_text() == expected


def test_command_says_what_it_leaves(ini, table, capsys):
    other = line("x", 1, name="name=T1 ", kind="PhraseDictionaryTransliteration")
    ini.write_text(content(line(table), other, weights="TM0= 1 1 1 1\n[weight-overwrite]\nTM0= 1"))
    assert main(["ini", str(ini), "--in-place"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"{ini}:4: TM0: num-features 4 -> 5; new weights: 0.1",
        f"warning: {ini}:11: [weight-overwrite] needs 1 more entry for TM0",
        f"{ini}:5: T1: left as it is: PhraseDictionaryTransliteration does not say its number of "
        "scores",
    ]


@pytest.mark.parametrize("options", [[], ["--in-place", "--output", "-"]])
def test_command_wants_one_place(options, ini, capsys):
    assert main(["ini", str(ini), *options]) == 2
    assert capsys.readouterr().err == "error: give --output FILE or --in-place\n"


def test_command_leaves_the_ini_alone_upon_an_error(ini, table, tmp_path, capsys):
    ini.write_text(content(line(table, 6), weights="TM0= 1 1 1 1 1 1"))
    before = ini.read_bytes()
    assert main(["ini", str(ini), "--in-place"]) == 1
    assert capsys.readouterr().err.startswith(f"error: {ini}:4: num-features is 6 but")
    assert ini.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moses.ini", "table.gz"]
