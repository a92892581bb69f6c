"""The long run is honest: what it counts as lost, and as a traceback, is."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from pathlib import Path
from types import ModuleType

import pytest
from toys import ROOT, TOY_INI, TOY_TABLE

from faults.scenarios import SCENARIOS


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("long_run", ROOT / "benchmarks" / "faults.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_a_writer_that_writes_in_place_loses_files(benchmark, server, tmp_path):
    (row,) = benchmark.stopped_at_calls(server, tmp_path, [SCENARIOS["ini"]], "rename by copying")
    assert row.lost
    assert row.tried > row.lost


def test_what_is_counted(benchmark):
    row = benchmark.Row("a kind")
    row.count([], "fine")
    row.count(["not the bytes of an undisturbed run", "an input is touched"], "lost")
    row.count(["an input is touched", "traceback: KeyError"], "raised")
    assert str(row) == "| a kind | 3 | 1 | 1 | 1 |"
    assert row.details[0] == "lost: not the bytes of an undisturbed run"


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """A command, and its input, for real kills."""
    (tmp_path / "table").write_bytes(TOY_TABLE)
    (tmp_path / "moses.ini").write_text(TOY_INI.format(tmp_path / "table"))
    return ["ini", str(tmp_path / "moses.ini"), "--output", "OUT"]


def test_a_real_kill(benchmark, command, tmp_path):
    job = benchmark.Killed("ini", command, lambda out: out.read_bytes(), lambda _: [])
    benchmark._command(benchmark._with_output(job, tmp_path / "unbroken"))
    expected = (tmp_path / "unbroken").read_bytes()
    assert benchmark._kill_and_go_on(job, tmp_path / "killed", 0.2, expected) == []
    found = benchmark._kill_and_go_on(job, tmp_path / "killed", 0.0, b"other bytes")
    assert found == ["not the bytes of an unbroken run"]


def test_a_process_that_ends_by_itself(benchmark, tmp_path, monkeypatch):
    """A crash while files are broken is told, not passed over."""
    monkeypatch.setattr(benchmark, "KINDS", {"kind": None})
    monkeypatch.setattr(benchmark, "_break_files", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    monkeypatch.setattr(benchmark, "World", lambda _: None)
    (row,) = benchmark.broken_files(tmp_path, 5, 1)
    assert (row.tried, row.tracebacks) == (5, 1)
