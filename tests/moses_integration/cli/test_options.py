"""Every option of every command, found by introspection: given twice, and numbers out of bounds."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from toys import TOY_INI, TOY_TABLE

from moses_integration.cli import command_line
from phrase_scorer.cli.options import Bounded, OnceOption

HUGE = "1" + 30 * "0"
# Numbers that may be 0 (some below, too): nothing to hold out, leave out, wait for or limit.
MAY_BE_ZERO = {
    *("patience", "checkpoint-minutes", "validation-pairs", "dropout", "short-histories", "seed"),
    *("initial-deviation", "table-limit", "sort-score", "prune", "floor", "forget-bias", "weight"),
    *("start-weight", "share", "threshold", "max-unknown", "label-smoothing"),
    "average-updates",
}


def options_of(
    command: click.Command, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Option]]:
    """(words of the command, option), of all commands and their commands."""
    for option in command.params:
        if isinstance(option, click.Option):
            yield words, option
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from options_of(inner, (*words, str(inner.name)))


OPTIONS = [
    (words, option)
    for words, option in options_of(command_line())
    if "--version" not in option.opts  # click's own; it ends at once
]
ONCE = [found for found in OPTIONS if not found[1].multiple and not found[1].is_flag]
KINDS = [
    (words, option, kind)
    for words, option in OPTIONS
    for kind in getattr(option.type, "types", [option.type])
]
NUMBERS = [(w, o) for w, o, kind in KINDS if isinstance(kind, Bounded) and o.nargs == 1]


def name_of(value: object) -> str:
    return value.opts[0] if isinstance(value, click.Option) else " ".join(map(str, value))


def test_every_option_refuses_a_second_value_and_every_number_has_bounds():
    assert len(ONCE) > 100
    assert len(NUMBERS) > 60
    for words, option, kind in KINDS:
        assert isinstance(option, OnceOption), (words, option)
        assert not isinstance(kind, click.types.IntParamType | click.types.FloatParamType)


@pytest.mark.parametrize(("words", "option"), ONCE, ids=name_of)
def test_a_value_given_twice(words, option, run):
    value = option.type.choices[0] if isinstance(option.type, click.Choice) else "3"
    values = [value] * option.nargs
    name = option.opts[0]
    done = run(*words, name, *values, name, *values)
    shown = " ".join(values)
    expected = f"{name} is given twice ({shown}, {shown}); it takes one value"
    assert (done.code, done.error) == (2, expected)


def test_a_value_given_often_or_strangely(run):
    done = run("align", "--model", "A", "--model", "", "--model", "B\n")
    expected = '--model is given 3 times (A, "", "B\\n"); it takes one value'
    assert (done.code, done.error) == (2, expected)


def test_flags_that_contradict_each_other(run):
    done = run("prepare", "--truecase", "a", "--lowercase")
    expected = "--truecase and --lowercase contradict each other; give one of them"
    assert (done.code, done.error) == (2, expected)
    done = run("prepare", "--lowercase", "a", "--lowercase", "--quiet", "--quiet")
    assert done.error.startswith("Missing option '--languages'.")


@pytest.mark.parametrize(("words", "option"), NUMBERS, ids=name_of)
def test_numbers_out_of_bounds(words, option, run):
    name = " ".join([*words, option.opts[0]])
    for value in ("nan", "inf", "-inf", "-1", "0", HUGE, "1" * 5000, "x", ""):
        done = run(*words, f"{option.opts[0]}={value}")
        assert done.code == 2
        is_legal = value in ("0", "-1") and option.type.least <= int(value) <= option.type.most
        is_legal &= not (option.type.above and value == "0")
        if not is_legal:
            assert done.error.startswith(f"{option.opts[0]} must be a "), value
            assert len(done.error) < 250
        else:
            assert done.error.startswith("Missing ")
            assert name.rpartition("--")[2] in MAY_BE_ZERO, value


def test_numbers_in_a_list(run):
    for option in ("--scales", "--distances"):
        for value in ("nan", "1,inf", "2,-1", "3,,4", f"4,{HUGE}", "0"):
            done = run("gradients", "--output-dir", "g", option, value)
            assert done.code == 2
            assert done.error.startswith(f"{option} must be a ")
    done = run("decode", "--moses-ini", "m", "--nbest", "n", HUGE)
    expected = f"--nbest must be a whole number from 1 to 2147483647, not {HUGE}"
    assert (done.code, done.error) == (2, expected)


def test_a_file_of_no_name_is_not_a_file_that_was_not_given(run, folder):
    """`--moses-ini-out "$INI"` of a variable that is not set wrote no moses.ini, and said nothing;
    `--model ""` was the current folder."""
    for option, rest in (
        ("--moses-ini-out", ["rescore", "t", "out", "--model", "rnn", "--moses-ini", "ini"]),
        ("--inverse-model", ["rescore", "t", "out", "--model", "rnn"]),
        ("--model", ["train", "t"]),
        ("--output", ["score", "t", "--model", "rnn"]),
    ):
        done = run(*rest, option, "")
        assert (done.code, done.error) == (2, f"{option} is empty")


def test_a_link_that_leads_to_itself(run, folder):
    (folder / "loop").symlink_to("loop")
    (folder / "ini").write_text(TOY_INI.format("t"))
    (folder / "t").write_bytes(TOY_TABLE)
    levels = "Too many levels of symbolic links"
    ini = ["--moses-ini", "ini", "--moses-ini-out", "loop"]
    done = run("rescore", "t", "out", "--model", "rnn", *ini)
    assert (done.code, done.error) == (2, f"--moses-ini-out loop: {levels}")
    done = run("ems", "--output-dir", "loop")
    assert (done.code, done.error) == (2, f"--output-dir loop: {levels}")
    done = run("score", "t", "--model", "rnn", "--output", "loop")
    assert (done.code, done.error) == (1, f"loop: cannot write: {levels}")
