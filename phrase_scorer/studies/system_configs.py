"""The systems that are compared, how each gets a number of parameters, and how well it ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from phrase_scorer.errors import UsageError
from phrase_scorer.models import ModelConfig, architecture_class, build
from phrase_scorer.text.phrase_pairs import PhrasePairs
from phrase_scorer.training.settings import preset_of

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
HIDDEN_STEP = 8  # of the widths that are tried


def require_systems(names: Sequence[str]) -> None:
    """Checks that there are such systems.

    Raises:
        UsageError: There is one that is not.
    """
    for name in names:
        if name not in SYSTEMS:
            raise UsageError(f"unknown system {name!r}; choose from {', '.join(SYSTEMS)}")


def sized_config(system: dict[str, str], words: tuple[int, int], parameters: int) -> ModelConfig:
    """The configuration of a system with about so many parameters.

    Embeddings and maxout units of recurrent models are half as many as hidden units, a
    Transformer's blocks four times as wide inside.

    Raises:
        UsageError: So few that not even the smallest model has them.
    """

    def config(hidden: int) -> ModelConfig:
        kind = architecture_class(system["architecture"])
        sizes = {
            **preset_of("small", system["architecture"]).sizes,
            **system,
            "hidden": hidden,
            "embedding": hidden // 2,
            "maxout": hidden // 2,
            "output_rank": 0,
        }
        if kind.uses is None or "feed_forward" in kind.uses:
            sizes["feed_forward"] = 4 * hidden
        return ModelConfig(source_words=words[0], target_words=words[1], **sizes)

    def size(hidden: int) -> int:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in build(config(hidden)).parameters())

    low, high = HIDDEN_STEP, 2 * HIDDEN_STEP
    while size(high) < parameters:
        low, high = high, 2 * high
    while high - low > HIDDEN_STEP:
        middle = (low + high) // 2 // HIDDEN_STEP * HIDDEN_STEP
        low, high = (middle, high) if size(middle) < parameters else (low, middle)
    nearest = min((low, high), key=lambda hidden: abs(size(hidden) - parameters))
    if abs(size(nearest) - parameters) > parameters / 4:
        raise UsageError(
            f"--parameters {parameters:,}: the nearest {system['architecture']} has "
            f"{size(nearest):,}; with shortlists of {words[0]:,} and {words[1]:,} words"
        )
    return config(nearest)


class Ranking(NamedTuple):
    """Over the aligned occurrences of sources whose targets were not all seen equally often.

    Attributes:
        first: Share of the occurrences whose target has the highest score of its source.
        reciprocal: Mean of 1 / rank of the target.
    """

    first: float
    reciprocal: float


def ranking_quality(pairs: PhrasePairs, scores: npt.ArrayLike) -> Ranking | None:
    """How well scores rank the targets of each source.

    Args:
        pairs: All targets of some source phrases; weights are how often each was aligned.
        scores: (pairs,) the higher, the better. Equal ones count as in random order.

    Returns:
        None where there is nothing to rank: no weights, or none that differ within a source.
    """
    if pairs.weights is None:
        return None
    values = np.asarray(scores, np.float64)
    counts = pairs.weights.astype(np.float64)
    _, source = np.unique(pairs.source.hashes(), return_inverse=True)
    first, reciprocal, occurrences = 0.0, 0.0, 0.0
    for rows in _groups(source):
        seen = counts[rows]
        if (seen == seen[0]).all():
            continue
        seen = _in_order(seen, values[rows])
        first += seen[0]
        reciprocal += float((seen / np.arange(1, len(seen) + 1)).sum())
        occurrences += seen.sum()
    if not occurrences:
        return None
    return Ranking(float(first / occurrences), float(reciprocal / occurrences))


def _in_order(
    counts: npt.NDArray[np.float64], scores: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The counts by falling score; of equal scores each has their mean."""
    _, tie, size = np.unique(-scores, return_inverse=True, return_counts=True)
    means = np.bincount(tie, counts) / size
    return means[np.sort(tie)]


def _groups(source: npt.NDArray[np.intp]) -> list[npt.NDArray[np.intp]]:
    order = np.argsort(source, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(source[order])) + 1)
