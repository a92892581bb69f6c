"""Findings about a table: each with its exact text; a clean table has none."""

from __future__ import annotations

import gzip
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moses_integration.formats import table_check as module
from moses_integration.formats.phrase_table import BRACKETED, PhraseTable
from moses_integration.formats.table_check import Finding, Report, check_table
from phrase_scorer.errors import DataError, quoted

CRLF = "warning: CRLF line end (the binarisers of Moses keep the carriage return)"
CONTROL = "warning: control character in a line"
BREAK = "warning: Unicode line separator in a line (many tools break the line there)"
UTF8 = "warning: not UTF-8"
BLANKS = "warning: double blank (CreateProbingPT takes it for one more score or word)"
ORDER = "warning: not in LC_ALL=C order (processPhraseTableMin needs it; first place)"
POINT = "not an alignment point (Moses stops)"
OUTSIDE = "alignment point outside the phrases (Moses reads foreign memory)"
PROPERTY = "a property that Moses does not know (it would stop)"
FEW = "expected at least 3 (source ||| target ||| scores)"

CLEAN = [
    b"a b ||| c ||| 1 1 ||| 0-0 1-0 ||| 2 2 1",
    b"a c ||| ||| 1 1 ||| ||| 2 2 1 ||| name 0.5",
    b"a ||| b ||| 0.5 0.5",
    b"a ||| b c ||| 0.5 .5 ||| 0-0 0-1",
    b"b ||| c ||| 1 1 |||  ||| 2 2 1 |||  ||| {{Counts 1 2 1}} {{Tree [X [b]]}}",
    "c ||| é & “x” ||| 1 1 ||| 0-0 ||| ||| ||| ||| eighth field".encode(),
]


def check(path: Path, lines: list[bytes], **options) -> tuple[list[str], Report]:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    findings: list[Finding] = []
    report = check_table(path, on_finding=findings.append, **options)
    return list(map(str, findings)), report


def test_clean_table(tmp_path):
    findings, report = check(tmp_path / "t", CLEAN)
    assert findings == []
    assert (report.entries, report.scores, report.count("error"), report.count("warning")) == (
        6,
        2,
        0,
        0,
    )
    assert report.counts == {}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # errors: what rescore refuses
        (b"", ['blank line: ""']),
        (b"x ||| y", [f'2 fields, {FEW}: "x ||| y"']),
        (b"  ||| y ||| 1 1", ['empty source phrase: "  ||| y ||| 1 1"']),
        (b"x ||| y ||| 1", ['1 scores, expected 2: "1"']),
        (b"x ||| y ||| 1 NaN", ['a score must be finite (Moses reads float32): "NaN"']),
        (b"x ||| y ||| 1 -1", ['negative score (Moses takes the logarithm of each): "-1"']),
        (b"x ||| y ||| 1 1,5", ['a score is not a number: "1,5"']),
        # errors: what stops Moses after the scores
        (b"x ||| y ||| 1 1 ||| 0", [f'{POINT}: "0"']),
        (b"x ||| y ||| 1 1 ||| 0-0 a-b 0-", [f'{POINT}: "a-b"', f'{POINT}: "0-"']),
        (b"x ||| y ||| 1 1 ||| 1-0", [f'{OUTSIDE}: "1-0"']),
        (b"x ||| y ||| 1 1 ||| 0-1 0-0", [f'{OUTSIDE}: "0-1"']),
        (b"x ||| ||| 1 1 ||| 0-0", [f'{OUTSIDE}: "0-0"']),
        (b"x ||| y ||| 1 1 ||| 0-" + b"9" * 5000, [f"{POINT}: {quoted('0-' + '9' * 5000)}"]),
        (b"x ||| y ||| 1 1 ||| 000-0", []),
        (
            b"x ||| y ||| 1 1 ||| ||| ||| ||| {{Counts 1 1 1}} {{Mine 2}} {{}} {{Counts 1 x}}",
            [
                f'{PROPERTY}: "Mine"',
                'not a property with a value (Moses stops): "}}"',
                'not a value of the property Counts (Moses stops): "1 x"',
            ],
        ),
        (b"x ||| y ||| 1 1 ||| ||| ||| ||| {no property}", [f'{PROPERTY}: "{{no"']),
        (b"x [1] y ||| z ||| 1 1", [f'{BRACKETED}: "[1]"']),
        (b"x ||| y [z]\t||| 1 1", [f'{BRACKETED}: "[z]"']),
        (b"x ||| z a|b|c|d|e ||| 1 1", ['more than 4 factors (Moses stops): "a|b|c|d|e"']),
        (
            b"x ||| y ||| 1 1 \r ||| 0-0",
            [
                'a score is not a number: "\\r"',
            ],
        ),
        # warnings
        (b"x ||| y ||| 1 1\r", [f'{CRLF}: "x ||| y ||| 1 1\\r"']),
        (b"x\x07 ||| y ||| 1 1", [f'{CONTROL}: "x\\x07 ||| y ||| 1 1"']),
        (b"x\x00 ||| y ||| 1 1", [f'{CONTROL}: "x\\x00 ||| y ||| 1 1"']),
        (b"x\ry ||| z ||| 1 1", [f'{CONTROL}: "x\\ry ||| z ||| 1 1"']),
        (b"x\x7f ||| y ||| 1 1", [f'{CONTROL}: "x\\x7f ||| y ||| 1 1"']),
        ("x\u2028 ||| y ||| 1 1".encode(), [f'{BREAK}: "x\\u2028 ||| y ||| 1 1"']),
        ("x ||| y\u2029 ||| 1 1".encode(), [f'{BREAK}: "x ||| y\\u2029 ||| 1 1"']),
        ("x\x85 ||| y ||| 1 1".encode(), [f'{BREAK}: "x\\x85 ||| y ||| 1 1"']),
        (b"caf\xe9 ||| y ||| 1 1", [f'{UTF8}: "caf\\xe9 ||| y ||| 1 1"']),
        (b"x  y ||| z ||| 1 1", [f'{BLANKS}: "x  y ||| z ||| 1 1"']),
        (b"x ||| y  z ||| 1 1", [f'{BLANKS}: "x ||| y  z ||| 1 1"']),
        (b"x ||| y ||| 1  1", [f'{BLANKS}: "x ||| y ||| 1  1"']),
        (b"a ||| y ||| 1 1", [f'{ORDER}: "a ||| y ||| 1 1"']),
        # all at once
        (
            b"a\x07 \xe9  z ||| y ||| 1 1 ||| 9-9\r",
            [
                f'{OUTSIDE}: "9-9"',
                *(
                    f'{what}: "a\\x07 \\xe9  z ||| y ||| 1 1 ||| 9-9\\r"'
                    for what in (CRLF, CONTROL, UTF8, BLANKS, ORDER)
                ),
            ],
        ),
        # traps that are none
        (b"x ||| y ||| 1 1 ||| ||| 1  1  1 |||  x 2", []),
        (
            b"x ||| y ||| 1 1 ||| ||| ||| ||| \r",
            [f'{CRLF}: "x ||| y ||| 1 1 ||| ||| ||| ||| \\r"'],
        ),
        (b"x ||| y \x0b z ||| 1 1 ||| 0-2", [f'{CONTROL}: "x ||| y \\x0b z ||| 1 1 ||| 0-2"']),
        (b"x ||| y|||1 1 ||| 0-0\r", [f'{CRLF}: "x ||| y|||1 1 ||| 0-0\\r"']),
        (b"x [x ||| y] [ ] z[1] ||| 1 1", []),
        (b"x\xc2\xa0y ||| z ||| 1 1", []),
        (b"x\ty |||\tz ||| 1\t1", []),
        (b"x|D y|N ||| z ||| 1 1 ||| 1-0", []),
    ],
)
def test_finding(line, expected, tmp_path):
    findings, report = check(tmp_path / "t", [*CLEAN, line])
    assert findings == [f"7: {text}" for text in expected]
    warnings = sum(text.startswith("warning: ") for text in expected)
    assert (report.count("warning"), report.count("error")) == (warnings, len(expected) - warnings)
    assert report.entries == 7


def test_counts_by_kind(tmp_path):
    findings, report = check(
        tmp_path / "t", [*CLEAN, b"", b"d ||| x ||| 1", b"", b"e\x07|||b|||1 1"]
    )
    assert len(findings) == 4
    assert report.counts == {
        ("error", "blank line"): 2,
        ("error", "1 scores, expected 2"): 1,
        ("warning", "control character in a line"): 1,
    }


def test_finding_is_the_error_that_rescore_raises(tmp_path):
    path = tmp_path / "t"
    found: list[Finding] = []
    path.write_bytes(b"a ||| b ||| 1\nb ||| c ||| nan\n")
    check_table(path, on_finding=found.append)
    with pytest.raises(DataError) as caught:
        list(PhraseTable(path).blocks())
    assert str(caught.value) == f"{path}:{found[0]}"


@pytest.mark.parametrize("line", [b"a [1] b ||| a [1] b ||| 1", b"see [1] ||| voir [1] ||| 1"])
def test_words_in_brackets_are_found_line_by_line(line, tmp_path):
    other = b"z ||| z ||| 1"
    for lines in ([line], [line, other], [other, line, line]):
        findings, report = check(tmp_path / "t", lines)
        places = [n for n, one in enumerate(lines, 1) if one == line]
        assert findings == [f'{n}: {BRACKETED}: "[1]"' for n in places]
        assert report.entries == len(lines)


def test_a_byte_order_mark_is_told_once(tmp_path, capsys):
    first = b"\xef\xbb\xbf" + CLEAN[0]
    findings, _ = check(tmp_path / "t", [first, *CLEAN[1:]])
    what = "byte order mark (Moses takes it for a part of the first word)"
    assert findings == [
        f'1: warning: {what}: "\\ufeff{CLEAN[0].decode()}"',
        f'2: {ORDER}: "{CLEAN[1].decode()}"',
    ]
    assert capsys.readouterr().err == ""


def test_fewer_factors_than_moses_ini_says(tmp_path):
    lines = [b"a|D b|N ||| c|X d ||| 1", b"a|D b ||| c||e ||| 1", b"a|D ||| ||| 1"]
    few = "fewer than the 2 factors of moses.ini (Moses stops)"

    def errors(factors):
        found = check(tmp_path / "t", lines, factors=factors)[0]
        return [text for text in found if "warning" not in text]

    assert errors((2, 1)) == [f'2: {few}: "b"']
    assert errors((1, 2)) == [f'1: {few}: "d"']
    assert errors((1, 1)) == []


def test_a_first_line_without_blanks(tmp_path):
    line = b"a|||b|||1"
    assert check(tmp_path / "t", [line, line])[0] == [
        '1: no blank in the first line (Moses stops): "a|||b|||1"'
    ]


def test_lines_are_numbered_over_blocks(tmp_path, monkeypatch):
    import moses_integration.formats.phrase_table as module

    lines = [b"%05d ||| x ||| 1" % n for n in range(3 * module.BLOCK_ENTRIES)]
    lines[9] = lines[20_000] = b""
    findings, report = check(tmp_path / "t", lines)
    assert findings == ['10: blank line: ""', '20001: blank line: ""']
    assert report.entries == len(lines)


# -- order ---------------------------------------------------------------------------------------


def test_order_is_that_of_sort_on_whole_lines(tmp_path):
    """`LC_ALL=C sort` compares past the source: "a b |||" before "a |||", for " b" < " |"."""
    sources = [b"a", b"a b", b"a |", b"a }", b"a ~x", b"B", b"\xc3\xa9", b"ab", b"a-b", b"~"]
    path = tmp_path / "t"
    path.write_bytes(b"".join(s + b" ||| x ||| 1\n" for s in sources))
    done = subprocess.run(["sort", path], env={"LC_ALL": "C"}, capture_output=True, check=True)
    in_order = done.stdout.splitlines()
    assert in_order.index(b"a b ||| x ||| 1") < in_order.index(b"a ||| x ||| 1")
    assert check(path, in_order)[0] == []
    for place in range(len(in_order) - 1):
        swapped = in_order.copy()
        swapped[place : place + 2] = reversed(swapped[place : place + 2])
        findings, _ = check(path, swapped)
        assert findings == [f'{place + 2}: {ORDER}: "{_shown(swapped[place + 1])}"']


def _shown(line: bytes) -> str:
    return line.decode()


def test_order_is_told_once(tmp_path):
    findings, _ = check(tmp_path / "t", [b"%c ||| x ||| 1" % c for c in b"cbabc"])
    assert findings == [f'2: {ORDER}: "b ||| x ||| 1"']


# -- the table as a whole ------------------------------------------------------------------------


def test_required_scores(tmp_path):
    asked = []
    check(tmp_path / "t", CLEAN, require_scores=asked.append)
    assert asked == [2]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", ": the phrase table is empty"),
        (
            b"a [X] ||| b [X] ||| 1\nb [X] ||| c [NP] ||| 1\n",
            ":1: hierarchical phrase tables are not supported: the phrases end in non-terminal "
            'symbols: "a [X] ||| b [X] ||| 1"',
        ),
        (
            gzip.compress(b"a ||| b ||| 1\n" * 50, mtime=0)[:-12],
            ":1: compressed data is broken or cut short (Compressed file ended before the "
            "end-of-stream marker was reached)",
        ),
    ],
)
def test_table_that_cannot_be_checked(content, expected, tmp_path):
    path = tmp_path / "t"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        check_table(path, on_finding=lambda _: None)
    assert str(caught.value) == f"{path}{expected}"


# -- blocks in which nothing is found -----------------------------------------------------------

sides = st.sampled_from([b"a", b"a b", b"b", b"c", b"", b"[a]", b"a|b", b"\xff", b"\x1f", b"x\x7f"])
points = st.sampled_from(
    [b"0-0", b"0-0 1-0", b"9-9", b"10-0", b"0--", b"0-0-0", b"00-0", b"\xb2-0"]
)
properties = st.sampled_from([b"", b" ", b" {{Counts 1 2 1}}", b" {{Mine 1}}", b"|"])
marks = st.sampled_from(
    [b"", b"", b"", b"", b" ", b"\t", b"\r", b"\x0b", "\u2028".encode(), b"\x85"]
)


def joined(source, target, score, rest):
    return b" ||| ".join([source, target, score, *rest])


entries = st.builds(
    joined,
    sides,
    sides,
    st.sampled_from([b"1 1", b"0.5 1", b"1  1", b"1"]),
    st.lists(points, max_size=1).flatmap(
        lambda found: st.builds(
            lambda more, end, mark: [*found, *[b""] * more, end + mark],
            st.integers(0, 4),
            properties,
            marks,
        )
    ),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(entries | st.sampled_from(CLEAN), min_size=1, max_size=4))
def test_blocks_that_are_passed_over_have_no_findings(lines):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        outcomes = []
        for _ in range(2):
            try:
                findings, report = check(Path(folder) / "t", [CLEAN[0], *lines])
                outcomes.append((findings, vars(report)))
            except DataError as error:
                outcomes.append(str(error))
            patch.setattr(module, "_is_clean", lambda *_: False)
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("lines", [CLEAN[:4], [b"a ||| b ||| 1 1 ||| 0-0", b"a a ||| b ||| 1 1"]])
def test_clean_blocks_are_passed_over(lines, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("read by line")

    monkeypatch.setattr(module, "_findings", refuse)
    assert check(tmp_path / "t", sorted(lines))[0] == []
