"""Devices and threads are chosen by name; what is not there is refused in one line."""

from __future__ import annotations

import pytest
import torch

from phrase_scorer.errors import UsageError
from phrase_scorer.runtime.device import Arithmetic


@pytest.mark.parametrize(("gpu", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_takes_a_gpu_where_there_is_one(gpu, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert Arithmetic("auto").torch_device() == torch.device(expected)


def test_by_name():
    assert Arithmetic("cpu").torch_device() == torch.device("cpu")


def test_processes_have_devices_in_turn():
    chosen = [Arithmetic("cpu,meta").torch_device(process).type for process in range(4)]
    assert chosen == ["cpu", "meta", "cpu", "meta"]


@pytest.mark.parametrize("name", ["abacus", "", "cuda:999"])
def test_what_is_not_there(name):
    with pytest.raises(UsageError) as caught:
        Arithmetic(name).torch_device()
    assert str(caught.value).startswith(f"device {name!r} cannot be used: ")
    assert "\n" not in str(caught.value)


def test_threads():
    before = torch.get_num_threads()
    try:
        Arithmetic(threads=2).use_threads()
        assert torch.get_num_threads() == 2
        Arithmetic(threads=None).use_threads()
        assert torch.get_num_threads() == 2
        with pytest.raises(UsageError) as caught:
            Arithmetic(threads=0)
    finally:
        torch.set_num_threads(before)
    assert str(caught.value) == "--threads must be at least 1, not 0"
    with pytest.raises(UsageError) as caught:
        Arithmetic(threads=2**31)
    assert str(caught.value) == "--threads must be at most 10,000, not 2,147,483,648"
