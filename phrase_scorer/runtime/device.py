"""Where to compute and in which numbers; torch is imported only when they are put to use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from phrase_scorer.errors import UsageError, require_between, require_choice

if TYPE_CHECKING:
    import torch

MOST_THREADS = 10_000
DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,4})?", re.ASCII)
Precision = Literal["float32", "bfloat16", "int8"]


@dataclass(frozen=True)
class Arithmetic:
    """Where to compute, in which numbers, and on how many cores; a UsageError tells of bad ones."""

    device: str = "auto"  # "auto": a GPU where torch sees one; "cuda:0,cuda:1": one per process
    precision: Precision = "float32"  # of the large products; all else is float32
    threads: int | None = None  # CPU cores; None: torch's own choice, all of them

    def __post_init__(self) -> None:
        require_choice("precision", self.precision, get_args(Precision))
        for name in self.device.split(","):
            if not DEVICE.fullmatch(name):
                raise UsageError(f"unknown device {name!r}; choose from auto, cpu, cuda, cuda:N")
        if self.threads is not None:
            require_between(1, MOST_THREADS, "--threads", self.threads)

    @property
    def is_exact(self) -> bool:
        """Whether products are float32."""
        return self.precision == "float32"

    def use_threads(self) -> None:
        """Tells torch how many cores to use in this process."""
        if self.threads is not None:
            import torch

            torch.set_num_threads(self.threads)

    def torch_device(self, process: int = 0) -> torch.device:
        """The device for one of several processes, which take the devices in turn.

        A UsageError tells where it is not there.
        """
        import torch

        names = self.device.split(",")
        name = names[process % len(names)]
        if name == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(name)
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            said = str(error).splitlines()[0]
            if name.startswith("cuda") and torch.version.cuda is None:
                version = torch.__version__.partition("+")[0]
                said = (
                    f"this torch ({torch.__version__}) computes on CPUs alone; one that has CUDA: "
                    f"pip install --force-reinstall --index-url https://pypi.org/simple "
                    f"torch=={version}"
                )
            raise UsageError(f"device {name!r} cannot be used: {said}") from error
        return device
