"""The command line as a user meets it: what it prints, its exit codes, what it leaves behind.

Most tests call `main(argv)`; signals, pipes, and limits on files need a process of their own.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest

from moses_integration.cli import build, main
from phrase_scorer.models import ModelConfig
from phrase_scorer.models import build as build_model
from phrase_scorer.models.directory import ModelDirectory
from phrase_scorer.scoring.scorer import PhraseScorer
from phrase_scorer.text.vocabulary import Vocabulary
from phrase_scorer.version import __version__

COMMANDS = sorted(build().commands)
PROGRAM = [sys.executable, "-m", "moses_integration"]
FEW = "expected at least 3 (source ||| target ||| scores)"
CUT_SHORT = (
    "compressed data is broken or cut short (Compressed file ended before the end-of-stream "
    "marker was reached)"
)
UNKNOWN = (
    "warning: {} of the {} words are unknown to the model ({} …): other casing, another language, "
    "or other tokenisation or escaping than in training?"
)

SOURCE_WORDS = b"la maison bleue le chat noir".split()
TARGET_WORDS = b"the blue house black cat".split()

LINES = [
    b"la maison ||| the house ||| 0.5 0.25 ||| 0-0 1-1 ||| 2 2 1",
    b"la ||| the ||| 1 0.5 ||| 0-0 ||| 4 4 4",
    b"le chat noir ||| the black cat ||| 1 1 ||| 0-0 1-2 2-1 ||| 1 1 1",
    b"le ||| the ||| 1 1 ||| 0-0 ||| 3 3 3",
]
GOOD = b"".join(line + b"\n" for line in LINES)

INI = """[feature]
WordPenalty
PhraseDictionaryMemory name=TM0 num-features=2 path={} input-factor=0 output-factor=0

[weight]
WordPenalty0= -1
TM0= 0.2 0.3
"""


def save_model(path: Path, **settings: object) -> Path:
    vocabularies = Vocabulary(SOURCE_WORDS), Vocabulary(TARGET_WORDS)
    sizes = {"hidden": 6, "embedding": 4, "maxout": 3, "output_rank": 0}
    config = ModelConfig(*map(len, vocabularies), **{**sizes, **settings})
    directory = ModelDirectory(path)
    directory.create(config, vocabularies, {})
    directory.save_weights(build_model(config, seed=5, deviation=0.6).state_dict())
    return path


@pytest.fixture(scope="session")
def forward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("cli") / "forward")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, so that messages hold short names."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Ran:
    """What a call of `main` returned and printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
        self.code = main(list(map(str, arguments)))
        self.out, self.err = capsys.readouterr()

    @property
    def last_error(self) -> str:
        """The error, whatever is said before it."""
        line = self.err.splitlines()[-1]
        assert line.startswith("error: ")
        return line[len("error: ") :]

    @property
    def error(self) -> str:
        """The one line on standard error, where that is all there is."""
        assert self.err.startswith("error: ")
        assert self.err.count("\n") == 1
        assert self.err.endswith("\n")
        assert self.out == ""
        return self.err[len("error: ") : -1]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    return lambda *arguments: Ran(capsys, *arguments)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def program(*arguments: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=60, **options)


# -- bad input: one line, file:line, the text; exit 1; nothing under the output name ---------------

BAD_LINES = {
    "missing fields": (b"a ||| b", f'2 fields, {FEW}: "a ||| b"'),
    "blank line": (b"", 'blank line: ""'),
    "no number": (b"a ||| b ||| 1 0,5", 'a score is not a number: "0,5"'),
    "nan": (b"a ||| b ||| nan 1", 'a score must be finite: "nan"'),
    "inf": (b"a ||| b ||| 1 inf", 'a score must be finite: "inf"'),
    "negative": (
        b"a ||| b ||| 1 -0.5 ||| 0-0",
        'negative score (Moses takes the logarithm of each): "-0.5"',
    ),
    "another count": (b"a ||| b ||| 1 1 1", '3 scores, expected 2: "1 1 1"'),
    "empty source": (b" ||| b ||| 1 1", 'empty source phrase: " ||| b ||| 1 1"'),
    "hierarchical": (
        b"a [X] ||| b [X] ||| 1 1",
        "hierarchical phrase tables are not supported: the phrase ends in a non-terminal symbol: "
        '"a [X] ||| b [X] ||| 1 1"',
    ),
}


@pytest.mark.parametrize("kind", BAD_LINES)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gz"])
def test_bad_line_stops_rescore(kind, pack, run, folder, forward):
    line, expected = BAD_LINES[kind]
    (folder / "t").write_bytes(pack(b"\n".join([*LINES[:2], line, *LINES[2:]])))
    (folder / "ini").write_text(INI.format("t"))
    ini = ["--moses-ini", "ini", "--moses-ini-out", "new.ini"]
    done = run("rescore", "t", "out.gz", "--model", forward, *ini, "--quiet")
    assert done.code == 1
    assert done.error == f"t:3: {expected}"
    assert names(folder) == ["ini", "t"]


@pytest.mark.parametrize("kind", BAD_LINES)
def test_bad_line_stops_train_score_and_estimate(kind, run, folder, forward):
    line, expected = BAD_LINES[kind]
    (folder / "t").write_bytes(b"\n".join([*LINES[:2], line, *LINES[2:]]))
    for command in (
        ["train", "t", "--model", "new", "--quiet"],
        ["score", "t", "--model", forward, "--output", "out"],
        ["rescore", "t", "--model", forward, "--estimate"],
    ):
        done = run(*command)
        assert (done.code, done.error) == (1, f"t:3: {expected}")
    assert names(folder) == ["t"]


@pytest.mark.parametrize("kind", sorted(BAD_LINES.keys() - {"hierarchical"}))
def test_bad_line_is_kept_where_asked(kind, run, folder, forward):
    line, _ = BAD_LINES[kind]
    (folder / "t").write_bytes(b"\n".join([*LINES[:2], line, *LINES[2:]]))
    done = run("rescore", "t", "out", "--model", forward, "--on-bad-line", "keep", "--quiet")
    assert (done.code, done.out) == (0, "")
    assert done.err == "5 entries scored; 1 bad lines of t kept as they were\n"
    after = (folder / "out").read_bytes().split(b"\n")
    scores = line.split(b"|||")[2:3]
    expected = line.replace(scores[0].strip(), scores[0].strip() + b" 1") if scores else line
    assert after[2] == expected
    assert [len(after[place].split(b"|||")[2].split()) for place in (0, 1, 3, 4)] == [3] * 4


def test_first_line_is_bad(run, folder, forward):
    for line, expected in (
        (b"a ||| b ||| ", '0 scores, expected 1: ""'),
        (b"a ||| b", f'2 fields, {FEW}: "a ||| b"'),
        (b"", 'blank line: ""'),
    ):
        (folder / "t").write_bytes(line + b"\n" + GOOD)
        done = run("rescore", "t", "out", "--model", forward, "--quiet")
        assert (done.code, done.error) == (1, f"t:1: {expected}")
    assert names(folder) == ["t"]


def test_number_of_scores_is_not_that_of_the_ini(run, folder, forward):
    (folder / "t").write_bytes(GOOD)
    text = INI.format("t").replace("num-features=2", "num-features=4").replace("0.3", "0.3 1 1")
    (folder / "ini").write_text(text)
    ini = ["--moses-ini", "ini", "--moses-ini-out", "new.ini"]
    done = run("rescore", "t", "out", "--model", forward, *ini, "--quiet")
    feature = text.splitlines()[2]
    expected = f'ini:3: num-features is 4 but the phrase table has 2 scores: "{feature}"'
    assert (done.code, done.error) == (1, expected)
    assert names(folder) == ["ini", "t"]
    done = run("check", "t", "--moses-ini", "ini")
    assert (done.code, done.error) == (1, expected)


def test_weights_of_the_ini_do_not_fit(run, folder, forward):
    (folder / "t").write_bytes(GOOD)
    (folder / "ini").write_text(INI.format("t").replace("0.2 0.3", "0.2"))
    done = run("rescore", "t", "out", "--model", forward, "--moses-ini", "ini", "--quiet")
    expected = 'ini:7: TM0 has 1 weights but num-features is 2 in line 3: "TM0= 0.2"'
    assert (done.code, done.error) == (1, expected)


def test_empty_target_is_legal(run, folder, forward):
    (folder / "t").write_bytes(b"la ||| ||| 1 1\nle ||| the ||| 1 1\n")
    assert run("rescore", "t", "out", "--model", forward, "--quiet").code == 0
    first = (folder / "out").read_bytes().split(b"\n")[0]
    score = float(first.split()[-1])
    expected = PhraseScorer.load(forward, "cpu").score([("la", "")])[0]  # p(end | source)
    assert np.log(score) == pytest.approx(expected, abs=1e-5)
    assert first.startswith(b"la ||| ||| 1 1 0.")


def test_gz_cut_short(run, folder, forward):
    lines = [b"la %d ||| the ||| 1 1" % (n * 7919) for n in range(60_000)]
    packed = gzip.compress(b"\n".join(lines))
    for keep in (len(packed) - 9, len(packed) // 2, 15):
        (folder / "t.gz").write_bytes(packed[:keep])
        done = run("rescore", "t.gz", "out.gz", "--model", forward, "--quiet")
        assert done.code == 1
        match = re.fullmatch(rf"t\.gz:(\d+): {re.escape(CUT_SHORT)}", done.last_error)
        assert match, done.last_error
        assert 1 <= int(match[1]) <= len(lines)
        left = [name for name in names(folder) if name != "t.gz"]
        assert left == ["out.gz.journal", "out.gz.partial"] * (int(match[1]) > 8192)
        for name in left:
            (folder / name).unlink()


def test_gz_broken_inside(run, folder, forward):
    lines = [b"la %d ||| the ||| 1 1" % (n * 7919) for n in range(60_000)]
    packed = bytearray(gzip.compress(b"\n".join(lines)))
    packed[len(packed) // 2 : len(packed) // 2 + 40] = b"\xff" * 40
    (folder / "t.gz").write_bytes(packed)
    done = run("rescore", "t.gz", "out.gz", "--model", forward, "--quiet")
    assert done.code == 1
    assert re.match(r"t\.gz:\d+: ", done.last_error)
    assert names(folder) == ["out.gz.journal", "out.gz.partial", "t.gz"]


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"Some prose.\nMore.\n", '"Some prose."'),
        (b'{"a": 1}', '"{\\"a\\": 1}"'.replace("\\", "")),
        (b"\x89PNG\r\n\x1a\n\x00\x00", '"\\x89PNG\\r"'),
        ("\u2028é".encode("utf-16-le"), '"( \\xe9\\x00"'),
        (b"la\tthe\n", '"la\\tthe"'),
    ],
)
def test_text_that_is_not_a_table(content, shown, run, folder, forward):
    (folder / "t").write_bytes(content)
    done = run("rescore", "t", "out", "--model", forward, "--quiet")
    assert (done.code, done.error) == (1, f"t:1: 1 field, {FEW}: {shown}")
    assert names(folder) == ["t"]


def test_text_that_is_no_list_of_pairs(run, folder, forward):
    (folder / "t").write_bytes(b"Some prose.\n")
    for command in (["train", "t", "--model", "new"], ["score", "t", "--model", forward]):
        done = run(*command)
        assert (done.code, done.error) == (
            1,
            't:1: expected source, a tab, target: "Some prose."',
        )
    assert names(folder) == ["t"]


@pytest.mark.parametrize(
    "missing", ["config.json", "model.safetensors", "source.vocab", "target.vocab"]
)
@pytest.mark.parametrize("command", ["rescore", "score", "info"])
def test_model_directory_is_incomplete(missing, command, run, folder):
    (folder / "t").write_bytes(GOOD)
    (save_model(folder / "rnn") / missing).unlink()
    arguments = {
        "rescore": ["rescore", "t", "out", "--model", "rnn", "--quiet"],
        "score": ["score", "t", "--model", "rnn", "--output", "out"],
        "info": ["info", "rnn"],
    }
    done = run(*arguments[command])
    expected = f"rnn: the model directory is incomplete: {missing} is missing"
    if missing == "config.json":
        expected = "rnn: not a model directory: it has no config.json"
    assert (done.code, done.error) == (1, expected)
    assert names(folder) == ["rnn", "t"]


def test_model_directory_does_not_exist(run, folder):
    (folder / "t").write_bytes(GOOD)
    done = run("rescore", "t", "out", "--model", "rnn", "--quiet")
    assert (done.code, done.error) == (1, "rnn: not a model directory: it does not exist")


def test_model_of_a_newer_format(run, folder):
    (folder / "t").write_bytes(GOOD)
    config = save_model(folder / "rnn") / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "format": 2}))
    done = run("rescore", "t", "out", "--model", "rnn", "--quiet")
    expected = (
        "rnn/config.json: format 2 is newer than this program knows (1); update phrase-scorer"
    )
    assert (done.code, done.error) == (1, expected)
    assert names(folder) == ["rnn", "t"]


def test_model_of_the_other_direction(run, folder):
    (folder / "t").write_bytes(GOOD)
    save_model(folder / "rnn", direction="inverse")
    done = run("rescore", "t", "out", "--model", "rnn", "--quiet")
    expected = (
        "rnn: the model was trained in the other direction, p(source | target); "
        "train one with --direction forward"
    )
    assert (done.code, done.error) == (1, expected)
    assert names(folder) == ["rnn", "t"]


@pytest.mark.parametrize("content", [b"", gzip.compress(b"", mtime=0)])
def test_empty_table(content, run, folder, forward):
    (folder / "t").write_bytes(content)
    for command in (
        ["rescore", "t", "out", "--model", forward, "--quiet"],
        ["rescore", "t", "--model", forward, "--estimate"],
        ["train", "t", "--model", "new", "--quiet"],
        ["check", "t"],
    ):
        done = run(*command)
        assert (done.code, done.error) == (1, "t: the phrase table is empty")
    assert names(folder) == ["t"]


def test_disk_full(folder, forward):
    """A real limit on the size of files, met in the middle of the table."""
    (folder / "t").write_bytes(GOOD * 2000)
    (folder / "ini").write_text(INI.format("t"))
    done = program(
        *["rescore", "t", "out", "--model", forward, "--quiet"],
        *["--moses-ini", "ini", "--moses-ini-out", "new.ini"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"error: out: cannot write: File too large\n"
    assert names(folder) == ["ini", "t"]


@pytest.mark.parametrize("name", ["out", "out.gz"])
def test_disk_full_at_the_very_end(name, folder, forward):
    """The last bytes wait in a buffer, and fail when the file is closed."""
    (folder / "t").write_bytes(GOOD)
    done = program(
        *["rescore", "t", name, "--model", forward, "--quiet"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50)),
    )
    expected = f"error: {name}: cannot write: File too large\n".encode()
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", expected)
    assert names(folder) == ["t"]


def test_standard_output_is_full(folder, forward):
    (folder / "t").write_bytes(GOOD)
    with open("/dev/full", "wb") as full:
        for command in (["score", "t", "--model", forward], ["--version"]):
            done = subprocess.run(
                [*PROGRAM, *command], stdout=full, stderr=subprocess.PIPE, timeout=60
            )
            assert done.returncode == 1
            assert re.fullmatch(rb"error: .*: No space left on device\n", done.stderr)


def test_output_equal_to_input(run, folder, forward):
    (folder / "t").write_bytes(GOOD)
    (folder / "link").symlink_to("t")
    for name in ("t", "./t", "link"):
        expected = f"{name}: the output would overwrite the input"
        done = run("rescore", "t", name, "--model", forward, "--quiet")
        assert (done.code, done.error) == (1, expected)
        done = run("score", "t", "--model", forward, "--output", name)
        assert (done.code, done.error) == (1, expected)
    assert (folder / "t").read_bytes() == GOOD
    assert names(folder) == ["link", "t"]


def test_unknown_words_only_are_legal_and_warned_of(run, folder, forward):
    (folder / "t").write_bytes(b"Das Haus ||| that Thing ||| 1 1\nDas ||| that ||| 1 1\n")
    done = run("rescore", "t", "out", "--model", forward, "--quiet")
    assert (done.code, done.out) == (0, "")
    assert done.err.splitlines() == [
        "2 entries scored",
        UNKNOWN.format("100%", "source", "Das Haus"),
        UNKNOWN.format("100%", "target", "that Thing"),
    ]
    scores = [float(line.split()[-1]) for line in (folder / "out").read_bytes().splitlines()]
    expected = PhraseScorer.load(forward, "cpu").score([("<unk> <unk>", "x y"), ("x", "y")])
    assert np.log(scores) == pytest.approx(expected, abs=1e-5)


def test_known_words_are_not_warned_of(run, folder, forward):
    (folder / "t").write_bytes(GOOD)
    assert run("rescore", "t", "out", "--model", forward, "--quiet").err == "4 entries scored\n"


def test_very_long_phrase_is_legal(run, folder, forward):
    line = b"la " * 300 + b"||| " + b"the " * 200 + b"||| 1 1"
    (folder / "t").write_bytes(GOOD + line)
    done = run("rescore", "t", "out", "--model", forward, "--quiet")
    assert (done.code, done.err) == (0, "5 entries scored; 1 below the floor\n")
    after = (folder / "out").read_bytes()
    assert after.split(b"\n")[-1] == line + b" 1.92875e-22"  # exp(-50)


def test_table_that_is_not_there(run, folder, forward):
    done = run("rescore", "t", "out", "--model", forward, "--quiet")
    assert (done.code, done.error) == (1, "t: cannot read: No such file or directory")
    done = run("check", ".")
    assert (done.code, done.error) == (1, ".: cannot read: Is a directory")


def test_same_column_twice(run, folder, forward):
    (folder / "t").write_bytes(GOOD)
    assert run("rescore", "t", "once", "--model", forward, "--quiet").code == 0
    done = run("rescore", "once", "twice", "--model", forward, "--quiet")
    fingerprint = ModelDirectory(forward).fingerprint()
    assert (done.code, done.error) == (
        1,
        "once: score 3 of each line is already p(target | source) of this model "
        f"({fingerprint}); --allow-duplicate adds it again",
    )
    assert not (folder / "twice").exists()
    again = ["--allow-duplicate", "--quiet"]
    assert run("rescore", "once", "twice", "--model", forward, *again).code == 0
    assert len((folder / "twice").read_bytes().split(b"|||")[2].split()) == 4


# -- help and usage --------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command, run):
    done = run(command, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: phrase-scorer {command} [OPTIONS]")
    assert re.search(r"\nExamples?:\n", done.out.replace("\n  Ex", "\nEx"))
    assert max(map(len, done.out.splitlines())) <= 100


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_of_the_help_can_be_typed(command):
    """Every option in an example exists, with a value of its type."""
    commands = build().commands
    text = (commands[command].epilog or "").replace("\\\n", "")
    examples = re.findall(r"phrase-scorer ([^|>\n]*?(?:\|\|\|.*)?)(?=[|>\n]|$)", text)
    assert any(shlex.split(example)[0] == command for example in examples)
    for example in examples:
        first, *rest = shlex.split(example)  # some show the command that comes next
        context = commands[first].make_context(first, rest)
        assert context.params or context.command.name == "experiment"


def test_help_of_all(run):
    done = run("--help")
    assert (done.code, done.err) == (0, "")
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", done.out, re.MULTILINE)
    assert run("-h").out == done.out


def test_version(run):
    assert run("--version").out == f"phrase-scorer, version {__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["rescore", "--help"], ["check", "t"]])
def test_torch_is_imported_only_where_it_is_needed(arguments, folder):
    (folder / "t").write_bytes(GOOD)
    code = (
        "import sys; from moses_integration.cli import main; code = main(sys.argv[1:]); "
        "sys.exit(code or ('torch' in sys.modules and 'torch was imported'))"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


USAGE = [
    (["nope"], "No such command 'nope'."),
    (["check"], "Missing argument 'PHRASE_TABLE'."),
    (["check", "t", "--nope"], "No such option '--nope'."),
    (["train", "t"], "Missing option '--model'."),
    (["train", "t", "--model", "m", "--max-updates", "x"], "'x' is not a valid integer."),
    (["train", "t", "--model", "m", "--preset", "huge"], "'huge' is not one of 'small', 'base', "),
    (["train", "t", "--model", "m", "--shortlist", "1"], "1 is not in the range x>=2."),
]


def test_rescore_without_a_model(run):
    done = run("rescore", "t", "out")
    expected = "give --model DIR, --inverse-model DIR, or several of them"
    assert (done.code, done.out, done.error) == (2, "", expected)


@pytest.mark.parametrize(("arguments", "expected"), USAGE)
def test_usage_error_of_the_parser(arguments, expected, run):
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Usage: phrase-scorer")
    assert expected in done.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["rescore", "t"], "OUTPUT is missing (or use --estimate)"),
        (["rescore", "t", "o", "--moses-ini-out", "n"], "--moses-ini-out needs --moses-ini"),
        (["rescore", "t", "o", "--table-name", "n"], "--table-name needs --moses-ini"),
        (
            ["rescore", "t", "o", "--moses-ini", "ini", "--moses-ini-out", "./ini"],
            "--moses-ini-out would overwrite --moses-ini: ./ini",
        ),
        (
            ["rescore", "t", "-", "--moses-ini", "ini", "--moses-ini-out", "n"],
            "--moses-ini-out needs a file as OUTPUT, not -",
        ),
        (
            ["rescore", "t", "o p", "--moses-ini", "ini", "--moses-ini-out", "n"],
            'moses.ini cannot hold the path "o p": it must not be empty, nor have a blank or a # '
            "in it",
        ),
        (
            ["rescore", "t", "o", "--moses-ini", "ini", "--moses-ini-out", "n", "--weight", "nan"],
            "every new column needs a finite start weight, given: nan",
        ),
        (
            ["rescore", "t", "o", "--moses-ini", "ini", "--table-name", "TM7"],
            'ini: no phrase table "TM7" among TM0; choose one with --table-name',
        ),
        (["rescore", "t", "o", "--floor", "0"], "--floor must be from -87 to below 0, not 0"),
        (["rescore", "t", "o", "--threads", "0"], "--threads must be at least 1, not 0"),
        (["score", "t", "--device", "tpu"], None),
        (["train", "t", "--max-updates", "0"], "max_updates must be at least 1, not 0"),
        (
            ["train", "p.tsv", "--weight-by-count"],
            "--weight-by-count needs a phrase table with counts",
        ),
        (["train", "t", "--model", "t"], "--model t is a file, not a directory"),
        (
            ["train", "t", "--overwrites-not"],
            "m holds a model; --resume continues it, --overwrite replaces it",
        ),
    ],
)
def test_usage_error(arguments, expected, run, folder, forward):
    (folder / "t").write_bytes(GOOD)
    (folder / "p.tsv").write_bytes(b"la\tthe\n")
    (folder / "ini").write_text(INI.format("t"))
    before = names(folder)
    if arguments[-1] == "--overwrites-not":
        arguments = [*arguments[:-1], "--model", "m"]
        (folder / "m").symlink_to(forward)
        before = names(folder)
    elif arguments[0] == "train":
        arguments = [*arguments, *([] if "--model" in arguments else ["--model", "new"])]
    else:
        arguments = [*arguments, "--model", forward]
    done = run(*arguments, *(["--quiet"] if arguments[0] != "score" else []))
    assert done.code == 2
    if expected is None:
        assert done.error.startswith("device 'tpu' cannot be used: ")
    else:
        assert done.error == expected
    assert names(folder) == before


def test_check_needs_an_ini_for_a_table_name(run, folder):
    done = run("check", "t", "--table-name", "TM0")
    assert (done.code, done.error) == (2, "--table-name needs --moses-ini")


def test_debug_shows_where(run, folder):
    done = run("--debug", "check", "t")
    assert done.code == 1
    assert done.err.startswith("Traceback (most recent call last):\n")
    assert done.err.endswith("\nerror: t: cannot read: No such file or directory\n")


# -- moses.ini -------------------------------------------------------------------------------------


@pytest.fixture
def rescored(run, folder, forward):
    """Rescores "t" with an ini of some path=; returns the new path= and what was said."""
    (folder / "t").write_bytes(GOOD)

    def call(path: str, output: str, ini: str = "ini") -> tuple[str, str]:
        (folder / ini).write_text(INI.format(path))
        arguments = ["--moses-ini", ini, "--moses-ini-out", "new.ini", "--quiet"]
        done = run("rescore", "t", output, "--model", forward, *arguments)
        assert (done.code, done.out) == (0, "")
        text = (folder / "new.ini").read_text()
        found = re.search(r"path=(\S+)", text)
        before = INI.format(found[1]).replace("num-features=2", "num-features=3")
        assert text == before.replace("0.2 0.3", "0.2 0.3 0.1")
        return found[1], done.err

    return call


def test_absolute_path_stays_absolute(rescored, folder):
    path, said = rescored(str(folder / "t"), "out.gz")
    assert path == str(folder / "out.gz")
    assert said == "4 entries scored\nnew.ini: TM0 with 3 scores; tune it\n"


def test_path_relative_to_the_current_folder(rescored, folder):
    assert rescored("t", "out.gz")[0] == "out.gz"
    (folder / "model").mkdir()
    assert rescored("t", "model/out.gz")[0] == "model/out.gz"


def test_path_relative_to_the_folder_of_the_ini(rescored, folder):
    (folder / "model").mkdir()
    assert rescored("../t", "out.gz", "model/ini")[0] == "../out.gz"
    assert rescored("../t", "model/out.gz", "model/ini")[0] == "out.gz"


def test_relative_path_that_leads_nowhere_becomes_absolute(rescored, folder):
    assert rescored("elsewhere/pt.gz", "out.gz")[0] == str(folder / "out.gz")


def test_start_weight(run, folder, forward):
    (folder / "t").write_bytes(GOOD)
    (folder / "ini").write_text(INI.format("t"))
    arguments = ["--moses-ini", "ini", "--moses-ini-out", "new", "--weight", "0.25", "--quiet"]
    assert run("rescore", "t", "out", "--model", forward, *arguments).code == 0
    assert "TM0= 0.2 0.3 0.25\n" in (folder / "new").read_text()


def test_ini_without_a_new_name_is_only_checked(run, folder, forward):
    (folder / "t").write_bytes(GOOD)
    (folder / "ini").write_text(INI.format("t"))
    done = run("rescore", "t", "out", "--model", forward, "--moses-ini", "ini", "--quiet")
    assert done.code == 0
    assert done.err == "4 entries scored\n--moses-ini-out not given: ini was only checked\n"
    assert names(folder) == ["ini", "out", "out.signature.json", "t"]


def test_what_is_stale_is_told(run, folder, forward):
    (folder / "t").write_bytes(GOOD)
    (folder / "ini").write_text(INI.format("t"))
    (folder / "filtered").mkdir()
    done = run("rescore", "t", "out", "--model", forward, "--moses-ini", "ini", "--quiet")
    assert done.err.splitlines()[1] == (
        f"warning: {Path('filtered')}: tables filtered before are reused; delete it or filter "
        "into a new folder"
    )


def test_several_tables_in_one_ini(run, folder, forward):
    (folder / "t").write_bytes(GOOD)
    second = "PhraseDictionaryMemory name=TM1 num-features=2 path=t\n[weight]\nTM1= 1 1\n"
    (folder / "ini").write_text(INI.format("u") + "[feature]\n" + second)
    arguments = ["--moses-ini", "ini", "--moses-ini-out", "new", "--quiet"]
    done = run("rescore", "t", "out", "--model", forward, *arguments)
    expected = "ini: several phrase tables: TM0, TM1; choose one with --table-name"
    assert (done.code, done.error) == (2, expected)
    done = run("rescore", "t", "out", "--model", forward, *arguments, "--table-name", "TM1")
    assert done.code == 0
    new = second.replace("=2 path=t", "=3 path=out").replace("1 1", "1 1 0.1")
    assert (folder / "new").read_text() == INI.format("u") + "[feature]\n" + new


# -- score, check, info, estimate ------------------------------------------------------------------

PAIRS = [("la maison", "the house"), ("la", ""), ("le chat", "the cat dog"), ("la maison", "the")]


@pytest.fixture
def expected_scores(forward) -> str:
    values = PhraseScorer.load(forward, "cpu").score(PAIRS)
    assert len(set(values.tolist())) == len(PAIRS)
    return "".join(f"{value:.6f}\n" for value in values)


@pytest.mark.parametrize(
    "line", ["{}\t{}", "{} ||| {}", "{}|||{}", "{} ||| {} ||| 1 1 ||| 0-0", "{}\t{}\tmore"]
)
def test_score_writes_a_number_a_line(line, run, folder, forward, expected_scores):
    (folder / "p").write_text("\n".join(line.format(*pair) for pair in PAIRS))
    done = run("score", "p", "--model", forward)
    assert (done.code, done.out, done.err) == (0, expected_scores, "")
    assert all(re.fullmatch(r"-\d+\.\d{6}", number) for number in done.out.splitlines())
    assert run("score", "p", "--model", forward, "--output", "o.gz").out == ""
    assert gzip.decompress((folder / "o.gz").read_bytes()).decode() == expected_scores


def test_score_reads_standard_input(run, forward, expected_scores, monkeypatch):
    text = "".join(f"{source}\t{target}\n" for source, target in PAIRS).encode()
    for arguments in (["-"], []):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        assert run("score", *arguments, "--model", forward).out == expected_scores


def test_score_of_an_inverse_model(run, folder):
    model = save_model(folder / "rnn", direction="inverse")
    (folder / "p").write_text("the house\tla maison\n")
    done = run("score", "p", "--model", "rnn")
    value = PhraseScorer.load(model, "cpu").score([("the house", "la maison")])[0]
    assert done.out == f"{value:.6f}\n"
    assert done.err == "the model is inverse: scores are ln p(source | target)\n"


def test_score_of_nothing_is_nothing(run, folder, forward):
    (folder / "p").write_bytes(b"")
    done = run("score", "p", "--model", forward)
    assert (done.code, done.out) == (0, "")


def test_check_of_a_good_table(run, folder):
    (folder / "t").write_bytes(GOOD)
    (folder / "ini").write_text(INI.format("t"))
    done = run("check", "t", "--moses-ini", "ini")
    assert (done.code, done.err) == (0, "")
    assert done.out == "t: 4 entries with 2 scores; 0 errors, 0 warnings\n"


def test_check_tells_errors_and_exits_1(run, folder):
    (folder / "t").write_bytes(GOOD + b"\nm ||| x ||| 1 -1\nn\x07 ||| x ||| 1 1\n")
    done = run("check", "t")
    assert (done.code, done.err) == (1, "")
    assert done.out.splitlines() == [
        't:5: blank line: ""',
        't:6: negative score (Moses takes the logarithm of each): "-1"',
        't:7: warning: control character in a line: "n\\x07 ||| x ||| 1 1"',
        "t: 7 entries with 2 scores; 2 errors, 1 warnings",
    ]


def test_check_shows_twenty_of_a_kind_unless_all_are_wanted(run, folder):
    (folder / "t").write_bytes(GOOD + b"m  n ||| x ||| 1 1\n" * 1025)
    done = run("check", "t")
    assert done.code == 0
    shown = done.out.splitlines()
    kind = "warning: double blank (CreateProbingPT takes it for one more score or word)"
    assert len(shown) == 22
    assert shown[19] == f't:24: {kind}: "m  n ||| x ||| 1 1"'
    assert shown[20] == f"t: {kind}: 1,005 more"
    assert shown[21] == "t: 1,029 entries with 2 scores; 0 errors, 1,025 warnings"
    assert len(run("check", "t", "--all").out.splitlines()) == 1026


def test_info(run, forward):
    done = run("info", forward)
    assert (done.code, done.err) == (0, "")
    facts = dict(re.split(r"  +", line, maxsplit=1) for line in done.out.splitlines())
    assert facts["direction"] == "forward"
    assert facts["hidden"] == "6"
    assert facts["source_words"] == "8"
    assert facts["fingerprint"] == ModelDirectory(forward).fingerprint()
    assert facts["written by"] == f"phrase-scorer {__version__}"
    as_json = json.loads(run("info", forward, "--json").out)
    assert as_json["hidden"] == 6
    assert list(as_json) == list(facts)


def test_estimate_writes_nothing(run, folder, forward):
    (folder / "t").write_bytes(GOOD + b"Haus Haus Haus ||| house ||| 1 1\n")
    done = run("rescore", "t", "out", "--model", forward, "--estimate")
    assert done.code == 0
    shown = done.out.splitlines()
    assert shown[:4] == [
        "entries            5 (sample: 5)",
        "distinct sources   5 in the sample, 1.00 targets each",
        "unknown words      source: 30.00% of 10",
        "unknown words      target: 0.00% of 8",
    ]
    assert re.fullmatch(r"speed              [\d,]+ entries/s", shown[4])
    assert done.err == UNKNOWN.format("30%", "source", "Haus") + "\n"
    assert names(folder) == ["t"]


# -- train -----------------------------------------------------------------------------------------

TINY = ["--max-updates", "6", "--batch-pairs", "4", "--validate-every", "3", "--quiet"]


def test_train_then_all_commands(run, folder):
    (folder / "t").write_bytes(GOOD)
    done = run("train", "t", "--model", "rnn", *TINY)
    assert (done.code, done.out) == (0, "")
    first, last = done.err.splitlines()
    assert first == "4 pairs; 7 source and 6 target words in the shortlists; device cpu"
    assert re.fullmatch(
        r"stopped by updates after 6 updates, 0\.\d minutes; best validation \d\.\d{4} nats a "
        r"target symbol \(update [36]\)",
        last,
    )
    (folder / "p").write_text("la maison\tthe house\n")
    (number,) = run("score", "p", "--model", "rnn").out.splitlines()
    assert run("rescore", "t", "out", "--model", "rnn", "--quiet").code == 0
    line = (folder / "out").read_bytes().split(b"\n")[0]
    score = float(line.split(b" ||| ")[2].split()[-1])
    assert np.log(score) == pytest.approx(float(number), abs=1e-5)
    assert run("check", "out").out.splitlines()[-1] == (
        "out: 4 entries with 3 scores; 0 errors, 0 warnings"
    )
    facts = json.loads(run("info", "rnn", "--json").out)
    assert facts["updates"] == 6
    assert facts["data: path"] == "t"
    assert facts["data: pairs"] == 4
    assert facts["training: batch_pairs"] == 4


def test_train_inverse_scores_the_source(run, folder):
    (folder / "t").write_bytes(GOOD)
    done = run("train", "t", "--model", "rnn", "--direction", "inverse", *TINY)
    assert done.code == 0
    assert done.err.startswith("4 pairs; 6 source and 7 target words in the shortlists; ")
    assert b"house" in (folder / "rnn" / "source.vocab").read_bytes()
    assert json.loads(run("info", "rnn", "--json").out)["direction"] == "inverse"


def test_train_will_not_overwrite_a_model_unless_told(run, folder):
    (folder / "t").write_bytes(GOOD)
    assert run("train", "t", "--model", "rnn", *TINY).code == 0
    before = (folder / "rnn" / "model.safetensors").read_bytes()
    done = run("train", "t", "--model", "rnn", *TINY)
    expected = "rnn holds a model; --resume continues it, --overwrite replaces it"
    assert (done.code, done.error) == (2, expected)
    assert (folder / "rnn" / "model.safetensors").read_bytes() == before
    assert run("train", "t", "--model", "rnn", "--overwrite", "--seed", "2", *TINY).code == 0
    assert (folder / "rnn" / "model.safetensors").read_bytes() != before


def test_nothing_to_resume(run, folder):
    (folder / "t").write_bytes(GOOD)
    done = run("train", "t", "--model", "rnn", "--resume", *TINY)
    expected = "rnn: nothing to resume: there is no training_state.safetensors"
    assert (done.code, done.error) == (1, expected)
    assert names(folder) == ["t"]


def test_weight_by_count(run, folder):
    (folder / "t").write_bytes(GOOD)
    assert run("train", "t", "--model", "plain", *TINY).code == 0
    assert run("train", "t", "--model", "weighed", "--weight-by-count", *TINY).code == 0
    plain, weighed = (folder / name / "model.safetensors" for name in ("plain", "weighed"))
    assert plain.read_bytes() != weighed.read_bytes()


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_signal_saves_the_state_and_resume_continues(name, code, run, folder):
    (folder / "t").write_bytes(GOOD)
    settings = ["--schedule", "constant", "--batch-pairs", "2", "--patience", "0", "--quiet"]
    started = subprocess.Popen(
        [*PROGRAM, "train", "t", "--model", "rnn", "--max-updates", "1000000", *settings],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        _wait_for_a_line(folder / "rnn" / "training_log.jsonl")
        started.send_signal(getattr(signal, name))
        out, err = started.communicate(timeout=30)
    finally:
        started.kill()
    assert (started.returncode, out) == (code, b"")
    _, stopped, hint = err.decode().splitlines()
    assert hint == "the state is saved; --resume continues"
    match = re.match(rf"stopped by {name} after (\d+) updates, ", stopped)
    assert match, stopped
    updates = int(match[1])
    assert updates >= 50
    more = str(updates + 3)
    done = run("train", "t", "--model", "rnn", "--resume", "--max-updates", more, *settings)
    assert done.code == 0
    assert done.err.splitlines()[1].startswith(f"stopped by updates after {more} updates, ")


def _wait_for_a_line(path: Path) -> None:
    for _ in range(600):
        if path.exists() and path.stat().st_size:
            return
        time.sleep(0.05)
    raise AssertionError("the training did not begin")


# -- pipes -----------------------------------------------------------------------------------------


def test_a_reader_that_has_seen_enough(folder, forward):
    """`phrase-scorer … | head -1` is quiet."""
    (folder / "p").write_bytes(b"la\tthe\n" * 50_000)
    (folder / "t").write_bytes(b"a  b ||| c ||| 1\n" * 20_000)
    for arguments in (["score", "p", "--model", forward], ["check", "--all", "t"]):
        command = shlex.join([*PROGRAM, *map(str, arguments)]) + " | head -1"
        done = subprocess.run(command, shell=True, capture_output=True, timeout=60)
        assert done.stdout.count(b"\n") == 1
        assert done.stderr == b""


def test_rescore_in_a_pipe(folder, forward, run):
    (folder / "t").write_bytes(GOOD)
    assert run("rescore", "t", "out", "--model", forward, "--quiet").code == 0
    for name in ("t", "out", "out.signature.json"):
        assert (folder / name).exists()
    done = program(*["rescore", "-", "-", "--model", forward, "--quiet"], input=gzip.compress(GOOD))
    assert (done.returncode, done.stderr) == (0, b"4 entries scored\n")
    assert done.stdout == (folder / "out").read_bytes()
    assert names(folder) == ["out", "out.signature.json", "t"]


def test_progress_does_not_share_the_line_of_an_error(run, folder, forward):
    (folder / "t").write_bytes(GOOD * 10_000 + b"broken\n")
    done = run("rescore", "t", "out", "--model", forward)
    assert done.code == 1
    *_, note, error = done.err.splitlines()
    assert error == f'error: t:40001: 1 field, {FEW}: "broken"'
    assert note == "32,768 lines are done and stay in out.partial; --resume goes on with them"
    assert names(folder) == ["out.journal", "out.partial", "t"]


def test_ctrl_c_in_rescore_leaves_nothing(folder, forward, monkeypatch, run):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    (folder / "t").write_bytes(GOOD)
    monkeypatch.setattr(PhraseScorer, "score_block", interrupted)
    done = run("rescore", "t", "out", "--model", forward, "--quiet")
    assert (done.code, done.err) == (130, "\ninterrupted\n")
    assert names(folder) == ["t"]


def test_module_runs_as_the_command(folder):
    done = program("check", "t")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"error: t: cannot read: No such file or directory\n"
    assert isinstance(build(), click.Group)
    assert os.listdir(folder) == []
