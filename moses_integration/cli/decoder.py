"""The commands that run Moses' programs: tune, decode, binarize."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from moses_integration.cli.options import Command, moses_of, moses_options
from moses_integration.formats.moses_ini import TEXT_TABLE, MosesIni, require_scores
from phrase_scorer.cli.options import quiet_option
from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.runtime.console import say
from phrase_scorer.runtime.output import STANDARD, make_new_folder, write_file
from phrase_scorer.runtime.streams import line_blocks

if TYPE_CHECKING:
    from moses_integration.decoder.decoding import NBest
    from moses_integration.decoder.programs import Moses

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
    from moses_integration.decoder.tuning import Tuner, TuningSettings
    from moses_integration.decoder.weight_table import added_columns, weight_table

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
    from moses_integration.decoder.weight_table import weight_table
    from moses_integration.formats.moses_ini import weights_of
    from moses_integration.reranking.weights import learn_weights, nbest_bleu, write_weights

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
    from moses_integration.decoder.decoding import decode, split_flags

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
    from moses_integration.decoder.decoding import NBest

    details = {name: options[name] for name in ("distinct", "segmentation", "alignment")}
    if options["nbest"] is None:
        for name, given in details.items():
            if given:
                raise UsageError(f"--{name} needs --nbest FILE N")
        return None
    path, size = options["nbest"]
    return NBest(path, size, **details)


@click.command(
    epilog="""\b
Examples:
  phrase-scorer binarize phrase-table.rnn.gz --format probing --output phrase-table.probing
  phrase-scorer binarize phrase-table.rnn.gz --format ondisk --output phrase-table.ondisk \\
      --moses-ini moses.rnn.ini --moses-ini-out moses.ondisk.ini --check-input test.en"""
)
@click.argument("table", metavar="PHRASE_TABLE", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "kind",
    required=True,
    type=click.Choice(["probing", "compact", "ondisk"]),
    help="ProbingPT, PhraseDictionaryCompact or PhraseDictionaryOnDisk.",
)
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="NAME",
    help="A new folder; for compact the file NAME.minphr.",
)
@click.option("--moses-ini", metavar="FILE", help="The moses.ini that names PHRASE_TABLE.")
@click.option("--moses-ini-out", metavar="FILE", help="Where to write it with the binary table.")
@click.option("--table-name", metavar="NAME", help="Which table of moses.ini, if it has several.")
@click.option(
    "--check-input",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Decode sentences of it with both tables and compare the n-best lists.",
)
@click.option(
    "--check-sentences",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    metavar="N",
    help="How many of its sentences, from the first.",
)
@click.option(
    "--table-limit",
    type=click.IntRange(0),
    default=100,
    show_default=True,
    metavar="N",
    help="ondisk: targets a source that are kept; 0: all.",
)
@click.option(
    "--sort-score",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    metavar="I",
    help="ondisk: by which score (from 0) they are chosen.",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="compact: of its program; the others have one.",
)
@moses_options
@quiet_option
def binarize(table: Path, kind: Any, output: Path, **options: Any) -> None:  # fmt: skip
    """Make a binary phrase table of PHRASE_TABLE, with as many scores as it has.

    Every line is checked first: Moses' programs write broken tables without a word. Where they
    would misread the table they are given a copy, sorted and with single blanks. The log of all
    programs is NAME.log.

    With --check-input the text table and the binary one must give the same n-best lists, in moses
    and, for probing, in moses2 where it is installed.
    """
    from moses_integration.decoder.binarization import BinarySettings, binarize

    moses = moses_of(options)
    plan = _plan(table, kind, output, options)
    log = Path(f"{output}.log")
    settings = BinarySettings(options["table_limit"], options["sort_score"], options["threads"])
    facts, usage = binarize(
        moses, table, output, kind, settings, log=log, show_progress=not options["quiet"]
    )
    if not facts.ready:
        say(f"{table}: not sorted, or more than single blanks; made from a sorted copy")
    say(f"{output}: {facts.scores} scores; {usage}; the log is {log}")
    if plan:
        _check(moses, plan, kind, log)
        if options["moses_ini_out"]:
            write_file(options["moses_ini_out"], plan.binary.to_bytes())
            say(f"{options['moses_ini_out']} names it")


class _Plan(NamedTuple):
    """What is to be done with the table, settled before hours are spent."""

    text: MosesIni
    binary: MosesIni
    sentences: list[bytes]  # none: no check


def _plan(table: Path, kind: Any, output: Path, options: dict[str, Any]) -> _Plan | None:
    from moses_integration.decoder.binarization import binary_ini
    from moses_integration.formats.ini_edits import with_files
    from moses_integration.formats.phrase_table import first_entry_scores
    from moses_integration.system.check import check_model

    if not options["moses_ini"]:
        for name in ("moses_ini_out", "table_name", "check_input"):
            if options[name]:
                raise UsageError(f"--{name.replace('_', '-')} needs --moses-ini")
        return None
    ini = MosesIni.read(options["moses_ini"])
    feature = ini.phrase_table(options["table_name"])
    require_scores(feature, first_entry_scores(table))
    out = options["moses_ini_out"]
    if out and not Path(out).resolve().parent.is_dir():
        raise UsageError(f"--moses-ini-out {out}: there is no folder {Path(out).parent}")
    binary = binary_ini(ini, feature, kind, str(output.resolve()))
    if not options["check_input"]:
        return _Plan(ini, binary, [])
    text = with_files(ini, {feature.line: (TEXT_TABLE, str(table.resolve()))})
    check_model(text)
    return _Plan(text, binary, _sentences(options["check_input"], options["check_sentences"]))


def _sentences(source: Path, count: int) -> list[bytes]:
    lines = (line for block in line_blocks(source) for line in block.lines if line.strip())
    found = list(islice(lines, count))
    if not found:
        raise DataError("no sentence in it to decode", path=source)
    return found


def _check(moses: Moses, plan: _Plan, kind: Any, log: Path) -> None:
    """Decodes with both tables."""
    from moses_integration.decoder.binarization import FORMATS, check_by_decoding

    if not plan.sentences:
        return
    for decoder in ("moses", "moses2") if FORMATS[kind].moses2 else ("moses",):
        if decoder == "moses2" and not _has_moses2(moses):
            say("moses2 is not installed: checked with moses alone")
            continue
        check_by_decoding(moses, plan.text, plan.binary, plan.sentences, log, decoder=decoder)
        say(f"{decoder}: the same n-best lists with both tables ({len(plan.sentences)} sentences)")


def _has_moses2(moses: Moses) -> bool:
    try:
        return bool(moses.program("moses2"))
    except UsageError:
        return False
