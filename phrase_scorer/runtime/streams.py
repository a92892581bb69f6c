"""Lines out of files, compressed or not by their magic bytes; iterators that run ahead in a thread.

`-` is standard input. Lines end at b"\\n" alone, as in Moses: never at a carriage return, U+0085 or
U+2028. Knows nothing of phrases.
"""

from __future__ import annotations

import errno
import gc
import io
import os
import queue
import select
import stat
import sys
import threading
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from importlib import import_module
from lzma import LZMAError
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, TypeVar, cast

from xopen import xopen
from zlib_ng import zlib_ng

from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.runtime.console import detail, progress_bar, say
from phrase_scorer.runtime.output import STANDARD, reason

_Item = TypeVar("_Item")

BLOCK_BYTES = 1 << 20  # text read at once; a block then ends at a line end
MAGIC = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst"}

A_MOMENT = 0.005  # seconds for which a pipe without text has it soon
LONGEST_LINE = 64 << 20  # bytes, about; a longer one is an end that is missing
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # what some editors put before UTF-8
Mark = Literal["tell", "strip", "keep"]  # what becomes of it where a file begins with one

DECOMPRESSION_ERRORS: tuple[Any, ...] = (EOFError, LZMAError, zlib.error, zlib_ng.error)
# What xopen decompresses with, by the processor (ISA-L) and by the version of Python and xopen.
for _module, _name in (
    ("isal.isal_zlib", "IsalError"), ("compression.zstd", "ZstdError"),
    ("backports.zstd", "ZstdError"), ("zstandard", "ZstdError"),
):  # fmt: skip
    with suppress(ImportError):
        DECOMPRESSION_ERRORS += (getattr(import_module(_module), _name),)


class Lines(NamedTuple):
    """Some lines of a file, without their line ends."""

    first: int  # number of the first of them, from 1
    lines: list[bytes]
    ended: bool = True  # whether the last one had a b"\n"


def line_blocks(
    path: str | Path,
    block_bytes: int = BLOCK_BYTES,
    *,
    mark: Mark = "tell",
    at_once: bool = False,
    on_chunk: Callable[[bytes], object] | None = None,
    position: Callable[[int], object] | None = None,
) -> Iterator[Lines]:
    """The lines of a file, block by block.

    Args:
        path: Plain, gz, bz2, xz or zst; `-` is standard input.
        block_bytes: About how much text a block holds.
        mark: A UTF-8 byte order mark at the beginning is told of once on standard error, or is
            stripped, as befits a file that we alone interpret.
        at_once: Of a pipe that has nothing more at the moment, give what came; blocks may be small.
        on_chunk: Called with all text as it is read, for a checksum.
        position: Called with the place in the (compressed) file after each read, for progress.

    Raises:
        DataError: The file cannot be opened, ends in the middle of its compressed data, or has a
            line of more than `LONGEST_LINE`.
    """
    number, begun = 1, _Begun(path, mark)
    detail(f"reading {'standard input' if os.fspath(path) == STANDARD else path}")
    try:
        with open_input(path) as (stream, raw):
            read = partial(_available, stream) if at_once else stream.read
            while chunk := read(block_bytes):
                if on_chunk:
                    on_chunk(chunk)
                if position and raw is not None:
                    position(raw.tell())
                body, newline, tail = chunk.rpartition(b"\n")
                if newline:
                    lines = begun.ended_by(body, number).split(b"\n")
                    yield Lines(number, lines)
                    number += len(lines)
                begun.add(tail, number)
    except OSError as error:
        if error.errno is not None:
            raise DataError(f"cannot read: {reason(error)}", path=path) from error
        raise _broken(error, path, number) from error  # bz2 and gzip have no class of their own
    except DECOMPRESSION_ERRORS as error:
        raise _broken(error, path, number) from error
    if rest := begun.ended_by(b"", number):
        yield Lines(number, [rest], ended=False)


def _available(stream: IO[bytes], size: int) -> bytes:
    """Up to so many bytes: of a pipe what it has, or gets in a moment; b"" at its end."""
    try:
        descriptor = stream.fileno()
    except OSError:
        return stream.read(size)
    if not isinstance(stream, io.BufferedReader):
        return stream.read(size)  # compressed: no pipe that somebody waits at
    parts = [stream.read1(size)]
    while parts[-1] and (left := size - sum(map(len, parts))) > 0:
        if not select.select([descriptor], [], [], A_MOMENT)[0]:
            break
        parts.append(stream.read1(left))
    return b"".join(parts)


@contextmanager
def shown_blocks(
    path: str | Path, doing: str, *, show: bool, mark: Mark = "tell", at_once: bool = False
) -> Iterator[Iterator[Lines]]:
    """The `line_blocks` of a file, under a progress bar over its bytes."""
    with progress_bar(doing, show=show, total=file_size(path), unit="B", unit_divisor=1024) as bar:
        yield line_blocks(
            path, mark=mark, at_once=at_once, position=lambda place: bar.update(place - bar.n)
        )


def file_size(path: str | Path) -> int | None:
    """Bytes of a file; None for standard input and pipes."""
    return Path(path).stat().st_size if Path(path).is_file() else None


class _Begun:
    """The beginning of a line whose end has not been read yet."""

    def __init__(self, path: str | Path, mark: Mark) -> None:
        self._path, self._mark = path, mark
        self._parts: list[bytes] = []  # joined only once, lest a long line take quadratic time
        self._size = 0

    def add(self, part: bytes, number: int) -> None:
        """Another part of line `number`."""
        self._parts.append(part)
        self._size += len(part)
        if self._size > LONGEST_LINE:
            what = f"a line of more than {LONGEST_LINE >> 20} MiB"
            raise DataError(what, path=self._path, line=number, text=self._parts[0][:1000])

    def ended_by(self, part: bytes, number: int) -> bytes:
        """All of it, and `part`."""
        text = b"".join([*self._parts, part]) if self._size else part
        self._parts, self._size = [], 0
        if number == 1 and text.startswith(BYTE_ORDER_MARK):
            if self._mark == "tell":
                warn_of_mark(os.fspath(self._path))
            elif self._mark == "strip":
                return text[len(BYTE_ORDER_MARK) :]
        return text


@cache  # once a file, however often it is read
def warn_of_mark(path: str) -> None:
    """Says that a file begins with a byte order mark."""
    say(f"warning: {path} begins with a byte order mark, which is taken for a part of its text")


def _broken(error: Exception, path: str | Path, line: int) -> DataError:
    return DataError(f"compressed data is broken or cut short ({error})", path=path, line=line)


def numbered_lines(path: str | Path, mark: Mark = "tell") -> Iterator[tuple[int, bytes]]:
    """(number from 1, line) for each line of a file; as `line_blocks`."""
    for block in line_blocks(path, mark=mark):
        yield from enumerate(block.lines, block.first)


def text_blocks(path: str | Path, block_bytes: int = BLOCK_BYTES) -> Iterator[list[str]]:
    """As `line_blocks`, decoded; a line that is not UTF-8 is a DataError, too."""
    for block in line_blocks(path, block_bytes, mark="strip"):
        lines = []
        for number, line in enumerate(block.lines, block.first):
            try:
                lines.append(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise DataError("not UTF-8", path=path, line=number, text=line) from error
        yield lines


@contextmanager
def open_input(path: str | Path) -> Iterator[tuple[IO[bytes], IO[bytes] | None]]:
    """(decompressed stream, the file below it) for reading; no file below for what has no places.

    That is standard input, or a pipe. The first bytes decide what it is, not the name: Moses, too,
    reads plain text named `.gz`.
    """
    if os.fspath(path) == STANDARD:
        stdin = sys.stdin.buffer
        buffered = stdin if hasattr(stdin, "peek") else io.BufferedReader(stdin)  # type: ignore[type-var]
        yield _decompressing(cast(io.BufferedReader, buffered)), None
        return
    with open(path, "rb") as raw:
        yield _decompressing(raw), raw if raw.seekable() else None


def require_readable(*paths: str | Path | None) -> None:
    """Refuses (DataError), before any work, files that are not there, or cannot be read."""
    for path in paths:
        if path is None or os.fspath(path) == STANDARD:
            continue
        try:
            if stat.S_ISDIR(os.stat(path).st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not os.access(path, os.R_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise DataError(f"cannot read: {reason(error)}", path=path) from error


def refuse_pipes(*paths: str | Path | None) -> None:
    """Refuses (UsageError), before any work, pipes for what is read more than once."""
    for path in paths:
        if (
            path is not None
            and os.path.exists(path)
            and not (os.path.isfile(path) or os.path.isdir(path))
        ):
            raise UsageError(f"{path} is read more than once: give a file, not a pipe")


def compression(raw: io.BufferedReader) -> str | None:
    """The compression that the first bytes tell: "gz", "bz2", "xz" or "zst"; None: plain."""
    start = raw.peek(max(map(len, MAGIC)))
    return next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), None)


def _decompressing(raw: io.BufferedReader) -> IO[bytes]:
    kind = compression(raw)
    return cast(IO[bytes], xopen(raw, "rb", threads=0, format=kind)) if kind else raw


@contextmanager
def paused_garbage_collection() -> Iterator[None]:
    """Leaves memory to reference counting while millions of short-lived lists are made.

    They hold no cycles, and Python's cycle collector, walking them again and again, takes half of
    the time of parsing a phrase table.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


_END = object()


def prefetch(items: Iterable[_Item], depth: int = 2) -> Generator[_Item]:
    """Runs an iterator in a thread of its own, at most `depth` items ahead of its consumer.

    What the iterator raises is raised here, in its place. When the consumer stops early, it stops.
    """
    waiting: queue.Queue[object] = queue.Queue(depth)
    stopped = threading.Event()
    failure: list[BaseException] = []

    def put(item: object) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=0.1)
                return True
            except queue.Full:
                pass
        return False

    def run() -> None:
        try:
            for item in items:
                if not put(item):
                    return
        except BaseException as error:  # noqa: BLE001 - raised again in the consumer's thread
            failure.append(error)
        finally:
            if hasattr(items, "close"):
                items.close()
            put(_END)

    thread = threading.Thread(target=run, name="prefetch", daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not _END:
            yield cast(_Item, item)
        if failure:
            raise failure[0]
    finally:
        stopped.set()
        thread.join()
