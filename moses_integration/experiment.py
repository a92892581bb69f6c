"""The paper's Table 1 as a restartable experiment: train, rescore, tune, decode, evaluate.

The steps are this program's own commands, as a user would type them, each in a process of its own;
`commands.log` has them all. A step that is done is not done again while its command and those of
the steps before it stay the same; one that was interrupted goes on where it can.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from moses_integration.experiment_config import file_name
from moses_integration.experiment_plan import Step
from moses_integration.programs import ProgramError
from phrase_scorer.streams import write_atomically

Say = Callable[[str], None]

POLL_SECONDS = 0.2  # between looks at the processes


def note_of(folder: Path, step: Step) -> Path:
    """Where an experiment keeps what it knows of a step."""
    return folder / "steps" / f"{file_name(step.name)}.json"


@dataclass(frozen=True)
class Running:
    """A step being done."""

    step: Step
    title: str
    process: subprocess.Popen[bytes]
    started: float  # by the monotonic clock


class Runner:
    """Does the steps of a plan that are not done yet.

    Args:
        folder: Of the experiment; notes of finished steps are in `steps/`.
        say: Is told how it goes.
        jobs: Steps at the same time. With more than one, what a step says is in `logs/`.
    """

    def __init__(self, folder: Path, say: Say, jobs: int = 1) -> None:
        self.folder, self.say, self.jobs = folder.resolve(), say, jobs

    def do(self, steps: Sequence[Step]) -> None:
        """Does them, each after those that it needs, else in order.

        Raises:
            ProgramError: A step failed. Those beside it were brought to their end, no other was
                begun, and what is done stays done.
        """
        (self.folder / "steps").mkdir(parents=True, exist_ok=True)
        waiting = {s.name: (s, f"[{n}/{len(steps)}] {s.name}") for n, s in enumerate(steps, 1)}
        running: list[Running] = []
        failed: ProgramError | None = None
        try:
            while waiting or running:
                for step, title in list(waiting.values()):
                    unfinished = waiting.keys() | {each.step.name for each in running}
                    if len(running) < self.jobs and unfinished.isdisjoint(_names(step.after)):
                        del waiting[step.name]
                        if self._is_done(step):
                            self.say(f"{title}: done before")
                        else:
                            running.append(self._begin(step, title))
                for each in _finished(running):
                    running.remove(each)
                    if error := self._end(each):
                        failed = failed or error
                        waiting.clear()
        except BaseException:
            for each in running:
                each.process.terminate()  # it saves what it can, and ends what it started
            for each in running:
                each.process.wait()
            raise
        if failed:
            raise failed

    def _known(self, step: Step) -> dict[str, object]:
        """What was noted when the same step was begun before, or nothing."""
        note = note_of(self.folder, step)
        known = json.loads(note.read_bytes()) if note.is_file() else {}
        return known if known.get("key") == step.key else {}

    def _is_done(self, step: Step) -> bool:
        return self._known(step).get("seconds") is not None and step.output.exists()

    def _begin(self, step: Step, title: str) -> Running:
        arguments = list(step.arguments)
        if self._known(step) and step.resumes and (step.output / step.resumes).exists():
            arguments.append("--resume")
        else:
            _delete(step.output)
        step.output.parent.mkdir(parents=True, exist_ok=True)
        self._write(step, None)
        self.say(title)
        with (self.folder / "commands.log").open("a") as log:
            log.write(f"phrase-scorer {shlex.join(arguments)}\n")
        return Running(step, title, self._start(arguments, step), time.monotonic())

    def _start(self, arguments: Sequence[str], step: Step) -> subprocess.Popen[bytes]:
        """A process of this very program."""
        command = [sys.executable, "-P", "-m", "moses_integration", *arguments]
        if self.jobs == 1:  # it tells its progress itself
            return subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self._log(step).parent.mkdir(exist_ok=True)
        with self._log(step).open("ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _log(self, step: Step) -> Path:
        return self.folder / "logs" / f"{file_name(step.name)}.log"

    def _end(self, ended: Running) -> ProgramError | None:
        """Notes that a step is done; or what is wrong."""
        code = ended.process.returncode
        if code:
            log = "" if self.jobs == 1 else f" ({self._log(ended.step)})"
            return ProgramError(
                f"phrase-scorer {ended.step.arguments[0]} ended with exit code {code}{log}; once "
                "that is mended, the same experiment goes on from there"
            )
        seconds = time.monotonic() - ended.started
        self._write(ended.step, seconds)
        self.say(f"{ended.title}: {seconds / 60:.1f} minutes")
        return None

    def _write(self, step: Step, seconds: float | None) -> None:
        content = {"key": step.key, "command": ["phrase-scorer", *step.arguments]}
        text = json.dumps({**content, "seconds": seconds}, indent=2)
        write_atomically(note_of(self.folder, step), text.encode())


def _names(steps: Sequence[Step]) -> set[str]:
    return {step.name for step in steps}


def _finished(running: Sequence[Running]) -> list[Running]:
    """Those that have ended, as soon as one has; none where none runs."""
    while running:
        ended = [each for each in running if each.process.poll() is not None]
        if ended:
            return ended
        time.sleep(POLL_SECONDS)
    return []


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()
