"""Bad tables, models and texts: one line says which file, which line, which text; exit code 1.

Nothing is left under the output's name.
"""

from __future__ import annotations

import gzip
import json
import re

import pytest
from toys import DATA, TOY_INI, TOY_LINES, TOY_TABLE, names, save_model

from moses_integration.formats.table_pairs import NO_PAIR
from phrase_scorer.errors import quoted

FEW = "expected at least 3 (source ||| target ||| scores)"

CUT_SHORT = (
    "compressed data is broken or cut short (Compressed file ended before the end-of-stream "
    "marker was reached)"
)

BAD_LINES = {
    "missing fields": (b"a ||| b", f'2 fields, {FEW}: "a ||| b"'),
    "blank line": (b"", 'blank line: ""'),
    "no number": (b"a ||| b ||| 1 0,5", 'a score is not a number: "0,5"'),
    "nan": (b"a ||| b ||| nan 1", 'a score must be finite (Moses reads float32): "nan"'),
    "inf": (b"a ||| b ||| 1 inf", 'a score must be finite (Moses reads float32): "inf"'),
    "negative": (
        b"a ||| b ||| 1 -0.5 ||| 0-0",
        'negative score (Moses takes the logarithm of each): "-0.5"',
    ),
    "another count": (b"a ||| b ||| 1 1 1", '3 scores, expected 2: "1 1 1"'),
    "empty source": (b" ||| b ||| 1 1", 'empty source phrase: " ||| b ||| 1 1"'),
    "brackets": (
        b"see [1] ||| voir [1] ||| 1 1",
        '[ and ] must be escaped, &#91; and &#93; (Moses takes the word for a non-terminal): "[1]"',
    ),
}


@pytest.mark.parametrize("kind", BAD_LINES)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gz"])
def test_bad_line_stops_rescore(kind, pack, run, folder, model_path):
    line, expected = BAD_LINES[kind]
    (folder / "t").write_bytes(pack(b"\n".join([*TOY_LINES[:2], line, *TOY_LINES[2:]])))
    (folder / "ini").write_text(TOY_INI.format("t"))
    ini = ["--moses-ini", "ini", "--moses-ini-out", "new.ini"]
    done = run("rescore", "t", "out.gz", "--model", model_path, *ini, "--quiet")
    assert done.code == 1
    assert done.error == f"t:3: {expected}"
    assert names(folder) == ["ini", "t"]


@pytest.mark.parametrize("kind", BAD_LINES)
def test_bad_line_stops_train_score_and_estimate(kind, run, folder, model_path):
    line, expected = BAD_LINES[kind]
    (folder / "t").write_bytes(b"\n".join([*TOY_LINES[:2], line, *TOY_LINES[2:]]))
    for command in (
        ["train", "t", "--model", "new", "--quiet"],
        ["score", "t", "--model", model_path, "--output", "out"],
        ["rescore", "t", "--model", model_path, "--estimate"],
    ):
        done = run(*command)
        assert (done.code, done.error) == (1, f"t:3: {expected}")
    assert names(folder) == ["t"]


@pytest.mark.parametrize("kind", BAD_LINES)
def test_bad_line_is_kept_where_asked(kind, run, folder, model_path):
    line, _ = BAD_LINES[kind]
    (folder / "t").write_bytes(b"\n".join([*TOY_LINES[:2], line, *TOY_LINES[2:]]))
    done = run("rescore", "t", "out", "--model", model_path, "--on-bad-line", "keep", "--quiet")
    assert (done.code, done.out) == (0, "")
    assert done.err == "4 entries scored; 1 bad lines of t kept as they were\n"
    after = (folder / "out").read_bytes().split(b"\n")
    scores = line.split(b"|||")[2:3]
    expected = line.replace(scores[0].strip(), scores[0].strip() + b" 1") if scores else line
    assert after[2] == expected
    assert [len(after[place].split(b"|||")[2].split()) for place in (0, 1, 3, 4)] == [3] * 4


def test_first_line_is_bad(run, folder, model_path):
    for line, expected in (
        (b"a ||| b ||| ", 'no scores in the third field: ""'),
        (b"a ||| b", f'2 fields, {FEW}: "a ||| b"'),
        (b"", 'blank line: ""'),
    ):
        (folder / "t").write_bytes(line + b"\n" + TOY_TABLE)
        done = run("rescore", "t", "out", "--model", model_path, "--quiet")
        assert (done.code, done.error) == (1, f"t:1: {expected}")
    assert names(folder) == ["t"]


def test_where_all_lines_are_bad_none_is_scored(run, folder, model_path):
    (folder / "t").write_bytes(b"a ||| b\n\n")
    done = run("rescore", "t", "out", "--model", model_path, "--on-bad-line", "keep", "--quiet")
    assert done == (0, "", "0 entries scored; 2 bad lines of t kept as they were\n")
    assert (folder / "out").read_bytes() == b"a ||| b\n\n"


def test_number_of_scores_is_not_that_of_the_ini(run, folder, model_path):
    (folder / "t").write_bytes(TOY_TABLE)
    text = TOY_INI.format("t").replace("num-features=2", "num-features=4").replace("0.3", "0.3 1 1")
    (folder / "ini").write_text(text)
    ini = ["--moses-ini", "ini", "--moses-ini-out", "new.ini"]
    done = run("rescore", "t", "out", "--model", model_path, *ini, "--quiet")
    feature = text.splitlines()[2]
    expected = f'ini:3: num-features is 4 but the phrase table has 2 scores: "{feature}"'
    assert (done.code, done.error) == (1, expected)
    assert names(folder) == ["ini", "t"]
    done = run("check", "t", "--moses-ini", "ini")
    assert (done.code, done.error) == (1, expected)


def test_weights_of_the_ini_do_not_fit(run, folder, model_path):
    (folder / "t").write_bytes(TOY_TABLE)
    (folder / "ini").write_text(TOY_INI.format("t").replace("0.2 0.3", "0.2"))
    done = run("rescore", "t", "out", "--model", model_path, "--moses-ini", "ini", "--quiet")
    expected = 'ini:7: TM0 has 1 weights but num-features is 2 in line 3: "TM0= 0.2"'
    assert (done.code, done.error) == (1, expected)


# -- files that are broken, or something else ------------------------------------------------------


def test_gz_cut_short(run, folder, model_path):
    lines = [b"la %d ||| the ||| 1 1" % (n * 7919) for n in range(60_000)]
    packed = gzip.compress(b"\n".join(lines))
    for keep in (len(packed) - 9, len(packed) // 2, 15):
        (folder / "t.gz").write_bytes(packed[:keep])
        done = run("rescore", "t.gz", "out.gz", "--model", model_path, "--quiet")
        assert done.code == 1
        match = re.fullmatch(rf"t\.gz:(\d+): {re.escape(CUT_SHORT)}", done.last_error)
        assert match, done.last_error
        assert 1 <= int(match[1]) <= len(lines)
        left = [name for name in names(folder) if name != "t.gz"]
        assert left == ["out.gz.journal", "out.gz.partial"] * (int(match[1]) > 8192)
        for name in left:
            (folder / name).unlink()


def test_gz_broken_inside(run, folder, model_path):
    lines = [b"la %d ||| the ||| 1 1" % (n * 7919) for n in range(60_000)]
    packed = bytearray(gzip.compress(b"\n".join(lines)))
    packed[len(packed) // 2 : len(packed) // 2 + 40] = b"\xff" * 40
    (folder / "t.gz").write_bytes(packed)
    done = run("rescore", "t.gz", "out.gz", "--model", model_path, "--quiet")
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
def test_text_that_is_not_a_table(content, shown, run, folder, model_path):
    (folder / "t").write_bytes(content)
    done = run("rescore", "t", "out", "--model", model_path, "--quiet")
    assert (done.code, done.error) == (1, f"t:1: 1 field, {FEW}: {shown}")
    assert names(folder) == ["t"]


def test_text_that_is_no_list_of_pairs(run, folder, model_path):
    (folder / "t").write_bytes(b"Some prose.\n")
    for command in (["train", "t", "--model", "new"], ["score", "t", "--model", model_path]):
        done = run(*command)
        assert (done.code, done.error) == (1, f't:1: {NO_PAIR}: "Some prose."')
    assert names(folder) == ["t"]


def test_a_third_column_of_pairs(run, folder, model_path):
    """What stands in it would be dropped: a weight, or the target after a tab in the source."""
    for separator, shown in (("\t", "a tab"), (" ||| ", '"|||"')):
        line = separator.join(["la", "the", "1"])
        (folder / "t").write_text(f"la{separator}the\n{line}\n")
        commands = [["train", "t", "--model", "new"], ["score", "t", "--model", model_path]]
        for command in commands:
            done = run(*command, *["--quiet"] * (command[0] == "train"))
            expected = f"t:2: 3 columns, expected source, {shown}, target: {quoted(line)}"
            assert (done.code, done.error) == (1, expected)
    assert names(folder) == ["t"]


# -- model directories -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "missing", ["config.json", "model.safetensors", "source.vocab", "target.vocab"]
)
@pytest.mark.parametrize("command", ["rescore", "score", "info"])
def test_model_directory_is_incomplete(missing, command, run, folder):
    (folder / "t").write_bytes(TOY_TABLE)
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
    (folder / "t").write_bytes(TOY_TABLE)
    done = run("rescore", "t", "out", "--model", "rnn", "--quiet")
    assert (done.code, done.error) == (1, "rnn: not a model directory: it does not exist")


def test_model_of_a_newer_format(run, folder):
    (folder / "t").write_bytes(TOY_TABLE)
    config = save_model(folder / "rnn") / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "format": 2}))
    done = run("rescore", "t", "out", "--model", "rnn", "--quiet")
    expected = (
        "rnn/config.json: format 2 is newer than this program knows (1); update phrase-scorer"
    )
    assert (done.code, done.error) == (1, expected)
    assert names(folder) == ["rnn", "t"]


def test_model_of_the_other_direction(run, folder):
    (folder / "t").write_bytes(TOY_TABLE)
    save_model(folder / "rnn", direction="inverse")
    done = run("rescore", "t", "out", "--model", "rnn", "--quiet")
    expected = (
        "rnn: the model was trained in the other direction, p(source | target); "
        "train one with --direction forward"
    )
    assert (done.code, done.error) == (1, expected)
    assert names(folder) == ["rnn", "t"]


@pytest.mark.parametrize("content", [b"", gzip.compress(b"", mtime=0)])
def test_empty_table(content, run, folder, model_path):
    (folder / "t").write_bytes(content)
    for command in (
        ["rescore", "t", "out", "--model", model_path, "--quiet"],
        ["rescore", "t", "--model", model_path, "--estimate"],
        ["train", "t", "--model", "new", "--quiet"],
        ["check", "t"],
    ):
        done = run(*command)
        what = "no pairs to train on" if command[0] == "train" else "the phrase table is empty"
        assert (done.code, done.error) == (1, f"t: {what}")
    assert names(folder) == ["t"]


def test_table_that_is_not_there(run, folder, model_path):
    done = run("rescore", "t", "out", "--model", model_path, "--quiet")
    assert (done.code, done.error) == (1, "t: cannot read: No such file or directory")
    done = run("check", ".")
    assert (done.code, done.error) == (1, ".: cannot read: Is a directory")


@pytest.mark.parametrize(
    "command",
    [
        "rescore {} out --model {model} --quiet",
        "rescore {} out --model {model} --quiet --on-bad-line keep --precision int8",
        "rescore {} --model {model} --estimate",
        "check {}",
        "score {} --model {model}",
        "train {} --model new --quiet --max-updates 1",
    ],
)
def test_a_reordering_table_is_no_phrase_table(command, run, folder, model_path):
    table = DATA / "model" / "reordering-table.wbe-msd-bidirectional-fe.gz"
    lines = gzip.decompress(table.read_bytes()).splitlines(keepends=True)[:1000]
    (folder / "t").write_bytes(b"".join(lines))
    words = command.format("t", model=model_path).split()
    assert run(*words)[::2] == (
        1,
        "error: t: looks like a reordering table: 6 scores of two groups that sum to 1, no "
        "alignment (1,000 lines); rescore, check, score and train take it with --any-table\n",
    )
    assert names(folder) == ["t"]
    assert run(*words, "--any-table").code == 0
