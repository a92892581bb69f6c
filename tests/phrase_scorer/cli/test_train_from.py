"""Training from another model, on several files, and with TensorBoard, as a user meets it."""

from __future__ import annotations

import json
import random
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from toys import TOY_TABLE

from phrase_scorer import ModelError, PhraseScorer, UsageError, train
from phrase_scorer.models.directory import ModelDirectory

SIZES = ["--hidden", "8", "--embedding", "6"]
TINY = ["--batch-pairs", "8", "--validate-every", "3", "--precision", "float32"]
HERE = ["train", "here", "--model", "m"]


def lines(seed: int, count: int, words: list[str]) -> str:
    draw = random.Random(seed)
    found = {tuple(draw.choices(words, k=draw.randint(1, 3))) for _ in range(count)}
    return "".join(f"{' '.join(s)}\t{' '.join(f't{word}' for word in s)}\n" for s in sorted(found))


@pytest.fixture
def files(run, folder):
    words = [f"w{number}" for number in range(30)]
    (folder / "there").write_text(lines(1, 200, words[:24]))
    (folder / "here").write_text(lines(2, 60, words[20:]))
    assert run("train", "there", "--model", "rnn", *SIZES, *TINY, "--max-updates", "6").code == 0


def state(path: str) -> dict[str, torch.Tensor]:
    parts, _ = ModelDirectory(Path(path)).load_state()
    return {f"{part}/{name}": value for part in parts for name, value in parts[part].items()}


def assert_same(one: str, other: str) -> None:
    first, second = state(one), state(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.usefixtures("files")
def test_from_a_model(run, folder):
    done = run(*HERE, "--from", "rnn", *TINY, "--max-updates", "6")
    assert done.code == 0
    told = done.err.splitlines()[0]
    assert re.fullmatch(
        r"warning: 6 source words \(\d\d\.\d% of all: w2\d .* …\) and 6 target words \(.*tw2\d .*"
        r"\) are <unk>: the words are those of rnn: other casing, .*", told
    ), told  # fmt: skip
    facts = json.loads(run("info", "m", "--json").out)
    before = json.loads(run("info", "rnn", "--json").out)
    assert facts["start"] == {"path": "rnn", "fingerprint": before["fingerprint"]}
    assert "start" not in before
    assert (facts["hidden"], facts["embedding"]) == (8, 6)
    assert facts["training"]["learning_rate"] == before["training"]["learning_rate"] / 4
    for side in ("source", "target"):
        name = f"{side}.vocab"
        assert (folder / "m" / name).read_bytes() == (folder / "rnn" / name).read_bytes()
    assert "start: fingerprint" in run("info", "m").out


@pytest.mark.usefixtures("files")
def test_it_begins_with_the_weights_of_that_model(run, folder):
    """And keeps them where training makes nothing better."""
    much = ["--learning-rate", "1000", "--max-updates", "3"]
    done = run(*HERE, "--from", "rnn", *TINY, *much)
    assert done.code == 0
    assert "(update 0)" in done.err.splitlines()[-1]
    first = (folder / "m" / "training_log.jsonl").read_text().splitlines()[0]
    assert json.loads(first)["update"] == 0
    pairs = [("w20 w21", "tw20"), ("w2", "tw2 tw3")]
    one, other = (PhraseScorer.load(name, "cpu").score(pairs) for name in ("m", "rnn"))
    assert one.tolist() == other.tolist()
    assert run(*HERE, *TINY, *much[:2], "--resume", "--max-updates", "4").code == 0
    assert PhraseScorer.load("m", "cpu").score(pairs).tolist() == other.tolist()


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("again", [[], ["--from", "rnn"], ["--from", "copy"]])
def test_a_training_from_a_model_is_resumed(run, folder, again):
    how = [*TINY, "--schedule", "constant", "--average-updates", "2"]
    assert run(*HERE, "--from", "rnn", *how, "--max-updates", "11").code == 0
    shutil.copytree(folder / "rnn", folder / "copy")
    other = ["train", "here", "--model", "o"]
    assert run(*other, "--from", "rnn", *how, "--max-updates", "4").code == 0
    if not again:
        shutil.rmtree(folder / "rnn")
    assert run(*other, *how, "--resume", *again, "--max-updates", "11").code == 0
    assert_same("m", "o")


@pytest.mark.usefixtures("files")
def test_an_inverse_model_goes_on_as_one(run):
    inverse = ["--direction", "inverse", *SIZES, *TINY, "--max-updates", "3"]
    assert run("train", "there", "--model", "i", *inverse).code == 0
    assert run(*HERE, "--from", "i", *TINY, "--max-updates", "3").code == 0
    assert json.loads(run("info", "m", "--json").out)["direction"] == "inverse"
    assert run(*HERE, "--resume", *TINY, "--max-updates", "4").code == 0


@pytest.mark.usefixtures("files")
def test_shared_words_and_dropout(run):
    sizes = [*SIZES[:2], "--layers", "1", "--heads", "2", "--feed-forward", "8"]
    kind = ["--architecture", "transformer", "--shared-words", *sizes]
    assert run("train", "there", "--model", "t", *kind, *TINY, "--max-updates", "3").code == 0
    more = [*TINY, "--max-updates", "3", "--dropout", "0.2"]
    assert run(*HERE, "--from", "t", "--shared-words", *more).code == 0
    facts = json.loads(run("info", "m", "--json").out)
    assert (facts["architecture"], facts["shared_words"]) == ("transformer", True)
    assert facts["dropout"] == 0.2
    done = run(*HERE, "--overwrite", "--from", "rnn", "--shared-words")
    assert (done.code, done.error) == (2, "--shared-words: rnn has False")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--hidden", "9"], "--hidden 9: rnn has 8"),
        (["--direction", "inverse"], "--direction inverse: rnn has forward"),
        (["--variant", "groundhog"], "--variant groundhog: rnn has paper"),
        (["--architecture", "seq2seq"], "--architecture seq2seq: rnn has encoder_decoder"),
        (["--preset", "base"], "--preset base: it has hidden 512, rnn has 8"),
        (["--shortlist", "100"], "--shortlist: the words are those of --from rnn"),
    ],
)
def test_what_contradicts_that_model(run, folder, options, message):
    done = run(*HERE, "--from", "rnn", *options)
    assert (done.code, done.error) == (2, message)
    assert not (folder / "m").exists()


@pytest.mark.usefixtures("files")
def test_a_model_does_not_replace_itself(run):
    done = run("train", "here", "--from", "./rnn/", "--model", "rnn", "--overwrite")
    assert (done.code, done.error) == (2, "--from rnn and --model are the same directory")


@pytest.mark.usefixtures("files")
def test_what_is_no_model(run, folder):
    for name, message in (
        ("here", "here: not a model directory: it is a file"),
        ("no", "no: not a model directory: it does not exist"),
    ):
        done = run(*HERE, "--from", name)
        assert (done.code, done.error) == (1, message)
    shutil.copytree(folder / "rnn", folder / "broken")
    weights = folder / "broken" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    done = run(*HERE, "--from", "broken")
    expected = "damaged, or not of this model: its SHA-256 is not that in config.json"
    assert (done.code, done.error) == (1, f"broken/model.safetensors: {expected}")
    weights.unlink()
    done = run(*HERE, "--from", "broken")
    assert done.code == 1
    assert "incomplete: model.safetensors is missing" in done.error
    with pytest.raises(ModelError, match="no: not a model directory"):
        train("here", "m", start="no")
    assert not (folder / "m").exists()


@pytest.mark.usefixtures("files")
def test_resumed_from_another_model(run):
    assert run(*HERE, "--from", "rnn", *TINY, "--max-updates", "3").code == 0
    one, other = (ModelDirectory(Path(name)).fingerprint() for name in ("rnn", "m"))
    assert run(*HERE, "--resume", "--shortlist", "9").error == (
        "--shortlist: the words are those of the model it began from"
    )
    more = [*TINY, "--max-updates", "9"]
    assert run("train", "here", "--model", "n", "--from", "m", *more).code == 0
    done = run("train", "here", "--model", "n", "--from", "rnn", "--resume", *more)
    expected = f"n: cannot resume: it began from m ({other}), not from rnn ({one})"
    assert (done.code, done.error) == (1, expected)
    done = run("train", "there", "--model", "rnn", "--from", "m", "--resume")
    expected = f"rnn: cannot resume: it began from no other model, not from m ({other})"
    assert (done.code, done.error) == (1, expected)


def test_a_language_model_goes_on(run, folder):
    words = [f"w{number % 7}" for number in range(200)]
    (folder / "text").write_text("".join(" ".join(words[n : n + 5]) + "\n" for n in range(60)))
    (folder / "more").write_text("w1 w2 new\n" * 30)
    small = ["--hidden", "8", "--embedding", "6", "--second-hidden", "6", "--order", "3"]
    how = ["--max-updates", "3", "--batch-sentences", "8"]
    assert run("train-lm", "text", "--model", "lm", *small, *how).code == 0
    done = run("train-lm", "more", "--model", "m", "--from", "lm", *how)
    assert done.code == 0
    assert "1 target words (33.3% of all: new …) are <unk>: the words are those of lm" in done.err
    assert json.loads(run("info", "m", "--json").out)["start"]["path"] == "lm"
    assert run("train-lm", "more", "--model", "m", "--resume", *how).code == 0
    done = run("train-lm", "more", "--model", "n", "--from", "lm", "--order", "5")
    assert (done.code, done.error) == (2, "--order 5: lm has 3")
    done = run("train-lm", "more", "--model", "n", "--from", "lm", "--min-count", "1")
    assert (done.code, done.error) == (2, "--min-count: the words are those of --from lm")
    done = run("train-lm", "more", "--model", "m", "--resume", "--min-count", "1", *how)
    assert (done.code, done.error) == (
        2, "--min-count: the words are those of the model it began from"
    )  # fmt: skip
    (folder / "p").write_text("la\tthe\n" * 3)
    done = run("train", "p", "--model", "n", "--from", "lm")
    assert (done.code, done.error) == (1, "lm: a model that train-lm goes on from: cslm")


@pytest.mark.usefixtures("files")
def test_the_same_in_python(run):
    from phrase_scorer import Choices

    assert run(*HERE, "--from", "rnn", *TINY, "--max-updates", "3", "--device", "cpu").code == 0
    chosen = Choices(batch_pairs=8, validate_every=3, precision="float32", max_updates=3)
    train("here", "o", start="rnn", choices=chosen, device="cpu")
    assert_same("m", "o")
    mixed = ["--also", "there", "--mix", "1,2", "--model", "m", "--overwrite"]
    assert run("train", "here", *mixed, *SIZES, *TINY, "--max-updates", "3").code == 0
    chosen = Choices(
        batch_pairs=8, validate_every=3, precision="float32", max_updates=3, hidden=8, embedding=6
    )
    train("here", "o", also=["there"], mix=[1, 2], choices=chosen, device="cpu", overwrite=True)
    assert_same("m", "o")
    with pytest.raises(UsageError, match="pairs of a program go with no file"):
        train([("a", "b")], "x", also=["here"])
    with pytest.raises(UsageError, match="a share of --mix must be a finite number above 0"):
        train("here", "x", also=["there"], mix=[1, float("nan")])


@pytest.mark.usefixtures("files")
def test_several_files_are_as_one(run, folder):
    (folder / "all").write_text((folder / "here").read_text() + (folder / "there").read_text())
    how = [*SIZES, *TINY, "--max-updates", "4"]
    assert run("train", "all", "--model", "one", *how).code == 0
    assert run(*HERE, "--also", "there", *how).code == 0
    assert_same("one", "m")
    assert json.loads(run("info", "m", "--json").out)["data"]["path"] == "here and there"


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("weighed", [False, True])
def test_mixed_files_are_resumed(run, folder, weighed):
    (folder / "t").write_bytes(TOY_TABLE)
    (folder / "u").write_bytes(TOY_TABLE.replace(b"la", b"une").replace(b"le", b"un"))
    names = ["t", "--also", "u"] if weighed else ["here", "--also", "there"]
    how = [*names, "--mix", "3,1", *SIZES, *TINY, "--schedule", "constant"]
    how += ["--weight-by-count", "--validation-pairs", "2"] if weighed else []
    done = run("train", *how, "--model", "m", "--max-updates", "9")
    assert done.code == 0
    first, other = ("t (4)", "u (4)") if weighed else ("here (", "there (")
    assert re.search(
        rf"^mixed: 75\.0% {re.escape(first)}.*, 25\.0% {re.escape(other)}", done.err, re.M
    )
    assert run("train", *how, "--model", "o", "--max-updates", "4").code == 0
    assert run("train", *how, "--model", "o", "--resume", "--max-updates", "9").code == 0
    assert_same("m", "o")
    for mix, now in (("2,2", "0.5, 0.5"), (None, "none")):
        other_mix = [*how[:3], *(["--mix", mix] if mix else []), *how[5:]]
        done = run("train", *other_mix, "--model", "o", "--resume", "--max-updates", "9")
        expected = f"o: cannot resume: mix was 0.75, 0.25, now {now}"
        assert (done.code, done.last_error) == (1, expected)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mix", "3,1"], "--mix: 2 shares, but 1 to mix (--also)"),
        (["--also", "there", "--mix", "3"], "--mix: 1 share, but 2 to mix (--also)"),
        (["--also", "there", "--mix", "3,0"],
         '--mix must be numbers above 0 with commas between, such as 3,1, not "3,0"'),
        (["--also", "there", "--mix", "3,nan"],
         '--mix must be numbers above 0 with commas between, such as 3,1, not "3,nan"'),
        (["--also", "there", "--mix", ""],
         '--mix must be numbers above 0 with commas between, such as 3,1, not ""'),
        (["--also", "here"], "here is given twice"),
        (["--also", "./here"], "./here is given twice"),
        (["--also", "-", "--also", "-"], "- is given twice"),
    ],
)  # fmt: skip
def test_impossible_mixtures(run, folder, options, message):
    done = run(*HERE, *options)
    assert (done.code, done.error) == (2, message)
    assert not (folder / "m").exists()


@pytest.mark.usefixtures("files")
def test_a_file_that_cannot_be_mixed(run, folder):
    (folder / "t").write_bytes(TOY_TABLE)
    (folder / "empty").touch()
    done = run(*HERE, "--also", "empty")
    assert (done.code, done.last_error) == (1, "empty: no pairs to train on")
    done = run(*HERE, "--also", "no")
    assert (done.code, done.last_error) == (1, "no: cannot read: No such file or directory")
    done = run("train", "t", "--also", "here", "--model", "m", "--weight-by-count")
    assert done.code == 2
    assert done.last_error == "--weight-by-count needs a phrase table with counts"
    done = run("train", "there", "--also", "t", "--model", "t", "--overwrite")
    assert (done.code, done.error) == (2, "--model t is a file, not a directory")


def test_tensorboard_that_is_not_there(run, folder, monkeypatch):
    monkeypatch.setattr("phrase_scorer.training.events.find_spec", lambda _: None)
    (folder / "t").write_bytes(TOY_TABLE)
    done = run("train", "t", "--model", "m", "--tensorboard", "runs")
    expected = "--tensorboard needs the package tensorboard: pip install tensorboard"
    assert (done.code, done.error) == (2, expected)
    monkeypatch.setattr("phrase_scorer.training.events.find_spec", lambda _: True)
    done = run("train", "t", "--model", "m", "--tensorboard", "t")
    assert (done.code, done.error) == (2, "--tensorboard t is a file, not a directory")
    assert sorted(path.name for path in folder.iterdir()) == ["t"]


def curves(path: str) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(path)
    found.Reload()
    names = found.Tags()["scalars"]
    return {name: [(each.step, each.value) for each in found.Scalars(name)] for name in names}


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="the package tensorboard is not there")
@pytest.mark.filterwarnings("ignore")  # of that package
@pytest.mark.usefixtures("files")
def test_events_are_read_back(run, folder):
    how = [*SIZES, *TINY, "--patience", "0", "--tensorboard", "runs"]
    assert run(*HERE, *how, "--max-updates", "70").code == 0
    logged = [json.loads(line) for line in (folder / "m" / "training_log.jsonl").open()]
    found = curves("runs")
    assert found.keys() == {"train_loss", "gradient_norm", "learning_rate", "validation_loss"}
    for name, points in found.items():
        expected = [(line["update"], line[name]) for line in logged if name in line]
        assert points == [(step, pytest.approx(value, rel=1e-6)) for step, value in expected]
    # A run that was killed after its last checkpoint: what came after that is not shown twice.
    shutil.copytree(folder / "m", folder / "killed")
    resumed = ["train", "here", "--model", "m", *how, "--resume"]
    assert run(*resumed, "--max-updates", "130").code == 0
    shutil.rmtree(folder / "m")
    (folder / "killed").rename(folder / "m")
    assert run(*resumed, "--max-updates", "110").code == 0
    found = curves("runs")
    steps = [step for step, _ in found["train_loss"]]
    assert steps == [50, 100]
    steps = [step for step, _ in found["validation_loss"]]
    assert steps == [*range(3, 70, 3), 70, *range(72, 110, 3), 110]
    again = ["train", "here", "--model", "m", *how, "--overwrite"]
    assert run(*again, "--max-updates", "50").code == 0
    found = curves("runs")
    assert [step for step, _ in found["train_loss"]] == [50]
