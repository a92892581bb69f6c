"""The command that makes binary phrase tables: binarize."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from moses_integration.cli.options import moses_of, moses_options
from moses_integration.moses_ini import TEXT_TABLE, MosesIni, require_scores
from phrase_scorer.cli.options import quiet_option
from phrase_scorer.command_line import say
from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.streams import line_blocks, write_atomically

if TYPE_CHECKING:
    from moses_integration.programs import Moses


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
    from moses_integration.binarization import BinarySettings, binarize

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
            write_atomically(options["moses_ini_out"], plan.binary.to_bytes())
            say(f"{options['moses_ini_out']} names it")


class _Plan(NamedTuple):
    """What is to be done with the table, settled before hours are spent."""

    text: MosesIni
    binary: MosesIni
    sentences: list[bytes]  # none: no check


def _plan(table: Path, kind: Any, output: Path, options: dict[str, Any]) -> _Plan | None:
    from moses_integration.binarization import binary_ini
    from moses_integration.ini_edits import with_files
    from moses_integration.model_check import check_model, first_scores

    if not options["moses_ini"]:
        for name in ("moses_ini_out", "table_name", "check_input"):
            if options[name]:
                raise UsageError(f"--{name.replace('_', '-')} needs --moses-ini")
        return None
    ini = MosesIni.read(options["moses_ini"])
    feature = ini.phrase_table(options["table_name"])
    require_scores(feature, first_scores(table))
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
    from moses_integration.binarization import FORMATS, check_by_decoding

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
