"""`train` as a user meets it: options, resume, signals, architectures."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from toys import PROGRAM, TOY_TABLE, names

from phrase_scorer.kernels.library import kernels_in_words
from phrase_scorer.models import ARCHITECTURES
from phrase_scorer.models.directory import ModelDirectory

TINY = ["--max-updates", "6", "--batch-pairs", "4", "--validate-every", "3"]


def test_train_then_all_commands(run, folder):
    (folder / "t").write_bytes(TOY_TABLE)
    done = run("train", "t", "--model", "rnn", *TINY)
    assert (done.code, done.out) == (0, "")
    first, chosen, last = done.err.splitlines()
    assert re.fullmatch(
        r"products in (float32|bfloat16): an update is \d+\.\d times as fast in bfloat16 as in "
        r"float32 here \(--precision\)",
        chosen,
    )
    expected = "4 pairs, weighed by their counts; 7 source and 6 target words in the shortlists; "
    assert first == f"{expected}device cpu; kernels: {kernels_in_words()}"
    assert re.fullmatch(
        r"stopped by updates after 6 updates, 0\.\d minutes; best validation \d\.\d{4} nats a "
        r"target symbol \(update [36]\)",
        last,
    )
    (folder / "p").write_text("la maison\tthe house\n")
    (number,) = run("score", "p", "--model", "rnn").out.splitlines()
    assert run("rescore", "t", "out", "--model", "rnn", "--quiet").code == 0
    line = (folder / "out").read_bytes().split(b"\n")[0]
    score = float(line.split(b" ||| ")[2].split()[-1])
    assert np.log(score) == pytest.approx(float(number), abs=1e-5)
    assert run("check", "out").out.splitlines()[-1] == (
        "out: 4 entries with 3 scores; 0 errors, 0 warnings"
    )
    facts = json.loads(run("info", "rnn", "--json").out)
    assert facts["updates"] == 6
    assert facts["data"]["path"] == "t"
    assert facts["data"]["pairs"] == 4
    assert facts["training"]["batch_pairs"] == 4


def test_train_inverse_scores_the_source(run, folder):
    (folder / "t").write_bytes(TOY_TABLE)
    done = run("train", "t", "--model", "rnn", "--direction", "inverse", *TINY)
    assert done.code == 0
    told = "4 pairs, weighed by their counts; 6 source and 7 target words in the shortlists; "
    assert done.err.startswith(told)
    assert b"house" in (folder / "rnn" / "source.vocab").read_bytes()
    assert json.loads(run("info", "rnn", "--json").out)["direction"] == "inverse"


def test_train_will_not_overwrite_a_model_unless_told(run, folder):
    (folder / "t").write_bytes(TOY_TABLE)
    assert run("train", "t", "--model", "rnn", *TINY).code == 0
    before = (folder / "rnn" / "model.safetensors").read_bytes()
    done = run("train", "t", "--model", "rnn", *TINY)
    expected = "rnn holds a model; --resume continues it, --overwrite replaces it"
    assert (done.code, done.error) == (2, expected)
    assert (folder / "rnn" / "model.safetensors").read_bytes() == before
    assert run("train", "t", "--model", "rnn", "--overwrite", "--seed", "2", *TINY).code == 0
    assert (folder / "rnn" / "model.safetensors").read_bytes() != before


def test_nothing_to_resume(run, folder):
    (folder / "t").write_bytes(TOY_TABLE)
    done = run("train", "t", "--model", "rnn", "--resume", *TINY)
    expected = "rnn: nothing to resume: there is no training_state.safetensors"
    assert (done.code, done.error) == (1, expected)
    assert names(folder) == ["t"]


def test_weight_by_count(run, folder):
    (folder / "t").write_bytes(TOY_TABLE)
    (folder / "t.tsv").write_bytes(b"".join(map(tab_separated, TOY_TABLE.splitlines())))

    def weights(*options: str) -> bytes:
        assert run("train", *options, "--model", "m", "--overwrite", *TINY).code == 0
        return (folder / "m" / "model.safetensors").read_bytes()

    weighed, once = weights("t", "--weight-by-count"), weights("t", "--every-pair-once")
    assert weighed != once
    assert weights("t") == weighed
    assert weights("t.tsv") == once
    paper = ["t", "--preset", "paper", "--hidden", "3", "--embedding", "3"]
    assert weights(*paper) == weights(*paper, "--every-pair-once")
    also = ["t", "--also", "t.tsv"]
    assert weights(*also) == weights(*also, "--every-pair-once")


def tab_separated(line: bytes) -> bytes:
    return b"\t".join(line.split(b" ||| ")[:2]) + b"\n"


@pytest.mark.parametrize("how", ["--weight-by-count", "--every-pair-once"])
def test_a_training_that_goes_on_keeps_its_weighting(run, folder, how):
    (folder / "t").write_bytes(TOY_TABLE)
    assert run("train", "t", "--model", "m", how, *TINY).code == 0
    assert run("train", "t", "--model", "m", "--resume", "--max-updates", "9").code == 0
    other = {"--weight-by-count": "--every-pair-once"}.get(how, "--weight-by-count")
    done = run("train", "t", "--model", "m", "--resume", "--max-updates", "12", other)
    assert done.code != 0
    assert "weighting" in done.last_error


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_signal_saves_the_state_and_resume_continues(name, code, run, folder):
    (folder / "t").write_bytes(TOY_TABLE)
    settings = ["--schedule", "constant", "--batch-pairs", "2", "--patience", "0"]
    started = subprocess.Popen(
        [*PROGRAM, "train", "t", "--model", "rnn", "--max-updates", "1000000", *settings],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        _wait_for_a_line(folder / "rnn" / "training_log.jsonl")
        started.send_signal(getattr(signal, name))
        out, err = started.communicate(timeout=30)
    finally:
        started.kill()
    assert (started.returncode, out) == (code, b"")
    *_, stopped, hint = err.decode().splitlines()
    assert hint == "the state is saved; --resume continues"
    match = re.match(rf"stopped by {name} after (\d+) updates, ", stopped)
    assert match, stopped
    updates = int(match[1])
    assert updates >= 50
    more = str(updates + 3)
    done = run("train", "t", "--model", "rnn", "--resume", "--max-updates", more, *settings)
    assert done.code == 0
    assert done.err.splitlines()[-1].startswith(f"stopped by updates after {more} updates, ")


def _wait_for_a_line(path: Path) -> None:
    for _ in range(600):
        if path.exists() and path.stat().st_size:
            return
        time.sleep(0.05)
    raise AssertionError("the training did not begin")


# -- architectures ---------------------------------------------------------------------------------


TRAIN = ["--max-updates", "2", "--batch-pairs", "4", "--hidden", "8", "--quiet"]


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(
    "options",
    [
        ["--cell", "lstm", "--forget-bias", "1"],
        ["--cell", "rnn"],
        ["--architecture", "seq2seq", "--layers", "3"],
        ["--dropout", "0.2"],
        ["--architecture", "attention", "--direction", "inverse"],
        ["--architecture", "transformer", "--heads", "2", "--positions", "learned"],
        ["--architecture", "decoder_only", "--shared-words", "--feed-forward", "12"],
        ["--architecture", "masked", "--heads", "4"],
    ],
    ids=" ".join,
)
def test_train_resume_score_and_rescore(run, folder, options):
    assert run("train", "table", "--model", "m", *TRAIN, *options)[0] == 0
    config = ModelDirectory(folder / "m").model_config()
    assert config.hidden == 8
    for option, value in zip(options[::2], options[1::2], strict=False):
        name = option.removeprefix("--").replace("-", "_")
        if name != "shared_words":
            assert str(getattr(config, name)) in (value, f"{value}.0")
    again = run("train", "table", "--model", "m", *TRAIN, *options, "--resume")
    assert again[0] == 0
    assert run("score", "table", "--model", "m", "--output", "scores")[0] == 0
    scores = np.loadtxt(folder / "scores")
    assert len(scores) == 8
    assert (scores < 0).all()
    model = "--inverse-model" if config.direction == "inverse" else "--model"
    assert run("rescore", "table", "out", model, "m", "--quiet")[0] == 0
    columns = [
        line.split(b" ||| ")[2].split() for line in (folder / "out").read_bytes().splitlines()
    ]
    np.testing.assert_allclose([float(c[2]) for c in columns], np.exp(scores), rtol=1e-4)
    if config.shared_words:
        words = [(folder / "m" / f"{side}.vocab").read_bytes() for side in ("source", "target")]
        assert words[0] == words[1]
        assert b"\nthe\n" in words[0]
        assert b"\nla\n" in words[0]


@pytest.mark.usefixtures("table")
def test_another_architecture_cannot_resume(run, folder):
    assert run("train", "table", "--model", "m", *TRAIN)[0] == 0
    code, _, error = run(
        "train", "table", "--model", "m", *TRAIN, "--architecture", "attention", "--resume"
    )
    assert code == 1
    assert error.splitlines()[-1] == (
        "error: m: cannot resume: architecture was encoder_decoder, now attention"
    )


TIME = ["--max-minutes", "0.02", "--hidden", "8", "--validate-every", "1000000"]


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("options", [[], ["--schedule", "timed"]])
def test_a_timed_training_fills_its_time(run, folder, options, monkeypatch):
    """So does any that only --max-minutes ends."""
    monkeypatch.setattr("phrase_scorer.runtime.progress.LOG_SECONDS", 0.3)
    code, _, error = run("train", "table", "--model", "m", *TIME, *options)
    assert code == 0
    assert "stopped by minutes after" in error
    assert re.search(r"^training: [3-9]\d %, [01] s left", error, re.M)  # of the time
    log = [
        json.loads(line) for line in (folder / "m" / "training_log.jsonl").read_text().splitlines()
    ]
    rates = [line["learning_rate"] for line in log if "learning_rate" in line]
    assert log[-1]["seconds"] >= 1.2
    assert not rates or rates[-1] < 4e-3
    settings = json.loads((folder / "m" / "config.json").read_bytes())["training"]
    assert (settings["schedule"], settings["minutes"]) == ("timed", 0.02)


@pytest.mark.usefixtures("table")
def test_info_tells_the_last_validation(run, folder):
    """Also that out of turn, at the end, which the state does not know."""
    assert run("train", "table", "--model", "m", *TRAIN[:-1], "--validation-pairs", "2")[0] == 0
    code, out, _ = run("info", "m", "--json")
    facts = json.loads(out)
    log = (folder / "m" / "training_log.jsonl").read_text().splitlines()
    loss = json.loads(log[-1])["validation_loss"]
    assert (code, facts["updates"]) == (0, 2)
    assert facts["validation"]["loss"] == pytest.approx(loss, abs=1e-4)
    assert facts["validation"]["update"] == 2
    assert "validation: update" in run("info", "m")[1]


@pytest.mark.usefixtures("table")
def test_a_limit_of_time_keeps_a_chosen_schedule(run, folder):
    assert run("train", "table", "--model", "m", *TIME, "--max-updates", "900000")[0] == 0
    settings = json.loads((folder / "m" / "config.json").read_bytes())["training"]
    assert (settings["schedule"], settings["minutes"]) == ("linear", 0.0)
    resumed = [*TIME, "--resume", "--quiet", "--max-updates", "900000"]
    assert "stopped by minutes" in run("train", "table", "--model", "m", *resumed)[2]


@pytest.mark.usefixtures("table")
def test_a_timed_training_is_resumed_as_timed(run):
    began = ["train", "table", "--model", "m", *TIME, "--quiet"]
    assert run(*began)[0] == 0
    for more in (["--max-minutes", "0.02"], []):
        code, _, error = run(*began[:4], *TIME[2:], "--quiet", "--resume", *more)
        assert (code, "stopped by minutes after" in error) == (0, True)
    more = ["--max-minutes", "0.03"]
    code, _, error = run(*began[:4], *TIME[2:], "--resume", *more)
    assert code == 0
    assert "minutes was 0.02, from now on 0.03" in error.splitlines()
    assert "stopped by minutes after" in error


CHOICES = ", ".join(ARCHITECTURES)


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--architecture", "bert"], f"unknown architecture 'bert'; choose from {CHOICES}"),
        (["--cell", "elman"], "unknown cell 'elman'; choose from rnn, lstm, gru"),
        (
            ["--architecture", "transformer", "--hidden", "10", "--heads", "4"],
            "hidden 10 cannot be divided among 4 heads; choose heads from 1, 2, 5, 10",
        ),
        (["--layers", "2"], "layers 2: encoder_decoder has no use for it"),
        (["--shared-words"], "shared_words True: encoder_decoder has no use for it"),
        (
            ["--architecture", "transformer", "--cell", "lstm"],
            "cell lstm: transformer has no use for it",
        ),
        (["--schedule", "timed"], "--schedule timed needs --max-minutes"),
        (["--heads", "3"], "heads 3: encoder_decoder has no use for it"),
        (["--heads", "4"], "heads 4: encoder_decoder has no use for it"),  # though the default
        (["--forget-bias", "1"], "forget_bias 1.0: gru has no use for it"),
        (
            ["--cell", "lstm", "--forget-bias", "nan"],
            "--forget-bias must be a number from -1000000 to 1000000, not nan",
        ),
        (["--hidden", "0"], "--hidden must be a whole number from 1 to 2147483647, not 0"),
    ],
)
def test_impossible_models(run, folder, options, message):
    code, out, error = run("train", "table", "--model", "m", *options)
    assert (code, out, error) == (2, "", f"error: {message}\n")
    assert not (folder / "m").exists()


def test_numbers_of_the_products_in_training(run, folder):
    """Without --precision they are the preset's, and nothing of it is told to `Arithmetic`."""
    (folder / "t").write_bytes(TOY_TABLE)
    found = {}
    for name in ("none", "auto", "float32", "bfloat16"):
        options = [] if name == "none" else ["--precision", name]
        done = run("train", "t", "--model", name, *options, *TINY)
        assert (done.code, "products in " in done.err) == (0, name in ("none", "auto"))
        known = json.loads((folder / name / "config.json").read_bytes())
        found[name] = known["training"]["precision"]
    assert (found["float32"], found["bfloat16"]) == ("float32", "bfloat16")
    assert {found["none"], found["auto"]} <= {"float32", "bfloat16"}


@pytest.mark.parametrize("options", [[], ["--validation-pairs", "0"]])
def test_one_pair_is_not_enough(run, folder, options):
    (folder / "p").write_bytes(b"la\tthe\nle\tthe\n" if not options else b"la\tthe\n")
    ran = run("train", "p", "--model", "m", *options)
    held_out = 0 if options else 1
    expected = f"p: 1 pair to train on, {held_out} held out to validate: too few"
    assert (ran.code, ran.last_error) == (1, expected)
    assert not (folder / "m").exists()


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("again", [[], ["--shortlist", "5"], ["--preset", "small"]])
def test_what_is_not_given_at_a_resume_stays_as_it_was(run, folder, again):
    how = ["train", "table", "--model", "m", "--batch-pairs", "4", "--hidden", "8"]
    how += ["--precision", "float32", "--max-updates"]
    assert run(*how, "2", "--shortlist", "5").code == 0
    before = json.loads((folder / "m" / "config.json").read_bytes())
    if again[:1] == ["--preset"]:
        again = [*again, "--shortlist", "5"]
    done = run(*how, "3", "--resume", *again)
    assert done.code == 0
    assert "max_updates was 2, from now on 3" in done.err.splitlines()
    after = json.loads((folder / "m" / "config.json").read_bytes())
    assert after["model"] == before["model"]
    assert before["model"]["target_words"] == 6


@pytest.mark.usefixtures("table")
def test_a_sampled_softmax_is_resumed_as_one(run):
    """Though the shortlist is so small that a preset would not sample it."""
    how = ["train", "table", "--model", "m", "--batch-pairs", "4", "--hidden", "8"]
    assert run(*how, "--max-updates", "2", "--softmax", "sampled").code == 0
    assert run(*how, "--max-updates", "3", "--resume").code == 0
    done = run(*how, "--max-updates", "3", "--resume", "--softmax", "full")
    assert (done.code, done.last_error) == (1, "m: cannot resume: softmax was sampled, now full")


def test_hold_out_by_trigrams(run, folder):
    (folder / "pairs").write_text("".join(f"a b c{i} d\tx y{i}\n" for i in range(40)))
    (folder / "short").write_text("".join(f"a b{i}\tx y{i}\n" for i in range(40)))
    how = ["--hold-out", "trigrams", "--validation-pairs", "5", "-q", *TINY]
    assert run("train", "pairs", "--model", "m", *how).code == 0
    assert json.loads((folder / "m" / "config.json").read_text())["training"]["hold_out"] == (
        "trigrams"
    )
    done = run("train", "pairs", "--model", "m", "--resume", "--hold-out", "sources", "-q")
    assert (done.code, done.error) == (1, "m: cannot resume: hold_out was trigrams, now sources")
    done = run("train", "short", "--model", "n", *how)
    expected = "no source phrase has three words: no trigrams to hold out"
    assert (done.code, done.error) == (1, expected)
    done = run("train", "pairs", "--also", "short", "--mix", "1,1", "--model", "n", *how)
    assert (done.code, done.error) == (2, "--hold-out trigrams: not with --mix")
    assert names(folder) == ["m", "pairs", "short"]
