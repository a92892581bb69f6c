"""The command that judges translations: evaluate."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import click

from moses_integration.cli.options import LANGUAGE
from moses_integration.evaluation.evaluation import EvaluationSettings, evaluate, read_text
from moses_integration.evaluation.report import (
    differences_picture,
    examples,
    report_json,
    report_markdown,
    report_text,
)
from moses_integration.evaluation.significance import TOKENIZERS, Text
from phrase_scorer.cli.options import COUNT, SEED, option, output_option, takes
from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.runtime.console import say
from phrase_scorer.runtime.figures import require_kind, require_matplotlib, save_picture
from phrase_scorer.runtime.output import STANDARD, OutputFile, check_option, is_same_file

REPORTS = {"text": report_text, "markdown": report_markdown, "json": report_json}


@dataclass(frozen=True)
class EvaluateRequest:
    """What to evaluate against what, and where the report goes."""

    systems: tuple[str, ...]  # NAME=FILE; a name given again is another run
    references: tuple[str, ...]
    settings: EvaluationSettings
    form: str
    output: str
    plot: str | None
    source: str | None

    def __post_init__(self) -> None:
        inputs = [*self.references, *chain.from_iterable(self.files.values())]
        inputs += [self.source] if self.source else []
        if inputs.count(STANDARD) > 1:
            raise UsageError("standard input (-) can be read only once")
        for name, path in (("--output", self.output), ("--plot", self.plot)):
            if path and path != STANDARD and any(is_same_file(path, other) for other in inputs):
                raise UsageError(f"{name} {path} is one of the inputs")
        if self.plot is None:
            return
        require_kind(self.plot)
        if len(self.files) < 2:
            raise UsageError("--plot needs a system beside the baseline")
        if self.output != STANDARD and is_same_file(self.plot, self.output):
            raise UsageError(f"--plot and --output are both {self.plot}")
        check_option("--plot", self.plot, {})
        require_matplotlib()

    @property
    def files(self) -> dict[str, list[str]]:
        """Name -> files, in the order given."""
        files: dict[str, list[str]] = {}
        for argument in self.systems:
            name, equals, path = argument.partition("=")
            if not (name.strip() and equals and path):
                raise UsageError(f"{argument}: expected NAME=FILE")
            if not name.isprintable():
                raise UsageError(f"{name!r}: a name must be printable")
            files.setdefault(name, []).append(path)
        return files


@click.command("evaluate", epilog="""\b
Examples:
  phrase-scorer evaluate --reference test.fr baseline=base.out rnn=rnn.out
  phrase-scorer evaluate --reference test.fr baseline=base.out rnn=run1.out rnn=run2.out \\
      --source test.en --plot differences.png
  phrase-scorer evaluate --reference test.fr --detokenize fr --format json baseline=base.out
""")  # fmt: skip
@click.argument("systems", nargs=-1, required=True, metavar="NAME=FILE...")
@option("--reference", "references", multiple=True, required=True, metavar="FILE",
        help="Reference translation; repeat for several.")  # fmt: skip
@option("--tokenize", type=click.Choice(TOKENIZERS), help="sacreBLEU's tokenizer for BLEU.  "
        "[default: none, since Moses' output is tokenised already and a second tokenisation would "
        "split it again; with --detokenize 13a]")  # fmt: skip
@option(
    "--detokenize", type=LANGUAGE, metavar="LANG",
    help="First detokenise outputs and references as text of this language (fr, say): scores are "
    "then comparable with those that others publish.",
)  # fmt: skip
@option("--lowercase", is_flag=True, help="Ignore case (TER always does).")
@option("--format", "form", type=click.Choice([*REPORTS]), default="text",
        help="Format of the report.")  # fmt: skip
@output_option
@option("--plot", metavar="FILE", help="Also draw the differences to the baseline, sentence by "
        "sentence (.png, .svg or .pdf).")  # fmt: skip
@option("--source", metavar="FILE", help="What was translated: the report then shows the sentences "
        "that gain and lose most.")  # fmt: skip
@option("--samples", type=COUNT, default=1000, metavar="N",
        help="Number of resampled test sets, and of shuffles.")  # fmt: skip
@option("--seed", type=SEED, default=12345, help="Random seed of both.")
@option("--no-significance", "significance", is_flag=True, callback=lambda *given: not given[-1],
        help="Compute no intervals and no p-values.")  # fmt: skip
@takes(EvaluateRequest)
def evaluate_command(request: EvaluateRequest) -> None:
    """Score translations with sacreBLEU: BLEU, chrF2 and TER, with significance.

    The first NAME is the baseline that all others are compared with. The same NAME given again is
    another tuning run of that system; means and standard deviations over the runs are shown.
    Intervals come from the paired bootstrap; p-values from it and from approximate randomisation
    (of several runs as in Clark et al. 2011, who pool them). `-` is standard input or output.
    """
    # Opened before anything is read: a folder that is not there is told at once.
    with OutputFile(request.output) as out:
        out.write(_report(request).encode("utf-8", "backslashreplace"))


def _report(request: EvaluateRequest) -> str:
    """The report; draws the plot, too."""
    first, *others = request.references
    references: list[Text] = [read_text(first)]
    lines = len(references[0])
    if not lines:
        raise DataError("empty: no reference to compare with", path=first)

    def read(path: str) -> Text:
        text = read_text(path)
        if len(text) != lines:
            raise DataError(f"{len(text)} lines, but {first} has {lines}", path=path)
        return text

    references += map(read, others)
    texts = {name: [read(path) for path in paths] for name, paths in request.files.items()}
    source = read(request.source) if request.source else None
    blank = sum(not any(line.strip() for line in group) for group in zip(*references, strict=True))
    if blank:
        say(f"warning: {blank:,} lines of {first} are empty")
    evaluation = evaluate(references, texts, settings=request.settings)
    shown = [] if source is None else examples(evaluation, source, references, texts)
    if request.plot:
        save_picture(differences_picture(evaluation), request.plot)
    return REPORTS[request.form](evaluation, shown)
