"""The command gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from phrase_scorer.cli.options import SEED, quiet_option
from phrase_scorer.command_line import say
from phrase_scorer.errors import DataError, UsageError


def numbers(kind: type[int] | type[float]) -> Any:
    """A callback for an option with several numbers: "5,10,20"."""

    def read(_: click.Context, parameter: click.Parameter, text: str) -> tuple[float, ...]:
        try:
            return tuple(kind(part) for part in text.split(","))
        except ValueError:
            name = parameter.opts[0]
            raise UsageError(f'{name}: "{text}" is not a list of numbers like 5,10,20') from None

    return read


@click.command(
    epilog="""\b
Examples:
  phrase-scorer gradients --output-dir gradients/
  phrase-scorer gradients --text corpus.fr --output-dir gradients/
  phrase-scorer gradients --cells rnn,lstm --scales 0.5,1,1.5 --distances 10,100 --updates 3000 \\
    --output-dir gradients/"""
)
@click.option(
    "--output-dir",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="For gradients.json, gradients.png and gradients.svg.",
)
@click.option("--text", metavar="FILE", help="Real sentences too: tokenised, one a line.")
@click.option("--cells", default="rnn,lstm,gru", show_default=True, metavar="NAMES", help="Which.")
@click.option(
    "--scales",
    default="0.7,1,2",
    show_default=True,
    callback=numbers(float),
    metavar="X,...",
    help="Of the recurrent matrices at the start: below, at and above 1.",
)
@click.option(
    "--distances",
    default="5,10,20,40,80",
    show_default=True,
    callback=numbers(int),
    metavar="N,...",
    help="Words between the first one and its copy.",
)
@click.option("--steps", default=60, show_default=True, metavar="N", help="Of measured sequences.")
@click.option("--hidden", default=64, show_default=True, metavar="N", help="Units of each cell.")
@click.option("--updates", default=1000, show_default=True, metavar="N", help="Of each training.")
@click.option(
    "--forget-bias", default=1.0, show_default=True, metavar="B", help="Start of an LSTM's gates."
)
@click.option(
    "--seed", type=SEED, default=1, show_default=True, metavar="N", help="Of all that is random."
)
@click.option("--threads", type=int, metavar="N", help="CPU cores to use.  [default: 1]")
@quiet_option
def gradients(output_dir: Path, text: str | None, cells: str, quiet: bool, **options: Any) -> None:
    """Measure how much of a loss reaches the past: vanilla RNN, LSTM and GRU, and why gates.

    ‖∂ loss_T / ∂ h_t‖ by distance, at the start and after training, on synthetic copies and on real
    sentences; training with and without clipping; and how far each cell can carry a word.
    """
    from phrase_scorer.device import set_threads
    from phrase_scorer.gradients import StudySettings, parts_of, run_study
    from phrase_scorer.gradients_report import markdown, write_report
    from phrase_scorer.progress import progress_bar
    from phrase_scorer.streams import line_blocks

    set_threads(options.pop("threads") or 1)  # products too small for more
    settings = StudySettings(cells=tuple(cell.strip() for cell in cells.split(",")), **options)
    lines = None
    if text is not None:
        lines = [line.split() for block in line_blocks(text) for line in block.lines]
        if not any(lines):
            raise DataError("no text", path=text)
    output_dir.mkdir(parents=True, exist_ok=True)
    with progress_bar(
        "gradients", show=not quiet, total=parts_of(settings, with_text=bool(lines)), unit=" parts"
    ) as bar:
        for measured in run_study(settings, lines):
            study = measured
            bar.update()
    paths = write_report(study, output_dir)
    click.echo(markdown(study))
    say(f"written: {', '.join(map(str, paths))}")
