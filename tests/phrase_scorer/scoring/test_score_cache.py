"""Known scores: only what is new is computed, whoever computed the rest, for each model its own."""

from __future__ import annotations

import pickle
import sqlite3

import numpy as np
import pytest

from phrase_scorer.errors import DataError
from phrase_scorer.scoring.score_cache import ScoreCache
from phrase_scorer.text.phrase_pairs import PairBlock


def block_of(*pairs: tuple[bytes, bytes]) -> PairBlock:
    return PairBlock([s.split() for s, _ in pairs], [t.split() for _, t in pairs])


class Computer:
    """Scores that tell which rows were asked for."""

    def __init__(self, scores) -> None:
        self.scores = np.array(scores, np.float32)
        self.asked: list[list[int]] = []

    def __call__(self, rows):
        self.asked.append(rows.tolist())
        return self.scores[rows]


BLOCK = block_of((b"a b", b"c"), (b"a", b"b c"), (b"a", b""), (b"\xff", b"\xc2\xa0"))
SCORES = [-1.1, -2.2, -3.3, -44.4]


def test_only_what_is_new_is_computed(tmp_path):
    cache = ScoreCache(tmp_path / "c", "m")
    computer = Computer(SCORES)
    assert np.array_equal(cache.complete(BLOCK, computer), computer.scores)
    assert computer.asked == [[0, 1, 2, 3]]
    new = cache.take_new()
    assert len(new) == 4
    assert cache.take_new() == []
    cache.add(new)
    more = block_of((b"x", b"y"), (b"a", b"b c"), (b"a b", b"c"), (b"a", b"b"))
    again = Computer([-9, np.nan, np.nan, -8])
    other = pickle.loads(pickle.dumps(cache))  # as a worker process has it
    assert other.complete(more, again).tolist() == np.float32([-9, -2.2, -1.1, -8]).tolist()
    assert again.asked == [[0, 3]]


def test_words_are_not_run_together(tmp_path):
    cache = ScoreCache(tmp_path / "c", "m")
    cache.complete(block_of((b"a b", b"c")), Computer([-1]))
    cache.add(cache.take_new())
    other = Computer([-2, -3])
    assert cache.complete(block_of((b"a", b"b c"), (b"ab", b"c")), other).tolist() == [-2, -3]


def test_each_model_knows_its_own(tmp_path):
    for number, model in enumerate(["a float32", "a int8", "b float32"]):
        cache = ScoreCache(tmp_path / "c", model)
        computer = Computer([-number] * 4)
        cache.complete(BLOCK, computer)
        assert computer.asked == [[0, 1, 2, 3]]
        cache.add(cache.take_new())
    cache = ScoreCache(tmp_path / "c", "a int8")
    assert cache.complete(BLOCK, Computer([])).tolist() == [-1] * 4


def test_many_keys_and_two_writers(tmp_path):
    block = block_of(*((b"s %d" % i, b"t") for i in range(1700)))
    first, second = ScoreCache(tmp_path / "c", "m"), ScoreCache(tmp_path / "c", "m")
    for cache in (first, second):
        cache.complete(block, Computer(-np.arange(1700)))
    for cache in (first, second):
        cache.add(cache.take_new())
    assert second.complete(block, Computer([])).tolist() == (-np.arange(1700)).tolist()


def test_files_that_are_no_cache(tmp_path):
    text = tmp_path / "text"
    text.write_bytes(b"a phrase table\n" * 100)
    with pytest.raises(DataError) as error:
        ScoreCache(text, "m")
    assert str(error.value) == f"{text}: score cache: file is not a database"
    other = tmp_path / "other"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(DataError) as error:
        ScoreCache(other, "m")
    assert str(error.value) == f"{other}: not a score cache"
    newer = tmp_path / "newer"
    ScoreCache(newer, "m")
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(DataError) as error:
        ScoreCache(newer, "m")
    assert str(error.value) == f"{newer}: format 99 is newer than this program"
    with pytest.raises(DataError) as error:
        ScoreCache(tmp_path / "no" / "folder", "m")
    assert str(error.value).endswith("score cache: unable to open database file")


def test_a_cache_that_cannot_be_written(tmp_path):
    cache = ScoreCache(tmp_path / "c", "m")
    cache._connection.execute("PRAGMA query_only = 1")
    with pytest.raises(DataError) as error:
        cache.add([(b"a\nb", -1.0)])
    said = "score cache: attempt to write a readonly database"
    assert str(error.value) == f"{tmp_path}/c: {said}"
