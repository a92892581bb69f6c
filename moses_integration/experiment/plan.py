"""The steps of an experiment: which commands, in which order, and what each makes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moses_integration.experiment.config import (
    TUNING_SET,
    ContinuousSpaceLM,
    Experiment,
    Network,
    System,
    TestSet,
    file_name,
)
from phrase_scorer.errors import DataError
from phrase_scorer.runtime.output import reason

ELSEWHERE = ("--threads", "--moses-bin", "--moses-scripts")  # options that change no result


@dataclass(frozen=True)
class Step:
    """One command of the experiment.

    Attributes:
        name: As told to the user; also the name of its note.
        arguments: Of `phrase-scorer`.
        output: What it makes; deleted before the step is done anew.
        beside: What it makes beside it.
        after: Steps whose results it uses.
        resumes: A file in the output whose presence means that an interrupted step can go on,
            with --resume; None: it starts anew.
        files: Inputs from outside of the experiment.
    """

    name: str
    arguments: tuple[str, ...]
    output: Path
    after: tuple[Step, ...] = ()
    resumes: str | None = None
    files: tuple[str, ...] = ()
    beside: tuple[Path, ...] = ()

    @property
    def outputs(self) -> tuple[Path, ...]:
        """All that it makes."""
        return self.output, *self.beside


def keys_of(steps: Sequence[Step]) -> dict[str, str]:
    """By name of each step what changes with its command, its input files, the steps before it.

    How many cores there are, and where Moses is, makes no other result.

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


class Plan:
    """All steps of an experiment, in a folder.

    Args:
        experiment: What to do.
        folder: Where; everything is kept there.
        moses: Options that say where Moses is.

    Attributes:
        steps: In an order in which they can be done.
        tunings: By system, the steps that find its weights: one for all runs, or one a run.

    Raises:
        DataError: Names of systems and test sets that together name two steps alike.
    """

    def __init__(self, experiment: Experiment, folder: Path, moses: Sequence[str] = ()) -> None:
        self.experiment, self.folder, self.moses = experiment, folder.resolve(), tuple(moses)
        self.threads = ("--threads", str(experiment.threads))
        self.runs = range(1, experiment.tuning.runs + 1)
        tuning = experiment.tuning
        self.tuning_set = TestSet(TUNING_SET, tuning.source, tuning.reference)
        self.sets = (self.tuning_set, *experiment.tests)
        self.networks = {n.name: self._train(n) for n in experiment.networks if n.pairs}
        self.filter = self._filter()
        self.tunings: dict[str, tuple[Step, ...]] = {}
        self._outputs: dict[tuple[str, str, int], Step] = {}
        for system in experiment.systems:
            if system.nbest_of:
                self._rerank_all(system)
            else:
                self._decode_all(system)
        self.steps = self._in_order()

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

    def _place(self, system: System | str) -> Path:
        name = system if isinstance(system, str) else system.name
        return self.folder / "systems" / file_name(name)

    def _train(self, network: Network) -> Step:
        output = self.folder / "networks" / file_name(network.name)
        arguments = ("train", network.pairs, "--model", str(output), *self.threads)
        return Step(
            f"train {network.name}", (*arguments, *network.options), output,
            resumes="training_state.safetensors", files=(network.pairs,),
        )  # fmt: skip

    def _export(self, model: ContinuousSpaceLM) -> Step:
        """The ARPA file of a continuous-space language model, trained where it is not there."""
        folder = self.folder / "language_models" / file_name(model.name)
        network, after, files = self._language_model(model)
        arguments = [
            "export-arpa", "--model", network, "--arpa", model.arpa,
            "--output", str(folder / "cslm.arpa"), *self.threads,
        ]  # fmt: skip
        if model.share != 1.0:
            arguments += ["--share", str(model.share)]
        if model.prune:
            arguments += ["--prune", str(model.prune)]
        system = model.nbest_of
        lists = [self._decode(system, test, 1) for test in self.sets] if system else []
        for step in lists:
            arguments += ["--nbest", str(step.beside[0])]
        return Step(
            f"export language model {model.name}", tuple(arguments), folder / "cslm.arpa",
            after=(*after, *lists), files=(model.arpa, *files),
        )  # fmt: skip

    def _language_models(self, system: System) -> list[ContinuousSpaceLM]:
        models = {model.name: model for model in self.experiment.language_models}
        return [models[name] for name in system.language_models]

    def _language_model(
        self, model: ContinuousSpaceLM
    ) -> tuple[str, tuple[Step, ...], tuple[str, ...]]:
        """(directory of the network, the step after which it is there, its file from outside)."""
        if model.model:
            return model.model, (), (f"{model.model}/model.safetensors",)
        output = self.folder / "language_models" / file_name(model.name) / "network"
        arguments = ["train-lm", model.text, "--model", str(output), *self.threads]
        if model.validation:
            arguments += ["--validation", model.validation]
        files = (model.text, model.validation) if model.validation else (model.text,)
        step = Step(
            f"train language model {model.name}", (*arguments, *model.options), output,
            resumes="training_state.safetensors", files=files,
        )  # fmt: skip
        return str(output), (step,), ()

    def _network(self, name: str) -> tuple[str, tuple[Step, ...], tuple[str, ...]]:
        """The same for a network, or what else has that name."""
        for language_model in self.experiment.language_models:
            if language_model.name == name:
                return self._language_model(language_model)
        if name in self.networks:
            return str(self.networks[name].output), (self.networks[name],), ()
        model = next(n.model for n in self.experiment.networks if n.name == name)
        return model, (), (f"{model}/model.safetensors",)

    def _ini(self, system: System) -> tuple[Step, Path]:
        """(the step after which it is there, the moses.ini with all of a system's features)."""
        rescored = self._rescore(system)
        ini = rescored.output / "moses.ini"
        if not system.language_models:
            return rescored, ini
        # In the same folder, so that relative paths in it keep their meaning.
        output = rescored.output / f"moses.{file_name(system.name)}.ini"
        arguments = ["ini", str(ini), "--output", str(output)]
        exports = [self._export(model) for model in self._language_models(system)]
        for export in exports:
            arguments += ["--language-model", str(export.output)]
        name = f"language models for {system.name}"
        return Step(name, tuple(arguments), output, (rescored, *exports)), output

    def _filter(self) -> Step:
        inputs = [test.source for test in self.sets]
        output = self.folder / "filtered"
        arguments = ["filter", "--moses-ini", self.experiment.moses_ini]
        for path in inputs:
            arguments += ["--input", path]
        return Step(
            "filter", (*arguments, "--output-dir", str(output)), output,
            files=(self.experiment.moses_ini, *inputs),
        )  # fmt: skip

    def _rescore(self, system: System) -> Step:
        if not system.networks:
            return self.filter
        output = self._place(system) / "model"
        arguments = ["rescore", str(self.filter.output), str(output), *self.threads]
        after, files = self._add_models(arguments, system)
        arguments += ["--ensemble"] * system.ensemble
        for weight in system.weights:
            arguments += ["--weight", str(weight)]
        return Step(
            f"rescore for {system.name}", tuple(arguments), output, (self.filter, *after), None,
            files,
        )  # fmt: skip

    def _add_models(
        self, arguments: list[str], system: System
    ) -> tuple[tuple[Step, ...], tuple[str, ...]]:
        """Adds a system's networks to a command; (steps before it, files from outside)."""
        steps: list[Step] = []
        files: list[str] = []
        of = (system.unknown_words_of,) if system.unknown_words_of else ()
        for option, names in (
            ("--model", system.models),
            ("--inverse-model", system.inverse_models),
            ("--unknown-words-of", of),
        ):
            for name in names:
                place, after, outside = self._network(name)
                arguments += [option, place]
                steps += after
                files += outside
        arguments += ["--unknown-words"] * system.unknown_words
        return tuple(steps), tuple(files)

    def _decode_all(self, system: System) -> None:
        """Tunes a system, and decodes the test sets with the weights of each run."""
        tuning = self._tune(system)
        self.tunings[system.name] = (tuning,)
        for test in self.experiment.tests:
            for run in self.runs:
                self._outputs[system.name, test.name, run] = self._decode(system.name, test, run)

    def _tune(self, system: System) -> Step:
        (before, ini), tuning = self._ini(system), self.experiment.tuning
        output = self._place(system) / "tuned"
        arguments = (
            "tune", "--moses-ini", str(ini), "--source", tuning.source,
            "--reference", tuning.reference, "--working-dir", str(output),
            "--runs", str(tuning.runs), *self.threads, *tuning.options, *self.moses,
        )  # fmt: skip
        files = (tuning.source, tuning.reference)
        return Step(f"tune {system.name}", arguments, output, (before,), "task.json", files)

    def _tuned_ini(self, system: str, run: int) -> str:
        return str(self.tunings[system][0].output / f"run{run}" / "moses.ini")

    def _decode(self, system: str, test: TestSet, run: int) -> Step:
        """Decodes with the weights of a run; also to an n-best list, where another step wants it.

        The tuning set has been decoded by the tuning already, so that only its list is wanted.
        """
        output = self._place(system) / "outputs" / f"{file_name(test.name)}.run{run}"
        arguments = ["decode", "--moses-ini", self._tuned_ini(system, run)]
        arguments += ["--input", test.source, "--output", str(output)]
        nbest = (output.with_name(f"{output.name}.nbest.gz"),) * self._is_list_wanted(system, run)
        for path in nbest:
            size = str(self.experiment.reranking.size)
            arguments += ["--nbest", str(path), size, "--distinct"]
        return Step(
            f"decode {test.name} with {system}, run {run}",
            (*arguments, *self.threads, *self.moses), output, self.tunings[system], None,
            (test.source,), nbest,
        )  # fmt: skip

    def _is_list_wanted(self, system: str, run: int) -> bool:
        reranked = any(other.nbest_of == system for other in self.experiment.systems)
        models = self.experiment.language_models
        return reranked or (run == 1 and any(model.nbest_of == system for model in models))

    def _rerank_all(self, system: System) -> None:
        """Adds features to the n-best lists of another system, learns weights, reranks."""
        weights = []
        for run in self.runs:
            lists = {test.name: self._features(system, test, run) for test in self.sets}
            learned = self._learn(system, lists[TUNING_SET], run)
            weights.append(learned)
            for name, step in lists.items():
                self._outputs[system.name, name, run] = self._rerank(
                    system, name, step, learned, run
                )
        self.tunings[system.name] = tuple(weights)

    def _features(self, system: System, test: TestSet, run: int) -> Step:
        given = self._decode(system.nbest_of, test, run)
        [nbest] = given.beside
        output = self._place(system) / "nbest" / nbest.name
        arguments = ["nbest", str(nbest), "--source", test.source, "--output", str(output)]
        after, files = self._add_models(arguments, system)
        for model in self._language_models(system):
            place, trained, outside = self._language_model(model)
            arguments += ["--cslm", place]
            after, files = (*after, *trained), (*files, *outside)
        return Step(
            f"features for {test.name} with {system.name}, run {run}", (*arguments, *self.threads),
            output, (given, *after), None, (test.source, *files),
        )  # fmt: skip

    def _learn(self, system: System, features: Step, run: int) -> Step:
        output = self._place(system) / f"weights.run{run}"
        reference = self.tuning_set.reference
        arguments = (
            "tune", "--rescore-nbest", str(features.output),
            "--moses-ini", self._tuned_ini(system.nbest_of, run), "--reference", reference,
            "--working-dir", str(output), "--seed", str(run), *self.threads,
            *self.experiment.reranking.options, *self.moses,
        )  # fmt: skip
        name = f"weights of {system.name}, run {run}"
        return Step(name, arguments, output, (features,), None, (reference,))

    def _rerank(self, system: System, test: str, features: Step, weights: Step, run: int) -> Step:
        output = self._place(system) / "outputs" / f"{file_name(test)}.run{run}"
        arguments = (
            "nbest", str(features.output), "--rerank", str(weights.output / "weights"),
            "--output", str(output),
        )  # fmt: skip
        name = f"rerank {test} with {system.name}, run {run}"
        return Step(name, arguments, output, (features, weights))
