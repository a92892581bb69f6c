"""The table of an experiment: every system on every test set, as Markdown, JSON and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from moses_integration.evaluation.evaluation import (
    Evaluation,
    EvaluationSettings,
    ScoredSystem,
    evaluate,
    read_text,
)
from moses_integration.evaluation.significance import METRICS
from moses_integration.experiment.plan import Plan, Step
from moses_integration.experiment.runner import note_of
from phrase_scorer.runtime.figures import PALETTE, Picture, drawn
from phrase_scorer.runtime.records import read_json
from phrase_scorer.runtime.report import Table, as_cell, as_json, escape_markdown, write_results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OTHERS = [name for name in METRICS if name != "BLEU"]


@dataclass(frozen=True)
class Results:
    """What came out of an experiment."""

    evaluations: dict[str, Evaluation]  # by test set; the tuning set is the first
    minutes: dict[str, float]  # to find the weights, by system, all runs together
    commands: list[list[str]]  # all that were run, in order


def collect(plan: Plan) -> Results:
    """Evaluates the outputs of a finished plan; the first system is the baseline."""
    settings = EvaluationSettings(lowercase=plan.experiment.lowercase)
    evaluations = {}
    shown = [plan.experiment.tuning.name, *(test.name for test in plan.experiment.tests)]
    for name_shown, test in zip(shown, plan.sets, strict=True):
        outputs = {
            name: [read_text(plan.output(name, test.name, run)) for run in plan.runs]
            for name in plan.tunings
        }
        reference = read_text(test.reference)
        evaluations[name_shown] = evaluate([reference], outputs, settings=settings)
    minutes = {
        name: sum(_tuning_seconds(plan.folder, step) / 60 for step in steps)
        for name, steps in plan.tunings.items()
    }
    return Results(evaluations, minutes, [["phrase-scorer", *s.arguments] for s in plan.steps])


def _tuning_seconds(folder: Path, step: Step) -> float:
    """What the runs of a tuning took, also one that was interrupted; else what the step took."""
    runs = step.output / "tuning.json"
    if runs.is_file():
        return sum(run.seconds for run in read_json(runs, _Runs).runs)
    return read_json(note_of(folder, step), _Timed).seconds


class _Timed(msgspec.Struct):
    seconds: float


class _Runs(msgspec.Struct):
    runs: list[_Timed]


def table1_markdown(results: Results) -> str:
    """A row per system: BLEU as mean and standard deviation, gain, p of the gain; then the rest."""
    tests = results.evaluations
    evaluations, tuned_on = list(tests.values()), escape_markdown(next(iter(tests)))
    heads = [head for test in tests for head in (f"{test}: BLEU", "gain", "p")]
    other_heads = [f"{test}: {name}" for test in tests for name in (*OTHERS, "length ratio")]
    rows, other_rows = [], []
    for row, (name, minutes) in enumerate(results.minutes.items()):
        systems = [evaluation.systems[row] for evaluation in evaluations]
        rows.append([name, *chain(*map(_bleu_cells, systems)), f"{minutes:.0f} min"])
        other_rows.append([name, *chain(*map(_other_cells, systems))])
    runs = max(system.runs for evaluation in evaluations for system in evaluation.systems)
    parts = [
        Table("", ["system", *heads, "tuning"], rows).as_markdown(),
        f"Means and standard deviations over {runs} tuning runs; gain: over the first row; "
        "p: two-sided approximate randomisation over all runs. The weights were tuned on "
        f"{tuned_on}: its gains are those of fitting, not of translating.",
        f"sacreBLEU: `{evaluations[0].signatures['BLEU']}`",
        Table("", ["system", *other_heads], other_rows).as_markdown(),
    ]
    return "\n\n".join(parts) + "\n"


def _bleu_cells(system: ScoredSystem) -> tuple[str, str, str]:
    score = system.scores["BLEU"]
    spread = "" if score.deviation is None else f" ± {score.deviation:.2f}"
    mean, found = f"{score.mean:.2f}{spread}", score.comparison
    if found is None:
        return mean, "", ""
    return mean, f"{found.difference:+.2f}", as_cell(found.p_randomisation, ".3f")


def _other_cells(system: ScoredSystem) -> list[str]:
    means = [f"{system.scores[name].mean:.2f}" for name in OTHERS]
    return [*means, as_cell(system.lengths.ratio, ".3f")]


@drawn
def table1_picture(results: Results) -> Picture:
    """A panel per test set: a dot per run, the mean as a bar and a number, the baseline as a line.

    A point of BLEU is as wide in all panels.
    """
    from matplotlib.figure import Figure

    names, panels = list(results.minutes), len(results.evaluations)
    figure = Figure(figsize=(2.5 + 3.2 * panels, 1.3 + 0.36 * len(names)))
    shared = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
    for axes, (test, evaluation) in zip(shared, results.evaluations.items(), strict=True):
        _draw_scores(axes, evaluation)
        note = " (the weights were tuned on it)" if axes is shared[0] else ""
        axes.set_title(f"{test}{note}", parse_math=False)
        axes.set_xlabel("BLEU")
    _use_equal_spans(shared)
    shared[0].set_yticks(range(len(names)), names, parse_math=False)
    shared[0].set_ylim(len(names) - 0.4, -0.6)
    handles, labels = shared[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    means = [
        f"{test}: "
        + ", ".join(f"{system.name} {system.scores['BLEU'].mean:.2f}" for system in found.systems)
        for test, found in results.evaluations.items()
    ]
    return Picture(figure, "BLEU of each system and tuning run", f"Means. {'; '.join(means)}.")


def _draw_scores(axes: Axes, evaluation: Evaluation) -> None:
    baseline = evaluation.baseline
    for row, system in enumerate(evaluation.systems):
        score = system.scores["BLEU"]
        labels = ("a tuning run", "the mean of a system's runs") if row == 0 else (None, None)
        axes.plot(
            score.runs, [row] * system.runs, "o", color=PALETTE[0], alpha=0.6, label=labels[0],
            markeredgewidth=0,
        )  # fmt: skip
        axes.plot(
            [score.mean], [row], "|", color="black", markersize=14, markeredgewidth=1.6,
            label=labels[1],
        )  # fmt: skip
        gain = f" ({score.comparison.difference:+.2f})" if score.comparison else ""
        axes.annotate(
            f"{score.mean:.2f}{gain}", (max(score.runs), row), (9, 0), textcoords="offset points",
            va="center", fontsize="small",
        )  # fmt: skip
    axes.axvline(
        baseline.scores["BLEU"].mean, color="grey", linestyle=":", zorder=0,
        label=f"the mean of {baseline.name}",
    )  # fmt: skip
    axes.tick_params(axis="y", length=0)


def _use_equal_spans(panels: Sequence[Axes]) -> None:
    """Lets a point be as wide in each panel, with room for the numbers at the right."""
    limits = [axes.get_xlim() for axes in panels]
    span = max(high - low for low, high in limits)
    for axes, (low, _) in zip(panels, limits, strict=True):
        axes.set_xlim(low, low + 1.35 * span)


def write_table1(results: Results, folder: Path) -> list[Path]:
    """Writes table1.md, table1.json and table1.svg; their paths."""
    content = {
        "evaluations": {test: found.as_dict() for test, found in results.evaluations.items()},
        "tuning_minutes": results.minutes,
        "commands": results.commands,
    }
    return write_results(
        folder / "table1",
        {
            ".md": table1_markdown(results),
            ".json": as_json(content),
            ".svg": table1_picture(results),
        },
    )
