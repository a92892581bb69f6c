"""Progress bars on standard error: live on a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

LOG_SECONDS = 30.0  # between lines where standard error is no terminal


def progress_bar(description: str, *, show: bool, **options: Any) -> tqdm[Any]:
    """A tqdm bar (its options pass through); `show=False` makes one that does nothing."""
    live = sys.stderr.isatty()
    return tqdm(
        desc=description,
        disable=not show,
        unit_scale=True,
        dynamic_ncols=live,
        mininterval=0.1 if live else LOG_SECONDS,
        maxinterval=10.0 if live else LOG_SECONDS,
        **options,
    )
