"""The sizes of a model: one frozen dataclass, checked where it is made, saved as config.json."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from phrase_scorer.errors import UsageError

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

    def __post_init__(self) -> None:
        for name in ("source_words", "target_words", "hidden", "embedding", "maxout"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.output_rank < 0:
            raise UsageError(f"output_rank must be at least 0, not {self.output_rank}")
        for name, choices in (("variant", get_args(Variant)), ("direction", get_args(Direction))):
            if getattr(self, name) not in choices:
                value = getattr(self, name)
                raise UsageError(f"unknown {name} {value!r}; choose from {', '.join(choices)}")

    @property
    def output_features(self) -> int:
        """Width of what the output matrix is multiplied with."""
        return self.output_rank or self.maxout

    def as_dict(self) -> dict[str, Any]:
        """The fields as config.json holds them."""
        return dataclasses.asdict(self)


PRESETS: dict[str, dict[str, Any]] = {
    "small": {"hidden": 256, "embedding": 128, "maxout": 128, "output_rank": 0},
    "base": {"hidden": 512, "embedding": 128, "maxout": 256, "output_rank": 128},
    "paper": {"hidden": 1000, "embedding": 100, "maxout": 500, "output_rank": 100},
}
