"""The table of an experiment: every system on every test set, as Markdown, JSON and a plot."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from moses_integration.evaluation.evaluation import (
    Evaluation,
    EvaluationSettings,
    evaluate,
    read_text,
)
from moses_integration.experiment.plan import Plan, Step
from moses_integration.experiment.runner import note_of
from phrase_scorer.runtime.output import write_file
from phrase_scorer.runtime.report import Table, save_figure, write_json


@dataclass(frozen=True)
class Results:
    """What came out of an experiment."""

    evaluations: dict[str, Evaluation]  # by test set; the tuning set is the first
    minutes: dict[str, float]  # to find the weights, by system, all runs together
    commands: list[list[str]]  # all that were run, in order


def collect(plan: Plan) -> Results:
    """Evaluates the outputs of a finished plan; the first system is the baseline.

    Raises:
        DataError: An output is missing or has not the reference's number of lines.
    """
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
        name: sum(_tuning_minutes(plan.folder, step) for step in steps)
        for name, steps in plan.tunings.items()
    }
    return Results(evaluations, minutes, [["phrase-scorer", *s.arguments] for s in plan.steps])


def _tuning_minutes(folder: Path, step: Step) -> float:
    """What the runs of a tuning took, also one that was interrupted; else what the step took."""
    runs = step.output / "tuning.json"
    if runs.is_file():
        content = json.loads(runs.read_bytes())
        return sum(float(run["seconds"]) for run in content["runs"]) / 60
    return float(json.loads(note_of(folder, step).read_bytes())["seconds"]) / 60


def table1_markdown(results: Results) -> str:
    """A row per system: BLEU as mean and standard deviation, gain, p of the gain; then the rest."""
    evaluations = results.evaluations.values()
    runs = max(system.runs for evaluation in evaluations for system in evaluation.systems)
    heads = [head for test in results.evaluations for head in (f"{test}: BLEU", "gain", "p")]
    rows = [
        [name, *_bleu_cells(evaluations, row), f"{minutes:.0f} min"]
        for row, (name, minutes) in enumerate(results.minutes.items())
    ]
    others = [[name, *_other_cells(evaluations, row)] for row, name in enumerate(results.minutes)]
    parts = [
        Table("", ["system", *heads, "tuning"], rows).as_markdown(),
        f"Means and standard deviations over {runs} tuning runs; gain: over the first row; "
        "p: two-sided approximate randomisation over all runs. The tuning set's gains are those "
        "of fitting, not of translating.",
        f"sacreBLEU: `{next(iter(evaluations)).signatures['BLEU']}`",
        Table("", ["system", *_other_heads(results)], others).as_markdown(),
    ]
    return "\n\n".join(parts) + "\n"


def _bleu_cells(evaluations: Iterable[Evaluation], row: int) -> Iterator[str]:
    for evaluation in evaluations:
        score = evaluation.systems[row].scores["BLEU"]
        spread = f" ± {score.deviation:.2f}" if score.deviation is not None else ""
        comparison = score.comparison
        p = comparison and comparison.p_randomisation
        yield f"{score.mean:.2f}{spread}"
        yield "" if comparison is None else f"{comparison.difference:+.2f}"
        yield "" if p is None else f"{p:.3f}"


def _other_heads(results: Results) -> Iterator[str]:
    for test, evaluation in results.evaluations.items():
        yield from (f"{test}: {name}" for name in evaluation.baseline.scores if name != "BLEU")
        yield f"{test}: length ratio"


def _other_cells(evaluations: Iterable[Evaluation], row: int) -> Iterator[str]:
    for evaluation in evaluations:
        system = evaluation.systems[row]
        scores = system.scores.items()
        yield from (f"{score.mean:.2f}" for name, score in scores if name != "BLEU")
        ratio = system.lengths.ratio
        yield "" if ratio is None else f"{ratio:.3f}"


def plot_table1(results: Results, path: Path) -> None:
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
        axes.set_title(test)
        axes.set_xlabel("BLEU")
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    save_figure(figure, path)


def write_table1(results: Results, folder: Path) -> list[Path]:
    """Writes table1.md, table1.json and table1.svg; their paths.

    Raises:
        DataError: One of them cannot be written.
    """
    paths = [folder / f"table1.{suffix}" for suffix in ("md", "json", "svg")]
    write_file(paths[0], table1_markdown(results).encode())
    content = {
        "evaluations": {test: found.as_dict() for test, found in results.evaluations.items()},
        "tuning_minutes": results.minutes,
        "commands": results.commands,
    }
    write_json(paths[1], content)
    plot_table1(results, paths[2])
    return paths
