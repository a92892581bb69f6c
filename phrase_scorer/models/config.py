"""The sizes of a model: one frozen dataclass, checked where it is made, saved as config.json."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from phrase_scorer.errors import UsageError

Variant = Literal["paper", "groundhog"]
Direction = Literal["forward", "inverse"]
Positions = Literal["sinusoidal", "learned"]


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides a model's shape; the default is the paper's (section 3.1, 4.1).

    What an architecture has no use for, it ignores; each says what it uses.

    `variant` chooses between the two documented forms of the model, nothing in between:

    - `paper`: reset before the product in the encoder, after it and over the context in the
      decoder; c = tanh(V h_N); the first target symbol is read after one step on a zero embedding.
    - `groundhog`: the authors' released code: reset before the product in both; c = h_N; the first
      symbol is read straight from the initial state; the update gate has the opposite polarity.
    """

    source_words: int  # rows of the source embedding: the shortlist with <unk>, and </s>
    target_words: int  # rows of the target embedding, columns of the output
    architecture: str = "encoder_decoder"
    cell: str = "gru"
    variant: Variant = "paper"
    direction: Direction = "forward"  # p(target | source); inverse: p(source | target)
    hidden: int = 1000  # units of encoder and decoder, and of the summary
    embedding: int = 100  # rank of the input matrices
    maxout: int = 500  # maxout units of the readout, two pieces each
    output_rank: int = 100  # rank of the output matrix; 0: not factorised
    dropout: float = 0.0  # share of some layers' units left out in training
    # Of some architectures only.
    forget_bias: float = 0.0  # where the bias of an LSTM's forget gate starts
    layers: int = 1  # cells or blocks on top of each other
    heads: int = 4  # of a Transformer's attention; they share `hidden`
    feed_forward: int = 1024  # units between a Transformer block's two layers
    positions: Positions = "sinusoidal"  # what a Transformer adds to its embeddings
    shared_words: bool = False  # one shortlist, one embedding for both languages
    # Of the continuous-space language model.
    order: int = 7  # of its n-grams
    second_hidden: int = 1024  # units of its second layer
    short_histories: float = 0.25  # share of its training contexts that are cut short

    def __post_init__(self) -> None:
        for name in (*_SIZES, "layers", "heads", "feed_forward", "second_hidden"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.order < 2:
            raise UsageError(f"order must be at least 2, not {self.order}")
        if not math.isfinite(self.forget_bias):
            raise UsageError(f"forget_bias must be a number, not {self.forget_bias}")
        for name in ("dropout", "short_histories"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} must be from 0 to below 1, not {getattr(self, name)}")
        if self.output_rank < 0:
            raise UsageError(f"output_rank must be at least 0, not {self.output_rank}")
        for name, kind in (
            ("variant", Variant),
            ("direction", Direction),
            ("positions", Positions),
        ):
            value, choices = getattr(self, name), get_args(kind)
            if value not in choices:
                raise UsageError(f"unknown {name} {value!r}; choose from {', '.join(choices)}")

    def choices(self) -> dict[str, Any]:
        """What was chosen otherwise than the default, of what only some architectures have."""
        names = ("variant", *_OF_SOME)
        defaults = {f.name: f.default for f in dataclasses.fields(self) if f.name in names}
        return {n: getattr(self, n) for n, d in defaults.items() if getattr(self, n) != d}

    def as_dict(self) -> dict[str, Any]:
        """The fields as config.json holds them.

        Those of some architectures only are left out where they have their default, so that a
        model that knows nothing of them keeps its fingerprint.
        """
        fields = dataclasses.fields(self)
        known = {field.name: getattr(self, field.name) for field in fields}
        optional = {f.name: f.default for f in fields if f.name in _OF_SOME}
        return {n: v for n, v in known.items() if n not in optional or v != optional[n]}


_SIZES = ("source_words", "target_words", "hidden", "embedding", "maxout")
_OF_SOME = (
    *("forget_bias", "layers", "heads", "feed_forward", "positions", "shared_words"),
    *("order", "second_hidden", "dropout", "short_histories"),
)

PRESETS: dict[str, dict[str, Any]] = {
    "small": {"hidden": 256, "embedding": 128, "maxout": 128, "output_rank": 0},
    "base": {"hidden": 512, "embedding": 128, "maxout": 256, "output_rank": 128},
    "paper": {"hidden": 1000, "embedding": 100, "maxout": 500, "output_rank": 100},
}
