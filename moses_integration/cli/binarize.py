"""The command that makes binary phrase tables: binarize."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from moses_integration.cli.options import moses_of, moses_options
from moses_integration.moses_ini import MosesIni, require_scores
from phrase_scorer.cli import quiet_option, say
from phrase_scorer.errors import UsageError
from phrase_scorer.streams import write_atomically

if TYPE_CHECKING:
    from moses_integration.moses_ini import PhraseTableFeature
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
    "--check-sentences", type=click.IntRange(1), default=10, show_default=True, metavar="N"
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
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, metavar="N")
@moses_options
@quiet_option
def binarize(table: Path, kind: Any, output: Path, **options: Any) -> None:  # fmt: skip
    """Make a binary phrase table of PHRASE_TABLE, with as many scores as it has.

    Every line is checked first: Moses' programs write broken tables without a word. The log of
    the program is NAME.log.
    """
    from moses_integration.binarization import BinarySettings, binarize

    moses = moses_of(options)
    ini, feature = _ini(options)
    log = Path(f"{output}.log")
    settings = BinarySettings(options["table_limit"], options["sort_score"], options["threads"])
    scores, usage = binarize(
        moses,
        table,
        output,
        kind,
        settings,
        log=log,
        require_scores=(lambda scores: require_scores(feature, scores)) if feature else None,
        show_progress=not options["quiet"],
    )
    say(f"{output}: {scores} scores; {usage}; the log is {log}")
    if ini and feature:
        _finish(moses, ini, feature, output, kind, options)


def _ini(options: dict[str, Any]) -> tuple[MosesIni | None, PhraseTableFeature | None]:
    if not options["moses_ini"]:
        for name in ("moses_ini_out", "table_name", "check_input"):
            if options[name]:
                raise UsageError(f"--{name.replace('_', '-')} needs --moses-ini")
        return None, None
    ini = MosesIni.read(options["moses_ini"])
    return ini, ini.phrase_table(options["table_name"])


def _finish(
    moses: Moses, ini: MosesIni, feature: PhraseTableFeature, output: Path, kind: Any,
    options: dict[str, Any],
) -> None:  # fmt: skip
    """Writes the new moses.ini, and decodes with both."""
    from moses_integration.binarization import FORMATS, binary_ini, check_by_decoding

    binary = binary_ini(ini, feature, kind, str(output.resolve()))
    if options["check_input"]:
        decoders = ["moses", "moses2"] if FORMATS[kind].moses2 else ["moses"]
        for decoder in decoders:
            with tempfile.TemporaryDirectory() as folder:
                count = check_by_decoding(
                    moses, ini, binary, options["check_input"], Path(folder),
                    decoder=decoder, sentences=options["check_sentences"],
                )  # fmt: skip
            say(f"{decoder}: the same n-best lists with both tables ({count} sentences)")
    if options["moses_ini_out"]:
        write_atomically(options["moses_ini_out"], binary.to_bytes())
        say(f"{options['moses_ini_out']} names it")
