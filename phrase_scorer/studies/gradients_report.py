"""What the study of gradients leaves: gradients.json, gradients.png, gradients.svg, and a table."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phrase_scorer.runtime.output import write_file
from phrase_scorer.runtime.report import save_figure
from phrase_scorer.studies.gradients import Norms, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = {"rnn": "tab:red", "lstm": "tab:blue", "gru": "tab:green"}
SMALLEST = 1e-12  # of a norm on a plot, relative to that of the last state
SMOOTHED = 10  # updates


def write_report(study: Study, folder: Path) -> list[Path]:
    """Writes the three files into a folder that is there; their paths."""
    path = folder / "gradients.json"
    content = json.dumps(as_dict(study), indent=1)
    write_file(path, content.encode() + b"\n")
    pictures = [folder / "gradients.png", folder / "gradients.svg"]
    for picture in pictures:
        plot(study, picture)
    return [path, *pictures]


def as_dict(study: Study) -> dict[str, Any]:
    """For JSON; norms are of ∂ loss_T / ∂ h_t, by distance T - t from 0."""
    return {
        "settings": dataclasses.asdict(study.settings),
        "copies, at the start, by scale": study.start,
        "copies, trained": study.trained,
        "sentences, at the start": study.text_start,
        "sentences, trained": study.text_trained,
        "clipping": {name: dataclasses.asdict(found) for name, found in study.clipping.items()},
        "accuracy of copying, by distance": study.copying,
        "accuracy of a guess": study.chance,
    }


def markdown(study: Study) -> str:
    """How much of the gradient arrives from far away, and the accuracy of copying."""
    lines = [
        "‖∂ loss_T / ∂ h_t‖ at the largest distance, as a share of that at distance 0",
        "",
        f"| what | distance | {' | '.join(study.settings.cells)} |",
        "| --- | ---: |" + " ---: |" * len(study.settings.cells),
    ]
    measured = {f"copies, at the start, × {scale}": c for scale, c in study.start.items()}
    measured["copies, trained"] = study.trained
    if study.text_start:
        measured["sentences, at the start"] = study.text_start
        measured["sentences, trained"] = study.text_trained
    for what, cells in measured.items():
        far = len(next(iter(cells.values()))["h"]) - 1
        shares = (f"{cells[cell]['h'][-1] / cells[cell]['h'][0]:.1e}" for cell in cells)
        lines.append(f"| {what} | {far} | {' | '.join(shares)} |")
    distances = study.settings.distances
    lines += [
        "",
        f"Accuracy of saying the first word again after n others (a guess: {study.chance:.3f})",
        "",
        f"| cell | {' | '.join(f'n = {n}' for n in distances)} |",
        "| --- |" + " ---: |" * len(distances),
    ]
    for cell, found in study.copying.items():
        lines.append(f"| {cell} | {' | '.join(f'{found[n]:.3f}' for n in distances)} |")
    lines += ["", "Gradient descent on copies, a vanilla RNN at the largest scale", ""]
    lines += ["| | largest norm of a gradient | last loss, nats | accuracy |"]
    lines += ["| --- | ---: | ---: | ---: |"]
    for name, training in study.clipping.items():
        largest, last = max(training.gradient_norms), training.losses[-1]
        lines.append(f"| {name} | {largest:.1f} | {last:.3f} | {training.accuracy:.3f} |")
    return "\n".join(lines)


def plot(study: Study, path: Path) -> None:
    """A panel for each kind of start, after training, on sentences, of clipping, of accuracy."""
    from matplotlib.figure import Figure

    panels = {f"copies, start × {scale}": cells for scale, cells in study.start.items()}
    panels["copies, trained"] = study.trained
    if study.text_start:
        panels["sentences, start"] = study.text_start
        panels["sentences, trained"] = study.text_trained
    count = len(panels) + 2
    columns = min(4, count)
    figure = Figure(figsize=(3.6 * columns, 3.2 * -(-count // columns)))
    every = figure.subplots(-(-count // columns), columns, squeeze=False).flatten()
    for axes, (title, cells) in zip(every, panels.items(), strict=False):
        _plot_norms(axes, title, cells)
    _plot_clipping(every[len(panels)], study)
    _plot_accuracy(every[len(panels) + 1], study)
    for axes in every[count:]:
        axes.remove()
    save_figure(figure, path)


def _plot_norms(axes: Axes, title: str, cells: dict[str, dict[str, Norms]]) -> None:
    for cell, parts in cells.items():
        for part, norms in parts.items():
            values = [max(norm / parts["h"][0], SMALLEST) for norm in norms]
            if part == "C":  # at distance 0 the loss does not see it
                axes.plot(range(1, len(norms)), values[1:], "--", color=COLORS.get(cell))
            else:
                axes.plot(values, color=COLORS.get(cell), label=cell)
    axes.plot([], [], "--", color="grey", label="memory cell C")
    axes.set_yscale("log")
    axes.set_title(title)
    axes.set_xlabel("distance T - t")
    axes.set_ylabel("‖∂ loss$_T$ / ∂ h$_t$‖, relative")
    axes.legend(fontsize="small")


def _plot_clipping(axes: Axes, study: Study) -> None:
    for name, training in study.clipping.items():
        losses = training.losses
        means = [
            sum(losses[i : i + SMOOTHED]) / len(losses[i : i + SMOOTHED])
            for i in range(0, len(losses), SMOOTHED)
        ]
        label = f"{name} (norms up to {max(training.gradient_norms):.0f})"
        axes.plot([SMOOTHED * i for i in range(len(means))], means, label=label)
    axes.set_yscale("log")
    axes.set_title("rnn at the largest scale, gradient descent")
    axes.set_xlabel("update")
    axes.set_ylabel("loss, nats")
    axes.legend(fontsize="small")


def _plot_accuracy(axes: Axes, study: Study) -> None:
    for cell, found in study.copying.items():
        axes.plot(list(found), list(found.values()), "o-", color=COLORS.get(cell), label=cell)
    axes.axhline(study.chance, color="grey", linestyle=":", label="a guess")
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(study.settings.distances), [str(n) for n in study.settings.distances])
    axes.set_title("the first word again after n others")
    axes.set_xlabel("n")
    axes.set_ylabel("accuracy")
    axes.legend(fontsize="small")
