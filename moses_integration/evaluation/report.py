"""An evaluation as aligned text, Markdown and JSON, and a picture of its sentences.

Text and Markdown are two prints of the same tables. Numbers are rounded here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from moses_integration.evaluation.evaluation import Comparison, Evaluation
from moses_integration.evaluation.significance import LOWER_IS_BETTER, METRICS, Text
from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.runtime.figures import PALETTE, Picture, drawn
from phrase_scorer.runtime.report import Table, as_cell, as_json, escape_markdown
from phrase_scorer.version import __version__

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLOTTED = ("BLEU", "chrF2")
RANKED_BY = "chrF2"  # for examples: smoother than BLEU on one sentence
BEST_AND_WORST = 3  # examples of gains, and as many of losses, per system
NOTHING = "-"
RULES = (":--", "--:")  # under the headers of Markdown's tables
PANEL = (5.0, 3.2)  # inches
LEAST_HEIGHT = 1.0  # points that a panel reaches up and down
EXAMPLES_TITLE = f"Largest gains and losses in sentence {RANKED_BY}"


@dataclass(frozen=True)
class Example:
    """A sentence that a system translates otherwise than the baseline."""

    system: str
    sentence: int  # counted from 1
    difference: float  # system less baseline in `RANKED_BY`, mean over the runs
    source: str
    reference: str
    outputs: tuple[tuple[str, str], ...]  # (name, line): the baseline's runs, then the system's

    @property
    def title(self) -> str:
        """What stands above its lines."""
        return f"{self.system}, sentence {self.sentence}: {self.difference:+.2f}"

    @property
    def lines(self) -> list[tuple[str, str]]:
        """All its lines, each with a label."""
        return [("source", self.source), ("reference", self.reference), *self.outputs]


def examples(
    evaluation: Evaluation,
    source: Text,
    references: Sequence[Text],
    systems: Mapping[str, Sequence[Text]],
    count: int = BEST_AND_WORST,
) -> list[Example]:
    """For each system, the sentences where it gains most on the baseline, and loses most.

    The texts are those evaluated, and what was translated; of the references the first is shown.
    `count`: how many gains, and how many losses; fewer where there are fewer.
    """
    if len(source) != evaluation.sentences:
        raise DataError(
            f"the source has {len(source)} lines, but the reference has {evaluation.sentences}"
        )
    baseline, found = evaluation.baseline.name, []
    for system, _, comparison in _comparisons(evaluation, RANKED_BY):
        differences = comparison.sentences
        order = sorted(range(len(differences)), key=lambda place: -differences[place])
        gains = [place for place in order[:count] if differences[place] > 0]
        losses = [place for place in order[::-1][:count] if differences[place] < 0]
        for place in gains + losses:
            outputs = tuple(
                (f"{name}, run {number}" if len(systems[name]) > 1 else name, text[place])
                for name in (baseline, system)
                for number, text in enumerate(systems[name], 1)
            )
            lines = source[place], references[0][place], outputs
            found.append(Example(system, place + 1, differences[place], *lines))
    return found


def report_text(evaluation: Evaluation, shown: Sequence[Example] = ()) -> str:
    """Tables aligned with blanks."""
    parts = [_heading(evaluation), *(table.as_text() for table in _tables(evaluation))]
    parts += _notes(evaluation)
    if shown:
        parts.append(EXAMPLES_TITLE)
    for example in shown:
        width = max(len(label) for label, _ in example.lines)
        lines = [f"  {label:<{width}}  {line}".rstrip() for label, line in example.lines]
        parts.append("\n".join([example.title, *lines]))
    return "\n\n".join(parts) + "\n"


def report_markdown(evaluation: Evaluation, shown: Sequence[Example] = ()) -> str:
    """The same tables in GitHub's Markdown."""
    parts = [escape_markdown(_heading(evaluation))]
    parts += [table.as_markdown(RULES) for table in _tables(evaluation)]
    parts += map(escape_markdown, _notes(evaluation))
    if shown:
        parts.append(f"### {EXAMPLES_TITLE}")
    for example in shown:
        lines = [escape_markdown(f"- {label}: {line}".rstrip()) for label, line in example.lines]
        parts.append("\n".join([f"**{escape_markdown(example.title)}**", "", *lines]))
    return "\n\n".join(parts) + "\n"


def report_json(evaluation: Evaluation, shown: Sequence[Example] = ()) -> str:
    """All numbers, unrounded."""
    content: dict[str, Any] = {"phrase_scorer": __version__, **evaluation.as_dict()}
    if shown:
        content["examples"] = shown
    return as_json(content)


@drawn
def differences_picture(evaluation: Evaluation) -> Picture:
    """The sorted differences to the baseline of the sentences that differ, a row per system.

    A UsageError tells where there is no system beside the baseline.
    """
    from matplotlib.figure import Figure

    rows, columns = len(evaluation.systems) - 1, len(PLOTTED)
    if not rows:
        raise UsageError("a plot of differences needs a system beside the baseline")
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows))
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    said = []
    for axes, found in zip(panels.flat, _comparisons(evaluation, *PLOTTED), strict=True):
        said.append(_draw(axes, *found, evaluation.baseline.name))
    lowest, highest = panels[0, 0].get_ylim()
    panels[0, 0].set_ylim(min(lowest, -LEAST_HEIGHT), max(highest, LEAST_HEIGHT))
    for axes in panels[:, 0]:
        axes.set_ylabel("difference, points")
    for axes in panels[-1]:
        axes.set_xlabel("sentences that differ, sorted")
    title = f"Differences to {evaluation.baseline.name}, sentence by sentence"
    return Picture(figure, title, f"{'; '.join(said)}.")


def _draw(axes: Axes, system: str, metric: str, comparison: Comparison, baseline: str) -> str:
    """One panel: differences filled from zero, the mean of all as a dashed line; what it shows."""
    ordered = sorted(filter(None, comparison.sentences), reverse=True)
    edges = np.arange(len(ordered) + 1) + 0.5
    for colour, bound in ((PALETTE[0], np.maximum), (PALETTE[1], np.minimum)):
        axes.stairs(bound(ordered, 0.0), edges, fill=True, color=colour)
    mean = f"mean of all {len(comparison.sentences):,}: {comparison.sentence_mean:+.2f}"
    axes.axhline(0.0, color="black", linewidth=0.8)
    axes.axhline(comparison.sentence_mean, color="black", linewidth=0.8, linestyle="--", label=mean)
    share = 100 * comparison.equal / len(comparison.sentences)
    what = f"{system} less {baseline}, {metric}"
    counts = f"{comparison.better:,} better, {comparison.worse:,} worse"
    equal = f"{comparison.equal:,} equal ({share:.0f} %)"
    axes.set_title(f"{what}\n{counts}; {equal}, not drawn", parse_math=False)
    axes.set_xlim(0.5, max(1, len(ordered)) + 0.5)
    axes.locator_params(axis="x", integer=True)
    if not ordered:
        axes.set_xticks([])
    axes.legend(loc="upper right")
    return f"{what}: {counts}, {equal}, {mean}"


def _comparisons(evaluation: Evaluation, *metrics: str) -> Iterator[tuple[str, str, Comparison]]:
    """(system, metric, comparison with the baseline), system by system."""
    for system in evaluation.systems[1:]:
        for metric in metrics:
            if comparison := system.scores[metric].comparison:
                yield system.name, metric, comparison


# -- the tables ------------------------------------------------------------------------------------


def _heading(evaluation: Evaluation) -> str:
    references, settings = evaluation.references, evaluation.settings
    said = [
        f"{evaluation.sentences:,} sentences",
        f"{references} reference{'s' if references > 1 else ''}",
        f"baseline: {evaluation.baseline.name}",
    ]
    if settings.detokenize:
        said.append(f"detokenised ({settings.detokenize})")
    if settings.significance:
        said.append(f"{settings.samples:,} samples, seed {settings.seed}")
    return "; ".join(said)


def _notes(evaluation: Evaluation) -> list[str]:
    """What a reader of p-values of several runs must know (see `significance`)."""
    tested = evaluation.settings.significance and len(evaluation.systems) > 1
    note = (
        "p-values are of the means over the runs: how sure the sentences make a difference, not\n"
        "how tuning would fall out another time; for that, see the standard deviations."
    )
    return [note] if tested and _has_several_runs(evaluation) else []


def _has_several_runs(evaluation: Evaluation) -> bool:
    return any(system.runs > 1 for system in evaluation.systems)


def _tables(evaluation: Evaluation) -> Iterator[Table]:
    for metric in METRICS:
        yield _score_table(evaluation, metric)
    yield _length_table(evaluation)
    if len(evaluation.systems) > 1:
        yield _sentence_table(evaluation)


def _score_table(evaluation: Evaluation, metric: str) -> Table:
    tested, several = evaluation.settings.significance, _has_several_runs(evaluation)
    header = ["system", "score", *["s.d."] * several, *["95 %"] * tested]
    if len(evaluation.systems) > 1:
        header += ["difference", *["95 %", "p bootstrap", "p random."] * tested]
    rows = []
    for system in evaluation.systems:
        score = system.scores[metric]
        name = f"{system.name} ({system.runs} runs)" if system.runs > 1 else system.name
        row = [name, f"{score.mean:.2f}", *[as_cell(score.deviation, ".2f", NOTHING)] * several]
        row += [_interval(score.interval)] * tested
        if found := score.comparison:
            row.append(f"{found.difference:+.2f}")
            tests = _p_value(found.p_bootstrap), _p_value(found.p_randomisation)
            row += [_interval(found.interval, "+"), *tests] * tested
        rows.append(row + [NOTHING] * (len(header) - len(row)))
        if system.runs > 1:
            empty = [""] * (len(header) - 2)
            rows += [[f"  run {n}", f"{run:.2f}", *empty] for n, run in enumerate(score.runs, 1)]
    title = f"{metric} (lower is better)" if metric in LOWER_IS_BETTER else metric
    return Table(title, header, rows, f"signature: {evaluation.signatures[metric]}")


def _length_table(evaluation: Evaluation) -> Table:
    header = ["system", "words/sentence", "reference", "ratio", "empty lines"]
    rows = [
        [
            name, f"{lengths.words:.2f}", f"{lengths.reference_words:.2f}",
            as_cell(lengths.ratio, ".3f", NOTHING), f"{lengths.empty:,}",
        ]
        for name, lengths in ((system.name, system.lengths) for system in evaluation.systems)
    ]  # fmt: skip
    return Table(f"Lengths (tokenizer {evaluation.settings.tokenizer})", header, rows)


def _sentence_table(evaluation: Evaluation) -> Table:
    header = ["system", "metric", "better", "worse", "equal", "mean difference"]
    rows = [
        [
            system, metric, f"{found.better:,}", f"{found.worse:,}", f"{found.equal:,}",
            f"{found.sentence_mean:+.2f}",
        ]
        for system, metric, found in _comparisons(evaluation, *METRICS)
    ]  # fmt: skip
    title = f"Sentences, against {evaluation.baseline.name}"
    return Table(title, header, rows, text_columns=2)


def _interval(bounds: tuple[float, float] | None, sign: str = "") -> str:
    return NOTHING if bounds is None else f"[{bounds[0]:{sign}.2f}, {bounds[1]:{sign}.2f}]"


def _p_value(p: float | None) -> str:
    return as_cell(p, ".1e" if p is not None and p < 1e-4 else ".4f", NOTHING)
