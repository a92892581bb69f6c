"""Columns: each a log-probability (or count) of phrase pairs that becomes a score of the table.

Moses takes the natural logarithm of every score and floors it at -100 (LoaderStandard.cpp:203,
Util.h:394): a column holds exp(value), never 0, never above 1. A new column is one function here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from moses_integration.formats.signature import SignedColumn
from moses_integration.rescoring.request import (
    DEFAULT_FLOOR,
    PROBABILITIES,
    UNKNOWN_WORDS,
    RescoreRequest,
)
from phrase_scorer.errors import ModelError, PhraseScorerError, UsageError
from phrase_scorer.models import Direction
from phrase_scorer.models.directory import ModelDirectory
from phrase_scorer.scoring.scorer import PhraseScorer, mixture
from phrase_scorer.text.phrase_pairs import PairBlock
from phrase_scorer.text.vocabulary import UNKNOWN, Vocabulary

NEUTRAL_SCORE = b"1"  # ln 1 = 0: a line that cannot be scored neither gains nor loses


LogValues = npt.NDArray[np.float32]  # natural logarithms, one per pair


@dataclass(frozen=True)
class Column:
    """One more score of every entry."""

    name: str  # what it is, for the signature
    model: str  # fingerprint of the model that it comes from
    values: Callable[[PairBlock], LogValues]  # of a block's pairs
    precision: str = "float32"  # how they are computed, for the signature
    arithmetic: Mapping[str, str] = field(default_factory=dict)  # the same: `computed_with`
    scorers: tuple[PhraseScorer, ...] = ()  # those that compute them


def load_columns(request: RescoreRequest) -> list[Column]:
    """The columns of a request, its models loaded: forward, inverse, unknown words.

    Raises:
        ModelError: A model directory is broken, or its model of the other direction.
        UsageError: Two columns are the same; the device is not there, or cannot compute so.
    """
    columns: list[Column] = []
    models: dict[Direction, tuple[Path, ...]] = {
        "forward": request.models,
        "inverse": request.inverse_models,
    }
    for wanted, paths in models.items():
        scorers = [PhraseScorer.load(path, request.arithmetic) for path in paths]
        made = [translation_column(s, p, wanted) for s, p in zip(scorers, paths, strict=True)]
        columns += [ensemble_column(made)] if request.ensemble and len(made) > 1 else made
    if request.unknown_words:
        columns.append(unknown_words_column(scorers_of(columns)[0]))
    if request.unknown_words_of:
        columns.append(words_unknown_to(request.unknown_words_of))
    if not request.allow_duplicate:
        _refuse_equal(columns)
    return columns


def _refuse_equal(columns: Sequence[Column]) -> None:
    for place, new in enumerate(columns):
        if (new.name, new.model) in {(c.name, c.model) for c in columns[:place]}:
            what = f"two of the new columns are {new.name} of one model ({new.model})"
            raise UsageError(f"{what}; --allow-duplicate adds both")


def scorers_of(columns: Sequence[Column]) -> list[PhraseScorer]:
    """The scorers of the columns, each once."""
    return list(dict.fromkeys(chain.from_iterable(column.scorers for column in columns)))


def vocabularies_of(columns: Sequence[Column]) -> list[Vocabulary]:
    """The vocabularies in which the columns look words up, each once."""
    return [v for s in scorers_of(columns) for v in (s.source_vocabulary, s.target_vocabulary)]


def translation_column(
    scorer: PhraseScorer, model: str | Path | None = None, wanted: Direction = "forward"
) -> Column:
    """p(target | source) of a forward model, p(source | target) of an inverse; else ModelError."""
    if scorer.direction != wanted:
        raise ModelError(
            f"the model was trained in the other direction, {PROBABILITIES[scorer.direction]}; "
            f"train one with --direction {wanted}",
            path=model,
        )
    name = PROBABILITIES[wanted]
    how = scorer.precision, scorer.computed_with
    return Column(name, scorer.fingerprint, scorer.score_block, *how, (scorer,))


def ensemble_column(columns: Sequence[Column]) -> Column:
    """The mixture of several models in equal parts: ln of the mean of their probabilities."""
    return Column(
        f"{columns[0].name}, mean of {len(columns)} models",
        "+".join(column.model for column in columns),
        Mixture(tuple(columns)),
        columns[0].precision,
        columns[0].arithmetic,
        tuple(chain.from_iterable(column.scorers for column in columns)),
    )


@dataclass(frozen=True)
class Mixture:
    """The values of an ensemble. (A class, not a closure: worker processes are sent it.)"""

    columns: tuple[Column, ...]

    def __call__(self, block: PairBlock) -> LogValues:
        """(pairs,) natural logarithms of the mean probabilities."""
        return mixture([column.values(block) for column in self.columns])


def unknown_words_column(scorer: PhraseScorer) -> Column:
    """The paper's word penalty WP: -(target words outside the model's shortlist).

    Written exp(-count), so that a positive weight punishes each of them (section 4.1, WP).
    """
    values = UnknownWords(scorer.vocabularies["target"])
    return Column(UNKNOWN_WORDS, scorer.fingerprint, values, scorers=(scorer,))


def words_unknown_to(model: str | Path) -> Column:
    """The word penalty for the shortlist of any model directory, a language model's too."""
    directory = ModelDirectory(Path(model))
    forward = directory.model_config().direction == "forward"
    vocabulary = directory.vocabularies()[forward]
    return Column(UNKNOWN_WORDS, directory.fingerprint(), UnknownWords(vocabulary))


@dataclass(frozen=True)
class UnknownWords:
    """The values of the word penalty, for a shortlist of the target language."""

    vocabulary: Vocabulary

    def __call__(self, block: PairBlock) -> LogValues:
        """(pairs,) minus how many target words are unknown."""
        ids = self.vocabulary.ids(block.targets)
        phrases = np.repeat(np.arange(len(ids)), ids.lengths)
        unknown = np.bincount(phrases[ids.ids == UNKNOWN], minlength=len(ids))
        return -unknown.astype(np.float32)


def score_texts(values: LogValues, floor: float = DEFAULT_FLOOR) -> list[bytes]:
    """exp(value) as text, for natural-log values.

    Seven significant digits: ln of the text differs from the value by at most 5e-7, which is about
    the resolution of float32 there. Values below the floor become the floor, those above 0
    (rounding) become 0.
    What is not a number (broken weights) is refused.
    """
    if not len(values):
        return []
    if np.isnan(values).any():
        raise PhraseScorerError("the model gives a score that is not a number: broken weights?")
    numbers = np.exp(np.clip(values.astype(np.float64), floor, 0.0))
    # One format for all numbers: a call for each would take longer than reading the table.
    return ("%.7g\n" * len(numbers) % tuple(numbers.tolist())).encode().split()


def sign_columns(
    columns: Sequence[Column], places: Iterable[int], floor: float
) -> list[SignedColumn]:
    """The columns as a signature names them, at their places among the scores."""
    return [
        SignedColumn(
            *(place, column.name, column.model, floor),
            precision=column.precision,
            arithmetic=dict(column.arithmetic),
        )
        for place, column in zip(places, columns, strict=True)
    ]
