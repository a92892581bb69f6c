"""The commands that write phrase tables: rescore, join, prune, strip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from moses_integration.cli.options import (
    FILE,
    ini_options,
    models_option,
    unknown_words_of_option,
)
from moses_integration.formats.ini_edits import START_WEIGHT
from moses_integration.formats.moses_ini import MosesIni
from moses_integration.rescoring.joining import JoinRequest, join
from moses_integration.rescoring.parts import TablePart
from moses_integration.rescoring.pruning import PruneRequest, prune
from moses_integration.rescoring.request import (
    DEFAULT_FLOOR,
    LOWEST_FLOOR,
    WORKER_IMPORTS,
    RescoreRequest,
)
from moses_integration.rescoring.stripping import StripRequest, strip
from moses_integration.system.check import IniTarget, stale_warnings
from phrase_scorer.cli.options import (
    COUNT,
    WEIGHT,
    Bounded,
    SectionedCommand,
    answer,
    any_table_option,
    device_options,
    max_unknown_option,
    option,
    precision_option,
    require_models,
    several_devices_options,
    statistics_option,
    takes,
    wants_json,
)
from phrase_scorer.cli.score import tell_scoring
from phrase_scorer.errors import UsageError
from phrase_scorer.runtime.console import detail, note, say
from phrase_scorer.runtime.output import STANDARD
from phrase_scorer.runtime.workers import start_imports

if TYPE_CHECKING:
    from moses_integration.rescoring.columns import Column
    from moses_integration.rescoring.counts import RescoreCounts
    from moses_integration.rescoring.stream import TableReader

FLOOR = Bounded(float, LOWEST_FLOOR, 0)


HEADINGS = {
    "Columns": "models inverse_models ensemble unknown_words unknown_words_of floor replace "
               "allow_duplicate",
    "moses.ini": "moses_ini moses_ini_out table_name weights",
    "The table": "on_bad_line max_unknown any_table",
}  # fmt: skip


@click.command("rescore", cls=SectionedCommand, headings=HEADINGS, epilog="""\b
Examples:
  phrase-scorer rescore phrase-table.gz phrase-table.rnn.gz --model rnn/ \\
      --moses-ini moses.ini --moses-ini-out moses.rnn.ini
  zcat phrase-table.gz | phrase-scorer rescore - - --model rnn/ | gzip > new.gz
  phrase-scorer rescore filtered/ filtered.rnn/ --model rnn/ --inverse-model inverse/ \\
      --unknown-words --weight 0.1 --weight 0.1 --weight 0
  phrase-scorer rescore phrase-table.gz new.gz --model rnn1/ --model rnn2/ --ensemble
  phrase-scorer rescore phrase-table.gz --model rnn/ --estimate
  phrase-scorer rescore phrase-table.rnn.gz new.gz --model better/ \\
      --replace "p(target | source)"
  phrase-scorer rescore phrase-table.gz new.gz --model rnn/ --precision int8 --resume
  phrase-scorer rescore phrase-table.gz new.gz --model rnn/ --precision bfloat16 \\
      --device cuda:0,cuda:1
  phrase-scorer rescore phrase-table.gz new.gz --model rnn/ --part 3/16 --resume
""")  # fmt: skip
@click.argument("table", metavar="PHRASE_TABLE")
@click.argument("output", metavar="[OUTPUT]", required=False)
@models_option("--model", "p(target | source)")
@models_option("--inverse-model", "p(source | target)")
@option("--ensemble", is_flag=True, help="One column per direction: the mean of its models.")
@option("--unknown-words", is_flag=True, help="Add a column for the target words outside the "
        "(first) model's shortlist: exp(-count).")  # fmt: skip
@unknown_words_of_option
@ini_options("the new columns")
@option(
    "--weight", "weights", type=WEIGHT, multiple=True, metavar="W",
    help=f"Start weight of the new columns, or of each in turn; tune them.  [{START_WEIGHT}]",
)  # fmt: skip
@option("--floor", type=FLOOR, default=DEFAULT_FLOOR, metavar="LN", help="Least ln p written.")
@option("--on-bad-line", type=click.Choice(["stop", "keep"]), default="stop", help="keep: pass it "
        "through with the neutral score 1 (where it has scores), and count it.")  # fmt: skip
@max_unknown_option
@any_table_option
@option("--replace", multiple=True, metavar="NAME", help="Compute this column of the signature "
        "again, in its place: its name or number. Repeat for each model.")  # fmt: skip
@option("--allow-duplicate", is_flag=True, help="Add a column that is there already.")
@option("--estimate", is_flag=True, help="Only say what it would take, from a sample.")
@option("--resume", is_flag=True, help="Go on with a run that was broken off, if any.")
@option("--part", metavar="I/N", callback=lambda *given: _part(given[-1]),
        help="Write the I-th of N parts of the table, to OUTPUT.partI-of-N; `join` makes OUTPUT of "
        "them.")  # fmt: skip
@option("--log", metavar="FILE", help="Append to FILE how the run computes, and a line of JSON a "
        "second: how far it is. `report` shows it.")  # fmt: skip
@precision_option
@several_devices_options
@statistics_option
@takes(RescoreRequest)
def rescore_command(request: RescoreRequest) -> None:
    """Write PHRASE_TABLE to OUTPUT with p(target | source) as one more score at the end.

    New scores stand in this order: a column for each --model, for each --inverse-model, then
    unknown words. All else in a line stays byte for byte. With --replace they take, in this order,
    the places of columns that were added before, and the weights in moses.ini stay.

    OUTPUT appears only when it is whole, with a signature (OUTPUT.signature.json) that says what
    was added. `-` is standard input or output; OUTPUT is gz where its name ends so. A PHRASE_TABLE
    that is a folder made by `filter` becomes another such folder, OUTPUT, with its own moses.ini.

    Scores in one process per core (--threads), which share the GPU, or several GPUs if --device
    names them; the output does not depend on how many processes there are. A run that was killed
    leaves OUTPUT.partial and OUTPUT.journal, and --resume goes on with it: the result is the same
    byte for byte.
    """
    if wants_json() and request.output == STANDARD and not request.estimate:
        raise UsageError("--format json: standard output is the table already")
    require_models(*request.models, *request.inverse_models)
    if request.processes > 1:
        start_imports(WORKER_IMPORTS)
    from moses_integration.rescoring.columns import load_columns, scorers_of
    from moses_integration.rescoring.job import SAMPLED_ENTRIES, check_of, run_rescoring
    from moses_integration.rescoring.stream import TableReader
    from phrase_scorer.kernels.library import kernels_in_words

    request.arithmetic.use_threads()
    columns = load_columns(request)
    scorers = scorers_of(columns)
    reader = TableReader(request.phrase_table)
    check = check_of(request, scorers)
    device = request.arithmetic.torch_device()
    sample = reader.sample(SAMPLED_ENTRIES)
    check.begin(sample)
    tell_scoring(scorers, lambda: sample)
    note(f"device {device}; kernels: {kernels_in_words(device.type)}")
    detail(f"{request.processes} processes; products in {request.arithmetic.precision}")
    if request.estimate:
        _tell_estimate(reader, columns, request.processes)
        return
    with request.folder_made():
        counts = run_rescoring(request, reader, columns)
        _tell(counts, request, [column.name for column in columns])
        check.finish()
        for place in counts.constant:
            say(f"warning: the column of {columns[place].name} is constant: it tells nothing")
        if request.feature:
            scores = request.feature.num_features
            places = request.replaced or range(scores, scores + len(columns))
            _write_ini(request, places, [places[number] for number in counts.constant])


def _part(text: str | None) -> TablePart | None:
    return None if text is None else TablePart.parse(text)


def _tell_estimate(reader: TableReader, columns: Sequence[Column], processes: int) -> None:
    from moses_integration.rescoring.estimate import estimate

    result = estimate(reader, columns, processes)
    if wants_json():
        answer(result.statistics())
        return
    for line in result.lines():
        click.echo(line)


def _tell(counts: RescoreCounts, request: RescoreRequest, names: Sequence[str]) -> None:
    table, output, _ = request.files
    if request.part and output:
        output = request.part.path(output)
        say(f"{output}: part {request.part}; `join {request.output}` makes the table of all parts")
    floored = f"; {counts.floored:,} below the floor" * bool(counts.floored)
    bad = f"; {counts.bad_lines:,} bad lines of {table} kept as they were"
    say(f"{counts.scored:,} entries scored{floored}{bad * bool(counts.bad_lines)}")
    answer({
        "entries": counts.entries, "scored": counts.scored, "bad_lines": counts.bad_lines,
        "floored": counts.floored, "columns": names,
        "constant_columns": [names[place] for place in counts.constant], "output": output,
    })  # fmt: skip


def _write_ini(
    request: RescoreRequest | JoinRequest, places: Sequence[int], constant: Sequence[int]
) -> None:
    """Writes the new moses.ini, if one is wanted, and says what it leaves stale or idle.

    `places` are those of the new columns, from 0, and `constant` those of them with one value.
    """
    target, ini, feature = request.target, request.moses_ini, request.feature
    if ini is None or feature is None:
        return
    added = sum(place >= feature.num_features for place in places)
    for warning in stale_warnings(ini, feature, added):
        say(f"warning: {warning}")
    if not target.moses_ini_out:
        say(f"--moses-ini-out not given: {ini.path} was only checked")
        return
    assert request.edited_ini is not None
    target.write(request.edited_ini)
    scores = feature.num_features + added
    say(f"{target.moses_ini_out}: {feature.name} with {scores} scores; tune it")
    for place in constant:
        weight = f"weight {place + 1} of {feature.name}"
        say(f"warning: {target.moses_ini_out}: {weight} is of a constant column: nothing to tune")


@click.command("join", epilog="""\b
Examples:
  phrase-scorer join phrase-table.rnn.gz
  phrase-scorer join phrase-table.rnn.gz --moses-ini moses.ini --moses-ini-out moses.rnn.ini
""")  # fmt: skip
@click.argument("output", metavar="OUTPUT")
@ini_options("the new columns")
@option(
    "--weight", "weights", type=WEIGHT, multiple=True, metavar="W",
    help=f"Start weight of the new columns, or of each in turn; tune them.  [{START_WEIGHT}]",
)  # fmt: skip
@option("--keep-parts", is_flag=True, help="Leave the parts; else they go when OUTPUT is whole.")
@statistics_option
@takes(JoinRequest)
def join_command(request: JoinRequest) -> None:
    """Make OUTPUT of its parts, which `rescore --part` wrote: the same bytes as in one run.

    All must be there, finished, and of one run: the same table, models, arithmetic and options.
    """
    counts, index = join(request), request.indexes[0]
    floored = f"; {counts.floored:,} below the floor" * bool(counts.floored)
    bad = f"; {counts.bad_lines:,} bad lines kept as they were" * bool(counts.bad_lines)
    say(f"{request.output}: {counts.entries:,} entries of {len(request.paths)} parts{floored}{bad}")
    names = {column.place: column.name for column in index.columns}
    constant = [index.new[number] for number in counts.constant]
    for place in constant:
        say(f"warning: the column of {names[place]} is constant: it tells nothing")
    answer({
        "entries": counts.entries, "bad_lines": counts.bad_lines, "floored": counts.floored,
        "columns": [names[place] for place in index.new],
        "constant_columns": [names[place] for place in constant], "output": request.output,
    })  # fmt: skip
    _write_ini(request, index.new, constant)
    if not request.keep_parts:
        request.remove_parts()


PROBABILITY = Bounded(float, 0, 1)


@click.command("prune", epilog="""\b
Examples:
  phrase-scorer prune phrase-table.rnn.gz small.gz --by 5 --share 0.3
  phrase-scorer prune phrase-table.rnn.gz small.gz --by 5 --keep-best 20
  phrase-scorer prune phrase-table.gz small.gz --model rnn/ --threshold 1e-4 \\
      --reordering-table reordering-table.gz reordering-table.small.gz \\
      --moses-ini moses.ini --moses-ini-out moses.small.ini
""")  # fmt: skip
@click.argument("table", metavar="PHRASE_TABLE")
@click.argument("output", metavar="OUTPUT")
@option("--by", metavar="SCORE", help="Judge by this score: its number, from 1, or its name in the "
        "signature.")  # fmt: skip
@option("--model", "model_path", type=FILE, metavar="DIR",
        help="Judge by the probability that this model gives.")  # fmt: skip
@max_unknown_option
@option("--threshold", type=PROBABILITY, metavar="P", help="Keep entries of at least this score.")
@option("--keep-best", type=COUNT, metavar="N", help="Keep this many entries of each source.")
@option("--share", type=PROBABILITY, metavar="X", help="Keep this share of all entries, the best "
        "ones; the table is read twice.")  # fmt: skip
@option("--drop-sources", is_flag=True,
        help="Let sources go altogether; otherwise each keeps its best entry.")  # fmt: skip
@option("--reordering-table", nargs=2, metavar="OLD NEW", help="Keep the same pairs of this "
        "lexicalised reordering table, and write them to NEW.")  # fmt: skip
@ini_options("the smaller tables")
@device_options
@statistics_option
@takes(PruneRequest)
def prune_command(request: PruneRequest) -> None:
    """Write the better entries of PHRASE_TABLE to OUTPUT, judged by a score or a model.

    Lines stay as they are, in their order, and so does the signature. Of entries that are judged
    equal, the first stay. A --reordering-table is pruned in step: both must be sorted alike.
    """
    require_models(*([request.model_path] if request.model_path else []))
    counts = prune(request)
    answer(counts)
    say(
        f"{counts.kept:,} of {counts.entries:,} entries kept ({counts.kept / counts.entries:.1%}), "
        f"of {counts.kept_sources:,} of {counts.sources:,} sources"
    )
    if request.share is not None and not request.drop_sources and counts.kept == counts.sources:
        say("every source keeps its best entry, and no share is left; --drop-sources lets them go")
    if request.reordering_table:
        new = request.reordering_table[1]
        say(f"{new}: {counts.kept_reordering:,} of {counts.reordering_entries:,} entries kept")
    _tell_ini(request.ini_target, request.edited_ini)


def _tell_ini(target: IniTarget, ini: MosesIni | None) -> None:
    """Writes the edited moses.ini, if one was given, and says so."""
    if ini and target.write(ini):
        say(f"{target.moses_ini_out} names the new files; tune it")
    elif ini:
        say(f"--moses-ini-out not given: {ini.path} was only checked")


@click.command("strip", epilog="""\b
Examples:
  phrase-scorer strip phrase-table.rnn.gz phrase-table.gz
  phrase-scorer strip phrase-table.rnn.gz phrase-table.gz \\
      --moses-ini moses.rnn.ini --moses-ini-out moses.ini
""")  # fmt: skip
@click.argument("table", metavar="PHRASE_TABLE")
@click.argument("output", metavar="OUTPUT")
@ini_options("fewer scores")
@statistics_option
@takes(StripRequest)
def strip_command(request: StripRequest) -> None:
    """Write PHRASE_TABLE to OUTPUT without the scores that `rescore` has added.

    Which they are, its signature says. The rest of each line stays: what comes out is the table
    that was rescored, byte for byte.
    """
    counts = strip(request)
    answer({"entries": counts.entries, "bad_lines": counts.bad_lines,
            "columns": len(request.places)})  # fmt: skip
    bad = f"; {counts.bad_lines:,} bad lines among them" * bool(counts.bad_lines)
    columns = len(request.places)
    say(f"{columns} score{'s' * (columns > 1)} taken off {counts.entries:,} entries{bad}")
    _tell_ini(request.ini_target, request.edited_ini)
