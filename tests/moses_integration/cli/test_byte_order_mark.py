"""A UTF-8 byte order mark at the start of a file is stripped, told of once, or refused."""

from __future__ import annotations

import gzip

import pytest
from toys import TOY_INI, TOY_TABLE

from phrase_scorer.models.directory import ModelDirectory

MARK = b"\xef\xbb\xbf"
PAIRS = b"la maison\tthe house\nla\tthe\nle\tthe\nchat\tcat\n"
TOLD = "warning: {} begins with a byte order mark, which is taken for a part of its text\n"


@pytest.mark.parametrize("content", [PAIRS, PAIRS.replace(b"\t", b" ||| "), TOY_TABLE])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_pairs_are_scored_and_learned_without_it(content, pack, run, folder, model_path):
    (folder / "bare").write_bytes(pack(content))
    (folder / "marked").write_bytes(pack(MARK + content))
    bare, marked = (run("score", name, "--model", model_path) for name in ("bare", "marked"))
    assert (marked.code, marked.out, marked.err) == (0, bare.out, bare.err)
    sizes = ["--shortlist", "9", "--max-updates", "1", "--threads", "1", "--quiet"]
    for name in ("bare", "marked"):
        assert run("train", name, "--model", f"of-{name}", *sizes).code == 0
    words = [ModelDirectory(folder / f"of-{n}").vocabularies()[0].words for n in ("bare", "marked")]
    assert words[0] == words[1]


def test_a_rescored_table_keeps_it_and_is_told_of(run, folder, model_path):
    (folder / "t").write_bytes(MARK + TOY_TABLE)
    done = run("rescore", "t", "out", "--model", model_path, "--quiet")
    assert done.code == 0
    assert done.err.count("byte order mark") == 1
    assert done.err.startswith(TOLD.format("t"))
    assert (folder / "out").read_bytes().startswith(MARK + TOY_TABLE[:10])
    checked = run("check", "t")
    what = "t:1: warning: byte order mark (Moses takes it for a part of the first word): "
    assert checked.code == 0
    assert checked.out.startswith(what)
    assert "byte order mark" not in checked.err


def test_a_moses_ini_is_refused(run, folder):
    (folder / "t").write_bytes(TOY_TABLE)
    (folder / "ini").write_bytes(MARK + TOY_INI.format("t").encode())
    done = run("check", "t", "--moses-ini", "ini")
    what = "a line before the first [section], here behind a byte order mark (Moses stops)"
    assert (done.code, done.error.partition(': "')[0]) == (1, f"ini:1: {what}")


def test_texts_are_evaluated_and_prepared_without_it(run, folder):
    (folder / "bare").write_text("the house is small .\n")
    (folder / "marked").write_bytes(MARK + b"the house is small .\n")
    bare = run("evaluate", "--reference", "bare", "--format", "json", "a=bare")
    for reference, output in (("marked", "bare"), ("bare", "marked")):
        done = run("evaluate", "--reference", reference, "--format", "json", f"a={output}")
        assert (done.code, done.out, done.err) == (0, bare.out, "")
    arguments = ["--languages", "en", "--output-dir", "prepared", "--quiet"]
    assert run("prepare", "marked", *arguments).code == 0
    assert (folder / "prepared" / "marked").read_bytes() == b"the house is small .\n"


def test_weights_and_lists(run, folder):
    hypotheses = b"0 ||| a ||| LM0= -1 ||| 0\n0 ||| b ||| LM0= -2 ||| 0\n"
    (folder / "list").write_bytes(hypotheses)
    (folder / "weights").write_bytes(MARK + b"LM0= -1\n")
    done = run("nbest", "list", "--rerank", "weights")
    assert (done.code, done.out) == (0, "b\n")
    (folder / "list").write_bytes(MARK + hypotheses)
    done = run("nbest", "list", "--rerank", "weights")
    assert (done.code, done.error) == (
        1, 'list:1: the sentence number is not a number: "\\ufeff0"',
    )  # fmt: skip


def test_an_input_to_filter_for_is_told_of(run, folder):
    (folder / "t").write_bytes(TOY_TABLE)
    (folder / "ini").write_text(TOY_INI.format("t"))
    (folder / "input").write_bytes(MARK + b"a b\n")
    done = run("filter", "--moses-ini", "ini", "--input", "input", "--output-dir", "o", "--quiet")
    assert done.code == 0
    assert done.err.startswith(TOLD.format("input"))
