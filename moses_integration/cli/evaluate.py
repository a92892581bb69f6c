"""The command that judges translations: evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from moses_integration.evaluation.significance import TOKENIZERS, Text
from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.runtime.console import say
from phrase_scorer.runtime.output import STANDARD, OutputFile, is_same_file

if TYPE_CHECKING:
    from moses_integration.evaluation.evaluation import EvaluationSettings


@click.command(
    name="evaluate",
    epilog="""\b
Examples:
  phrase-scorer evaluate --reference test.fr baseline=base.out rnn=rnn.out
  phrase-scorer evaluate --reference test.fr baseline=base.out rnn=run1.out rnn=run2.out \\
      --source test.en --plot differences.png
  phrase-scorer evaluate --reference test.fr --detokenize fr --format json baseline=base.out""",
)
@click.argument("systems", nargs=-1, required=True, metavar="NAME=FILE...")
@click.option(
    "--reference",
    "references",
    multiple=True,
    required=True,
    metavar="FILE",
    help="Reference translation; repeat for several.",
)
@click.option(
    "--tokenize",
    type=click.Choice(TOKENIZERS),
    help="sacreBLEU's tokenizer for BLEU.  [default: none, since Moses' output is tokenised "
    "already and a second tokenisation would split it again; with --detokenize 13a]",
)
@click.option(
    "--detokenize",
    metavar="LANG",
    help="First detokenise outputs and references as text of this language (fr, say): scores are "
    "then comparable with those that others publish.",
)
@click.option("--lowercase", is_flag=True, help="Ignore case (TER always does).")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "json"]),
    default="text",
    show_default=True,
    help="Of the report.",
)
@click.option("--output", default=STANDARD, show_default=True, metavar="FILE", help="The report.")
@click.option(
    "--plot",
    metavar="FILE",
    help="Also draw the differences to the baseline, sentence by sentence (.png or .svg).",
)
@click.option(
    "--source",
    metavar="FILE",
    help="What was translated: the report then shows the sentences that gain and lose most.",
)
@click.option(
    "--samples",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    metavar="N",
    help="Resampled test sets, and shuffles.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=12345, show_default=True, help="Of the samples."
)
@click.option("--no-significance", is_flag=True, help="No intervals and no p-values.")
def evaluate_command(
    systems: tuple[str, ...], references: tuple[str, ...], output: str, **options: Any
) -> None:  # fmt: skip
    """Score translations with sacreBLEU: BLEU, chrF2 and TER, with significance.

    The first NAME is the baseline that all others are compared with. The same NAME given again is
    another tuning run of that system; means and standard deviations over the runs are shown.
    Intervals come from the paired bootstrap; p-values from it and from approximate randomisation
    (of several runs as in Clark et al. 2011, who pool them). `-` is standard input or output.
    """
    from moses_integration.evaluation.evaluation import EvaluationSettings

    files = _systems(systems)
    settings = EvaluationSettings(
        tokenize=options["tokenize"],
        detokenize=options["detokenize"],
        lowercase=options["lowercase"],
        samples=options["samples"],
        seed=options["seed"],
        significance=not options["no_significance"],
    )
    inputs = [*references, *(path for paths in files.values() for path in paths)]
    inputs += [options["source"]] if options["source"] else []
    _check_files(inputs, output, options["plot"], compared=len(files) > 1)
    with OutputFile(output) as report:  # opened now: a folder that is not there is told at once
        report.write(_evaluate(files, references, settings, options).encode())


def _systems(arguments: tuple[str, ...]) -> dict[str, list[str]]:
    """Name -> files, in the order given."""
    files: dict[str, list[str]] = {}
    for argument in arguments:
        name, equals, path = argument.partition("=")
        if not (name.strip() and equals and path):
            raise UsageError(f"{argument}: expected NAME=FILE")
        if not name.isprintable():
            raise UsageError(f"{name!r}: a name must be printable")
        files.setdefault(name, []).append(path)
    return files


def _check_files(inputs: list[str], output: str, plot: str | None, *, compared: bool) -> None:
    from moses_integration.evaluation.report import plot_format

    if inputs.count(STANDARD) > 1:
        raise UsageError("standard input (-) can be read only once")
    for option, path in (("--output", output), ("--plot", plot)):
        if path and path != STANDARD and any(is_same_file(path, other) for other in inputs):
            raise UsageError(f"{option} {path} is one of the inputs")
    if plot is None:
        return
    plot_format(plot)
    if not compared:
        raise UsageError("--plot needs a system beside the baseline")
    if output != STANDARD and is_same_file(plot, output):
        raise UsageError(f"--plot and --output are both {plot}")
    if not Path(plot).parent.is_dir():
        raise UsageError(f"--plot {plot}: no such folder")


def _evaluate(
    files: dict[str, list[str]],
    references: tuple[str, ...],
    settings: EvaluationSettings,
    options: dict[str, Any],
) -> str:
    """The report; draws the plot, too."""
    from moses_integration.evaluation import report as evaluation_report
    from moses_integration.evaluation.evaluation import evaluate

    reference_texts = [_read(references[0])]
    lines = len(reference_texts[0])
    if not lines:
        raise DataError("empty: no reference to compare with", path=references[0])
    expected = (lines, references[0])
    reference_texts += [_read(path, *expected) for path in references[1:]]
    texts = {name: [_read(path, *expected) for path in paths] for name, paths in files.items()}
    source = _read(options["source"], *expected) if options["source"] else None
    blank = sum(
        not any(line.strip() for line in group) for group in zip(*reference_texts, strict=True)
    )
    if blank:
        say(f"warning: {blank:,} lines of {references[0]} are empty")
    evaluation = evaluate(reference_texts, texts, settings=settings)
    shown = []
    if source is not None:
        shown = evaluation_report.examples(evaluation, source, reference_texts, texts)
    if options["plot"]:
        evaluation_report.plot_differences(evaluation, options["plot"])
    form = {
        "text": evaluation_report.report_text,
        "markdown": evaluation_report.report_markdown,
        "json": evaluation_report.report_json,
    }[options["form"]]
    return form(evaluation, shown)


def _read(path: str, lines: int | None = None, reference: str = "") -> Text:
    """A text, of as many lines as the reference."""
    from moses_integration.evaluation.evaluation import read_text

    text = read_text(path)
    if lines is not None and len(text) != lines:
        raise DataError(f"{len(text)} lines, but {reference} has {lines}", path=path)
    return text
