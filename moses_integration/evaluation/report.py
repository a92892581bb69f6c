"""An evaluation as aligned text, Markdown and JSON, and a picture of its sentences.

Text and Markdown are two prints of the same tables. Numbers are rounded here and nowhere else.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moses_integration.evaluation.evaluation import Comparison, Evaluation, MetricScore, System
from moses_integration.evaluation.significance import LOWER_IS_BETTER, METRICS, Text
from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.runtime.output import write_file
from phrase_scorer.version import __version__

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLOT_FORMATS = {".png": "png", ".svg": "svg"}
PLOTTED = ("BLEU", "chrF2")
RANKED_BY = "chrF2"  # for examples: smoother than BLEU on one sentence
EXAMPLES = 3  # best, and as many worst, a system
NOTHING = "-"
PANEL = (5.0, 3.2)  # inches


@dataclass(frozen=True)
class Example:
    """A sentence that a system translates otherwise than the baseline.

    Attributes:
        system: Its name.
        sentence: Number, from 1.
        difference: System less baseline in `RANKED_BY`, mean over the runs.
        source: Then the lines as given.
        outputs: (name, line) of the baseline and of the system, each run a line.
    """

    system: str
    sentence: int
    difference: float
    source: str
    reference: str
    outputs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Table:
    """Cells under a title; the first columns are text, the others numbers."""

    title: str
    header: list[str]
    rows: list[list[str]]
    note: str = ""
    text_columns: int = 1


def examples(
    evaluation: Evaluation,
    source: Text,
    references: Sequence[Text],
    systems: Mapping[str, Sequence[Text]],
    count: int = EXAMPLES,
) -> list[Example]:
    """For each system, the sentences where it gains most on the baseline, and loses most.

    Args:
        evaluation: Of these texts.
        source: What was translated.
        references: As evaluated; the first is shown.
        systems: As evaluated.
        count: How many gains, and how many losses; fewer where there are fewer.

    Raises:
        DataError: The source has another number of lines.
    """
    if len(source) != evaluation.sentences:
        raise DataError(
            f"the source has {len(source)} lines, but the reference has {evaluation.sentences}"
        )
    found = []
    for system, comparison in _comparisons(evaluation, RANKED_BY):
        differences = comparison.sentences
        order = sorted(range(len(differences)), key=lambda place: -differences[place])
        gains = [place for place in order[:count] if differences[place] > 0]
        losses = [place for place in order[::-1][:count] if differences[place] < 0]
        for place in gains + losses:
            outputs = [
                (_run_name(name, number, systems[name]), text[place])
                for name in (evaluation.baseline.name, system.name)
                for number, text in enumerate(systems[name], 1)
            ]
            lines = source[place], references[0][place], tuple(outputs)
            found.append(Example(system.name, place + 1, differences[place], *lines))
    return found


def report_text(evaluation: Evaluation, shown: Sequence[Example] = ()) -> str:
    """Tables aligned with blanks."""
    parts = [_heading(evaluation)]
    for table in _tables(evaluation):
        cells = [table.header, *table.rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [table.title, *(_aligned(row, widths, table.text_columns) for row in cells)]
        parts.append("\n".join([*lines, *([table.note] if table.note else [])]))
    parts += _notes(evaluation)
    if shown:
        parts.append(_EXAMPLES_TITLE)
    for example in shown:
        labelled = _example_lines(example)
        width = max(len(label) for label, _ in labelled)
        lines = [f"  {label:<{width}}  {line}".rstrip() for label, line in labelled]
        parts.append("\n".join([_example_title(example), *lines]))
    return "\n\n".join(parts) + "\n"


def report_markdown(evaluation: Evaluation, shown: Sequence[Example] = ()) -> str:
    """The same tables in GitHub's Markdown."""
    parts = [_escaped(_heading(evaluation))]
    for table in _tables(evaluation):
        numbers = len(table.header) - table.text_columns
        ruler = [":--"] * table.text_columns + ["--:"] * numbers
        escaped = [[_escaped(cell) for cell in row] for row in (table.header, *table.rows)]
        rows = [f"| {' | '.join(row)} |" for row in (escaped[0], ruler, *escaped[1:])]
        note = ["", _escaped(table.note)] if table.note else []
        parts.append("\n".join([f"### {_escaped(table.title)}", "", *rows, *note]))
    parts += map(_escaped, _notes(evaluation))
    if shown:
        parts.append(f"### {_EXAMPLES_TITLE}")
    for example in shown:
        lines = [
            f"- {_escaped(label)}: {_escaped(line)}".rstrip()
            for label, line in _example_lines(example)
        ]
        parts.append("\n".join([f"**{_escaped(_example_title(example))}**", "", *lines]))
    return "\n\n".join(parts) + "\n"


def report_json(evaluation: Evaluation, shown: Sequence[Example] = ()) -> str:
    """All numbers, unrounded."""
    content: dict[str, Any] = {"phrase_scorer": __version__, **evaluation.as_dict()}
    if shown:
        content["examples"] = [asdict(example) for example in shown]
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def plot_format(path: str | Path) -> str:
    """The format that a plot's name asks for.

    Raises:
        UsageError: None that we draw.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in PLOT_FORMATS:
        raise UsageError(f"{path}: the name of a plot must end in {' or '.join(PLOT_FORMATS)}")
    return PLOT_FORMATS[suffix]


def plot_differences(evaluation: Evaluation, path: str | Path) -> None:
    """Draws the difference to the baseline in each sentence, sorted: a row of panels a system.

    Raises:
        UsageError: Another suffix than .png and .svg, or nothing but a baseline.
        DataError: The file cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    kind = plot_format(path)
    compared = evaluation.systems[1:]
    if not compared:
        raise UsageError("a plot of differences needs a system beside the baseline")
    columns = len(PLOTTED)
    with rc_context({"svg.hashsalt": "phrase-scorer"}), warnings.catch_warnings():
        # The font lacks a letter of a system's name: a box stands there.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(
            figsize=(PANEL[0] * columns, PANEL[1] * len(compared)), layout="constrained"
        )
        panels = figure.subplots(len(compared), columns, squeeze=False, sharex=True)
        for row, system in zip(panels, compared, strict=True):
            for axes, metric in zip(row, PLOTTED, strict=True):
                comparison = system.scores[metric].comparison
                assert comparison is not None
                _draw(axes, comparison, f"{system.name} less {evaluation.baseline.name}", metric)
        for axes in panels[-1]:
            axes.set_xlabel("sentences, sorted by difference")
        picture = BytesIO()
        # Without the date, equal evaluations give equal files.
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(picture, format=kind, dpi=150, metadata=metadata)
    write_file(path, picture.getvalue())


def _draw(axes: Axes, comparison: Comparison, title: str, metric: str) -> None:
    """One panel: sorted differences filled from zero, their mean as a dashed line."""
    ordered = sorted(comparison.sentences, reverse=True)
    places = range(1, len(ordered) + 1)
    for colour, signed in (
        ("tab:blue", [max(0.0, value) for value in ordered]),
        ("tab:red", [min(0.0, value) for value in ordered]),
    ):
        axes.fill_between(places, signed, color=colour, linewidth=0, step="mid")
    axes.axhline(0.0, color="black", linewidth=0.8)
    axes.axhline(
        comparison.sentence_mean, color="black", linewidth=0.8, linestyle="--",
        label=f"mean {comparison.sentence_mean:+.2f}",
    )  # fmt: skip
    counts = f"{comparison.better} better, {comparison.worse} worse, {comparison.equal} equal"
    axes.set_title(f"{title}\n{counts}", fontsize="medium", parse_math=False)
    axes.set_ylabel(f"difference in sentence {metric}")
    axes.legend(loc="upper right", frameon=False)


def _comparisons(evaluation: Evaluation, metric: str) -> Iterator[tuple[System, Comparison]]:
    for system in evaluation.systems[1:]:
        comparison = system.scores[metric].comparison
        if comparison is not None:
            yield system, comparison


# -- the tables ------------------------------------------------------------------------------------


def _heading(evaluation: Evaluation) -> str:
    references = evaluation.references
    settings = evaluation.settings
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
    several = any(system.runs > 1 for system in evaluation.systems)
    if not (several and evaluation.settings.significance and len(evaluation.systems) > 1):
        return []
    return [
        "p-values are of the means over the runs: how sure the sentences make a difference, not\n"
        "how tuning would fall out another time; for that, see the standard deviations."
    ]


def _tables(evaluation: Evaluation) -> Iterator[_Table]:
    for metric in METRICS:
        yield _score_table(evaluation, metric)
    yield _length_table(evaluation)
    if len(evaluation.systems) > 1:
        yield _sentence_table(evaluation)


def _score_table(evaluation: Evaluation, metric: str) -> _Table:
    tested = evaluation.settings.significance
    header = ["system", "score"]
    several = any(system.runs > 1 for system in evaluation.systems)
    header += ["s.d."] * several + ["95 %"] * tested
    if len(evaluation.systems) > 1:
        header += ["difference", *["95 %", "p bootstrap", "p random."] * tested]
    rows = []
    for system in evaluation.systems:
        rows.append(_score_row(system, system.scores[metric], tested, several, len(header)))
        if system.runs > 1:
            for number, score in enumerate(system.scores[metric].runs, 1):
                row = [f"  run {number}", f"{score:.2f}"]
                rows.append(row + [""] * (len(header) - len(row)))
    title = f"{metric} (lower is better)" if metric in LOWER_IS_BETTER else metric
    return _Table(title, header, rows, f"signature: {evaluation.signatures[metric]}")


def _score_row(
    system: System, score: MetricScore, tested: bool, several: bool, columns: int
) -> list[str]:
    name = f"{system.name} ({system.runs} runs)" if system.runs > 1 else system.name
    row = [name, f"{score.mean:.2f}"]
    if several:
        row.append(NOTHING if score.deviation is None else f"{score.deviation:.2f}")
    if tested:
        row.append(_interval(score.interval))
    comparison = score.comparison
    if comparison is not None:
        row.append(f"{comparison.difference:+.2f}")
        if tested:
            p_values = (comparison.p_bootstrap, comparison.p_randomisation)
            row += [_interval(comparison.interval, "+"), *map(_p_value, p_values)]
    return row + [NOTHING] * (columns - len(row))


def _length_table(evaluation: Evaluation) -> _Table:
    header = ["system", "words/sentence", "reference", "ratio", "empty lines"]
    rows = []
    for system in evaluation.systems:
        lengths = system.lengths
        ratio = NOTHING if lengths.ratio is None else f"{lengths.ratio:.3f}"
        words = [f"{lengths.words:.2f}", f"{lengths.reference_words:.2f}"]
        rows.append([system.name, *words, ratio, f"{lengths.empty:,}"])
    return _Table(f"Lengths (tokenizer {evaluation.settings.tokenizer})", header, rows)


def _sentence_table(evaluation: Evaluation) -> _Table:
    header = ["system", "metric", "better", "worse", "equal", "mean difference"]
    rows = [
        [
            system.name, metric,
            *(f"{count:,}" for count in (comparison.better, comparison.worse, comparison.equal)),
            f"{comparison.sentence_mean:+.2f}",
        ]
        for system in evaluation.systems[1:]
        for metric in METRICS
        if (comparison := system.scores[metric].comparison) is not None
    ]  # fmt: skip
    title = f"Sentences, against {evaluation.baseline.name}"
    return _Table(title, header, rows, text_columns=2)


_EXAMPLES_TITLE = f"Largest gains and losses in sentence {RANKED_BY}"


def _example_title(example: Example) -> str:
    return f"{example.system}, sentence {example.sentence}: {example.difference:+.2f}"


def _example_lines(example: Example) -> list[tuple[str, str]]:
    return [("source", example.source), ("reference", example.reference), *example.outputs]


def _run_name(name: str, number: int, runs: Sequence[object]) -> str:
    return f"{name}, run {number}" if len(runs) > 1 else name


def _interval(bounds: tuple[float, float] | None, sign: str = "") -> str:
    return NOTHING if bounds is None else f"[{bounds[0]:{sign}.2f}, {bounds[1]:{sign}.2f}]"


def _p_value(p: float | None) -> str:
    if p is None:
        return NOTHING
    return f"{p:.4f}" if p >= 1e-4 else f"{p:.1e}"


def _aligned(row: list[str], widths: list[int], text_columns: int) -> str:
    cells = zip(row, widths, strict=True)
    padded = [
        cell.ljust(width) if column < text_columns else cell.rjust(width)
        for column, (cell, width) in enumerate(cells)
    ]
    return "  ".join(padded).rstrip()


def _escaped(text: str) -> str:
    """Without what Markdown would take for its own."""
    return "".join(f"\\{letter}" if letter in r"\`*_[]<>|#~" else letter for letter in text)
