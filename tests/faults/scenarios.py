"""What is stopped, and what must hold after it.

After any fault each output's name holds the old content or the whole new one, no input is touched,
and the same command, gone on with or given again, ends with the bytes of an undisturbed run.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from toys import TOY_INI, save_model, toy_lines

from faults.injection import FAULTS, Ended, Fault, Job, Server
from phrase_scorer.errors import PhraseScorerError
from phrase_scorer.models import ModelConfig, build
from phrase_scorer.models.directory import ModelDirectory
from phrase_scorer.text.vocabulary import Vocabulary

IN, OUT = "in", "out"  # the folders of a case: what is read, what is written
ENTRIES = 15  # in blocks of ten

ARPA = """
\\data\\
ngram 1=5
ngram 2=3

\\1-grams:
-1.5\t<unk>\t0
-99\t<s>\t-0.3
-0.9\t</s>\t0
-0.6\tun\t-0.2
-0.8\thomme\t-0.1

\\2-grams:
-0.3\t<s> un
-0.4\tun homme
-0.2\thomme </s>

\\end\\
"""


def make_inputs(folder: Path) -> None:
    """All that the commands read."""
    folder.mkdir(parents=True)
    save_model(folder / "rnn")
    lines = [
        line if line.split(b"|||")[1].strip() else line.replace(b"0-0 ", b"")
        for line in toy_lines(ENTRIES)
    ]
    (folder / "table").write_bytes(b"".join(line + b"\n" for line in lines))
    pairs = [b"\t".join(part.strip() for part in line.split(b"|||")[:2]) for line in lines]
    (folder / "pairs").write_bytes(b"\n".join(pairs) + b"\n")
    ini = TOY_INI.format("table").replace("num-features=2", "num-features=4")
    (folder / "moses.ini").write_text(ini.replace("0.2 0.3", "0.2 0.3 0.1 0.1"))
    (folder / "lm.arpa").write_text(ARPA)
    (folder / "text").write_bytes(b"la maison bleue\nle chat noir\n")
    sizes = {"order": 3, "embedding": 3, "hidden": 4, "second_hidden": 3, "output_rank": 0}
    vocabularies = Vocabulary(()), Vocabulary((b"un", b"homme"))
    config = ModelConfig(2, 4, architecture="cslm", **sizes)
    cslm = ModelDirectory(folder / "cslm")
    cslm.create(config, vocabularies, {})
    cslm.save_weights(build(config, seed=3, deviation=0.5).state_dict())


@dataclass(frozen=True)
class Scenario:
    """A command with outputs in `out/`, inputs in `in/`."""

    name: str
    arguments: list[str]
    finals: tuple[str, ...]  # names in out/ that may hold the old content or the new one alone
    again: Callable[[Path], list[str]] | None = None  # to go on; None: the same arguments
    prepare: Callable[[Path], None] | None = None  # makes what is in out/ before
    old: bool = True  # whether the finals hold something else before
    reads: Callable[[Path, str], object] = lambda folder, name: (folder / name).read_bytes()


def _rescore(*more: str) -> list[str]:
    return ["rescore", "in/table", "out/t.gz", "--model", "in/rnn", "--quiet", *more]


def _resumed_rescore(_: Path) -> list[str]:
    return _rescore("--resume")


TRAIN = [
    *("train", "in/table", "--model", "out/rnn", "--quiet", "--hidden", "3", "--embedding", "3"),
    *(
        "--max-updates",
        "2",
        "--batch-pairs",
        "4",
        "--validate-every",
        "2",
        "--precision",
        "float32",
    ),
    *("--validation-pairs", "6", "--checkpoint-minutes", "0.0000001", "--threads", "1"),
]
MODEL_FILES = ("config.json", "model.safetensors", "source.vocab", "target.vocab")
STATE = "rnn/training_state.safetensors"


def _trained_again(folder: Path) -> list[str]:
    resumable = (folder / OUT / STATE).exists()
    return [*TRAIN, "--resume" if resumable else "--overwrite"]


def read_trained(folder: Path, name: str) -> object:
    """A file of a model directory; the state without the time that it took."""
    path = folder / name
    if path.name != "training_state.safetensors":
        return path.read_bytes()
    parts, known = ModelDirectory(path.parent).load_state()
    known.progress.seconds = 0.0
    tensors = {f"{part}/{n}": v.numpy().tobytes() for part in parts for n, v in parts[part].items()}
    return tensors, known


def _old_model(folder: Path) -> None:
    save_model(folder / "rnn", seed=9)


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "rescore", _rescore(), ("t.gz", "t.gz.signature.json"), _resumed_rescore, old=False
        ),
        Scenario(
            "rescore over an older table",
            _rescore("--resume"),
            ("t.gz", "t.gz.signature.json"),
            _resumed_rescore,
        ),
        Scenario(
            "rescore, a part",
            _rescore("--part", "1/1"),
            ("t.gz.part1-of-1", "t.gz.part1-of-1.index.json"),
            lambda _: _rescore("--part", "1/1", "--resume"),
            old=False,
        ),
        Scenario(
            "train",
            [*TRAIN, "--overwrite"],
            (*(f"rnn/{name}" for name in MODEL_FILES), STATE),
            _trained_again,
            _old_model,
            reads=read_trained,
        ),
        Scenario(
            "score", ["score", "in/pairs", "--model", "in/rnn", "--output", "out/scores"],
            ("scores",),
        ),
        Scenario("ini", ["ini", "in/moses.ini", "--output", "out/new.ini"], ("new.ini",)),
        Scenario(
            "export-arpa",
            [*("export-arpa", "--model", "in/cslm", "--arpa", "in/lm.arpa", "--quiet"),
             *("--output", "out/lm.gz", "--moses-ini", "in/moses.ini"),
             *("--moses-ini-out", "out/lm.ini")],
            ("lm.gz", "lm.ini"),
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Snapshot:
    """What a folder holds: kind, rights and content of each name below it."""

    files: dict[str, tuple[str, int, bytes]]

    @classmethod
    def of(cls, folder: Path) -> Snapshot:
        """The folder as it is."""
        found = {}
        for path in sorted(folder.rglob("*")):
            facts = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(facts.st_mode) else b""
            kind = stat.filemode(facts.st_mode)
            found[str(path.relative_to(folder))] = kind, facts.st_ino, content
        return cls(found)


class Case:
    """A scenario in a folder of its own, to be disturbed again and again."""

    def __init__(
        self, scenario: Scenario, server: Server, folder: Path, sabotage: str = ""
    ) -> None:
        self.scenario, self.server, self.sabotage = scenario, server, sabotage
        self.folder = folder
        make_inputs(folder / IN)
        self.inputs = Snapshot.of(folder / IN)
        self._renew()
        self.old = self._finals()
        ended = self._run(scenario.arguments)
        assert ended.code == 0, ended.error
        self.calls = [call.partition(" ")[0] for call in ended.calls]
        self.new = self._finals()
        self.log = ended.calls

    def faults(self, kinds: tuple[str, ...] = tuple(FAULTS)) -> Iterator[tuple[Fault, int]]:
        """Every fault at every call where it makes a difference."""
        for at, call in enumerate(self.calls, 1):
            for name in kinds:
                if FAULTS[name].concerns(call):
                    yield FAULTS[name], at

    def losses(self, fault: Fault, at: int) -> list[str]:
        """What is wrong after a fault, and after going on: nothing should be."""
        self._renew()
        ended = self._run(self.scenario.arguments, fault, at)
        found = self._wrong(ended)
        if not fault.kills and ended.code == 0 and self._finals() != self.new:
            found.append("a failure without a word")
        again = self.scenario.again(self.folder) if self.scenario.again else self.scenario.arguments
        ended = self._run(again)
        found += [f"then {what}" for what in self._wrong(ended)]
        if ended.code:
            found.append(f"cannot go on: {_last(ended)}")
        elif self._finals() != self.new:
            found.append("not the bytes of an undisturbed run")
        return found

    def _wrong(self, ended: Ended) -> list[str]:
        """What may be after no run."""
        found = [f"traceback: {_last(ended)}"] * ended.has_traceback
        if ended.code in (1, 2) and not _last(ended).startswith("error: "):
            found.append(f"no error line: {_last(ended)}")
        for name, content in self._finals().items():
            if content not in (self.old[name], self.new[name]) and not self._is_whole(name):
                found.append(f"{name} is neither the old file nor the new one")
        if Snapshot.of(self.folder / IN) != self.inputs:
            found.append("an input is touched")
        return found

    def _is_whole(self, name: str) -> bool:
        """Whether a file is one that training had on its way, or took away to replace it."""
        directory = ModelDirectory(self.folder / OUT / "rnn")
        if not (self.folder / OUT / name).exists():
            return "--overwrite" in self.scenario.arguments
        try:
            if name == "rnn/config.json":  # two digests stand in it while a file is replaced
                directory.facts()
                return True
            if name == STATE:
                directory.load_state()
                return True
            if name == "rnn/model.safetensors":
                directory.load_model()
                return True
        except PhraseScorerError:
            pass
        return False

    def _finals(self) -> dict[str, object]:
        return {name: self._read(name) for name in self.scenario.finals}

    def _read(self, name: str) -> object:
        if not (self.folder / OUT / name).exists():
            return None
        try:
            return self.scenario.reads(self.folder / OUT, name)
        except PhraseScorerError as error:
            return error

    def _renew(self) -> None:
        """out/ as it is before a run."""
        out = self.folder / OUT
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        if self.scenario.prepare:
            self.scenario.prepare(out)
        elif self.scenario.old:
            for name in self.scenario.finals:
                (out / name).write_bytes(b"old content of " + os.fsencode(name))

    def _run(self, arguments: list[str], fault: Fault | None = None, at: int = 0) -> Ended:
        given = {"fault": fault, "at": at} if fault else {}
        out, folder = str(self.folder / OUT), str(self.folder)
        return self.server.run(Job(arguments, folder, out, sabotage=self.sabotage, **given))


def _last(ended: Ended) -> str:
    return (ended.error.splitlines() or [f"(exit code {ended.code})"])[-1]
