"""What rescoring would take: counts are exact on the sample, the rest is extrapolated."""

from __future__ import annotations

import gzip
import io
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from toys import PROGRAM, TOY_TABLE, program

from moses_integration.formats.phrase_table import PhraseTable
from moses_integration.rescoring import stream as rescore
from moses_integration.rescoring.columns import translation_column
from moses_integration.rescoring.estimate import Estimate, estimate, unknown_words
from moses_integration.rescoring.stream import TableReader
from phrase_scorer.errors import DataError
from phrase_scorer.runtime.report import duration
from phrase_scorer.runtime.streams import line_blocks
from phrase_scorer.runtime.workers import memory_of
from phrase_scorer.scoring.scorer import PhraseScorer
from phrase_scorer.text.vocabulary import Counts


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (5.4, "5 s"),
        (59, "59 s"),
        (60, "1 min 0 s"),
        (184, "3 min 4 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (90_061, "25 h 1 min"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_lines_as_read():
    sides = {"source": Counts(200, 3), "target": Counts(0, 0)}
    whole = Estimate(1000, 1000, 250, sides, 500.0, 3 << 30)
    assert list(whole.lines()) == [
        "entries            1,000 (sample: 1,000)",
        "distinct sources   250 in the sample, 4.00 targets each",
        "unknown words      source: 1.50% of 200",
        "unknown words      target: 0.00% of 0",
        "speed              500 entries/s",
        "time               about 2 s",
        "memory             about 3,072 MB, whatever the table's length",
    ]
    part = list(Estimate(1000, 10**7, 250, sides, 500.0, 3 << 29, 2, "about ").lines())
    assert part[0] == "entries            about 10,000,000 ± 20% (sample: 1,000)"
    assert part[5] == "time               about 5 h 33 min"
    shown = "about 1,536 MB in 2 processes and this one, whatever the table's length"
    assert part[6] == f"memory             {shown}"


WORDS = b"""la maison ||| the house ||| 1
la maison ||| the ||| 1
le Haus ||| Haus Katze ||| 1
le Haus ||| Haus ||| 1
"""


def test_whole_table(tmp_path, scorer):
    path = tmp_path / "t"
    path.write_bytes(WORDS)
    found = estimate(TableReader(PhraseTable(path)), [translation_column(scorer)])
    assert (found.sampled, found.entries, found.sources, found.extent) == (4, 4, 2, "")
    assert found.sides == {
        "source": Counts(8, 2, Counter({b"Haus": 2})),
        "target": Counts(6, 3, Counter({b"Haus": 2, b"Katze": 1})),
    }
    assert found.sides["source"].unknown_share == 0.25
    assert found.pairs_per_second > 0
    assert found.seconds == 4 / found.pairs_per_second
    assert found.memory > 1 << 20


def descendants(process: int) -> list[int]:
    """A process and all that it, or what it started, has started."""
    children: list[int] = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):
            children += map(int, task.read_text().split())
    return [process, *(p for child in children for p in descendants(child))]


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.skipif("MEASURE" not in os.environ, reason="MEASURE is not set: a quiet machine")
def test_memory_is_that_of_a_real_run(processes, folder, model_path):
    (folder / "t").write_bytes(TOY_TABLE * 4500)
    command = [*PROGRAM, "rescore", "t", "out", "--model", model_path, "--device", "cpu"]
    options = ["--quiet", "--threads", str(processes)]
    measured = 0
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE) as run:
        while run.poll() is None:
            family = descendants(run.pid)
            if len(family) >= processes:
                measured = max(measured, memory_of(family))
            time.sleep(0.02)
    assert run.returncode == 0
    told = program(*command[3:5], *command[6:], *options, "--estimate").stdout.decode()
    found = float(re.search(r"memory +about ([\d,]+) MB", told)[1].replace(",", "")) * 2**20
    assert found == pytest.approx(measured, rel=0.25)
    assert (" in 2 processes and this one, " in told) == (processes == 2)


def test_inverse_model_looks_its_words_up_on_the_other_side(tmp_path, inverse_path):
    """This model reads the table's target side; its source vocabulary is French all the same."""
    path = tmp_path / "t"
    path.write_bytes(b"the Haus ||| la maison Katze ||| 1\n")
    inverse = PhraseScorer.load(inverse_path, "cpu")
    sides = unknown_words(list(PhraseTable(path).blocks()), inverse)
    found = {name: (counts.looked_up, counts.most_frequent()) for name, counts in sides.items()}
    assert found == {"source": (2, [b"Haus"]), "target": (3, [b"Katze"])}


@pytest.mark.parametrize(
    ("pack", "least"),
    [(bytes, 36_000), (gzip.compress, 20_001)],  # gz is read half a megabyte ahead
)
def test_size_from_a_sample(pack, least, tmp_path, scorer, monkeypatch):
    """By what part of the file was read; in small steps here, for the table is small."""
    monkeypatch.setattr(rescore, "line_blocks", partial(line_blocks, block_bytes=4096))
    entries, chance = 40_000, random.Random(1)
    lines = [b"la %d ||| the ||| %.9f %.9f" % (n, *_two(chance)) for n in range(entries)]
    path = tmp_path / "t"
    path.write_bytes(pack(b"\n".join(lines)))
    found = estimate(
        TableReader(PhraseTable(path, block_entries=500)),
        [translation_column(scorer)],
        sample=20_000,
    )
    assert found.sampled == 20_000
    assert found.extent == "about "
    assert least <= found.entries <= 44_000


def _two(chance: random.Random) -> tuple[float, float]:
    return chance.random(), chance.random()


def test_size_of_standard_input_is_unknown(scorer, monkeypatch):
    text = b"".join(b"la %d ||| the ||| 1\n" % n for n in range(100))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    found = estimate(
        TableReader(PhraseTable("-", block_entries=10)), [translation_column(scorer)], sample=20
    )
    assert (found.sampled, found.entries) == (20, 20)
    lines = list(found.lines())
    assert lines[0] == "entries            at least 20 (sample: 20)"
    assert re.fullmatch(r"time               at least \d+ s", lines[5])


def test_bad_line_in_the_sample(tmp_path, scorer):
    path = tmp_path / "t"
    path.write_bytes(WORDS + b"\n")
    with pytest.raises(DataError) as caught:
        estimate(TableReader(PhraseTable(path)), [translation_column(scorer)])
    assert str(caught.value) == f'{path}:5: blank line: ""'
    found = estimate(
        TableReader(PhraseTable(path, on_bad_line="keep")), [translation_column(scorer)]
    )
    assert (found.sampled, found.entries) == (5, 5)


def test_table_without_a_good_line(tmp_path, scorer):
    path = tmp_path / "t"
    path.write_bytes(b"\n\n")
    found = estimate(
        TableReader(PhraseTable(path, on_bad_line="keep")), [translation_column(scorer)]
    )
    assert (found.sampled, found.sources) == (2, 0)
    assert list(found.lines())[4] == "speed              0 entries/s"


def test_empty_table(tmp_path, scorer):
    path = tmp_path / "t"
    path.write_bytes(b"")
    with pytest.raises(DataError) as caught:
        estimate(TableReader(PhraseTable(path)), [translation_column(scorer)])
    assert str(caught.value) == f"{path}: the phrase table is empty"
