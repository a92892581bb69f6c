"""What the studies are asked to measure; checked before torch is imported or a table read."""

from __future__ import annotations

import math
from dataclasses import dataclass

from phrase_scorer.errors import UsageError, require_between, require_choice, require_finite
from phrase_scorer.models.config import CELL_USES
from phrase_scorer.runtime.device import Arithmetic

MOST = 1 << 40  # of what is only counted
MOST_WORDS = 10_000  # of a sequence whose gradients are measured
MOST_UNITS = 1 << 14  # of a cell that is trained for it

SYSTEMS: dict[str, dict[str, str]] = {
    "vanilla RNN": {"architecture": "encoder_decoder", "cell": "rnn"},
    "LSTM": {"architecture": "encoder_decoder", "cell": "lstm"},
    "GRU (the paper's)": {"architecture": "encoder_decoder", "cell": "gru"},
    "seq2seq": {"architecture": "seq2seq", "cell": "lstm"},
    "attention": {"architecture": "attention", "cell": "gru"},
    "Transformer": {"architecture": "transformer"},
    "decoder-only": {"architecture": "decoder_only"},
    "masked (pseudo)": {"architecture": "masked"},
}


@dataclass(frozen=True)
class SystemsSettings:
    """What all systems of a comparison share; a UsageError tells of a number that cannot be."""

    parameters: int = 5_000_000  # per model, about
    minutes: float = 10.0  # of training, per model
    preset: str = "small"  # where training settings come from: small, base, large or paper
    validation_pairs: int = 10_000  # of held-out source phrases, about
    weight_by_count: bool = False  # whether training weighs pairs by their counts
    device: str = "auto"
    threads: int | None = None  # CPU cores; None: all
    seed: int = 1

    def __post_init__(self) -> None:
        require_between(1, MOST, "--parameters", self.parameters)
        require_finite("--minutes", self.minutes)
        require_between(1, MOST, "--validation-pairs", self.validation_pairs)
        _ = self.arithmetic

    @property
    def arithmetic(self) -> Arithmetic:
        """Where to compute; stored in two numbers, as results of earlier comparisons have them."""
        return Arithmetic(self.device, threads=self.threads)


@dataclass(frozen=True)
class StudySettings:
    """Which gradients are measured, and how networks are trained for it.

    A UsageError tells of an unknown cell, of nothing to measure, or of a number below 1.
    """

    cells: tuple[str, ...] = ("rnn", "lstm", "gru")  # names of `CELLS`
    scales: tuple[float, ...] = (0.7, 1.0, 2.0)  # factors of the orthogonal recurrent matrices
    distances: tuple[int, ...] = (5, 10, 20, 40, 80)  # words from the first one to its copy
    steps: int = 60  # length of the sequences on which norms are measured at the start
    hidden: int = 64  # units of each cell
    updates: int = 1000  # per training
    learning_rate: float = 2e-3  # of Adam
    clip_norm: float = 1.0  # where the gradient is clipped; without clipping it is not
    forget_bias: float = 1.0  # where an LSTM's forget gates start
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("cells", "scales", "distances"):
            if not getattr(self, name):
                raise UsageError(f"no {name}")
        for cell in self.cells:
            require_choice("cell", cell, CELL_USES)
        for name, most in (("steps", MOST_WORDS), ("hidden", MOST_UNITS), ("updates", MOST)):
            require_between(1, most, name, getattr(self, name))
        for distance in self.distances:
            require_between(1, MOST_WORDS, "distances", distance)
        for name in ("learning_rate", "clip_norm"):
            require_finite(name, getattr(self, name))
        for scale in self.scales:
            require_finite("scales", scale)
        if not math.isfinite(self.forget_bias):
            raise UsageError(f"forget_bias must be a number, not {self.forget_bias}")
