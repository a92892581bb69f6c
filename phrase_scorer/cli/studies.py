"""The commands of the studies: experiment systems, gradients."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from phrase_scorer.cli.options import (
    CORES,
    COUNT,
    MINUTES,
    POSITIVE,
    WEIGHT,
    Command,
    device_options,
    option,
    seed_option,
    takes,
)
from phrase_scorer.cli.train import PRESET, shortlist_option
from phrase_scorer.errors import DataError, UsageError, require_choice
from phrase_scorer.runtime.console import note, progress_bar
from phrase_scorer.runtime.device import Arithmetic
from phrase_scorer.runtime.figures import require_matplotlib
from phrase_scorer.runtime.output import is_same_file, locked_folder
from phrase_scorer.runtime.streams import numbered_lines, require_readable
from phrase_scorer.studies.settings import SYSTEMS, StudySettings, SystemsSettings
from phrase_scorer.text.pair_files import PairFiles, PairReader
from phrase_scorer.text.phrase_pairs import words_of
from phrase_scorer.training.request import SHORTLIST


def folder_option(text: str) -> Callable[[Command], Command]:
    """--output-dir, a folder that is made where it is not there."""
    folder = click.Path(path_type=Path, file_okay=False)
    return option("--output-dir", required=True, type=folder, metavar="DIR", help=text)


def listed(kind: click.ParamType[Any] = click.STRING) -> Callable[..., tuple[Any, ...]]:
    """A callback for an option with several values: "5,10,20"; each of them once."""

    def read(ctx: click.Context, parameter: click.Parameter, text: str) -> tuple[Any, ...]:
        words = map(str.strip, text.split(","))
        return tuple(dict.fromkeys(kind.convert(word, parameter, ctx) for word in words))

    return read


@dataclass(frozen=True)
class SystemsRequest:
    """Which systems to compare, on which table."""

    pairs: str
    output_dir: Path
    systems: tuple[str, ...]
    settings: SystemsSettings
    quiet: bool
    shortlist: int = SHORTLIST

    def __post_init__(self) -> None:
        for name in self.systems:
            require_choice("system", name, SYSTEMS)
        require_readable(self.pairs)
        require_matplotlib()


@click.command(epilog="""\b
Examples:
  phrase-scorer experiment systems model/phrase-table.gz --output-dir systems/
  phrase-scorer experiment systems model/phrase-table.gz --output-dir systems/ \\
    --systems "LSTM,GRU (the paper's),Transformer" --minutes 60 --parameters 10000000
""")  # fmt: skip
@click.argument("pairs", metavar="PHRASE_TABLE")
@folder_option("Gets a model of each system, and systems.md, .json, .svg and .png.")
@option("--systems", default=",".join(SYSTEMS), show_default=False, callback=listed(),
        metavar="NAMES", help="Systems to compare, separated by commas.  [default: all]",
        )  # fmt: skip
@option(
    "--parameters", type=COUNT, default=5_000_000, metavar="N", help="Parameters per model, about."
)
@option("--minutes", type=MINUTES, default=10.0, metavar="M", help="Training minutes per model.")
@option("--preset", type=PRESET, default="small", help="Where the training settings come from.")
@shortlist_option
@option("--weight-by-count", is_flag=True, help="Weigh pairs by their counts in training.")
@option("--validation-pairs", type=COUNT, default=10_000, metavar="N",
        help="About how many pairs of held-out source phrases.")  # fmt: skip
@seed_option
@device_options
@click.pass_obj
@takes(SystemsRequest)
def systems(read: PairReader, request: SystemsRequest) -> None:
    """Compare every architecture on one table, at equal parameters and equal training time.

    Held-out nats per target symbol; how often the target that a held-out source phrase was aligned
    with is ranked first among the table's targets (weighed by count); entries scored per second;
    peak memory of scoring. The masked model's nats are of a pseudo-likelihood: not to be compared.
    """
    from phrase_scorer.studies import systems as study
    from phrase_scorer.studies.report import systems_markdown, write_systems
    from phrase_scorer.training.data import PairsOfFile, collect_training_data

    settings, folder, path = request.settings, request.output_dir, request.pairs
    # Counts where there are any; where training is to use them, there must be.
    with_counts = True if settings.weight_by_count else None
    blocks = read(PairFiles((path,), with_counts=with_counts))
    data = collect_training_data([PairsOfFile(path, blocks)], shortlist=request.shortlist)
    source, target = data.vocabularies
    note(f"{len(data.pairs):,} pairs; shortlists of {len(source):,} and {len(target):,} words")
    with locked_folder(folder, "doing an experiment"):
        results = study.run_systems(
            data, request.systems, settings, folder, note, show_progress=not request.quiet
        )
        command = shlex.join(["phrase-scorer", *sys.argv[1:]])
        best = study.best_ranking(data, settings)
        paths = write_systems(results, settings, best, command, folder)
    click.echo(systems_markdown(results, best))
    note(f"written: {', '.join(map(str, paths))}")


@dataclass(frozen=True)
class GradientsRequest:
    """What to measure, and on which text."""

    output_dir: Path
    text: str | None
    settings: StudySettings
    arithmetic: Arithmetic
    quiet: bool

    def __post_init__(self) -> None:
        require_readable(self.text)
        for suffix in ("json", "png", "svg"):
            place = self.output_dir / f"gradients.{suffix}"
            if self.text is not None and is_same_file(place, self.text):
                raise UsageError(f"--output-dir {self.output_dir} would overwrite --text: {place}")
        require_matplotlib()


@click.command(epilog="""\b
Examples:
  phrase-scorer gradients --output-dir gradients/
  phrase-scorer gradients --text corpus.fr --output-dir gradients/
  phrase-scorer gradients --cells rnn,lstm --scales 0.5,1,1.5 --distances 10,100 --updates 3000 \\
    --output-dir gradients/
""")  # fmt: skip
@folder_option("Gets gradients.json, gradients.png and gradients.svg.")
@option("--text", metavar="FILE", help="Real sentences too: tokenised, one per line.")
@option("--cells", default="rnn,lstm,gru", callback=listed(), metavar="NAMES",
        help="Cells to compare, separated by commas.")  # fmt: skip
@option("--scales", default="0.7,1,2", callback=listed(POSITIVE), metavar="X,...",
        help="Factors of the recurrent matrices at the start: below, at and above 1.")  # fmt: skip
@option("--distances", default="5,10,20,40,80", callback=listed(COUNT), metavar="N,...",
        help="Words between the first one and its copy.")  # fmt: skip
@option("--steps", type=COUNT, default=60, metavar="N", help="Length of measured sequences.")
@option("--hidden", type=COUNT, default=64, metavar="N", help="Units of each cell.")
@option("--updates", type=COUNT, default=1000, metavar="N", help="Updates per network.")
@option(
    "--forget-bias",
    type=WEIGHT,
    default=1.0,
    metavar="B",
    help="Where an LSTM's forget gates start.",
)
@seed_option
@option("--threads", type=CORES, default=1, metavar="N",
        help="CPU cores to use; the products are too small for more.")  # fmt: skip
@takes(GradientsRequest)
def gradients(request: GradientsRequest) -> None:
    """Measure how much of a loss reaches the past: vanilla RNN, LSTM and GRU, and why gates.

    ‖∂ loss_T / ∂ h_t‖ by distance, at the start and after training, on synthetic copies and on real
    sentences; training with and without clipping; and how far each cell can carry a word.
    """
    from phrase_scorer.studies import gradients as study
    from phrase_scorer.studies.report import gradients_markdown, write_gradients

    request.arithmetic.use_threads()
    lines = None
    if request.text is not None:
        numbered = numbered_lines(request.text, mark="strip")
        lines = [words_of(line.removesuffix(b"\r")) for _, line in numbered]
        if not any(lines):
            raise DataError("no text", path=request.text)
    request.output_dir.mkdir(parents=True, exist_ok=True)
    parts = study.parts_of(request.settings, with_text=bool(lines))
    with progress_bar("gradients", show=not request.quiet, total=parts, unit=" parts") as bar:
        for found in study.run_study(request.settings, lines):
            measured = found
            bar.update()
    paths = write_gradients(measured, request.output_dir)
    click.echo(gradients_markdown(measured))
    note(f"written: {', '.join(map(str, paths))}")
