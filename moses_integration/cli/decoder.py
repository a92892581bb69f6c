"""The commands that run Moses' programs: tune, decode, binarize."""

from __future__ import annotations

from pathlib import Path

import click

from moses_integration.cli.options import ini_options, moses_options
from moses_integration.decoder.binarization import (
    BinarizeRequest,
    InisToCompare,
    check_by_decoding,
    make_binary,
)
from moses_integration.decoder.decoding import DecodeRequest, translate
from moses_integration.decoder.tuning import Tuner, TuneRequest, added_columns, weight_table
from moses_integration.formats.moses_ini import MosesIni, weights_of
from moses_integration.reranking.weights import learn_weights, nbest_bleu, write_weights
from phrase_scorer.cli.options import Command, quiet_option, takes
from phrase_scorer.runtime.console import say
from phrase_scorer.runtime.output import STANDARD, make_new_folder

FILE = click.Path(path_type=Path)


def decoder_options(command: Command) -> Command:
    """--decoder and --decoder-flags."""
    command = click.option(
        "--decoder-flags", default="", metavar="TEXT", help="More of the decoder's own options."
    )(command)
    return click.option(
        "--decoder", type=click.Choice(["moses", "moses2"]), default="moses", show_default=True,
        help="The decoder to run.",
    )(command)  # fmt: skip


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
@click.option("--source", type=FILE, metavar="FILE", help="The tuning set's source side.")
@click.option("--reference", required=True, type=FILE, metavar="FILE",
              help="The tuning set's translation.")  # fmt: skip
@click.option("--working-dir", required=True, type=FILE, metavar="DIR", help="A new folder.")
@click.option("--optimizer", type=click.Choice(["mert", "mira"]), default="mert", show_default=True,
              help="MERT, or batch MIRA.")  # fmt: skip
@click.option("--runs", type=int, default=1, show_default=True,
              help="Tuning runs, each with its own seed.")  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True, help="The first run's seed.")
@click.option("--nbest", type=int, default=100, show_default=True, help="Hypotheses per sentence.")
@click.option("--max-iterations", type=int, default=25, show_default=True,
              help="Iterations per run, at most.")  # fmt: skip
@click.option("--threads", type=int, default=1, show_default=True,
              help="Threads of decoder and optimizer.")  # fmt: skip
@decoder_options
@click.option("--resume", is_flag=True, help="Go on with a tuning that was interrupted.")
@click.option(
    "--rescore-nbest", type=FILE, metavar="LIST",
    help="Learn weights for this n-best list instead, without decoding again: DIR/weights.",
)  # fmt: skip
@moses_options
@takes(TuneRequest)
def tune(request: TuneRequest) -> None:
    """Tune the weights of a model with mert-moses.pl; the best run's are in DIR/moses.ini.

    Each run works in a folder of its own and starts with another seed. Beside its n-best BLEU, a
    run is judged by sacreBLEU (cased, no further tokenisation) of the decoded tuning set.
    """
    say(f"Moses {request.moses.version} in {request.moses.bin}")
    if request.rescore_nbest:
        _learn(request, request.rescore_nbest.resolve())
    else:
        _tune(request)


def _tune(request: TuneRequest) -> None:
    tuner = Tuner(request, say)
    tuning = tuner.run()
    for line in weight_table(tuning.start_weights, tuning.best.weights, added_columns(tuner.ini)):
        click.echo(line)
    click.echo(
        f"BLEU on the tuning set: mean {tuning.mean:.2f}, standard deviation {tuning.spread:.2f}; "
        f"best run {tuning.best.number} with {tuning.best.dev_bleu:.2f}"
    )
    say(f"{request.working_dir / 'moses.ini'} has the weights of run {tuning.best.number}")


def _learn(request: TuneRequest, nbest: Path) -> None:
    start = weights_of(MosesIni.read(request.moses_ini))
    folder = make_new_folder(request.working_dir, "--working-dir")
    path, reference = folder / "weights", request.reference.resolve()
    weights = learn_weights(
        request.moses, nbest, reference, folder.resolve(), start, request.settings
    )
    write_weights(path, weights)
    for line in weight_table(start, weights, {}):
        click.echo(line)
    before, after = nbest_bleu(nbest, reference, None), nbest_bleu(nbest, reference, weights)
    click.echo(f"BLEU of the best hypotheses: {before:.2f} in the list, {after:.2f} reranked")
    say(f"{path} is for: phrase-scorer nbest LIST --rerank {path}")


@click.command(
    epilog="""\b
Examples:
  phrase-scorer decode --moses-ini tuned/moses.ini --input test.en --output test.out --threads 2
  phrase-scorer decode --moses-ini tuned/moses.ini --input test.en --output test.out \\
      --nbest test.nbest.gz 1000 --distinct --segmentation"""
)
@click.option("--moses-ini", required=True, metavar="FILE", help="The model to translate with.")
@click.option("--input", "source", default=STANDARD, show_default=True, metavar="FILE",
              help="Tokenised text to translate.")  # fmt: skip
@click.option("--output", default=STANDARD, show_default=True, metavar="FILE",
              help="Where translations are written.")  # fmt: skip
@click.option("--nbest", type=(FILE, click.IntRange(1)), metavar="FILE N",
              help="Also write an n-best list: up to N hypotheses per sentence.")  # fmt: skip
@click.option("--distinct", is_flag=True, help="Only hypotheses whose words differ.")
@click.option("--segmentation", is_flag=True, help="Show the phrases' spans in the n-best list.")
@click.option("--alignment", is_flag=True, help="Show the word alignment in the n-best list.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True,
              help="Threads of the decoder.")  # fmt: skip
@decoder_options
@click.option("--log", type=FILE, metavar="FILE",
              help="The decoder's log.  [default: OUTPUT.log, or decode.log]")  # fmt: skip
@moses_options
@quiet_option
@takes(DecodeRequest)
def decode(request: DecodeRequest) -> None:
    """Translate text with Moses: one line for each line.

    Paths in moses.ini may be relative to the current folder or to that of the moses.ini.
    """
    moses = request.decoder.moses
    moses.check()
    lines, log = translate(request), request.log_file
    say(f"{lines:,} sentences translated by Moses {moses.version}; its log is {log}")


@click.command(
    epilog="""\b
Examples:
  phrase-scorer binarize phrase-table.rnn.gz --format probing --output phrase-table.probing
  phrase-scorer binarize phrase-table.rnn.gz --format ondisk --output phrase-table.ondisk \\
      --moses-ini moses.rnn.ini --moses-ini-out moses.ondisk.ini --check-input test.en"""
)
@click.argument("table", metavar="PHRASE_TABLE", type=FILE)
@click.option("--format", "kind", required=True,
              type=click.Choice(["probing", "compact", "ondisk"]),
              help="ProbingPT, PhraseDictionaryCompact or PhraseDictionaryOnDisk.")  # fmt: skip
@click.option("--output", required=True, type=FILE, metavar="NAME",
              help="A new folder; for compact the file NAME.minphr.")  # fmt: skip
@ini_options("the binary table")
@click.option(
    "--check-input", type=FILE, metavar="FILE",
    help="Decode sentences of this text with both tables and compare the n-best lists.",
)  # fmt: skip
@click.option("--check-sentences", type=click.IntRange(1), default=10, show_default=True,
              metavar="N", help="How many of its sentences to decode, from the first.")  # fmt: skip
@click.option("--table-limit", type=click.IntRange(0), default=100, show_default=True, metavar="N",
              help="ondisk: targets kept per source; 0: all.")  # fmt: skip
@click.option("--sort-score", type=click.IntRange(0), default=2, show_default=True, metavar="I",
              help="ondisk: the score (from 0) by which they are chosen.")  # fmt: skip
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, metavar="N",
              help="compact: threads of its program; the others have one.")  # fmt: skip
@moses_options
@quiet_option
@takes(BinarizeRequest)
def binarize(request: BinarizeRequest) -> None:
    """Make a binary phrase table of PHRASE_TABLE, with as many scores as it has.

    Every line is checked first: Moses' programs write broken tables without a word. Where they
    would misread the table they are given a copy, sorted and with single blanks. The log of all
    programs is NAME.log.

    With --check-input the text table and the binary one must give the same n-best lists, in moses
    and, for probing, in moses2 where it is installed.
    """
    request.moses.check()
    inis = InisToCompare.of(request)
    facts, usage = make_binary(request)
    if not facts.ready:
        say(f"{request.table}: not sorted, or more than single blanks; made from a sorted copy")
    say(f"{request.output}: {facts.scores} scores; {usage}; the log is {request.log}")
    if inis:
        if inis.sentences:
            check_by_decoding(request, inis, say)
        if request.target.write(inis.binary):
            say(f"{request.target.moses_ini_out} names it")
