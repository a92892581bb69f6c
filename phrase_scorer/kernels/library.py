"""The library of compiled kernels: made when first wanted, kept, and loaded only where it is ours.

It is kept in $XDG_CACHE_HOME/phrase-scorer, else ~/.cache/phrase-scorer, under a name that has its
digest. What is loaded is run: so the folder, those above it and the file must belong to the user or
to root, and nobody else may write there. Elsewhere it is compiled for each process anew.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import hashlib
import multiprocessing
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from phrase_scorer.errors import printable
from phrase_scorer.runtime.console import say
from phrase_scorer.runtime.output import reason, sync

SOURCE = Path(__file__).with_name("kernels.cpp")
FLAGS = [
    *("-O3", "-std=c++17", "-shared", "-fPIC", "-pthread", "-fopenmp-simd", "-march=native"),
    *("-fno-math-errno", "-fno-trapping-math", "-ffinite-math-only", "-fno-signed-zeros"),
    "-mprefer-vector-width=512",
]


@functools.cache
def compiled_library() -> ctypes.CDLL | None:
    """The compiled kernels; None where there is no C++ compiler, or it fails, which is told.

    The compiler is $CXX, else c++. PHRASE_SCORER_NATIVE=0 in the environment does without.
    """
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None or os.environ.get("PHRASE_SCORER_NATIVE") == "0":
        return None
    try:
        try:
            return _kept(compiler)
        except OSError as error:
            _warn("compiled kernels are not kept, but compiled in each process", error)
            with tempfile.TemporaryDirectory(prefix="phrase-scorer-") as folder:
                return ctypes.CDLL(os.fspath(_compiled(compiler, Path(folder))))
    except (OSError, subprocess.SubprocessError) as error:
        _warn("scoring is slower, for there are no compiled kernels", error)
        return None


def kernels_in_words(device: str = "cpu") -> str:
    """What scores on a kind of device, for people: "compiled", or "torch" and why."""
    if device != "cpu":
        return f"torch (on {device})"
    if compiled_library():
        return "compiled"
    if os.environ.get("PHRASE_SCORER_NATIVE") == "0":
        return "torch (PHRASE_SCORER_NATIVE=0)"
    has_compiler = shutil.which(os.environ.get("CXX", "c++"))
    return f"torch ({'the C++ compiler fails' if has_compiler else 'no C++ compiler'})"


def _warn(what: str, error: Exception) -> None:
    """Tells it once, not in each worker process."""
    why = str(error)
    if isinstance(error, OSError):
        why = f"{error.filename}: {reason(error)}" if error.filename else reason(error)
    elif isinstance(error, subprocess.CalledProcessError):
        said = error.stderr.decode(errors="replace").splitlines()
        why = ": ".join([f"{error.cmd[0]} ended with exit code {error.returncode}", *said[:1]])
    if multiprocessing.parent_process() is None:
        say(printable(f"warning: {what}: {why}"))


def _kept(compiler: str) -> ctypes.CDLL:
    """The library of the cache folder, compiled now where it is missing or broken.

    An OSError tells where it cannot be kept, or others may write there.
    """
    folder = _cache_folder()
    known = [SOURCE.read_text(), compiler, str(os.stat(compiler).st_mtime_ns), *FLAGS, _processor()]
    start = f"kernels-{hashlib.sha256('|'.join(known).encode()).hexdigest()[:16]}-"
    for path in sorted(folder.glob(f"{start}*.so")):
        is_ours = stat.S_ISREG(path.lstat().st_mode) and not _others_may_change(path)
        if is_ours and path.name == f"{start}{_digest(path)}.so":
            return ctypes.CDLL(os.fspath(path))
        path.unlink()  # another's, or broken
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = _compiled(compiler, Path(scratch))
        sync(made)
        path = made.replace(folder / f"{start}{_digest(made)}.so")  # whoever else made it now
    sync(folder)
    return ctypes.CDLL(os.fspath(path))


def _compiled(compiler: str, folder: Path) -> Path:
    made = folder / "kernels.so"
    command = [compiler, *FLAGS, "-o", os.fspath(made), os.fspath(SOURCE)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    made.chmod(0o700)
    return made


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _cache_folder() -> Path:
    """The folder, made where it is missing; an OSError where others may write to it."""
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute()
    except RuntimeError as error:  # of a user that the system does not know
        raise FileNotFoundError(errno.ENOENT, "there is no home folder", "~") from error
    folder = base / "phrase-scorer"
    folder.mkdir(0o700, parents=True, exist_ok=True)
    if folder.is_symlink():
        raise PermissionError(errno.EPERM, "a symbolic link", os.fspath(folder))
    if folder.stat().st_uid == os.geteuid():
        folder.chmod(0o700)
    for path in (folder, *folder.parents, *folder.resolve().parents):
        if _others_may_change(path):
            raise PermissionError(errno.EPERM, "others may write there", os.fspath(path))
    return folder


def _others_may_change(path: Path) -> bool:
    """Whether somebody but the user and root owns it, or may write to it (a link: may replace it).

    In a folder like /tmp others may write, but not change what is ours.
    """
    found = path.lstat()
    is_kept_apart = stat.S_ISDIR(found.st_mode) and bool(found.st_mode & stat.S_ISVTX)
    is_open = bool(found.st_mode & 0o022) and not stat.S_ISLNK(found.st_mode)
    return found.st_uid not in (0, os.geteuid()) or (is_open and not is_kept_apart)


def _processor() -> str:
    """What -march=native means here, so that a folder shared by several machines serves all."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return platform.processor() + platform.machine()
