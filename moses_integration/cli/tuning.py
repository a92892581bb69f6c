"""The commands around the decoder: filter, tune, decode."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from moses_integration.cli.options import Command, make_new_folder, moses_of, moses_options
from moses_integration.moses_ini import MosesIni
from phrase_scorer.cli.options import quiet_option
from phrase_scorer.command_line import say
from phrase_scorer.errors import UsageError
from phrase_scorer.streams import STANDARD

if TYPE_CHECKING:
    from moses_integration.decoding import NBest
    from moses_integration.programs import Moses

Tokenised = click.Path(path_type=Path)


def decoder_options(command: Command) -> Command:
    """--decoder and --decoder-flags."""
    command = click.option(
        "--decoder-flags", default="", metavar="TEXT", help="More of the decoder's options."
    )(command)
    return click.option(
        "--decoder", type=click.Choice(["moses", "moses2"]), default="moses", show_default=True,
        help="Which decoder.",
    )(command)  # fmt: skip


@click.command(
    name="filter",
    epilog="""\b
Examples:
  phrase-scorer filter --moses-ini moses.ini --input val.en --input test.en --output-dir filtered/
  phrase-scorer rescore filtered/ filtered.rnn/ --model rnn/""",
)
@click.option("--moses-ini", required=True, metavar="FILE", help="The model.")
@click.option(
    "--input",
    "inputs",
    required=True,
    multiple=True,
    metavar="FILE",
    help="Tokenised text; repeat.",
)
@click.argument("more_inputs", nargs=-1, metavar="[FILE]...")
@click.option("--output-dir", required=True, metavar="DIR", help="A new folder.")
@click.option(
    "--longest",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    metavar="N",
    help="Longest source phrase, in words.",
)
@quiet_option
def filter_command(
    moses_ini: str,
    inputs: tuple[str, ...],
    more_inputs: tuple[str, ...],
    output_dir: str,
    longest: int,
    quiet: bool,
) -> None:  # fmt: skip
    """Write the part of a model that some inputs need: its text tables, and a moses.ini for them.

    The tables are read once for all inputs together, so that tuning and test sets can then be
    rescored together. More files may follow the first --input.
    """
    from moses_integration.filtering import filter_model

    ini = MosesIni.read(moses_ini)
    folder = make_new_folder(output_dir, "--output-dir")
    for table in filter_model(
        ini, [*inputs, *more_inputs], folder, longest=longest, show_progress=not quiet
    ):
        share = table.kept / table.entries
        say(f"{table.name}: {table.kept:,} of {table.entries:,} entries kept ({share:.1%})")
    say(f"{folder / 'moses.ini'} names them")


@click.command(
    epilog="""\b
Examples:
  phrase-scorer tune --moses-ini moses.rnn.ini --source val.en --reference val.fr \\
      --working-dir tuned/ --runs 3 --threads 2
  phrase-scorer tune --moses-ini moses.rnn.ini --source val.en --reference val.fr \\
      --working-dir tuned/ --runs 3 --threads 2 --resume
  phrase-scorer tune --rescore-nbest val.rnn.nbest.gz --moses-ini tuned/moses.ini \\
      --reference val.fr --working-dir reranking/ --optimizer mira"""
)
@click.option("--moses-ini", required=True, metavar="FILE", help="The model to tune.")
@click.option("--source", type=Tokenised, metavar="FILE", help="Tuning set, source.")
@click.option("--reference", required=True, type=Tokenised, metavar="FILE", help="Its translation.")
@click.option("--working-dir", required=True, type=Tokenised, metavar="DIR", help="A new folder.")
@click.option(
    "--optimizer",
    type=click.Choice(["mert", "mira"]),
    default="mert",
    show_default=True,
    help="MERT, or batch MIRA.",
)
@click.option("--runs", type=int, default=1, show_default=True, help="Each with another seed.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the first run.")
@click.option("--nbest", type=int, default=100, show_default=True, help="Hypotheses a sentence.")
@click.option("--max-iterations", type=int, default=25, show_default=True, help="Of each run.")
@click.option("--threads", type=int, default=1, show_default=True, help="Of decoder and optimizer.")
@decoder_options
@click.option("--resume", is_flag=True, help="Go on with a tuning that was interrupted.")
@click.option(
    "--rescore-nbest",
    type=Tokenised,
    metavar="LIST",
    help="Learn weights for this n-best list instead, without decoding again: DIR/weights.",
)
@moses_options
def tune(
    source: Path | None, reference: Path, working_dir: Path, **options: Any
) -> None:  # fmt: skip
    """Tune the weights of a model with mert-moses.pl; the best run's are in DIR/moses.ini.

    Each run works in a folder of its own and starts with another seed. Beside its n-best BLEU, a
    run is judged by sacreBLEU (cased, no further tokenisation) of the decoded tuning set.
    """
    from moses_integration.tuning import Tuner, TuningSettings
    from moses_integration.weight_table import added_columns, weight_table

    moses = moses_of(options)
    say(f"Moses {moses.version} in {moses.bin}")
    if options["rescore_nbest"]:
        _rescore_nbest(moses, source, reference, working_dir, options)
        return
    if source is None:
        raise UsageError("give --source FILE, the tuning set (or --rescore-nbest LIST)")
    names = TuningSettings.__dataclass_fields__
    settings = TuningSettings(**{name: options[name] for name in names})
    ini = MosesIni.read(options["moses_ini"])
    tuning = Tuner(
        moses, ini, source, reference, working_dir, settings, resume=options["resume"], say=say
    ).run()
    for line in weight_table(tuning.start_weights, tuning.best.weights, added_columns(ini)):
        click.echo(line)
    click.echo(
        f"BLEU on the tuning set: mean {tuning.mean:.2f}, standard deviation {tuning.spread:.2f}; "
        f"best run {tuning.best.number} with {tuning.best.dev_bleu:.2f}"
    )
    say(f"{working_dir / 'moses.ini'} has the weights of run {tuning.best.number}")


def _rescore_nbest(
    moses: Moses, source: Path | None, reference: Path, folder: Path, options: dict[str, Any]
) -> None:
    from moses_integration.ini_edits import weights_of
    from moses_integration.reranking import learn_weights, nbest_bleu, write_weights
    from moses_integration.weight_table import weight_table

    if source is not None or options["resume"] or options["runs"] != 1:
        raise UsageError("--rescore-nbest goes without --source, --resume and --runs")
    start = weights_of(MosesIni.read(options["moses_ini"]))
    make_new_folder(folder, "--working-dir")
    nbest, reference = options["rescore_nbest"].resolve(), reference.resolve()
    details = {name: options[name] for name in ("optimizer", "seed", "threads")}
    weights = learn_weights(moses, nbest, reference, folder.resolve(), start, **details)
    write_weights(folder / "weights", weights)
    for line in weight_table(start, weights, {}):
        click.echo(line)
    before, after = nbest_bleu(nbest, reference, None), nbest_bleu(nbest, reference, weights)
    click.echo(f"BLEU of the best hypotheses: {before:.2f} in the list, {after:.2f} reranked")
    say(f"{folder / 'weights'} is for: phrase-scorer nbest LIST --rerank {folder / 'weights'}")


@click.command(
    epilog="""\b
Examples:
  phrase-scorer decode --moses-ini tuned/moses.ini --input test.en --output test.out --threads 2
  phrase-scorer decode --moses-ini tuned/moses.ini --input test.en --output test.out \\
      --nbest test.nbest.gz 1000 --distinct --segmentation"""
)
@click.option("--moses-ini", required=True, metavar="FILE", help="The model.")
@click.option(
    "--input", "source", default=STANDARD, show_default=True, metavar="FILE", help="Tokenised text."
)
@click.option("--output", default=STANDARD, show_default=True, metavar="FILE", help="Translations.")
@click.option(
    "--nbest",
    type=(Tokenised, click.IntRange(1)),
    metavar="FILE N",
    help="Also N hypotheses a sentence.",
)
@click.option("--distinct", is_flag=True, help="Only hypotheses whose words differ.")
@click.option("--segmentation", is_flag=True, help="With the phrases' spans in the n-best list.")
@click.option("--alignment", is_flag=True, help="With the word alignment in the n-best list.")
@click.option(
    "--threads", type=click.IntRange(1), default=1, show_default=True, help="Of the decoder."
)
@decoder_options
@click.option("--log", type=Tokenised, metavar="FILE", help="[default: OUTPUT.log, or decode.log]")
@moses_options
@quiet_option
def decode(source: str, output: str, **options: Any) -> None:  # fmt: skip
    """Translate text with Moses: one line for each line.

    Paths in moses.ini may be relative to the current folder or to that of the moses.ini.
    """
    from moses_integration.decoding import decode, split_flags

    moses = moses_of(options)
    log = options["log"] or Path("decode.log" if output == STANDARD else f"{output}.log")
    lines = decode(
        moses,
        MosesIni.read(options["moses_ini"]),
        source,
        output,
        nbest=_nbest(options),
        log=log,
        show_progress=not options["quiet"],
        decoder=options["decoder"],
        threads=options["threads"],
        flags=split_flags(options["decoder_flags"]),
    )
    say(f"{lines:,} sentences translated by Moses {moses.version}; its log is {log}")


def _nbest(options: dict[str, Any]) -> NBest | None:
    from moses_integration.decoding import NBest

    details = {name: options[name] for name in ("distinct", "segmentation", "alignment")}
    if options["nbest"] is None:
        for name, given in details.items():
            if given:
                raise UsageError(f"--{name} needs --nbest FILE N")
        return None
    path, size = options["nbest"]
    return NBest(path, size, **details)
