"""Scores of the pairs of a file, line by line: as numbers, beside their pairs, or as JSON.

In: blocks of pairs. Out: one line per pair, and what was counted. A file can be gone on with.
torch is not imported here: a refusal costs no time.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from phrase_scorer.errors import DataError, PhraseScorerError, UsageError
from phrase_scorer.runtime.device import Arithmetic
from phrase_scorer.runtime.journal import BESIDE, JournaledFile, check_resume
from phrase_scorer.runtime.output import STANDARD, OutputFile, compressed_block, is_same_file
from phrase_scorer.runtime.records import Origin, typed
from phrase_scorer.runtime.streams import refuse_pipes
from phrase_scorer.text.pair_files import PairFiles
from phrase_scorer.text.phrase_pairs import PairBlock, words_of
from phrase_scorer.text.vocabulary import Counts, Vocabulary
from phrase_scorer.version import __version__

if TYPE_CHECKING:
    from phrase_scorer.scoring.scorer import PhraseScorer, Scores

ScoreFormat = Literal["scores", "tsv", "jsonl"]
NO_SCORE = "nan"  # of a line that is no pair
IN_JSON = "backslashreplace"  # of bytes that are not UTF-8: they cannot stand there


@dataclass(frozen=True)
class ScoreRequest:
    """Pairs, the models that score them, and what is written of it.

    Raises:
        UsageError: Options that do not go together, or an output that is impossible.
        DataError: The output would overwrite an input.
    """

    pairs: PairFiles
    models: tuple[Path, ...]
    output: str = STANDARD
    ensemble: bool = False  # one column: the mean of the models' probabilities
    word_scores: bool = False  # of each target symbol, too
    normalize: bool = False  # divide by the number of target symbols
    kind: ScoreFormat = "scores"
    summary: bool = False
    max_unknown: float | None = None  # share of unknown words above which nothing is scored
    resume: bool = False  # write so that a run can be gone on with, and go on with one
    quiet: bool = False
    arithmetic: Arithmetic = field(default_factory=Arithmetic)

    def __post_init__(self) -> None:
        if self.ensemble and len(self.models) < 2:
            raise UsageError("--ensemble needs at least two models")
        if self.ensemble and self.word_scores:
            raise UsageError("--word-scores are of a model, not of an --ensemble")
        for number, model in enumerate(self.models):
            if any(is_same_file(model, other) for other in self.models[:number]):
                raise UsageError(f"--model {model} is given twice")
        place = self.output_file()
        begun = [f"{self.output}{suffix}" for suffix in BESIDE]
        if place.replaces and not self.resume and all(map(os.path.exists, begun)):
            message = "an unfinished run of it is here: --resume goes on with it, or delete"
            raise DataError(f"{message} {' and '.join(begun)}", path=self.output)
        check_resume(place, resume=self.resume)
        if self.resume and STANDARD in self.pairs.paths:
            raise UsageError("--resume reads again what was scored: give a file, not -")
        if self.resume:
            refuse_pipes(*self.pairs.paths)

    @property
    def names(self) -> list[str]:
        """The names of the models, each different: those of their directories."""
        names: list[str] = []
        for model in self.models:
            stem = name = model.name or model.resolve().name
            number = 2
            while name in names:
                name, number = f"{stem}.{number}", number + 1
            names.append(name)
        return names

    def output_file(self) -> OutputFile:
        """Where it is written."""
        beside = BESIDE if self.resume else ()
        return OutputFile(self.output, inputs=self.pairs.paths, beside=beside)


@dataclass(frozen=True)
class ScoreColumn:
    """The scores of one model, or the mean of several."""

    name: str
    scorers: tuple[PhraseScorer, ...]

    def scores(self, block: PairBlock, *, by_word: bool) -> tuple[Scores, list[Scores]]:
        """((pairs,) ln p; with `by_word` those of each symbol, of which they are the sums)."""
        from phrase_scorer.scoring.scorer import mixture

        if by_word:
            words = self.scorers[0].word_scores_of_block(block)
            sums = [float(scores.sum(dtype=float)) for scores in words]
            return np.array(sums, np.float32), words
        every = [scorer.score_block(block) for scorer in self.scorers]
        return every[0] if len(every) == 1 else mixture(every), []

    def symbols(self, block: PairBlock) -> np.ndarray[Any, np.dtype[np.int64]]:
        """(pairs,) symbols whose probability is in a score: the words, and the end."""
        forward = self.scorers[0].direction == "forward"
        predicted = block.targets if forward else block.sources
        return np.fromiter(map(len, predicted), np.int64, len(predicted)) + 1


def load_score_columns(request: ScoreRequest) -> list[ScoreColumn]:
    """The columns of a request, its models loaded; an ensemble of two directions is refused."""
    from phrase_scorer.scoring.scorer import PhraseScorer

    scorers = [PhraseScorer.load(path, request.arithmetic) for path in request.models]
    named = dict(zip(request.names, scorers, strict=True))
    if not request.ensemble:
        return [ScoreColumn(name, (scorer,)) for name, scorer in named.items()]
    if len({scorer.direction for scorer in scorers}) > 1:
        raise UsageError("--ensemble of models of two directions")
    return [ScoreColumn(f"mean of {', '.join(named)}", tuple(scorers))]


@dataclass
class ScoreCounts:
    """What was counted in some blocks; those of parts can be added."""

    pairs: int = 0
    bad_lines: int = 0
    first_bad: int | None = None  # number of its line, from 1
    nats: list[float] = field(default_factory=list)  # of each column, the sum of -ln p
    symbols: list[int] = field(default_factory=list)  # of each column
    vocabularies: list[Counts] = field(default_factory=list)  # of each scorer, source and target

    def __iadd__(self, other: ScoreCounts) -> ScoreCounts:
        if other.first_bad is not None and self.first_bad is None:
            self.first_bad = self.pairs + self.bad_lines + other.first_bad
        self.pairs += other.pairs
        self.bad_lines += other.bad_lines
        both = zip(self.nats or repeat(0.0), other.nats, strict=False)
        self.nats = [one + more for one, more in both]
        numbers = zip(self.symbols or repeat(0), other.symbols, strict=False)
        self.symbols = [one + more for one, more in numbers]
        self.vocabularies = self.vocabularies or [Counts() for _ in other.vocabularies]
        for total, counted in zip(self.vocabularies, other.vocabularies, strict=True):
            total += counted
        return self

    def to_json(self) -> dict[str, Any]:
        """The counts as a journal holds them."""
        return vars(self) | {"vocabularies": [counts.to_json() for counts in self.vocabularies]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], origin: Origin) -> ScoreCounts:
        """Reads what `to_json` gave; a DataError tells of anything else."""
        found = typed(content, _Journaled, origin)
        try:
            vocabularies = [Counts.from_json(counts) for counts in found.vocabularies]
        except ValueError as error:
            origin.refuse(f"vocabularies: {error}", error)
        return cls(**vars(found) | {"vocabularies": vocabularies})

    def summary(self, columns: Sequence[ScoreColumn]) -> Iterator[str]:
        """A line for each column: nats are -ln p, a symbol is a word or an end."""
        if not self.pairs:
            yield "no pairs"
            return
        counted = iter(self.vocabularies)
        for column, nats, symbols in zip(columns, self.nats, self.symbols, strict=True):
            unknown = {"source": 0.0, "target": 0.0}  # of the model that knows least
            for side in chain.from_iterable(scorer.vocabularies for scorer in column.scorers):
                unknown[side] = max(unknown[side], next(counted).unknown_share)
            shares = " and ".join(f"{share:.1%} of the {side}" for side, share in unknown.items())
            mean = nats / max(1, symbols)
            yield (
                f"{column.name}: {self.pairs:,} pairs, {symbols:,} symbols, {nats:,.1f} nats; "
                f"{mean:.4f} nats a symbol, perplexity {exp(min(mean, 700)):,.2f}; "
                f"{shares} words unknown"
            )


@dataclass(frozen=True)
class _Journaled:
    """How `ScoreCounts.to_json` stands in a journal."""

    pairs: int
    bad_lines: int
    first_bad: int | None
    nats: list[float]
    symbols: list[int]
    vocabularies: list[tuple[int, int, dict[str, int]]]


def write_scores(
    request: ScoreRequest, columns: Sequence[ScoreColumn], blocks: Iterator[PairBlock]
) -> ScoreCounts:
    """Writes a line for each pair, or line that is none; what they are, the request says.

    Raises:
        DataError: A bad line, or a file that cannot be written; an unfinished run that is not this
            one.
        PhraseScorerError: A model gives what is not a number.
    """
    sink = _Resumable(request, columns) if request.resume else _Plain(request)
    total = ScoreCounts()
    with sink:
        for counts in sink.finished_counts(blocks):
            total += counts
        for block in blocks:
            text, counts = _scored(request, columns, block)
            sink.add(block, text, counts)
            total += counts
        sink.finish()
    for vocabulary, counted in zip(_vocabularies(columns), total.vocabularies, strict=False):
        vocabulary.counts = counted
    return total


def _vocabularies(columns: Sequence[ScoreColumn]) -> list[Vocabulary]:
    scorers = chain.from_iterable(column.scorers for column in columns)
    return list(chain.from_iterable(scorer.vocabularies.values() for scorer in scorers))


def _scored(
    request: ScoreRequest, columns: Sequence[ScoreColumn], block: PairBlock
) -> tuple[str, ScoreCounts]:
    """(the lines of a block, what was counted)."""
    vocabularies, good = _vocabularies(columns), np.ones(len(block.sources), bool)
    for vocabulary in vocabularies:
        vocabulary.counts = Counts()
    good[list(block.bad)] = False
    counts = ScoreCounts(int(good.sum()), len(block.bad))
    if block.bad:
        counts.first_bad = min(block.bad) + 1
    fields: dict[str, tuple[Sequence[float], Sequence[Scores]]] = {}
    for column in columns:
        scores, words = column.scores(block, by_word=request.word_scores)
        if np.isnan(scores).any():
            raise PhraseScorerError("the model gives a score that is not a number: broken weights?")
        symbols = column.symbols(block)
        counts.nats.append(-float(scores[good].sum(dtype=float)))
        counts.symbols.append(int(symbols[good].sum()))
        shown = scores / symbols if request.normalize else scores
        fields[column.name] = shown.tolist(), words
    counts.vocabularies = [vocabulary.counts for vocabulary in vocabularies]
    as_json = request.kind == "jsonl"
    lines = _json_lines(block, fields) if as_json else _lines(request, block, fields)
    return "".join(f"{line}\n" for line in lines), counts


Fields = Mapping[str, tuple[Sequence[float], Sequence["Scores"]]]


def _lines(request: ScoreRequest, block: PairBlock, fields: Fields) -> Iterator[str]:
    texts: list[Iterable[str]] = []
    if request.kind == "tsv":
        texts += [map(_text, block.sources), map(_text, block.targets)]
    for scores, words in fields.values():
        texts.append(f"{score:.6f}" for score in scores)
        if request.word_scores:
            texts.append(" ".join(f"{score:.6f}" for score in each) for each in words)
    every = map("\t".join, zip(*texts, strict=True))
    if not block.bad:
        return every
    none = "\t".join([NO_SCORE] * (len(texts) - 2 * (request.kind == "tsv")))
    return _with_bad(every, block, none, with_line=request.kind == "tsv")


def _with_bad(
    lines: Iterable[str], block: PairBlock, none: str, *, with_line: bool
) -> Iterator[str]:
    for place, line in enumerate(lines):
        if place not in block.bad:
            yield line
        elif with_line:
            yield f"{_text(words_of(block.bad[place]))}\t\t{none}"
        else:
            yield none


def _json_lines(block: PairBlock, fields: Fields) -> Iterator[str]:
    for place, (source, target) in enumerate(zip(block.sources, block.targets, strict=True)):
        if place in block.bad:
            line = _text([block.bad[place]], IN_JSON)
            found: dict[str, Any] = {"line": line, "scores": None}
        else:
            scores = {name: round(scores[place], 6) for name, (scores, _) in fields.items()}
            texts = _text(source, IN_JSON), _text(target, IN_JSON)
            found = {"source": texts[0], "target": texts[1], "scores": scores}
            by_word = {n: words[place] for n, (_, words) in fields.items() if words}
            if by_word:
                found["word_scores"] = {
                    name: [round(score, 6) for score in words.tolist()]
                    for name, words in by_word.items()
                }
        yield json.dumps(found, ensure_ascii=False)


def _text(words: Sequence[bytes], errors: str = "surrogateescape") -> str:
    return b" ".join(words).decode("utf-8", errors)


class _Plain(OutputFile):
    """Lines as they come; a pipe gets those of a block at once."""

    def __init__(self, request: ScoreRequest) -> None:
        super().__init__(request.output, inputs=request.pairs.paths)

    def finished_counts(self, _: Iterator[PairBlock]) -> Iterator[ScoreCounts]:
        return iter(())

    def add(self, _: PairBlock, text: str, __: ScoreCounts) -> None:
        self.write(text.encode("utf-8", "surrogateescape"))
        if not self.replaces:
            self.flush()

    def finish(self) -> None:
        pass


class _Resumable(JournaledFile):
    """A file that can be gone on with."""

    def __init__(self, request: ScoreRequest, columns: Sequence[ScoreColumn]) -> None:
        self._pairs = request.pairs
        self._compressed = request.output_file().compressed
        scorers = [scorer for column in columns for scorer in column.scorers]
        decisive = {
            "version": __version__,
            **{key: value for scorer in scorers for key, value in scorer.computed_with.items()},
            "models": [scorer.fingerprint for scorer in scorers],
            "columns": [column.name for column in columns],
            "format": [request.kind, request.word_scores, request.normalize],
            "treatment of bad lines": request.pairs.on_bad_line,
        }
        super().__init__(request.output, decisive, resume=True)

    def finished_counts(self, blocks: Iterator[PairBlock]) -> Iterator[ScoreCounts]:
        """Goes past the pairs that are scored already, and gives what they counted."""
        for finished, origin in self.gone_past(blocks, _checksum, self._pairs.name):
            yield ScoreCounts.from_json(finished.counted, origin)

    def add(self, block: PairBlock, text: str, counts: ScoreCounts) -> None:
        written = text.encode("utf-8", "surrogateescape")
        if self._compressed:
            written = compressed_block(written)
        self.write(written, _checksum(block), len(block.sources), counts.to_json())

    def finish(self) -> None:
        self.complete()


def _checksum(block: PairBlock) -> int:
    sides = (b"\n".join(map(b" ".join, phrases)) for phrases in (block.sources, block.targets))
    return zlib.crc32(b"\t".join([*sides, *block.bad.values()]))
