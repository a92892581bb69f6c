"""Entries: every layout Moses reads comes through byte for byte; what it refuses is refused here.

What Moses does stands in moses/TranslationModel/RuleTable/LoaderStandard.cpp and Phrase.cpp.
"""

from __future__ import annotations

import gzip
from itertools import pairwise
from pathlib import Path

import pytest
from toys import DATA

from moses_integration.formats import phrase_table
from moses_integration.formats.phrase_table import (
    BRACKETED,
    HIERARCHICAL,
    PhraseTable,
    TableBlock,
    cut_at_sources,
    diagnose,
    first_entry_scores,
    signs_of_reordering,
)
from phrase_scorer.errors import DataError
from phrase_scorer.runtime.streams import Lines, line_blocks


def parse(*lines: bytes, **options: object) -> TableBlock:
    return PhraseTable("t", **options).parse(Lines(1, list(lines)))


def refusal(*lines: bytes, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        parse(*lines, **options)
    return str(caught.value)


# -- layouts -------------------------------------------------------------------------------------

# line, source words, target words, the line with the score 9 added
LAYOUTS = [
    (b"a b ||| c ||| 0.5 0.2", [b"a", b"b"], [b"c"], b"a b ||| c ||| 0.5 0.2 9"),
    (b"a ||| c ||| 0.5 0.2 ||| 0-0", [b"a"], [b"c"], b"a ||| c ||| 0.5 0.2 9 ||| 0-0"),
    (b"a ||| c ||| 0.5 0.2 ||| ||| 2 2 1", [b"a"], [b"c"], b"a ||| c ||| 0.5 0.2 9 ||| ||| 2 2 1"),
    (
        b"a ||| c ||| 0.5 0.2 ||| 0-0 ||| 2 2 1 ||| x 0.5",
        [b"a"],
        [b"c"],
        b"a ||| c ||| 0.5 0.2 9 ||| 0-0 ||| 2 2 1 ||| x 0.5",
    ),
    (
        b"a ||| c ||| 0.5 0.2 ||| 0-0 ||| 2 2 1 ||| ||| {{Counts 1}}",
        [b"a"],
        [b"c"],
        b"a ||| c ||| 0.5 0.2 9 ||| 0-0 ||| 2 2 1 ||| ||| {{Counts 1}}",
    ),
    (
        b"a ||| c ||| 0.5 0.2 ||| ||| ||| ||| 8 ||| 9 ||| ",
        [b"a"],
        [b"c"],
        b"a ||| c ||| 0.5 0.2 9 ||| ||| ||| ||| 8 ||| 9 ||| ",
    ),
    # factors: the surface factor is scored, all are kept
    (
        b"la|D maison|N|s ||| house|N ||| 0.5 0.2",
        [b"la", b"maison"],
        [b"house"],
        b"la|D maison|N|s ||| house|N ||| 0.5 0.2 9",
    ),
    (b"a | b ||| | ||| 0.5 0.2", [b"a", b"", b"b"], [b""], b"a | b ||| | ||| 0.5 0.2 9"),
    # blanks
    (b"a|||c|||0.5 0.2", [b"a"], [b"c"], b"a|||c|||0.5 0.2 9"),
    (b"a|||c|||0.5 0.2|||0-0|||", [b"a"], [b"c"], b"a|||c|||0.5 0.2 9|||0-0|||"),
    (
        b"a\tb\t|||\tc\t|||\t0.5\t0.2\t|||",
        [b"a", b"b"],
        [b"c"],
        b"a\tb\t|||\tc\t|||\t0.5\t0.2 9\t|||",
    ),
    (b"  a  b   ||| c  ||| 0.5  0.2  ", [b"a", b"b"], [b"c"], b"  a  b   ||| c  ||| 0.5  0.2 9  "),
    # four bars: the leftmost three are the separator, as in Moses
    (b"a ||||c ||| 0.5 0.2", [b"a"], [b""], b"a ||||c ||| 0.5 0.2 9"),
    (b"a |||| ||| 0.5 0.2", [b"a"], [b""], b"a |||| ||| 0.5 0.2 9"),
    (b"a ||| c ||| 0.5 0.2 |||| 0-0", [b"a"], [b"c"], b"a ||| c ||| 0.5 0.2 9 |||| 0-0"),
    # an empty target deletes the source words
    (b"a |||  ||| 0.5 0.2", [b"a"], [], b"a |||  ||| 0.5 0.2 9"),
    (b"a ||||||0.5 0.2", [b"a"], [], b"a ||||||0.5 0.2 9"),
    # CRLF
    (b"a ||| c ||| 0.5 0.2\r", [b"a"], [b"c"], b"a ||| c ||| 0.5 0.2 9\r"),
    (
        b"a ||| c ||| 0.5 0.2 ||| ||| ||| ||| \r",
        [b"a"],
        [b"c"],
        b"a ||| c ||| 0.5 0.2 9 ||| ||| ||| ||| \r",
    ),
    # encodings
    (b"caf\xe9 ||| \xff\xfe\x80 ||| 0.5 0.2", [b"caf\xe9"], [b"\xff\xfe\x80"], None),
    *(
        (b"x" + odd + b"y z ||| " + odd + b" ||| 0.5 0.2", [b"x" + odd + b"y", b"z"], [odd], None)
        for odd in (
            *(c.encode() for c in "\u2028\u2029\x85\xa0\u2003\ufeff"),
            *(b"\x00", b"\x0b", b"\x0c", b"\x1c", b"\x1d", b"\x1e", b"\x1f", b"\x85", b"\xa0"),
            b"\r",
        )
    ),
    # brackets that are no non-terminal symbol
    (b"[x b ||| c] ||| 0.5 0.2", [b"[x", b"b"], [b"c]"], None),
    (b"a[x] ||| [ ||| 0.5 0.2", [b"a[x]"], [b"["], None),
    (b"[x]a ||| ] ||| 0.5 0.2", [b"[x]a"], [b"]"], None),
    (b"&#91;x&#93; ||| # ||| 0.5 0.2", [b"&#91;x&#93;"], [b"#"], None),
]


@pytest.mark.parametrize(("line", "source", "target", "scored"), LAYOUTS)
def test_layout(line, source, target, scored):
    block = parse(line)
    assert (block.pairs.sources, block.pairs.targets, block.bad) == ([source], [target], [])
    assert block.with_scores([[b"9"]]) == (scored or line + b" 9") + b"\n"


def test_layouts_mixed_in_one_table(tmp_path):
    path = tmp_path / "table"
    path.write_bytes(b"\n".join(line for line, *_ in LAYOUTS))  # no final newline
    (block,) = PhraseTable(path).blocks()
    assert block.pairs.sources == [source for _, source, _, _ in LAYOUTS]
    assert block.pairs.targets == [target for _, _, target, _ in LAYOUTS]
    expected = [scored or line + b" 9" for line, _, _, scored in LAYOUTS]
    assert block.with_scores([[b"9"] * len(LAYOUTS)]) == b"\n".join(expected)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_line_ends_stay(end, final, pack, tmp_path):
    lines = [b"a ||| b ||| 0.5", b"c ||| d ||| 1 ||| 0-0 ||| ||| |||"]
    text = end.join(lines) + (end if final else b"")
    path = tmp_path / "table"
    path.write_bytes(pack(text))
    (block,) = PhraseTable(path).blocks()
    scored = end.join([b"a ||| b ||| 0.5 9", b"c ||| d ||| 1 9 ||| 0-0 ||| ||| |||"])
    assert block.with_scores([[b"9", b"9"]]) == scored + (end if final else b"")


def test_several_columns_keep_their_order():
    block = parse(b"a ||| b ||| 0.5 ||| 0-0", b"c ||| d ||| 1")
    text = block.with_scores([[b".1", b".2"], [b".3", b".4"]])
    assert text == b"a ||| b ||| 0.5 .1 .3 ||| 0-0\nc ||| d ||| 1 .2 .4\n"


def test_a_text_for_each_line_is_required():
    with pytest.raises(ValueError):
        parse(b"a ||| b ||| 0.5").with_scores([[b"1", b"2"]])


# -- scores --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "score",
    b"0.5 .5 5. +0.5 +.5 1E-3 1e-3 1e+3 1.e5 0 0.0 -0 007 2.718 1e-400 1e-40 3.4e38".split(),
)
def test_score_that_moses_reads(score):
    assert diagnose(b"a ||| b ||| " + score, 1) is None
    block = parse(b"a ||| b ||| " + score)
    assert block.with_scores([[b"9"]]) == b"a ||| b ||| " + score + b" 9\n"


@pytest.mark.parametrize(
    ("score", "what"),
    [
        *(
            (s, "a score must be finite (Moses reads float32)")
            for s in b"nan NaN -nan inf Inf +inf -inf Infinity".split()
        ),
        *(
            (s, "a score is not a number")
            for s in b"1e 0x1p-1 0,5 0.5abc . + - e5 .e5 --1 1_000 1e5.0 0.5- x= 1e+ infin".split()
        ),
        *((s, "a score must be finite (Moses reads float32)") for s in b"1e400 3.5e38".split()),
        *(
            (s, "negative score (Moses takes the logarithm of each)")
            for s in b"-0.5 -1e-9 -7".split()
        ),
        ("½".encode(), "a score is not a number"),
        ("٠.٥".encode(), "a score is not a number"),
        (b"0.5\r0.5", "a score is not a number"),
        (b"0.5\x0b0.5", "a score is not a number"),
    ],
)
def test_score_that_is_refused(score, what):
    shown = score.decode().replace("\r", "\\r").replace("\x0b", "\\x0b")
    good = b"a ||| b ||| 0.5 0.5"
    expected = f't:2: {what}: "{shown}"'
    assert refusal(good, b"c ||| d ||| 0.5 " + score) == expected
    assert refusal(good, b"c ||| d ||| " + score + b" 0.5 ||| 0-0") == expected


@pytest.mark.parametrize("scores", [b"0.5\r0.5", b"0.5\t0.5\r0.5"])
def test_carriage_return_between_scores_is_no_blank(scores):
    """Python's split takes it for one, Moses does not."""
    good = b"a ||| b ||| " + b" 1" * len(scores.split())
    shown = '"0.5\\r0.5"'
    expected = f"t:2: a score is not a number: {shown}"
    assert refusal(good, b"a ||| c ||| " + scores) == expected


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"0.5", '1 scores, expected 2: "0.5"'),
        (b" 0.5 0.5\t0.5 \r", '3 scores, expected 2: "0.5 0.5\\t0.5"'),
        (b"", 'no scores in the third field: ""'),
        (b"  ||| 0-0", 'no scores in the third field: ""'),
    ],
)
def test_another_number_of_scores(text, what):
    assert refusal(b"a ||| b ||| 1 1", b"a ||| c |||" + text) == f"t:2: {what}"


def test_number_of_scores_is_that_of_the_first_line():
    table = PhraseTable("t")
    table.parse(Lines(1, [b"a ||| b ||| 1 1 1"]))
    assert table.scores == 3
    with pytest.raises(DataError) as caught:
        table.parse(Lines(2, [b"a ||| b ||| 1 1"]))
    assert str(caught.value) == 't:2: 2 scores, expected 3: "1 1"'


def test_number_of_scores_may_be_given():
    assert refusal(b"a ||| b ||| 1 1", scores=4) == 't:1: 2 scores, expected 4: "1 1"'


def test_first_line_without_scores():
    assert refusal(b"a ||| b ||| ") == 't:1: no scores in the third field: ""'


@pytest.mark.parametrize(
    ("bad", "score"), [(b"x y z", b"0.5 0.5"), (b"-1", b"0.5 0.5"), (b"", b"0.5 0.5")]
)
def test_kept_bad_line_does_not_set_the_number_of_scores(bad, score):
    block = parse(b"a ||| b ||| " + bad, b"a ||| c ||| " + score, on_bad_line="keep")
    assert block.bad == [0]


# -- other refusals ------------------------------------------------------------------------------

FEW = "expected at least 3 (source ||| target ||| scores)"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"", 'blank line: ""'),
        (b" \t", 'blank line: " \\t"'),
        (b"\r", 'blank line: "\\r"'),
        (b"only text", f'1 field, {FEW}: "only text"'),
        (b"a ||| b", f'2 fields, {FEW}: "a ||| b"'),
        (b"a || b || 0.5", f'1 field, {FEW}: "a || b || 0.5"'),
        (b"a ||| b || 0.5", f'2 fields, {FEW}: "a ||| b || 0.5"'),
        (b" ||| b ||| 0.5", 'empty source phrase: " ||| b ||| 0.5"'),
        (b"||| b ||| 0.5", 'empty source phrase: "||| b ||| 0.5"'),
        (b"\t||||||0.5", 'empty source phrase: "\\t||||||0.5"'),
        (b"a ||| c |||| 0.5", 'a score is not a number: "|"'),
        (b"a |||| c ||| 0.5 ||| 0-0", None),  # the target is the empty word and c
        (b"a [X] ||| b [X] ||| 0.5", f'{BRACKETED}: "[X]"'),
        (b"a ||| b [X]||| 0.5", f'{BRACKETED}: "[X]"'),
        (b"[] ||| b ||| 0.5", f'{BRACKETED}: "[]"'),
        (b"a\t[foo]\t||| b ||| 0.5", f'{BRACKETED}: "[foo]"'),
        (b"a ||| b [A][B] c ||| 0.5 ||| 0-0", f'{BRACKETED}: "[A][B]"'),
        (b"a ||| b\r ||| 0.5\r ||| 0-0", 'a score is not a number: "0.5\\r"'),
        (b"a ||| b ||| 0.5\r\r", 'a score is not a number: "0.5\\r"'),
        (b"\r\r", f'1 field, {FEW}: "\\r\\r"'),
    ],
)
def test_refused_line(line, expected):
    good = b"a ||| b ||| 0.5"
    if expected is None:
        assert parse(good, line).pairs.targets[1] == [b"", b"c"]
    else:
        assert refusal(good, line, good) == f"t:2: {expected}"


def test_message_counts_lines_over_blocks_and_shows_no_long_text(tmp_path):
    path = tmp_path / "table"
    path.write_bytes(b"a ||| b ||| 0.5\n" * 20 + b"x" * 500 + b"\n")
    with pytest.raises(DataError) as caught:
        list(PhraseTable(path, block_entries=3).blocks())
    assert str(caught.value) == f'{path}:21: 1 field, {FEW}: "{"x" * 119}…"'


def test_empty_table(tmp_path):
    path = tmp_path / "table"
    for content in (b"", gzip.compress(b"")):
        path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            list(PhraseTable(path).blocks())
        assert str(caught.value) == f"{path}: the phrase table is empty"


def test_kept_bad_lines_get_a_score_only_where_there_are_scores():
    lines = [
        b"a ||| b ||| 1 1",
        b"",
        b"text",
        b"a ||| b |||  ||| 0-0",
        b" ||| b ||| 1 1",
        b"c|||d|||nan",
    ]
    block = parse(*lines, b"e ||| f ||| 1 1", on_bad_line="keep")
    assert block.bad == [1, 2, 3, 4, 5]
    assert block.pairs.sources == [[b"a"], [b"e"]]
    assert block.with_scores([[b"9"] * 7]).split(b"\n") == [
        b"a ||| b ||| 1 1 9",
        b"",
        b"text",
        b"a ||| b |||  ||| 0-0",
        b" ||| b ||| 1 1 9",
        b"c|||d|||nan 9",
        b"e ||| f ||| 1 1 9",
        b"",
    ]


@pytest.mark.parametrize("second", [b"a [X][X] [X] ||| [X][X] b [NP] ||| 1", b"", b"no entry"])
def test_hierarchical_table_is_refused_even_where_bad_lines_are_kept(second):
    line = b"a [X] ||| b [X] ||| 1"
    message = f't:1: {HIERARCHICAL}: "{line.decode()}"'
    assert refusal(line, second, on_bad_line="keep") == message


@pytest.mark.parametrize(
    "other", [b"a ||| b ||| 1", b"a [X] ||| b ||| 1", b"a [1] ||| b [1] ||| 1"]
)
def test_brackets_in_some_lines_make_no_hierarchical_table(other):
    lines = [other, b"a [1] ||| b [1] ||| 1", b"c ||| d ||| 1"]
    block = parse(*lines, on_bad_line="keep")
    assert block.bad == ([0, 1] if b"[" in other else [1])
    assert block.with_scores([[b"9"] * 3]) == b"".join(b"%b 9\n" % line for line in lines)


# -- counts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rest", "count"),
    [
        (b"", 1.0),
        (b" ||| 0-0", 1.0),
        (b" ||| 0-0 ||| ", 1.0),
        (b" ||| 0-0 ||| 7 5 3", 3.0),
        (b" ||| 0-0 ||| 7 5 2.5\r", 2.5),
        (b"|||||| 7 5 3|||", 3.0),
        (b" ||| 0-0 ||| 7 5 3 ||| ||| {{Counts 9}}", 3.0),
        (b" ||| 0-0 ||| 7 5 x", 1.0),
        (b" ||| 0-0 ||| 4", 4.0),
    ],
)
def test_joint_count(rest, count):
    assert parse(b"a ||| b ||| 0.5" + rest, with_counts=True).pairs.counts == [count]
    assert parse(b"a ||| b ||| 0.5" + rest).pairs.counts is None


# -- blocks --------------------------------------------------------------------------------------

SOURCES = b"aabbbcdddddeffg"
ENTRIES = [b"%c ||| %d ||| 0.5" % (source, place) for place, source in enumerate(SOURCES)]


def expected_cuts(sources: list[bytes], entries: int) -> list[int]:
    """Ends of blocks of at least `entries`, at changes of the source; the definition, spelt out."""
    ends, start = [], 0
    for place in range(1, len(sources)):
        if place - start >= entries and sources[place] != sources[place - 1]:
            ends.append(place)
            start = place
    return [*ends, len(sources)]


@pytest.mark.parametrize("entries", range(1, len(ENTRIES) + 2))
def test_cuts_depend_on_the_content_alone(entries, tmp_path):
    path = tmp_path / "table"
    text = b"\n".join(ENTRIES)
    path.write_bytes(text)
    ends = expected_cuts([line[:1] for line in ENTRIES], entries)
    for block_bytes in range(1, len(text) + 2):
        blocks = list(cut_at_sources(line_blocks(path, block_bytes), entries))
        assert [line for block in blocks for line in block.lines] == ENTRIES
        assert [block.first - 1 for block in blocks] == [0, *ends[:-1]]
        assert [block.ended for block in blocks] == [True] * (len(ends) - 1) + [False]


def test_final_newline_is_remembered(tmp_path):
    path = tmp_path / "table"
    path.write_bytes(b"".join(line + b"\n" for line in ENTRIES))
    assert all(block.ended for block in cut_at_sources(line_blocks(path, 7), 2))


@pytest.mark.parametrize("read_at_once", [1, 2, 3, 7, 100])
def test_source_with_very_many_targets_is_cut(read_at_once, monkeypatch):
    monkeypatch.setattr(phrase_table, "LONGEST_BLOCK", 5)
    lines = [b"a ||| %d ||| 1" % n for n in range(23)] + [b"b ||| x ||| 1", b"c ||| x ||| 1"]
    starts = range(0, len(lines), read_at_once)
    read = [Lines(start + 1, lines[start : start + read_at_once]) for start in starts]
    blocks = list(cut_at_sources(read, 3))
    assert [line for block in blocks for line in block.lines] == lines
    # after four cuts of five, three of a are left: they reach the least size where b begins
    assert [len(block.lines) for block in blocks] == [5, 5, 5, 5, 3, 2]
    assert [block.first for block in blocks] == [1, 6, 11, 16, 21, 24]


def test_blocks_of_a_table_keep_a_source_together(tmp_path):
    path = tmp_path / "table"
    path.write_bytes(b"\n".join(ENTRIES))
    blocks = list(PhraseTable(path, block_entries=2).blocks())
    assert len(blocks) > 3
    for before, after in pairwise(blocks):
        assert before.pairs.sources[-1] != after.pairs.sources[0]


def test_reading_starts_over_with_every_call(tmp_path: Path):
    path = tmp_path / "table"
    path.write_bytes(b"\n".join(ENTRIES))
    table = PhraseTable(path)
    assert [b.lines.lines for b in table.blocks()] == [b.lines.lines for b in table.blocks()]


# -- the first entry -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "scores"),
    [(b"a ||| b ||| 1 1 1", 3), (b"a ||| b |||  1\t1 ||| 0-0", 2), (b"a ||| ||| 1\nno entry\n", 1)],
)
def test_scores_of_the_first_entry(text, scores, tmp_path):
    (tmp_path / "t").write_bytes(text)
    assert first_entry_scores(tmp_path / "t") == scores


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", ": the phrase table is empty"),
        (b"a ||| ||| ||| 0-0\n", ':1: no scores in the third field: ""'),
        (b"a ||| b ||| 1 x\na ||| b ||| 1 1\n", ':1: a score is not a number: "x"'),
    ],
)
def test_first_line_that_is_not_an_entry(text, message, tmp_path):
    (tmp_path / "t").write_bytes(text)
    with pytest.raises(DataError) as caught:
        first_entry_scores(tmp_path / "t")
    assert str(caught.value) == f"{tmp_path}/t{message}"


# -- what is no phrase table ---------------------------------------------------------------------

REORDERING = gzip.decompress(
    (DATA / "model" / "reordering-table.wbe-msd-bidirectional-fe.gz").read_bytes()
).split(b"\n")[:-1]
TOLD = "rescore, check, score and train take it with --any-table"


def with_scores(lines: list[bytes], scores: str) -> list[bytes]:
    """The lines with some of their scores, "0 2", or with sums of several, "0 1+2"."""
    changed = []
    for line in lines:
        phrases, _, found = line.rpartition(b"||| ")
        values = list(map(float, found.split()))
        chosen = [sum(values[int(i)] for i in part.split("+")) for part in scores.split()]
        changed.append(phrases + b"||| " + " ".join(f"{v:g}" for v in chosen).encode())
    return changed


@pytest.mark.parametrize(
    ("scores", "signs"),
    [
        ("0 1 2 3 4 5", "6 scores of two groups that sum to 1"),  # msd, bidirectional
        ("0 1 2", "3 scores that sum to 1"),  # msd
        ("0 1+2 3 4+5", "4 scores of two groups that sum to 1"),  # monotonicity, bidirectional
        ("0 1+2", "2 scores that sum to 1"),  # monotonicity
    ],
)
def test_a_real_reordering_table_is_refused(scores, signs):
    lines = with_scores(REORDERING[:5000], scores)
    expected = f"t: looks like a reordering table: {signs}, no alignment (5,000 lines); {TOLD}"
    for options in ({}, {"on_bad_line": "keep"}):
        assert refusal(*lines, **options) == expected
    assert len(parse(*lines, any_table=True).pairs.sources) == 5000


def test_four_orientations_are_known():
    """mslr: discontinuous ones stand apart, left and right."""
    lines = [line + b" 0.0" for line in with_scores(REORDERING[:5000], "0 1 2")]
    assert signs_of_reordering(lines) == "4 scores that sum to 1"
    lines = [b"%b %b" % (a, a.rpartition(b"||| ")[2]) for a in lines]
    assert signs_of_reordering(lines) == "8 scores of two groups that sum to 1"


@pytest.mark.parametrize(
    "lines",
    [
        REORDERING[:3],  # might be an accident
        [*REORDERING[:5000], REORDERING[0] + b" ||| 0-0"],
        [*REORDERING[:5000], b"a ||| b ||| 0.5 0.25 0.24 0.5 0.25 0.25"],
        [b"a ||| b ||| 0.5 0.5"] * 10_000,
        [b"a %d ||| b ||| 0.5 0.5" % n for n in range(10_000)],
        [b"a ||| b ||| %b" % (b"1 " * n) for n in range(1, 20)],
        [b"a ||| b ||| x"] * 100,
        [b"a ||| b |||"] * 100,
    ],
)
def test_what_does_not_look_like_a_reordering_table(lines):
    assert signs_of_reordering(lines) is None


def test_a_real_phrase_table_without_its_further_fields_is_none():
    lines = gzip.decompress((DATA / "model" / "phrase-table.gz").read_bytes()).split(b"\n")[:-1]
    short = [b"|||".join(line.split(b"|||")[:3]) for line in lines]
    for scores in ("0 1 2 3", "0 1", "0 2", "1 3", "0 1 2", "0 1 2 3 0 1"):
        for start in range(0, len(short), 8192):
            assert signs_of_reordering(with_scores(short[start : start + 8192], scores)) is None
