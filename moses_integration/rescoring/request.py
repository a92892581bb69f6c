"""What `rescore` is asked for: checked once, before a model is loaded or a table read.

A folder made by `filter` becomes its table and its moses.ini here (`RescoreRequest.files`); nothing
below knows of folders.
torch is not imported: a refusal costs no time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, get_args

from typing_extensions import override

from moses_integration.formats.ini_edits import START_WEIGHT, with_columns, with_files
from moses_integration.formats.moses_ini import MosesIni, require_scores
from moses_integration.formats.phrase_table import PhraseTable
from moses_integration.formats.signature import (
    SIGNATURE_SUFFIX,
    read_signature,
    refuse_other_kind,
    signed_place,
)
from moses_integration.rescoring.log import check_log
from moses_integration.rescoring.parts import INDEX_SUFFIX, TablePart
from moses_integration.system.check import IniTarget, NamedInIni
from phrase_scorer.errors import DataError, UsageError, require_choice, require_one_each
from phrase_scorer.runtime.device import Arithmetic
from phrase_scorer.runtime.journal import BESIDE, check_resume
from phrase_scorer.runtime.output import (
    STANDARD,
    OutputFile,
    check_new_folder,
    check_option,
    is_standard_output,
    make_new_folder,
    real_path,
    reason,
)
from phrase_scorer.runtime.workers import SMALL_INPUT, available_cores
from phrase_scorer.text.pair_files import OnBadLine

# What columns are, for the signature.
PROBABILITIES = {"forward": "p(target | source)", "inverse": "p(source | target)"}
UNKNOWN_WORDS = "unknown target words"
DEFAULT_FLOOR = -50.0
WORKER_IMPORTS = ("moses_integration.rescoring.block",)  # what worker processes unpickle needs it
WRITTEN_BESIDE = (*BESIDE, SIGNATURE_SUFFIX)  # OUTPUT, behind its name
LOWEST_FLOOR = -87.0  # exp(-87) is still a normal float32, which is what Moses reads into


class RescoredFiles(NamedTuple):
    """The files behind the names that were given."""

    table: str
    output: str | None
    ini_target: IniTarget


@dataclass(frozen=True)
class RescoreRequest(NamedInIni):
    """A table, the columns that it gets, where it is written, and the moses.ini that names it.

    Raises:
        UsageError: Options that do not go together, or an output that is impossible.
        DataError: The table is not there, the output would overwrite it or cannot be written, or
            moses.ini cannot be read or does not fit.
    """

    table: str  # `-` is standard input; a folder made by `filter` becomes the table in it
    output: str | None = None  # `-` is standard output; a new folder where `table` is a folder
    models: tuple[Path, ...] = ()
    inverse_models: tuple[Path, ...] = ()
    ensemble: bool = False  # one column per direction: the mean of its models
    unknown_words: bool = False  # a column of words outside the first model's shortlist
    unknown_words_of: Path | None = None  # the same of this model's shortlist
    weights: tuple[float, ...] = ()  # start weights of the new columns; one stands for all
    floor: float = DEFAULT_FLOOR  # least natural-log value written
    on_bad_line: OnBadLine = "stop"
    any_table: bool = False  # take what looks like a reordering table, too
    allow_duplicate: bool = False
    replace: tuple[str, ...] = ()  # columns of the signature that the new ones take the places of
    max_unknown: float | None = None  # share of unknown words above which nothing is scored
    estimate: bool = False  # only say what it would take: no output is needed
    resume: bool = False
    part: TablePart | None = None  # write this share of the table alone
    log: str | None = None  # to which a line is appended every second
    quiet: bool = False
    ini_target: IniTarget = field(default_factory=IniTarget)
    arithmetic: Arithmetic = field(default_factory=Arithmetic)

    def __post_init__(self) -> None:
        _ = self.start_weights
        check_floor(self.floor)
        require_choice("treatment of bad lines", self.on_bad_line, get_args(OnBadLine))
        if self.output is None and not self.estimate:
            raise UsageError("OUTPUT is missing (or use --estimate)")
        if self.part:
            self._check_part()
        table, output, target = self.files
        try:
            if table != STANDARD:
                os.stat(table)
        except OSError as error:
            raise DataError(f"cannot read: {reason(error)}", path=table) from error
        if self.new_folder:
            check_new_folder(self.new_folder, "OUTPUT")
        elif output is not None and not self.estimate:
            read = [table, target.moses_ini, *self._model_files()]
            place = rescored_place(output, read, self.part)
            if target.moses_ini_out and not place.replaces:
                raise UsageError(f"--moses-ini-out needs a file as OUTPUT, not {place.path}")
            check_resume(place, resume=self.resume)
        if not self.new_folder:
            written = {f"OUTPUT{suffix}": f"{output}{suffix}" for suffix in WRITTEN_BESIDE}
            target.check_out({"PHRASE_TABLE": table, "OUTPUT": output, **written})
        if self.log is not None:
            self._check_log(self.log)
        _ = self.replaced
        if self.feature:
            target.require_named(self.feature, table)
        if self.feature and target.moses_ini_out and output is not None:
            _ = self.edited_ini  # an impossible edit is refused before hours of scoring

    def _check_part(self) -> None:
        """Refuses what only the whole table can have."""
        if self.estimate:
            raise UsageError("--part is of a run, and --estimate makes none")
        if Path(self.table).is_dir():
            raise UsageError("--part: PHRASE_TABLE must be a file, not a folder")
        of_the_whole = {"--moses-ini": self.ini_target.moses_ini, "--weight": self.weights}
        for option, given in of_the_whole.items():
            if given:
                raise UsageError(f"--part writes no moses.ini: give {option} to `join`")
        if self.output is not None and not OutputFile(self.output).replaces:
            raise UsageError(f"--part needs a file as OUTPUT, not {self.output}")

    def _check_log(self, log: str) -> None:
        """Refuses a log that would be written into another file, or never."""
        if self.estimate:
            raise UsageError("--log tells of a run, and --estimate makes none")
        if log == STANDARD:
            raise UsageError("--log needs a file, not -")
        table, output, target = self.files
        named = {"PHRASE_TABLE": table, "OUTPUT": output, "--moses-ini": target.moses_ini}
        beside = {f"OUTPUT{suffix}": f"{output}{suffix}" for suffix in WRITTEN_BESIDE}
        if self.part and output is not None:
            part = self.part.path(output)
            names = [f"{part}{suffix}" for suffix in ("", *BESIDE, INDEX_SUFFIX)]
            beside |= dict(zip(names, names, strict=True))
        models = {f"a file of the model ({path})": path for path in self._model_files()}
        ours = {"--moses-ini-out": target.moses_ini_out, **beside, **models}
        check_option("--log", log, named | ours)
        if output == STANDARD and is_standard_output(log):
            raise UsageError(f"--log {log} is where the table goes (OUTPUT is -)")
        check_log(log)

    @cached_property
    def files(self) -> RescoredFiles:
        """What is read and written: of a folder made by `filter`, its table and its moses.ini."""
        if not Path(self.table).is_dir():
            return RescoredFiles(self.table, self.output, self.ini_target)
        if self.ini_target.moses_ini or self.ini_target.moses_ini_out:
            raise UsageError("PHRASE_TABLE is a folder: its own moses.ini is read and rewritten")
        if self.output == STANDARD:
            raise UsageError("PHRASE_TABLE is a folder, so OUTPUT must be one, not -")
        if not Path(self.table, "moses.ini").exists():
            raise DataError("not a folder that `filter` made: no moses.ini in it", path=self.table)
        ini = MosesIni.read(Path(self.table, "moses.ini"))
        table = ini.phrase_table(self.ini_target.table_name).file()
        output = ini_out = None
        if self.output is not None and not self.estimate:
            output = str(real_path(Path(self.output, table.name)))
            ini_out = str(Path(self.output, "moses.ini"))
        target = IniTarget(ini.path, ini_out, self.ini_target.table_name)
        return RescoredFiles(str(table), output, target)

    @cached_property
    def new_folder(self) -> str | None:
        """The folder that is to be made for the output; None where none is."""
        if self.output is None or self.files.output in (None, self.output):
            return None
        return None if self.resume and Path(self.output).is_dir() else self.output

    @contextmanager
    def folder_made(self) -> Iterator[None]:
        """Makes the folder of the output, if one is wanted; what leaves it empty takes it away."""
        is_new = self.new_folder is not None and not os.path.exists(self.new_folder)
        if self.new_folder is not None:
            make_new_folder(self.new_folder, "OUTPUT")
        try:
            yield
        finally:
            if is_new and self.new_folder is not None:
                with suppress(OSError):  # there is something in it
                    os.rmdir(self.new_folder)

    @cached_property
    def start_weights(self) -> tuple[float, ...]:
        """One for each column that is added; refuses columns that do not go together."""
        columns = self._columns()
        if self.replace:
            if self.weights:
                raise UsageError("--replace keeps the weights: not with --weight")
            require_one_each("--replace", len(self.replace), columns, "new column")
            return ()
        return start_weights_of(self.weights, columns)

    @cached_property
    def replaced(self) -> tuple[int, ...]:
        """The places, from 0, that the new columns take; none: they are added.

        A DataError tells of names that do not stand in the signature, or of no signature.
        """
        places = tuple(signed_place(self.files.table, name) for name in self.replace)
        for number, place in enumerate(places):
            if place in places[:number]:
                raise UsageError(f"--replace names score {place + 1} twice")
        known = {column.place: column for column in read_signature(self.files.table)}
        if len(places) == self._columns():
            for place, kind in zip(places, self._kinds(), strict=True):
                refuse_other_kind(self.files.table, known[place], kind)
        return places

    def _kinds(self) -> Iterator[str]:
        """What each column is, in their order."""
        given = {"forward": self.models, "inverse": self.inverse_models}
        for direction, models in given.items():
            yield from [PROBABILITIES[direction]] * (bool(models) if self.ensemble else len(models))
        if self.unknown_words or self.unknown_words_of:
            yield UNKNOWN_WORDS

    def _columns(self) -> int:
        """How many columns are computed."""
        counts = [len(self.models), len(self.inverse_models)]
        if not any(counts):
            raise UsageError("give --model DIR, --inverse-model DIR, or several of them")
        if self.ensemble:
            if max(counts) < 2:
                raise UsageError("--ensemble needs at least two models of one direction")
            counts = [min(count, 1) for count in counts]
        if self.unknown_words and self.unknown_words_of:
            raise UsageError("--unknown-words or --unknown-words-of DIR, not both")
        return sum(counts) + bool(self.unknown_words or self.unknown_words_of)

    def _model_files(self) -> list[str]:
        """What every process reads again."""
        folders = [*self.models, *self.inverse_models, self.unknown_words_of]
        known = [folder for folder in folders if folder and folder.is_dir()]
        return [str(path) for folder in known for path in folder.iterdir()]

    @property
    def phrase_table(self) -> PhraseTable:
        """The table, to be read once from its beginning."""
        table, keep = self.files.table, self.on_bad_line
        return PhraseTable(table, on_bad_line=keep, any_table=self.any_table)

    @property
    def processes(self) -> int:
        """In how many to score; one where starting others would take longer than the work."""
        table = self.files.table
        if os.path.isfile(table) and os.path.getsize(table) < SMALL_INPUT:
            return 1
        return self.arithmetic.threads or available_cores()

    @property
    @override
    def target(self) -> IniTarget:
        return self.files.ini_target

    def require_scores(self, scores: int) -> None:
        """Checks that the table turns out to have as many scores as moses.ini says."""
        if self.feature:
            require_scores(self.feature, scores)

    @cached_property
    def edited_ini(self) -> MosesIni:
        """The moses.ini for the new table; refuses a path or weights that it cannot hold."""
        ini, feature = self.moses_ini, self.feature
        table, output, target = self.files
        assert ini is not None
        assert feature is not None
        assert output is not None
        path = target.new_path(feature, table, output)
        edited = target.seen_from_out(ini)
        if self.replace:
            return with_files(edited, {feature.line: (feature.class_name, path)})
        return with_columns(edited, feature, path=path, start_weights=self.start_weights)


def start_weights_of(weights: tuple[float, ...], columns: int) -> tuple[float, ...]:
    """One for each new column: as given, or one for all; a UsageError tells of another number."""
    weights = weights or (START_WEIGHT,)
    if len(weights) == 1:
        return weights * columns
    require_one_each("--weight", len(weights), columns, "new column")
    return weights


def check_floor(floor: float) -> None:
    """Checks that a floor is below 0, and not so low that Moses would take the score for 0."""
    if not LOWEST_FLOOR <= floor < 0:
        raise UsageError(f"--floor must be from {LOWEST_FLOOR:g} to below 0, not {floor:g}")


def rescored_place(
    output: str | Path, inputs: Iterable[str | None], part: TablePart | None = None
) -> OutputFile:
    """Where a rescored table, or a part of it, is written; no input may be one of its files.

    A part is compressed where the whole is.
    """
    if part is None:
        return OutputFile(output, inputs=inputs, beside=WRITTEN_BESIDE)
    inputs = list(inputs)
    OutputFile(output, inputs=inputs, beside=[SIGNATURE_SUFFIX])  # which `join` writes
    compressed = os.fspath(output).endswith(".gz")
    beside = (*BESIDE, INDEX_SUFFIX)
    return OutputFile(part.path(output), inputs=inputs, beside=beside, compressed=compressed)
