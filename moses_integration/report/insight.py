"""What the model alone knows: what it would say, how it scores each word, maps of its vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import numpy as np

from moses_integration.formats.phrase_table import surface_words
from moses_integration.formats.table_entries import Entry, as_text
from moses_integration.report.findings import Choice, Survey
from moses_integration.report.projection import dense_regions, nearest, project
from phrase_scorer.models.attention import AttentionModel
from phrase_scorer.models.config import SUMMARIZING
from phrase_scorer.models.directory import ModelDirectory
from phrase_scorer.scoring.alignment import Aligner
from phrase_scorer.scoring.generation import Generated, Generator
from phrase_scorer.scoring.scorer import PhraseScorer, Vectors
from phrase_scorer.text.phrase_pairs import PairBlock
from phrase_scorer.text.vocabulary import UNKNOWN, Vocabulary

TOLD_TARGETS = 5
DRAWS = 50
SHOWN_DRAWS = 5
MAPPED_WORDS = 1500
NEIGHBOURS = 10
REGIONS = 4  # as the paper zooms into
REGION_LABELS = 30  # points of a region that are drawn with their text
LABEL_WORDS = 3  # that name a region


Attention = tuple[tuple[float, ...], ...]  # a row for each word that is predicted


@dataclass(frozen=True)
class ModelFact:
    """One thing that is known of the model."""

    name: str
    value: str


@dataclass(frozen=True)
class Said:
    """A target that the network made."""

    text: str
    log_prob: float  # natural logarithm, end symbol counted
    count: int  # how often it was drawn; of the beam: 1
    in_table: bool  # whether the source has it in the table


@dataclass(frozen=True)
class Generation:
    """What the network says for a source (the paper's table 3)."""

    source: str
    kind: str
    beam: tuple[Said, ...]
    drawn: tuple[Said, ...]  # the most frequent of `DRAWS`
    drawn_in_table: float  # share of all draws
    drawn_length: float  # mean words of a draw
    table_length: float  # mean words of the targets that the table has


@dataclass(frozen=True)
class WordScores:
    """An entry, and the network's ln p of each word of it, the end symbol last."""

    kind: str  # "best", "worst" or "random"
    entry: Entry
    words: tuple[str, ...]
    log_probs: tuple[float, ...]
    unknown: tuple[bool, ...]
    read: tuple[str, ...] = ()  # of attention models: the words that it reads, the end symbol last
    weights: Attention = ()  # of each word, on those read

    @property
    def attended(self) -> tuple[str, ...]:
        """The word that each looks at most; empty where the model has no attention."""
        return tuple(self.read[row.index(max(row))] for row in self.weights)


@dataclass(frozen=True)
class MapPoint:
    """A word or phrase on a map."""

    text: str
    x: float
    y: float
    neighbours: tuple[int, ...]  # the nearest by cosine in the full space, as places in the map
    region: int | None  # place in the map's regions


@dataclass(frozen=True)
class Region:
    """A dense part of a map."""

    label: str
    points: tuple[int, ...]  # those that are drawn with their text


@dataclass(frozen=True)
class VectorMap:
    """Vectors projected onto a plane (the paper's figures 4 and 5)."""

    name: str  # "words" or "phrases"
    method: str
    points: tuple[MapPoint, ...]
    regions: tuple[Region, ...]


@dataclass(frozen=True)
class Insight:
    """All of it; empty where this kind of model does not have it."""

    facts: tuple[ModelFact, ...]
    generated: tuple[Generation, ...] = ()
    words: tuple[WordScores, ...] = ()
    maps: tuple[VectorMap, ...] = ()
    missing: tuple[str, ...] = field(default=())  # what is empty, and why


def insight(path: Path, scorer: PhraseScorer, found: Survey, *, seed: int, maps: bool) -> Insight:
    """Asks the model that the scorer has, from the directory `path`."""
    forward = scorer.direction == "forward"
    missing = []
    generated: tuple[Generation, ...] = ()
    drawn: tuple[VectorMap, ...] = ()
    if not forward:
        missing.append("what the network says, maps: the model is an inverse one")
    else:
        if scorer.model.is_stepwise:
            generated = tuple(_generate(scorer, found.choices, seed))
        else:
            missing.append("what the network says: a masked model cannot generate")
        if not maps:
            missing.append("maps: --no-maps")
        else:
            drawn = tuple(_maps(scorer, found, seed))
            if len(drawn) == 1:
                missing.append("map of phrases: the model keeps no phrase as one vector")
    return Insight(
        tuple(model_facts(path)), generated, tuple(_words(path, scorer, found, seed)), drawn,
        tuple(missing),
    )  # fmt: skip


def model_facts(path: Path) -> Iterator[ModelFact]:
    """What a model directory says of itself, in words."""
    known = ModelDirectory(path).describe()
    yield ModelFact("model", str(path))
    cell = f", {known['cell'].upper()}" if known["architecture"] == "encoder_decoder" else ""
    yield ModelFact("architecture", f"{known['architecture']}{cell}, {known['hidden']:,} units")
    yield ModelFact("direction", known["direction"])
    yield ModelFact("parameters", f"{known['parameters']:,}")
    yield ModelFact("words it reads", f"{known['source_words']:,}")
    yield ModelFact("words it predicts", f"{known['target_words']:,}")
    if pairs := known["data"].get("pairs"):
        yield ModelFact("trained on", f"{pairs:,} distinct pairs")
    if validation := known.get("validation"):
        told = f"{validation['loss']} nats a symbol, after update {validation['update']:,}"
        yield ModelFact("validation", told)
    yield ModelFact("fingerprint", known["fingerprint"])
    yield ModelFact("written by", known["written_by"])


def _generate(scorer: PhraseScorer, choices: Sequence[Choice], seed: int) -> Iterator[Generation]:
    generator = Generator(scorer.model)
    for choice in choices:
        source = scorer.source_vocabulary.ids(_phrases([choice.source]), counted=False)
        known = frozenset(choice.every_target)

        def said(made: Sequence[Generated], known: frozenset[str] = known) -> list[Said]:
            texts = [_text(scorer.target_vocabulary, each.words) for each in made]
            return [
                Said(text, each.log_prob, each.count, text in known)
                for text, each in zip(texts, made, strict=True)
            ]

        ids = source.ids.tolist()
        beam = said(generator.search(ids, TOLD_TARGETS))
        draws = said(generator.sample(ids, DRAWS, seed=seed))
        total = sum(each.count for each in draws) or 1
        yield Generation(
            choice.source,
            choice.kind,
            tuple(beam),
            tuple(sorted(draws, key=lambda each: (-each.count, -each.log_prob))[:SHOWN_DRAWS]),
            sum(each.count for each in draws if each.in_table) / total,
            sum(each.count * len(each.text.split()) for each in draws) / total,
            mean(len(target.split()) for target in choice.every_target),
        )


def _text(vocabulary: Vocabulary, ids: Sequence[int]) -> str:
    return as_text(b" ".join(vocabulary.words[i] for i in ids))


def _phrases(texts: Sequence[str]) -> list[list[bytes]]:
    return surface_words([text.encode() for text in texts])


def _words(path: Path, scorer: PhraseScorer, found: Survey, seed: int) -> Iterator[WordScores]:
    drawn = np.random.default_rng(seed).permutation(len(found.sample))[: len(found.best)]
    kinds = {
        "worst": found.worst,
        "random": [found.sample[place] for place in sorted(drawn.tolist())],
        "best": found.best,
    }
    entries = [(kind, entry) for kind, some in kinds.items() for entry in some]
    sources = _phrases([entry.source for _, entry in entries])
    targets = _phrases([entry.target for _, entry in entries])
    read, predicted = (sources, targets)[:: 1 if scorer.direction == "forward" else -1]
    vocabulary, block = scorer.target_vocabulary, PairBlock(sources, targets)
    scores, aligned = scorer.word_scores_of_block(block), _alignments(path, scorer, block)
    for place, (kind, entry) in enumerate(entries):
        texts = list(map(as_text, predicted[place]))
        unknown = [vocabulary.id(word) == UNKNOWN for word in predicted[place]]
        log_probs = tuple(map(float, scores[place]))
        told = ((*texts, "end"), log_probs, (*unknown, False))
        looked = ((*map(as_text, read[place]), "end"), aligned[place]) if aligned else ()
        yield WordScores(kind, entry, *told, *looked)


def _alignments(path: Path, scorer: PhraseScorer, block: PairBlock) -> list[Attention]:
    """The soft alignment of each pair; [] where the model has no attention."""
    if not isinstance(scorer.model, AttentionModel):
        return []
    return [
        tuple(tuple(round(weight, 4) for weight in row) for row in found.weights.tolist())
        for found in Aligner(path, scorer.device).alignments(block)
    ]


def _maps(scorer: PhraseScorer, found: Survey, seed: int) -> Iterator[VectorMap]:
    words = scorer.target_vocabulary.words[2 : 2 + MAPPED_WORDS]  # the most frequent come first
    texts = list(map(as_text, words))
    yield _map("words", texts, scorer.embeddings("target")[2 : 2 + len(words)], seed)
    if scorer.model.config.architecture in SUMMARIZING:
        phrases = [phrase.text for phrase in found.phrases]
        yield _map("phrases", phrases, scorer.vectors(map(b" ".join, _phrases(phrases))), seed)


def _map(name: str, texts: Sequence[str], vectors: Vectors, seed: int) -> VectorMap:
    plane, method = project(vectors, seed) if len(vectors) else (np.zeros((0, 2)), "")
    near = nearest(vectors, NEIGHBOURS)
    groups = dense_regions(plane, REGIONS) if len(vectors) else []
    region = {int(point): number for number, group in enumerate(groups) for point in group}
    points = tuple(
        MapPoint(text, round(x, 4), round(y, 4), tuple(others), region.get(place))
        for place, (text, (x, y), others) in enumerate(
            zip(texts, plane.tolist(), near.tolist(), strict=True)
        )
    )
    regions = tuple(
        Region(_label([texts[at] for at in group], texts), tuple(group[:REGION_LABELS].tolist()))
        for group in groups
    )
    return VectorMap(name, method, points, regions)


def _label(texts: Sequence[str], every: Sequence[str]) -> str:
    """What a group is called: words that many of its members have, and few others; else members."""
    here, anywhere = (
        Counter(word for text in some for word in dict.fromkeys(text.split()))
        for some in (texts, every)
    )
    lift = {word: n / len(texts) - anywhere[word] / len(every) for word, n in here.items()}
    common = [word for word in sorted(lift, key=lambda word: -lift[word]) if lift[word] > 1 / 5]
    return " · ".join(common[:LABEL_WORDS] or texts[:LABEL_WORDS])
