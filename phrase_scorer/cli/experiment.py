"""The commands experiment: here systems; moses_integration adds table1."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from phrase_scorer.cli.options import SEED, SHORTLIST, PairReader, device_options, quiet_option
from phrase_scorer.command_line import say


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
    from phrase_scorer.system_configs import SYSTEMS, require_systems
    from phrase_scorer.systems import SystemsSettings, best_ranking, run_systems
    from phrase_scorer.systems_report import markdown, write_report
    from phrase_scorer.training_data import collect_training_data

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
