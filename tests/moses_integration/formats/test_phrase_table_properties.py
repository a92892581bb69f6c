"""Random lines: the fast way through a block of entries and the slow one agree; nothing is lost."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from moses_integration.formats import phrase_table
from moses_integration.formats.phrase_table import (
    SEPARATOR,
    PhraseTable,
    cut_at_sources,
    diagnose,
    signs_of_reordering,
)
from moses_integration.formats.table_check import Finding, check_table
from phrase_scorer.errors import DataError
from phrase_scorer.runtime.streams import Lines

BLANK = st.sampled_from([b"", b" ", b"  ", b"\t", b" \t "])
LETTERS = st.integers(0, 255).filter(lambda c: c not in b" \t\n|[")
PLAIN_WORD = st.lists(LETTERS, min_size=1, max_size=4).map(bytes)
WORD = PLAIN_WORD | st.builds(lambda a, b: a + b"|" + b, PLAIN_WORD, PLAIN_WORD)
SCORE = st.sampled_from([b".5", b"5.", b"+0.5", b"1E-3", b"0", b"1", b"0.125", b"1e-40"]) | (
    st.floats(0, 1).map(lambda x: b"%.6g" % x)
)
REST = st.lists(st.binary(max_size=6).map(lambda x: b"|||" + x.replace(b"\n", b"")), max_size=5)


@st.composite
def entries(draw: st.DrawFn) -> bytes:
    """A line that Moses reads, with two scores."""
    source = b" ".join(draw(st.lists(WORD, min_size=1, max_size=3)))
    target = b"\t".join(draw(st.lists(WORD, max_size=3)))
    scores = draw(SCORE) + draw(st.sampled_from([b" ", b"  ", b"\t"])) + draw(SCORE)
    around = [draw(BLANK) for _ in range(6)]
    line = b"%b%b%b|||%b%b%b|||%b" % (*_between(around, [source, target]), around[4] + scores)
    rest = b"".join(draw(REST))
    return line + around[5] + (rest or draw(st.sampled_from([b"", b"\r"])))


def _between(around: list[bytes], phrases: list[bytes]) -> list[bytes]:
    source, target = phrases
    return [around[0], source, around[1], around[2], target, around[3]]


@given(st.lists(entries(), min_size=1, max_size=5))
def test_fast_path_equals_slow_path_on_good_lines(lines):
    table = PhraseTable("t", scores=2)
    fast = table._parse_good(Lines(1, lines))
    assert fast is not None
    assert fast == table._parse_each(Lines(1, lines))


@given(
    st.lists(
        st.text("a|[] \t\r\x0b.01-e+n", max_size=12).map(str.encode)
        | st.builds(
            lambda a, b, c: f"{a}|||{b}|||{c}".encode(),
            *[st.text("a[] \t\r|", max_size=4), st.text("a[] \r|", max_size=4)],
            st.text("01.-e \r\x0b|", max_size=8),
        ),
        min_size=1,
        max_size=3,
    ),
    st.integers(1, 2),
)
def test_fast_path_takes_nothing_that_the_slow_path_refuses(lines, scores):
    table = PhraseTable("t", scores=scores)
    fast = table._parse_good(Lines(1, lines))
    good = [diagnose(line, scores) is None for line in lines]
    if fast is not None:
        assert all(good)
        assert fast == table._parse_each(Lines(1, lines))
    if not all(good):
        with pytest.raises(DataError) as caught:
            table.parse(Lines(1, lines))
        assert caught.value.line == good.index(False) + 1


ANY_LINE = st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")) | st.builds(
    b"%b ||| %b ||| %b%b".__mod__,
    st.tuples(
        st.sampled_from([b"a", b"a b", b"", b"a [1] b", b"[X]", b"a\x0cb \r", b"a|b|c|d|e"]),
        st.sampled_from([b"", b"c", b"c [1]", b"c\x0bd", b"[A][B] c"]),
        st.sampled_from([b"1", b"0.5", b"1 1", b"nan", b"-1", b"1\r", b"1 \x0c", b"", b"1_0"]),
        st.sampled_from(
            [b"", b"\r", b" ||| 0-0", b" ||| 0-x", b" ||| 0-0 |||\r", b"|||||||||||| x"]
        ),
    ),
)


@given(st.lists(ANY_LINE, min_size=1, max_size=6), st.booleans())
def test_check_and_rescore_agree_line_by_line(lines, ended):
    """What stops rescore is the first error that check tells; what is kept is byte-equal."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "table")
        ended = ended or not lines[-1]
        path.write_bytes(b"\n".join(lines) + b"\n" * ended)
        found: list[Finding] = []
        try:
            report = check_table(path, on_finding=found.append)
            (kept,) = PhraseTable(path, on_bad_line="keep").blocks()
        except DataError as error:
            event(error.message)
            return
        problems = [diagnose(line, report.scores) for line in lines]
        assert kept.bad == [place for place, problem in enumerate(problems) if problem]
        errors = [finding for finding in found if finding.level == "error"]
        refused = [error for error in errors if error.line - 1 in kept.bad]
        assert refused == [
            Finding("error", place + 1, *problem)
            for place, problem in enumerate(problems)
            if problem
        ]
        if refused:
            table = PhraseTable(path, scores=report.scores)
            with pytest.raises(DataError) as caught:
                list(table.blocks())
            assert str(caught.value) == f"{path}:{refused[0]}"
        mark = b"@" * (1 + max(map(len, lines)))  # longer than any line: it stands in none
        after = kept.with_scores([[mark] * len(lines)])
        assert after.endswith(b"\n") == ended
        rescored = after.removesuffix(b"\n" * ended).split(b"\n")
        assert [line.replace(b" " + mark, b"", 1) for line in rescored] == lines


STRIPPED = re.compile(rb"\A(.*?\|\|\|.*?\|\|\|.*?) @(?=[ \t\r]*(?:\|\|\||\Z))", re.DOTALL)


@given(st.lists(entries(), min_size=1, max_size=5), st.booleans())
def test_added_and_stripped_is_the_same(lines, ended):
    block = PhraseTable("t", scores=2).parse(Lines(1, lines, ended))
    text = block.with_scores([[b"@"] * len(lines)])
    assert text.endswith(b"\n") == ended
    after = (text[:-1] if ended else text).split(b"\n")
    assert [STRIPPED.sub(rb"\1", line) for line in after] == lines
    for line in after:
        assert line.split(b"|||")[2].split()[2] == b"@"


@given(st.lists(st.lists(SCORE, min_size=6, max_size=6), min_size=1, max_size=40))
def test_scores_that_happen_to_be_are_no_reordering_table(rows):
    """However they are drawn, 10 different sums of 1 and no other are no accident."""
    lines = [b"a ||| b ||| " + b" ".join(row) for row in rows]
    assert signs_of_reordering(lines) is None


def slow_cuts(lines: list[bytes], entries: int, longest: int) -> list[list[bytes]]:
    """At least `entries` lines, to the next change of the source, or as many as are allowed."""
    blocks, start = [], 0
    while start < len(lines):
        stop = start + entries
        while stop < len(lines) and stop < start + longest:
            if lines[stop].partition(SEPARATOR)[0] != lines[stop - 1].partition(SEPARATOR)[0]:
                break
            stop += 1
        blocks.append(lines[start:stop])
        start = stop
    return blocks


SOME_LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [b"", b"a", b"a ||| b", b"a ||| c", b"b ||| ", b" ||| a", b"a |||", b"a |||b"]
        ),
        st.binary(max_size=6).map(lambda line: line.replace(b"\n", b"")),
    ),
    min_size=1,
    max_size=40,
)


@given(SOME_LINES, st.integers(1, 9), st.integers(1, 12), st.booleans())
def test_cuts_are_those_of_lists_of_lines(lines, entries, read_at_once, ended):
    longest = 12
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phrase_table, "LONGEST_BLOCK", longest)
        starts = range(0, len(lines), read_at_once)
        read = [Lines(start + 1, lines[start : start + read_at_once], ended) for start in starts]
        blocks = list(cut_at_sources(read, entries))
    assert [block.lines for block in blocks] == slow_cuts(lines, entries, longest)
    firsts = [1, *(block.first + len(block.lines) for block in blocks[:-1])]
    assert [block.first for block in blocks] == firsts
    assert [block.ended for block in blocks] == [True] * (len(blocks) - 1) + [ended]
