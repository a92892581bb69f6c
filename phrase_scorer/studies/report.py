"""What a study leaves: its tables as Markdown and JSON, and its pictures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phrase_scorer.runtime.figures import PALETTE, Picture, drawn
from phrase_scorer.runtime.report import Table, as_cell, as_json, write_results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

    from phrase_scorer.scoring.accuracy import Ranking
    from phrase_scorer.studies.gradients import NormsByCell, Study
    from phrase_scorer.studies.settings import SystemsSettings
    from phrase_scorer.studies.systems import SystemResult

LEAST_EXPONENT = -12  # of norms relative to that of the last state: what is less leaves the panel
LARGEST_EXPONENT = 12
MOST_TICKS = 7
SMOOTHED = 10  # updates
LOSSES = [n * 10.0**e for e in (-3, -2, -1, 0, 1, 2) for n in (1, 1.5, 2, 3, 5, 7)]  # axis' names
GREY: dict[str, Any] = {"color": "grey", "linewidth": 1.0, "zorder": 0}
COUNTS = "the counts themselves"

# -- gradients -------------------------------------------------------------------------------------


@drawn
def gradients_picture(study: Study) -> Picture:
    """The norms of every circumstance on one scale; beside them clipping, and what was learnt."""
    from matplotlib.figure import Figure

    columns = -(-len(study.norms) // 2)
    figure = Figure(figsize=(2.5 * columns + 3.3, 5.6))
    norms, outcomes = figure.subfigures(1, 2, squeeze=False, width_ratios=(2.4 * columns, 3.2))[0]
    colors = {cell: _color(number) for number, cell in enumerate(study.settings.cells)}
    _draw_norms(norms, study.norms, colors)
    clipping, accuracy = outcomes.subplots(2, 1)
    _draw_clipping(clipping, study)
    _draw_accuracy(accuracy, study, colors)
    accuracies = "; ".join(
        f"{cell} {', '.join(f'{share:.2f}' for share in found.values())}"
        for cell, found in study.copying.items()
    )
    return Picture(
        figure,
        "How much of a loss reaches the past, by cell",
        "Norms of the gradient of the loss at step T by the state at step t, by distance T - t, "
        "relative to distance 0, on one logarithmic scale; the loss of a vanilla RNN with and "
        "without clipping; accuracy of saying the first word again after "
        f"{', '.join(map(str, study.settings.distances))} others: {accuracies}.",
    )


def _draw_norms(figure: SubFigure, norms: dict[str, NormsByCell], colors: dict[str, str]) -> None:
    columns = -(-len(norms) // 2)
    panels = figure.subplots(2, columns, sharex=True, sharey=True, squeeze=False).flat
    largest = 1.0
    for axes, (title, cells) in zip(panels, norms.items(), strict=False):
        for cell, parts in cells.items():
            shares = {name: [norm / parts["h"][0] for norm in part] for name, part in parts.items()}
            largest = max([largest, *filter(math.isfinite, shares["h"])])
            axes.plot(shares["h"], color=colors[cell], label=cell)
            if "C" in shares:  # at distance 0 the loss does not see it
                places = range(1, len(shares["C"]))
                label = f"memory cell C of {cell}"
                axes.plot(places, shares["C"][1:], "--", color=colors[cell], label=label)
        axes.set_title(title)
    axes = figure.axes[0]
    top = min(LARGEST_EXPONENT, math.ceil(math.log10(largest)))
    step = -(-(top - LEAST_EXPONENT) // MOST_TICKS)
    exponents = range(LEAST_EXPONENT, top + step, step)
    axes.set(yscale="log", ylim=(10.0**LEAST_EXPONENT, 10.0 ** exponents[-1]))
    names = [f"$10^{{{exponent}}}$" if exponent else "1" for exponent in exponents]
    axes.set_yticks([10.0**exponent for exponent in exponents], ["≤ " + names[0], *names[1:]])
    axes.minorticks_off()
    for unused in figure.axes[len(norms) :]:
        unused.set_axis_off()
    for used in figure.axes[: len(norms)]:
        used.grid(alpha=0.3)
    figure.supylabel("‖∂ loss$_T$ / ∂ h$_t$‖, as a share of that at distance 0", fontsize="medium")
    figure.supxlabel("distance T − t", fontsize="medium")
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside upper center", ncols=min(4, 2 * columns)
    )


def _draw_clipping(axes: Axes, study: Study) -> None:
    for (name, training), line in zip(study.clipping.items(), (":", "-"), strict=True):
        starts = range(0, len(training.losses), SMOOTHED)
        means = [statistics.fmean(training.losses[i : i + SMOOTHED]) for i in starts]
        label = f"{name} (norms up to {max(training.gradient_norms):,.0f})"
        axes.plot(starts, means, line, color="black", label=label)
    axes.axhline(-math.log(study.chance), linestyle="--", label="a guess", **GREY)
    scale = f"{max(study.settings.scales):g}"
    axes.set(yscale="log", title=f"rnn × {scale}, gradient descent", xlabel="update")
    lowest, highest = axes.get_ylim()
    named = [loss for loss in LOSSES if lowest <= loss <= highest]
    axes.set_yticks(named, [f"{loss:g}" for loss in named])
    axes.minorticks_off()
    axes.set_ylabel("loss, nats")
    axes.legend()


def _draw_accuracy(axes: Axes, study: Study, colors: dict[str, str]) -> None:
    for number, (cell, found) in enumerate(study.copying.items()):
        size = max(3, 8 - 2 * number)  # so that none hides another of the same place
        axes.plot(list(found), list(found.values()), "o-", color=colors[cell], markersize=size)
    axes.axhline(study.chance, linestyle="--", **GREY)
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(study.settings.distances), [str(n) for n in study.settings.distances])
    axes.minorticks_off()
    axes.set(title="saying the first word again", xlabel="after so many others", ylabel="accuracy")
    axes.set_ylim(0, 1.05)


# -- systems ---------------------------------------------------------------------------------------


@drawn
def systems_picture(
    results: Sequence[SystemResult], best: Ranking | None, minutes: float, seed: int
) -> Picture:
    """Held-out nats by training time; by system, the ranking beside its ceiling, and the speed."""
    from matplotlib.figure import Figure

    ranked = [result.ranked_first for result in results if result.ranked_first is not None]
    figure = Figure(figsize=(11.5 if ranked else 8.5, 4.2))
    ratios = (1.6, 1.0, 1.0) if ranked else (1.6, 1.0)
    curves, *bars = figure.subplots(1, len(ratios), width_ratios=ratios)
    _draw_curves(curves, results)
    for axes in bars:
        _name_rows(axes, results, best if ranked else None)
    if ranked:
        _draw_ranking(bars[0], results, best)
        bars[1].tick_params(labelleft=False)
    _draw_speed(bars[-1], results)
    note = f"single runs, each of {minutes:g} minutes of training (seed {seed}): no spread is known"
    if any("pseudo" in result.name for result in results):
        note += "; pseudo-nats are not to be compared with nats"
    figure.supxlabel(note, fontsize="small", color="dimgrey")
    found = "; ".join(
        f"{r.name}: {r.nats:.3f} nats, "
        + ("" if r.ranked_first is None else f"{r.ranked_first:.3f} ranked first, ")
        + f"{r.entries_per_second:,.0f} entries a second"
        for r in results
    )
    ceiling = f"; {COUNTS}: {best.first:.3f} ranked first" if best else ""
    return Picture(figure, "Architectures on one phrase table", f"{note}. {found}{ceiling}.")


def _draw_curves(axes: Axes, results: Sequence[SystemResult]) -> None:
    for number, result in enumerate(results):
        minutes, nats = zip(*result.curve, strict=True) if result.curve else ((), ())
        line = "--" if "pseudo" in result.name else "-"
        axes.plot(minutes, nats, line, color=_color(number), marker=".", label=result.name)
    axes.set(title="held-out nats a target symbol", xlabel="minutes of training")
    axes.set_xlim(left=0)
    axes.legend()


def _name_rows(axes: Axes, results: Sequence[SystemResult], best: Ranking | None) -> None:
    names = [result.name for result in results] + [COUNTS] * (best is not None)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def _draw_ranking(axes: Axes, results: Sequence[SystemResult], best: Ranking | None) -> None:
    for row, result in enumerate(results):
        if result.ranked_first is not None:
            _draw_value(axes, result.ranked_first, row, ".3f", _color(row))
    if best:
        axes.axvline(best.first, linestyle=":", **GREY)
        _draw_value(axes, best.first, len(results), ".3f", "grey")
    axes.margins(x=0.25)
    axes.set(title="aligned target ranked first", xlabel="share of held-out alignments")


def _draw_value(axes: Axes, value: float, row: int, form: str, color: str) -> None:
    axes.plot([value], [row], "o", color=color)
    axes.annotate(
        format(value, form), (value, row), (-6, 0), textcoords="offset points", ha="right",
        va="center", fontsize="small",
    )  # fmt: skip


def _draw_speed(axes: Axes, results: Sequence[SystemResult]) -> None:
    speeds = [result.entries_per_second for result in results]
    colors = [_color(number) for number in range(len(results))]
    bars = axes.barh(range(len(results)), speeds, height=0.6, color=colors)
    axes.bar_label(bars, [f"{speed:,.0f}" for speed in speeds], padding=3, fontsize="small")
    axes.margins(x=0.2)
    axes.locator_params(axis="x", nbins=4)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set(title="speed of scoring", xlabel="entries a second")


def _color(number: int) -> str:
    return PALETTE[number % len(PALETTE)]


# -- files and tables ------------------------------------------------------------------------------


def write_gradients(study: Study, folder: Path) -> list[Path]:
    """Writes gradients.json, .png and .svg into a folder that is there; their paths."""
    content = {  # norms are of ∂ loss_T / ∂ h_t, by distance T - t from 0
        "settings": study.settings,
        "copies, at the start, by scale": study.start,
        "copies, trained": study.trained,
        "sentences, at the start": study.text_start,
        "sentences, trained": study.text_trained,
        "clipping": study.clipping,
        "accuracy of copying, by distance": study.copying,
        "accuracy of a guess": study.chance,
    }
    text, picture = as_json(content, indent=1), gradients_picture(study)
    return write_results(folder / "gradients", {".json": text, ".png": picture, ".svg": picture})


def gradients_markdown(study: Study) -> str:
    """How much of the gradient arrives from far away, the accuracy of copying, and clipping."""
    cells, distances = study.settings.cells, study.settings.distances
    shares = [
        [what, str(len(found[cells[0]]["h"]) - 1)]
        + [f"{found[cell]['h'][-1] / found[cell]['h'][0]:.1e}" for cell in cells]
        for what, found in study.norms.items()
    ]
    copying = [
        [cell, *(f"{found[n]:.3f}" for n in distances)] for cell, found in study.copying.items()
    ]
    clipping = [
        [name, f"{max(t.gradient_norms):.1f}", f"{t.losses[-1]:.3f}", f"{t.accuracy:.3f}"]
        for name, t in study.clipping.items()
    ]
    tables = (
        Table(
            "‖∂ loss_T / ∂ h_t‖ at the largest distance, as a share of that at distance 0",
            ["what", "distance", *cells], shares,
        ),
        Table(
            f"Accuracy of saying the first word again after n others (a guess: {study.chance:.3f})",
            ["cell", *(f"n = {n}" for n in distances)], copying,
        ),
        Table(
            "Gradient descent on copies, a vanilla RNN at the largest scale",
            ["", "largest norm of a gradient", "last loss, nats", "accuracy"], clipping,
        ),
    )  # fmt: skip
    return "\n\n".join(table.as_markdown() for table in tables)


def write_systems(
    results: Sequence[SystemResult],
    settings: SystemsSettings,
    best: Ranking | None,
    command: str,
    folder: Path,
) -> list[Path]:
    """Writes systems.md, systems.json, systems.svg and systems.png; their paths."""
    text = f"{systems_markdown(results, best)}\n\n`{command}`\n"
    found = {"command": command, "best possible": best, "settings": settings, "systems": results}
    content = as_json(found, indent=1)
    picture = systems_picture(results, best, settings.minutes, settings.seed)
    return write_results(
        folder / "systems", {".md": text, ".json": content, ".svg": picture, ".png": picture}
    )


def systems_markdown(results: Sequence[SystemResult], best: Ranking | None) -> str:
    """A line per system, and one for the counts themselves, if there are any."""
    header = [
        "system", "parameters", "hidden", "updates", "minutes", "nats a symbol", "ranked first",
        "1 / rank", "entries/s", "peak MB",
    ]  # fmt: skip
    rows = [
        [
            r.name, f"{r.parameters:,}", str(r.hidden), f"{r.updates:,}", f"{r.minutes:.1f}",
            f"{r.nats:.3f}", *_shares(r.ranked_first, r.reciprocal_rank),
            f"{r.entries_per_second:,.0f}", f"{r.peak_megabytes:,.0f}",
        ]
        for r in results
    ]  # fmt: skip
    if best:
        shares = _shares(best.first, best.reciprocal)
        rows.append(["the counts themselves", *[""] * 5, *shares, "", ""])
    return Table("", header, rows).as_markdown()


def _shares(*values: float | None) -> list[str]:
    return [as_cell(value, ".3f", "no counts") for value in values]
