"""The commands of the studies: experiment systems (moses_integration adds table1), gradients."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from phrase_scorer.cli.options import SEED, SHORTLIST, PairReader, device_options, quiet_option
from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.runtime.console import say


@click.group(
    epilog="""\b
Example:
  phrase-scorer experiment systems phrase-table.gz --output-dir systems/ --minutes 20"""
)
def experiment() -> None:
    """Run a whole experiment; it goes on where it was stopped."""


@experiment.command(
    epilog="""\b
Examples:
  phrase-scorer experiment systems model/phrase-table.gz --output-dir systems/
  phrase-scorer experiment systems model/phrase-table.gz --output-dir systems/ \\
    --systems "LSTM,GRU (the paper's),Transformer" --minutes 60 --parameters 10000000"""
)
@click.argument("pairs", metavar="PHRASE_TABLE")
@click.option(
    "--output-dir",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="For a model of each system, and systems.md, .json, .svg and .png.",
)
@click.option("--systems", metavar="NAMES", help="Which, separated by commas.  [default: all]")
@click.option(
    "--parameters", type=int, default=5_000_000, show_default=True, metavar="N", help="Of each."
)
@click.option(
    "--minutes", type=float, default=10.0, show_default=True, metavar="M", help="Of training each."
)
@click.option(
    "--preset",
    type=click.Choice(["small", "base", "paper"]),
    default="small",
    show_default=True,
    help="Training settings.",
)
@click.option(
    "--shortlist",
    type=click.IntRange(2),
    default=SHORTLIST,
    show_default=True,
    metavar="N",
    help="Most frequent words of each side that the models know.",
)
@click.option("--weight-by-count", is_flag=True, help="Weigh pairs by their counts in training.")
@click.option(
    "--validation-pairs",
    type=int,
    default=10_000,
    show_default=True,
    metavar="N",
    help="About how many pairs of held-out source phrases.",
)
@click.option("--seed", type=SEED, default=1, show_default=True, help="Of all that is random.")
@device_options
@quiet_option
@click.pass_obj
def systems(
    read: PairReader, /, pairs: str, output_dir: Path, quiet: bool, **options: Any
) -> None:  # fmt: skip
    """Compare every architecture on one table, at equal parameters and equal training time.

    Held-out nats a target symbol; how often the target that a held-out source phrase was aligned
    with is ranked first among the table's targets (weighed by count); entries scored a second; peak
    memory of scoring. The masked model's nats are of a pseudo-likelihood: not to be compared.
    """
    from phrase_scorer.studies.system_configs import SYSTEMS, require_systems
    from phrase_scorer.studies.systems import SystemsSettings, best_ranking, run_systems
    from phrase_scorer.studies.systems_report import markdown, write_report
    from phrase_scorer.training.data import collect_training_data

    chosen = options.pop("systems")
    shortlist = options.pop("shortlist")
    names = list(SYSTEMS) if chosen is None else [name.strip() for name in chosen.split(",")]
    names = list(dict.fromkeys(names))
    settings = SystemsSettings(**options)
    require_systems(names)
    output_dir.mkdir(parents=True, exist_ok=True)
    # Counts where there are any; where training is to use them, there must be.
    wanted = True if settings.weight_by_count else None
    data = collect_training_data(read(pairs, with_counts=wanted), path=pairs, shortlist=shortlist)
    source, target = data.vocabularies
    say(f"{len(data.pairs):,} pairs; shortlists of {len(source):,} and {len(target):,} words")
    results = run_systems(data, names, settings, output_dir, say, show_progress=not quiet)
    command = shlex.join(["phrase-scorer", *sys.argv[1:]])
    best = best_ranking(data, settings)
    paths = write_report(results, settings, best, command, output_dir)
    click.echo(markdown(results, best))
    say(f"written: {', '.join(map(str, paths))}")


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
    from phrase_scorer.runtime.console import progress_bar
    from phrase_scorer.runtime.device import set_threads
    from phrase_scorer.runtime.streams import line_blocks
    from phrase_scorer.studies.gradients import StudySettings, parts_of, run_study
    from phrase_scorer.studies.gradients_report import markdown, write_report

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
