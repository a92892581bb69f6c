"""A place to write: checked before work begins, written beside itself, named when it is whole.

`-` is standard output. A FIFO, a device or what a shell has opened (/dev/stdout) is written into,
never replaced; of a symbolic link the file that it leads to is replaced, not the link.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from zlib_ng import gzip_ng

from phrase_scorer.errors import DataError, UsageError

COMPRESSION_LEVEL = 4  # of zlib-ng: twice as fast as 6, 4 % larger on a phrase table
STANDARD = "-"
LONGEST_NAME = 200  # bytes of a file's name that stand in that of its temporary file, too

_OPENED = re.compile(r"/dev/fd|/proc/\d+(/task/\d+)?/fd")  # a folder of files open already
_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK}

Place = str | os.PathLike[str]
held_locks: set[int] = set()  # descriptors of `locked_folder`, for programs that outlive us


class OutputFile:
    """A file that gets its name only when it is whole: written under another, then renamed.

    That is `NAME.phrase-scorer-PROCESS-XXXXXXXX.partial`, which nobody else has or can read: of two
    processes that write one file each leaves it whole. What is replaced hands on its mode. Who is
    killed leaves such a file behind; the next to write NAME deletes it.

    Written in blocks; where the name ends in `.gz`, each block is one gzip member, without a time
    stamp, so that equal content gives equal bytes.

    Args:
        path: Where to write; `-` is standard output.
        inputs: Files that are read meanwhile: none of them may be this one, nor be beside it.
        beside: What the names of other files that the command writes have behind this one's.
        compressed: Whether blocks are compressed; None: where the name ends in `.gz`.

    Raises:
        DataError: An input would be overwritten; the place is a folder, or in one that is not there
            or cannot be written to.
    """

    def __init__(
        self,
        path: Place,
        *,
        inputs: Iterable[Place | None] = (),
        beside: Iterable[str] = (),
        compressed: bool | None = None,
    ) -> None:
        self.path = os.fspath(path)
        self.compressed = self.path.endswith(".gz") if compressed is None else compressed
        self.replaces = False
        self._begun = False
        if self.path == STANDARD:
            return
        with write_errors(self.path):
            self.replaces = _is_replaced(self.path)
            self._place = os.path.realpath(self.path) if self.replaces else self.path
            written = os.path.dirname(self._place) if self.replaces else self._place
            os.stat(written)
            if not os.access(written, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        self._inputs = [other for other in inputs if other is not None]
        if self._is_input(self.path):
            raise DataError("the output would overwrite the input", path=path)
        places = {self.path, self._place} if self.replaces else ()
        for name in (f"{place}{suffix}" for place in places for suffix in beside):
            if self._is_input(name):
                name = os.path.basename(name)
                raise DataError(f"{name}, written beside it, would overwrite an input", path=path)

    def __enter__(self) -> OutputFile:
        with write_errors(self.path):
            if self.path == STANDARD:
                self._stream: BinaryIO = sys.stdout.buffer
            elif self.replaces:
                self._remove_stale()
                self._open_partial()
            else:  # what a shell has opened may be the end of a file
                self._stream = open(os.open(self._place, os.O_WRONLY | os.O_APPEND), "wb")
        return self

    def write(self, block: bytes) -> None:
        """Appends a block of text, or raises DataError (disk full, say)."""
        if self.compressed:
            block = compressed_block(block)
        with write_errors(self.path):
            self._stream.write(block)
        self._begun = True

    def flush(self) -> None:
        """Gives what was written to whoever reads along; nothing else needs it."""
        with write_errors(self.path):
            self._stream.flush()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.path == STANDARD:
            with write_errors(self.path):
                self._stream.flush()
            return
        try:
            with write_errors(self.path), self._stream:
                # The stream is closed even where the last bytes cannot be written.
                if kind is None and self.compressed and not self._begun:
                    self.write(b"")  # an empty gz file is one empty member
                if kind is None and self.replaces:
                    give_name(self._stream, self._partial, self._place)
        finally:
            if self.replaces and os.path.exists(self._partial):
                os.unlink(self._partial)

    def _is_input(self, path: str) -> bool:
        return any(is_same_file(path, other) for other in self._inputs)

    def _open_partial(self) -> None:
        """Makes the temporary file: new, no link that somebody laid, only ours to read, locked."""
        folder, name = os.path.split(self._place)
        start = f"{_shortened(name)}.phrase-scorer-{os.getpid()}-"
        while True:
            descriptor, self._partial = tempfile.mkstemp(".partial", start, folder)
            self._stream = open(descriptor, "wb")  # noqa: SIM115 - closed on leaving
            # Before it was locked, another process may have taken it for one left behind.
            if take_lock(self._stream) and os.fstat(descriptor).st_nlink:
                return
            self._stream.close()

    def _remove_stale(self) -> None:
        """Deletes the temporary files of this place that no process has locked any more."""
        folder, name = os.path.split(self._place)
        ours = re.compile(re.escape(_shortened(name)) + r"\.phrase-scorer-\d+-\w{8}\.partial")
        with suppress(PermissionError):  # the folder may be written to, but not read
            for path in (os.path.join(folder, n) for n in os.listdir(folder) if ours.fullmatch(n)):
                if self._is_input(path):
                    continue
                with suppress(OSError), open(path, "r+b", opener=_unfollowed) as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(path)


def _shortened(name: str) -> str:
    return os.fsdecode(os.fsencode(name)[:LONGEST_NAME])


def _unfollowed(path: str, flags: int) -> int:
    """Opens a file, but no symbolic link."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _is_replaced(path: str) -> bool:
    """Whether a new file takes the place of what is there: of a regular file, or of nothing."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG if os.path.basename(path) else stat.S_IFDIR
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return stat.S_ISREG(mode) and not _is_opened(path)


def _is_opened(path: str) -> bool:
    """Whether a path leads to a file by its descriptor, as /dev/stdout does."""
    while True:
        folder = os.path.realpath(os.path.dirname(path))
        if _OPENED.fullmatch(folder):
            return True
        path = os.path.join(folder, os.path.basename(path))
        if not os.path.islink(path):
            return False
        path = os.path.join(folder, os.readlink(path))


def give_name(file: BinaryIO, partial: Place, place: Place) -> None:
    """Renames a file that is whole; when this returns, the disk has its content and its name.

    It gets the mode, and as far as we may give it the owner, of the file that it replaces.
    """
    file.flush()
    descriptor = file.fileno()
    try:
        replaced = os.stat(place)
    except FileNotFoundError:
        mode = 0o666 & ~_mask()
    else:
        mode = stat.S_IMODE(replaced.st_mode)
        with suppress(OSError):  # only root may give files to others
            os.fchown(descriptor, replaced.st_uid, replaced.st_gid)
    with suppress(PermissionError):  # some file systems know no modes
        os.fchmod(descriptor, mode)
    os.fsync(descriptor)
    os.replace(partial, place)
    sync(os.path.dirname(place) or ".")


def _mask() -> int:
    """The process' umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def sync(path: Place) -> None:
    """Brings a file, or the names in a folder, to the disk, where the file system can do that."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder that may be written to, but not read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def take_lock(file: BinaryIO) -> bool:
    """Whether we have a file for ourselves, until it is closed or this process ends.

    Where the file system has no locks, everybody is given one.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


@contextmanager
def locked_folder(folder: Place, doing: str) -> Iterator[None]:
    """Keeps all other processes from `doing` something in a folder: a UsageError tells of one.

    The folder is made if need be. The lock is one of the kernel, on the file `.lock` there, which
    stays: so it ends with us, and with the programs that were given `held_locks`.
    """
    with write_errors(folder):
        os.makedirs(folder, exist_ok=True)
        file = open(os.path.join(folder, ".lock"), "ab", opener=_unfollowed)  # noqa: SIM115
    with file:
        if not take_lock(file):
            raise UsageError(f"another process is {doing} in {os.fspath(folder)}")
        held_locks.add(file.fileno())
        try:
            yield
        finally:
            held_locks.remove(file.fileno())


@contextmanager
def write_errors(path: Place) -> Iterator[None]:
    """Turns what the system says into a DataError that names the file; a closed pipe stays."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise DataError(f"cannot write: {reason(error)}", path=path) from error


def compressed_block(block: bytes) -> bytes:
    """One gzip member without a time stamp: equal content gives equal bytes."""
    return cast(bytes, gzip_ng.compress(block, COMPRESSION_LEVEL, mtime=0))


def write_file(path: Place, content: bytes) -> None:
    """Writes a small file as it is, so that its name never stands for half of it."""
    with OutputFile(path, compressed=False) as out:
        out.write(content)


def check_option(option: str, path: Place, others: Mapping[str, Place | None]) -> None:
    """Checks, before hours of work, the file of an option that is written after them.

    A UsageError tells of one of `others` (by the names of their options; None: not given), of a
    folder, or of a file in a folder that is not there.
    """
    for name, other in others.items():
        if other is not None and is_same_file(other, path):
            raise UsageError(f"{option} would overwrite {name}: {os.fspath(path)}")
    if Path(path).is_dir():
        raise UsageError(f"{option} {os.fspath(path)} is a folder")
    with _option_errors(path, option), suppress(FileNotFoundError):
        os.stat(path)  # a link that leads to itself, say
    if not real_path(path).parent.is_dir():
        raise UsageError(f"{option}: there is no folder {Path(path).parent}")


def check_new_folder(path: Place, option: str) -> None:
    """Checks that a folder is empty, or can be made: what stands in an old one is found by name."""
    folder = Path(path)
    with _option_errors(folder, option):
        if folder.is_dir() and any(folder.iterdir()):
            raise UsageError(f"{option} {folder} is not empty; choose a new folder")
        if folder.exists() and not folder.is_dir():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        with suppress(FileNotFoundError):
            os.stat(folder)
        os.stat(real_path(folder).parent)


def make_new_folder(path: Place, option: str) -> Path:
    """Makes a folder, which must be new or empty.

    A UsageError tells where the folder holds something, or cannot be made.
    """
    check_new_folder(path, option)
    folder = Path(path)
    with _option_errors(folder, option):
        folder.mkdir(exist_ok=True)
    return folder


@contextmanager
def _option_errors(path: Place, option: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{option} {os.fspath(path)}: {reason(error)}") from error


def delete(path: Path) -> None:
    """Deletes a file or a folder with all in it, where there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def real_path(path: Place) -> Path:
    """Where a name leads to, absolute. `Path.resolve` raises where a link leads to itself."""
    return Path(os.path.realpath(path))


def is_standard_output(path: Place) -> bool:
    """Whether a path leads to what standard output is: a file, or also a pipe."""
    with suppress(OSError, ValueError):
        return os.path.samestat(os.stat(path), os.fstat(sys.stdout.fileno()))
    return False


def is_same_file(one: Place, other: Place) -> bool:
    """Whether both names lead to one existing file; `-` is a file that is standard input."""
    if os.fspath(one) == os.fspath(other) == STANDARD:
        return False
    try:
        return os.path.samestat(_status(one), _status(other))
    except OSError:
        return STANDARD not in (one, other) and os.path.realpath(one) == os.path.realpath(other)


def _status(place: Place) -> os.stat_result:
    if os.fspath(place) != STANDARD:
        return os.stat(place)
    status = os.fstat(0)
    if not stat.S_ISREG(status.st_mode):  # a terminal is read and written
        raise FileNotFoundError
    return status


def reason(error: OSError) -> str:
    """What the system says of an error, without Python's decoration."""
    return error.strerror or str(error)
