"""The model directory: whole, incomplete, broken, of a newer format; nothing in it is executed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from toys import tiny_model

from phrase_scorer.errors import ModelError
from phrase_scorer.models.directory import ModelDirectory
from phrase_scorer.text.vocabulary import Vocabulary

SOURCE = Vocabulary([b"s%d" % i for i in range(10)])
TARGET = Vocabulary([b"t%d" % i for i in range(7)])


@pytest.fixture
def directory(tmp_path) -> ModelDirectory:
    model = tiny_model()
    made = ModelDirectory(tmp_path / "rnn")
    made.create(model.config, (SOURCE, TARGET), {"training": {"seed": 1}})
    made.save_weights(model.state_dict())
    return made


def message_of(call) -> str:
    with pytest.raises(ModelError) as caught:
        call()
    return str(caught.value)


def test_round_trip(directory):
    loaded, made = directory.load_model(), tiny_model()
    assert loaded.config == made.config
    assert all(
        torch.equal(value, made.state_dict()[name]) for name, value in loaded.state_dict().items()
    )
    assert [v.words for v in directory.vocabularies()] == [SOURCE.words, TARGET.words]
    assert not loaded.training


def test_state_round_trip(directory):
    parts = {"model": {"a": torch.arange(3)}, "optimizer": {"a/step": torch.tensor(4.0)}}
    directory.save_state(parts, {"progress": {"update": 7, "best_loss": float("inf")}})
    found, progress = directory.load_state()
    assert {part: list(found[part]) for part in found} == {"model": ["a"], "optimizer": ["a/step"]}
    assert torch.equal(found["model"]["a"], torch.arange(3))
    assert torch.equal(found["optimizer"]["a/step"], torch.tensor(4.0))
    assert progress == {"progress": {"update": 7, "best_loss": float("inf")}}


def test_no_directory(tmp_path):
    path = tmp_path / "none"
    found = message_of(ModelDirectory(path).load_model)
    assert found == f"{path}: not a model directory: it does not exist"
    path.mkdir()
    found = message_of(ModelDirectory(path).load_model)
    assert found == f"{path}: not a model directory: it has no config.json"


@pytest.mark.parametrize("name", ["model.safetensors", "source.vocab", "target.vocab"])
def test_incomplete(directory, name):
    (directory.path / name).unlink()
    found = message_of(directory.fingerprint)
    assert found == f"{directory.path}: the model directory is incomplete: {name} is missing"


def test_training_without_validation_yet(directory):
    directory.weights_file.unlink()
    directory.log_file.touch()
    assert message_of(directory.load_model) == (
        f"{directory.path}: the model directory is incomplete: model.safetensors is missing "
        "(training has not reached its first validation)"
    )


def changed_config(directory: ModelDirectory, **values: object) -> Path:
    content = json.loads(directory.config_file.read_text())
    directory.config_file.write_text(json.dumps({**content, **values}))
    return directory.config_file


def test_newer_format(directory):
    path = changed_config(directory, format=2)
    assert message_of(directory.load_model) == (
        f"{path}: format 2 is newer than this program knows (1); update phrase-scorer"
    )


def test_no_format(directory):
    path = changed_config(directory, format="x")
    assert message_of(directory.load_model) == f"{path}: not a model's config: no format number"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hidden": 0}, "hidden must be at least 1, not 0"),
        ({"architecture": "x"}, "unknown architecture 'x'; choose from encoder_decoder"),
        ({"cell": "x"}, "unknown cell 'x'; choose from rnn, lstm, gru"),
        ({"variant": "x"}, "unknown variant 'x'; choose from paper, groundhog"),
        ({"hidden": None}, ""),
        ({"hidden": 2.5}, ""),
        ({"attention": True}, ""),
    ],
)
def test_impossible_settings(directory, wrong, message):
    model = json.loads(directory.config_file.read_text())["model"]
    path = changed_config(directory, model={**model, **wrong})
    found = message_of(directory.load_model)
    assert found.startswith(f"{path}: impossible model settings: {message}")
    assert "\n" not in found


def test_no_settings_at_all(directory):
    path = changed_config(directory, model=None)
    assert message_of(directory.load_model).startswith(f"{path}: impossible model settings: ")


def test_weights_of_another_model(directory):
    model = json.loads(directory.config_file.read_text())["model"]
    changed_config(directory, model={**model, "hidden": 6})
    assert message_of(directory.load_model) == (
        f"{directory.weights_file}: weights do not fit config.json "
        "(first difference: decoder.candidate_bias)"
    )


def test_vocabulary_of_another_size(directory):
    path = directory.vocabulary_file("target")
    Vocabulary([b"one"]).save(path)
    assert message_of(directory.vocabularies) == f"{path}: 3 words, but the model has 9"


def test_broken_files(directory):
    directory.config_file.write_text("{")
    found = message_of(directory.load_model)
    assert found.startswith(f"{directory.config_file}: cannot be read as JSON (")


def test_a_pickle_is_not_loaded(directory):
    torch.save({"a": torch.zeros(1)}, directory.weights_file)
    found = message_of(directory.load_model)
    assert found.startswith(f"{directory.weights_file}: cannot be read (")


def test_a_state_that_is_none(directory):
    path = directory.state_file
    path.write_bytes(directory.weights_file.read_bytes())
    assert message_of(directory.load_state) == f"{path}: not the state of a training"
    path.write_bytes(b"half")
    assert message_of(directory.load_state).startswith(f"{path}: cannot be read (")


def test_a_directory_that_cannot_be_made(tmp_path):
    path = tmp_path / "file" / "rnn"
    path.parent.touch()
    found = message_of(
        lambda: ModelDirectory(path).create(tiny_model().config, (SOURCE, TARGET), {})
    )
    assert found == f"{path}: cannot write: Not a directory"


def test_the_fingerprint_knows_the_direction(directory):
    first = directory.fingerprint()
    model = json.loads(directory.config_file.read_text())["model"]
    changed_config(directory, model={**model, "direction": "inverse"})
    assert directory.fingerprint() != first
    changed_config(directory, model=model, training={"seed": 9})
    assert directory.fingerprint() == first  # which no score depends on


def test_fingerprint(directory):
    first = directory.fingerprint()
    assert first == directory.fingerprint()
    assert len(first) == 16
    directory.save_weights(tiny_model(seed=2).state_dict())
    second = directory.fingerprint()
    Vocabulary([b"u%d" % i for i in range(7)]).save(directory.vocabulary_file("target"))
    assert len({first, second, directory.fingerprint()}) == 3


def test_a_new_training_removes_the_old_weights(directory):
    directory.save_state({"model": {"a": torch.zeros(1)}}, {})
    directory.create(tiny_model().config, (SOURCE, TARGET), {})
    assert not directory.weights_file.exists()
    assert not directory.state_file.exists()
