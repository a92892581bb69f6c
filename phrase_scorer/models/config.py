"""The sizes of a model: one frozen dataclass, checked where it is made, saved as config.json."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from phrase_scorer.errors import UsageError, require_between, require_literals

INITIAL_DEVIATION = 0.01  # of all weights but the recurrent ones (paper, section 4.1.1)
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
# The fields that an architecture reads, beside the numbers of words.
_OF_TRANSFORMERS = frozenset({
    "hidden", "heads", "layers", "feed_forward", "positions",
    "shared_words", "output_rank", "dropout",
})  # fmt: skip
USES = {
    "encoder_decoder": frozenset({
        "cell", "variant", "hidden", "embedding", "maxout", "output_rank", "forget_bias", "dropout",
    }),
    "seq2seq": frozenset({
        "cell", "layers", "hidden", "embedding", "output_rank", "forget_bias", "dropout",
    }),
    "attention": frozenset({
        "cell", "hidden", "embedding", "maxout", "output_rank", "forget_bias", "dropout",
    }),
    "transformer": _OF_TRANSFORMERS,
    "decoder_only": _OF_TRANSFORMERS,
    "masked": _OF_TRANSFORMERS,
}  # fmt: skip
LANGUAGE_MODEL_USES = {
    "cslm": frozenset({
        "order", "embedding", "hidden", "second_hidden", "output_rank",
        "dropout", "short_histories",
    }),
}  # fmt: skip
# The architectures that make one vector of a source phrase.
SUMMARIZING = ("encoder_decoder", "seq2seq")
CELL_USES = {"rnn": frozenset[str](), "lstm": frozenset({"forget_bias"}), "gru": frozenset[str]()}


def require_summary(config: ModelConfig) -> None:
    """Refuses (UsageError) an architecture that keeps no phrase as one vector."""
    if config.architecture not in SUMMARIZING:
        raise UsageError(
            f"a model of architecture {config.architecture} has no vector of a phrase; "
            f"{' and '.join(SUMMARIZING)} have"
        )


def check_settings(config: ModelConfig, given: Iterable[str] = ()) -> None:
    """Refuses (UsageError) settings that do not go together, or are of no use to an architecture.

    Those `given` are refused even with their default. Of what no table here names, all go.
    """
    name, wanted = config.architecture, config.chosen().union(given)
    uses = (USES | LANGUAGE_MODEL_USES).get(name)
    for field, value in vars(config).items():
        if uses is not None and field in wanted and field not in uses:
            raise UsageError(f"{field} {value}: {name} has no use for it")
    if config.forget_bias and "forget_bias" not in CELL_USES.get(config.cell, ()):
        raise UsageError(f"forget_bias {config.forget_bias}: {config.cell} has no use for it")
    if uses is None or "heads" not in uses:
        return
    if config.hidden % config.heads:
        divisors = (str(n) for n in range(1, config.hidden + 1) if config.hidden % n == 0)
        raise UsageError(
            f"hidden {config.hidden} cannot be divided among {config.heads} heads; "
            f"choose heads from {', '.join(divisors)}"
        )
    if config.hidden % 2:
        raise UsageError(f"hidden must be even in a Transformer, not {config.hidden}")
    if config.shared_words and config.source_words != config.target_words:
        raise UsageError(
            f"shared_words: {config.source_words} source and {config.target_words} target words"
        )
