"""The commands that need no Moses file: train, score, info.

A command parses its options and calls one function; what it reads its pairs with is handed in
(`PairReader`), so that the same commands serve tab-separated pairs here and phrase tables in
moses_integration.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from phrase_scorer import __version__
from phrase_scorer.command_line import SIGNAL_EXIT_CODES, run, say
from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.phrase_pairs import PairBlock, PairCollector, read_tab_separated

if TYPE_CHECKING:
    from phrase_scorer.scorer import PhraseScorer
    from phrase_scorer.training import TrainingResult

SHORTLIST = 15_000  # paper, section 4.1: 15,000 most frequent words of each language
MANY_UNKNOWN = 0.2  # share of unknown words that is more likely a mistake than a rare domain

Command = TypeVar("Command", bound=Callable[..., Any])


class PairReader(Protocol):
    """Reads the pairs of a file, block by block; `with_counts`: how often each was seen, too."""

    def __call__(self, path: str, *, with_counts: bool = False) -> Iterator[PairBlock]:
        """The blocks, in the order of the file."""


def read_pairs(path: str, *, with_counts: bool = False) -> Iterator[PairBlock]:
    """The reader for "source<TAB>target" lines.

    Raises:
        UsageError: Counts are wanted; there are none in such a file.
    """
    if with_counts:
        raise UsageError("--weight-by-count needs a phrase table with counts")
    return read_tab_separated(path)


def model_option(command: Command) -> Command:
    """--model DIR."""
    return click.option(
        "--model", "model_path", required=True, type=click.Path(path_type=Path),
        metavar="DIR", help="Model directory.",
    )(command)  # fmt: skip


def device_options(command: Command) -> Command:
    """--device and --threads."""
    return _device_options(
        command, "Where to compute: auto, cpu, cuda, cuda:1, …", callback=_one_device
    )


def several_devices_options(command: Command) -> Command:
    """--device, of which there may be several, and --threads."""
    return _device_options(
        command, "Where to compute: auto, cpu, cuda, cuda:1, …; several: cuda:0,cuda:1."
    )


def _device_options(command: Command, text: str, **options: Any) -> Command:
    device = click.option("--device", default="auto", show_default=True, help=text, **options)
    return click.option(
        "--threads", type=int, metavar="N", help="CPU cores to use.  [default: all]"
    )(device(command))


def _one_device(_: click.Context, __: click.Parameter, name: str) -> str:
    if "," in name:
        raise UsageError(f"--device {name}: only rescore computes on several devices")
    return name


def scoring_options(command: Command) -> Command:
    """--precision, --normalizer and --score-cache."""
    command = click.option(
        "--score-cache",
        metavar="FILE",
        help="Scores known from other tables; those computed now are added.",
    )(command)
    command = click.option(
        "--precision",
        type=click.Choice(["float32", "bfloat16", "int8"]),
        default="float32",
        show_default=True,
        help="Of the large products; other than float32, its error is measured and printed.",
    )(command)
    return click.option(
        "--normalizer",
        type=click.Choice(["exact", "none"]),
        default="exact",
        show_default=True,
        help="none: no softmax normaliser; for models trained with --self-normalize.",
    )(command)


def quiet_option(command: Command) -> Command:
    """--quiet."""
    return click.option("--quiet", is_flag=True, help="No progress bar.")(command)


@click.command(
    epilog="""\b
Examples:
  phrase-scorer train model/phrase-table.gz --model rnn/
  phrase-scorer train model/phrase-table.gz --model rnn/ --preset paper --device cuda
  phrase-scorer train pairs.tsv --model rnn/ --max-minutes 30
  phrase-scorer train model/phrase-table.gz --model fast/ --self-normalize 0.1
  phrase-scorer train model/phrase-table.gz --model rnn/ --resume"""
)
@click.argument("pairs", metavar="PHRASE_TABLE")
@model_option
@click.option(
    "--preset",
    type=click.Choice(["small", "base", "paper"]),
    default="small",
    show_default=True,
    help="Sizes and training settings: small and base for CPUs, paper as in Cho et al. 2014.",
)
@click.option(
    "--direction",
    type=click.Choice(["forward", "inverse"]),
    default="forward",
    show_default=True,
    help="forward: p(target | source); inverse: p(source | target).",
)
@click.option(
    "--variant",
    type=click.Choice(["paper", "groundhog"]),
    default="paper",
    show_default=True,
    help="The model as printed, or as in the authors' released code.",
)
@click.option(
    "--shortlist",
    type=click.IntRange(2),
    default=SHORTLIST,
    show_default=True,
    metavar="N",
    help="Most frequent words of each side that the model knows, <unk> included.",
)
@click.option("--weight-by-count", is_flag=True, help="Weigh pairs by their counts.  [paper: no]")
@click.option("--max-updates", type=int, metavar="N", help="Updates in all.  [default: preset's]")
@click.option("--max-minutes", type=float, metavar="M", help="Stop after M minutes.")
@click.option("--batch-pairs", type=int, metavar="N", help="Pairs an update.")
@click.option("--optimizer", type=click.Choice(["adamw", "adadelta"]), help="[default: preset's]")
@click.option("--learning-rate", type=float, metavar="X", help="Highest learning rate.")
@click.option(
    "--schedule",
    type=click.Choice(["constant", "linear", "inverse-sqrt"]),
    help="Of the learning rate.  [default: preset's]",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    help="Of the products in training; weights and states stay float32.",
)
@click.option(
    "--self-normalize",
    type=float,
    metavar="A",
    help="Penalty A (ln Z)², say 0.1: for scoring with --normalizer none.  [default: 0]",
)
@click.option("--validation-pairs", type=int, metavar="N", help="About how many to hold out.")
@click.option("--validate-every", type=int, metavar="N", help="Updates between validations.")
@click.option("--patience", type=int, metavar="N", help="Validations without gain before the end.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of all that is random.")
@click.option(
    "--checkpoint-minutes",
    type=float,
    default=10.0,
    show_default=True,
    metavar="M",
    help="Save the state this often; also at Ctrl-C and SIGTERM.",
)
@click.option("--resume", is_flag=True, help="Continue a training that was stopped.")
@click.option("--overwrite", is_flag=True, help="Replace the model that is there.")
@device_options
@quiet_option
@click.pass_obj
def train(read: PairReader, /, **options: Any) -> int:  # fmt: skip
    """Train a model on the phrase pairs of PHRASE_TABLE (or of "source<TAB>target" lines).

    Every distinct pair counts once, whatever its frequency. Pairs of some source phrases are held
    out for validation. The unit of all losses is nats a target symbol, end symbols included.
    """
    result = _train(read, options)
    progress = result.progress
    best = "no validation pairs"
    if result.validated:
        best = (
            f"best validation {progress.best_loss:.4f} nats a target symbol "
            f"(update {progress.best_update})"
        )
    say(
        f"stopped by {result.stopped} after {progress.update} updates, "
        f"{progress.seconds / 60:.1f} minutes; {best}"
    )
    if result.stopped in SIGNAL_EXIT_CODES:
        say("the state is saved; --resume continues")
    return SIGNAL_EXIT_CODES.get(result.stopped, 0)


def _train(read: PairReader, options: dict[str, Any]) -> TrainingResult:
    from phrase_scorer.device import choose_device, set_threads
    from phrase_scorer.models import PRESETS, ModelConfig
    from phrase_scorer.streams import paused_garbage_collection, prefetch
    from phrase_scorer.training import train
    from phrase_scorer.training_settings import TRAINING_PRESETS, TrainingSettings
    from phrase_scorer.vocabulary import shortlists

    set_threads(options["threads"])
    device = choose_device(options["device"])
    chosen = {
        name: options[name]
        for name in TrainingSettings.__dataclass_fields__
        if options.get(name) is not None
    }
    settings = TrainingSettings(**{**TRAINING_PRESETS[options["preset"]], **chosen})
    _check_directory(options)
    collector = PairCollector()
    with paused_garbage_collection():
        for block in prefetch(read(options["pairs"], with_counts=options["weight_by_count"])):
            collector.add(block)
    pairs = collector.finish().unique()
    if not len(pairs):
        raise DataError("the phrase table is empty", path=options["pairs"])
    if options["direction"] == "inverse":
        pairs = pairs.swapped()
        collector.swap()
    vocabularies = shortlists(collector, pairs, options["shortlist"])
    config = ModelConfig(
        source_words=len(vocabularies[0]),
        target_words=len(vocabularies[1]),
        variant=options["variant"],
        direction=options["direction"],
        **PRESETS[options["preset"]],
    )
    say(
        f"{len(pairs):,} pairs; {len(vocabularies[0]):,} source and {len(vocabularies[1]):,} "
        f"target words in the shortlists; device {device}"
    )
    return train(
        pairs,
        vocabularies,
        config,
        settings,
        options["model_path"],
        device=device,
        max_minutes=options["max_minutes"],
        checkpoint_minutes=options["checkpoint_minutes"],
        resume=options["resume"],
        show_progress=not options["quiet"],
        details={"path": options["pairs"], "preset": options["preset"]},
    )


def _check_directory(options: dict[str, Any]) -> None:
    """Refuses what is there or is not, before the table is read."""
    from phrase_scorer.checkpoint import ModelDirectory

    path: Path = options["model_path"]
    if path.is_file():
        raise UsageError(f"--model {path} is a file, not a directory")
    if options["resume"]:
        ModelDirectory(path).require_state()
    elif (path / "config.json").exists() and not options["overwrite"]:
        raise UsageError(f"{path} holds a model; --resume continues it, --overwrite replaces it")


@click.command(
    epilog="""\b
Examples:
  phrase-scorer score --model rnn/ pairs.tsv > scores.txt
  paste source.txt target.txt | phrase-scorer score --model rnn/ -
  echo "the blue house ||| la maison bleue" | phrase-scorer score --model rnn/ -
  phrase-scorer score --model rnn/ --precision int8 phrase-table.gz > scores.txt"""
)
@click.argument("pairs", metavar="PAIRS", default="-")
@model_option
@click.option("--output", default="-", metavar="FILE", help="Where to write.  [default: stdout]")
@scoring_options
@device_options
@click.pass_obj
def score(read: PairReader, /, pairs: str, output: str, **options: Any) -> None:
    """Score the pairs of PAIRS: "source<TAB>target" or "source ||| target", a line each.

    Writes one number a line, in the same order: the natural logarithm of p(target | source),
    summed over the target's words and the end of the phrase, not normalised for length. For a
    model of direction inverse it is ln p(source | target).
    """
    from phrase_scorer.device import set_threads
    from phrase_scorer.scorer import PhraseScorer, blocks_of
    from phrase_scorer.streams import OutputFile, is_same_file

    set_threads(options["threads"])
    if output != "-" and is_same_file(pairs, output):
        raise DataError("the output would overwrite the input", path=output)
    scorer = PhraseScorer.load(
        options["model_path"],
        options["device"],
        options["precision"],
        options["normalizer"],
        options["score_cache"],
    )
    if scorer.direction == "inverse":
        say("the model is inverse: scores are ln p(source | target)")
    with OutputFile(output) as out:
        for number, block in enumerate(blocks_of(read(pairs))):
            if number == 0:
                tell_accuracy(scorer, block)
            values = scorer.score_block(block)
            out.write("".join(f"{value:.6f}\n" for value in values.tolist()).encode())
            scorer.add_to_cache()


def tell_accuracy(scorer: PhraseScorer, block: PairBlock) -> None:
    """Says how far the scores are from exact ones on a sample of a block, if they are not exact."""
    if scorer.is_exact:
        return
    from phrase_scorer.accuracy import measure_accuracy

    say(f"{scorer.arithmetic}, against exact scores: {measure_accuracy(scorer, block)}")


@click.command(epilog="\b\nExample:\n  phrase-scorer info rnn/")
@click.argument("model_path", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def info(model_path: Path, as_json: bool) -> None:
    """Show what a model is: sizes, direction, training, fingerprint."""
    from phrase_scorer.checkpoint import ModelDirectory

    directory = ModelDirectory(model_path)
    facts = directory.describe()
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        counted = isinstance(value, int) and not isinstance(value, bool)
        click.echo(f"{name:<{width}}  {value:,}" if counted else f"{name:<{width}}  {value}")


def build_group(read: PairReader) -> click.Group:
    """The group of commands, reading pairs with `read`."""

    @click.group(context_settings={"help_option_names": ["-h", "--help"], "obj": read})
    @click.version_option(__version__, prog_name="phrase-scorer")
    @click.option("--debug", is_flag=True, help="Show where in the program an error was raised.")
    def group(debug: bool) -> None:
        """Scores the phrase pairs of Moses phrase tables with an RNN encoder-decoder.

        Train on a phrase table, then add p(target | source) to each of its lines as one more
        score, for Moses to tune (Cho et al. 2014).
        """

    for command in (train, score, info):
        group.add_command(command)
    return group


def main(arguments: Sequence[str] | None = None) -> int:
    """The core's own entry point (`python -m phrase_scorer`): tab-separated pairs only."""
    return run(build_group(read_pairs), arguments)


def warn_of_unknown(side: str, share: float, examples: Sequence[bytes]) -> None:
    """Warns where so many words are unknown to the model that something is likely wrong."""
    if share <= MANY_UNKNOWN:
        return
    shown = " ".join(word.decode("utf-8", "backslashreplace") for word in examples)
    say(
        f"warning: {share:.0%} of the {side} words are unknown to the model ({shown} …): other "
        "casing, another language, or other tokenisation or escaping than in training?"
    )
