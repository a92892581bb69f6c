"""A file written block by block that outlives the process that writes it.

`NAME.partial` grows by whole blocks; `NAME.journal` has one line for what the run is, and one for
each block: where it ends, checksums of what was read and written, what was counted. Whatever moment
the process is killed at, the next one cuts off what the journal does not vouch for and goes on. The
file gets its name only when it is whole.
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from phrase_scorer.errors import DataError
from phrase_scorer.runtime.output import write_errors

READ_BYTES = 1 << 20  # at once, while what is there is verified


@dataclass(frozen=True)
class FinishedBlock:
    """A block that stands in the file."""

    read: int  # CRC-32 of the text that it was made of
    lines: int  # how many lines that had
    end: int  # where the block ends in the file
    written: int  # CRC-32 of its bytes there
    counted: dict[str, Any] = field(default_factory=dict)  # what the run counted in it


class JournaledFile:
    """A file that appears only whole, and can be gone on with.

    Args:
        path: Its name; of a symbolic link the file that it leads to is written, not the link.
        run: All that decides the content, as JSON: what must be equal to go on.
        resume: Go on with what is there; else it is refused.

    Raises:
        DataError: An unfinished run is there and `resume` is not wanted, or it is of another kind;
            another process writes the file; it cannot be written.
    """

    def __init__(self, path: str | Path, run: Mapping[str, Any], *, resume: bool = False) -> None:
        self.path = os.fspath(path)
        self._place = os.path.realpath(self.path) if os.path.islink(self.path) else self.path
        self.partial = f"{self._place}.partial"
        self.journal = f"{self._place}.journal"
        self.finished: list[FinishedBlock] = []  # by this process and those before it
        self._run = json.loads(json.dumps(run))
        self._resume = resume
        self._whole = False

    def __enter__(self) -> JournaledFile:
        with write_errors(self.path):
            self._file = self._locked()
            try:
                self.finished = list(self._verified(self._journaled()))
                if self.finished:
                    self._require_same_run()
                end = self.finished[-1].end if self.finished else 0
                self._file.truncate(end)
                self._file.seek(end)
                self._lines = open(self.journal, "wb")
                self._lines.write(_line({"run": self._run}))
                self._lines.writelines(_line(asdict(block)) for block in self.finished)
                self._lines.flush()
            except BaseException:
                if not self.finished:
                    os.unlink(self.partial)
                    Path(self.journal).unlink(missing_ok=True)
                self._file.close()
                raise
        return self

    def write(self, block: bytes, read: int, lines: int, counted: dict[str, Any]) -> None:
        """Appends a finished block, or raises DataError (disk full, say)."""
        last = self.finished[-1].end if self.finished else 0
        entry = FinishedBlock(read, lines, last + len(block), zlib.crc32(block), counted)
        with write_errors(self.path):
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
            error.add_note(
                f"{lines:,} lines are done and stay in {self.partial}; --resume goes on with them"
            )
        try:
            with write_errors(self.path):
                self._lines.close()
                if self._whole:
                    os.replace(self.partial, self._place)
                    os.unlink(self.journal)
                elif not self.finished:
                    os.unlink(self.partial)
                    os.unlink(self.journal)
        finally:
            # A block that could not be written may still stand in Python's buffer: it is lost, and
            # the journal does not know it. Closing gives up the lock.
            with suppress(OSError):
                self._file.close()

    def _locked(self) -> BinaryIO:
        """The partial file, which no other process writes.

        That may be the whole file, of a process that was killed before it removed its journal: it
        becomes the partial file again, once it is locked. One that still lives holds the lock.
        """
        while True:
            whole = self._is_named_too_early()
            name = self._place if whole else self.partial
            descriptor = os.open(name, os.O_RDWR | (0 if whole else os.O_CREAT), 0o666)
            file = open(descriptor, "r+b")  # noqa: SIM115 - closed on leaving the context
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise DataError("another run is writing this file", path=self.path) from None
            # Meanwhile its owner may have given it its final name: then it is not ours to write.
            if _is_open_as(file, name) and self._is_named_too_early() == whole:
                if whole:
                    os.replace(self._place, self.partial)
                return file
            file.close()

    def _is_named_too_early(self) -> bool:
        """Whether the file to go on with has its final name, but its journal is still there."""
        if not self._resume or os.path.exists(self.partial) or not os.path.exists(self._place):
            return False
        blocks = self._journaled()
        return bool(blocks) and blocks[-1].end == os.path.getsize(self._place)

    def _require_same_run(self) -> None:
        """Refuses to go on unasked, or with a run of another kind."""
        if not self._resume:
            lines = sum(block.lines for block in self.finished)
            raise DataError(
                f"an unfinished run of {lines:,} lines is here; --resume goes on with it, or "
                f"delete {self.partial} to begin again",
                path=self.path,
            )
        there = json.loads(self._journal_lines()[0])["run"]
        for key in {**there, **self._run}:
            if there.get(key) != self._run.get(key):
                raise DataError(
                    f"the unfinished run here had another {key} ({there.get(key)}, now "
                    f"{self._run.get(key)}); delete {self.partial} to begin again",
                    path=self.path,
                )

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

    def _journaled(self) -> list[FinishedBlock]:
        """What the journal says, up to a line that is broken."""
        blocks: list[FinishedBlock] = []
        for line in self._journal_lines()[1:]:
            try:
                blocks.append(FinishedBlock(**json.loads(line)))
            except (ValueError, TypeError):
                break
        return blocks

    def _journal_lines(self) -> list[bytes]:
        try:
            content = Path(self.journal).read_bytes()
        except FileNotFoundError:
            content = b""
        return content.split(b"\n")[:-1]  # a line without its end was not written whole


def _is_open_as(file: BinaryIO, name: str) -> bool:
    return os.path.exists(name) and os.path.samestat(os.fstat(file.fileno()), os.stat(name))


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"
