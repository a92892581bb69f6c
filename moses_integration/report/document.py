"""The whole report as one value: read, asked and judged, before anything is drawn or written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from moses_integration.formats.moses_ini import MosesIni
from moses_integration.formats.signature import SignedColumn
from moses_integration.report.findings import Compared, Survey
from moses_integration.report.history import (
    Columns,
    Rescoring,
    TrainingPoint,
    Tuning,
    Weight,
    columns_in,
    ini_weights,
    read_rescoring,
    read_training,
    read_tuning,
)
from moses_integration.report.insight import Insight, insight
from moses_integration.report.request import ReportRequest
from moses_integration.report.survey import SurveyRequest, survey
from moses_integration.rescoring.request import UNKNOWN_WORDS
from phrase_scorer.runtime.console import note
from phrase_scorer.scoring.scorer import PhraseScorer
from phrase_scorer.text.unknown_words import MANY_UNKNOWN
from phrase_scorer.version import __version__

MANY_FLOORED = 0.01  # of all entries
SMALL_WEIGHT = 0.05  # of the largest


@dataclass(frozen=True)
class Alert:
    """Something that the user should look at."""

    text: str
    section: str  # where it is shown


@dataclass(frozen=True)
class ShownColumn:
    """A score of the table."""

    number: int  # from 1
    name: str
    unit: str
    is_new: bool
    model: str  # fingerprint; empty for the table's own


@dataclass(frozen=True)
class PageContent:
    """All numbers of a report; the page is drawn from it alone."""

    version: str
    command: str
    table: str
    seed: int
    compared: Compared
    columns: tuple[ShownColumn, ...]
    column: str  # name of the one that is compared
    survey: Survey
    insight: Insight | None
    training: tuple[TrainingPoint, ...]
    ini: str | None
    weights: tuple[Weight, ...]  # of the moses.ini
    tuning: Tuning | None
    rescoring: Rescoring | None
    alerts: tuple[Alert, ...]
    not_shown: tuple[str, ...]


def compile_report(request: ReportRequest) -> PageContent:
    """Reads all that a report is made of; the errors of its parts pass through.

    The small files come first: what is wrong in them is told before the table is read.
    """
    column = request.column
    scorer = PhraseScorer.load(request.model, "cpu") if request.model else None
    training = read_training(request.model) if request.model else ()
    ini = _ini(request)
    places = {each.place: each.name for each in request.columns}
    columns: Columns = columns_in(ini, request.table, request.scores, places) if ini else {}
    tuning = read_tuning(request.tuning, columns) if request.tuning else None
    rescoring = read_rescoring(request.log, request.table) if request.log else None
    note(f"score {column.place + 1}, {column.name}, beside score {request.compared.table + 1}")
    vocabularies = scorer.vocabularies if scorer else {}
    found = survey(
        SurveyRequest(
            request.table, request.scores, request.compared, vocabularies, request.sample,
            request.seed,
        )
    )  # fmt: skip
    known = None
    if scorer and request.model:
        note("asking the model")
        known = insight(request.model, scorer, found, seed=request.seed, maps=request.maps)
    weights = ini_weights(ini, columns) if ini else ()
    return PageContent(
        __version__, request.command, request.table, request.seed, request.compared,
        tuple(_columns(request.columns)), column.name, found, known, training,
        str(ini.path) if ini else None, weights, tuning, rescoring,
        tuple(_alerts(found, weights, tuning)), tuple(_not_shown(request, known, training)),
    )  # fmt: skip


def _ini(request: ReportRequest) -> MosesIni | None:
    """The moses.ini given, or that of the best tuning run; of a tuning under way, of the first."""
    if request.moses_ini:
        return MosesIni.read(request.moses_ini)
    if request.tuning:
        for path in (request.tuning / "moses.ini", request.tuning / "run1" / "moses.ini"):
            if path.exists():
                return MosesIni.read(path)
    return None


OWN_SCORES = ("p(source | target)", "lexical weight (source | target)", "p(target | source)",
              "lexical weight (target | source)")  # fmt: skip


def _columns(signed: list[SignedColumn]) -> Iterator[ShownColumn]:
    ours = {column.place: column for column in signed}
    moses = min(ours) == len(OWN_SCORES)  # in the order of Moses' own training
    for place in range(max(ours) + 1):
        if place in ours:
            new = ours[place]
            unit = "exp(-count)" if new.name == UNKNOWN_WORDS else "probability"
            yield ShownColumn(place + 1, new.name, unit, True, new.model)
        else:
            name = OWN_SCORES[place] if moses else "the table's own"
            yield ShownColumn(place + 1, name, "probability", False, "")


def _alerts(found: Survey, weights: tuple[Weight, ...], tuning: Tuning | None) -> Iterator[Alert]:
    if found.bad_lines:
        told = f"{found.bad_lines:,} lines are no entries, and are left out here; see `check`."
        yield Alert(told, "summary")
    if found.floored > MANY_FLOORED * found.entries:
        share = f"{found.floored / found.entries:.1%} of the entries stand at the floor"
        yield Alert(f"{share}: a lower --floor of `rescore` tells them apart.", "distribution")
    for side in found.unknown:
        if side.words and side.unknown > MANY_UNKNOWN * side.words:
            share = f"{side.unknown / side.words:.0%} of the {side.side} words are unknown"
            yield Alert(f"{share}: is the text cased, tokenised and escaped as in training?",
                        "unknown")  # fmt: skip
    every = found.correlations[0].pearson
    if every is None:
        yield Alert("One of the two scores is constant: it tells nothing.", "scores")
    elif every < 0:
        yield Alert("The network contradicts the table: is it the right model?", "scores")
    yield from _weight_alerts(weights)
    runs = tuning.runs if tuning else ()
    for number in {w.name: None for run in runs for w in run.weights if w.column}:
        values = [w.value for run in runs for w in run.weights if w.name == number]
        if min(values) < 0 < max(values):
            yield Alert(f"The sign of {number} differs between the runs.", "tuning")


def _weight_alerts(weights: tuple[Weight, ...]) -> Iterator[Alert]:
    largest = max((abs(weight.value) for weight in weights), default=0.0)
    for weight in weights:
        if weight.column and weight.value < 0:
            told = f"{weight.name} ({weight.column}) has a negative weight"
            yield Alert(f"{told}: what the network likes is punished.", "summary")
        elif weight.column and weight.value < SMALL_WEIGHT * largest:
            told = f"{weight.name} ({weight.column}) weighs less than {SMALL_WEIGHT:.0%}"
            yield Alert(f"{told} of the largest weight: it hardly decides.", "summary")


def _not_shown(
    request: ReportRequest, known: Insight | None, training: tuple[TrainingPoint, ...]
) -> Iterator[str]:
    if not request.model:
        yield "what the network says, maps, word by word, unknown words, training: no --model"
    elif not training:
        yield "training: the model has no training_log.jsonl"
    yield from known.missing if known else ()
    if not request.moses_ini and not request.tuning:
        yield "weights: no --moses-ini"
    if not request.tuning:
        yield "tuning: no --tuning"
    if not request.log:
        yield "speed of the rescoring: no --log"
