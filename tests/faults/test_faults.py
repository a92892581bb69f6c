"""Stopped or let down at every system call on outputs: old or new, never half; gone on with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faults.injection import FAULTS, Fault
from faults.scenarios import SCENARIOS, Case

KILLS = ("kill", "kill within a write")


EVERY = {"train": 4, "rescore over an older table": 3}  # of so many calls one is disturbed


def chosen(case: Case, turn: int) -> Iterator[tuple[Fault, int]]:
    """One fault for each call: at every other one a kill; elsewhere the other faults in turn.

    Where runs have many calls and take long, only some of them (benchmarks/faults.py: all).
    """
    step = EVERY.get(case.scenario.name, 1)
    for at, call in [*enumerate(case.calls, 1)][::step]:
        concerned = [name for name, fault in FAULTS.items() if fault.concerns(call)]
        kills = [name for name in concerned if name in KILLS]
        others = [name for name in concerned if name not in KILLS]
        yield FAULTS[kills[-1] if (at + turn) % 2 else others[at % len(others)]], at


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_is_lost(name, server, tmp_path):
    case = Case(SCENARIOS[name], server, tmp_path)
    for fault, at in chosen(case, [*SCENARIOS].index(name)):
        assert case.losses(fault, at) == [], f"{fault.name} at {case.log[at - 1]}"


def test_calls_are_counted(server, tmp_path):
    """All of them are seen, by whatever way they are made."""
    case = Case(SCENARIOS["score"], server, tmp_path)
    assert case.calls[0] == "open"
    assert {"write", "fsync", "rename"} <= set(case.calls)
    assert case.calls.index("fsync") < case.calls.index("rename")


@pytest.mark.parametrize(
    ("sabotage", "fault"),
    [("rename by copying", "kill within a write"), ("no fsync", "power cut")],
)
def test_a_loss_is_seen(sabotage, fault, server, tmp_path):
    """A writer that writes in place, and one that trusts the disk, do not pass."""
    case = Case(SCENARIOS["score"], server, tmp_path, sabotage)
    found = [case.losses(*given) for given in case.faults((fault,))]
    assert any(
        "is neither the old file nor the new one" in loss for losses in found for loss in losses
    )
