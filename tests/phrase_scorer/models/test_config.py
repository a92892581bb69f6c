"""ModelConfig: bad values are refused where it is made; the presets are valid."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from phrase_scorer.errors import UsageError
from phrase_scorer.models import ARCHITECTURES, ModelConfig, build
from phrase_scorer.training.settings import PRESET_NAMES, preset_of


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"source_words": 0}, "source_words must be at least 1, not 0"),
        ({"target_words": -3}, "target_words must be at least 1, not -3"),
        ({"hidden": 0}, "hidden must be at least 1, not 0"),
        ({"embedding": 0}, "embedding must be at least 1, not 0"),
        ({"maxout": 0}, "maxout must be at least 1, not 0"),
        ({"layers": 0}, "layers must be at least 1, not 0"),
        ({"heads": 0}, "heads must be at least 1, not 0"),
        ({"feed_forward": 0}, "feed_forward must be at least 1, not 0"),
        (
            {"positions": "rotary"},
            "unknown positions 'rotary'; choose from sinusoidal, learned",
        ),
        ({"output_rank": -1}, "output_rank must be at least 0, not -1"),
        ({"variant": "v1"}, "unknown variant 'v1'; choose from paper, groundhog"),
        ({"direction": "back"}, "unknown direction 'back'; choose from forward, inverse"),
    ],
)
def test_wrong_values(wrong, message):
    with pytest.raises(UsageError) as caught:
        ModelConfig(**{"source_words": 3, "target_words": 3, **wrong})
    assert str(caught.value) == message


def test_default_is_the_papers():
    config = ModelConfig(source_words=15_001, target_words=15_001)
    assert config.as_dict() == {
        "source_words": 15_001,
        "target_words": 15_001,
        "architecture": "encoder_decoder",
        "cell": "gru",
        "variant": "paper",
        "direction": "forward",
        "hidden": 1000,
        "embedding": 100,
        "maxout": 500,
        "output_rank": 100,
    }
    sizes, _ = preset_of("paper", "encoder_decoder")
    assert config == ModelConfig(source_words=15_001, target_words=15_001, **sizes)


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_presets_and_dictionary_form(name):
    config = ModelConfig(source_words=7, target_words=8, **preset_of(name, "encoder_decoder").sizes)
    assert ModelConfig(**config.as_dict()) == config


def test_what_only_some_architectures_use_is_kept_where_it_is_not_the_default():
    config = ModelConfig(2, 2, architecture="transformer", layers=3, heads=4)
    known = config.as_dict()
    assert known["layers"] == 3
    assert "heads" not in known
    assert ModelConfig(**known) == config


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("preset", PRESET_NAMES)
def test_presets_of_every_architecture(architecture, preset):
    sizes, _ = preset_of(preset, architecture)
    config = ModelConfig(9, 9, architecture=architecture, **sizes)
    with torch.device("meta"):
        model = build(config)
    assert model.config.cell == ("lstm" if architecture == "seq2seq" else "gru")


def test_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig(2, 2).hidden = 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"architecture": "lstm"},
            "unknown architecture 'lstm'; choose from encoder_decoder, seq2seq, attention, "
            "transformer, decoder_only, masked",
        ),
        ({"cell": "elman"}, "unknown cell 'elman'; choose from rnn, lstm, gru"),
        ({"layers": 2}, "layers 2: encoder_decoder has no use for it"),
        (
            {"architecture": "attention", "variant": "groundhog"},
            "variant groundhog: attention has no use for it",
        ),
        (
            {"architecture": "seq2seq", "shared_words": True},
            "shared_words True: seq2seq has no use for it",
        ),
        (
            {"architecture": "transformer", "hidden": 12, "heads": 5},
            "hidden 12 cannot be divided among 5 heads; choose heads from 1, 2, 3, 4, 6, 12",
        ),
        (
            {"architecture": "masked", "hidden": 9, "heads": 3},
            "hidden must be even in a Transformer, not 9",
        ),
        (
            {"architecture": "decoder_only", "shared_words": True, "target_words": 5},
            "shared_words: 2 source and 5 target words",
        ),
    ],
)
def test_build_refuses_what_it_does_not_know(wrong, message):
    with pytest.raises(UsageError) as caught:
        build(ModelConfig(**{"source_words": 2, "target_words": 2, **wrong}))
    assert str(caught.value) == message


def test_build_refuses_what_was_given_in_vain_though_it_is_the_default():
    build(ModelConfig(2, 2), given={"hidden", "cell"})
    with pytest.raises(UsageError) as caught:
        build(ModelConfig(2, 2), given={"layers"})
    assert str(caught.value) == "layers 1: encoder_decoder has no use for it"
