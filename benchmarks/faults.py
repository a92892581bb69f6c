"""Breaks everything on purpose, for long: the table of docs/reliability.md.

    python benchmarks/faults.py [--cases 10000] [--kills 40] [--seed 1] [--only PART ...]
    python benchmarks/faults.py --only calls --sabotage "rename by copying"     # losses, then

Four parts: every fault at every system call on an output's files; broken files of every kind for
every command that reads them; hostile names (the tests' own table); and real kills -9 at random
moments, with 1 and 2 processes, training and tuning among them. A case is lost where a name holds
something torn, an input was touched, or going on gave other bytes than an unbroken run. What the
tests do in seconds, from the same code (tests/faults).
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

import torch
from faults.any_bytes import KINDS, World, strategy_of
from faults.injection import SABOTAGES, Server
from faults.scenarios import SCENARIOS, TRAIN, Case, Scenario, read_trained
from hypothesis import HealthCheck, Phase, given, seed, settings
from toys import DATA, PROGRAM, save_model

MEMORY = 8 << 30  # bytes of address space for broken files: a runaway ends there
STILL_AT_WORK = 120  # seconds that a program goes on at most after the one that started it
SHOWN = 300  # characters of what is wrong


@dataclass
class Row:
    """What came of one kind of fault."""

    kind: str
    tried: int = 0
    lost: int = 0
    tracebacks: int = 0
    details: list[str] = field(default_factory=list)

    def count(self, found: list[str], what: str) -> None:
        """One more case, and what is wrong with it."""
        self.tried += 1
        broken = [one for one in found if "traceback" in one]
        self.tracebacks += bool(broken)
        self.lost += bool(found) and not broken
        self.details += [f"{what}: {one}" for one in found]

    def __str__(self) -> str:
        survived = self.tried - self.lost - self.tracebacks
        return f"| {self.kind} | {self.tried:,} | {survived:,} | {self.lost} | {self.tracebacks} |"


# -- system calls ----------------------------------------------------------------------------------


def stopped_at_calls(
    server: Server,
    folder: Path,
    scenarios: Iterable[Scenario] = SCENARIOS.values(),
    sabotage: str = "",
) -> Iterator[Row]:
    """Every scenario with every fault at every call; `sabotage`: by a writer that loses files."""
    for scenario in scenarios:
        case = Case(scenario, server, folder / scenario.name, sabotage)
        row = Row(f"any system call: {scenario.name}")
        for fault, at in case.faults():
            row.count(case.losses(fault, at), f"{fault.name} at {case.log[at - 1]}")
        yield row


# -- any bytes -------------------------------------------------------------------------------------


def broken_files(folder: Path, cases: int, number: int) -> Iterator[Row]:
    """So many broken files, equally many of each kind; each kind in a process of its own."""
    for place, name in enumerate(KINDS):
        wanted = (cases + place) // len(KINDS)
        row = Row(f"broken {name}")
        report = folder / f"{place}.json"
        child = os.fork()
        if child == 0:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            _break_files(row, World(folder / str(place)), name, wanted, number)
            report.write_text(json.dumps(vars(row)))
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            row.count([f"traceback: the process ended with {code}"], name)
            row.tried = wanted
        else:
            row = Row(**json.loads(report.read_text()))
        yield row


def _break_files(row: Row, world: World, name: str, wanted: int, number: int) -> None:
    kind = KINDS[name]

    @seed(number)
    @settings(
        max_examples=wanted,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy_of(world, kind))
    def break_one(content: bytes) -> None:
        row.count(world.losses(kind, content), repr(content[:SHOWN]))

    break_one()


# -- hostile names ---------------------------------------------------------------------------------


def hostile_names(folder: Path) -> Iterator[Row]:
    """The table of tests/faults, one case each."""
    report = folder / "names.xml"
    tests = ROOT / "tests" / "faults" / "test_hostile_names.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)]
    every = {**_environment(), "FAULTS": "all"}
    done = {"cwd": ROOT, "env": every, "capture_output": True, "check": False}
    subprocess.run([*command, f"--junitxml={report}"], **done)  # type: ignore[call-overload]
    row = Row("hostile name")
    for case in ElementTree.parse(report).iter("testcase"):
        if case.find("skipped") is None:
            failed = [f"{part.get('message')}" for part in case if part.tag in ("failure", "error")]
            row.count(failed, str(case.get("name")))
    yield row


# -- real kills ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Killed:
    """A command that is killed at a random moment, and gone on with."""

    name: str
    arguments: list[str]  # OUT is the output
    result: Callable[[Path], object]  # what must be equal in the end, of an output
    again: Callable[[Path], list[str]]  # more arguments to go on with
    torn: Callable[[Path], bool] = lambda _: False  # whether a name holds half of something


def killed_jobs(folder: Path) -> Iterator[Killed]:
    """Rescoring with one process and with two, training, and tuning where Moses is."""
    table, model = folder / "table.gz", save_model(folder / "rnn", hidden=40)
    lines = gzip.decompress((DATA / "model" / "phrase-table.gz").read_bytes()).splitlines(True)
    many = [b"x%d %b" % (n, line) for n in range(6) for line in lines]
    table.write_bytes(gzip.compress(b"".join(sorted(many)), 1, mtime=0))
    rescore = ["rescore", str(table), "OUT", "--model", str(model), "--quiet"]
    for processes in (1, 2):
        yield Killed(
            f"rescore, {processes} process{'es' * (processes > 1)}",
            [*rescore, "--threads", str(processes)],
            lambda out: [out.read_bytes(), Path(f"{out}.signature.json").read_bytes()],
            lambda _: ["--resume"],
        )
    train = [str(DATA / "model" / "phrase-table.gz") if w == "in/table" else w for w in TRAIN]
    train = ["OUT" if word == "out/rnn" else word for word in train]
    train[train.index("--max-updates") + 1] = "300"
    train[train.index("--batch-pairs") + 1] = "64"
    state = "training_state.safetensors"
    yield Killed(
        "train",
        train,
        lambda out: [
            *((out / name).read_bytes() for name in ("config.json", "model.safetensors")),
            read_trained(out.parent, f"{out.name}/{state}"),
        ],
        lambda out: ["--resume" if (out / state).exists() else "--overwrite"],
    )
    if shutil.which("moses") is None:
        print("no moses on PATH: no tuning is killed", file=sys.stderr)
        return
    for name in ("tune.en", "tune.fr"):
        text = (DATA / "corpus" / name).read_bytes().splitlines(keepends=True)[:30]
        (folder / name).write_bytes(b"".join(text))
    filtered = folder / "filtered"
    _command(
        [*("filter", "--moses-ini", str(DATA / "moses.ini"), "--input", str(folder / "tune.en")),
         *("--output-dir", str(filtered), "--quiet")]
    )  # fmt: skip
    yield Killed(
        "tune",
        [*("tune", "--moses-ini", str(filtered / "moses.ini"), "--working-dir", "OUT"),
         *("--source", str(folder / "tune.en"), "--reference", str(folder / "tune.fr")),
         *("--runs", "2", "--nbest", "20", "--max-iterations", "2")],
        lambda out: (out / "moses.ini").read_bytes(),
        lambda out: ["--resume"] * out.exists(),
    )  # fmt: skip


def real_kills(folder: Path, kills: int, number: int) -> Iterator[Row]:
    """Equally many of each command; each is then gone on with, and compared."""
    chance = random.Random(number)
    for place, job in enumerate(jobs := list(killed_jobs(folder))):
        row = Row(f"kill -9: {job.name}")
        unbroken = folder / f"unbroken{place}"
        began = time.monotonic()
        _command(_with_output(job, unbroken))
        seconds = time.monotonic() - began
        expected = job.result(unbroken)
        for kill in range((kills + place) // len(jobs)):
            out = folder / f"killed{place}.{kill}"
            moment = chance.uniform(0, seconds)
            row.count(_kill_and_go_on(job, out, moment, expected), f"after {moment:.2f} s")
        yield row


def _kill_and_go_on(job: Killed, out: Path, moment: float, expected: object) -> list[str]:
    inputs = {path: path.read_bytes() for path in out.parent.iterdir() if path.is_file()}
    with subprocess.Popen(
        [*PROGRAM, *_with_output(job, out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=out.parent,
        env=_environment(),
    ) as process:
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
    found = []
    try:
        said = _go_on([*_with_output(job, out), *job.again(out)])
        found += ["traceback"] * ("Traceback" in said)
        if job.result(out) != expected:
            found.append("not the bytes of an unbroken run")
    except (OSError, subprocess.CalledProcessError) as error:
        told = getattr(error, "stderr", None) or str(error)
        kind = "traceback, " if "Traceback" in told else ""
        found.append(f"{kind}cannot go on: {told.splitlines()[-1]}")
    found += [f"{path} is touched" for path, content in inputs.items() if _changed(path, content)]
    return found


def _go_on(arguments: list[str]) -> str:
    """Goes on at once; waits while a program that the killed one has started works there."""
    deadline = time.monotonic() + STILL_AT_WORK
    while True:
        try:
            return _command(arguments)
        except subprocess.CalledProcessError as error:
            if "another process is" not in error.stderr or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _changed(path: Path, content: bytes) -> bool:
    return not path.name.startswith(("killed", "unbroken")) and path.read_bytes() != content


def _with_output(job: Killed, out: Path) -> list[str]:
    return [str(out) if word == "OUT" else word for word in job.arguments]


def _command(arguments: list[str]) -> str:
    """Runs a command to its end: what it said."""
    command = [*PROGRAM, *arguments]
    kept = {"capture_output": True, "text": True, "check": True, "timeout": 600}
    return subprocess.run(command, env=_environment(), **kept).stderr  # type: ignore[call-overload]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="at least so many, kills beside")
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=["calls", "names", "bytes", "kills"])
    parser.add_argument("--sabotage", choices=SABOTAGES, default="", help="losses, then")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    rows: list[Row] = []

    def tell(made: Iterator[Row]) -> None:
        for row in made:
            rows.append(row)
            print(row, flush=True)
            for detail, count in Counter(row.details).most_common(10):
                print(f"    {count} × {detail[: SHOWN * 3]}", file=sys.stderr)

    print(
        "| what is done | tried | survived | lost | tracebacks |\n| --- | --: | --: | --: | --: |"
    )
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        if "kills" in arguments.only:
            tell(real_kills(_made(folder / "kills"), arguments.kills, arguments.seed))
        killed = sum(row.tried for row in rows)
        if "calls" in arguments.only:
            with Server(_made(folder / "calls")) as server:
                tell(stopped_at_calls(server, folder / "calls", sabotage=arguments.sabotage))
        if "names" in arguments.only:
            tell(hostile_names(_made(folder / "names")))
        if "bytes" in arguments.only:
            cases = arguments.cases - sum(row.tried for row in rows) + killed
            tell(broken_files(_made(folder / "bytes"), cases, arguments.seed))
    total = Row("all", *(sum(getattr(row, n) for row in rows) for n in ("tried", "lost")))
    total.tracebacks = sum(row.tracebacks for row in rows)
    print(total)
    minutes = (time.monotonic() - began) / 60
    print(f"\nseed {arguments.seed}, {minutes:.1f} minutes")
    return 1 if total.lost or total.tracebacks else 0


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    sys.exit(main())
