"""The paper's Table 1 as a restartable experiment: train, rescore, tune, decode, evaluate.

The steps are this program's own commands, as a user would type them, each in a process of its own;
`commands.log` has them all. A step that is done is not done again while its command and those of
the steps before it stay the same; one that was interrupted goes on where it can.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moses_integration.decoder.programs import ProgramError
from moses_integration.experiment.config import file_name
from moses_integration.experiment.plan import Step, keys_of
from phrase_scorer.errors import UsageError
from phrase_scorer.runtime.output import delete, held_locks, real_path
from phrase_scorer.runtime.records import read_json
from phrase_scorer.runtime.report import write_json

POLL_SECONDS = 0.2  # between looks at the processes


def note_of(folder: Path, step: Step) -> Path:
    """Where an experiment keeps what it knows of a step."""
    return folder / "steps" / f"{file_name(step.name)}.json"


@dataclass(eq=False)
class Job:
    """A step to do."""

    step: Step
    title: str  # as told to the user
    key: str  # from its inputs as they were before anything was begun
    started: float = 0.0  # by the monotonic clock


class Runner:
    """Does the steps of a plan that are not done yet; notes of those done are in `steps/`.

    With more than one job at the same time, what a step says is in `logs/`.
    """

    def __init__(self, folder: Path, say: Callable[[str], None], jobs: int = 1) -> None:
        self.folder, self.say, self.jobs = real_path(folder), say, jobs

    def do(self, steps: Sequence[Step]) -> None:
        """Does them, each after those that it needs, else in order.

        Raises:
            ProgramError: A step failed. Those beside it were brought to their end, no other was
                begun, and what is done stays done.
            DataError: An input file of a step is not there; none was begun.
            UsageError: Something that is not ours has the name of an output; none was begun.
        """
        keys = keys_of(steps)
        self._refuse_others(steps)
        (self.folder / "steps").mkdir(parents=True, exist_ok=True)
        every = enumerate(steps, 1)
        waiting = [Job(s, f"[{n}/{len(steps)}] {s.name}", keys[s.name]) for n, s in every]
        running: dict[Job, subprocess.Popen[bytes]] = {}
        failures: list[str] = []
        try:
            while waiting or running:
                for job in list(waiting):
                    unfinished = {other.step.name for other in (*waiting, *running)}
                    needed = (step.name for step in job.step.after)
                    if len(running) < self.jobs and unfinished.isdisjoint(needed):
                        waiting.remove(job)
                        if self._is_done(job):
                            self.say(f"{job.title}: done before")
                        else:
                            running[job] = self._begin(job)
                for job in _finished(running):
                    code = running.pop(job).returncode
                    if code:
                        failures.append(self._failure(job, code, len(running)))
                        waiting.clear()
                    else:
                        self._end(job)
        except BaseException:
            for process in running.values():
                process.terminate()  # it saves what it can, and ends what it started
            for process in running.values():
                process.wait()
            raise
        if failures:
            more = "; once that is mended, the same experiment goes on from there"
            raise ProgramError("; ".join(failures) + more)

    def _refuse_others(self, steps: Sequence[Step]) -> None:
        """Refuses to replace what has the name of an output, but comes from no step noted here."""
        for step in steps:
            for output in step.outputs:
                if output.exists() and not note_of(self.folder, step).is_file():
                    message = "is there, and not from this experiment: move it away"
                    raise UsageError(f"{output} {message}")

    def _known(self, job: Job) -> dict[str, object]:
        """What was noted when the same step was begun before, or nothing."""
        note = note_of(self.folder, job.step)
        known = read_json(note, dict[str, Any]) if note.is_file() else {}
        return known if known.get("key") == job.key else {}

    def _is_done(self, job: Job) -> bool:
        there = all(output.exists() for output in job.step.outputs)
        return there and self._known(job).get("seconds") is not None

    def _begin(self, job: Job) -> subprocess.Popen[bytes]:
        step = job.step
        arguments = list(step.arguments)
        if self._known(job) and step.resumes and (step.output / step.resumes).exists():
            arguments.append("--resume")
        else:
            for output in step.outputs:
                delete(output)
        step.output.parent.mkdir(parents=True, exist_ok=True)
        self._write(job, None)
        self.say(job.title)
        with (self.folder / "commands.log").open("ab") as log:
            log.write(os.fsencode(f"phrase-scorer {shlex.join(arguments)}\n"))
        job.started = time.monotonic()
        # Not "phrase-scorer" as found on PATH: this very program.
        command = [sys.executable, "-P", "-m", "moses_integration", *arguments]
        if self.jobs == 1:  # it tells its progress itself
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=held_locks)
        self._log(step).parent.mkdir(exist_ok=True)
        with self._log(step).open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=held_locks
            )

    def _log(self, step: Step) -> Path:
        return self.folder / "logs" / f"{file_name(step.name)}.log"

    def _failure(self, job: Job, code: int, others: int) -> str:
        """What went wrong; it is told now where others are still running."""
        log = "" if self.jobs == 1 else f" ({self._log(job.step)})"
        what = f"phrase-scorer {job.step.arguments[0]} ended with exit code {code}{log}"
        if others:
            self.say(f"{job.title}: {what}; what runs beside it goes on to its end")
        return what

    def _end(self, job: Job) -> None:
        seconds = time.monotonic() - job.started
        self._write(job, seconds)
        self.say(f"{job.title}: {seconds / 60:.1f} minutes")

    def _write(self, job: Job, seconds: float | None) -> None:
        content = {"key": job.key, "command": ["phrase-scorer", *job.step.arguments]}
        write_json(note_of(self.folder, job.step), {**content, "seconds": seconds})


def _finished(running: Mapping[Job, subprocess.Popen[bytes]]) -> list[Job]:
    """Those that have ended, as soon as one has; an empty list where nothing runs."""
    while running:
        ended = [job for job, process in running.items() if process.poll() is not None]
        if ended:
            return ended
        time.sleep(POLL_SECONDS)
    return []
