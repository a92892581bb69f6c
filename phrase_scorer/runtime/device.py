"""Which device computes, and with how many threads."""

from __future__ import annotations

import torch

from phrase_scorer.errors import UsageError


def choose_device(names: str, process: int = 0) -> torch.device:
    """The device of this name; "auto" is a GPU where torch sees one, else the CPU.

    Args:
        names: "cuda:0,cuda:1" are two devices, of which processes have one each in turn.
        process: Number of this process among those that share them.

    Raises:
        UsageError: Not a device, or not there.
    """
    every = names.split(",")
    name = every[process % len(every)]
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        said = str(error).splitlines()[0]
        raise UsageError(f"device {name!r} cannot be used: {said}") from error
    return device


def set_threads(threads: int | None) -> None:
    """How many cores torch uses; None leaves its own choice, all of them.

    Raises:
        UsageError: Less than one.
    """
    if threads is None:
        return
    if threads < 1:
        raise UsageError(f"--threads must be at least 1, not {threads}")
    torch.set_num_threads(threads)
