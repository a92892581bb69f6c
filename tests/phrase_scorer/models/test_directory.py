"""The model directory: whole, incomplete, broken, of a newer format; nothing in it is executed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from toys import tiny_model

from phrase_scorer import PhraseScorer
from phrase_scorer.errors import ModelError, printable
from phrase_scorer.models.directory import ModelDirectory
from phrase_scorer.models.files import Progress, TrainingState
from phrase_scorer.runtime.output import write_file
from phrase_scorer.text.vocabulary import Vocabulary

SOURCE = Vocabulary([b"s%d" % i for i in range(10)])
TARGET = Vocabulary([b"t%d" % i for i in range(7)])
SIZES = {"source_words": 12, "target_words": 9}
STATE = TrainingState(Progress(7, math.inf), {"hidden": 5}, {"seed": 1}, "12ab")


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
    directory.save_state(parts, STATE)
    found, known = directory.load_state()
    assert {part: list(found[part]) for part in found} == {"model": ["a"], "optimizer": ["a/step"]}
    assert torch.equal(found["model"]["a"], torch.arange(3))
    assert torch.equal(found["optimizer"]["a/step"], torch.tensor(4.0))
    assert known == STATE


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


def forget_digests(directory: ModelDirectory) -> None:
    """Makes it one of an older version."""
    changed_config(directory, sha256={})


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
        ({"hidden": 10**9}, "hidden must be at most 65,536, not 1,000,000,000"),
        ({"layers": 10**7}, "layers must be at most 256, not 10,000,000"),
        ({"target_words": 10**18}, "target_words must be at most 16,777,216, not 1,000,000,"),
        ({"attention": True}, 'nothing is known of "attention"'),
        ({"\x1b[31m": True}, r'nothing is known of "\x1b[31m"'),
    ],
)
def test_impossible_settings(directory, wrong, message):
    model = json.loads(directory.config_file.read_text())["model"]
    path = changed_config(directory, model={**model, **wrong})
    found = message_of(directory.load_model)
    assert found.startswith(f"{path}: impossible model settings: {message}")
    assert found.isprintable()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model": None}, "model: expected object, got null"),
        ({"model": {}}, "model: object missing required field source_words"),
        ({"model": {**SIZES, "target_words": "9"}}, "model.target_words: expected int, got str"),
        ({"model": {**SIZES, "hidden": 2.5}}, "model.hidden: expected int, got float"),
        ({"model": {**SIZES, "variant": "x"}}, "model.variant: unknown value 'x'"),
        ({"training": []}, "training: expected object, got array"),
        ({"data": "x"}, "data: expected object, got str"),
        ({"phrase_scorer": 1}, "phrase_scorer: expected str, got int"),
        ({"sha256": {"source.vocab": "x"}}, "sha256[...]: expected array, got str"),
    ],
)  # fmt: skip
def test_settings_of_another_shape(directory, wrong, message):
    path = changed_config(directory, **wrong)
    for use in (directory.load_model, directory.vocabularies, directory.describe):
        assert message_of(use) == f"{path}: {message}"


@pytest.mark.parametrize("wrong", [{"hidden": 60_000}, {"target_words": 16_000_000}])
def test_sizes_are_compared_before_there_is_memory_for_them(directory, monkeypatch, wrong):
    model = json.loads(directory.config_file.read_text())["model"]
    changed_config(directory, model={**model, **wrong})
    made = []
    monkeypatch.setattr(torch.nn, "Parameter", lambda value: made.append(value) or value)
    assert "weights do not fit config.json" in message_of(directory.load_model)
    assert {value.device.type for value in made} == {"meta"}


def test_weights_of_another_model(directory):
    model = json.loads(directory.config_file.read_text())["model"]
    changed_config(directory, model={**model, "hidden": 6})
    assert message_of(directory.load_model) == (
        f"{directory.weights_file}: weights do not fit config.json "
        "(first difference: decoder.candidate_bias)"
    )


def test_vocabulary_of_another_size(directory):
    path = directory.vocabulary_file("target")
    forget_digests(directory)
    Vocabulary([b"one"]).save(path)
    assert message_of(directory.vocabularies) == f"{path}: 3 words, but the model has 9"


def test_broken_files(directory):
    for content, message in {
        b"{": "not JSON: Expecting property name enclosed in double quotes (line 1, column 2)",
        b"\xff": "not JSON: not UTF-8 at byte 1",
        b"[]": "expected object, got array",
        b"[" * 100_000: "not JSON that can be used: nested too deep",
        b'{"format": ' + b"1" * 5000: "not JSON that can be used: a number has too many digits",
    }.items():
        directory.config_file.write_bytes(content)
        assert message_of(directory.load_model) == f"{directory.config_file}: {message}"


def test_a_pickle_is_not_loaded(directory):
    forget_digests(directory)
    torch.save({"a": torch.zeros(1)}, directory.weights_file)
    found = message_of(directory.load_model)
    assert found.startswith(f"{directory.weights_file}: cannot be read (")


def test_a_state_that_is_none(directory):
    path = directory.state_file
    path.write_bytes(directory.weights_file.read_bytes())
    assert message_of(directory.load_state) == f"{path}: not the state of a training"
    path.write_bytes(b"half")
    assert message_of(directory.load_state).startswith(f"{path}: cannot be read (")
    header = b'{"__metadata__": "%b"}' % (b"9" * 5000)  # of which safetensors quotes all
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert len(message_of(directory.load_state)) < len(str(path)) + 270


def with_metadata(directory: ModelDirectory, progress: bytes) -> str:
    """What is said of a state with that JSON."""
    save_file({"model/a": torch.zeros(2)}, directory.state_file, {"progress": progress.decode()})
    return message_of(directory.load_state).removeprefix(f"{directory.state_file}: ")


@pytest.mark.parametrize(
    ("progress", "message"),
    [
        (b"{", "not JSON: Expecting property name enclosed in double quotes (line 1, column 2)"),
        (b"[" * 100_000, "not JSON that can be used: nested too deep"),
        (b"[]", "expected object, got array"),
        (b'{"progress": {"update": -1}}', "progress.update: expected int >= 0"),
        (b'{"progress": {"update": "1"}}', "progress.update: expected int, got str"),
        (b'{"progress": {"seconds": NaN}}', "progress.seconds: expected float >= 0.0"),
        (b'{"progress": {}, "config": []}', "config: expected object, got array"),
    ],
)
def test_a_state_of_another_shape(directory, progress, message):
    assert with_metadata(directory, progress) == message


# -- flipped bits, and numbers that are none -------------------------------------------------------

DAMAGED = "damaged, or not of this model: its SHA-256 is not that in config.json"


@pytest.mark.parametrize("name", ["model.safetensors", "source.vocab", "target.vocab"])
def test_a_flipped_bit_is_refused(directory, name):
    path = directory.path / name
    flip_bit(path, -2)
    use = directory.load_model if name == "model.safetensors" else directory.vocabularies
    assert message_of(use) == f"{path}: {DAMAGED}"
    forget_digests(directory)  # as one of an older version
    use()


def test_a_flipped_bit_in_a_state_is_refused(directory):
    directory.save_state({"model": {"a": torch.ones(3)}}, STATE)
    content = directory.state_file.read_bytes()
    for place in (-2, content.index(b"best_loss") - 5):  # in a tensor; in the number of updates
        flip_bit(directory.state_file, place)
        message = "damaged: its SHA-256 is not what it says"
        assert message_of(directory.load_state) == f"{directory.state_file}: {message}"
        directory.state_file.write_bytes(content)
    directory.load_state()
    tensors = load_file(directory.state_file)
    save_file(tensors, directory.state_file, {"progress": json.dumps(dataclasses.asdict(STATE))})
    directory.load_state()  # as one of an older version


def flip_bit(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 64
    path.write_bytes(content)


def test_digests_while_weights_are_replaced(directory, monkeypatch):
    """Wherever it stops, what is there is known; afterwards only that."""
    old = directory.weights_file.read_bytes()

    def digests() -> int:
        return len(json.loads(directory.config_file.read_text())["sha256"]["model.safetensors"])

    assert digests() == 1
    with monkeypatch.context() as patch, pytest.raises(OSError, match="power cut"):
        real = ModelDirectory._write_config

        def stopped(self, content):
            real(self, content)
            raise OSError("power cut")

        patch.setattr(ModelDirectory, "_write_config", stopped)
        directory.save_weights(tiny_model(seed=2).state_dict())
    assert digests() == 2
    assert directory.weights_file.read_bytes() == old
    directory.load_model()
    with monkeypatch.context() as patch, pytest.raises(OSError, match="power cut"):
        patch.setattr("phrase_scorer.models.directory.write_file", written_then_stopped(directory))
        directory.save_weights(tiny_model(seed=3).state_dict())
    assert directory.weights_file.read_bytes() != old
    directory.load_model()
    directory.save_weights(tiny_model(seed=2).state_dict())
    assert digests() == 1
    directory.load_model()


def written_then_stopped(directory: ModelDirectory):
    def write(path: Path, content: bytes) -> None:
        write_file(path, content)
        if path == directory.weights_file:
            raise OSError("power cut")

    return write


def test_each_file_is_hashed_once_in_loading(directory, monkeypatch):
    hashed = []
    real = hashlib.file_digest
    monkeypatch.setattr(
        hashlib, "file_digest", lambda file, kind: hashed.append(file.name) or real(file, kind)
    )
    first = PhraseScorer.load(directory.path, "cpu").fingerprint
    assert len(hashed) == len(set(hashed)) == 3
    assert ModelDirectory(directory.path).fingerprint() == first


def test_a_directory_without_digests_gets_them(directory):
    forget_digests(directory)
    directory.load_model()
    directory.save_weights(tiny_model(seed=2).state_dict())
    directory.load_model()
    assert json.loads(directory.config_file.read_text())["sha256"].keys() == {"model.safetensors"}


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused(directory, wrong):
    """Compiled kernels, which know no such numbers, scored them as if they were some."""
    weights = tiny_model().state_dict()
    weights["encoder.recurrent"][2, 1] = wrong
    directory.save_weights(weights)
    message = 'a number that is not finite: "encoder.recurrent"'
    assert message_of(directory.load_model) == f"{directory.weights_file}: {message}"
    directory.save_state({"optimizer": {"b/exp_avg": torch.tensor([1.0, wrong])}}, STATE)
    message = 'a number that is not finite: "optimizer/b/exp_avg"'
    assert message_of(directory.load_state) == f"{directory.state_file}: {message}"


def test_weights_that_are_finite_only_in_larger_numbers(directory):
    weights = {name: value.double() for name, value in tiny_model().state_dict().items()}
    weights["output.bias"][0] = 1e300
    directory.save_weights(weights)
    message = 'a number that is not finite: "output.bias"'
    assert message_of(directory.load_model) == f"{directory.weights_file}: {message}"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(place=st.integers(0), byte=st.integers(0, 255), name=st.sampled_from(
    ["config.json", "model.safetensors", "training_state.safetensors", "target.vocab"]
), cut=st.booleans(), trusted=st.booleans())  # fmt: skip
def test_any_damage_gives_a_model_or_one_line(directory, place, byte, name, cut, trusted):
    if not directory.state_file.exists():
        directory.save_state({"model": {"a": torch.ones(3)}}, STATE)
    path, config = directory.path / name, directory.config_file
    before, config_before = path.read_bytes(), config.read_bytes()
    if trusted:
        forget_digests(directory)
    content = bytearray(path.read_bytes())
    content[place % len(content)] = byte
    path.write_bytes(content[: place % len(content)] if cut else content)
    said = ""
    try:
        directory.describe()
        directory.vocabularies()
    except ModelError as error:
        said = printable(str(error))
    assert said.isprintable()
    path.write_bytes(before)
    config.write_bytes(config_before)


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
    directory.save_state({"model": {"a": torch.zeros(1)}}, STATE)
    directory.create(tiny_model().config, (SOURCE, TARGET), {})
    assert not directory.weights_file.exists()
    assert not directory.state_file.exists()
