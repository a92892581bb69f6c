"""Training: a toy translation is learned; stopped and resumed is the same as never stopped."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import re
import signal

import numpy as np
import pytest
import torch
from toys import phrase_pairs

from phrase_scorer import PhraseScorer
from phrase_scorer.errors import DataError, ModelError, PhraseScorerError, UsageError
from phrase_scorer.models import ModelConfig
from phrase_scorer.models.directory import ModelDirectory
from phrase_scorer.models.files import Progress
from phrase_scorer.runtime.console import progress_bar
from phrase_scorer.text.batches import pair_batch
from phrase_scorer.text.phrase_pairs import PhrasePairs
from phrase_scorer.text.vocabulary import Vocabulary
from phrase_scorer.training import log as log_module
from phrase_scorer.training import objective as objective_module
from phrase_scorer.training import trainer as training
from phrase_scorer.training.data import TrainingData
from phrase_scorer.training.job import NO_LIMITS, RunLimits, TrainingJob
from phrase_scorer.training.log import TrainingLog, read_log
from phrase_scorer.training.objective import faster_precision
from phrase_scorer.training.settings import TrainingSettings
from phrase_scorer.training.trainer import Trainer, run_training

WORDS = [b"w%d" % i for i in range(10)]
VOCABULARIES = (Vocabulary(WORDS), Vocabulary(WORDS))
CONFIG = ModelConfig(12, 12, hidden=24, embedding=12, maxout=12, output_rank=0)
SETTINGS = TrainingSettings(
    batch_pairs=16,
    optimizer="adamw",
    learning_rate=1e-2,
    initial_deviation=0.1,
    clip_norm=5.0,
    max_updates=12,
    pool_batches=3,
    validation_pairs=20,
    validate_every=4,
    patience=0,
)


@pytest.fixture(scope="module")
def toy() -> PhrasePairs:
    """A word-for-word translation: word i becomes word 13 - i, in the same order."""
    draw = np.random.default_rng(3)
    sources = {tuple(draw.integers(2, 12, draw.integers(1, 4)).tolist()) for _ in range(150)}
    return phrase_pairs([(list(s), [13 - i for i in s]) for s in sorted(sources)])


def job(pairs, path, settings=SETTINGS, config=CONFIG):
    vocabularies = (Vocabulary(WORDS[: config.source_words - 2]),) * 2
    return TrainingJob(TrainingData(pairs, vocabularies), config, settings, path)


def trainer_of(pairs, settings, path):
    return Trainer(job(pairs, path, settings), torch.device("cpu"))


def run(pairs, path, settings=SETTINGS, config=CONFIG, limits=NO_LIMITS, **options):
    return run_training(job(pairs, path, settings, config), limits, show_progress=False, **options)


def weights(path) -> dict[str, torch.Tensor]:
    """The latest (not the best) weights of a training."""
    parts, _ = ModelDirectory(path).load_state()
    return {f"{part}/{n}": v for part in ("model", "optimizer") for n, v in parts[part].items()}


def same(one, other) -> bool:
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["paper", "groundhog"])
def test_learns_a_toy_translation(toy, tmp_path, variant):
    settings = dataclasses.replace(SETTINGS, max_updates=800, validation_pairs=0, schedule="linear")
    run(toy, tmp_path, settings, dataclasses.replace(CONFIG, variant=variant))
    scorer = PhraseScorer.load(tmp_path, "cpu")
    scores = scorer.score_ids(toy)
    symbols = (toy.target.lengths + 1).sum()
    assert -scores.sum() / symbols < 0.05  # ln 12 = 2.48 at the start
    wrong = PhrasePairs(toy.source, toy.source)
    assert (scorer.score_ids(wrong) < scores - 1).mean() > 0.9


def test_a_state_from_before_a_setting_can_be_gone_on_with(toy, tmp_path):
    run(toy, tmp_path)
    directory = ModelDirectory(tmp_path)
    parts, known = directory.load_state()
    del known.settings["precision"]
    directory.save_state(parts, known)
    more = dataclasses.replace(SETTINGS, max_updates=13)
    assert run(toy, tmp_path, more, resume=True).progress.update == 13


def test_a_setting_that_is_gone_is_ignored_where_it_was_0(toy, tmp_path):
    run(toy, tmp_path)
    directory = ModelDirectory(tmp_path)
    parts, known = directory.load_state()
    known.settings["self_normalize"] = 0.0
    directory.save_state(parts, known)
    more = dataclasses.replace(SETTINGS, max_updates=13)
    assert run(toy, tmp_path, more, resume=True).progress.update == 13
    known.settings["self_normalize"] = 0.1
    directory.save_state(parts, known)
    with pytest.raises(DataError) as error:
        run(toy, tmp_path, more, resume=True)
    assert str(error.value) == f"{tmp_path}: cannot resume: self_normalize was 0.1, now 0.0"


def test_the_first_loss_is_the_logarithm_of_the_vocabulary(toy, tmp_path):
    settings = dataclasses.replace(SETTINGS, initial_deviation=0.01)
    trainer = trainer_of(toy, settings, tmp_path)
    assert trainer.validate() == pytest.approx(math.log(12), abs=1e-3)


def test_equal_seeds_give_equal_weights(toy, tmp_path):
    run(toy, tmp_path / "a")
    run(toy, tmp_path / "b")
    run(toy, tmp_path / "c", dataclasses.replace(SETTINGS, seed=2))
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))
    fingerprints = {ModelDirectory(tmp_path / name).fingerprint() for name in "ab"}
    assert len(fingerprints) == 1


@pytest.mark.parametrize("optimizer", ["adamw", "adadelta"])
def test_resumed_is_never_stopped(toy, tmp_path, optimizer):
    whole = dataclasses.replace(SETTINGS, optimizer=optimizer, max_updates=13)
    run(toy, tmp_path / "whole", whole)
    run(toy, tmp_path / "parts", dataclasses.replace(whole, max_updates=5))
    result = run(toy, tmp_path / "parts", whole, resume=True)
    assert result.progress.update == 13
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert (
        ModelDirectory(tmp_path / "whole").fingerprint()
        == ModelDirectory(tmp_path / "parts").fingerprint()
    )


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_saves_the_state(toy, tmp_path, monkeypatch, name):
    settings = dataclasses.replace(SETTINGS, schedule="linear", warmup=3)
    run(toy, tmp_path / "whole", settings)
    update = Trainer.update

    def interrupted(self, batch):
        if self.progress.update == 6:
            os.kill(os.getpid(), getattr(signal, name))
        return update(self, batch)

    handler = signal.getsignal(getattr(signal, name))
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", interrupted)
        stopped = run(toy, tmp_path / "parts", settings)
    assert signal.getsignal(getattr(signal, name)) is handler
    assert (stopped.stopped, stopped.progress.update) == (name, 7)
    run(toy, tmp_path / "parts", settings, resume=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_stops_after_minutes(toy, tmp_path):
    result = run(toy, tmp_path, limits=RunLimits(max_minutes=1e-9))
    assert (result.stopped, result.progress.update) == ("minutes", 0)


def test_early_stopping_keeps_the_best(toy, tmp_path, monkeypatch):
    losses = iter([3.0, 3.5, 2.0, 2.5, 2.4, 2.3])
    monkeypatch.setattr(Trainer, "validate", lambda self: next(losses))
    settings = dataclasses.replace(SETTINGS, max_updates=1000, validate_every=2, patience=3)
    result = run(toy, tmp_path, settings)
    assert result.stopped == "patience"
    assert (result.progress.update, result.progress.best_update) == (12, 6)
    best = ModelDirectory(tmp_path).load_model().state_dict()
    parts, _ = ModelDirectory(tmp_path).load_state()
    assert all(torch.equal(best[name], parts["best"][name]) for name in best)
    assert not all(torch.equal(best[name], parts["model"][name]) for name in best)


def test_validation_is_on_other_sources(toy, tmp_path):
    trainer = trainer_of(toy, SETTINGS, tmp_path)
    held_out = set(trainer.validation.source.hashes().tolist())
    assert held_out
    assert held_out.isdisjoint(trainer.pairs.source.hashes().tolist())


def test_validation_is_the_plain_mean(toy, tmp_path):
    trainer = trainer_of(toy, SETTINGS, tmp_path)
    rows = np.arange(len(trainer.validation))
    plain = trainer.model.log_probs(pair_batch(trainer.validation, rows)).sum()
    symbols = (trainer.validation.target.lengths + 1).sum()
    assert trainer.validate() == pytest.approx(-float(plain.detach()) / symbols, rel=1e-5)


def test_weights_by_count_are_relative(toy, tmp_path):
    counts = np.arange(1, len(toy) + 1, dtype=np.float32)
    for name, factor in (("a", 1), ("b", 4)):
        run(PhrasePairs(toy.source, toy.target, counts * factor), tmp_path / name)
    run(toy, tmp_path / "c")
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_updates_are_groundhogs(toy, tmp_path):
    """paper.md 2.3: a summed objective, cut to norm 1, Adadelta(0.95, 1e-6) from zero sums."""
    settings = dataclasses.replace(
        SETTINGS, optimizer="adadelta", learning_rate=1.0, reduction="sum", clip_norm=1.0
    )
    trainer = trainer_of(toy, settings, tmp_path)
    parameters = [value.detach() for value in trainer.model.parameters()]  # share their memory
    squares = [np.zeros(value.shape) for value in parameters]
    deltas = [np.zeros(value.shape) for value in parameters]
    for batch in list(trainer._batches())[:5]:
        plain = -trainer.model.log_probs(batch).sum()
        gradients = torch.autograd.grad(plain, list(trainer.model.parameters()))
        gradients = [value.double().numpy() for value in gradients]
        norm = math.sqrt(sum(float((value**2).sum()) for value in gradients))
        assert norm > 2  # clipping is at work
        before = [value.double().numpy() for value in parameters]
        loss, found_norm = trainer.update(batch)
        assert float(found_norm) == pytest.approx(norm, rel=1e-4)
        assert float(loss) == pytest.approx(
            float(plain.detach()) / len(batch.target.symbols), rel=1e-5
        )
        for i, gradient in enumerate(gradients):
            cut = gradient / norm
            squares[i] = 0.95 * squares[i] + 0.05 * cut**2
            step = np.sqrt(deltas[i] + 1e-6) / np.sqrt(squares[i] + 1e-6) * cut
            deltas[i] = 0.95 * deltas[i] + 0.05 * step**2
            moved = before[i] - parameters[i].double().numpy()
            np.testing.assert_allclose(moved, step, rtol=2e-3, atol=2e-7)


def test_weights_of_pairs_scale_their_gradients(toy, tmp_path):
    """A batch of one pair with weight 3 (mean 2) has 1.5 times the gradient of the pair alone."""
    two = toy.take(np.array([0, 1]))
    settings = dataclasses.replace(SETTINGS, batch_pairs=1, validation_pairs=0, clip_norm=0.0)
    norms = []
    for pairs in (two, PhrasePairs(two.source, two.target, np.array([1.0, 3.0], np.float32))):
        trainer = trainer_of(pairs, settings, tmp_path)
        norms.append(float(trainer.update(pair_batch(pairs, np.array([1])))[1]))
    assert norms[1] == pytest.approx(1.5 * norms[0], rel=1e-5)


def test_an_update_that_is_not_finite_is_skipped(toy, tmp_path):
    trainer = trainer_of(toy, SETTINGS, tmp_path)
    batches = list(trainer._batches())
    trainer.update(batches[0])
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    broken = torch.full((len(batches[1].target.words[0]),), math.nan)
    trainer.update(dataclasses.replace(batches[1], weights=broken))
    assert trainer.progress.update == 2
    assert same(before, trainer.model.state_dict())
    trainer.update(batches[2])
    assert not same(before, trainer.model.state_dict())
    assert all(value.isfinite().all() for value in trainer.model.state_dict().values())


def test_sum_and_mean_differ_by_the_batch(toy, tmp_path):
    norms = {}
    for reduction in ("mean", "sum"):
        settings = dataclasses.replace(SETTINGS, reduction=reduction)
        trainer = trainer_of(toy, settings, tmp_path)
        batch = next(trainer._batches())
        norms[reduction] = float(trainer.update(batch)[1])
    assert norms["sum"] == pytest.approx(16 * norms["mean"], rel=1e-4)


def test_bfloat16_is_near(toy, tmp_path):
    losses = []
    for precision in ("float32", "bfloat16"):
        settings = dataclasses.replace(SETTINGS, precision=precision)
        trainer = trainer_of(toy, settings, tmp_path)
        losses.append([float(trainer.update(batch)[0]) for batch in trainer._batches()][-1])
    assert losses[0] == pytest.approx(losses[1], abs=0.05)
    assert losses[0] != losses[1]


def test_other_data_or_settings_cannot_be_resumed(toy, tmp_path):
    run(toy, tmp_path)
    half = toy.take(np.arange(50))
    with pytest.raises(DataError) as caught:
        run(half, tmp_path, resume=True)
    assert str(caught.value) == f"{tmp_path}: cannot resume: it was trained on other phrase pairs"
    with pytest.raises(DataError) as caught:
        run(toy, tmp_path, dataclasses.replace(SETTINGS, seed=9), resume=True)
    assert str(caught.value).startswith(f"{tmp_path}: cannot resume: ")
    with pytest.raises(DataError) as caught:
        run(toy, tmp_path, dataclasses.replace(SETTINGS, learning_rate=0.5), resume=True)
    assert str(caught.value) == f"{tmp_path}: cannot resume: learning_rate was 0.01, now 0.5"


def refused(path, data, settings=SETTINGS) -> str:
    """Why a training cannot be gone on with."""
    with pytest.raises(DataError) as caught:
        run_training(TrainingJob(data, CONFIG, settings, path), resume=True, show_progress=False)
    return str(caught.value).removeprefix(f"{path}: cannot resume: ")


def test_other_weights_of_pairs_cannot_be_resumed(toy, tmp_path):
    counts = np.arange(1, len(toy) + 1, dtype=np.float32)
    weighted = PhrasePairs(toy.source, toy.target, counts)
    run(toy, tmp_path / "a")
    found = refused(tmp_path / "a", TrainingData(weighted, VOCABULARIES))
    assert re.fullmatch(r"weighting was none, now by counts \([0-9a-f]{16}\)", found)
    run(weighted, tmp_path / "b")
    found = refused(tmp_path / "b", TrainingData(toy, VOCABULARIES))
    assert re.fullmatch(r"weighting was by counts \([0-9a-f]{16}\), now none", found)


def test_another_text_to_validate_on_cannot_be_resumed(toy, tmp_path):
    """Unless the state is of a version that did not note it."""
    one, other = (TrainingData(toy, VOCABULARIES, toy.take(np.arange(n))) for n in (9, 8))
    job = TrainingJob(one, CONFIG, SETTINGS, tmp_path)
    run_training(job, show_progress=False)
    found = refused(tmp_path, other)
    assert re.fullmatch(r"validation was on [0-9a-f]{16}, now on [0-9a-f]{16}", found)
    found = refused(tmp_path, TrainingData(toy, VOCABULARIES))
    assert re.fullmatch(r"validation was on [0-9a-f]{16}, now on held-out pairs", found)
    directory = ModelDirectory(tmp_path)
    parts, known = directory.load_state()
    directory.save_state(parts, dataclasses.replace(known, validation=None, weighting=None))
    run_training(dataclasses.replace(job, data=other), resume=True, show_progress=False)


def test_other_words_with_the_same_numbers_cannot_be_resumed(toy, tmp_path):
    run(toy, tmp_path)
    renamed = (Vocabulary(WORDS), Vocabulary([b"x", *WORDS[1:]]))
    assert refused(tmp_path, TrainingData(toy, renamed)) == "it was trained on other phrase pairs"


def test_a_state_that_does_not_fit_the_model(toy, tmp_path):
    run(toy, tmp_path)
    directory = ModelDirectory(tmp_path)
    parts, known = directory.load_state()
    for part, name, value in (
        ("best", "output.bias", torch.zeros(11)),
        ("model", "extra", torch.zeros(1)),
        ("optimizer", "output.bias/exp_avg", torch.zeros(1)),
        ("optimizer", "unknown/step", torch.zeros(())),
    ):
        directory.save_state({**parts, part: {**parts[part], name: value}}, known)
        with pytest.raises(ModelError) as caught:
            run(toy, tmp_path, resume=True)
        place = f"first difference: {part}/{name}"
        message = f"not the state of this model ({place})"
        assert str(caught.value) == f"{directory.state_file}: {message}"


@pytest.mark.parametrize("schedule", ["constant", "linear"])
def test_what_may_change_at_a_resume(toy, tmp_path, schedule, capsys):
    """Patience, and the end: a falling learning rate then falls to 0 there."""
    first = dataclasses.replace(SETTINGS, max_updates=2, schedule=schedule)
    run(toy, tmp_path, first)
    longer = dataclasses.replace(first, max_updates=3, patience=9)
    assert run(toy, tmp_path, longer, resume=True).progress.update == 3
    assert "max_updates was 2, from now on 3" in capsys.readouterr().err.splitlines()
    with pytest.raises(DataError) as caught:
        run(toy, tmp_path, longer, dataclasses.replace(CONFIG, maxout=5), resume=True)
    message = "cannot resume: maxout was 12, now 5"
    assert str(caught.value) == f"{tmp_path}: {message}"


def test_nothing_to_resume(toy, tmp_path):
    with pytest.raises(ModelError) as caught:
        run(toy, tmp_path, resume=True)
    message = "nothing to resume: there is no training_state.safetensors"
    assert str(caught.value) == f"{tmp_path}: {message}"


def test_no_pairs(toy, tmp_path):
    with pytest.raises(DataError) as caught:
        run(toy.take(np.zeros(0, np.int64)), tmp_path)
    assert str(caught.value) == "no phrase pairs to train on"


def test_divergence_is_an_error(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "DIVERGED", 3)
    settings = dataclasses.replace(SETTINGS, learning_rate=1e38)
    with pytest.raises(PhraseScorerError) as caught:
        run(toy, tmp_path, settings)
    assert str(caught.value) == (
        "training diverged: no finite gradient in 3 updates up to update 3; lower --learning-rate"
    )


def test_weights_that_are_not_finite_are_not_kept(toy, tmp_path):
    """Where there is nothing to validate on, the latest weights are the best."""
    settings = dataclasses.replace(SETTINGS, learning_rate=1e38, validation_pairs=0)
    with pytest.raises(PhraseScorerError) as caught:
        run(toy, tmp_path, settings)
    assert str(caught.value).startswith("training diverged: weights that are not finite up to ")
    assert not ModelDirectory(tmp_path).weights_file.exists()


def test_a_log_that_cannot_be_written_is_a_data_error(toy, tmp_path):
    run(toy, tmp_path)
    log = ModelDirectory(tmp_path).log_file
    log.unlink()
    log.mkdir()
    with pytest.raises(DataError) as caught:
        run(toy, tmp_path, dataclasses.replace(SETTINGS, max_updates=13), resume=True)
    assert str(caught.value) == f"{log}: cannot write: Is a directory"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"update": 1}', "object missing required field seconds"),
        ('{"update": 1, "seconds": 2, "validation_loss": "x"}', "validation_loss: expected float "
         "| null, got str"),
        ("[" * 100_000, "not JSON that can be used: nested too deep"),
        ('{"update": 1, "sec', "not JSON: Unterminated string starting at (line 1, column 15)"),
    ],
)  # fmt: skip
def test_a_log_of_another_shape(tmp_path, line, message):
    path = tmp_path / "training_log.jsonl"
    path.write_text('{"update": 1, "seconds": 2, "train_loss": NaN}\n' + line + "\n")
    lines = read_log(path)
    assert next(lines).validation_loss is None
    with pytest.raises(DataError) as caught:
        list(lines)
    assert str(caught.value) == f"{path}:2: {message}"


def test_schedules():
    settings = TrainingSettings(learning_rate=2.0, warmup=3, max_updates=11)
    constant = [settings.learning_rate_at(i) for i in (0, 1, 2, 3, 10)]
    assert constant == [0.5, 1.0, 1.5, 2.0, 2.0]
    linear = dataclasses.replace(settings, schedule="linear")
    assert [linear.learning_rate_at(i) for i in (0, 3, 7, 11)] == [0.5, 2.0, 1.0, 0.0]
    root = dataclasses.replace(settings, schedule="inverse-sqrt")
    assert [root.learning_rate_at(i) for i in (0, 3, 15)] == [0.5, 2.0, 1.0]
    timed = TrainingSettings(learning_rate=2.0, schedule="timed", minutes=2.0, warmup=3)
    assert [timed.learning_rate_at(i, s) for i, s in ((0, 0), (9, 30), (9, 120))] == [0.5, 1.5, 0.0]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("batch_pairs", 0, "batch_pairs must be at least 1, not 0"),
        ("optimizer", "sgd", "unknown optimizer 'sgd'; choose from adamw, adadelta"),
        (
            "schedule",
            "x",
            "unknown schedule 'x'; choose from constant, linear, inverse-sqrt, timed",
        ),
        ("reduction", "x", "unknown reduction 'x'; choose from mean, sum"),
        ("precision", "x", "unknown precision 'x'; choose from auto, float32, bfloat16"),
        ("learning_rate", math.nan, "learning_rate must be a finite number above 0, not nan"),
        ("learning_rate", -1.0, "learning_rate must be a finite number above 0, not -1.0"),
        ("learning_rate", 0.0, "learning_rate must be a finite number above 0, not 0.0"),
        ("learning_rate", math.inf, "learning_rate must be a finite number above 0, not inf"),
        ("clip_norm", math.nan, "clip_norm must be a finite number at least 0, not nan"),
        ("clip_norm", -0.1, "clip_norm must be a finite number at least 0, not -0.1"),
        ("initial_deviation", -1, "initial_deviation must be a finite number at least 0, not -1"),
        ("minutes", math.inf, "minutes must be a finite number at least 0, not inf"),
        ("patience", -1, "patience must be at least 0, not -1"),
        ("validation_pairs", -1, "validation_pairs must be at least 0, not -1"),
        ("warmup", -1, "warmup must be at least 0, not -1"),
        ("batch_pairs", 10**18, "batch_pairs must be at most 1,099,511,627,776, not 1,000,000,000,"
         "000,000,000"),
        ("seed", 2**31, "seed must be at most 2,147,483,647, not 2,147,483,648"),
        ("seed", -1, "seed must be at least 0, not -1"),
    ],
)  # fmt: skip
def test_impossible_settings(field, value, message):
    with pytest.raises(UsageError) as caught:
        TrainingSettings(**{field: value})
    assert str(caught.value) == message


@pytest.mark.parametrize("field", ["max_minutes", "checkpoint_minutes"])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf])
def test_impossible_limits(field, value):
    least = {"max_minutes": "above 0", "checkpoint_minutes": "at least 0"}[field]
    with pytest.raises(UsageError) as caught:
        RunLimits(**{field: value})
    assert str(caught.value) == f"{field} must be a finite number {least}, not {value}"
    if field == "max_minutes":
        with pytest.raises(UsageError):
            RunLimits(max_minutes=0)


# -- training_log.jsonl: a line every so many updates and at each validation ----------------------

LOG_CONFIG = ModelConfig(5, 5, hidden=4, embedding=3, maxout=2, output_rank=0)
LOG_SETTINGS = TrainingSettings(
    batch_pairs=4,
    optimizer="adamw",
    learning_rate=0.5,
    warmup=9,
    max_updates=7,
    validate_every=4,
    validation_pairs=5,
)


@pytest.fixture
def log(monkeypatch, tmp_path):
    """A function that trains and returns the lines of the log."""
    monkeypatch.setattr(log_module, "LOG_EVERY", 3)
    draw = np.random.default_rng(1).integers(2, 5, (40, 4)).tolist()
    pairs = phrase_pairs([(row[:2], row[2:]) for row in draw]).unique()

    def lines(settings, **options):
        run(pairs, tmp_path, settings, LOG_CONFIG, **options)
        return list(map(json.loads, (tmp_path / "training_log.jsonl").read_text().splitlines()))

    return lines


def test_lines(log):
    lines = log(LOG_SETTINGS)
    kinds = [(line["update"], "validation_loss" in line) for line in lines]
    assert kinds == [(3, False), (4, True), (6, False), (7, True)]
    assert lines[0].keys() == {
        "update", "seconds", "train_loss", "gradient_norm", "learning_rate",
    }  # fmt: skip
    assert [line["learning_rate"] for line in lines if "learning_rate" in line] == [0.15, 0.3]
    assert 1 < lines[0]["train_loss"] < 2  # ln 5 = 1.61 nats a symbol
    assert lines[1].keys() == {"update", "seconds", "validation_loss"}


def test_a_loss_is_the_mean_since_the_line_before(monkeypatch):
    monkeypatch.setattr(log_module, "LOG_EVERY", 2)
    text, progress = io.StringIO(), Progress()
    batch = pair_batch(phrase_pairs([([2], [3])]), np.array([0]))
    with progress_bar("", show=False) as bar:
        log = TrainingLog(text, bar, LOG_SETTINGS)
        for progress.update, loss in enumerate([1.0, 2.0, 5.0, 6.0, 9.0], 1):
            log.note(progress, torch.tensor(loss), torch.tensor(0.5), batch)
    lines = list(map(json.loads, text.getvalue().splitlines()))
    assert [(line["update"], line["train_loss"]) for line in lines] == [(2, 1.5), (4, 5.5)]
    assert lines[0]["gradient_norm"] == 0.5


def test_without_validation_pairs_there_is_no_validation_loss(log):
    lines = log(dataclasses.replace(LOG_SETTINGS, validation_pairs=0))
    assert [line["update"] for line in lines] == [3, 6]
    assert not any("validation_loss" in line for line in lines)


def test_a_resumed_training_appends(log):
    first = log(LOG_SETTINGS)
    both = log(dataclasses.replace(LOG_SETTINGS, max_updates=9), resume=True)
    assert both[: len(first)] == first
    assert [line["update"] for line in both[len(first) :]] == [8, 9, 9]


def test_silent_where_no_progress_is_wanted(log, capfd):
    log(LOG_SETTINGS)
    assert capfd.readouterr() == ("", "")


RECIPES = {
    "sampled": {"softmax": "sampled", "sampled_words": 3, "schedule": "linear"},
    "smoothed": {"softmax": "sampled", "sampled_words": 3, "label_smoothing": 0.1},
    "averaged": {"averaged": 3, "label_smoothing": 0.2},
    "half": {"precision": "bfloat16", "softmax": "sampled", "sampled_words": 4},
}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("stop", [3, 8, 10])  # before and after the softmax is over all words
def test_every_recipe_resumes_bit_for_bit(toy, tmp_path, name, stop):
    settings = dataclasses.replace(SETTINGS, **RECIPES[name], validate_every=2)
    whole = run(toy, tmp_path / "whole", settings).progress
    begun = trainer_of(toy, settings, tmp_path / "parts")
    begun.directory.create(begun.model.config, begun.vocabularies, {})
    log = TrainingLog(io.StringIO(), progress_bar("", show=False), settings)
    for _, batch in zip(range(stop), begun._batches(), strict=False):
        begun.update(batch)
        if not begun.progress.update % settings.validate_every:
            begun._keep_best(log)
    begun.save_state()
    resumed = run(toy, tmp_path / "parts", settings, resume=True).progress
    assert (resumed.update, resumed.best_loss) == (whole.update, whole.best_loss)
    left, right = (tmp_path / part / "model.safetensors" for part in ("whole", "parts"))
    assert left.read_bytes() == right.read_bytes()


def test_the_last_quarter_is_over_all_words(toy, tmp_path):
    settings = dataclasses.replace(SETTINGS, softmax="sampled", sampled_words=2)
    whole = dataclasses.replace(SETTINGS, softmax="full")
    trainers = [trainer_of(toy, each, tmp_path) for each in (settings, whole)]
    batch = next(trainers[0]._batches())
    for update in range(12):
        losses = [each.objective(each.model, batch, Progress(update)).item() for each in trainers]
        assert (losses[0] == losses[1]) == (update >= 9)


def test_a_running_mean_of_the_weights_is_kept(toy, tmp_path):
    settings = dataclasses.replace(SETTINGS, averaged=3, validate_every=12)
    trainer = trainer_of(toy, settings, tmp_path)
    mean = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    for number, batch in enumerate(trainer._batches(), 1):
        trainer.update(batch)
        share = max(1 / 3, 1 / (1 + number / 8))
        for name, value in trainer.model.state_dict().items():
            mean[name] = (1 - share) * mean[name] + share * value
    run(toy, tmp_path, settings)
    kept = ModelDirectory(tmp_path).load_model().state_dict()
    torch.testing.assert_close(kept, mean)
    assert not torch.equal(kept["output.bias"], trainer.model.state_dict()["output.bias"])
    parts, known = ModelDirectory(tmp_path).load_state()
    torch.testing.assert_close(parts["mean"], mean)
    torch.testing.assert_close(parts["model"], trainer.model.state_dict())
    trainer.model.load_state_dict(mean)
    assert trainer.validate() == pytest.approx(known.progress.best_loss, abs=1e-6)


def test_without_a_mean_the_latest_weights_are_kept(toy, tmp_path):
    settings = dataclasses.replace(SETTINGS, validate_every=12)
    run(toy, tmp_path, settings)
    parts, _ = ModelDirectory(tmp_path).load_state()
    assert sorted(parts) == ["best", "model", "optimizer"]
    torch.testing.assert_close(parts["best"], parts["model"], rtol=0, atol=0)


def test_the_faster_precision_is_chosen_and_resumed(toy, tmp_path, monkeypatch, capsys):
    auto = dataclasses.replace(SETTINGS, precision="auto")
    for number, name in enumerate(("float32", "bfloat16")):
        path = tmp_path / name
        ratio = (0.9, 1.84)[number]
        monkeypatch.setattr(training, "faster_precision", lambda *_, n=name, r=ratio: (n, r))
        run(toy, path, dataclasses.replace(auto, max_updates=6))
        told = f"products in {name}: an update is {ratio:.1f} times as fast in bfloat16 as in "
        assert told in capsys.readouterr().err
        assert ModelDirectory(path).facts().training["precision"] == name
        monkeypatch.setattr(training, "faster_precision", None)  # is not measured again
        run(toy, path, auto, resume=True)
        assert ModelDirectory(path).known_state().settings["precision"] == name
        run(toy, tmp_path / "by hand", dataclasses.replace(auto, precision=name))
        by_hand = (tmp_path / "by hand" / "model.safetensors").read_bytes()
        assert (path / "model.safetensors").read_bytes() == by_hand


def test_measuring_the_precision_changes_nothing(toy, tmp_path):
    trainer = trainer_of(toy, SETTINGS, tmp_path)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    batch = next(trainer._batches())
    name, ratio = faster_precision(trainer.objective, trainer.gradients, [batch] * 3)
    assert (name == "bfloat16") == (ratio >= 1.1)
    assert trainer.objective.settings == SETTINGS
    torch.testing.assert_close(trainer.model.state_dict(), before, rtol=0, atol=0)


def test_threads_share_a_batch(toy, tmp_path, monkeypatch):
    """Each has a part of its pairs; the sum of their gradients is that of the whole."""
    monkeypatch.setattr(objective_module, "LEAST_PART", 4)
    weighed = dataclasses.replace(toy, weights=np.arange(len(toy), dtype=np.float32) + 1)
    settings = dataclasses.replace(SETTINGS, validation_pairs=0)
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=threads: count)
        trainer = trainer_of(weighed, settings, tmp_path)
        batch = next(trainer._batches())
        loss = trainer.gradients(batch, 0.5, trainer.progress)
        found.append([loss, *(value.grad for value in trainer.model.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_training_by_several_threads_resumes_bit_for_bit(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(objective_module, "LEAST_PART", 4)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    settings = dataclasses.replace(SETTINGS, averaged=5)
    run(toy, tmp_path / "whole", settings)
    run(toy, tmp_path / "parts", dataclasses.replace(settings, max_updates=8))
    run(toy, tmp_path / "parts", settings, resume=True)
    whole, parts = (ModelDirectory(tmp_path / name).load_state()[0] for name in ("whole", "parts"))
    for part in ("model", "mean"):
        torch.testing.assert_close(whole[part], parts[part], rtol=0, atol=0)
