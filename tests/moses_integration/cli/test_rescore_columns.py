"""`rescore` with several columns, and of a folder: order, weights, signatures, what is refused."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
from toys import SOURCE_WORDS, TARGET_WORDS, TOY_INI, save_model

from moses_integration.cli import main
from phrase_scorer.scoring.scorer import PhraseScorer

PAIRS = [("la maison", "the house"), ("la", "that one"), ("le chat noir", ""), ("le", "the")]
TABLE = "".join(f"{s} ||| {t} ||| 0.5 0.25 ||| 0-0 ||| 2 2 1\n" for s, t in PAIRS)
UNKNOWN = [1.0, math.exp(-2), 1.0, 1.0]  # "that one"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two models of each direction, by name."""
    folder = tmp_path_factory.mktemp("models")
    sides = {"forward": (SOURCE_WORDS, TARGET_WORDS), "inverse": (TARGET_WORDS, SOURCE_WORDS)}
    kinds = {"f1": (1, "forward"), "f2": (2, "forward"), "i1": (3, "inverse"), "i2": (4, "inverse")}
    return {
        name: str(save_model(folder / name, *sides[direction], seed=seed, direction=direction))
        for name, (seed, direction) in kinds.items()
    }


@pytest.fixture(autouse=True)
def folder(folder: Path) -> Path:
    """The current folder, with a table and its moses.ini."""
    Path("t").write_text(TABLE)
    Path("ini").write_text(TOY_INI.format("t"))
    return folder


@pytest.fixture
def rescore(run):
    """Runs the command; (exit code, standard error)."""

    def call(*arguments: str) -> tuple[int, str]:
        done = run("rescore", *arguments, "--quiet")
        assert done.out == ""
        return done.code, done.err

    return call


def columns_of(path: str, first: int = 2) -> np.ndarray:
    lines = Path(path).read_text().splitlines()
    return np.array([list(map(float, line.split("|||")[2].split()[first:])) for line in lines]).T


def probabilities(model: str) -> np.ndarray:
    return np.exp(PhraseScorer.load(model, "cpu").score(PAIRS).astype(np.float64))


INI_OPTIONS = ["--moses-ini", "ini", "--moses-ini-out", "new.ini"]


def test_columns_in_the_order_of_their_kinds(models, rescore):
    """Whatever the order of the options: --model, --inverse-model, unknown words."""
    options = ["--unknown-words", "--inverse-model", models["i1"]]
    options += ["--model", models["f2"], "--model", models["f1"]]
    weights = ["--weight", "0.4", "--weight", "0.3", "--weight", "0.2", "--weight", "-0.1"]
    code, said = rescore("t", "new", *options, *weights, *INI_OPTIONS)
    assert code == 0
    assert said.splitlines()[1] == "4 entries scored"  # after the warning of unknown words
    expected = [*(probabilities(models[name]) for name in ("f2", "f1", "i1")), UNKNOWN]
    assert columns_of("new") == pytest.approx(np.array(expected), rel=1e-5)
    assert columns_of("new", 0)[:2].tolist() == [[0.5] * 4, [0.25] * 4]
    new = TOY_INI.format("new").replace("num-features=2", "num-features=6")
    expected_ini = new.replace("0.2 0.3", "0.2 0.3 0.4 0.3 0.2 -0.1")
    assert "constant" not in said
    assert Path("new.ini").read_text() == expected_ini
    signature = json.loads(Path("new.signature.json").read_bytes())
    marks = {name: PhraseScorer.load(models[name], "cpu").fingerprint for name in models}
    assert [(c["place"], c["name"], c["model"]) for c in signature["columns"]] == [
        (2, "p(target | source)", marks["f2"]),
        (3, "p(target | source)", marks["f1"]),
        (4, "p(source | target)", marks["i1"]),
        (5, "unknown target words", marks["f2"]),
    ]


def test_words_unknown_to_another_model(models, rescore):
    """That model gives its shortlist, and no column of its own."""
    options = ["--inverse-model", models["i1"], "--unknown-words-of", models["f2"]]
    assert rescore("t", "new", *options, *INI_OPTIONS)[0] == 0
    assert columns_of("new") == pytest.approx(
        np.array([probabilities(models["i1"]), UNKNOWN]), rel=1e-5
    )
    signature = json.loads(Path("new.signature.json").read_bytes())
    mark = PhraseScorer.load(models["f2"], "cpu").fingerprint
    assert signature["columns"][1]["model"] == mark
    assert signature["columns"][1]["name"] == "unknown target words"


def test_constant_column_of_unknown_words_is_told(models, rescore):
    """No word is outside the shortlist: the column's weight would tell nothing."""
    Path("t").write_text(TABLE.replace("that one", "the cat"))
    options = ["--model", models["f1"], "--unknown-words"]
    assert rescore("t", "new", *options, *INI_OPTIONS) == (
        0,
        "4 entries scored\n"
        "warning: the column of unknown target words is constant: it tells nothing\n"
        "new.ini: TM0 with 4 scores; tune it\n"
        "warning: new.ini: weight 4 of TM0 is of a constant column: nothing to tune\n",
    )
    assert json.loads(Path("new.signature.json").read_bytes())["constant_columns"] == [3]


def test_one_weight_for_all_columns(models, rescore):
    options = ["--model", models["f1"], "--inverse-model", models["i1"]]
    for weight, shown in (([], "0.1 0.1"), (["--weight", "0.7"], "0.7 0.7")):
        assert rescore("t", "new", *options, *weight, *INI_OPTIONS)[0] == 0
        assert Path("new.ini").read_text().endswith(f"TM0= 0.2 0.3 {shown}\n")


def test_ensemble_is_a_column_a_direction(models, rescore):
    options = ["--model", models["f1"], "--model", models["f2"], "--inverse-model", models["i1"]]
    options += ["--inverse-model", models["i2"], "--ensemble", "--unknown-words"]
    assert rescore("t", "new", *options, *INI_OPTIONS)[0] == 0
    means = [
        (probabilities(models["f1"]) + probabilities(models["f2"])) / 2,
        (probabilities(models["i1"]) + probabilities(models["i2"])) / 2,
        UNKNOWN,
    ]
    assert columns_of("new") == pytest.approx(np.array(means), rel=1e-5)
    assert "num-features=5 " in Path("new.ini").read_text()
    names = [c["name"] for c in json.loads(Path("new.signature.json").read_bytes())["columns"]]
    assert names[:2] == [
        "p(target | source), mean of 2 models",
        "p(source | target), mean of 2 models",
    ]


def test_ensemble_with_one_model_of_the_other_direction(models, rescore):
    options = ["--model", models["f1"], "--model", models["f2"], "--inverse-model", models["i1"]]
    assert rescore("t", "new", *options, "--ensemble")[0] == 0
    assert columns_of("new")[1] == pytest.approx(probabilities(models["i1"]), rel=1e-5)


def test_unknown_words_of_an_inverse_model(models, rescore):
    assert rescore("t", "new", "--inverse-model", models["i1"], "--unknown-words")[0] == 0
    expected = [probabilities(models["i1"]), UNKNOWN]
    assert columns_of("new") == pytest.approx(np.array(expected), rel=1e-5)


def test_an_ensemble_is_not_its_models_column(models, rescore):
    assert rescore("t", "one", "--model", models["f1"])[0] == 0
    both = ["--model", models["f1"], "--model", models["f2"]]
    assert rescore("one", "two", *both, "--ensemble")[0] == 0
    code, said = rescore("two", "three", *both, "--ensemble")
    assert code == 1
    mark = "+".join(PhraseScorer.load(models[name], "cpu").fingerprint for name in ("f1", "f2"))
    assert said.endswith(
        "error: two: score 4 of each line is already p(target | source), mean of 2 models of this "
        f"model ({mark}); --allow-duplicate adds it again\n"
    )
    assert not Path("three").exists()


REFUSED = {
    "no model": ([], "give --model DIR, --inverse-model DIR, or several of them"),
    "unknown words alone": (
        ["--unknown-words"],
        "give --model DIR, --inverse-model DIR, or several of them",
    ),
    "ensemble of one": (
        ["--model", "f1", "--inverse-model", "i1", "--ensemble"],
        "--ensemble needs at least two models of one direction",
    ),
    "unknown words twice": (
        ["--model", "f1", "--unknown-words", "--unknown-words-of", "f2"],
        "--unknown-words or --unknown-words-of DIR, not both",
    ),
    "too many weights": (
        ["--model", "f1", "--weight", "1", "--weight", "2"],
        "--weight is given twice, but there is one new column",
    ),
    "too few weights": (
        ["--model", "f1", "--model", "f2", "--unknown-words", "--weight", "1", "--weight", "2"],
        "--weight is given twice, but there are 3 new columns",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_options_that_do_not_go_together(kind, models, rescore, folder):
    options, expected = REFUSED[kind]
    given = [models.get(option, option) for option in options]
    assert rescore("t", "new", *given) == (2, f"error: {expected}\n")
    assert sorted(path.name for path in folder.iterdir()) == ["ini", "t"]


def test_one_model_twice(models, rescore):
    twice = ["--model", models["f1"], "--model", models["f1"]]
    code, said = rescore("t", "new", *twice)
    mark = PhraseScorer.load(models["f1"], "cpu").fingerprint
    expected = f"two of the new columns are p(target | source) of one model ({mark})"
    assert (code, said) == (2, f"error: {expected}; --allow-duplicate adds both\n")
    assert rescore("t", "new", *twice, "--allow-duplicate")[0] == 0
    assert columns_of("new")[0].tolist() == columns_of("new")[1].tolist()


@pytest.mark.parametrize(("option", "wanted"), [("--model", "i1"), ("--inverse-model", "f1")])
def test_model_of_the_other_direction(option, wanted, models, rescore):
    given, direction = "p(source | target)", "forward"
    if option == "--inverse-model":
        given, direction = "p(target | source)", "inverse"
    expected = (
        f"error: {models[wanted]}: the model was trained in the other direction, {given}; "
        f"train one with --direction {direction}\n"
    )
    assert rescore("t", "new", option, models[wanted]) == (1, expected)


def test_estimate_of_several_models(models, capsys):
    options = ["--model", models["f1"], "--inverse-model", models["i1"], "--unknown-words"]
    assert main(["rescore", "t", *options, "--estimate"]) == 0
    assert capsys.readouterr().out.startswith("entries            4 (sample: 4)\n")


# -- a folder made by filter -----------------------------------------------------------------------


@pytest.fixture
def filtered(folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """What `filter` makes of the model for two inputs."""
    Path("one").write_text("la maison\n")
    Path("two").write_text("le chat noir\n")
    command = ["filter", "--moses-ini", "ini", "--input", "one", "two", "--output-dir", "f"]
    assert main([*command, "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("", "t: 4 of 4 entries kept (100.0%)\nf/moses.ini names them\n")
    return folder


def test_folder_becomes_a_folder(filtered, models, rescore):
    options = ["--model", models["f1"], "--unknown-words", "--weight", "0.5", "--weight", "0.6"]
    code, said = rescore("f", "g", *options)
    assert code == 0
    assert said.splitlines()[-1] == "g/moses.ini: TM0 with 4 scores; tune it"
    names = ["moses.ini", "t.gz", "t.gz.signature.json"]
    assert sorted(path.name for path in Path("g").iterdir()) == names
    expected = TOY_INI.format(filtered / "g" / "t.gz").replace("num-features=2", "num-features=4")
    expected = expected.replace("0.2 0.3", "0.2 0.3 0.5 0.6")
    assert Path("g/moses.ini").read_text() == expected
    text = gzip.decompress(Path("g/t.gz").read_bytes()).decode()
    Path("unpacked").write_text(text)
    assert columns_of("unpacked") == pytest.approx(
        np.array([probabilities(models["f1"]), UNKNOWN]), rel=1e-5
    )


def test_folder_again(filtered, models, rescore):
    """A rescored folder can be rescored, but not with the same column."""
    assert rescore("f", "g", "--model", models["f1"])[0] == 0
    assert rescore("g", "h", "--model", models["f2"])[0] == 0
    assert "num-features=4 " in Path("h/moses.ini").read_text()
    code, said = rescore("h", "i", "--model", models["f1"])
    assert code == 1
    assert f"error: {filtered}/h/t.gz: score 3 of each line is already " in said


def test_folder_and_estimate(filtered, models, capsys):
    assert main(["rescore", "f", "--model", models["f1"], "--estimate"]) == 0
    assert capsys.readouterr().out.startswith("entries            4 (sample: 4)\n")


def test_folders_that_are_refused(filtered, models, rescore):
    model = ["--model", models["f1"]]
    Path("empty").mkdir()
    Path("full").mkdir()
    Path("full/file").touch()
    own = "PHRASE_TABLE is a folder: its own moses.ini is read and rewritten"
    cases = {
        ("f", "g", "--moses-ini", "ini"): (2, own),
        ("f", "full"): (2, "OUTPUT full is not empty; choose a new folder"),
        ("f", "f"): (2, "OUTPUT f is not empty; choose a new folder"),
        ("f", "t"): (2, "OUTPUT t: File exists"),
        ("f", "no/g"): (2, "OUTPUT no/g: No such file or directory"),
        ("f", "-"): (2, "PHRASE_TABLE is a folder, so OUTPUT must be one, not -"),
        ("empty", "g"): (1, "empty: not a folder that `filter` made: no moses.ini in it"),
    }
    for arguments, (code, expected) in cases.items():
        assert rescore(*arguments, *model) == (code, f"error: {expected}\n")
    assert not Path("g").exists()


def test_folder_that_a_failure_leaves_can_be_used(filtered, models, rescore):
    Path("f/t.gz").write_bytes(gzip.compress(TABLE.encode() + b"bad\n"))
    code, said = rescore("f", "g", "--model", models["f1"])
    assert code == 1
    assert said.startswith(f"error: {filtered}/f/t.gz:5: 1 field, ")
    assert not Path("g").exists()
    Path("f/t.gz").write_bytes(gzip.compress(TABLE.encode()))
    assert rescore("f", "g", "--model", models["f1"])[0] == 0


@pytest.mark.parametrize(
    "refused", [["--model", "no"], ["--weight", "nan"], ["--model", "f", "--resume"]]
)
def test_a_refusal_leaves_no_folder(refused, filtered, models, rescore):
    assert rescore("f", "g", "--model", models["f1"], *refused)[0] in (1, 2)
    assert not Path("g").exists()


def test_folder_that_filter_did_not_make(rescore, models):
    expected = f"error: {models['f1']}: not a folder that `filter` made: no moses.ini in it\n"
    assert rescore(models["f1"], "out.gz", "--model", models["f1"]) == (1, expected)
