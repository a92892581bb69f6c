"""How to train: every choice with its default, the presets, and the learning rate's schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from phrase_scorer.errors import UsageError, require_between, require_finite, require_literals
from phrase_scorer.models.config import INITIAL_DEVIATION

UNLIMITED = 1 << 40  # updates: never reached
TrainingPrecision = Literal["float32", "bfloat16"]
MOST_SEED = 2**31 - 1  # with the number of an update it makes the seed of a random generator


@dataclass(frozen=True)
class TrainingSettings:
    """How to train; the default is the paper's (section 4.1.1), the rest as in GroundHog."""

    batch_pairs: int = 64
    optimizer: Literal["adamw", "adadelta"] = "adadelta"  # rho 0.95, epsilon 1e-6
    learning_rate: float = 1.0
    schedule: Literal["constant", "linear", "inverse-sqrt", "timed"] = "constant"
    warmup: int = 0  # updates in which the learning rate rises from 0
    initial_deviation: float = INITIAL_DEVIATION  # of the weights at the start
    clip_norm: float = 1.0  # largest norm of the gradient; 0: not clipped
    reduction: Literal["mean", "sum"] = "mean"  # of the pairs of a batch: eq. 4's mean, or a sum
    max_updates: int = 3_000_000
    minutes: float = 0.0  # that a timed schedule fills: the learning rate falls to 0, training ends
    pool_batches: int = 10  # batches sorted by length together
    validation_pairs: int = 5_000  # pairs of held-out source phrases
    hold_out: Literal["sources", "trigrams"] = "sources"  # what training lacks of those
    validate_every: int = 1_000  # updates
    patience: int = 20  # validations without improvement before training stops; 0: never
    precision: Literal["auto", TrainingPrecision] = "float32"  # "auto": whichever is faster here
    softmax: Literal["full", "sampled"] = "full"  # sampled: but for the last quarter (objective.py)
    sampled_words: int = 1024  # about how many words of a sample are drawn
    label_smoothing: float = 0.0  # share of what is learned that is spread over all words
    averaged: int = 0  # updates of whose weights a running mean is validated and kept; 0: one
    seed: int = 1

    def __post_init__(self) -> None:
        counts = "batch_pairs", "max_updates", "pool_batches", "validate_every", "sampled_words"
        for name in counts:
            require_between(1, UNLIMITED, name, getattr(self, name))
        for name in ("warmup", "validation_pairs", "patience", "averaged"):
            require_between(0, UNLIMITED, name, getattr(self, name))
        require_between(0, MOST_SEED, "seed", self.seed)
        require_finite("learning_rate", self.learning_rate)
        for name in ("initial_deviation", "clip_norm", "minutes", "label_smoothing"):
            require_finite(name, getattr(self, name), or_zero=True)
        if self.label_smoothing >= 1:
            raise UsageError(f"label_smoothing must be below 1, not {self.label_smoothing}")
        if (self.schedule == "timed") != (self.minutes > 0):
            raise UsageError(f"schedule {self.schedule} with minutes {self.minutes}")
        require_literals(self)

    def share_done(self, update: int, seconds: float) -> float:
        """How much of the training lies before an update (from 0): 0 to 1."""
        if self.schedule == "timed":
            return min(1.0, seconds / (60 * self.minutes))
        return min(1.0, update / self.max_updates)

    def newest_share(self, updates: int) -> float:
        """Of the weights after so many updates, in their running mean: 1 / `averaged`, or more.

        (The exponential smoothing of Junczys-Dowmunt et al. 2018, Marian.) At first it is the mean
        of about the last eighth of all updates.
        """
        return max(1 / self.averaged, 1 / (1 + updates / 8))

    def learning_rate_at(self, update: int, seconds: float = 0.0) -> float:
        """The learning rate of an update (from 0), `seconds` into the training."""
        rising, falling = min(1.0, (update + 1) / (self.warmup + 1)), 1.0
        if self.schedule == "timed":
            falling = 1 - self.share_done(update, seconds)
        elif self.schedule == "linear":
            falling = (self.max_updates - update) / max(1, self.max_updates - self.warmup)
        elif self.schedule == "inverse-sqrt":
            falling = math.sqrt((self.warmup + 1) / (update + 1))
        return self.learning_rate * min(rising, max(0.0, falling))


class Preset(NamedTuple):
    """What a name like "small" stands for."""

    sizes: dict[str, Any]  # fields of ModelConfig
    training: dict[str, Any]  # fields of TrainingSettings


PRESET_NAMES = ("small", "base", "large", "paper")
SAMPLED_ABOVE = 4_000  # words of a shortlist: with fewer, a sample of them costs no less than all
_FAST = {
    "batch_pairs": 512, "optimizer": "adamw", "schedule": "linear", "warmup": 100,
    "initial_deviation": 0.1, "clip_norm": 5.0, "pool_batches": 50, "validate_every": 500,
    "patience": 6, "precision": "auto", "softmax": "sampled", "averaged": 200,
}  # fmt: skip
_LARGE = {
    **_FAST, "batch_pairs": 128, "pool_batches": 200, "learning_rate": 2e-3,
    "initial_deviation": 0.05, "max_updates": 40_000, "validate_every": 2_000,
}  # fmt: skip
_FAST_LM = {"batch_pairs": 256, "initial_deviation": 0.0}
# (preset, architecture) -> sizes, training settings. What the entry of an architecture leaves out,
# or all where it has no entry, is that of "any".
PRESETS: dict[tuple[str, str], Preset] = {
    ("small", "any"): Preset(
        {"hidden": 256, "embedding": 128, "maxout": 128, "output_rank": 0},
        {
            **_FAST,
            "batch_pairs": 256,
            "pool_batches": 100,
            "learning_rate": 8e-3,
            "max_updates": 10_000,
            "validate_every": 1_000,
        },
    ),
    # Trained longer it has fewer nats, and is worth no more as a column: docs/column.md.
    ("small", "encoder_decoder"): Preset({}, {"max_updates": 6_000}),
    ("base", "any"): Preset(
        {"hidden": 512, "embedding": 128, "maxout": 256, "output_rank": 128},
        {**_FAST, "learning_rate": 2e-3, "max_updates": 20_000},
    ),
    ("paper", "any"): Preset(
        {"hidden": 1000, "embedding": 100, "maxout": 500, "output_rank": 100},
        {"precision": "auto"},
    ),
    ("small", "seq2seq"): Preset({"cell": "lstm", "layers": 2}, {}),
    ("base", "seq2seq"): Preset({"cell": "lstm", "layers": 2}, {}),
    ("paper", "seq2seq"): Preset({"cell": "lstm", "layers": 4}, {}),
    ("small", "transformer"): Preset(
        {"hidden": 256, "heads": 4, "layers": 2, "feed_forward": 1024}, {}
    ),
    ("base", "transformer"): Preset(
        {"hidden": 512, "heads": 8, "layers": 4, "feed_forward": 2048}, {}
    ),
    ("paper", "transformer"): Preset(
        {"hidden": 512, "heads": 8, "layers": 6, "feed_forward": 2048, "output_rank": 0}, {}
    ),
    ("small", "cslm"): Preset(
        {"embedding": 128, "hidden": 512, "second_hidden": 256, "dropout": 0.3},
        {**_FAST_LM, "learning_rate": 3e-3, "max_updates": 1_500, "validate_every": 100},
    ),
    ("base", "cslm"): Preset(
        {"embedding": 256, "hidden": 1024, "second_hidden": 512, "dropout": 0.3},
        {**_FAST_LM, "learning_rate": 2e-3, "max_updates": 10_000},
    ),
    ("paper", "cslm"): Preset(
        {"embedding": 512, "hidden": 1536, "second_hidden": 1024, "output_rank": 0}, {}
    ),
}
_SAME_SIZES = {"decoder_only": "transformer", "masked": "transformer"}


def preset_of(name: str, architecture: str) -> Preset:
    """The sizes and training settings of a preset, as an architecture has them.

    "large" has the sizes of "paper", and is trained as the smaller ones are.
    """
    sizes = "paper" if name == "large" else name
    common = PRESETS[sizes, "any"]
    own = PRESETS.get((sizes, _SAME_SIZES.get(architecture, architecture)), Preset({}, {}))
    training = common.training | own.training
    if name == "large":
        training = _LARGE | (_FAST_LM if architecture == "cslm" else {})
    return Preset(common.sizes | own.sizes, training)
