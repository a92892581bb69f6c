"""A log-probability becomes the number that Moses reads; what the columns are is noted beside them.

Moses takes the natural logarithm of every score and floors it at -100 (LoaderStandard.cpp:203,
Util.h:394): a column holds exp(value), never 0, never above 1. The signature is a small JSON file
beside a rescored table: enough to make it again, and to refuse the same column twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from moses_integration.formats.signature import SignedColumn
from phrase_scorer.errors import ModelError, PhraseScorerError, UsageError
from phrase_scorer.models import Direction
from phrase_scorer.models.directory import ModelDirectory
from phrase_scorer.scoring.scorer import PhraseScorer
from phrase_scorer.text.phrase_pairs import PairBlock
from phrase_scorer.text.vocabulary import UNKNOWN, Vocabulary

DEFAULT_FLOOR = -50.0
LOWEST_FLOOR = -87.0  # exp(-87) is still a normal float32, which is what Moses reads into
NEUTRAL_SCORE = b"1"  # ln 1 = 0: a line that cannot be scored neither gains nor loses

FORWARD = "p(target | source)"
INVERSE = "p(source | target)"
UNKNOWN_WORDS = "unknown target words"

Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FeatureColumn:
    """One more score of every entry.

    Attributes:
        name: What the column is, for the signature.
        model: Fingerprint of the model it comes from.
        values: Natural-log values of a block's pairs.
        precision: How they are computed, for the signature.
        scorers: Those that compute them.
    """

    name: str
    model: str
    values: Callable[[PairBlock], Values]
    precision: str = "float32"
    scorers: tuple[PhraseScorer, ...] = ()


def translation_column(scorer: PhraseScorer, model: str | Path | None = None) -> FeatureColumn:
    """p(target | source) of a forward model; `model`, its directory, is for the message.

    Raises:
        ModelError: The model was trained in the other direction.
    """
    _require_direction(scorer, "forward", model)
    return _column(FORWARD, scorer)


def inverse_column(scorer: PhraseScorer, model: str | Path | None = None) -> FeatureColumn:
    """p(source | target) of an inverse model.

    Raises:
        ModelError: The model was trained in the other direction.
    """
    _require_direction(scorer, "inverse", model)
    return _column(INVERSE, scorer)


def _column(name: str, scorer: PhraseScorer) -> FeatureColumn:
    return FeatureColumn(name, scorer.fingerprint, scorer.score_block, scorer.precision, (scorer,))


def ensemble_column(columns: Sequence[FeatureColumn]) -> FeatureColumn:
    """The mixture of several models in equal parts: ln of the mean of their probabilities."""
    return FeatureColumn(
        f"{columns[0].name}, mean of {len(columns)} models",
        "+".join(column.model for column in columns),
        Mixture(tuple(columns)),
        columns[0].precision,
        tuple(chain.from_iterable(column.scorers for column in columns)),
    )


@dataclass(frozen=True)
class Mixture:
    """The values of an ensemble. (A class, not a closure: worker processes are sent it.)"""

    columns: tuple[FeatureColumn, ...]

    def __call__(self, block: PairBlock) -> Values:
        """(pairs,) natural logarithms of the mean probabilities."""
        every = np.stack([column.values(block).astype(np.float64) for column in self.columns])
        mixture = np.logaddexp.reduce(every, axis=0) - np.log(len(self.columns))
        return np.asarray(mixture, np.float32)


def unknown_words_column(scorer: PhraseScorer) -> FeatureColumn:
    """The paper's word penalty WP: -(target words outside the model's shortlist).

    Written exp(-count), so that a positive weight punishes each of them (section 4.1, WP).
    """
    forward = scorer.direction == "forward"
    vocabulary = scorer.target_vocabulary if forward else scorer.source_vocabulary
    return FeatureColumn(
        UNKNOWN_WORDS, scorer.fingerprint, UnknownWords(vocabulary), scorers=(scorer,)
    )


def words_unknown_to(model: str | Path) -> FeatureColumn:
    """The same for any model directory, a language model's too, which scores nothing here.

    Raises:
        ModelError: The directory is incomplete or broken.
    """
    directory = ModelDirectory(Path(model))
    forward = directory.model_config().direction == "forward"
    vocabulary = directory.vocabularies()[forward]
    return FeatureColumn(UNKNOWN_WORDS, directory.fingerprint(), UnknownWords(vocabulary))


@dataclass(frozen=True)
class UnknownWords:
    """The values of the word penalty, for a shortlist of the target language."""

    vocabulary: Vocabulary

    def __call__(self, block: PairBlock) -> Values:
        """(pairs,) minus how many target words are unknown."""
        ids = self.vocabulary.ids(block.targets)
        phrases = np.repeat(np.arange(len(ids)), ids.lengths)
        unknown = np.bincount(phrases[ids.ids == UNKNOWN], minlength=len(ids))
        return -unknown.astype(np.float32)


def _require_direction(scorer: PhraseScorer, wanted: Direction, model: str | Path | None) -> None:
    if scorer.direction != wanted:
        given = INVERSE if wanted == "forward" else FORWARD
        raise ModelError(
            f"the model was trained in the other direction, {given}; "
            f"train one with --direction {wanted}",
            path=model,
        )


def score_texts(values: Values, floor: float = DEFAULT_FLOOR) -> list[bytes]:
    """exp(value) as text, for natural-log values.

    Seven significant digits: ln of the text differs from the value by at most 5e-7, which is about
    the resolution of float32 there. Values below the floor become the floor, those above 0
    (rounding) become 0.

    Raises:
        PhraseScorerError: A value is not a number.
    """
    if not len(values):
        return []
    if np.isnan(values).any():
        raise PhraseScorerError("the model gives a score that is not a number: broken weights?")
    numbers = np.exp(np.clip(values.astype(np.float64), floor, 0.0))
    return ("%.7g\n" * len(numbers) % tuple(numbers.tolist())).encode().split()


def check_floor(floor: float) -> None:
    """Checks a floor of natural-log values.

    Raises:
        UsageError: Above 0, or so low that Moses would take the score for 0.
    """
    if not LOWEST_FLOOR <= floor < 0:
        raise UsageError(f"--floor must be from {LOWEST_FLOOR:g} to below 0, not {floor:g}")


def sign_columns(columns: Sequence[FeatureColumn], first: int, floor: float) -> list[SignedColumn]:
    """The columns as a signature names them, the first at place `first`."""
    return [
        SignedColumn(place, column.name, column.model, floor, precision=column.precision)
        for place, column in enumerate(columns, first)
    ]
