"""Where every command writes: a FIFO, a symbolic link, a private file; and what it leaves alone."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
from faults.scenarios import make_inputs
from toys import TOY_INI, TOY_TABLE, names, save_model

from moses_integration.cli import main
from phrase_scorer.runtime.output import locked_folder

MODEL = ["--model", "in/rnn", "--threads", "1"]
SYSTEMS = ["--reference", "in/text", "a=in/text", "b=in/other", "--no-significance"]
LOADERS = [  # what begins the work
    "phrase_scorer.models.directory.ModelDirectory.load_model",
    "moses_integration.cli.evaluate.read_text",
    "moses_integration.preparation.text_blocks",
]
LIST = b"0 ||| the house ||| D0= 0 ||| -1\n0 ||| the blue house ||| D0= -1 ||| -2\n"

# By name, a command and which of its words names the output: {}.
WRITERS = {
    "score": ["score", "in/pairs", *MODEL, "--output", "{}"],
    "align": ["align", "in/pairs", "--model", "in/att", "--output", "{}.txt"],
    "align --plot": ["align", "in/pairs", "--model", "in/att", "--plot", "{}.svg"],
    "vectors": ["vectors", "in/text", *MODEL, "--output", "{}"],
    "rescore": ["rescore", "in/table", "{}", *MODEL, "--quiet"],
    "rescore to gz": ["rescore", "in/table", "{}.gz", *MODEL, "--quiet"],
    "rescore --moses-ini-out": [
        *("rescore", "in/table", "in/new", *MODEL, "--quiet"),
        *("--moses-ini", "in/moses.ini", "--moses-ini-out", "{}"),
    ],
    "strip": ["strip", "in/rescored", "{}.gz", "--quiet"],
    "prune": ["prune", "in/table", "{}", "--by", "1", "--keep-best", "1", "--quiet"],
    "prune --reordering-table": [
        *("prune", "in/table", "in/pruned", "--by", "1", "--keep-best", "1", "--quiet"),
        *("--reordering-table", "in/reordering", "{}.gz"),
    ],
    "ini": ["ini", "in/moses.ini", "--output", "{}"],
    "evaluate": ["evaluate", *SYSTEMS, "--output", "{}"],
    "evaluate --plot": ["evaluate", *SYSTEMS, "--plot", "{}.png"],
    "nbest": ["nbest", "in/list", "--source", "in/source", *MODEL, "--quiet", "--output", "{}.gz"],
    "nbest --rerank": ["nbest", "in/list", "--rerank", "in/weights", "--output", "{}"],
    "export-arpa": [
        *("export-arpa", "--model", "in/cslm", "--arpa", "in/lm.arpa", "--quiet"),
        *("--output", "{}.gz"),
    ],
    "export-arpa --moses-ini-out": [
        *("export-arpa", "--model", "in/cslm", "--arpa", "in/lm.arpa", "--quiet"),
        *("--output", "in/new.arpa", "--moses-ini", "in/moses.ini", "--moses-ini-out", "{}"),
    ],
    "prepare": [
        *("prepare", "in/text", "--languages", "fr", "--keep-case", "--quiet"),
        *("--output-dir", "{}"),
    ],
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the commands read."""
    folder = tmp_path_factory.mktemp("inputs") / "in"
    make_inputs(folder)
    save_model(folder / "att", architecture="attention")
    (folder / "other").write_bytes((folder / "text").read_bytes().replace(b"chat", b"chien"))
    (folder / "list").write_bytes(LIST)
    (folder / "source").write_bytes(b"la maison\n")
    rescore = ["rescore", folder / "table", folder / "rescored", "--model", folder / "rnn"]
    assert main([*map(str, rescore), "--threads", "1", "--quiet"]) == 0
    pairs = (line.split(b" |||")[:2] for line in (folder / "table").read_bytes().splitlines())
    reordering = (b" |||".join([*pair, b" 0.2 0.3 0.5 0.2 0.3 0.5\n"]) for pair in pairs)
    (folder / "reordering").write_bytes(b"".join(reordering))
    (folder / "weights").write_bytes(b"D0= -1\n")
    return folder


@pytest.fixture(autouse=True)
def folder(folder: Path, inputs: Path) -> Path:
    """The current folder, with `in`, the inputs, and `out`, which is empty."""
    Path("in").symlink_to(inputs)
    Path("out").mkdir()
    return folder


def written_by(name: str, place: str) -> tuple[list[str], Path]:
    """A command that writes at a place, given without its suffix; and what then has the output."""
    arguments = [word.replace("{}", place) for word in WRITERS[name]]
    if name == "prepare":
        return arguments, Path(place, "text")
    [output] = (word for word in arguments if place in word)
    return arguments, Path(output)


def made_plainly(name: str) -> bytes:
    """What a command writes into a new file."""
    Path("plain").mkdir()
    arguments, output = written_by(name, "plain/o")
    assert main(arguments) == 0
    return output.read_bytes()


@pytest.mark.parametrize("name", WRITERS)
def test_a_fifo_is_written_into(name):
    expected = made_plainly(name)
    arguments, fifo = written_by(name, "out/o")
    fifo.parent.mkdir(exist_ok=True)
    os.mkfifo(fifo)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()), daemon=True)
    reader.start()
    assert main(arguments) == 0
    reader.join(20)
    assert read == [expected]
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert names(fifo.parent) == [fifo.name]  # no journal, no signature, nothing temporary


@pytest.mark.parametrize("name", WRITERS)
def test_of_a_link_the_target_is_replaced_and_keeps_its_mode(name):
    expected = made_plainly(name)
    arguments, link = written_by(name, "out/o")
    link.parent.mkdir(exist_ok=True)
    target = Path("there", "target")
    target.parent.mkdir()
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to(target.resolve())
    assert main(arguments) == 0
    assert link.is_symlink()
    assert target.read_bytes() == expected
    assert target.stat().st_mode & 0o777 == 0o640
    assert names(link.parent) in ([link.name], [link.name, f"{link.name}.signature.json"])
    assert names(target.parent) == ["target"]


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_is_told_before_any_work(name, capsys, monkeypatch):
    arguments, output = written_by(name, "out/o")
    output.mkdir(parents=True)
    for place in LOADERS:
        monkeypatch.setattr(place, lambda *_, **__: pytest.fail("work has begun"))
    assert main(arguments) in (1, 2)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(output) in said
    assert "Is a directory" in said or "is a folder" in said


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_called_partial_is_not_ours(name):
    arguments, output = written_by(name, "out/o")
    output.parent.mkdir(exist_ok=True)
    Path("precious").write_bytes(b"precious")
    partial = output.with_name(f"{output.name}.partial")
    partial.symlink_to(Path("precious").resolve())
    if WRITERS[name][0] == "rescore" and "{}" in "".join(WRITERS[name][2:3]):
        assert main(arguments) == 1
        assert not output.exists()
    else:
        assert main(arguments) == 0
        assert output.is_file()
    assert partial.is_symlink()
    assert Path("precious").read_bytes() == b"precious"


@pytest.mark.parametrize("suffix", [".partial", ".journal", ".signature.json"])
@pytest.mark.parametrize("link", [False, True])
def test_an_input_of_rescore_with_a_working_name(suffix, link, run):
    name = f"q.gz{suffix}"
    Path(name).write_bytes(TOY_TABLE)
    if link:
        os.link(name, "t")
    ran = run("rescore", "t" if link else name, "q.gz", *MODEL)
    assert ran.code == 1
    assert ran.error == f"q.gz: {name}, written beside it, would overwrite an input"
    assert Path(name).read_bytes() == TOY_TABLE
    assert names(Path.cwd()) == sorted({"in", "out", name, *["t"] * link})


@pytest.mark.parametrize("suffix", [".partial", ".journal"])
def test_rescore_leaves_a_foreign_file_of_a_working_name(suffix, run):
    Path("t").write_bytes(TOY_TABLE)
    Path(f"q{suffix}").write_bytes(b"of somebody")
    for more in ([], ["--resume"]):
        ran = run("rescore", "t", "q", *MODEL, "--quiet", *more)
        assert ran.code == 1
        assert ran.error == f"q: q{suffix} is there, and not from an unfinished run: move it away"
    assert Path(f"q{suffix}").read_bytes() == b"of somebody"


def test_the_new_ini_of_rescore_is_none_of_its_other_files(run):
    Path("t").write_bytes(TOY_TABLE)
    Path("ini").write_text(TOY_INI.format("t"))
    for suffix in (".partial", ".journal", ".signature.json"):
        out = ["--moses-ini", "ini", "--moses-ini-out", f"q{suffix}"]
        ran = run("rescore", "t", "q", *MODEL, *out)
        assert ran.code == 2
        assert ran.error == f"--moses-ini-out would overwrite OUTPUT{suffix}: q{suffix}"
    ran = run("rescore", "t", "ini", *MODEL, "--moses-ini", "ini")
    assert (ran.code, ran.error) == (1, "ini: the output would overwrite the input")


OVERWRITTEN = {
    "align --plot": (
        "align in/pairs --model in/att --plot pairs.svg", "--plot would overwrite PAIRS: pairs.svg",
    ),
    "align --plot --output": (
        "align in/pairs --model in/att --plot a.svg --output a.svg",
        "--plot would overwrite --output: a.svg",
    ),
    "export-arpa": (
        "export-arpa --model in/cslm --arpa in/lm.arpa --output ini --moses-ini ini "
        "--moses-ini-out new", "ini: the output would overwrite the input",
    ),
    "prepare, other side": (
        "prepare a/x b/y --languages en fr --output-dir b",
        "the output would overwrite b/y; choose another --output-dir",
    ),
    "prepare, truecaser": (
        "prepare o/truecase-model.en --languages en --output-dir o",
        "the output would overwrite o/truecase-model.en; choose another --output-dir",
    ),
    "decode, log": (
        "decode --moses-ini ini --input x.log --output x",
        "the log x.log would overwrite --input: x.log",
    ),
    "train": (
        "train m/source.vocab --model m --overwrite",
        "--model m would overwrite the file m/source.vocab",
    ),
    "train-lm": (
        "train-lm text --validation m/config.json --model m --overwrite",
        "--model m would overwrite the file m/config.json",
    ),
    "gradients": (
        "gradients --text g/gradients.json --output-dir g",
        "--output-dir g would overwrite --text: g/gradients.json",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OVERWRITTEN)
def test_an_input_is_never_overwritten(name, run):
    command, message = OVERWRITTEN[name]
    given = ["ini", "a/x", "b/y", "o/truecase-model.en", "x.log", "m/source.vocab", "text",
             "m/config.json", "g/gradients.json"]  # fmt: skip
    for path in map(Path, given):
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"content of {path}\n")
    if "PAIRS" in message:
        os.link("in/pairs", "pairs.svg")
    ran = run(*command.split())
    assert ran.code in (1, 2)
    assert message in ran.error
    for path in given:
        assert Path(path).read_text() == f"content of {path}\n"


# -- folders ---------------------------------------------------------------------------------------

TRAIN = ["--model", "m", "--max-updates", "2", "--quiet"]


@pytest.mark.parametrize(
    "command", [["train", "in/table", *TRAIN], ["train-lm", "text", "--order", "2", *TRAIN]]
)
def test_one_training_a_model(command, run):
    Path("text").write_bytes(b"la maison\nle chat\n" * 9)
    with locked_folder("m", "training"):
        ran = run(*command)
    assert (ran.code, ran.last_error) == (2, "another process is training in m")
    assert names(Path("m")) == [".lock"]
    assert run(*command).code == 0
    weights = Path("m/model.safetensors").read_bytes()
    for more in ("--resume", "--overwrite"):
        with locked_folder("m", "training"):
            ran = run(*command, more)
        assert (ran.code, ran.last_error) == (2, "another process is training in m")
        assert Path("m/model.safetensors").read_bytes() == weights


SYSTEMS_STUDY = [
    *("experiment", "systems", "in/table", "--output-dir", "s", "--systems", "LSTM", "--quiet"),
    *("--parameters", 20000, "--minutes", 0.001, "--validation-pairs", 4, "--threads", 1),
]


def test_one_experiment_a_folder(run):
    with locked_folder("s", "doing an experiment"):
        ran = run(*SYSTEMS_STUDY)
    assert (ran.code, ran.last_error) == (2, "another process is doing an experiment in s")
    assert names(Path("s")) == [".lock"]


def test_an_experiment_does_not_replace_a_model_of_somebody(run):
    save_model(Path("s/lstm"))
    before = {path.name: path.read_bytes() for path in Path("s/lstm").iterdir()}
    ran = run(*SYSTEMS_STUDY)
    assert ran.code == 2
    assert ran.last_error == "s/lstm holds a model that is not of this study: move it away"
    assert {path.name: path.read_bytes() for path in Path("s/lstm").iterdir()} == before


@pytest.mark.moses
def test_one_table1_a_folder(moses, run):
    """`moses` is asked for its version before."""
    text = '[tuning]\nsource = "in/source"\nreference = "in/source"\n[[test]]\nname = "t"\n'
    text += 'source = "in/source"\nreference = "in/source"\n[[system]]\nname = "Baseline"\n'
    Path("e.toml").write_text(f'moses_ini = "in/moses.ini"\n{text}')
    with locked_folder("x", "doing an experiment"):
        ran = run("experiment", "table1", "--config", "e.toml", "--output-dir", "x")
    assert (ran.code, ran.last_error) == (2, "another process is doing an experiment in x")
    Path("x/filtered").mkdir()
    Path("x/filtered/mine").touch()
    ran = run("experiment", "table1", "--config", "e.toml", "--output-dir", "x")
    place = Path("x/filtered").resolve()
    assert ran.code == 2
    assert ran.last_error == f"{place} is there, and not from this experiment: move it away"
    assert names(Path("x")) == [".lock", "filtered"]
    assert names(place) == ["mine"]
