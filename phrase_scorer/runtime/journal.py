"""A file written block by block that outlives the process that writes it.

`NAME.partial` grows by whole blocks; `NAME.journal` has one line for what the run is, and one for
each block: where it ends, checksums of what was read and written, what was counted. A line begins
with its own checksum. Whatever moment the process is killed at, the next one cuts off what the
journal does not vouch for and goes on. The file gets its name only when it is whole.
"""

from __future__ import annotations

import json
import os
import stat
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.runtime.output import (
    OutputFile,
    Place,
    give_name,
    take_lock,
    write_errors,
    write_file,
)
from phrase_scorer.runtime.records import Kind, Origin, parse_json

_Block = TypeVar("_Block")

READ_BYTES = 1 << 20  # at once, while what is there is verified
BESIDE = (".partial", ".journal")  # what the names of the two files have behind that of the whole


@dataclass(frozen=True)
class FinishedBlock:
    """A block that stands in the file."""

    read: int  # CRC-32 of the text that it was made of
    lines: int  # how many lines that had
    end: int  # where the block ends in the file
    written: int  # CRC-32 of its bytes there
    counted: dict[str, Any] = field(default_factory=dict)  # what the run counted in it


@dataclass(frozen=True)
class _Header:
    """The journal's first line."""

    run: dict[str, Any]


def check_resume(output: OutputFile, *, resume: bool) -> None:
    """Checks that `resume` is not wanted of standard output, a FIFO or a device (UsageError)."""
    if resume and not output.replaces:
        raise UsageError(f"--resume needs a file to go on with, not {output.path}")


class JournaledFile:
    """A file that appears only whole, and can be gone on with.

    Args:
        path: Its name; of a symbolic link the file that it leads to is written, not the link.
        run: All that decides the content, as JSON: what must be equal to go on.
        resume: Go on with what is there; else it is refused.
        told_last: Those of `run` that follow from the input, too: what differs in them is told only
            where the input is the same (`gone_past`).

    Raises:
        DataError: An unfinished run is there and `resume` is not wanted, or it is of another kind;
            another process writes the file; it cannot be written; a file of one of our names is not
            from us.
    """

    def __init__(
        self,
        path: str | Path,
        run: Mapping[str, Any],
        *,
        resume: bool = False,
        told_last: Collection[str] = (),
    ) -> None:
        self.path = os.fspath(path)
        self._place = os.path.realpath(self.path) if os.path.islink(self.path) else self.path
        self.partial, self.journal = (f"{self._place}{suffix}" for suffix in BESIDE)
        self.finished: list[FinishedBlock] = []  # by this process and those before it
        self._run = json.loads(json.dumps(run))
        self._resume = resume
        self._told_last = told_last
        self._named = False  # whether the file has its name already
        self._known: dict[str, Any] | None = None  # what the unfinished run is that is here
        self._whole = False

    def __enter__(self) -> JournaledFile:
        with write_errors(self.path):
            self._refuse_others(is_ours=True)
            self._open()
            try:
                self._refuse_others(is_ours=self._known is not None)
                if self.finished:
                    self._refuse_unasked()
                    known = {**(self._known or {}), **self._run}
                    self._require_same(key for key in known if key not in self._told_last)
                end = self.finished[-1].end if self.finished else 0
                self._file.truncate(end)
                self._file.seek(end)
                # Replaced whole, so that whatever stands in the file has a journal that says so.
                blocks = map(asdict, self.finished)
                write_file(self.journal, b"".join(map(_line, [{"run": self._kept()}, *blocks])))
                self._lines = open(self.journal, "ab")
            except BaseException:
                if os.fstat(self._file.fileno()).st_size == 0:
                    Path(self.partial).unlink(missing_ok=True)
                self._file.close()
                raise
        return self

    def gone_past(
        self,
        blocks: Iterator[_Block],
        checksum: Callable[[_Block], int],
        path: Place,
        first_line: Callable[[_Block], int] | None = None,
    ) -> Iterator[tuple[FinishedBlock, Origin]]:
        """Takes the blocks of `path` that stand in the file already off the iterator.

        Of each what the journal says, and where; a DataError where a block is another one.
        `first_line` tells where a block begins; without it each begins where the last ended.
        """
        first = 1
        for number, finished in enumerate(self.finished, 2):
            block = next(blocks, None)
            if first_line and block is not None:
                first = first_line(block)
            last = first + finished.lines - 1
            if block is None or checksum(block) != finished.read:
                message = f"lines {first} to {last} are not those that the unfinished run has read"
                raise DataError(message, path=path)
            yield finished, Origin(self.journal, number)
            first = last + 1
        if self.finished:
            self._require_same(self._told_last)

    def write(self, block: bytes, read: int, lines: int, counted: dict[str, Any]) -> None:
        """Appends a finished block, or raises DataError (disk full, say)."""
        last = self.finished[-1].end if self.finished else 0
        entry = FinishedBlock(read, lines, last + len(block), zlib.crc32(block), counted)
        with write_errors(self.path):
            if self._named:  # what is read has grown
                os.replace(self._place, self.partial)
                self._named = False
            self._file.write(block)
            self._file.flush()
            self._lines.write(_line(asdict(entry)))
            self._lines.flush()
        self.finished.append(entry)

    def complete(self) -> None:
        """To be called when all blocks stand in the file; leaving the context then names it."""
        with write_errors(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
        self._whole = True

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        if error is not None and self.finished:
            lines = sum(block.lines for block in self.finished)
            where = self._place if self._named else self.partial
            error.add_note(
                f"{lines:,} lines are done and stay in {where}; --resume goes on with them"
            )
        try:
            with write_errors(self.path), self._lines:
                if self._whole and not self._named:
                    give_name(self._file, self.partial, self._place)
                elif not self._whole and not self.finished:
                    os.unlink(self.partial)
                # Once the file has its name, another run may begin: then the journal is of that.
                if (self._whole or not self.finished) and _is_open_as(self._lines, self.journal):
                    os.unlink(self.journal)
        finally:
            # A block that could not be written may still stand in Python's buffer: it is lost, and
            # the journal does not know it. Closing gives up the lock.
            with suppress(OSError):
                self._file.close()

    def _open(self) -> None:
        """Opens the file that no other process writes, and reads past its finished blocks.

        That may be the whole file, of a process that was killed before it removed its journal: then
        it keeps its name. One that still lives holds the lock.
        """
        may_be_named = self._resume
        while True:
            self._named = may_be_named and self._is_named_too_early()
            name = self._place if self._named else self.partial
            flags = os.O_RDWR | os.O_NOFOLLOW | (0 if self._named else os.O_CREAT)
            self._file = open(os.open(name, flags, 0o600), "r+b")  # noqa: SIM115 - closed on leaving
            try:
                if not take_lock(self._file):
                    raise DataError("another run is writing this file", path=self.path)
                # Its owner may have named it meanwhile: then it is not ours to write.
                is_still = self._named == (may_be_named and self._is_named_too_early())
                if _is_open_as(self._file, name) and is_still:
                    self._known, blocks = self._read_journal()
                    self.finished = list(self._verified(blocks))
                    if not self._named or len(self.finished) == len(blocks):
                        return
                    may_be_named = False  # it is another file, of the same size
            except BaseException:
                self._file.close()
                raise
            self._file.close()

    def _is_named_too_early(self) -> bool:
        """Whether the file to go on with has its final name, but its journal is still there."""
        if os.path.exists(self.partial) or not os.path.exists(self._place):
            return False
        _, blocks = self._read_journal()
        return bool(blocks) and blocks[-1].end == os.path.getsize(self._place)

    def _refuse_others(self, *, is_ours: bool) -> None:
        """Refuses to write over what has one of our names, but is not from us.

        Without a journal of ours nothing is; but what is empty may be of a run that was killed.
        """
        for name in (self.partial, self.journal):
            with suppress(FileNotFoundError):
                status = os.lstat(name)
                if not stat.S_ISREG(status.st_mode) or (status.st_size and not is_ours):
                    message = f"{name} is there, and not from an unfinished run: move it away"
                    raise DataError(message, path=self.path)

    def _kept(self) -> dict[str, Any]:
        """The run for the journal: of what is told last, what it was at the first blocks."""
        run: dict[str, Any] = self._run | {}
        if self.finished and self._known:
            for key in self._told_last:
                run.pop(key, None)
                run |= {key: self._known[key]} if key in self._known else {}
        return run

    def _refuse_unasked(self) -> None:
        if not self._resume:
            lines = sum(block.lines for block in self.finished)
            raise DataError(
                f"an unfinished run of {lines:,} lines is here; --resume goes on with it, or "
                f"delete {self.partial} to begin again",
                path=self.path,
            )

    def _require_same(self, keys: Iterable[str]) -> None:
        """Refuses to go on with a run of another kind."""
        there = self._known or {}
        for key in keys:
            if there.get(key) != self._run.get(key):
                delete = self.journal if self._named else self.partial
                had = f"had another {key} ({there.get(key)}, now {self._run.get(key)})"
                if key in self._told_last and key not in there:
                    had = f"is of an older version, which noted no {key}"
                message = f"the unfinished run here {had}; delete {delete} to begin again"
                raise DataError(message, path=self.path)

    def _verified(self, blocks: list[FinishedBlock]) -> Iterator[FinishedBlock]:
        start = 0
        for block in blocks:
            if self._checksum(block.end - start) != block.written:
                return
            yield block
            start = block.end

    def _checksum(self, size: int) -> int | None:
        """CRC-32 of the next bytes of the partial file; None: so many are not there."""
        checksum = 0
        while size > 0:
            part = self._file.read(min(size, READ_BYTES))
            if not part:
                return None
            checksum = zlib.crc32(part, checksum)
            size -= len(part)
        return checksum

    def _read_journal(self) -> tuple[dict[str, Any] | None, list[FinishedBlock]]:
        """(what the unfinished run is, its blocks up to a line that is broken); None: not ours."""
        blocks: list[FinishedBlock] = []
        try:
            with open(self.journal, "rb") as file:
                first = _content(file.readline(READ_BYTES).removesuffix(b"\n"), _Header)
                lines = file.read().split(b"\n")[:-1]  # one without its end was not written whole
        except FileNotFoundError:
            return None, []
        if first is None:
            return None, []
        for line in lines:
            block = _content(line, FinishedBlock)
            if block is None:
                break
            blocks.append(block)
        return first.run, blocks


def _is_open_as(file: BinaryIO, name: str) -> bool:
    return os.path.exists(name) and os.path.samestat(os.fstat(file.fileno()), os.stat(name))


def _line(content: Mapping[str, Any]) -> bytes:
    text = json.dumps(content).encode()
    return b"%08x %b\n" % (zlib.crc32(text), text)


def _content(line: bytes, kind: type[Kind]) -> Kind | None:
    """What a line of the journal says; None: it is not as it was written, or not by us."""
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    try:
        return parse_json(text, kind, Origin("journal"))
    except DataError:
        return None
