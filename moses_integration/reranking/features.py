"""Features of whole hypotheses for n-best lists: models, a second language model, unknown words.

A feature takes the hypotheses of some sentences and gives each a value. What is asked of a model
more than once, because hypotheses or phrases repeat, is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from moses_integration.formats.nbest import LOG_10, Hypothesis, check_feature_name, read_nbest
from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.language_model.arpa import load_kenlm
from phrase_scorer.runtime.console import progress_bar
from phrase_scorer.runtime.output import OutputFile, is_same_file
from phrase_scorer.runtime.streams import line_blocks
from phrase_scorer.text.phrase_pairs import PairBlock

BLOCK_HYPOTHESES = 20_000  # about how many are scored together

Words = list[bytes]
Values = npt.NDArray[np.float64]
Pairs = list[tuple[tuple[bytes, ...], tuple[bytes, ...]]]
ScorePairs = Callable[[PairBlock], npt.NDArray[np.float32]]  # as a FeatureColumn's values


@dataclass(frozen=True)
class NBestFeature:
    """One more feature of every hypothesis.

    Attributes:
        name: Letters and digits, as Moses' tools want it.
        values: Natural-log values for (source words, hypothesis) pairs.
    """

    name: str
    values: Callable[[Sequence[tuple[Words, Hypothesis]]], Values]


def sentence_feature(name: str, score: ScorePairs) -> NBestFeature:
    """What `score` gives for the whole hypothesis and the whole source (forced decoding)."""

    def values(items: Sequence[tuple[Words, Hypothesis]]) -> Values:
        pairs = [(tuple(source), tuple(h.words)) for source, h in items]
        known = _scores(pairs, score)
        return np.array([known[pair] for pair in pairs])

    return NBestFeature(name, values)


def phrase_feature(name: str, score: ScorePairs) -> NBestFeature:
    """The sum of `score` over the phrase pairs that the decoder used (from the segmentation).

    For a word that the decoder passed through untranslated, the pair (word, word) is scored, too;
    it is the same in all hypotheses of a sentence.
    """

    def values(items: Sequence[tuple[Words, Hypothesis]]) -> Values:
        used = [_phrases(source, hypothesis) for source, hypothesis in items]
        known = _scores(list(chain.from_iterable(used)), score)
        return np.array([sum(known[pair] for pair in pairs) for pairs in used])

    return NBestFeature(name, values)


def language_model_feature(name: str, path: str | Path) -> NBestFeature:
    """Ln p of the hypothesis under an n-gram LM of KenLM, sentence boundaries included.

    Raises:
        UsageError: The package kenlm is not installed.
        DataError: The LM cannot be read.
    """
    model = load_kenlm(path, "--lm")

    def values(items: Sequence[tuple[Words, Hypothesis]]) -> Values:
        texts = [b" ".join(h.words).decode("utf-8", "surrogateescape") for _, h in items]
        known = {text: LOG_10 * model.score(text) for text in set(texts)}
        return np.array([known[text] for text in texts])

    return NBestFeature(name, values)


def continuous_space_feature(name: str, path: str | Path, device: str) -> NBestFeature:
    """Ln p of the hypothesis under a continuous-space language model, boundaries included.

    The network itself, not the back-off model that `export-arpa` makes of it.

    Raises:
        ModelError: The directory is incomplete or broken.
        UsageError: It is no language model, or the device is not there.
    """
    from phrase_scorer.language_model.model import LanguageModel
    from phrase_scorer.runtime.device import choose_device

    model = LanguageModel.load(path, choose_device(device))

    def values(items: Sequence[tuple[Words, Hypothesis]]) -> Values:
        texts = [tuple(hypothesis.words) for _, hypothesis in items]
        distinct = list(dict.fromkeys(texts))
        known = dict(zip(distinct, model.score(distinct).tolist(), strict=True))
        return np.array([known[text] for text in texts])

    return NBestFeature(name, values)


def _scores(pairs: Pairs, score: ScorePairs) -> dict[tuple[tuple[bytes, ...], ...], float]:
    distinct = list(dict.fromkeys(pairs))
    block = PairBlock([list(source) for source, _ in distinct], [list(t) for _, t in distinct])
    return dict(zip(distinct, score(block).tolist(), strict=True))


def _phrases(source: Words, hypothesis: Hypothesis) -> Pairs:
    words, pairs = hypothesis.words, []
    for (first, end), (target, target_end) in hypothesis.segmentation:
        if end > len(source) or target_end > len(words):
            raise hypothesis.error(
                f"the segmentation does not fit {len(source)} source and {len(words)} target words",
                hypothesis.fields[4].strip(),
            )
        pairs.append((tuple(source[first:end]), tuple(words[target:target_end])))
    return pairs


def add_features(
    nbest: str | Path,
    source: str | Path,
    output: str | Path,
    features: Sequence[NBestFeature],
    *,
    show_progress: bool = True,
) -> int:
    """Writes the n-best list with the features appended to each line; how many lines.

    Args:
        nbest: The list; `-` is standard input.
        source: The text that was decoded, one sentence a line.
        output: gz where the name ends so; it has its name only when it is whole.
        features: In this order.
        show_progress: A progress bar over the sentences.

    Raises:
        DataError: A broken line, a sentence that the source has not, an empty hypothesis of a
            sentence that is not empty, a feature that is there already.
        UsageError: A name that Moses' tools would not take, or given twice.
    """
    names = [feature.name for feature in features]
    for name in names:
        check_feature_name(name)
        if names.count(name) > 1:
            raise UsageError(f"two features are called {name}; give --name for each")
    if is_same_file(nbest, output):
        raise DataError("the output would overwrite the input", path=output)
    sources = [line.split() for block in line_blocks(source) for line in block.lines]
    lines = 0
    with (
        OutputFile(output) as out,
        progress_bar("scoring", show=show_progress, total=len(sources), unit=" sentences") as bar,
    ):
        for block in _blocks(nbest, sources, names):
            columns = [feature.values(block).tolist() for feature in features]
            rows = zip(*columns, strict=True)
            out.write(
                b"".join(
                    hypothesis.with_features(zip(names, row, strict=True)) + b"\n"
                    for (_, hypothesis), row in zip(block, rows, strict=True)
                )
            )
            lines += len(block)
            bar.update(block[-1][1].sentence + 1 - bar.n)
    return lines


def _blocks(
    nbest: str | Path, sources: list[Words], names: Sequence[str]
) -> Iterator[list[tuple[Words, Hypothesis]]]:
    """(source words, hypothesis) of several sentences at once."""
    block: list[tuple[Words, Hypothesis]] = []
    for hypotheses in read_nbest(nbest):
        number = hypotheses[0].sentence
        if number >= len(sources):
            raise hypotheses[0].error(
                f"sentence {number}, but the source has {len(sources)} (they count from 0)",
                hypotheses[0].fields[0].strip(),
            )
        for hypothesis in hypotheses:
            _check(hypothesis, sources[number], names)
        block += [(sources[number], hypothesis) for hypothesis in hypotheses]
        if len(block) >= BLOCK_HYPOTHESES:
            yield block
            block = []
    if block:
        yield block


def _check(hypothesis: Hypothesis, source: Words, names: Sequence[str]) -> None:
    if source and not hypothesis.words:
        raise hypothesis.error("empty hypothesis of a sentence that is not empty", None)
    text = hypothesis.fields[2]
    for name in names:
        if b" %b= " % name.encode() in text:
            raise hypothesis.error(
                f"the feature {name} is there already; choose another --name", None
            )
