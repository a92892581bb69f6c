"""The parts of a rescored table put together: the bytes of one run, and its signature."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from moses_integration.formats.ini_edits import with_columns, with_files
from moses_integration.formats.moses_ini import MosesIni, require_scores
from moses_integration.formats.signature import SIGNATURE_SUFFIX, write_signature
from moses_integration.rescoring.counts import RescoreCounts
from moses_integration.rescoring.parts import (
    INDEX_FORMAT,
    INDEX_SUFFIX,
    PartBlock,
    PartIndex,
    TablePart,
    table_details,
)
from moses_integration.rescoring.request import start_weights_of
from moses_integration.system.check import IniTarget, NamedInIni
from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.runtime.console import progress_bar
from phrase_scorer.runtime.journal import BESIDE
from phrase_scorer.runtime.output import STANDARD, OutputFile, reason, write_errors

MOST_NAMED = 20  # of the parts that are missing


@dataclass(frozen=True)
class JoinRequest(NamedInIni):
    """A table of which parts are there, and the moses.ini that names it.

    Raises:
        UsageError: Standard output, or weights where no column is added.
        DataError: Parts that are missing, unfinished, or not of one run; a moses.ini that does not
            fit; an output that cannot be written.
    """

    output: str
    keep_parts: bool = False
    weights: tuple[float, ...] = ()  # start weights of the new columns; one stands for all
    quiet: bool = False
    ini_target: IniTarget = field(default_factory=IniTarget)

    def __post_init__(self) -> None:
        if self.output == STANDARD:
            raise UsageError("OUTPUT names the parts: it must be a file, not -")
        names = [*self.paths, *(f"{path}{INDEX_SUFFIX}" for path in self.paths)]
        inputs = [*names, self.ini_target.moses_ini]
        if not OutputFile(self.output, inputs=inputs, beside=[SIGNATURE_SUFFIX]).replaces:
            raise UsageError(f"OUTPUT names the parts: it must be a file, not {self.output}")
        beside = {f"OUTPUT{suffix}": f"{self.output}{suffix}" for suffix in (SIGNATURE_SUFFIX,)}
        parts = {f"a part ({name})": name for name in names}
        self.ini_target.check_out({"OUTPUT": self.output, **beside, **parts})
        _ = self.edited_ini

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """The files of the parts, in their order; refuses any but a whole number of them."""
        folder, name = os.path.split(self.output)
        number, more = "([1-9][0-9]{0,5})", "|".join(map(re.escape, BESIDE))
        form = re.compile(f"{re.escape(name)}\\.part{number}-of-{number}({more})?")
        try:
            found = [match for each in os.listdir(folder or ".") if (match := form.fullmatch(each))]
        except OSError as error:
            raise DataError(f"cannot read: {reason(error)}", path=folder) from error
        counts = sorted({int(match[2]) for match in found})
        if not counts:
            told = f"there are no parts of it ({name}.part1-of-N, by `rescore --part 1/N`)"
            told += ", but it is there: joined already?" * os.path.exists(self.output)
            raise DataError(told, path=self.output)
        if len(counts) > 1:
            told = " and ".join(f"of {count}" for count in counts)
            raise DataError(f"there are parts {told}: move away those that are not meant",
                            path=self.output)  # fmt: skip
        parts = [TablePart(number, counts[0]) for number in range(1, counts[0] + 1)]
        begun = {int(match[1]) for match in found if match[3]}
        whole = {int(match[1]) for match in found if not match[3]}
        self._require(parts, whole | begun, "missing: `rescore --part {0}` makes part {0}")
        self._require(
            parts, whole - begun, "unfinished: `rescore --part {0} --resume` ends part {0}"
        )
        return tuple(part.path(self.output) for part in parts)

    def _require(self, parts: list[TablePart], there: set[int], told: str) -> None:
        lacking = [part for part in parts if part.number not in there]
        if lacking:
            numbers = ", ".join(str(part.number) for part in lacking[:MOST_NAMED])
            more = f" and {len(lacking) - MOST_NAMED} more" * (len(lacking) > MOST_NAMED)
            what, verb = ("parts", "are") if len(lacking) > 1 else ("part", "is")
            what = f"{what} {numbers}{more} of {parts[0].of} {verb}"
            if os.path.exists(self.output):
                told += "; the table is there: if it was joined already, delete the other parts"
            raise DataError(f"{what} {told.format(lacking[0])}", path=self.output)

    @cached_property
    def indexes(self) -> tuple[PartIndex, ...]:
        """What the parts are, all of one run."""
        found = tuple(map(PartIndex.read, self.paths))
        for number, (path, index) in enumerate(zip(self.paths, found, strict=True), 1):
            origin = f"{path}{INDEX_SUFFIX}"
            if index.format > INDEX_FORMAT:
                told = f"format {index.format} is newer than this program"
                raise DataError(told, path=origin)
            if (index.number, index.of) != (number, len(found)):
                raise DataError(f"is of part {index.number} of {index.of}", path=origin)
            self._require_one_run(found[0], index, origin)
            sizes = {len(block.ranges) for block in index.blocks} - {0, len(index.new)}
            if sizes or not {*index.new} <= {column.place for column in index.columns}:
                raise DataError("the columns in it do not fit together", path=origin)
            expected = len(range(number - 1, index.table_blocks, len(found)))
            if len(index.blocks) != expected:
                told = f"{len(index.blocks)} blocks, where the part has {expected}"
                raise DataError(told, path=origin)
        return found

    def _require_one_run(self, first: PartIndex, other: PartIndex, origin: str) -> None:
        differing = [
            ("table", first.input.sha256, other.input.sha256),
            ("number of blocks", first.table_blocks, other.table_blocks),
        ]
        keys = {**first.run, **other.run}
        differing += [(key, first.run.get(key), other.run.get(key)) for key in keys]
        for what, one, another in differing:
            if one != another:
                told = f"is of a run with another {what} ({another}; part 1 has {one})"
                raise DataError(told, path=origin)

    def remove_parts(self) -> None:
        """Deletes the parts that were joined; what has been made anew meanwhile stays."""
        for path, index in zip(self.paths, self.indexes, strict=True):
            with suppress(FileNotFoundError, DataError), write_errors(path):
                if PartIndex.read(path) == index:
                    Path(path).unlink(missing_ok=True)
                    Path(f"{path}{INDEX_SUFFIX}").unlink(missing_ok=True)

    @cached_property
    def edited_ini(self) -> MosesIni | None:
        """The moses.ini for the new table; DataError where it names another than the parts do."""
        target, ini, feature, index = self.ini_target, self.moses_ini, self.feature, self.indexes[0]
        if index.replaced and self.weights:
            raise UsageError("the new columns took the places of others, with their weights: not "
                             "with --weight")  # fmt: skip
        weights = () if index.replaced else start_weights_of(self.weights, len(index.new))
        if ini is None or feature is None:
            return None
        require_scores(feature, index.input.scores)
        named, known = Path(feature.path).name, index.input
        target.require_named(feature, known.path)  # if it is a file that can be seen from here
        if known.path != STANDARD and known.name not in (named, f"{named}.gz"):
            message = f"names {feature.path}, but the parts are of {known.name}"
            raise DataError(message, path=feature.item.ini_path, line=feature.line)
        path = target.new_path(feature, str(feature.file()), self.output)
        edited = target.seen_from_out(ini)
        if index.replaced:
            return with_files(edited, {feature.line: (feature.class_name, path)})
        return with_columns(edited, feature, path=path, start_weights=weights)


def join(request: JoinRequest) -> RescoreCounts:
    """Writes the table of the parts, and its signature; what all of them counted.

    Unknown words are not counted: each part has told its own. A DataError tells of a block that is
    not what its index says.
    """
    indexes, counts = request.indexes, RescoreCounts()
    total = sum(index.blocks[-1].end for index in indexes if index.blocks)
    with (
        OutputFile(request.output, compressed=False) as out,
        progress_bar("joining", show=not request.quiet, total=total, unit="B") as bar,
    ):
        for block, text in _in_order(request):
            out.write(text)
            counts += block.counts
            bar.update(len(text))
        first = indexes[0]
        details = table_details(first.input, counts, first.new)
        write_signature(request.output, first.columns, details)
    return counts


def _in_order(request: JoinRequest) -> Iterator[tuple[PartBlock, bytes]]:
    """The blocks of the table, each from the part that has it, verified."""
    with ExitStack() as opened:
        files = [opened.enter_context(_opened(path)) for path in request.paths]
        parts = len(files)
        for number in range(request.indexes[0].table_blocks):
            part, place = number % parts, number // parts
            blocks = request.indexes[part].blocks
            start = blocks[place - 1].end if place else 0
            yield blocks[place], _verified(request.paths[part], files[part], start, blocks[place])
        for path, file in zip(request.paths, files, strict=True):
            if file.read(1):
                raise DataError("goes on where its index says that it ends", path=path)


def _opened(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise DataError(f"cannot read: {reason(error)}", path=path) from error


def _verified(path: str, file: BinaryIO, start: int, block: PartBlock) -> bytes:
    try:
        text = file.read(block.end - start)
    except OSError as error:
        raise DataError(f"cannot read: {reason(error)}", path=path) from error
    if len(text) != block.end - start or zlib.crc32(text) != block.written:
        told = f"bytes {start:,} to {block.end:,} are not those that its index tells of"
        raise DataError(f"{told}: make the part again", path=path)
    return text
