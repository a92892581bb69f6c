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
    two = Arithmetic("cpu,cuda:999")
    for process in range(4):
        if process % 2:
            with pytest.raises(UsageError, match="device 'cuda:999' cannot be used: "):
                two.torch_device(process)
        else:
            assert two.torch_device(process).type == "cpu"


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda:x", "meta", "CPU", "cuda:٣"])
def test_unknown_devices(name):
    with pytest.raises(UsageError) as caught:
        Arithmetic(f"cpu,{name}")
    expected = f"unknown device {name!r}; choose from auto, cpu, cuda, cuda:N"
    assert str(caught.value) == expected


def test_what_is_not_there():
    with pytest.raises(UsageError) as caught:
        Arithmetic("cuda:999").torch_device()
    assert str(caught.value).startswith("device 'cuda:999' cannot be used: ")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch has CUDA")
def test_a_torch_for_cpus_alone_says_where_the_other_one_is():
    with pytest.raises(UsageError) as caught:
        Arithmetic("cuda").torch_device()
    version = torch.__version__.partition("+")[0]
    assert str(caught.value) == (
        f"device 'cuda' cannot be used: this torch ({torch.__version__}) computes on CPUs alone; "
        "one that has CUDA: pip install --force-reinstall --index-url https://pypi.org/simple "
        f"torch=={version}"
    )


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
