"""The steps of an experiment: which commands, in which order, and what each makes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from moses_integration.experiment.config import (
    TUNING_SET,
    ContinuousSpaceLM,
    Experiment,
    Network,
    System,
    TestSet,
    file_name,
)
from moses_integration.formats.moses_ini import MosesIni, feature_files, place_of
from phrase_scorer.errors import DataError
from phrase_scorer.runtime.output import real_path, reason

ELSEWHERE = {"--threads", "--moses-bin", "--moses-scripts"}  # options that change no result


@dataclass(frozen=True)
class Step:
    """One command of the experiment."""

    name: str  # as told to the user; also the name of its note
    arguments: tuple[str, ...]  # of `phrase-scorer`
    output: Path  # what it makes; deleted before the step is done anew
    after: tuple[Step, ...] = ()  # whose results it uses
    # A file in the output whose presence means that an interrupted step can go on, with --resume;
    # None: it starts anew.
    resumes: str | None = None
    files: tuple[str, ...] = ()  # inputs from outside of the experiment
    beside: tuple[Path, ...] = ()  # what it makes beside the output
    system: str = ""  # a moses.ini among `files`: what it names is an input, too

    @property
    def outputs(self) -> tuple[Path, ...]:
        """All that it makes."""
        return self.output, *self.beside


def keys_of(steps: Sequence[Step]) -> dict[str, str]:
    """By each step's name, what changes with its command, its input files, the steps before it.

    How many cores there are, and where Moses is, changes no result, and so no key. A DataError
    tells of an input file that is not there.
    """
    keys: dict[str, str] = {}

    def key(step: Step) -> str:
        if step.name not in keys:
            pairs = [pair for pair in pairwise(step.arguments) if ELSEWHERE.isdisjoint(pair)]
            words = [step.arguments[0], *(word for _, word in pairs)]
            stamps = map(_stamp, (*step.files, *_named_by(step.system)))
            digest = hashlib.sha256(json.dumps([*words, *stamps]).encode())
            for before in step.after:
                digest.update(key(before).encode())
            keys[step.name] = digest.hexdigest()
        return keys[step.name]

    return {step.name: key(step) for step in steps}


def _named_by(path: str) -> Iterator[str]:
    """The files of a moses.ini, if there is one: tables, language models, sparse weights."""
    if not path:
        return
    ini = MosesIni.read(path)
    for feature in feature_files(ini):
        yield from map(str, feature.files())
    for item in ini.values("weight-file"):
        yield str(place_of(item, os.fsdecode(item.text)))


def _stamp(path: str) -> list[Any]:
    """What tells that an input file has changed."""
    try:
        status = Path(path).stat()
    except OSError as error:
        raise DataError(f"cannot read: {reason(error)}", path=path) from error
    return [path, status.st_size, status.st_mtime_ns]


class _Input(NamedTuple):
    """What a command names, and where it comes from."""

    path: str
    after: tuple[Step, ...] = ()  # the step that makes it
    files: tuple[str, ...] = ()  # or what tells that it has changed outside of the experiment


Word = str | Path | Step | _Input  # of a command; a step stands for its output


def _given(path: str) -> _Input:
    """A file of the user."""
    return _Input(path, files=(path,))


def _input(word: Word) -> _Input:
    if isinstance(word, Step):
        return _Input(str(word.output), (word,))
    return word if isinstance(word, _Input) else _Input(str(word))


def _each(option: str, values: Iterable[Word]) -> list[Word]:
    """An option that is given once for each value."""
    return [word for value in values for word in (option, value)]


def _step(
    name: str, output: Path, *words: Word, resumes: str | None = None, beside: tuple[Path, ...] = ()
) -> Step:
    """The step of these words; it comes after the steps that make what they name."""
    inputs = [_input(word) for word in words]
    after = tuple(step for found in inputs for step in found.after)
    files = tuple(file for found in inputs for file in found.files)
    return Step(name, tuple(found.path for found in inputs), output, after, resumes, files, beside)


class _Commands:
    """Every kind of step. The same question gets an equal step, however often it is asked."""

    def __init__(self, experiment: Experiment, folder: Path, moses: Sequence[str]) -> None:
        self.experiment, self.folder, self.moses = experiment, folder, moses
        self.threads = ("--threads", str(experiment.threads))
        tuning = experiment.tuning
        self.tuning_set = TestSet(TUNING_SET, tuning.source, tuning.reference)
        self.sets = (self.tuning_set, *experiment.tests)
        self.systems = {system.name: system for system in experiment.systems}
        self.networks = {network.name: network for network in experiment.networks}
        self.language_models = {model.name: model for model in experiment.language_models}
        self._tuned: dict[str, Step] = {}  # made once, since n-best lists hang on them in chains

    def _place(self, system: str) -> Path:
        return self.folder / "systems" / file_name(system)

    def _model(self, name: str) -> Step | _Input:
        """A network or a language model: trained here, or one that is there."""
        found = self.language_models.get(name) or self.networks[name]
        if found.model:
            return _Input(found.model, files=(f"{found.model}/model.safetensors",))
        if isinstance(found, Network):
            title, command, data, validation = f"train {name}", "train", found.pairs, ""
            output = self.folder / "networks" / file_name(name)
        else:
            title, command = f"train language model {name}", "train-lm"
            data, validation = found.text, found.validation
            output = self.folder / "language_models" / file_name(name) / "network"
        return _step(
            title, output, command, _given(data), "--model", output, *self.threads,
            *_each("--validation", [_given(validation)] * bool(validation)), *found.options,
            resumes="training_state.safetensors",
        )  # fmt: skip

    def _export(self, model: ContinuousSpaceLM) -> Step:
        """The ARPA file of a continuous-space language model."""
        output = self.folder / "language_models" / file_name(model.name) / "cslm.arpa"
        sets = self.sets if model.nbest_of else ()
        lists = [self.decode(model.nbest_of, test, 1) for test in sets]
        step = _step(
            f"export language model {model.name}", output,
            "export-arpa", "--model", self._model(model.name), "--arpa", _given(model.arpa),
            "--output", output, *self.threads,
            *_each("--share", [str(model.share)] * (model.share != 1.0)),
            *_each("--prune", [str(model.prune)] * bool(model.prune)),
            *_each("--nbest", [_Input(str(step.beside[0]), (step,)) for step in lists]),
        )  # fmt: skip
        return replace(step, files=step.files[::-1])  # an order that is part of its key

    def _ini(self, system: System) -> Step | _Input:
        """The moses.ini with all of a system's features."""
        step = self._rescore(system)
        ini = _Input(str(step.output / "moses.ini"), (step,))
        if not system.language_models:
            return ini
        # In the same folder, so that relative paths in it keep their meaning.
        output = step.output / f"moses.{file_name(system.name)}.ini"
        exports = [self._export(self.language_models[name]) for name in system.language_models]
        return _step(
            f"language models for {system.name}", output,
            "ini", ini, "--output", output, *_each("--language-model", exports),
        )  # fmt: skip

    def _filter(self) -> Step:
        output, ini = self.folder / "filtered", self.experiment.moses_ini
        step = _step(
            "filter", output, "filter", "--moses-ini", _given(ini),
            *_each("--input", [_given(test.source) for test in self.sets]), "--output-dir", output,
        )  # fmt: skip
        return replace(step, system=ini)

    def _rescore(self, system: System) -> Step:
        if not system.networks:
            return self._filter()
        output = self._place(system.name) / "model"
        return _step(
            f"rescore for {system.name}", output, "rescore", self._filter(), output, *self.threads,
            *self._columns(system), *["--ensemble"] * system.ensemble,
            *_each("--weight", map(str, system.weights)),
        )  # fmt: skip

    def _columns(self, system: System) -> list[Word]:
        """A system's networks, as options of rescore and of nbest."""
        unknown_words_of = [system.unknown_words_of] * bool(system.unknown_words_of)
        return [
            *_each("--model", map(self._model, system.models)),
            *_each("--inverse-model", map(self._model, system.inverse_models)),
            *_each("--unknown-words-of", map(self._model, unknown_words_of)),
            *["--unknown-words"] * system.unknown_words,
        ]

    def tune(self, system: System) -> Step:
        """Finds a system's weights in all runs."""
        tuning, output = self.experiment.tuning, self._place(system.name) / "tuned"
        if system.name not in self._tuned:
            self._tuned[system.name] = _step(
                f"tune {system.name}", output, "tune", "--moses-ini", self._ini(system),
                "--source", _given(tuning.source), "--reference", _given(tuning.reference),
                "--working-dir", output, "--runs", str(tuning.runs), *self.threads,
                *tuning.options, *self.moses, resumes="task.json",
            )  # fmt: skip
        return self._tuned[system.name]

    def _tuned_ini(self, system: str, run: int) -> _Input:
        step = self.tune(self.systems[system])
        return _Input(str(step.output / f"run{run}" / "moses.ini"), (step,))

    def decode(self, system: str, test: TestSet, run: int) -> Step:
        """Decodes with the weights of a run; also to an n-best list, where another step wants it.

        The tuning set has been decoded by the tuning already, so that only its list is wanted.
        """
        output = self._output(system, test, run)
        nbest = (output.with_name(f"{output.name}.nbest.gz"),) * self._is_list_wanted(system, run)
        size = str(self.experiment.reranking.size)
        return _step(
            f"decode {test.name} with {system}, run {run}", output,
            "decode", "--moses-ini", self._tuned_ini(system, run), "--input", _given(test.source),
            "--output", output, *_each("--nbest", nbest), *(size, "--distinct") * len(nbest),
            *self.threads, *self.moses, beside=nbest,
        )  # fmt: skip

    def _output(self, system: str, test: TestSet, run: int) -> Path:
        return self._place(system) / "outputs" / f"{file_name(test.name)}.run{run}"

    def _is_list_wanted(self, system: str, run: int) -> bool:
        reranked = any(other.nbest_of == system for other in self.experiment.systems)
        models = self.experiment.language_models
        return reranked or (run == 1 and any(model.nbest_of == system for model in models))

    def _features(self, system: System, test: TestSet, run: int) -> Step:
        """Adds features to the n-best lists of another system."""
        given = self.decode(system.nbest_of, test, run)
        [nbest] = given.beside
        output = self._place(system.name) / "nbest" / nbest.name
        return _step(
            f"features for {test.name} with {system.name}, run {run}", output,
            "nbest", _Input(str(nbest), (given,)), "--source", _given(test.source),
            "--output", output, *self._columns(system),
            *_each("--cslm", map(self._model, system.language_models)), *self.threads,
        )  # fmt: skip

    def learn(self, system: System, run: int) -> Step:
        """Finds weights for the n-best lists with these features."""
        output = self._place(system.name) / f"weights.run{run}"
        return _step(
            f"weights of {system.name}, run {run}", output,
            "tune", "--rescore-nbest", self._features(system, self.tuning_set, run),
            "--moses-ini", self._tuned_ini(system.nbest_of, run).path,
            "--reference", _given(self.tuning_set.reference), "--working-dir", output,
            "--seed", str(run), *self.threads, *self.experiment.reranking.options, *self.moses,
        )  # fmt: skip

    def rerank(self, system: System, test: TestSet, run: int) -> Step:
        """Translates with these weights."""
        output, weights = self._output(system.name, test, run), self.learn(system, run)
        return _step(
            f"rerank {test.name} with {system.name}, run {run}", output,
            "nbest", self._features(system, test, run),
            "--rerank", _Input(str(weights.output / "weights"), (weights,)), "--output", output,
        )  # fmt: skip


class Plan:
    """All steps of an experiment, in a folder; `moses` are options that say where Moses is.

    A DataError tells where names of systems and test sets together name two steps alike.
    """

    def __init__(self, experiment: Experiment, folder: Path, moses: Sequence[str] = ()) -> None:
        self.experiment, self.folder = experiment, real_path(folder)
        self.runs = range(1, experiment.tuning.runs + 1)
        commands = _Commands(experiment, self.folder, tuple(moses))
        self.sets = commands.sets
        # By system, the steps that find its weights: one for all runs, or one per run.
        self.tunings: dict[str, list[Step]] = {}
        self._outputs: dict[tuple[str, str, int], Step] = {}
        wanted: list[Step] = []
        for system in experiment.systems:
            name = system.name
            if system.nbest_of:
                tunings = [commands.learn(system, run) for run in self.runs]
                outputs = {
                    (name, test.name, run): commands.rerank(system, test, run)
                    for run in self.runs
                    for test in self.sets
                }
            else:
                tunings = [commands.tune(system)]
                outputs = {
                    (name, test.name, run): commands.decode(name, test, run)
                    for test in experiment.tests
                    for run in self.runs
                }
            self.tunings[name] = tunings
            self._outputs |= outputs
            wanted += [*tunings, *outputs.values()]
        self.steps = _in_order(wanted)

    def output(self, system: str, test: str, run: int) -> Path:
        """The translation of a test set, or of the tuning set, with the weights of a run."""
        if (system, test, run) in self._outputs:
            return self._outputs[system, test, run].output
        return self.tunings[system][0].output / f"run{run}" / "tuning-set.output"


def _in_order(wanted: Sequence[Step]) -> list[Step]:
    """These steps and all that they need, in an order in which they can be done."""
    ordered: dict[str, Step] = {}

    def visit(step: Step) -> None:
        known = ordered.get(file_name(step.name))
        if known is None:
            for before in step.after:
                visit(before)
            ordered[file_name(step.name)] = step
        elif known != step:
            message = "two steps would have this name; rename a system or a test"
            raise DataError(message, text=step.name)

    for step in wanted:
        visit(step)
    return list(ordered.values())
