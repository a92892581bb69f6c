"""How model, column and weights came about, from the files that train, rescore and tune leave."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import msgspec

from moses_integration.formats.moses_ini import MosesIni, Weights, weights_of
from moses_integration.rescoring.log import LoggedEntries, RescoreRun, read_runs
from phrase_scorer.errors import DataError, printable
from phrase_scorer.models.files import ModelFiles
from phrase_scorer.runtime.numbers import real_number
from phrase_scorer.runtime.output import reason
from phrase_scorer.runtime.records import read_json
from phrase_scorer.training.log import LoggedLine, read_log

MOST_POINTS = 1000  # of a curve
MOST_SPANS = 100  # of time, for each of which a speed is shown
# What mert writes at the end of an iteration: the weights, and BLEU on the n-best lists.
BEST_POINT = re.compile(rb"^Best point: ([-+0-9.e ]+)=> ([-+0-9.e]+)", re.MULTILINE)


@dataclass(frozen=True)
class TrainingPoint:
    """A line of training_log.jsonl; what it does not say is None."""

    update: int
    minutes: float
    train_loss: float | None  # nats a symbol
    validation_loss: float | None
    learning_rate: float | None
    gradient_norm: float | None


@dataclass(frozen=True)
class Weight:
    """One weight of a moses.ini."""

    name: str  # of its feature, and its number if that has several
    value: float
    column: str | None  # what the signature calls the score that it weighs, if it is a new one


@dataclass(frozen=True)
class Iteration:
    """One of mert's: BLEU in percent on its n-best lists, and the weights found."""

    run: int
    iteration: int
    bleu: float
    weights: tuple[Weight, ...]  # empty: features.list, which names them, is not there


@dataclass(frozen=True)
class Run:
    """One tuning run."""

    run: int
    seed: int
    dev_bleu: float  # in percent, of the tuning set decoded with its weights
    weights: tuple[Weight, ...]


@dataclass(frozen=True)
class Tuning:
    """A folder of `tune`."""

    runs: tuple[Run, ...]
    iterations: tuple[Iteration, ...]


class _RunFile(msgspec.Struct):
    """run.json."""

    number: int
    seed: int
    dev_bleu: float
    weights: dict[str, tuple[float, ...]]


Columns = dict[tuple[str, int], str]  # (feature, place from 0) -> name of the new column


def read_training(model: Path) -> tuple[TrainingPoint, ...]:
    """The curve in a model directory, thinned to `MOST_POINTS`; empty where there is no log."""
    path = ModelFiles(model).log_file
    if not path.exists():
        return ()
    lines = list(read_log(path))
    step = -(-len(lines) // MOST_POINTS) or 1
    last = len(lines) - 1
    kept = [
        line
        for number, line in enumerate(lines)
        if number % step == 0 or number == last or line.validation_loss is not None
    ]
    return tuple(map(_point, kept))


def _point(line: LoggedLine) -> TrainingPoint:
    values = line.train_loss, line.validation_loss, line.learning_rate, line.gradient_norm
    return TrainingPoint(line.update, round(line.seconds / 60, 3), *values)


@dataclass(frozen=True)
class Speed:
    """Of a rescoring, in a span of time."""

    minutes: float  # since its begin, at the end of the span
    entries: int  # written by then
    per_second: float  # in the span


@dataclass(frozen=True)
class Rescoring:
    """The run that wrote the table: how it computed, and how fast."""

    run: RescoreRun
    speeds: tuple[Speed, ...]


def read_rescoring(log: Path, table: str) -> Rescoring:
    """The last run in a log of `rescore` that wrote a table of this name.

    A DataError tells of a log that has none.
    """
    name = printable(Path(table).name)
    runs = read_runs(log)
    written = [Path(run.facts.output).name for run in runs]
    if name not in written:
        known = ", ".join(dict.fromkeys(written))
        raise DataError(f"no run that wrote {name} (but {known})", path=log)
    run = [run for run, output in zip(runs, written, strict=True) if output == name][-1]
    return Rescoring(run, tuple(_speeds(run.points)))


def _speeds(points: Sequence[LoggedEntries]) -> Iterator[Speed]:
    step = -(-len(points) // MOST_SPANS) or 1
    ends = [*points[:-1:step], *points[-1:]]
    for before, after in pairwise(ends):
        seconds = after.seconds - before.seconds
        if seconds > 0:
            rate = (after.entries - before.entries) / seconds
            yield Speed(round(after.seconds / 60, 4), after.entries, round(rate, 1))


def columns_in(ini: MosesIni, table: str, scores: int, names: dict[int, str]) -> Columns:
    """Which weights of a moses.ini weigh the new columns of a table.

    `names` are those of the columns, by their places. A DataError tells of a moses.ini whose phrase
    tables do not have as many scores.
    """
    fitting = [feature for feature in ini.phrase_tables if feature.num_features == scores]
    if not fitting:
        raise DataError(
            f"names no phrase table with {scores} scores, as {table} has", path=ini.path
        )
    return {(feature.name, place): names[place] for feature in fitting for place in names}


def weights_in(weights: Weights, columns: Columns) -> tuple[Weight, ...]:
    """All weights in order."""

    def named(name: str, place: int) -> str:
        return f"{name} {place + 1}" if len(weights[name]) > 1 else name

    return tuple(
        Weight(named(name, place), value, columns.get((name, place)))
        for name, values in weights.items()
        for place, value in enumerate(values)
    )


def ini_weights(ini: MosesIni, columns: Columns) -> tuple[Weight, ...]:
    """Those that stand in a moses.ini."""
    return weights_in(weights_of(ini), columns)


def read_tuning(folder: Path, columns: Columns) -> Tuning:
    """The runs of a folder of `tune`, also of one that is not finished.

    A DataError tells of a folder that has none, or of a broken file.
    """
    folders = sorted(folder.glob("run[0-9]*"), key=lambda path: (len(path.name), path.name))
    if not folders:
        raise DataError("not a folder of tune: it has no run1", path=folder)
    runs = [read_json(path, _RunFile) for f in folders if (path := f / "run.json").exists()]
    iterations = [each for path in folders for each in _iterations(path, columns)]
    found = [
        Run(run.number, run.seed, run.dev_bleu, weights_in(run.weights, columns)) for run in runs
    ]
    return Tuning(tuple(found), tuple(iterations))


def _iterations(folder: Path, columns: Columns) -> Iterator[Iteration]:
    run = int(folder.name.removeprefix("run"))
    sizes = _features(folder / "mert" / "features.list")
    number = 1
    while (path := folder / "mert" / f"run{number}.mert.log").exists():
        if found := BEST_POINT.search(_content(path)):
            values = [real_number(text) for text in found[1].split()]
            bleu = real_number(found[2])
            if bleu is not None and None not in values:
                known = [value for value in values if value is not None]
                yield Iteration(run, number, 100 * bleu, _named(sizes, known, columns))
        number += 1


def _named(sizes: dict[str, int], values: Sequence[float], columns: Columns) -> tuple[Weight, ...]:
    """The weights that mert tells one after the other; none where it tunes another number."""
    if sum(sizes.values()) != len(values):
        return ()
    left = iter(values)
    return weights_in({name: tuple(islice(left, size)) for name, size in sizes.items()}, columns)


def _features(path: Path) -> dict[str, int]:
    """How many weights of each feature mert tunes, in its order; empty without the file."""
    if not path.exists():
        return {}
    parts = [line.partition(b"= ") for line in _content(path).splitlines()]
    return {
        name.decode("utf-8", "backslashreplace"): len(values.split())
        for name, equals, values in parts
        if equals
    }


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read: {reason(error)}", path=path) from error
