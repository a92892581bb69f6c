"""The table of an experiment: every system on every test set, as Markdown, JSON and a plot."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moses_integration.evaluation.evaluation import (
    Evaluation,
    EvaluationSettings,
    evaluate,
    read_text,
)
from moses_integration.experiment.plan import Plan, Step
from moses_integration.experiment.runner import note_of
from phrase_scorer.runtime.output import write_file


@dataclass(frozen=True)
class Results:
    """What came out of an experiment.

    Attributes:
        evaluations: By test set; the tuning set is the first.
        minutes: Of finding the weights, by system, all runs together.
        commands: All that were run, in order.
    """

    evaluations: dict[str, Evaluation]
    minutes: dict[str, float]
    commands: list[list[str]]


def collect(plan: Plan) -> Results:
    """Evaluates the outputs of a finished plan; the first system is the baseline.

    Raises:
        DataError: An output is missing or has not the reference's number of lines.
    """
    experiment = plan.experiment
    settings = EvaluationSettings(lowercase=experiment.lowercase)
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


def markdown(results: Results) -> str:
    """One row a system: BLEU as mean and standard deviation, gain, and p of the gain."""
    tests = list(results.evaluations)
    lines = [
        "| system | " + " | ".join(f"{test}: BLEU | gain | p" for test in tests) + " | tuning |",
        "| --- |" + " ---: | ---: | ---: |" * len(tests) + " ---: |",
    ]
    for name in results.minutes:
        cells = [cell for test in tests for cell in _cells(results.evaluations[test], name)]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {results.minutes[name]:.0f} min |")
    return "\n".join([*lines, "", *_notes(results), ""])


def _cells(evaluation: Evaluation, name: str) -> Iterator[str]:
    score = next(s for s in evaluation.systems if s.name == name).scores["BLEU"]
    spread = f" ± {score.deviation:.2f}" if score.deviation is not None else ""
    yield f"{score.mean:.2f}{spread}"
    if score.comparison is None:
        yield from ("", "")
        return
    yield f"{score.comparison.difference:+.2f}"
    p = score.comparison.p_randomisation
    yield "" if p is None else f"{p:.3f}"


def _notes(results: Results) -> Iterator[str]:
    runs = {len(s.scores["BLEU"].runs) for e in results.evaluations.values() for s in e.systems}
    yield (
        f"Means and standard deviations over {max(runs)} tuning runs; gain: over the first row; "
        "p: two-sided approximate randomisation over all runs. The tuning set's gains are those "
        "of fitting, not of translating."
    )
    signature = next(iter(results.evaluations.values())).signatures["BLEU"]
    yield ""
    yield f"sacreBLEU: `{signature}`"
    yield ""
    yield "| system | " + " | ".join(_other_heads(results)) + " |"
    yield "| --- |" + " ---: |" * len(list(_other_heads(results)))
    for name in results.minutes:
        yield f"| {name} | " + " | ".join(_other_cells(results, name)) + " |"


def _other_heads(results: Results) -> Iterator[str]:
    for test, evaluation in results.evaluations.items():
        for metric in evaluation.systems[0].scores:
            if metric != "BLEU":
                yield f"{test}: {metric}"
        yield f"{test}: length ratio"


def _other_cells(results: Results, name: str) -> Iterator[str]:
    for evaluation in results.evaluations.values():
        system = next(s for s in evaluation.systems if s.name == name)
        for metric, score in system.scores.items():
            if metric != "BLEU":
                yield f"{score.mean:.2f}"
        ratio = system.lengths.ratio
        yield "" if ratio is None else f"{ratio:.3f}"


def as_dict(results: Results) -> dict[str, Any]:
    """For JSON."""
    return {
        "evaluations": {test: e.as_dict() for test, e in results.evaluations.items()},
        "tuning_minutes": results.minutes,
        "commands": results.commands,
    }


def plot(results: Results, path: Path) -> None:
    """A panel a test set: a dot a run, a bar at the mean, a line at the baseline's mean."""
    from matplotlib.figure import Figure

    names = list(results.minutes)
    figure = Figure(figsize=(1.5 + 3.0 * len(results.evaluations), 1.5 + 0.4 * len(names)))
    panels = figure.subplots(1, len(results.evaluations), sharey=True, squeeze=False)[0]
    for axes, (test, evaluation) in zip(panels, results.evaluations.items(), strict=True):
        for row, system in enumerate(evaluation.systems):
            runs = system.scores["BLEU"].runs
            axes.plot(runs, [row] * len(runs), "o", color="tab:blue", alpha=0.6)
            axes.plot([statistics.fmean(runs)], [row], "|", color="black", markersize=18)
        axes.axvline(evaluation.baseline.scores["BLEU"].mean, color="grey", linestyle=":")
        axes.set_title(test)
        axes.set_xlabel("BLEU")
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def write_report(results: Results, folder: Path) -> list[Path]:
    """Writes table1.md, table1.json and table1.svg; their paths."""
    paths = [folder / f"table1.{suffix}" for suffix in ("md", "json", "svg")]
    write_file(paths[0], markdown(results).encode())
    content = json.dumps(as_dict(results), indent=2, ensure_ascii=False)
    write_file(paths[1], content.encode() + b"\n")
    plot(results, paths[2])
    return paths
