"""The steps of an experiment: which commands, in which order, and what each makes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from moses_integration.experiment.config import (
    TUNING_SET,
    ContinuousSpaceLM,
    Experiment,
    System,
    TestSet,
    file_name,
)
from phrase_scorer.errors import DataError
from phrase_scorer.runtime.output import reason

ELSEWHERE = ("--threads", "--moses-bin", "--moses-scripts")  # options that change no result


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

    @property
    def outputs(self) -> tuple[Path, ...]:
        """All that it makes."""
        return self.output, *self.beside


def keys_of(steps: Sequence[Step]) -> dict[str, str]:
    """By each step's name, what changes with its command, its input files, the steps before it.

    How many cores there are, and where Moses is, changes no result, and so no key.

    Raises:
        DataError: An input file is not there.
    """
    keys: dict[str, str] = {}

    def key(step: Step) -> str:
        if step.name not in keys:
            words = [step.arguments[0]]
            for option, word in zip(step.arguments, step.arguments[1:], strict=False):
                if word not in ELSEWHERE and option not in ELSEWHERE:
                    words.append(word)
            digest = hashlib.sha256(json.dumps([*words, *map(_stamp, step.files)]).encode())
            for before in step.after:
                digest.update(key(before).encode())
            keys[step.name] = digest.hexdigest()
        return keys[step.name]

    for step in steps:
        key(step)
    return keys


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


def _made(step: Step, path: Path | None = None) -> _Input:
    """What a step makes, or something in that."""
    return _Input(str(path or step.output), (step,))


def _given(path: str) -> _Input:
    """A file of the user."""
    return _Input(path, files=(path,))


def _step(
    name: str,
    output: Path,
    *words: str | Path | _Input,
    resumes: str | None = None,
    beside: tuple[Path, ...] = (),
) -> Step:
    """The step of these words; it comes after the steps that make what they name."""
    inputs = [word for word in words if isinstance(word, _Input)]
    return Step(
        name,
        tuple(word.path if isinstance(word, _Input) else str(word) for word in words),
        output,
        tuple(step for found in inputs for step in found.after),
        resumes,
        tuple(file for found in inputs for file in found.files),
        beside,
    )


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

    def _model(self, name: str) -> _Input:
        """A network or a language model: trained here, or one that is there."""
        language_model = self.language_models.get(name)
        found = language_model or self.networks[name]
        if found.model:
            return _Input(found.model, files=(f"{found.model}/model.safetensors",))
        state = "training_state.safetensors"
        if language_model is None:
            network, output = self.networks[name], self.folder / "networks" / file_name(name)
            return _made(
                _step(
                    f"train {name}", output, "train", _given(network.pairs), "--model", output,
                    *self.threads, *network.options, resumes=state,
                )
            )  # fmt: skip
        output = self.folder / "language_models" / file_name(name) / "network"
        held_out = language_model.validation
        return _made(
            _step(
                f"train language model {name}", output,
                "train-lm", _given(language_model.text), "--model", output, *self.threads,
                *(("--validation", _given(held_out)) if held_out else ()), *language_model.options,
                resumes=state,
            )
        )  # fmt: skip

    def _export(self, model: ContinuousSpaceLM) -> Step:
        """The ARPA file of a continuous-space language model."""
        output = self.folder / "language_models" / file_name(model.name) / "cslm.arpa"
        options: list[str | _Input] = []
        if model.share != 1.0:
            options += ["--share", str(model.share)]
        if model.prune:
            options += ["--prune", str(model.prune)]
        for test in self.sets if model.nbest_of else ():
            step = self.decode(model.nbest_of, test, 1)
            options += ["--nbest", _made(step, step.beside[0])]
        network = self._model(model.name)
        step = _step(
            f"export language model {model.name}", output, "export-arpa", "--model", network,
            "--arpa", model.arpa, "--output", output, *self.threads, *options,
        )  # fmt: skip
        return replace(step, files=(model.arpa, *network.files))  # the order is part of its key

    def _ini(self, system: System) -> _Input:
        """The moses.ini with all of a system's features."""
        rescored = self._rescore(system)
        ini = rescored.output / "moses.ini"
        if not system.language_models:
            return _made(rescored, ini)
        # In the same folder, so that relative paths in it keep their meaning.
        output = rescored.output / f"moses.{file_name(system.name)}.ini"
        options: list[str | _Input] = []
        for name in system.language_models:
            options += ["--language-model", _made(self._export(self.language_models[name]))]
        return _made(
            _step(
                f"language models for {system.name}", output,
                "ini", _made(rescored, ini), "--output", output, *options,
            )
        )  # fmt: skip

    def _filter(self) -> Step:
        output = self.folder / "filtered"
        inputs = (word for test in self.sets for word in ("--input", _given(test.source)))
        return _step(
            "filter", output, "filter", "--moses-ini", _given(self.experiment.moses_ini), *inputs,
            "--output-dir", output,
        )  # fmt: skip

    def _rescore(self, system: System) -> Step:
        if not system.networks:
            return self._filter()
        output = self._place(system.name) / "model"
        weights = (word for weight in system.weights for word in ("--weight", str(weight)))
        return _step(
            f"rescore for {system.name}", output, "rescore", _made(self._filter()), output,
            *self.threads, *self._columns(system), *["--ensemble"] * system.ensemble, *weights,
        )  # fmt: skip

    def _columns(self, system: System) -> Iterator[str | _Input]:
        """A system's networks, as options of rescore and of nbest."""
        of = (system.unknown_words_of,) if system.unknown_words_of else ()
        for option, names in (
            ("--model", system.models),
            ("--inverse-model", system.inverse_models),
            ("--unknown-words-of", of),
        ):
            for name in names:
                yield from (option, self._model(name))
        if system.unknown_words:
            yield "--unknown-words"

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
        return _made(step, step.output / f"run{run}" / "moses.ini")

    def decode(self, system: str, test: TestSet, run: int) -> Step:
        """Decodes with the weights of a run; also to an n-best list, where another step wants it.

        The tuning set has been decoded by the tuning already, so that only its list is wanted.
        """
        output = self._output(system, test, run)
        nbest = (output.with_name(f"{output.name}.nbest.gz"),) * self._is_list_wanted(system, run)
        size = str(self.experiment.reranking.size)
        lists = [word for path in nbest for word in ("--nbest", path, size, "--distinct")]
        return _step(
            f"decode {test.name} with {system}, run {run}", output,
            "decode", "--moses-ini", self._tuned_ini(system, run), "--input", _given(test.source),
            "--output", output, *lists, *self.threads, *self.moses, beside=nbest,
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
        models = (w for name in system.language_models for w in ("--cslm", self._model(name)))
        return _step(
            f"features for {test.name} with {system.name}, run {run}", output,
            "nbest", _made(given, nbest), "--source", _given(test.source), "--output", output,
            *self._columns(system), *models, *self.threads,
        )  # fmt: skip

    def learn(self, system: System, run: int) -> Step:
        """Finds weights for the n-best lists with these features."""
        output = self._place(system.name) / f"weights.run{run}"
        return _step(
            f"weights of {system.name}, run {run}", output,
            "tune", "--rescore-nbest", _made(self._features(system, self.tuning_set, run)),
            "--moses-ini", self._tuned_ini(system.nbest_of, run).path,
            "--reference", _given(self.tuning_set.reference), "--working-dir", output,
            "--seed", str(run), *self.threads, *self.experiment.reranking.options, *self.moses,
        )  # fmt: skip

    def rerank(self, system: System, test: TestSet, run: int) -> Step:
        """Translates with these weights."""
        output, weights = self._output(system.name, test, run), self.learn(system, run)
        return _step(
            f"rerank {test.name} with {system.name}, run {run}", output,
            "nbest", _made(self._features(system, test, run)),
            "--rerank", _made(weights, weights.output / "weights"), "--output", output,
        )  # fmt: skip


class Plan:
    """All steps of an experiment, in a folder.

    Args:
        experiment: What to do.
        folder: Where; everything is kept there.
        moses: Options that say where Moses is.

    Raises:
        DataError: Names of systems and test sets that together name two steps alike.
    """

    def __init__(self, experiment: Experiment, folder: Path, moses: Sequence[str] = ()) -> None:
        self.experiment, self.folder = experiment, folder.resolve()
        self.runs = range(1, experiment.tuning.runs + 1)
        commands = _Commands(experiment, self.folder, tuple(moses))
        self.sets = commands.sets
        # By system, the steps that find its weights: one for all runs, or one per run.
        self.tunings: dict[str, tuple[Step, ...]] = {}
        self._outputs: dict[tuple[str, str, int], Step] = {}
        for system in experiment.systems:
            name = system.name
            if system.nbest_of:
                self.tunings[name] = tuple(commands.learn(system, run) for run in self.runs)
                for run in self.runs:
                    for test in self.sets:
                        reranked = commands.rerank(system, test, run)
                        self._outputs[name, test.name, run] = reranked
            else:
                self.tunings[name] = (commands.tune(system),)
                for test in experiment.tests:
                    for run in self.runs:
                        self._outputs[name, test.name, run] = commands.decode(name, test, run)
        self.steps = self._in_order()  # in which they can be done

    def _in_order(self) -> list[Step]:
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

        for name, tunings in self.tunings.items():
            for step in (*tunings, *(s for key, s in self._outputs.items() if key[0] == name)):
                visit(step)
        return list(ordered.values())

    def output(self, system: str, test: str, run: int) -> Path:
        """The translation of a test set, or of the tuning set, with the weights of a run."""
        if (system, test, run) in self._outputs:
            return self._outputs[system, test, run].output
        return self.tunings[system][0].output / f"run{run}" / "tuning-set.output"
