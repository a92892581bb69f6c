"""Progress of long work: a bar on a terminal, whole lines in a log.

One process draws.
"""

from __future__ import annotations

import threading
from typing import Any

from tqdm import tqdm
from typing_extensions import override

from phrase_scorer.runtime.report import duration

LOG_SECONDS = 30.0  # between lines where standard error is no terminal

# tqdm's own lock would be shared with forked processes: one of them, killed while it held the lock,
# would stop all others for ever.
tqdm.set_lock(threading.RLock())


class TerminalBar(tqdm):  # type: ignore[misc]  # it has no types
    """tqdm's bar, as wide as the terminal."""

    def __init__(self, **options: Any) -> None:
        super().__init__(dynamic_ncols=True, mininterval=0.1, maxinterval=10.0, **options)


class LoggedProgress(tqdm):  # type: ignore[misc]  # it has no types
    """A line every `LOG_SECONDS`: what, how much, time left, rate; none for what is done sooner."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            delay=LOG_SECONDS, mininterval=LOG_SECONDS, maxinterval=LOG_SECONDS, leave=False,
            **options,
        )  # fmt: skip

    @override
    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if msg is None:  # else the bar is taken away
            self.fp.write(f"{self.line()}\n")
            self.fp.flush()

    def line(self) -> str:
        """What is known now, as a line."""
        now = self.format_dict
        done, total, seconds = now["n"], now["total"], now["elapsed"]
        rate = now["rate"] or (done - now["initial"]) / (seconds or 1e-9)
        parts = []
        if total:
            left = duration((total - done) / rate) if rate else "unknown time"
            parts += [f"{100 * done / total:.0f} %", f"{left} left"]
        if now["unit"] == "B":
            parts += [] if total else [f"{done / 1e6:,.0f} MB"]
            parts.append(f"{rate / 1e6:,.1f} MB/s")
        elif now["unit"]:
            unit = now["unit"].strip()
            parts += [] if total else [f"{done:,.0f} {unit}"]
            parts.append(f"{rate:,.{0 if rate >= 10 else 2}f} {unit}/s")
        if now["postfix"]:
            parts.append(now["postfix"].replace("=", " "))
        return f"{self.desc}: {', '.join(parts)}"
