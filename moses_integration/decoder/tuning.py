"""Tuning with real Moses: mert-moses.pl from several seeds, the weights before and after it.

The model is filtered for the tuning set once, for all runs. Whatever mert-moses.pl would reuse by
name (features.list, filtered/) is always new. The weights found go into the user's own moses.ini;
all else in it stays.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from moses_integration.decoder.decoding import Decoder, split_flags
from moses_integration.decoder.programs import Moses, ProgramError, run_program
from moses_integration.formats.ini_edits import with_absolute_paths, with_weight_file, with_weights
from moses_integration.formats.moses_ini import TEXT_TABLE, MosesIni, Weights, weights_of
from moses_integration.formats.phrase_table import surface_words
from moses_integration.formats.signature import read_signature
from moses_integration.system.check import check_model
from moses_integration.system.filtering import filter_model
from phrase_scorer.errors import DataError, UsageError, quoted, require_at_least
from phrase_scorer.runtime.numbers import real_number, whole_number
from phrase_scorer.runtime.output import locked_folder, real_path, write_file
from phrase_scorer.runtime.records import read_json
from phrase_scorer.runtime.report import write_json
from phrase_scorer.runtime.streams import compression, numbered_lines, refuse_pipes

WeightOptimizer = Literal["mert", "mira"]
Component = tuple[str, int]  # feature name and place among its scores, from 0

# Without the colon where --continue repeats the last one that was done.
ITERATION = re.compile(rb"^\((\d+)\) BEST at \d+:? .* => (\S+) at ")
UNSAFE = re.compile(r"[^\w@%+=:,./-]")  # it puts paths into shell commands without quoting them
MIRA_ROUNDS = 60  # kbmira's own default, written out beside the seed


@dataclass(frozen=True)
class TuningSettings:
    """How to tune; what a finished or interrupted tuning is compared with."""

    optimizer: WeightOptimizer = "mert"
    runs: int = 1
    seed: int = 1  # the first run's; the next ones count on
    nbest: int = 100
    max_iterations: int = 25
    decoder: str = "moses"  # or moses2
    decoder_flags: str = ""
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("runs", "nbest", "max_iterations", "threads"):
            require_at_least(1, f"--{name.replace('_', '-')}", getattr(self, name))
        if self.optimizer not in get_args(WeightOptimizer):
            raise UsageError(f"unknown optimizer {self.optimizer}; choose mert or mira")
        split_flags(self.decoder_flags)


@dataclass(frozen=True)
class TuneRequest:
    """A model, the tuning set for its weights, and a folder of its own to work in.

    Raises:
        UsageError: No source, or a path that mert-moses.pl cannot use; with an n-best list,
            options that belong to a tuning with the decoder.
    """

    moses: Moses
    moses_ini: str | Path  # it is not changed
    source: Path | None  # tokenised as the model wants it, like the reference
    reference: Path
    working_dir: Path  # new or empty, unless `resume`
    settings: TuningSettings
    resume: bool = False  # go on with what an interrupted tuning left in the folder
    rescore_nbest: Path | None = None  # learn from this list of the tuning set; decode no more

    def __post_init__(self) -> None:
        refuse_pipes(self.source, self.reference, self.rescore_nbest)
        if self.rescore_nbest:
            if self.source is not None or self.resume or self.settings.runs != 1:
                raise UsageError("--rescore-nbest goes without --source, --resume and --runs")
            return
        if self.source is None:
            raise UsageError("give --source FILE, the tuning set (or --rescore-nbest LIST)")
        for path in map(real_path, (self.working_dir, self.source, self.reference)):
            if UNSAFE.search(str(path)):
                why = f"blanks, or what means something to a shell: {quoted(str(path))}"
                raise UsageError(f"mert-moses.pl cannot use a path with {why}")


@dataclass(frozen=True)
class TuningRun:
    """One run of mert-moses.pl; BLEU in percent."""

    number: int  # from 1
    seed: int  # for random restarts (MERT) or the order of sentences (MIRA)
    iterations: int
    nbest_bleu: float  # what mert-moses.pl reported last, over its n-best lists
    dev_bleu: float  # sacreBLEU of the tuning set decoded with the final weights
    seconds: float  # in mert-moses.pl alone
    weights: Weights  # the final ones


@dataclass(frozen=True)
class TuningResult:
    """All runs, and the weights they started from."""

    start_weights: Weights
    runs: list[TuningRun] = field(default_factory=list)

    @property
    def best(self) -> TuningRun:
        """The run with the highest BLEU on the tuning set."""
        return max(self.runs, key=lambda run: run.dev_bleu)

    @property
    def mean(self) -> float:
        """The mean BLEU on the tuning set, in percent."""
        return statistics.mean(run.dev_bleu for run in self.runs)

    @property
    def spread(self) -> float:
        """The standard deviation (n - 1) of that BLEU; 0 for a single run."""
        values = [run.dev_bleu for run in self.runs]
        return statistics.stdev(values) if len(values) > 1 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """The result as it is written to tuning.json."""
        return {**asdict(self), "best": self.best.number, "mean": self.mean, "spread": self.spread}


class Tuner:
    """Tunes one model on one tuning set, in a working folder of its own; `say` is told how."""

    def __init__(self, request: TuneRequest, say: Callable[[str], None] = print) -> None:
        assert request.source
        self.moses, self.settings, self.resume = request.moses, request.settings, request.resume
        self.ini = MosesIni.read(request.moses_ini)
        self.source, self.reference = real_path(request.source), real_path(request.reference)
        self.folder, self.say = real_path(request.working_dir), say

    def run(self) -> TuningResult:
        """Does all runs; the best one's moses.ini becomes `moses.ini` of the folder.

        Raises:
            UsageError: The folder is in use or not new, a program is missing.
            DataError: The ini and its tables do not agree, or the tuning set is no tuning set.
            ProgramError: A program failed.
        """
        check_tuning_set(self.source, self.reference)
        check_model(self.ini, for_tuning=True)
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot work in {self.folder}: {error.strerror}") from error
        with locked_folder(self.folder, "tuning"):
            self._prepare()
            numbers = range(1, self.settings.runs + 1)
            tuning = TuningResult(weights_of(self.ini), [self._run(n) for n in numbers])
            write_json(self.folder / "tuning.json", tuning.as_dict())
            best = self.folder / f"run{tuning.best.number}" / "moses.ini"
            write_file(self.folder / "moses.ini", best.read_bytes())
        return tuning

    def _prepare(self) -> None:
        """Filters the model for the tuning set, or checks that this was done for this tuning."""
        settings = asdict(self.settings)
        del settings["runs"], settings["threads"]  # may be others when it goes on
        task = {
            "settings": settings,
            "source": str(self.source),
            "reference": str(self.reference),
            "moses_ini": self.ini.to_bytes().decode("utf-8", "backslashreplace"),
        }
        note, filtered = self.folder / "task.json", self.folder / "filtered"
        if self.resume and note.is_file():
            known = read_json(note, dict[str, Any])
            if what := ", ".join(key for key in task if known.get(key) != task[key]):
                why = f"holds another tuning (other {what}: see task.json); not resumed"
                raise UsageError(f"{self.folder} {why}")
        elif any(path.name != ".lock" for path in self.folder.iterdir()):
            what = "is not empty; choose a new one, or --resume"
            if not note.is_file():
                what = "is not empty and holds no tuning; choose a new one"
            raise UsageError(f"--working-dir {self.folder} {what}")
        else:
            write_json(note, task)
        if not (filtered / "moses.ini").is_file():
            shutil.rmtree(filtered, ignore_errors=True)
            filtered.mkdir()
            for table in filter_model(self.ini, [self.source], filtered):
                self.say(f"{table.name}: {table.kept:,} of {table.entries:,} entries needed")

    def _run(self, number: int) -> TuningRun:
        folder = self.folder / f"run{number}"
        result = folder / "run.json"
        if result.is_file():
            done = read_json(result, TuningRun)
            self.say(f"run {number}: done before, BLEU {done.dev_bleu:.2f}")
            return done
        seed = self.settings.seed + number - 1
        iterations, nbest_bleu, seconds = self._mert(number, folder, seed)
        tuned = MosesIni.read(folder / "mert" / "moses.ini")
        weights = weights_of(tuned)
        if missing := [name for name in weights_of(self.ini) if name not in weights]:
            raise ProgramError(f"mert-moses.pl gave no weights for {', '.join(missing)}")
        sparse = folder / "sparse-weights"
        for item in tuned.values("weight-file"):
            write_file(sparse, Path(os.fsdecode(item.text)).read_bytes())
        dev_bleu = self._dev_bleu(folder, weights, sparse)
        run = TuningRun(number, seed, iterations, nbest_bleu, dev_bleu, seconds, weights)
        final = _with_tuned(with_absolute_paths(self.ini), weights, sparse)
        write_file(folder / "moses.ini", final.to_bytes())
        write_json(result, run)
        effort = f"{run.iterations} iterations, {seconds / 60:.1f} minutes"
        self.say(f"run {number}: BLEU {run.dev_bleu:.2f} on the tuning set after {effort}")
        return run

    def _mert(self, number: int, folder: Path, seed: int) -> tuple[int, float, float]:
        """Runs mert-moses.pl, or what is left of it: (iterations, n-best BLEU, seconds)."""
        work, note = folder / "mert", folder / "mert.json"
        if note.is_file():  # it cannot go on after its end
            return read_json(note, tuple[int, float, float])
        interrupted = (work / "finished_step.txt").is_file()
        if not interrupted:
            shutil.rmtree(folder, ignore_errors=True)
            work.mkdir(parents=True)
        history, log = _History(number, self.say, interrupted), folder / "mert.log"
        self.moses.note_in(log)
        command = self._command(work, seed, interrupted)
        usage = run_program(command, log=log, cwd=work, on_line=history.read)
        result = history.iterations, history.bleu, usage.seconds
        write_json(note, result)
        return result

    def _command(self, work: Path, seed: int, interrupted: bool) -> list[str | Path]:
        settings, moses = self.settings, self.moses
        flags = f"-v 0 -threads {settings.threads} {settings.decoder_flags}".strip()
        command: list[str | Path] = [
            "perl", moses.script("training/mert-moses.pl"),
            self.source, self.reference, moses.program(settings.decoder),
            self.folder / "filtered" / "moses.ini",
            "--working-dir", work, "--mertdir", moses.bin, "--rootdir", moses.scripts,
            "--no-filter-phrase-table", "--nbest", str(settings.nbest),
            "--maximum-iterations", str(settings.max_iterations),
            "--decoder-flags", flags, "--threads", str(settings.threads),
        ]  # fmt: skip
        if settings.optimizer == "mira":
            rounds = f"-J {MIRA_ROUNDS} -r {seed}"
            command += ["--batch-mira", "--return-best-dev", "--batch-mira-args", rounds]
        else:
            command += ["--mertmertargs", f"-r {seed} "]  # the script appends to it as it is
        return [*command, "--continue"] if interrupted else command

    def _dev_bleu(self, folder: Path, weights: Weights, sparse: Path) -> float:
        """sacreBLEU, in percent, of the tuning set decoded with these weights."""
        ini = MosesIni.read(self.folder / "filtered" / "moses.ini")
        path = folder / "filtered.moses.ini"
        write_file(path, _with_tuned(ini, weights, sparse).to_bytes())
        how = self.settings
        decoder = Decoder(self.moses, how.decoder, how.decoder_flags, how.threads)
        output = decoder.translations(path, self.source, folder / "decoder.log")
        write_file(folder / "tuning-set.output", b"".join(b"%b\n" % line for line in output))
        return bleu(output, self.reference)


def bleu(hypotheses: Sequence[bytes], reference: Path) -> float:
    """sacreBLEU, in percent, of tokenised lines' surface: cased, not tokenised further."""
    import sacrebleu

    both = map(surface_words, (list(hypotheses), _lines(reference)))
    texts = [[b" ".join(line).decode("utf-8", "replace") for line in lines] for lines in both]
    score = sacrebleu.corpus_bleu(texts[0], [texts[1]], tokenize="none", force=True)
    return float(score.score)


class _History:
    """What mert-moses.pl says about its iterations."""

    def __init__(self, run: int, say: Callable[[str], None], interrupted: bool) -> None:
        self.run, self.say = run, say
        self.iterations, self.bleu = 0, 0.0
        self.repeats = interrupted  # the script first tells the last iteration again
        self.started = time.monotonic()

    def read(self, line: bytes) -> None:
        found = ITERATION.match(line)
        if not found:
            return
        iteration, bleu = whole_number(found[1]), real_number(found[2])
        if iteration is None or bleu is None:
            return
        self.iterations, self.bleu = iteration, 100 * bleu
        seconds, self.started = time.monotonic() - self.started, time.monotonic()
        if self.repeats:
            self.repeats = False
            self.say(f"run {self.run} goes on after iteration {self.iterations}")
        else:
            found_bleu = f"BLEU {self.bleu:.2f} on its n-best lists ({seconds:.0f} s)"
            self.say(f"run {self.run}, iteration {self.iterations}: {found_bleu}")


def check_tuning_set(source: Path, reference: Path) -> None:
    """Refuses (DataError) a source and a reference of different length, empty, or compressed."""
    sources, references = len(_lines(source)), len(_lines(reference))
    if not sources:
        raise DataError("the tuning set is empty", path=source)
    if sources != references:
        raise DataError(f"{references:,} lines, but {source} has {sources:,}", path=reference)
    for path in (source, reference):
        with path.open("rb") as text:
            if kind := compression(text):
                raise DataError(f"mert-moses.pl wants plain text, not {kind}", path=path)


def _lines(path: Path) -> list[bytes]:
    return [line for _, line in numbered_lines(path)]


def _with_tuned(ini: MosesIni, weights: Weights, sparse: Path) -> MosesIni:
    """The ini with the tuned weights, and the file of sparse ones if tuning made it."""
    tuned = with_weights(ini, weights)
    return with_weight_file(tuned, sparse) if sparse.is_file() else tuned


def added_columns(ini: MosesIni) -> dict[Component, str]:
    """The columns named by the signatures beside the ini's phrase tables."""
    return {
        (table.name, column.place): column.name
        for table in ini.phrase_tables
        if table.class_name == TEXT_TABLE
        for column in read_signature(table.file())
    }


def weight_table(before: Weights, after: Weights, added: dict[Component, str]) -> Iterator[str]:
    """One line per weight: its name, before, after, and the column that it weighs if we added it.

    Tuning leaves weights whose absolute values sum to 1; the old ones are shown so, too. Weights
    that it does not touch (UnknownWordPenalty0) stay out of the sums.
    """
    names = [(name, place) for name in after for place in range(len(after[name]))]
    width = max(map(len, ("weight", *(f"{name} {place + 1}" for name, place in names))))
    tuned = {name for name in after if after[name] != before.get(name)}
    total = sum(abs(one_weight(before, *place)) for place in names if place[0] in tuned)
    yield f"{'weight':<{width}}   before    after"
    for name, place in names:
        first = one_weight(before, name, place) / (total if name in tuned and total else 1.0)
        mark = f"  <- {added[name, place]}" if (name, place) in added else ""
        label = f"{name} {place + 1}" if len(after[name]) > 1 else name
        yield f"{label:<{width}} {first:8.4f} {after[name][place]:8.4f}{mark}"


def one_weight(weights: Weights, name: str, place: int) -> float:
    """A weight; 0 if it is new."""
    values = weights.get(name, ())
    return values[place] if place < len(values) else 0.0
