"""Files of any bytes: a result or one error line, never a traceback; check and rescore agree."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from faults.any_bytes import KINDS, RESCORE, World, changed, run, strategy_of

FEW = settings(
    max_examples=8,  # benchmarks/faults.py has thousands
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    before = Path.cwd()
    yield World(tmp_path_factory.mktemp("world") / "here")
    os.chdir(before)


@pytest.mark.parametrize("name", KINDS)
def test_a_result_or_an_error_line(name, world):
    kind = KINDS[name]

    @FEW
    @given(strategy_of(world, kind))
    def holds(content: bytes) -> None:
        assert world.losses(kind, content) == []

    holds()


@pytest.mark.parametrize("name", KINDS)
def test_a_valid_file_gives_a_result(name, world):
    """Else all of them would be refused, and nothing be tested."""
    kind = KINDS[name]
    content = world.valid_of(kind)
    if name == "unfinished journal":
        assert content.count(b"\n") == 3
    assert world.losses(kind, content) == []
    assert {done.code for done in world.done} == {0}


TABLES = {
    "no scores": b"la ||| the\n",
    "brackets": b"la [1] ||| the [1] ||| 1 1 1 1\n",
    "not a number": b"la ||| the ||| 1 1 1 x ||| 0-0\n",
    "nan": b"la ||| the ||| 1 nan 1 1 ||| 0-0\n",
    "blank": b" \n",
    "no source": b" ||| the ||| 1 1 1 1\n",
    "alignment": b"la ||| the ||| 1 1 1 1 ||| 0-7 ||| 1 1 1\n",
    "carriage return": b"la\rx ||| the ||| 1 1 1 1 \r\n",
    "many digits": b"la ||| the ||| 1 1 1 1 ||| %b-0\n" % (b"9" * 5000),
}


@pytest.mark.parametrize("name", TABLES)
def test_check_and_rescore_agree(name, world):
    """On single bad lines; the strategies make others."""
    lines = world.valid["in/table"].splitlines(keepends=True)
    content = b"".join([*lines[:12], TABLES[name], *lines[12:]])
    assert world.losses(KINDS["table"], content) == []


def test_what_is_wrong_is_seen(world, monkeypatch):
    """A command that keeps lines otherwise than they were, or raises, does not pass."""
    content = world.valid["in/table"].replace(b" ||| ", b" || ", 1)
    assert world.losses(KINDS["table"], content) == []
    with monkeypatch.context() as patch:
        patch.setattr(
            "moses_integration.formats.phrase_table.TableBlock.with_scores",
            lambda block, _: b"\n".join(block.lines.lines).lower() + b"\n",
        )
        assert any("becomes" in loss for loss in world.losses(KINDS["table"], content))
    with monkeypatch.context() as patch:
        patch.setattr("moses_integration.cli.rescore.RescoreRequest", None)
        patch.setattr("moses_integration.cli.check.check_table", lambda *_, **__: 1 / 0)
        found = world.losses(KINDS["table"], content)
        assert found[0].startswith("traceback of check")
    assert run([*RESCORE, "--resume"]).trace == ""


@given(st.binary(max_size=40), st.integers(0, 1 << 16), st.integers(0, 7))
@settings(FEW, max_examples=50)
def test_a_flipped_bit_is_flipped_back(content, place, bit):
    """The strategies' own changes do what they say."""
    change = ("flip", place, bit)
    assert changed(changed(content, change), change) == content
