"""Features of whole hypotheses for n-best lists: models, a second language model, unknown words.

A feature takes the hypotheses of some sentences and gives each a value. What is asked of a model
more than once, because hypotheses or phrases repeat, is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from moses_integration.formats.nbest import LOG_10, Hypothesis, check_feature_name, read_nbest
from moses_integration.formats.phrase_table import surface_words
from phrase_scorer.errors import UsageError, require_one_each
from phrase_scorer.language_model.arpa import kenlm_total, load_kenlm
from phrase_scorer.runtime.console import progress_bar
from phrase_scorer.runtime.device import Arithmetic
from phrase_scorer.runtime.output import STANDARD, OutputFile
from phrase_scorer.runtime.streams import numbered_lines, refuse_pipes, require_readable
from phrase_scorer.text.phrase_pairs import PairBlock, words_of
from phrase_scorer.text.vocabulary import Vocabulary

BLOCK_HYPOTHESES = 20_000  # scored together, more or less

Words = list[bytes]
FeatureValues = npt.NDArray[np.float64]
Sentence = tuple[bytes, ...]
Pair = tuple[Sentence, Sentence]
Part = TypeVar("Part")  # what a model is asked for: a pair, or a sentence
ScorePairs = Callable[[PairBlock], npt.NDArray[np.float32]]  # as a Column's values
Vocabularies = Mapping[str, Vocabulary]  # by side, "source" and "target"


@dataclass(frozen=True)
class NBestFeature:
    """One more feature of every hypothesis."""

    name: str  # letters and digits, as Moses' tools want it
    values: Callable[[Sequence[tuple[Words, Hypothesis]]], FeatureValues]  # natural logarithms
    vocabularies: Vocabularies = field(default_factory=dict)  # of its model


@dataclass(frozen=True)
class NbestRequest:
    """An n-best list and its new features, in the order of the fields; or weights to rerank it by.

    Raises:
        UsageError: No source, no features, unknown words of no model or of two, or names that do
            not fit; features as well as weights.
        DataError: The output is an input, or cannot be written.
    """

    nbest_list: str
    source: str = ""  # the text that was decoded
    models: tuple[Path, ...] = ()
    inverse_models: tuple[Path, ...] = ()
    unknown_words: bool = False  # outside the first model's shortlist
    unknown_words_of: Path | None = None  # outside this model's shortlist
    language_models: tuple[str, ...] = ()  # of KenLM
    continuous_space_models: tuple[str, ...] = ()
    names: tuple[str, ...] = ()  # of the features
    level: Literal["sentence", "phrase"] = "sentence"  # what models score
    rerank: str = ""  # the file of the weights; then nothing is added
    whole_list: bool = False  # reranked, not the best hypotheses alone
    max_unknown: float | None = None  # share of unknown words above which nothing is scored
    output: str = STANDARD
    arithmetic: Arithmetic = field(default_factory=Arithmetic)
    quiet: bool = False

    def __post_init__(self) -> None:
        if not self.rerank:
            self._check_features()
        elif self.feature_names:
            raise UsageError("--rerank adds no features; do that first")
        networks = self.models + self.inverse_models + self.continuous_space_models
        if self.max_unknown is not None and not networks:
            raise UsageError("--max-unknown needs --model, --inverse-model or --cslm")
        OutputFile(self.output, inputs=[self.nbest_list, self.rerank or self.source])
        require_readable(self.nbest_list, self.rerank or self.source, *self.language_models)

    def _check_features(self) -> None:
        default = self._default_names()
        refuse_pipes(*self.language_models)
        if self.whole_list:
            raise UsageError("--whole-list needs --rerank WEIGHTS")
        if not self.source:
            raise UsageError("give --source FILE, the text that was decoded")
        if not default:
            raise UsageError("give --model, --inverse-model, --lm or --cslm; or --rerank WEIGHTS")
        if self.names:
            require_one_each("--name", len(self.names), len(default), "new feature")
        if self.unknown_words and self.unknown_words_of:
            raise UsageError("--unknown-words or --unknown-words-of DIR, not both")
        if self.unknown_words and not self.models and not self.inverse_models:
            raise UsageError("--unknown-words needs a model, whose shortlist it is")
        _check_names(self.feature_names)

    @property
    def feature_names(self) -> list[str]:
        """The name of each feature."""
        return list(self.names) or self._default_names()

    def _default_names(self) -> list[str]:
        return [
            *[f"RNN{i}" for i in range(len(self.models))],
            *[f"InverseRNN{i}" for i in range(len(self.inverse_models))],
            *["UnknownTargetWords0"] * bool(self.unknown_words or self.unknown_words_of),
            *[f"RescoringLM{i}" for i in range(len(self.language_models))],
            *[f"CSLM{i}" for i in range(len(self.continuous_space_models))],
        ]


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        check_feature_name(name)
        if names.count(name) > 1:
            raise UsageError(f"two features are called {name}; give --name for each")


def sentence_feature(
    name: str, score: ScorePairs, vocabularies: Vocabularies | None = None
) -> NBestFeature:
    """The `score` of the whole hypothesis given the whole source (forced decoding)."""

    def pair(source: Words, hypothesis: Hypothesis) -> Sequence[Pair]:
        return [(tuple(source), tuple(hypothesis.words))]

    return _feature(name, pair, _of_pairs(score), vocabularies)


def phrase_feature(
    name: str, score: ScorePairs, vocabularies: Vocabularies | None = None
) -> NBestFeature:
    """The sum of `score` over the phrase pairs that the decoder used (from the segmentation).

    A word that the decoder passed through untranslated counts as the pair (word, word), which is
    the same in all hypotheses of a sentence; one that it dropped, as a pair with an empty target.
    """
    return _feature(name, _phrases, _of_pairs(score), vocabularies)


def language_model_feature(name: str, path: str | Path) -> NBestFeature:
    """The ln p of the hypothesis under an n-gram LM of KenLM, sentence boundaries included."""
    model = load_kenlm(path, "--lm")

    def score(texts: list[Sentence]) -> list[float]:
        return [LOG_10 * kenlm_total(model, text) for text in texts]

    return _feature(name, _target, score)


def continuous_space_feature(name: str, path: str | Path, arithmetic: Arithmetic) -> NBestFeature:
    """The ln p of the hypothesis under a continuous-space language model, boundaries included.

    The network itself is asked, not the back-off model that `export-arpa` makes of it.
    """
    from phrase_scorer.language_model.model import LanguageModel

    model = LanguageModel.load(path, arithmetic.torch_device())
    vocabularies = {"target": model.vocabulary}
    return _feature(name, _target, lambda texts: model.score(texts).tolist(), vocabularies)


def _feature(
    name: str,
    parts: Callable[[Words, Hypothesis], Sequence[Part]],
    score: Callable[[list[Part]], list[float]],
    vocabularies: Vocabularies | None = None,
) -> NBestFeature:
    """The sum of `score` over the parts of a hypothesis; a part that is repeated is scored once."""

    def values(items: Sequence[tuple[Words, Hypothesis]]) -> FeatureValues:
        used = [parts(source, hypothesis) for source, hypothesis in items]
        distinct = list(dict.fromkeys(chain.from_iterable(used)))
        known = dict(zip(distinct, score(distinct), strict=True))
        return np.array([sum(known[part] for part in some) for some in used])

    return NBestFeature(name, values, vocabularies or {})


def _of_pairs(score: ScorePairs) -> Callable[[list[Pair]], list[float]]:
    def scores(pairs: list[Pair]) -> list[float]:
        sides = [list(source) for source, _ in pairs], [list(target) for _, target in pairs]
        return [float(value) for value in score(PairBlock(*sides))]

    return scores


def _target(_: Words, hypothesis: Hypothesis) -> Sequence[Sentence]:
    return [tuple(hypothesis.words)]


def _phrases(source: Words, hypothesis: Hypothesis) -> Sequence[Pair]:
    words = hypothesis.words
    spans = hypothesis.segmentation(len(source))
    return [(tuple(source[a:b]), tuple(words[c:d])) for (a, b), (c, d) in spans]


def add_features(
    nbest: str | Path, source: str | Path, output: str | Path, features: Sequence[NBestFeature],
    *, begin: Callable[[PairBlock], None] | None = None, show_progress: bool = True,
) -> int:  # fmt: skip
    """Writes the n-best list with the features appended to each line; returns the number of lines.

    `begin` is shown the words of the first hypotheses before any is scored.

    Raises:
        DataError: A broken line or an empty list, a sentence beyond the source, a feature that is
            there already or not finite, or an output that is the list.
        UsageError: A name that Moses' tools do not accept, or that is given twice.
    """
    names = [feature.name for feature in features]
    _check_names(names)
    out = OutputFile(output, inputs=[nbest, source])
    sources = surface_words([line.removesuffix(b"\r") for _, line in numbered_lines(source)])
    lines = 0
    with (
        out,
        progress_bar("scoring", show=show_progress, total=len(sources), unit=" sentences") as bar,
    ):
        for block in _blocks(nbest, sources, names):
            if begin and not lines:
                begin(PairBlock([s for s, _ in block], [h.words for _, h in block]))
            columns = [_finite_values(feature, block) for feature in features]
            enlarged = (
                hypothesis.with_features(zip(names, values, strict=True)) + b"\n"
                for (_, hypothesis), *values in zip(block, *columns, strict=True)
            )
            out.write(b"".join(enlarged))
            lines += len(block)
            bar.update(block[-1][1].sentence + 1 - bar.n)
    return lines


def _finite_values(feature: NBestFeature, block: Sequence[tuple[Words, Hypothesis]]) -> list[float]:
    values = feature.values(block)
    for place in np.flatnonzero(~np.isfinite(values)).tolist():
        what = f"the value of {feature.name} would be {values[place]}: a broken model?"
        raise block[place][1].error(what, None)
    found: list[float] = values.tolist()
    return found


def _blocks(
    nbest: str | Path, sources: list[Words], names: Sequence[str]
) -> Iterator[list[tuple[Words, Hypothesis]]]:
    """(source words, hypothesis) of several sentences at once."""
    block: list[tuple[Words, Hypothesis]] = []
    for hypotheses in read_nbest(nbest):
        number = hypotheses[0].sentence
        if number >= len(sources):
            what = f"sentence {number}, but the source has {len(sources)} (they count from 0)"
            raise hypotheses[0].error(what, hypotheses[0].fields[0].strip())
        for hypothesis in hypotheses:
            _check_new(hypothesis, names)
        block += [(sources[number], hypothesis) for hypothesis in hypotheses]
        if len(block) >= BLOCK_HYPOTHESES:
            yield block
            block = []
    if block:
        yield block


def _check_new(hypothesis: Hypothesis, names: Sequence[str]) -> None:
    text = hypothesis.fields[2]
    for name in names:
        label = b"%b=" % name.encode()
        if label in text and label in words_of(text):
            there = f"the feature {name} is there already; choose another --name"
            raise hypothesis.error(there, None)
