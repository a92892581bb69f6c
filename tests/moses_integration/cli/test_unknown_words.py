"""Words that a model does not know: told after the first entries; --max-unknown stops there."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from itertools import product
from pathlib import Path

import pytest
from toys import GOLDEN, PROGRAM, SOURCE_WORDS, TARGET_WORDS, TOY_INI, TOY_TABLE, names, save_model

from moses_integration.formats.phrase_table import BLOCK_ENTRIES

WHY = "other casing, another language, or other tokenisation or escaping than in training?"
SOURCES = sorted(b" ".join(words) for words in product(SOURCE_WORDS, repeat=5))
TABLE = b"".join(
    b"%b ||| %b ||| 0.5 0.%05d\n" % (source, target, number)  # more than a megabyte
    for number, source in enumerate(SOURCES)
    for target in (b"black", b"black cat", b"cat", b"house")
)
SWAPPED = b"the house ||| la maison ||| 1 1\nthe ||| la ||| 1 1\n"
OTHERS = {
    "swapped": (SWAPPED, "first 3 source", "100%", "the house"),
    "raw text": (
        b"La maison, le chat! ||| the cat ||| 1 1\nla ||| the ||| 1 1\n",
        *("first 5 source", "60%", "La maison, chat!"),
    ),
    "casing": (
        b"la ||| THE Cat ||| 1 1\nle ||| the ||| 1 1\n",
        *("first 3 target", "67%", "THE Cat"),
    ),
}


def told(words: str, share: str, examples: str, models: str = "the model") -> str:
    return f"{share} of the {words} words are unknown to {models} ({examples} …)"


@pytest.mark.parametrize("kind", OTHERS)
def test_max_unknown_stops(kind, run, folder, model_path):
    text, words, share, examples = OTHERS[kind]
    (folder / "t").write_bytes(text)
    what = f"t: {told(words, share, examples)}, more than --max-unknown 0.2: {WHY}"
    commands = [["rescore", "t", "out"], ["rescore", "t", "--estimate"], ["rescore", "t", "-"]]
    commands.append(["prune", "t", "out", "--keep-best", "1"])
    commands.append(["prune", "t", "out", "--share", "0.5"])
    for command in commands:
        done = run(*command, "--model", model_path, "--max-unknown", "0.2", "--quiet")
        assert done == (1, "", f"error: {what}\n")
    assert names(folder) == ["t"]


def test_a_share_that_is_not_above_the_limit_is_scored(run, folder, model_path):
    (folder / "t").write_bytes(TOY_TABLE + b"le Haus ||| the ||| 1 1\n")  # 1 of 9, no more
    common = "--model", model_path, "--quiet"
    for share, code in (("0.12", 0), ("0.11111111", 1), ("0", 1), ("1", 0)):
        assert run("rescore", "t", f"out{share}", *common, "--max-unknown", share).code == code
    assert run("rescore", "t", "out", *common).err == "5 entries scored\n"
    what = told("first 9 source", "11%", "Haus")
    done = run("rescore", "t", "stopped", *common, "--max-unknown", "0.1")
    assert done.error == f"t: {what}, more than --max-unknown 0.1: {WHY}"


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", "2"])
def test_told_before_the_rest_is_read(threads, folder, model_path):
    """The table comes through a pipe, of which the end is held back until that is said."""
    text = 2 * TABLE.upper()
    command = ["rescore", "-", "out", "--model", model_path, "--quiet", "--threads", threads]
    with subprocess.Popen(
        [*PROGRAM, *command], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stderr
        process.stdin.write(text)
        process.stdin.flush()
        said = [process.stderr.readline().decode() for _ in range(2)]
        process.stdin.close()
        said += [process.stderr.read().decode()]
    lines = text.splitlines()[: 3 * BLOCK_ENTRIES]  # more than 20,000
    assert said == [
        *(f"warning: {told_of(side, lines)}: {WHY}\n" for side in ("source", "target")),
        f"{8 * len(SOURCES):,} entries scored\n",
    ]


def told_of(side: str, lines: list[bytes]) -> str:
    """Where all of these lines are unknown."""
    words = Counter(w for line in lines for w in line.split(b" ||| ")[side == "target"].split())
    examples = b" ".join(word for word, _ in words.most_common(5)).decode()
    return told(f"first {words.total():,} {side}", "100%", examples)


def test_several_processes_stop_as_one(run, folder, model_path):
    (folder / "t").write_bytes(TABLE.upper())
    (folder / "ini").write_text(TOY_INI.format("t"))
    assert (folder / "t").stat().st_size > 1 << 20  # else one process would do it all
    command = ["rescore", "t", "out", "--model", model_path, "--threads", "2", "--quiet"]
    command += ["--moses-ini", "ini", "--moses-ini-out", "new", "--max-unknown", "0.5"]
    done = run(*command)
    assert done.error.startswith("t: 100% of the first ")
    assert names(folder) == ["ini", "t"]


def test_many_after_the_beginning_are_told_at_the_end(run, folder, model_path):
    late = b"".join(b"zz %d ||| the ||| 1 1\n" % number for number in range(60_000))
    (folder / "t").write_bytes(TABLE + late)
    common = "--model", model_path, "--max-unknown", "0.6", "--quiet"
    warning = f"warning: {told('source', '44%', 'zz 0 1 2 3')}: {WHY}\n"
    assert run("rescore", "t", "out", *common) == (0, "", "91,104 entries scored\n" + warning)
    assert run("prune", "t", "small", *common, "--share", "0.8").err.startswith(warning)


def test_the_folder_form_makes_no_folder(run, folder, model_path):
    (folder / "old").mkdir()
    (folder / "old" / "t").write_bytes(SWAPPED)
    (folder / "old" / "moses.ini").write_text(TOY_INI.format("t"))
    command = "rescore", "old", "new", "--model", model_path, "--quiet", "--max-unknown", "0.9"
    what = told("first 3 source", "100%", "the house")
    assert run(*command).error == f"{folder}/old/t: {what}, more than --max-unknown 0.9: {WHY}"
    assert names(folder) == ["old"]


def test_each_model_is_told_of(run, folder, model_path):
    """Once: those of one shortlist together, and by name where others know the words."""
    save_model(Path("twin"), seed=6)
    save_model(Path("other"), [b"Haus", *SOURCE_WORDS], [b"Ding", *TARGET_WORDS], seed=7)
    shutil.copytree(model_path, "one")
    (folder / "t").write_bytes(b"le Haus ||| the Ding ||| 1 1\n")
    common = ["rescore", "t", "out", "--quiet", "--allow-duplicate"]
    both = ["--model", "one", "--model", "twin"]
    sides = ("source", "Haus"), ("target", "Ding")
    for models, which in (
        (both, "the models"),
        ([*both, "--model", "other"], "the models one, twin"),
        (["--model", "other", "--model", "twin"], "the model twin"),
    ):
        assert run(*common, *models).err == "".join(
            f"warning: {told(f'first 2 {side}', '50%', word, which)}: {WHY}\n"
            for side, word in sides
        ) + "1 entries scored\n"  # fmt: skip


def test_an_inverse_model_is_told_of_by_the_sides_of_the_table(run, folder, inverse_path):
    (folder / "t").write_bytes(b"the Haus ||| la maison ||| 1 1\n")
    done = run("rescore", "t", "out", "--inverse-model", inverse_path, "--max-unknown", "0.4")
    assert done.last_error.startswith(f"t: {told('first 2 source', '50%', 'Haus')}, more than")


def test_nbest_stops_before_it_scores(run, folder, model_path):
    odd = GOLDEN / "nbest" / "odd"
    files = [odd / "factored", "--source", odd / "source.factored.en"]
    command = ["nbest", *files, "--output", "out", "--quiet", "--model", model_path]
    for level in ("sentence", "phrase"):
        done = run(*command, "--level", level, "--max-unknown", "0.5")
        assert (done.code, done.out) == (1, "")
        assert done.error.startswith(f"{files[0]}: 100% of the first ")
        assert done.error.endswith(f", more than --max-unknown 0.5: {WHY}")
    assert names(folder) == []


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("nbest t --source s --lm a --max-unknown 0.2",
         "--max-unknown needs --model, --inverse-model or --cslm"),
        ("nbest t --rerank w --max-unknown 0.2",
         "--max-unknown needs --model, --inverse-model or --cslm"),
        ("prune t out --by 1 --share 0.5 --max-unknown 0.2", "--max-unknown needs --model"),
        ("rescore t out --model m --max-unknown 20",
         "--max-unknown must be a number from 0 to 1, not 20"),
    ],
)  # fmt: skip
def test_refused(command, expected, run, folder):
    done = run(*command.split())
    assert (done.code, done.error) == (2, expected)
