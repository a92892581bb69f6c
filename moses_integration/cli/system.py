"""The commands over the files of a Moses system: ini, ems, filter; and prepare, for its text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
from typing_extensions import override

from moses_integration.cli.options import FILE, LANGUAGE, new_folder_option
from moses_integration.ems import installed_program, write_ems_files
from moses_integration.formats.ini_edits import START_WEIGHT, seen_from, with_language_model
from moses_integration.formats.moses_ini import MosesIni
from moses_integration.preparation import PrepareRequest, prepare_corpus
from moses_integration.system.check import stale_warnings
from moses_integration.system.filtering import LONGEST_PHRASE, filter_model
from moses_integration.system.fitting import Fit, fit_ini
from phrase_scorer.cli.options import (
    CORES,
    COUNT,
    WEIGHT,
    Bounded,
    Command,
    option,
    takes,
)
from phrase_scorer.errors import UsageError
from phrase_scorer.language_model.arpa import arpa_order
from phrase_scorer.runtime.console import say
from phrase_scorer.runtime.output import STANDARD, OutputFile, make_new_folder, real_path
from phrase_scorer.runtime.streams import refuse_pipes


@dataclass(frozen=True)
class IniRequest:
    """A moses.ini that is to fit its tables, and n-gram models that it is to gain."""

    moses_ini: str
    output: str | None  # this or `in_place`
    in_place: bool
    weight: float  # of what is new
    table_name: str | None
    scores: int | None  # of the table, where it does not say
    language_models: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.in_place == bool(self.output):
            raise UsageError("give --output FILE or --in-place")
        self.output_file()  # refused where it cannot be written
        refuse_pipes(*self.language_models)

    def output_file(self) -> OutputFile:
        """The moses.ini to write."""
        return OutputFile(self.output or self.moses_ini, inputs=self.language_models)


@click.command(epilog="""\b
Examples:
  phrase-scorer ini model/moses.ini --output model/moses.rnn.ini
  phrase-scorer ini moses.ini --in-place --table-name TranslationModel1 --weight 0.2
  phrase-scorer ini moses.ini --language-model cslm.arpa --output moses.cslm.ini
""")  # fmt: skip
@click.argument("moses_ini", metavar="MOSES_INI")
@option("--output", metavar="FILE", help="The new moses.ini; - is standard output.")
@option("--in-place", is_flag=True, help="Replace MOSES_INI, if anything in it changes.")
@option("--weight", type=WEIGHT, default=START_WEIGHT, metavar="W",
        help="Start weight of each new score, to be tuned.")  # fmt: skip
@option("--table-name", metavar="NAME", help="Fit only this table.  [default: all]")
@option("--scores", type=COUNT, metavar="N", help="Scores per entry of a table that "
        "does not tell (PhraseDictionaryCompact).")  # fmt: skip
@option("--language-model", "language_models", multiple=True, metavar="FILE", help="ARPA file of "
        "an n-gram model to add; --weight is its start weight. Repeat for several.")  # fmt: skip
@takes(IniRequest)
def ini(request: IniRequest) -> None:
    """Make num-features and the weights of MOSES_INI fit the scores that its phrase tables have.

    With --language-model, n-gram models are added, too, as KENLM features.

    For a moses.ini that train-model.perl wrote: it counts 4 scores in every table. The scores of a
    text table are those of its first entry, those of a binarised one stand beside it; all else
    stays byte for byte. A table with fewer scores than num-features is an error.
    """
    before = MosesIni.read(request.moses_ini)
    after, fits = fit_ini(
        before, weight=request.weight, name=request.table_name, scores=request.scores
    )
    for fit in fits:
        _tell(before, fit, request.weight)
    for path in request.language_models:
        place, order = str(real_path(path)), arpa_order(path)
        after = with_language_model(after, place, order, request.weight)
        say(f"{request.moses_ini}: one more KENLM, {path}")
    if request.output or after is not before:
        output = request.output or request.moses_ini
        if output != STANDARD:
            after = seen_from(after, Path(output).parent)
        with request.output_file() as out:
            out.write(after.to_bytes())


def _tell(before: MosesIni, fit: Fit, weight: float) -> None:
    place = f"{before.path}:{fit.table.line}: {fit.table.name}"
    if fit.scores is None:
        say(f"{place}: left as it is: {fit.table.class_name} does not say its number of scores")
    elif not fit.new_columns:
        say(f"{place}: {fit.scores} scores, as num-features says")
    else:
        added = " ".join([f"{weight:g}"] * fit.new_columns)
        say(f"{place}: num-features {fit.table.num_features} -> {fit.scores}; new weights: {added}")
        for warning in stale_warnings(before, fit.table, fit.new_columns):
            say(f"warning: {warning}")


@click.command(epilog="""\b
Example:
  phrase-scorer ems --output-dir phrase-scorer-ems/
  less phrase-scorer-ems/config.phrase-scorer
""")  # fmt: skip
@new_folder_option
def ems(output_dir: str) -> None:
    """Write what Moses' experiment management system (EMS, experiment.perl) needs into a folder.

    rescore-hook.sh adds the column when EMS has built the phrase table; train-model-wrapper.sh
    makes each moses.ini of EMS fit it; config.phrase-scorer has the lines for your config, which
    say the rest.
    """
    program = installed_program()
    for path in write_ems_files(make_new_folder(output_dir, "--output-dir"), program):
        click.echo(path)


@dataclass(frozen=True)
class FilterRequest:
    """A model of which only the part that some inputs need is to be kept."""

    moses_ini: str
    inputs: tuple[str, ...]
    more_inputs: tuple[str, ...]  # those that follow the first --input without the option
    output_dir: str
    longest: int  # words of a source phrase
    quiet: bool


@click.command("filter", epilog="""\b
Examples:
  phrase-scorer filter --moses-ini moses.ini --input val.en --input test.en --output-dir filtered/
  phrase-scorer rescore filtered/ filtered.rnn/ --model rnn/
""")  # fmt: skip
@option("--moses-ini", required=True, metavar="FILE", help="moses.ini of the whole model.")
@option("--input", "inputs", required=True, multiple=True, metavar="FILE",
        help="Tokenised text that is to be translated. Repeat for several.")  # fmt: skip
@click.argument("more_inputs", nargs=-1, metavar="[FILE]...")
@new_folder_option
@option("--longest", type=COUNT, default=LONGEST_PHRASE, metavar="N",
        help="Longest source phrase, in words.")  # fmt: skip
@takes(FilterRequest)
def filter_command(request: FilterRequest) -> None:
    """Write the part of a model that some inputs need: its text tables, and a moses.ini for them.

    The tables are read once for all inputs together, so that tuning and test sets can then be
    rescored together. More files may follow the first --input.
    """
    ini = MosesIni.read(request.moses_ini)
    folder = make_new_folder(request.output_dir, "--output-dir")
    inputs = [*request.inputs, *request.more_inputs]
    for table in filter_model(
        ini, inputs, folder, longest=request.longest, show_progress=not request.quiet
    ):
        share = table.kept / table.entries
        say(f"{table.name}: {table.kept:,} of {table.entries:,} entries kept ({share:.1%})")
    say(f"{folder / 'moses.ini'} names them")


def _unless(name: str, setting: str, text: str) -> Callable[[Command], Command]:
    """A flag that turns a setting off."""
    return option(name, setting, is_flag=True, callback=lambda *given: not given[-1], help=text)


class _ForTwoFiles(click.Command):
    """`--languages en fr` where there are two files: the second code joins the first."""

    @override
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        files = self.make_parser(ctx).parse_args(args=list(args))[0]["files"]
        if isinstance(files, tuple) and len(files) > 1 and "--languages" in args:
            second = args.index("--languages") + 2
            if second < len(args) and not args[second].startswith("-"):
                args[second - 1 : second + 1] = [" ".join(args[second - 1 : second + 1])]
        return super().parse_args(ctx, args)


def _codes(ctx: click.Context, parameter: click.Parameter, text: str) -> tuple[str, ...]:
    return tuple(LANGUAGE.convert(code, parameter, ctx) for code in text.split())


@click.command(cls=_ForTwoFiles, epilog="""\b
Examples:
  phrase-scorer prepare corpus.en corpus.fr --languages en fr --output-dir prepared/
  phrase-scorer prepare corpus.en.gz corpus.fr.gz --languages en fr --lowercase --no-escape \\
      --threads 8 --output-dir prepared/
  phrase-scorer prepare test.en --languages en --truecase-model-dir prepared/ --output-dir test/
""")  # fmt: skip
@click.argument("files", nargs=-1, required=True, metavar="FILE [FILE]")
@option("--languages", required=True, callback=_codes, metavar="LANG [LANG]",
        help=f"Code of each file's language: {', '.join(LANGUAGE.choices)}.")  # fmt: skip
@option("--output-dir", required=True, type=FILE, metavar="DIR",
        help="Folder for the prepared files.")  # fmt: skip
@option("--truecase", "casing", flag_value="truecase", default=True, show_default=False,
        help="Words as they are mostly written within sentences.  [default]")  # fmt: skip
@option("--lowercase", "casing", flag_value="lowercase", help="All words in lower case.")
@option("--keep-case", "casing", flag_value="keep", help="Words cased as they stand.")
@option("--truecase-model-dir", type=FILE, metavar="DIR", help="The output "
        "of an earlier run, whose truecasers to use; otherwise they are trained.")  # fmt: skip
@_unless("--no-escape", "escape", "Leave & | < > ' \" [ ] as they are.")
@_unless("--no-normalize", "normalise", "Leave punctuation as it is.")
@_unless("--no-clean", "clean", "Keep all sentence pairs.")
@option(
    "--min-length", type=COUNT, default=1, metavar="N", help="Shortest sentence kept, in words."
)
@option(
    "--max-length", type=COUNT, default=80, metavar="N", help="Longest sentence kept, in words."
)
@option("--ratio", type=Bounded(float, 1, 1e9), default=9.0, metavar="X",
        help="Largest ratio of the longer to the shorter side.")  # fmt: skip
@option(
    "--threads", "processes", type=CORES, default=1, metavar="N", help="Processes that tokenise."
)
@takes(PrepareRequest)
def prepare(request: PrepareRequest) -> None:
    """Normalise, tokenise, case and clean a corpus (two files), or a text (one file).

    Token for token as Moses' own scripts do it. Sentence pairs with an empty side, beyond the
    bounds or of very different lengths are dropped; a single text keeps all its lines.
    """
    done = prepare_corpus(request)
    for reason, count in done.dropped.most_common():
        say(f"dropped: {count:,} ({reason})")
    say(f"{done.kept:,} of {done.lines:,} lines written to {', '.join(map(str, request.outputs))}")
