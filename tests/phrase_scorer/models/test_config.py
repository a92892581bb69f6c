"""ModelConfig: bad values are refused where it is made; the presets are valid."""

from __future__ import annotations

import dataclasses

import pytest

from phrase_scorer.errors import UsageError
from phrase_scorer.models import PRESETS, ModelConfig, build


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"source_words": 0}, "source_words must be at least 1, not 0"),
        ({"target_words": -3}, "target_words must be at least 1, not -3"),
        ({"hidden": 0}, "hidden must be at least 1, not 0"),
        ({"embedding": 0}, "embedding must be at least 1, not 0"),
        ({"maxout": 0}, "maxout must be at least 1, not 0"),
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
    assert config == ModelConfig(source_words=15_001, target_words=15_001, **PRESETS["paper"])


@pytest.mark.parametrize("name", PRESETS)
def test_presets_and_dictionary_form(name):
    config = ModelConfig(source_words=7, target_words=8, **PRESETS[name])
    assert ModelConfig(**config.as_dict()) == config


def test_width_of_the_output():
    assert ModelConfig(2, 2, maxout=7, output_rank=3).output_features == 3
    assert ModelConfig(2, 2, maxout=7, output_rank=0).output_features == 7


def test_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig(2, 2).hidden = 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"architecture": "lstm"}, "unknown architecture 'lstm'; choose from encoder_decoder"),
        ({"cell": "elman"}, "unknown cell 'elman'; choose from gru"),
    ],
)
def test_build_refuses_what_it_does_not_know(wrong, message):
    with pytest.raises(UsageError) as caught:
        build(ModelConfig(2, 2, **wrong))
    assert str(caught.value) == message
