"""One table: every command with an output × the names that a user, or an enemy, may give it.

Whatever the name, no input changes, nothing is torn, and it is told in one line. What is to happen
stands in ROWS, and where a command differs in EXCEPTIONS. A third of the cells in each run of the
tests, all with FAULTS=all.
"""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from toys import save_model

from faults.any_bytes import NBEST, WEIGHTS, Done, faults_of, run
from faults.scenarios import IN, OUT, TRAIN, Snapshot, make_inputs

WRITTEN, REFUSED, PRINTED, EDITED = "written", "refused", "printed", "edited"
PLACE = "PLACE"  # in the arguments: the output


@dataclass(frozen=True)
class Command:
    """A command with an output, and the input that the output may be confused with."""

    arguments: list[str]
    input: str = "in/table"


COMMANDS = {
    "rescore": Command(["rescore", "in/table", PLACE, "--model", "in/rnn", "--quiet"]),
    "rescore, ini": Command(
        [*("rescore", "in/table", "out/t", "--model", "in/rnn", "--quiet"),
         *("--moses-ini", "in/moses.ini", "--moses-ini-out", PLACE)],
        "in/moses.ini",
    ),
    "score": Command(["score", "in/pairs", "--model", "in/rnn", "--output", PLACE], "in/pairs"),
    "align": Command(
        ["align", "in/pairs", "--model", "in/attention", "--output", PLACE], "in/pairs"
    ),
    "evaluate": Command(
        [*("evaluate", "--reference", "in/text", "a=in/text", "--no-significance"),
         *("--output", PLACE)],
        "in/text",
    ),
    "ini": Command(["ini", "in/moses.ini", "--output", PLACE], "in/moses.ini"),
    "ini, language model": Command(
        ["ini", "in/moses.ini", "--language-model", "in/lm.arpa", "--output", PLACE], "in/lm.arpa"
    ),
    "nbest": Command(
        [*("nbest", "in/list", "--source", "in/text", "--model", "in/rnn", "--quiet"),
         *("--output", PLACE)],
        "in/list",
    ),
    "nbest, source": Command(
        [*("nbest", "in/list", "--source", "in/text", "--model", "in/rnn", "--quiet"),
         *("--output", PLACE)],
        "in/text",
    ),
    "rerank": Command(
        ["nbest", "in/list", "--rerank", "in/weights", "--output", PLACE], "in/weights"
    ),
    "export-arpa": Command(
        [*("export-arpa", "--model", "in/cslm", "--arpa", "in/lm.arpa", "--quiet"),
         *("--output", PLACE)],
        "in/lm.arpa",
    ),
    "export-arpa, ini": Command(
        [*("export-arpa", "--model", "in/cslm", "--arpa", "in/lm.arpa", "--quiet"),
         *("--output", "out/lm", "--moses-ini", "in/moses.ini", "--moses-ini-out", PLACE)],
        "in/lm.arpa",
    ),
    "vectors": Command(["vectors", "in/text", "--model", "in/rnn", "-o", PLACE], "in/text"),
}  # fmt: skip


def _fresh(_: str) -> str:
    return "out/new"


def _itself(given: str) -> str:
    return given


def _link(given: str) -> str:
    os.symlink(Path(given).absolute(), "out/link")
    return "out/link"


def _hard_link(given: str) -> str:
    os.link(given, "out/hard")
    return "out/hard"


def _other_link(_: str) -> str:
    Path("out/real").write_bytes(b"old")
    os.symlink("real", "out/link")
    return "out/link"


def _dangling(_: str) -> str:
    os.symlink("real", "out/link")
    return "out/link"


def _loop(_: str) -> str:
    os.symlink("loop", "out/loop")
    return "out/loop"


def _folder(_: str) -> str:
    Path("out/folder").mkdir()
    return "out/folder"


def _below_a_file(given: str) -> str:
    return f"{given}/new"


def _planted(suffix: str) -> Callable[[str], str]:
    """A link to the input lies where a working file would be made."""

    def place(given: str) -> str:
        os.symlink(Path(given).absolute(), f"out/new{suffix}")
        return "out/new"

    return place


def _foreign_partial(_: str) -> str:
    Path("out/new.partial").write_bytes(b"somebody else's")
    return "out/new"


WORKING = (".partial", ".journal", ".signature.json", ".signature.json.partial", ".lock")

# What the output is called -> (how it is made, what is to happen).
ROWS: dict[str, tuple[Callable[[str], str], str]] = {
    "a new file": (_fresh, WRITTEN),
    "the input": (_itself, REFUSED),
    "a link to the input": (_link, REFUSED),
    "a hard link to the input": (_hard_link, REFUSED),
    "a link to another file": (_other_link, WRITTEN),
    "a link to nothing": (_dangling, WRITTEN),
    "a link to itself": (_loop, REFUSED),
    "a folder": (_folder, REFUSED),
    "in no folder": (lambda _: "out/no/new", REFUSED),
    "below a file": (_below_a_file, REFUSED),
    "empty": (lambda _: "", REFUSED),
    "too long": (lambda _: "out/" + "n" * 300, REFUSED),
    "as long as may be": (lambda _: "out/" + "n" * 255, WRITTEN),
    "not UTF-8": (lambda _: os.fsdecode(b"out/\xff\xe9"), WRITTEN),
    "with a line end": (lambda _: "out/a\nb\x1b[31m", WRITTEN),
    "with blanks": (lambda _: "out/ a b ", WRITTEN),
    "standard output": (lambda _: "-", PRINTED),
    "like an option": (lambda _: "-new", WRITTEN),
    "like an option, with a folder": (lambda _: "./-new", WRITTEN),
    "with a foreign partial file": (_foreign_partial, WRITTEN),
    **{f"with a link at {name}": (_planted(name), WRITTEN) for name in WORKING},
}

EXCEPTIONS = {
    # A positional name like an option is one.
    ("rescore", "like an option"): REFUSED,
    # A file that somebody else began is not gone on with, nor deleted; a link there not followed.
    ("rescore", "with a foreign partial file"): REFUSED,
    ("rescore", "with a link at .partial"): REFUSED,
    ("rescore", "with a link at .journal"): REFUSED,
    # The signature is an output too: it would overwrite the input.
    ("rescore", "with a link at .signature.json"): REFUSED,
    # The names of its journal and its partial file would be too long.
    ("rescore", "as long as may be"): REFUSED,
    # As with --in-place.
    **{("ini", row): EDITED for row in ROWS if row.endswith("the input")},
    # KenLM reads the file by its name, and moses.ini cannot say it.
    ("export-arpa", "standard output"): REFUSED,
}


class World:
    """The inputs, and the output that is to be made."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path(OUT).mkdir()

    def check(self, command: Command, place: str, expected: str) -> None:
        before = Snapshot.of(Path(IN))
        arguments = [place if word == PLACE else word for word in command.arguments]
        done = run(arguments)
        assert faults_of(done, arguments[:1]) == []
        assert Snapshot.of(Path(IN)) == before or expected == EDITED
        assert _outcome(done) == {EDITED: WRITTEN}.get(expected, expected), done
        if expected == WRITTEN:
            assert os.path.getsize(place)


def _outcome(done: Done) -> str:
    if done.code:
        return REFUSED
    return PRINTED if done.out else WRITTEN


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs") / IN
    make_inputs(folder)
    save_model(folder / "attention", architecture="attention")
    (folder / "list").write_bytes(NBEST)
    (folder / "weights").write_bytes(WEIGHTS)
    return folder


@pytest.fixture
def world(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    shutil.copytree(inputs, tmp_path / IN)
    return World(tmp_path, monkeypatch)


def cells(columns: Iterable[str], rows: Iterable[str]) -> list[Any]:
    """The cells of the table; every third one unless FAULTS=all (benchmarks/faults.py)."""
    table = [(c, r, i + j) for i, c in enumerate(columns) for j, r in enumerate(rows)]
    return [(c, r) for c, r, place in table if place % 3 == 0 or os.environ.get("FAULTS") == "all"]


@pytest.mark.parametrize(("name", "row"), cells(COMMANDS, ROWS))
def test_names(name, row, world):
    make, expected = ROWS[row]
    command = COMMANDS[name]
    world.check(command, make(command.input), EXCEPTIONS.get((name, row), expected))
    if row.startswith("a link to") and expected == WRITTEN:
        assert os.readlink("out/link") == "real"
        assert os.path.getsize("out/real")


@pytest.mark.parametrize("name", [name for name, _ in cells(COMMANDS, ["a FIFO"])])
def test_a_fifo_is_written_into(name, world):
    """As a file of that name would be; it stays what it is, and has nothing beside it."""
    command = COMMANDS[name]
    if name in ("rescore, ini", "export-arpa, ini"):
        place = "out/expected"
    else:
        place = "out/new"
    world.check(command, place, WRITTEN)
    expected = Path(place).read_bytes()
    for path in Path(OUT).iterdir():
        path.unlink()
    os.mkfifo("out/new")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(Path("out/new").read_bytes()), daemon=True)
    reader.start()
    arguments = ["out/new" if word == PLACE else word for word in command.arguments]
    done = run(arguments)
    assert done.code == 0, done
    reader.join(10)
    assert read == [expected]
    assert stat.S_ISFIFO(os.stat("out/new").st_mode)
    assert not [name for name in os.listdir(OUT) if name.startswith("new.")]


@pytest.mark.parametrize(("name", "suffix"), cells(COMMANDS, WORKING))
def test_an_input_with_a_working_name(name, suffix, world):
    """`cp T q.partial; rescore q.partial q`: the input is not taken for a file of ours."""
    command = COMMANDS[name]
    given = f"in/q{suffix}"
    os.rename(command.input, given)
    arguments = [
        word.replace(command.input, given) if word != PLACE else "in/q"
        for word in command.arguments
    ]
    before = Snapshot.of(Path(IN)).files
    done = run(arguments)
    assert faults_of(done, arguments[:1]) == []
    after = Snapshot.of(Path(IN)).files
    assert {path: after.get(path) for path in before} == before
    assert done.code or os.path.getsize("in/q")


# -- folders ---------------------------------------------------------------------------------------

FOLDER_COMMANDS = {
    "rescore": ["rescore", "in/filtered", PLACE, "--model", "in/rnn", "--quiet"],
    "filter": [
        *("filter", "--moses-ini", "in/moses.ini", "--input", "in/text", "--quiet"),
        *("--output-dir", PLACE),
    ],
    "ems": ["ems", "--output-dir", PLACE],
    "prepare": [
        *("prepare", "in/text", "--languages", "fr", "--output-dir", PLACE, "--quiet"),
        "--lowercase",
    ],
    "train": ["train", "in/table", "--model", PLACE, *TRAIN[4:]],
    "train-lm": [
        *("train-lm", "in/text", "--model", PLACE, "--quiet", "--max-updates", "1"),
        *("--embedding", "2", "--hidden", "2", "--second-hidden", "2", "--min-count", "1"),
    ],
}  # fmt: skip


def _file(_: str) -> str:
    Path("out/file").write_bytes(b"precious")
    return "out/file"


def _fifo(_: str) -> str:
    os.mkfifo("out/fifo")
    return "out/fifo"


def _link_to_a_folder(_: str) -> str:
    Path("out/real").mkdir()
    os.symlink("real", "out/link")
    return "out/link"


FOLDER_ROWS: dict[str, tuple[Callable[[str], str], str]] = {
    "a new folder": (_fresh, WRITTEN),
    "an empty folder": (_folder, WRITTEN),
    "a link to a folder": (_link_to_a_folder, WRITTEN),
    "a file": (_file, REFUSED),
    "a FIFO": (_fifo, REFUSED),
    "below a file": (lambda _: "in/table/new", REFUSED),
    "a link to itself": (_loop, REFUSED),
    "too long": (lambda _: "out/" + "n" * 300, REFUSED),
    "not UTF-8": (lambda _: os.fsdecode(b"out/\xff\xe9"), WRITTEN),
    "with a line end": (lambda _: "out/a\nb\x1b[31m", WRITTEN),
    "like an option": (lambda _: "./-new", WRITTEN),
}
FOLDER_EXCEPTIONS = {
    # moses.ini, and a configuration of EMS, cannot hold such a path.
    ("filter", "with a line end"): REFUSED,
    ("ems", "with a line end"): REFUSED,
}


@pytest.mark.parametrize(("name", "row"), cells(FOLDER_COMMANDS, FOLDER_ROWS))
def test_folders(name, row, world):
    if name == "rescore":
        Path("in/filtered").mkdir()
        shutil.copyfile("in/table", "in/filtered/table")
        Path("in/filtered/moses.ini").write_text(
            Path("in/moses.ini").read_text().replace("path=table", "path=in/filtered/table")
        )
    make, expected = FOLDER_ROWS[row]
    place = make("")
    before = Snapshot.of(Path(IN))
    arguments = [place if word == PLACE else word for word in FOLDER_COMMANDS[name]]
    done = run(arguments)
    assert faults_of(done, arguments[:1]) == []
    assert Snapshot.of(Path(IN)) == before
    expected = FOLDER_EXCEPTIONS.get((name, row), expected)
    assert (REFUSED if done.code else WRITTEN) == expected, done
    if expected == WRITTEN:
        assert os.listdir(place)
    if row == "a file":
        assert Path(place).read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("name", "working"),
    [
        *(("train", name) for name in ("config.json", "source.vocab", "training_log.jsonl")),
        *(("train", name) for name in ("model.safetensors", "training_state.safetensors")),
        *(("train-lm", name) for name in ("target.vocab", "training_log.jsonl")),
        *(("prepare", name) for name in ("text", "truecase-model.fr")),
    ],
)
def test_an_input_in_the_folder_that_is_written(name, working, world):
    given = "in/table" if name == "train" else "in/text"
    Path("out/folder").mkdir()
    shutil.copyfile(given, f"out/folder/{working}")
    words = [word.replace(given, f"out/folder/{working}") for word in FOLDER_COMMANDS[name]]
    arguments = ["out/folder" if word == PLACE else word for word in words]
    if name == "prepare":
        arguments.remove("--lowercase")
    if name.startswith("train"):
        arguments.append("--overwrite")
    run(arguments)
    assert Path(f"out/folder/{working}").read_bytes() == Path(given).read_bytes()
