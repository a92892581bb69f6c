"""The configuration of an experiment: what is read from TOML, and each refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

from moses_integration.experiment.config import Experiment, file_name
from phrase_scorer.errors import DataError

GOOD = """
moses_ini = "model/moses.ini"
threads = 2
[tuning]
source = "val.en"
reference = "/abs/val.fr"
runs = 2
options = ["--nbest", "50"]
[[test]]
name = "test 2016"
source = "../t.en"
reference = "t.fr"
[[network]]
name = "forward"
pairs = "table.gz"
options = ["--weight-by-count"]
[[network]]
name = "inverse"
model = "there"
[[system]]
name = "Baseline"
[[system]]
name = "RNN + WP"
models = ["forward"]
inverse_models = ["inverse"]
unknown_words = true
weights = [0.1, 0.0, 0.2]
"""


@pytest.fixture
def write(tmp_path: Path):
    def written(text: str) -> Path:
        path = tmp_path / "e.toml"
        path.write_text(text)
        return path

    return written


def test_everything_is_read(write, tmp_path):
    experiment = Experiment.read(write(GOOD))
    assert experiment.moses_ini == str(tmp_path / "model" / "moses.ini")
    assert experiment.tuning.source == str(tmp_path / "val.en")
    assert experiment.tuning.reference == "/abs/val.fr"
    assert (experiment.tuning.runs, experiment.tuning.options) == (2, ("--nbest", "50"))
    assert experiment.tests[0].source == str(tmp_path.parent / "t.en")
    assert experiment.networks[0].pairs == str(tmp_path / "table.gz")
    assert (experiment.networks[0].model, experiment.networks[1].pairs) == ("", "")
    baseline, system = experiment.systems
    assert (baseline.networks, baseline.unknown_words) == ((), False)
    assert system.networks == ("forward", "inverse")
    assert system.weights == (0.1, 0.0, 0.2)
    assert (experiment.threads, experiment.lowercase) == (2, False)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('moses_ini = "model/moses.ini"', "", "moses_ini is missing"),
        ("threads = 2", "thread = 2", 'unknown key in the file (known: language_model, lowercase, '
         'moses_ini, network, reranking, system, test, threads, tuning): "thread"'),
        ("runs = 2", "runz = 2", 'unknown key in [tuning] (known: name, options, reference, runs, '
         'source): "runz"'),
        ('name = "Baseline"', 'name = "Baseline"\nlanguage_models = ["x"]',
         'Baseline names no [[language_model]]: "x"'),
        ("[[system]]\nname = \"Baseline\"",
         '[[language_model]]\nname = "x"\narpa = "a"\n[[system]]\nname = "Baseline"',
         'give text or model, one of both: "x"'),
        ('source = "val.en"\n', "", "missing in [tuning]: 'source'"),
        ('name = "test 2016"\n', "", "missing in [[test]]: 'name'"),
        ("[tuning]", "[[tuning]]", "[tuning] must be a table"),
        ("[[test]]", "[test]", "[[test]] must be an array of tables"),
        ('name = "inverse"', 'name = "Forward"', 'two names lead to one file: "forward"'),
        ('name = "RNN + WP"', 'name = "+"', 'a name needs a letter or a digit: "+"'),
        ('inverse_models = ["inverse"]', 'inverse_models = ["x"]',
         'RNN + WP names no [[network]]: "x"'),
        ('model = "there"', "", 'give pairs or model, one of both: "inverse"'),
        ("threads = 2", "threads = 0", 'threads in the file must be from 1 to 4,096: "0"'),
        ("threads = 2", 'threads = "two"', 'threads in the file must be a whole number: "two"'),
        ("threads = 2", "lowercase = 1", 'lowercase in the file must be true or false: "1"'),
        ("runs = 2", "runs = 0", 'runs in [tuning] must be from 1 to 1,000: "0"'),
        ('"--nbest", "50"', '"--nbest", 50', 'options in [tuning] must be a list of texts: '
         '"[\'--nbest\', 50]"'),
        ("0.1, 0.0", "0.1, true", 'weights in [[system]] must be a list of numbers: '
         '"[0.1, True, 0.2]"'),
        ("threads = 2", f"threads = 0x{'f' * 5000}",
         'threads in the file must be from 1 to 4,096: "…"'),
        ("runs = 2", "runs = 1000000000", 'runs in [tuning] must be from 1 to 1,000: "1000000000"'),
        ("0.1, 0.0", "0.1, nan", 'weights must be finite: "nan"'),
        ('name = "Baseline"', 'name = "Base\\u0000"', 'name in [[system]] has a NUL: "Base\\x00"'),
        ('source = "val.en"', 'source = "val\\u0000"', 'source in [tuning] has a NUL: "val\\x00"'),
        ('model = "there"', 'model = "a"\npairs = "b"', 'give pairs or model, one of both: '
         '"inverse"'),
    ],
)  # fmt: skip
def test_refusals(old, new, message, write):
    assert old in GOOD
    path = write(GOOD.replace(old, new, 1))
    with pytest.raises(DataError) as caught:
        Experiment.read(path)
    assert str(caught.value) == f"{path}: {message}"


RERANKED = """
[reranking]
size = 50
options = ["--optimizer", "mira"]
[[language_model]]
name = "cslm"
text = "t.fr"
arpa = "lm.arpa"
nbest_of = "Baseline"
share = 0.5
[[system]]
name = "CSLM"
language_models = ["cslm"]
[[system]]
name = "reranked"
nbest_of = "CSLM"
models = ["forward"]
language_models = ["cslm"]
"""


def test_n_best_lists(write):
    experiment = Experiment.read(write(GOOD + RERANKED))
    assert (experiment.reranking.size, experiment.reranking.options) == (
        50,
        ("--optimizer", "mira"),
    )
    assert (experiment.language_models[0].nbest_of, experiment.language_models[0].share) == (
        "Baseline", 0.5,
    )  # fmt: skip
    assert experiment.systems[-1].nbest_of == "CSLM"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('nbest_of = "Baseline"', 'nbest_of = "reranked"',
         'nbest_of cslm must be a decoded [[system]] that stands before: "reranked"'),
        ('nbest_of = "CSLM"', 'nbest_of = "reranked"',
         'nbest_of reranked must be a decoded [[system]] that stands before: "reranked"'),
        ('models = ["forward"]', 'models = ["forward"]\nunknown_words_of = "Baseline"',
         'reranked names no model: "Baseline"'),
        ('models = ["forward"]', 'unknown_words_of = "cslm"',
         'unknown words are a column beside those of models: "reranked"'),
        ('name = "cslm"', 'name = "forward"',
         'a [[network]] and a [[language_model]] have one name: "forward"'),
        ('models = ["forward"]', 'models = ["forward"]\nunknown_words_of = "cslm"\n'
         'unknown_words = true', 'give unknown_words or unknown_words_of, one of both: "reranked"'),
        ('share = 0.5', 'share = 0', 'share in [[language_model]] must be above 0 and at most 1: '
         '"0"'),
        ('share = 0.5', 'share = "half"', 'share in [[language_model]] must be a number: "half"'),
        ('share = 0.5', 'prune = -1', 'prune in [[language_model]] must be from 0 to 1: "-1"'),
        ('size = 50', 'size = 0', 'size in [reranking] must be from 1 to 2,147,483,647: '
         '"0"'),
        ('size = 50', 'size = true', 'size in [reranking] must be a whole number: "True"'),
        ('nbest_of = "CSLM"', 'nbest_of = ["CSLM"]', 'nbest_of in [[system]] must be a text: '
         '"[\'CSLM\']"'),
        ('models = ["forward"]', 'models = "forward"', 'models in [[system]] must be a list of '
         'texts: "forward"'),
        ('[[system]]\nname = "CSLM"\nlanguage_models = ["cslm"]\n', '[[system]]\nname = "CSLM"\n'
         '[[language_model]]\nname = "other"\nmodel = "m"\narpa = "a"\nnbest_of = "x"\n',
         'nbest_of other is no decoded [[system]]: "x"'),
        ('nbest_of = "CSLM"\n', 'nbest_of = "CSLM"\nensemble = true\n',
         'nbest_of goes without ensemble and weights: "reranked"'),
        ('models = ["forward"]\nlanguage_models = ["cslm"]\n', "",
         'nbest_of needs models: "reranked"'),
        ("[reranking]", "[reranking]\nsort = 1",
         'unknown key in [reranking] (known: options, size): "sort"'),
    ],
)  # fmt: skip
def test_refusals_about_n_best_lists(old, new, message, write):
    assert old in RERANKED
    path = write(GOOD + RERANKED.replace(old, new, 1))
    with pytest.raises(DataError) as caught:
        Experiment.read(path)
    assert str(caught.value) == f"{path}: {message}"


def test_whole_numbers_stay_as_they_are_written(write):
    """They are options of commands, and a command that changes is run again."""
    experiment = Experiment.read(write(GOOD.replace("0.0, 0.2", "0, 1")))
    assert repr(experiment.systems[1].weights) == "(0.1, 0, 1)"


def test_the_tuning_set_has_a_name_for_the_reports(write):
    assert Experiment.read(write(GOOD)).tuning.name == "tuning set"
    named = GOOD.replace("[tuning]", '[tuning]\nname = "val"')
    assert Experiment.read(write(named)).tuning.name == "val"


@pytest.mark.parametrize("name", ["Tuning-Set", "VAL"])
def test_no_test_is_called_like_the_tuning_set(name, write):
    named = GOOD.replace("[tuning]", '[tuning]\nname = "val"')
    path = write(named.replace("test 2016", name))
    with pytest.raises(DataError) as caught:
        Experiment.read(path)
    assert str(caught.value) == f'{path}: a [[test]] needs another name: "{name}"'


@pytest.mark.parametrize("text", ["threads = " + "9" * 5000, "a = " + "[" * 50_000, "a = '\xe9'"])
def test_toml_that_python_cannot_hold(text, tmp_path):
    (tmp_path / "e.toml").write_text(text, "latin-1")
    with pytest.raises(DataError, match=r"e\.toml: not TOML: "):
        Experiment.read(tmp_path / "e.toml")


def test_toml_that_would_take_minutes(write):
    """Python's reader is quadratic in the parts of a key."""
    for text, message in (
        (f"threads = 2\na{'.b' * 30_000} = 1\n", ':2: a key of more than 500 parts: "a.b.b'),
        (f"x = {'[' * 100_000}", ": more than 65,536 characters"),
    ):
        path = write(text)
        with pytest.raises(DataError) as caught:
            Experiment.read(path)
        assert str(caught.value).startswith(f"{path}{message}")


def test_no_toml(write, tmp_path):
    with pytest.raises(DataError, match=r"e\.toml: not TOML: "):
        Experiment.read(write("a = "))
    with pytest.raises(DataError, match="no: cannot read: No such file or directory"):
        Experiment.read(tmp_path / "no")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("RNN + WP", "rnn-wp"), ("test2016", "test2016"), ("../x", "x"), ("a.b/c", "a.b-c")],
)
def test_names_of_files(name, expected):
    assert file_name(name) == expected
