"""The comparison of all systems: systems.md, systems.json, systems.svg and systems.png."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from phrase_scorer.runtime.output import write_file
from phrase_scorer.runtime.report import save_figure
from phrase_scorer.studies.system_configs import Ranking
from phrase_scorer.studies.systems import SystemResult, SystemsSettings


def write_report(
    results: Sequence[SystemResult],
    settings: SystemsSettings,
    best: Ranking | None,
    command: str,
    folder: Path,
) -> list[Path]:
    """Writes the four files; their paths.

    Args:
        results: A line each.
        settings: What all systems shared.
        best: Of the counts themselves: no model can have more.
        command: How to get this.
        folder: Which is there.
    """
    paths = [folder / f"systems.{suffix}" for suffix in ("md", "json", "svg", "png")]
    text = f"{markdown(results, best)}\n\n`{command}`\n"
    write_file(paths[0], text.encode())
    content = {
        "command": command,
        "best possible": best and best._asdict(),
        "settings": dataclasses.asdict(settings),
        "systems": [dataclasses.asdict(result) for result in results],
    }
    write_file(paths[1], json.dumps(content, indent=1).encode() + b"\n")
    for path in paths[2:]:
        plot(results, path)
    return paths


def markdown(results: Sequence[SystemResult], best: Ranking | None) -> str:
    """A line a system, and one for the counts themselves, if there are any."""
    lines = [
        "| system | parameters | hidden | updates | minutes | nats a symbol | ranked first "
        "| 1 / rank | entries/s | peak MB |",
        "| --- |" + " ---: |" * 9,
    ]
    lines += [
        (
            f"| {r.name} | {r.parameters:,} | {r.hidden} | {r.updates:,} | {r.minutes:.1f} "
            f"| {r.nats:.3f} | {_share(r.ranked_first)} | {_share(r.reciprocal_rank)} "
            f"| {r.entries_per_second:,.0f} | {r.peak_megabytes:,.0f} |"
        )
        for r in results
    ]
    if best:
        lines.append(
            f"| the counts themselves |  |  |  |  |  | {_share(best.first)} "
            f"| {_share(best.reciprocal)} |  |  |"
        )
    return "\n".join(lines)


def _share(value: float | None) -> str:
    return "no counts" if value is None else f"{value:.3f}"


def plot(results: Sequence[SystemResult], path: Path) -> None:
    """Held-out nats by training time; ranking quality by scoring speed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2))
    curves, quality = figure.subplots(1, 2)
    for number, result in enumerate(results):
        color = f"C{number}"
        dashed = "--" if "pseudo" in result.name else "-"
        minutes, nats = zip(*result.curve, strict=True) if result.curve else ((), ())
        curves.plot(minutes, nats, dashed, color=color, marker=".", label=result.name)
        if result.ranked_first is None:
            continue
        quality.plot([result.entries_per_second], [result.ranked_first], "o", color=color)
        quality.annotate(
            result.name,
            (result.entries_per_second, result.ranked_first),
            xytext=(4, 4),
            textcoords="offset points",
            fontsize="small",
        )
    curves.set_xlabel("minutes of training")
    curves.set_ylabel("held-out nats a target symbol")
    curves.legend(fontsize="small")
    quality.set_xscale("log")
    quality.set_xlabel("entries scored a second")
    quality.set_ylabel("aligned target ranked first")
    quality.margins(x=0.2, y=0.15)
    save_figure(figure, path)
