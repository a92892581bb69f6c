"""The sizes of a model: one frozen dataclass, checked where it is made, saved as config.json."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from phrase_scorer.errors import UsageError, require_between, require_literals

Variant = Literal["paper", "groundhog"]
Direction = Literal["forward", "inverse"]


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides a model's shape; the default is the paper's (section 3.1, 4.1).

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
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"  # of a Transformer
    shared_words: bool = False  # one shortlist, one embedding for both languages
    # Of the continuous-space language model.
    order: int = 7  # of its n-grams
    second_hidden: int = 1024  # units of its second layer
    short_histories: float = 0.25  # share of its training contexts that are cut short

    def __post_init__(self) -> None:
        for name, (least, most) in _BOUNDS.items():
            require_between(least, most, name, getattr(self, name))
        if not math.isfinite(self.forget_bias):
            raise UsageError(f"forget_bias must be a number, not {self.forget_bias}")
        for name in ("dropout", "short_histories"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} must be from 0 to below 1, not {getattr(self, name)}")
        require_literals(self)

    def chosen(self) -> set[str]:
        """The fields that only some architectures have, where they differ from the default."""
        return {name for name in _OPTIONAL if getattr(self, name) != getattr(ModelConfig, name)}

    def as_dict(self) -> dict[str, Any]:
        """The fields as config.json holds them.

        Those of some architectures only are left out where they have their default, so that a
        model that knows nothing of them keeps its fingerprint.
        """
        left_out = set(_OPTIONAL) - {"variant"} - self.chosen()
        return {name: value for name, value in vars(self).items() if name not in left_out}


# Least and most of each size: beyond all use, so that whatever config.json says is soon checked.
_BOUNDS = {
    "source_words": (1, 1 << 24), "target_words": (1, 1 << 24), "hidden": (1, 1 << 16),
    "embedding": (1, 1 << 16), "maxout": (1, 1 << 16), "output_rank": (0, 1 << 16),
    "layers": (1, 256), "heads": (1, 1 << 16), "feed_forward": (1, 1 << 18),
    "order": (2, 256), "second_hidden": (1, 1 << 16),
}  # fmt: skip
_OPTIONAL = (
    *("variant", "dropout", "forget_bias", "layers", "heads", "feed_forward", "positions"),
    *("shared_words", "order", "second_hidden", "short_histories"),
)
