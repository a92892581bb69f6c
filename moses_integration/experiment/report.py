"""The table of an experiment: every system on every test set, as Markdown, JSON and a plot."""

from __future__ import annotations

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
from phrase_scorer.runtime.records import read_json
from phrase_scorer.runtime.report import Table, as_cell, as_json, write_results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
    for test in plan.sets:
        outputs = {
            name: [read_text(plan.output(name, test.name, run)) for run in plan.runs]
            for name in plan.tunings
        }
        reference = read_text(test.reference)
        evaluations[test.name] = evaluate([reference], outputs, settings=settings)
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
    evaluations = list(tests.values())
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
        "p: two-sided approximate randomisation over all runs. The tuning set's gains are those "
        "of fitting, not of translating.",
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


def _figure(results: Results) -> Figure:
    """A panel per test set: a dot per run, a bar at the mean, a line at the baseline's mean."""
    from matplotlib.figure import Figure

    names = list(results.minutes)
    figure = Figure(figsize=(1.5 + 3.0 * len(results.evaluations), 1.5 + 0.4 * len(names)))
    panels = figure.subplots(1, len(results.evaluations), sharey=True, squeeze=False)[0]
    for axes, (test, evaluation) in zip(panels, results.evaluations.items(), strict=True):
        for row, system in enumerate(evaluation.systems):
            score = system.scores["BLEU"]
            axes.plot(score.runs, [row] * system.runs, "o", color="tab:blue", alpha=0.6)
            axes.plot([score.mean], [row], "|", color="black", markersize=18)
        axes.axvline(evaluation.baseline.scores["BLEU"].mean, color="grey", linestyle=":")
        axes.set(title=test, xlabel="BLEU")
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    return figure


def write_table1(results: Results, folder: Path) -> list[Path]:
    """Writes table1.md, table1.json and table1.svg; their paths."""
    content = {
        "evaluations": {test: found.as_dict() for test, found in results.evaluations.items()},
        "tuning_minutes": results.minutes,
        "commands": results.commands,
    }
    return write_results(
        folder / "table1",
        {".md": table1_markdown(results), ".json": as_json(content), ".svg": _figure(results)},
    )
