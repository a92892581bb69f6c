"""`prune` against the obvious way: all entries in memory, sorted by score."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import DATA, TOY_INI, names

from moses_integration.formats.signature import SignedColumn, read_signature, write_signature
from moses_integration.rescoring.pruning import PruneRequest, prune
from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.scoring.scorer import PhraseScorer

needs_moses = pytest.mark.skipif(shutil.which("moses") is None, reason="Moses is not on the PATH")

Entry = tuple[str, str, float]


def table_text(entries: list[Entry]) -> str:
    return "".join(f"{s} ||| {t} ||| 0.5 {p!r} ||| 0-0 ||| 1 1 1\n" for s, t, p in entries)


def reordering_text(entries: list[Entry]) -> str:
    return "".join(f"{s} ||| {t} ||| 0.2 0.2 0.6\n" for s, t, _ in entries)


def kept(entries: list[Entry], how: dict[str, object]) -> list[Entry]:
    """By sorting all of them; of equal ones the first."""
    by_source = defaultdict(list)
    for place, (source, _, p) in enumerate(entries):
        by_source[source].append((-np.float32(p), place))
    ranked = {source: [place for _, place in sorted(all_)] for source, all_ in by_source.items()}
    best = set() if how.get("drop_sources") else {places[0] for places in ranked.values()}
    if n := how.get("keep_best"):
        chosen = {place for places in ranked.values() for place in places[:n]}
    elif (least := how.get("threshold")) is not None:
        chosen = {i for i, e in enumerate(entries) if np.float32(e[2]) >= np.float32(least)} | best
    else:
        order = sorted((-np.float32(e[2]), i) for i, e in enumerate(entries) if i not in best)
        more = max(0, round(how["share"] * len(entries)) - len(best))
        chosen = best | {i for _, i in order[:more]}
    return [entry for i, entry in enumerate(entries) if i in chosen]


probabilities = st.sampled_from([0.0, 1e-30, 0.1, 0.1000001, 0.25, 0.5, 1.0, 3.0]) | st.floats(
    0, 1, width=32
)
tables = st.dictionaries(
    st.sampled_from(["a", "a b", "b", "c", "d e"]),
    st.lists(probabilities, min_size=1, max_size=6),
    min_size=1,
).map(lambda d: [(s, f"t{i}", p) for s in sorted(d) for i, p in enumerate(d[s])])
rules = st.one_of(
    st.fixed_dictionaries({"keep_best": st.integers(1, 4)}),
    st.fixed_dictionaries({"threshold": probabilities, "drop_sources": st.booleans()}),
    st.fixed_dictionaries({"share": st.floats(0, 1), "drop_sources": st.booleans()}),
)


@given(tables, rules)
def test_the_entries_that_sorting_keeps(tmp_path_factory, entries, how):
    folder = tmp_path_factory.mktemp("prune")
    (folder / "t").write_text(table_text(entries))
    more = [("0", "x", 1.0), *entries, ("aa", "x", 1.0)]  # more sources than the phrase table has
    (folder / "r.gz").write_bytes(gzip.compress(reordering_text(sorted(more)).encode()))
    counts = prune(
        PruneRequest(
            str(folder / "t"), str(folder / "new.gz"), by="2", quiet=True,
            reordering_table=(str(folder / "r.gz"), str(folder / "new.r")), **how,
        )
    )  # fmt: skip
    expected = kept(entries, how)
    assert gzip.decompress((folder / "new.gz").read_bytes()).decode() == table_text(expected)
    assert (folder / "new.r").read_text() == reordering_text(expected)
    assert (counts.entries, counts.kept) == (len(entries), len(expected))
    assert (counts.reordering_entries, counts.kept_reordering) == (len(more), len(expected))
    assert counts.sources == len({s for s, _, _ in entries})
    assert counts.kept_sources == len({s for s, _, _ in expected})


def test_a_source_of_many_blocks_is_judged_as_one(tmp_path):
    entries = [("a", f"t{i}", (i * 7919 % 40_000) / 40_000) for i in range(40_000)]
    (tmp_path / "t").write_text(table_text([*entries, ("b", "x", 0.5)]))
    request = PruneRequest(
        str(tmp_path / "t"), str(tmp_path / "n"), by="2", keep_best=3, quiet=True
    )
    prune(request)
    best = [entry for entry in entries if entry[2] >= 39_997 / 40_000]
    assert (tmp_path / "n").read_text() == table_text([*best, ("b", "x", 0.5)])


def test_by_a_model_and_by_a_name_of_the_signature(tmp_path, run, folder, model_path):
    """The model's probabilities choose as the column does that they were written to."""
    lines = [f"la maison ||| {t} ||| 1 1\n" for t in ("the house", "the", "house the", "that")]
    (folder / "t").write_text("".join(lines))
    assert run("rescore", "t", "scored", "--model", model_path, "--quiet").code == 0
    best = int(np.argmax(PhraseScorer.load(model_path, "cpu").score(
        [tuple(line.split(" ||| ")[:2]) for line in lines]
    )))  # fmt: skip
    done = run("prune", "t", "small", "--model", model_path, "--keep-best", "1", "--quiet")
    assert (done.code, done.err) == (0, "1 of 4 entries kept (25.0%), of 1 of 1 sources\n")
    assert (folder / "small").read_text() == lines[best]
    by = ["--by", "p(target | source)", "--quiet"]
    assert run("prune", "scored", "small2", *by, "--keep-best", "1").code == 0
    assert (folder / "small2").read_text().startswith(lines[best].rstrip("\n"))
    assert read_signature("small2") == read_signature("scored")
    assert json.loads((folder / "small2.signature.json").read_text())["pruned_from"] == "scored"
    assert run("prune", "t", "small2", "--by", "1", "--keep-best", "1", "--quiet").code == 0
    assert names(folder) == ["scored", "scored.signature.json", "small", "small2", "t"]


def test_moses_ini_names_what_is_kept(run, folder):
    (folder / "model").mkdir()
    (folder / "model" / "t").write_text(table_text([("a", "x", 0.5), ("a", "y", 0.25)]))
    (folder / "model" / "r").write_text(reordering_text([("a", "x", 0.5), ("a", "y", 0.25)]))
    feature = "LexicalReordering name=LR0 num-features=3 type=wbe-msd path=r\n[weight]"
    (folder / "model" / "ini").write_text(TOY_INI.format("t").replace("[weight]", feature))
    done = run(
        "prune", "model/t", "t", "--by", "2", "--share", "0.5", "--quiet",
        "--reordering-table", "model/r", "r", "--moses-ini", "model/ini", "--moses-ini-out", "ini",
    )  # fmt: skip
    assert done.err.splitlines() == [
        "1 of 2 entries kept (50.0%), of 1 of 1 sources",
        "every source keeps its best entry, and no share is left; --drop-sources lets them go",
        "r: 1 of 2 entries kept",
        "ini names the new files; tune it",
    ]
    assert (folder / "ini").read_text() == (folder / "model" / "ini").read_text()
    assert (folder / "r").read_text() == "a ||| x ||| 0.2 0.2 0.6\n"


def test_what_is_not_in_step(run, folder):
    (folder / "t").write_text(table_text([("a", "x", 0.5), ("b", "y", 0.25)]))
    (folder / "r").write_text(reordering_text([("b", "y", 0), ("a", "x", 0)]))
    how = ["prune", "t", "n", "--by", "2", "--keep-best", "1", "--reordering-table", "r", "m"]
    done = run(*how, "--quiet")
    message = 'source phrase "b" is not in it, or it is sorted otherwise: the two must be in step'
    assert (done.code, done.error) == (1, f"r: {message}")
    assert names(folder) == ["r", "t"]
    (folder / "r").write_text("a ||| x\n")
    done = run(*how, "--quiet")
    assert (done.code, done.error) == (
        1, 'r:1: not source ||| target ||| probabilities: "a ||| x"',
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--share", "0.5"], 2, "give --by SCORE or --model DIR"),
        (["--by", "1", "--model", "m", "--share", "0.5"], 2, "give --by SCORE or --model DIR"),
        (["--by", "1"], 2, "give one of --threshold P, --keep-best N and --share X"),
        (
            ["--by", "1", "--keep-best", "1", "--drop-sources"], 2,
            "--keep-best keeps an entry of every source: not with --drop-sources",
        ),
        (["--by", "3", "--keep-best", "1"], 1, "t:1: there is no score 3 in 2 scores"),
        (
            ["--by", "rnn", "--keep-best", "1"], 1,
            't: no single score "rnn" in its signature (3: one, 4: two); give its number',
        ),
        (["--by", "1", "--share", "2"], 2, "--share must be a number from 0 to 1, not 2"),
        (
            ["--by", "1", "--share", "1", "--reordering-table", "r", "n"], 2,
            "--reordering-table would overwrite OUTPUT: n",
        ),
        (["--by", "1", "--share", "1", "--reordering-table", "r", "t"], 1,
         "t: the output would overwrite the input"),
    ],
)  # fmt: skip
def test_refusals(run, folder, options, code, message):
    (folder / "t").write_text(table_text([("a", "x", 0.5)]))
    (folder / "r").write_text(reordering_text([("a", "x", 0.5)]))
    write_signature("t", [SignedColumn(2, "one", "1", -50), SignedColumn(3, "two", "2", -50)], {})
    done = run("prune", "t", "n", *options, "--quiet")
    assert (done.code, done.out, done.error) == (code, "", message)
    assert names(folder) == ["r", "t", "t.signature.json"]


def test_share_of_standard_input(run):
    done = run("prune", "-", "n", "--by", "1", "--share", "0.5")
    assert (done.code, done.error) == (2, "--share reads the table twice: - must be a file")


def test_output_is_nothing_when_a_line_is_bad(folder):
    (folder / "t").write_text(table_text([("a", "x", 0.5)]) + "a ||| y\n")
    with pytest.raises(DataError, match="t:2: 2 fields"):
        prune(PruneRequest("t", "n", by="1", keep_best=1, quiet=True))
    assert names(folder) == ["t"]
    with pytest.raises(UsageError, match="give one of"):
        PruneRequest("t", "n", by="1")


@needs_moses
@pytest.mark.moses
def test_moses_decodes_with_both_tables(run, folder):
    """No missing entry is warned of, and what is kept translates as before where it was best."""
    model = DATA / "model"
    reordering = model / "reordering-table.wbe-msd-bidirectional-fe.gz"
    done = run(
        "prune", model / "phrase-table.gz", folder / "t.gz", "--by", "3", "--keep-best", "2",
        "--reordering-table", reordering, folder / "r.gz", "--quiet",
        "--moses-ini", DATA / "moses.ini", "--moses-ini-out", folder / "ini",
    )  # fmt: skip
    assert done.code == 0
    text = b"".join((DATA / "corpus" / "test.en").read_bytes().splitlines(keepends=True)[:20])
    found = subprocess.run(
        ["moses", "-f", "ini", "-threads", "1"], input=text, capture_output=True,
        cwd=folder, check=True, timeout=100,
    )  # fmt: skip
    assert len(found.stdout.splitlines()) == 20
    assert not re.search(rb"(?i)warn|missing|not found", found.stderr)
    lines = [gzip.decompress((folder / n).read_bytes()).splitlines() for n in ("t.gz", "r.gz")]
    keys = [[line.split(b" ||| ")[:2] for line in table] for table in lines]
    assert keys[0] == keys[1]
