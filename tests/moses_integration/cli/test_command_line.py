"""What all commands share: help, usage errors, standard output, what is imported.

Most tests call `main(argv)`; pipes and limits on files need a process of their own.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from itertools import chain

import click
import pytest
from toys import PROGRAM, TOY_INI, TOY_TABLE, names, program

from moses_integration.cli import command_line
from phrase_scorer.version import __version__

COMMANDS = sorted(command_line().commands)


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
    commands = command_line().commands
    text = (commands[command].epilog or "").replace("\\\n", "")
    examples = re.findall(r"phrase-scorer ((?:\"[^\"]*\"|[^|>\n\"])*)", text)
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


def test_help_shows_the_commands_in_the_order_of_work(run):
    sections = re.split(r"^(\S.*):$", run("--help").out, flags=re.MULTILINE)[3:]  # after options
    shown = {
        heading: re.findall(r"^  (\S+)", text, re.MULTILINE)
        for heading, text in zip(sections[::2], sections[1::2], strict=True)
    }
    assert shown == {
        "The column": ["train", "rescore", "join", "strip", "score", "check", "info"],
        "With Moses": [
            *("prepare", "filter", "prune", "tune", "decode", "nbest", "evaluate"),
            *("ini", "binarize", "ems"),
        ],
        "Language model": ["train-lm", "perplexity", "export-arpa"],
        "Looking inside": ["report", "generate", "align", "vectors"],
        "Studies": ["gradients", "experiment"],
    }
    assert sorted(chain.from_iterable(shown.values())) == COMMANDS


def test_both_packages_run_as_the_program(folder):
    told = [
        subprocess.run([sys.executable, "-m", name, "-h"], capture_output=True, timeout=60)
        for name in ("phrase_scorer", "moses_integration")
    ]
    assert told[0].stdout == told[1].stdout
    assert [(done.returncode, done.stderr) for done in told] == [(0, b"")] * 2
    done = subprocess.run([sys.executable, "-m", "phrase_scorer", "check", "t"], timeout=60)
    assert done.returncode == 1


@pytest.mark.parametrize("name", ["train", "train-lm", "rescore"])
def test_long_helps_stand_under_headings(name, run):
    command = command_line().commands[name]
    out = run(name, "--help").out
    headings = re.findall(r"^(\S.*):$", out.partition("\n\n")[2], re.MULTILINE)
    assert headings == [*command.headings, "Running"]
    known = {parameter.name for parameter in command.params}
    if name == "rescore":
        assert set(" ".join(command.headings.values()).split()) <= known
    for option in command.params:
        if isinstance(option, click.Option):
            assert out.count(f"  {option.opts[0]}") or out.count(f", {option.opts[-1]}")


def test_the_core_has_a_command_line_of_its_own():
    """Where what the distribution names as its program is not there."""
    code = (
        "import runpy, sys; sys.modules['moses_integration'] = None; sys.argv[1:] = ['--help']; "
        "runpy.run_module('phrase_scorer', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\n  score " in done.stdout
    assert b"With Moses" not in done.stdout


def test_version(run):
    assert run("--version").out == run("-V").out == f"phrase-scorer, version {__version__}\n"


@pytest.mark.parametrize("group", [command_line(), command_line().commands["experiment"]])
def test_a_group_says_of_a_command_what_its_help_says(group):
    for name in group.commands:
        assert group.summary_of(name) == group.commands[name].get_short_help_str(limit=1000)
        assert group.commands[name].name == name
    assert set(chain.from_iterable(group.sections.values())) == set(group.commands)


IMPORTED = """
import sys
from moses_integration.cli import main
code = main(sys.argv[1:])
print(*sys.modules, file=sys.stderr)
sys.exit(code)
"""


def imported_by(*arguments: object, **options: object) -> set[str]:
    """The modules that a command has imported at its end."""
    command = [sys.executable, "-c", IMPORTED, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, timeout=60, text=True, **options)
    assert done.returncode in (0, 1), done.stderr
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [["--help"], ["-V"], ["experiment", "--help"], []])
def test_help_imports_no_command(arguments, folder):
    """Nor does the completion of their names."""
    completion = {"_PHRASE_SCORER_COMPLETE": "bash_complete", "COMP_CWORD": "1"}
    env = os.environ | ({} if arguments else completion | {"COMP_WORDS": "phrase-scorer r"})
    if not arguments:
        code = "from moses_integration.cli import main; main([])"
        code = code.replace("main([])", "import sys, atexit; atexit.register(lambda: "
                            "print(*sys.modules, file=sys.stderr)); main([])")  # fmt: skip
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
        assert done.stdout == "plain,report\nplain,rescore\n"
        modules = set(done.stderr.split())
    else:
        modules = imported_by(*arguments)
    assert "phrase_scorer.cli.groups" in modules
    assert not modules & {
        "phrase_scorer.cli.score",
        "moses_integration.cli.rescore",
        "numpy",
        "tqdm",
    }


def test_a_command_imports_no_other(folder):
    (folder / "t").write_bytes(TOY_TABLE)
    modules = imported_by("check", "t")
    assert "moses_integration.cli.check" in modules
    others = {
        "moses_integration.cli.decoder",
        "moses_integration.cli.rescore",
        "phrase_scorer.cli.train",
    }
    assert not modules & (others | {"moses_integration.decoder.tuning", "matplotlib", "sacrebleu"})


@pytest.mark.parametrize(
    "arguments",
    [
        ["rescore", "--help"],
        ["check", "t", "--moses-ini", "ini"],
        ["ini", "ini", "--output", "new.ini"],
        ["filter", "--moses-ini", "ini", "--input", "text", "--output-dir", "f"],
        ["prune", "t", "p", "--by", "1", "--keep-best", "1"],
        ["strip", "signed", "s"],
        ["evaluate", "--reference", "text", "a=text"],
        ["decode", "--moses-ini", "ini", "--input", "text", "--moses-bin", "bin"],
        ["tune", "--moses-ini", "ini", "--source", "text", "--reference", "text",
         "--working-dir", "w", "--moses-bin", "bin"],
        ["binarize", "t", "--format", "probing", "--output", "b", "--moses-bin", "bin"],
        ["experiment", "run", "--config", "none.toml", "--output-dir", "e"],
        # What is refused before a model is loaded.
        ["train", "none", "--model", "new"],
        ["train", "t", "--model", "new", "--architecture", "gru"],
        ["train", "t", "--model", "new", "--heads", "4"],
        ["train", "t", "--model", "new", "--cell", "elman"],
        ["train", "t", "--model", "new", "--device", "gpu"],
        ["train", "t", "--model", "new", "--resume"],
        ["train-lm", "none", "--model", "new"],
        ["train-lm", "text", "--model", "new", "--validation", "none"],
        ["score", "none", "--model", "MODEL"],
        ["score", "t", "--model", "none"],
        ["generate", "la", "--model", "none"],
        ["align", "none", "--model", "MODEL"],
        ["vectors", "none", "--model", "MODEL"],
        ["report", "none"],
        ["perplexity", "none", "--model", "MODEL"],
        ["export-arpa", "--model", "none", "--arpa", "text", "--output", "a"],
        ["nbest", "text", "--source", "text", "--model", "none"],
        ["prune", "t", "p", "--model", "none", "--keep-best", "1"],
        ["rescore", "t", "out", "--model", "none"],
        ["gradients", "--output-dir", "g", "--cells", "elman"],
        ["gradients", "--output-dir", "g", "--text", "none"],
        ["experiment", "systems", "none", "--output-dir", "e"],
        ["info", "MODEL"],
        ["info", "MODEL", "--format", "json"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)  # fmt: skip
def test_torch_is_imported_only_where_a_model_computes(arguments, folder, model_path):
    (folder / "t").write_bytes(TOY_TABLE)
    (folder / "signed").write_bytes(TOY_TABLE)
    columns = [{"place": 1, "name": "x", "model": "m", "floor": -50.0}]
    signature = {"format": 1, "columns": columns}
    (folder / "signed.signature.json").write_text(json.dumps(signature))
    (folder / "text").write_bytes(b"la maison\n")
    (folder / "ini").write_text(TOY_INI.format("t"))
    (folder / "bin").mkdir()
    words = [str(model_path) if word == "MODEL" else word for word in arguments]
    command = [sys.executable, "-c", IMPORTED, *words]
    done = subprocess.run(command, capture_output=True, timeout=60, text=True)
    assert "Traceback" not in done.stderr
    assert "torch" not in done.stderr.splitlines()[-1].split()


# -- usage errors ----------------------------------------------------------------------------------


USAGE = [
    (["nope"], "No such command 'nope'."),
    (["check"], "Missing argument 'PHRASE_TABLE'."),
    (["check", "t", "--nope"], "No such option '--nope'."),
    (["train", "t"], "Missing option '--model'."),
    (
        ["train", "t", "--model", "m", "--max-updates", "x"],
        "--max-updates must be a whole number from 1 to 2147483647, not x",
    ),
    (["train", "t", "--model", "m", "--preset", "huge"], "'huge' is not one of 'small', 'base', "),
    (
        ["train", "t", "--model", "m", "--shortlist", "1"],
        "--shortlist must be a whole number from 2 to 2147483647, not 1",
    ),
]


@pytest.mark.parametrize(("arguments", "expected"), USAGE)
def test_usage_error_of_the_parser(arguments, expected, run):
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert expected in done.error


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
            "--weight must be a number from -1000000 to 1000000, not nan",
        ),
        (
            ["rescore", "t", "o", "--moses-ini", "ini", "--table-name", "TM7"],
            'ini: no phrase table "TM7" among TM0; choose one with --table-name',
        ),
        (["rescore", "t", "o", "--floor", "0"], "--floor must be from -87 to below 0, not 0"),
        (
            ["rescore", "t", "o", "--threads", "0"],
            "--threads must be a whole number from 1 to 4096, not 0",
        ),
        (
            ["score", "t", "--device", "gpu"],
            "unknown device 'gpu'; choose from auto, cpu, cuda, cuda:N",
        ),
        (
            ["train", "t", "--max-updates", "0"],
            "--max-updates must be a whole number from 1 to 2147483647, not 0",
        ),
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
def test_usage_error(arguments, expected, run, folder, model_path):
    (folder / "t").write_bytes(TOY_TABLE)
    (folder / "p.tsv").write_bytes(b"la\tthe\n")
    (folder / "ini").write_text(TOY_INI.format("t"))
    before = names(folder)
    if arguments[-1] == "--overwrites-not":
        arguments = [*arguments[:-1], "--model", "m"]
        (folder / "m").symlink_to(model_path)
        before = names(folder)
    elif arguments[0] == "train":
        arguments = [*arguments, *([] if "--model" in arguments else ["--model", "new"])]
    else:
        arguments = [*arguments, "--model", model_path]
    done = run(*arguments, *(["--quiet"] if arguments[0] != "score" else []))
    assert done.code == 2
    assert done.error == expected
    assert names(folder) == before


def test_debug_shows_where(run, folder):
    done = run("--debug", "check", "t")
    assert done.code == 1
    assert done.err.startswith("Traceback (most recent call last):\n")
    assert done.err.endswith("\nerror: t: cannot read: No such file or directory\n")


# -- standard output -------------------------------------------------------------------------------


def test_standard_output_is_full(folder, model_path):
    (folder / "t").write_bytes(TOY_TABLE)
    with open("/dev/full", "wb") as full:
        for command in (["score", "t", "--model", model_path], ["--version"]):
            done = subprocess.run(
                [*PROGRAM, *command], stdout=full, stderr=subprocess.PIPE, timeout=60
            )
            assert done.returncode == 1
            assert re.fullmatch(rb"error: .*: No space left on device\n", done.stderr)


def test_a_reader_that_has_seen_enough(folder, model_path):
    """`phrase-scorer … | head -1` is quiet."""
    (folder / "p").write_bytes(b"la\tthe\n" * 50_000)
    (folder / "t").write_bytes(b"a  b ||| c ||| 1\n" * 20_000)
    for arguments in (["score", "p", "--model", model_path], ["check", "--all", "t"]):
        command = shlex.join([*PROGRAM, *map(str, arguments)]) + " | head -1"
        done = subprocess.run(command, shell=True, capture_output=True, timeout=60)
        assert done.stdout.count(b"\n") == 1
        assert done.stderr == b""


def test_module_runs_as_the_command(folder):
    done = program("check", "t")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"error: t: cannot read: No such file or directory\n"
    assert isinstance(command_line(), click.Group)
    assert os.listdir(folder) == []
