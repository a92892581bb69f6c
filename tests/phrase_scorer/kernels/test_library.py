"""How kernels are compiled, kept and done without; whose library is never loaded."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

STRANGER = 12_345  # no user of this machine
NOT_KEPT = "warning: compiled kernels are not kept, but compiled in each process: "

needs_compiler = pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


class Compiled(NamedTuple):
    """What `compiled_library` gives in a process of its own."""

    path: str  # of the library; "None" without one
    said: str


def compiled_in(environment: dict[str, str | Path], before: str = "") -> Compiled:
    """In this environment, after these statements."""
    code = (
        "import os\n"
        "from phrase_scorer.kernels.library import compiled_library as made\n"
        f"{before}\n"
        "print(getattr(made(), '_name', None))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **{name: str(value) for name, value in environment.items()}},
        capture_output=True,
        text=True,
        check=True,
    )
    return Compiled(found.stdout.strip(), found.stderr.strip())


@pytest.mark.parametrize(
    "environment", [{"PHRASE_SCORER_NATIVE": "0"}, {"CXX": "no-such-compiler"}]
)
def test_done_without(environment):
    assert compiled_in(environment) == ("None", "")


def test_a_compiler_that_fails_is_done_without(tmp_path):
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\necho no such option >&2\nexit 3\n")
    compiler.chmod(0o755)
    found = compiled_in({"CXX": compiler, "XDG_CACHE_HOME": tmp_path})
    what = "warning: scoring is slower, for there are no compiled kernels: "
    assert found == ("None", f"{what}{compiler} ended with exit code 3: no such option")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A folder of caches where the library was compiled."""
    cache = tmp_path_factory.mktemp("cache")
    found = compiled_in({"XDG_CACHE_HOME": cache})
    assert found == (str(kept_in(cache)), "")
    return cache


@pytest.fixture
def cache(compiled, tmp_path):
    """Another, with the same."""
    shutil.copytree(compiled, tmp_path, dirs_exist_ok=True)
    return tmp_path


def kept_in(cache: Path) -> Path:
    (kept,) = (cache / "phrase-scorer").iterdir()
    return kept


def files_in(cache: Path) -> list[tuple[str, int]]:
    """Names and times of what is kept."""
    return [(path.name, path.stat().st_mtime_ns) for path in (cache / "phrase-scorer").iterdir()]


@needs_compiler
def test_compiled_once_and_kept(cache):
    before = files_in(cache)
    assert compiled_in({"XDG_CACHE_HOME": cache}) == (str(kept_in(cache)), "")
    assert files_in(cache) == before
    assert (cache / "phrase-scorer").stat().st_mode & 0o777 == 0o700
    assert kept_in(cache).stat().st_mode & 0o777 == 0o700


@pytest.mark.slow  # each compiles
@needs_compiler
@pytest.mark.parametrize("damage", ["cut", "flipped", "link"])
def test_a_broken_library_is_compiled_again(cache, damage):
    """One that was cut short ended the process by SIGBUS."""
    kept, copy = kept_in(cache), cache / "copy"
    whole = kept.read_bytes()
    if damage == "link":
        shutil.move(kept, copy)
        kept.symlink_to(copy)
    else:
        cut = len(whole) // 2
        kept.write_bytes(whole[:cut] if damage == "cut" else whole[:cut] + b"x" + whole[cut + 1 :])
    assert compiled_in({"XDG_CACHE_HOME": cache}) == (str(kept), "")
    assert not kept.is_symlink()
    assert kept.read_bytes() == whole


@pytest.mark.slow  # each compiles
@needs_compiler
@needs_root
@pytest.mark.parametrize("what", ["library", "folder", "above"])
def test_a_library_of_another_user_is_never_loaded(cache, what):
    kept = kept_in(cache)
    given = {"library": kept, "folder": kept.parent, "above": cache}[what]
    os.chown(given, STRANGER, STRANGER)
    found = compiled_in({"XDG_CACHE_HOME": cache})
    if what == "library":
        assert found == (str(kept), "")
        assert kept.stat().st_uid == 0  # compiled again
    else:
        assert Path(found.path).name == "kernels.so"
        assert not Path(found.path).exists()  # of this process alone
        assert found.said == f"{NOT_KEPT}{given}: others may write there"


@pytest.mark.slow  # each compiles
@needs_compiler
@pytest.mark.parametrize("what", ["above", "link"])
def test_a_folder_that_others_may_write_to_is_not_used(cache, what):
    given = cache
    if what == "above":
        cache.chmod(0o777)
    else:
        given = cache / "phrase-scorer"
        given.rename(cache / "other")
        given.symlink_to("other")
    found = compiled_in({"XDG_CACHE_HOME": cache})
    assert Path(found.path).name == "kernels.so"
    why = "others may write there" if what == "above" else "a symbolic link"
    assert found.said == f"{NOT_KEPT}{given}: {why}"


@needs_compiler
def test_a_folder_that_was_open_to_a_group_is_closed(cache):
    kept_in(cache).parent.chmod(0o775)
    assert compiled_in({"XDG_CACHE_HOME": cache}) == (str(kept_in(cache)), "")
    assert kept_in(cache).parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.slow  # each compiles
@needs_compiler
@needs_root
def test_a_user_without_a_home():
    """A number without a name, in a container."""
    before = "os.environ.pop('HOME', None); os.environ.pop('XDG_CACHE_HOME', None)"
    found = compiled_in({}, f"{before}; os.setgid({STRANGER}); os.setuid({STRANGER})")
    assert Path(found.path).name == "kernels.so"
    assert found.said == f"{NOT_KEPT}~: there is no home folder"
