"""The paper's Table 1 as a restartable experiment: train, rescore, tune, decode, evaluate.

The steps are this program's own commands, as a user would type them, each in a process of its own;
`commands.log` has them all. A step that is done is not done again while its command and those of
the steps before it stay the same; one that was interrupted goes on where it can.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moses_integration.experiment_config import (
    ContinuousSpaceLM,
    Experiment,
    Network,
    System,
    TestSet,
    file_name,
)
from moses_integration.programs import ProgramError
from phrase_scorer.errors import DataError
from phrase_scorer.streams import reason, write_atomically

Say = Callable[[str], None]


@dataclass(frozen=True)
class Step:
    """One command of the experiment.

    Attributes:
        name: As told to the user; also the name of its note.
        arguments: Of `phrase-scorer`.
        output: What it makes; deleted before the step is done anew.
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
    files: tuple[str, ...] = field(default=())

    @property
    def key(self) -> str:
        """Changes with the command, with its input files, and with the steps before it."""
        digest = hashlib.sha256(json.dumps([*self.arguments, *map(_stamp, self.files)]).encode())
        for step in self.after:
            digest.update(step.key.encode())
        return digest.hexdigest()


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
    """

    def __init__(self, experiment: Experiment, folder: Path, moses: Sequence[str] = ()) -> None:
        self.experiment, self.folder, self.moses = experiment, folder.resolve(), tuple(moses)
        self.threads = str(experiment.threads)
        self.networks = {n.name: self._train(n) for n in experiment.networks if n.pairs}
        self.language_models = {m.name: self._export(m) for m in experiment.language_models}
        self.filter = self._filter()
        self.tunings = {system.name: self._tune(system) for system in experiment.systems}
        self.decodings = {
            (system.name, test.name, run): self._decode(system.name, test, run)
            for system in experiment.systems
            for test in experiment.tests
            for run in range(1, experiment.tuning.runs + 1)
        }

    @property
    def steps(self) -> list[Step]:
        """In an order in which they can be done."""
        ordered: dict[str, Step] = {}

        def visit(step: Step) -> None:
            for before in step.after:
                visit(before)
            ordered[step.name] = step

        for name, tuning in self.tunings.items():
            visit(tuning)
            for (system, _, _), decoding in self.decodings.items():
                if system == name:
                    visit(decoding)
        return list(ordered.values())

    def _train(self, network: Network) -> Step:
        output = self.folder / "networks" / file_name(network.name)
        arguments = ("train", network.pairs, "--model", str(output), "--threads", self.threads)
        return Step(
            f"train {network.name}", (*arguments, *network.options), output,
            resumes="training_state.safetensors", files=(network.pairs,),
        )  # fmt: skip

    def _export(self, model: ContinuousSpaceLM) -> Step:
        """The ARPA file of a continuous-space language model, trained where it is not there."""
        folder = self.folder / "language_models" / file_name(model.name)
        network = model.model or str(folder / "network")
        arguments = [
            "export-arpa", "--model", network, "--arpa", model.arpa,
            "--output", str(folder / "cslm.arpa"), "--threads", self.threads,
        ]  # fmt: skip
        if model.prune:
            arguments += ["--prune", str(model.prune)]
        return Step(
            f"export language model {model.name}", tuple(arguments), folder / "cslm.arpa",
            after=() if model.model else (self._train_language_model(model, Path(network)),),
            files=(model.arpa, *([f"{network}/model.safetensors"] if model.model else [])),
        )  # fmt: skip

    def _train_language_model(self, model: ContinuousSpaceLM, output: Path) -> Step:
        arguments = ["train-lm", model.text, "--model", str(output), "--threads", self.threads]
        if model.validation:
            arguments += ["--validation", model.validation]
        files = (model.text, model.validation) if model.validation else (model.text,)
        return Step(
            f"train language model {model.name}", (*arguments, *model.options), output,
            resumes="training_state.safetensors", files=files,
        )  # fmt: skip

    def _ini(self, system: System) -> tuple[Step, Path]:
        """(the step after which it is there, the moses.ini with all of a system's features)."""
        rescored = self._rescore(system)
        ini = rescored.output / "moses.ini"
        if not system.language_models:
            return rescored, ini
        # In the same folder, so that relative paths in it keep their meaning.
        output = rescored.output / f"moses.{file_name(system.name)}.ini"
        arguments = ["ini", str(ini), "--output", str(output)]
        exports = [self.language_models[name] for name in system.language_models]
        for export in exports:
            arguments += ["--language-model", str(export.output)]
        name = f"language models for {system.name}"
        return Step(name, tuple(arguments), output, (rescored, *exports)), output

    def _filter(self) -> Step:
        tuning, tests = self.experiment.tuning, self.experiment.tests
        inputs = [tuning.source, *(test.source for test in tests)]
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
        models = {n.name: n.model for n in self.experiment.networks}
        places = {name: models[name] or str(self.networks[name].output) for name in system.networks}
        output = self.folder / "systems" / file_name(system.name) / "model"
        arguments = ["rescore", str(self.filter.output), str(output), "--threads", self.threads]
        for name in system.models:
            arguments += ["--model", places[name]]
        for name in system.inverse_models:
            arguments += ["--inverse-model", places[name]]
        arguments += ["--unknown-words"] * system.unknown_words
        arguments += ["--ensemble"] * system.ensemble
        for weight in system.weights:
            arguments += ["--weight", str(weight)]
        return Step(
            f"rescore for {system.name}", tuple(arguments), output,
            after=(self.filter, *(self.networks[n] for n in system.networks if not models[n])),
            files=tuple(f"{models[n]}/model.safetensors" for n in system.networks if models[n]),
        )  # fmt: skip

    def _tune(self, system: System) -> Step:
        (before, ini), tuning = self._ini(system), self.experiment.tuning
        output = self.folder / "systems" / file_name(system.name) / "tuned"
        arguments = (
            "tune", "--moses-ini", str(ini), "--source", tuning.source,
            "--reference", tuning.reference, "--working-dir", str(output),
            "--runs", str(tuning.runs), "--threads", self.threads, *tuning.options, *self.moses,
        )  # fmt: skip
        files = (tuning.source, tuning.reference)
        return Step(f"tune {system.name}", arguments, output, (before,), "task.json", files)

    def _decode(self, system: str, test: TestSet, run: int) -> Step:
        tuned = self.tunings[system]
        folder = self.folder / "systems" / file_name(system) / "outputs"
        output = folder / f"{file_name(test.name)}.run{run}"
        arguments = (
            "decode", "--moses-ini", str(tuned.output / f"run{run}" / "moses.ini"),
            "--input", test.source, "--output", str(output), "--threads", self.threads, *self.moses,
        )  # fmt: skip
        name = f"decode {test.name} with {system}, run {run}"
        return Step(name, arguments, output, (tuned,), None, (test.source,))


class Runner:
    """Does the steps of a plan that are not done yet.

    Args:
        folder: Of the experiment; notes of finished steps are in `steps/`.
        say: Is told how it goes.
    """

    def __init__(self, folder: Path, say: Say) -> None:
        self.folder, self.say = folder.resolve(), say

    def do(self, steps: Sequence[Step]) -> None:
        """Does them in order.

        Raises:
            PhraseScorerError: Of the step that failed; what is done stays done.
        """
        (self.folder / "steps").mkdir(parents=True, exist_ok=True)
        for number, step in enumerate(steps, 1):
            self._do(step, f"[{number}/{len(steps)}] {step.name}")

    def _do(self, step: Step, title: str) -> None:
        note = self.folder / "steps" / f"{file_name(step.name)}.json"
        known = json.loads(note.read_bytes()) if note.is_file() else {}
        same = known.get("key") == step.key
        if same and known.get("seconds") is not None and step.output.exists():
            self.say(f"{title}: done before")
            return
        arguments = list(step.arguments)
        if same and step.resumes and (step.output / step.resumes).exists():
            arguments.append("--resume")
        else:
            _delete(step.output)
        step.output.parent.mkdir(parents=True, exist_ok=True)
        self._write(note, step, None)
        self.say(title)
        with (self.folder / "commands.log").open("a") as log:
            log.write(f"phrase-scorer {shlex.join(arguments)}\n")
        started = time.monotonic()
        run_command(arguments)
        seconds = time.monotonic() - started
        self._write(note, step, seconds)
        self.say(f"{title}: {seconds / 60:.1f} minutes")

    def _write(self, note: Path, step: Step, seconds: float | None) -> None:
        content = {"key": step.key, "command": ["phrase-scorer", *step.arguments]}
        write_atomically(note, json.dumps({**content, "seconds": seconds}, indent=2).encode())


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()


def run_command(arguments: Sequence[str]) -> None:
    """Runs this program in a process of its own, which tells its progress itself.

    Raises:
        ProgramError: It failed; what was wrong it has said.
    """
    command = [sys.executable, "-P", "-m", "moses_integration", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        code = process.wait()
    except BaseException:
        process.terminate()  # it saves what it can, and ends what it started
        process.wait()
        raise
    if code:
        raise ProgramError(
            f"phrase-scorer {arguments[0]} ended with exit code {code}; once that is mended, "
            "the same experiment goes on from there"
        )
