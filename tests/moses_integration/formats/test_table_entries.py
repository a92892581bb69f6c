"""Entries with their numbers."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from toys import DATA, TOY_LINES

from moses_integration.formats.phrase_table import PhraseTable
from moses_integration.formats.table_entries import Entry, ScoredEntries
from phrase_scorer.runtime.streams import Lines


def scored(lines, **settings):
    return ScoredEntries.of(PhraseTable("t", **settings).parse(Lines(1, lines)))


def test_by_hand():
    entries = scored(TOY_LINES)
    assert entries.sources[0] == b"la maison"
    assert entries.scores.tolist() == [[0.5, 0.25], [1, 0.5], [1, 1], [1, 1]]
    assert entries.counts.tolist() == [[2, 2, 1], [4, 4, 4], [1, 1, 1], [3, 3, 3]]
    assert Entry.of(TOY_LINES[0], 7) == Entry(
        7, "la maison", "the house", (0.5, 0.25), "0-0 1-1", (2, 2, 1)
    )


@pytest.mark.parametrize("rest", [b"", b" ||| 0-0", b" ||| 0-0 ||| 2 1", b" ||| 0-0 ||| 1 x 2"])
def test_without_three_counts(rest):
    line = b"la ||| the ||| 1e-3 0.5" + rest
    assert np.isnan(scored([line]).counts).all()
    assert Entry.of(line, 1).counts == ()
    assert Entry.of(line, 1).scores == (0.001, 0.5)


def test_bad_lines_are_left_out_and_the_others_keep_their_numbers():
    entries = scored([TOY_LINES[0], b"no entry", TOY_LINES[1]], on_bad_line="keep")
    assert entries.numbers == [1, 3]
    assert entries.lines == TOY_LINES[:2]
    assert not len(scored([b"bad", b"worse"], on_bad_line="keep"))


def test_bytes_that_are_no_text_are_shown():
    assert Entry.of(b"caf\xe9 ||| \xc3\xa9t\xc3\xa9 ||| 1\r", 1).source == r"caf\xe9"
    assert Entry.of(b"caf\xe9 ||| \xc3\xa9t\xc3\xa9 ||| 1\r", 1).target == "été"


def test_a_real_table_line_by_line():
    lines = gzip.decompress((DATA / "model" / "phrase-table.gz").read_bytes()).splitlines()[:500]
    entries = scored(lines)
    for place, line in enumerate(lines):
        fields = [field.split() for field in line.split(b"|||")]
        assert entries.scores[place].tolist() == [*map(float, fields[2])]
        assert entries.counts[place].tolist() == [*map(float, fields[4])]
