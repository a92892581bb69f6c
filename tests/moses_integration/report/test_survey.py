"""The pass over a table, against the same numbers computed slowly from all of its lines."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from toys import SOURCE_WORDS, TARGET_WORDS

from moses_integration.formats.table_entries import Entry
from moses_integration.report.findings import Compared
from moses_integration.report.survey import SurveyRequest, survey
from moses_integration.report.tallies import BIN
from phrase_scorer.errors import DataError
from phrase_scorer.text.vocabulary import Vocabulary

COMPARED = Compared(2, 4, -50.0)


def made_table(sources: int, seed: int = 1) -> list[bytes]:
    """A table with five scores: p(e|f) by counts, and a network that thinks somewhat otherwise."""
    random = np.random.default_rng(seed)
    lines = []
    for number in range(sources):
        source = f"w{number} " + " ".join(random.choice(["a", "b"], random.integers(0, 5)))
        counts = random.integers(1, 15, random.integers(1, 6))
        for place, count in enumerate(counts):
            table = count / counts.sum()
            network = max(min(1, table * math.exp(random.normal())), math.exp(-50))
            scores = f"0.5 0.5 {table:.6g} 0.5 {network:.7g}"
            target = " ".join(["t"] * place)
            lines.append(
                f"{source.strip()} ||| {target} ||| {scores} ||| 0-0 ||| 9 {counts.sum()} {count}"
                .encode()
            )  # fmt: skip
    return lines


@pytest.fixture
def surveyed(tmp_path):
    def call(lines, **settings):
        path = tmp_path / "table"
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        given = {"vocabularies": {}, "show_progress": False, **settings}
        return survey(SurveyRequest(str(path), 5, COMPARED, **given))

    return call


def entries_of(lines):
    return [Entry.of(line, number) for number, line in enumerate(lines, 1)]


def logs(entries):
    scores = np.array([entry.scores for entry in entries])
    return np.log(scores[:, 2]), np.log(scores[:, 4])


def test_sums_and_correlations(surveyed):
    lines = made_table(3000)
    entries = entries_of(lines)
    x, y = logs(entries)
    found = surveyed(lines)
    assert found.entries == len(lines)
    assert found.sources == 3000
    symbols = sum(len(entry.target.split()) + 1 for entry in entries)
    assert found.nats == pytest.approx(-y.sum() / symbols)
    every, once, *_ = found.correlations
    assert (every.name, once.name) == ("all entries", "once")
    assert every.pearson == pytest.approx(np.corrcoef(x, y)[0, 1])
    seen = np.array([entry.counts[2] for entry in entries]) == 1
    assert once.entries == seen.sum()
    assert once.pearson == pytest.approx(np.corrcoef(x[seen], y[seen])[0, 1])


def test_a_small_table_is_its_own_sample(surveyed):
    lines = made_table(20)
    assert list(surveyed(lines).sample) == entries_of(lines)


def test_the_sample_depends_on_the_seed_alone(surveyed):
    lines = made_table(3000)
    one, same, other = (surveyed(lines, sample=50, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one.sample != other.sample
    assert len({entry.line for entry in one.sample}) == 50
    assert [entry.line for entry in one.sample] == sorted(entry.line for entry in one.sample)


def test_bins_hold_every_entry(surveyed):
    lines = made_table(200)
    x, y = logs(entries_of(lines))
    counted = Counter((int(-a // BIN), int(-b // BIN)) for a, b in zip(x, y, strict=True))
    found = surveyed(lines, sample=1)
    assert {(b.x, b.y): b.entries for b in found.bins} == counted
    assert sum(map(sum, found.by_count)) == len(lines)
    assert sum(map(sum, found.by_length)) == len(lines)


def test_disagreements_by_looking_at_all(surveyed):
    entries = entries_of(made_table(400))
    x, y = logs(entries)
    difference = dict(zip(entries, y - x, strict=True))
    groups = defaultdict(list)
    for entry in entries:
        groups[entry.source].append(entry)

    def rank(entry, score):
        return 1 + sum(e.scores[score] > entry.scores[score] for e in groups[entry.source])

    wanted = [
        entry for entry in entries if 2 <= entry.counts[2] < 10 and rank(entry, 4) < rank(entry, 2)
    ]
    wanted.sort(key=lambda entry: -difference[entry])
    found = [
        d
        for d in surveyed(made_table(400)).disagreements
        if (d.likes, d.frequency) == ("network", "seldom")
    ]
    assert [d.entry for d in found] == wanted[:60]
    for each in found[:10]:
        assert each.difference == pytest.approx(difference[each.entry])
        assert each.table_rank == rank(each.entry, 2)
        assert each.network_rank == rank(each.entry, 4)
        assert each.targets == len(groups[each.entry.source])


def test_best_targets_by_hand(surveyed):
    rows = [("u", 0.5, 0.1), ("v", 0.3, 0.7), ("w", 0.1, 0.2), ("x", 0.1, 0.6)]
    lines = [
        f"a long source phrase ||| {t} ||| 1 1 {p} 1 {q} ||| 0-0 ||| 1 40 {40 * p:g}".encode()
        for t, p, q in rows
    ]
    (choice,) = surveyed([*lines, b"too short ||| t ||| 1 1 1 1 1 ||| 0-0 ||| 1 99 1"]).choices
    assert (choice.kind, choice.count, choice.targets) == ("frequent", 40, 4)
    assert [entry.target for entry in choice.by_table] == ["u", "v", "w"]
    assert [entry.target for entry in choice.by_network] == ["v", "x", "w"]


def test_rare_sources_are_drawn_among_those_seen_two_to_five_times(surveyed):
    found = [c for c in surveyed(made_table(2000)).choices if c.kind == "rare"]
    assert len(found) == 10
    assert all(2 <= c.count <= 5 and c.targets > 1 for c in found)
    assert all(len(c.source.split()) >= 4 for c in found)


def test_without_counts(surveyed):
    found = surveyed([b"a b c d ||| x ||| 1 1 0.5 1 0.3", b"a b c d ||| y ||| 1 1 0.5 1 0.1"])
    assert not found.has_counts
    assert [c.name for c in found.correlations] == ["all entries", "not known"]
    assert [c.count for c in found.choices] == [None]


def test_unknown_words_are_counted(surveyed):
    vocabularies = {"source": Vocabulary(SOURCE_WORDS), "target": Vocabulary(TARGET_WORDS)}
    line = b"la maison Haus ||| the Katze Katze ||| 1 1 1 1 0.5"
    source, target = surveyed([line], vocabularies=vocabularies).unknown
    assert (source.words, source.unknown, source.examples) == (3, 1, (("Haus", 1),))
    assert (target.words, target.unknown, target.examples) == (3, 2, (("Katze", 2),))


def test_scores_at_the_floor_are_counted(surveyed):
    floor = b"%.7g" % math.exp(-50)
    lines = [b"a ||| x ||| 1 1 1 1 " + floor, b"b ||| x ||| 1 1 1 1 2e-22"]
    assert surveyed(lines).floored == 1


def test_bad_lines_are_counted_and_left_out(surveyed):
    found = surveyed([*made_table(3), b"no entry"])
    assert found.bad_lines == 1
    assert found.entries == len(made_table(3))


def test_no_entries_at_all(surveyed, tmp_path):
    with pytest.raises(DataError, match="no line of it is an entry"):
        surveyed([b"nothing"])


def test_another_number_of_scores(surveyed):
    with pytest.raises(DataError, match=r"table:1: 2 scores, but its signature speaks of 5"):
        surveyed([b"a ||| x ||| 1 1"])
