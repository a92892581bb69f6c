"""The command train."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from phrase_scorer.cli.options import (
    SHORTLIST,
    Command,
    PairReader,
    device_options,
    model_option,
    quiet_option,
    run_options,
)
from phrase_scorer.errors import UsageError
from phrase_scorer.runtime.console import SIGNAL_EXIT_CODES, say

if TYPE_CHECKING:
    from phrase_scorer.training.settings import TrainingSettings
    from phrase_scorer.training.trainer import TrainingResult


def architecture_options(command: Command) -> Command:
    """Which model, and its sizes where they are not the preset's."""
    sizes = (
        ("--hidden", "Units of each cell; width of a Transformer."),
        ("--embedding", "Width of the embeddings of recurrent models."),
        ("--layers", "Of seq2seq and the Transformers."),
        ("--heads", "Of a Transformer's attention."),
        ("--feed-forward", "Units inside a Transformer's blocks."),
    )
    for name, text in reversed(sizes):
        command = click.option(name, type=int, metavar="N", help=f"{text}  [default: preset's]")(
            command
        )
    command = click.option(
        "--positions",
        type=click.Choice(["sinusoidal", "learned"]),
        help="What a Transformer adds to its embeddings.  [default: sinusoidal]",
    )(command)
    command = click.option(
        "--dropout",
        type=float,
        metavar="P",
        help="Share of units left out in training, say 0.3 for small data.  [default: 0]",
    )(command)
    command = click.option(
        "--forget-bias",
        type=float,
        metavar="B",
        help="Where an LSTM's forget gates start; 1 remembers from the start.  [default: 0]",
    )(command)
    command = click.option(
        "--cell", metavar="NAME", help="rnn, lstm or gru.  [default: gru; of seq2seq: lstm]"
    )(command)
    return click.option(
        "--architecture",
        default="encoder_decoder",
        show_default=True,
        metavar="NAME",
        help="encoder_decoder (Cho et al. 2014), seq2seq (Sutskever et al. 2014), attention "
        "(Bahdanau et al. 2015), transformer, decoder_only, masked (a pseudo-probability).",
    )(command)


@click.command(
    epilog="""\b
Examples:
  phrase-scorer train model/phrase-table.gz --model rnn/
  phrase-scorer train model/phrase-table.gz --model rnn/ --preset paper --device cuda
  phrase-scorer train pairs.tsv --model rnn/ --max-minutes 30
  phrase-scorer train model/phrase-table.gz --model lstm/ --cell lstm --forget-bias 1
  phrase-scorer train model/phrase-table.gz --model att/ --architecture attention
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
@architecture_options
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
    help="Of encoder_decoder: the model as printed, or as in the authors' released code.",
)
@click.option(
    "--shortlist",
    type=click.IntRange(2),
    default=SHORTLIST,
    show_default=True,
    metavar="N",
    help="Most frequent words of each side that the model knows, <unk> included.",
)
@click.option(
    "--shared-words", is_flag=True, help="One shortlist, one embedding for both languages."
)
@click.option("--weight-by-count", is_flag=True, help="Weigh pairs by their counts.  [paper: no]")
@click.option("--max-updates", type=int, metavar="N", help="Updates in all.  [default: preset's]")
@click.option("--max-minutes", type=float, metavar="M", help="Stop after M minutes.")
@click.option("--batch-pairs", type=int, metavar="N", help="Pairs an update.")
@click.option("--optimizer", type=click.Choice(["adamw", "adadelta"]), help="[default: preset's]")
@click.option("--learning-rate", type=float, metavar="X", help="Highest learning rate.")
@click.option(
    "--schedule",
    type=click.Choice(["constant", "linear", "inverse-sqrt", "timed"]),
    help="Of the learning rate; timed: it falls to 0 at --max-minutes.  [default: preset's]",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    help="Of the products in training; weights and states stay float32.",
)
@click.option("--validation-pairs", type=int, metavar="N", help="About how many to hold out.")
@run_options
@device_options
@quiet_option
@click.pass_obj
def train(read: PairReader, /, **options: Any) -> int:  # fmt: skip
    """Train a model on the phrase pairs of PHRASE_TABLE (or of "source<TAB>target" lines).

    Every distinct pair counts once, whatever its frequency. Pairs of some source phrases are held
    out for validation. The unit of all losses is nats a target symbol, end symbols included.
    """
    return tell_result(_train(read, options))


def tell_result(result: TrainingResult) -> int:
    """Says how a training ended; the command's exit code."""
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
    from phrase_scorer.models import ModelConfig
    from phrase_scorer.runtime.device import choose_device, set_threads
    from phrase_scorer.training.data import collect_training_data
    from phrase_scorer.training.trainer import train

    set_threads(options["threads"])
    device = choose_device(options["device"])
    sizes, settings = _sizes(options), _settings(options)
    check_directory(options)
    data = collect_training_data(
        read(options["pairs"], with_counts=options["weight_by_count"]),
        path=options["pairs"],
        shortlist=options["shortlist"],
        direction=options["direction"],
        shared_words=options["shared_words"],
    )
    source, target = data.vocabularies
    config = ModelConfig(source_words=len(source), target_words=len(target), **sizes)
    say(
        f"{len(data.pairs):,} pairs; {len(source):,} source and {len(target):,} target words in "
        f"the shortlists; device {device}"
    )
    return train(
        data.pairs,
        data.vocabularies,
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


def _settings(options: dict[str, Any]) -> TrainingSettings:
    """How to train: the preset, the architecture's own, what was given."""
    from phrase_scorer.training.settings import UNLIMITED, TrainingSettings, preset_of

    chosen = given(options, TrainingSettings)
    if options["schedule"] == "timed":
        if options["max_minutes"] is None:
            raise UsageError("--schedule timed needs --max-minutes")
        chosen = {"max_updates": UNLIMITED, **chosen, "minutes": options["max_minutes"]}
    preset = preset_of(options["preset"], options["architecture"])
    return TrainingSettings(**preset.training | chosen)


def _sizes(options: dict[str, Any]) -> dict[str, Any]:
    """The model's sizes: the preset's and what was given; what does not fit is refused now."""
    import torch

    from phrase_scorer.models import ModelConfig, architecture_class, build
    from phrase_scorer.training.settings import preset_of

    architecture = options["architecture"]
    kind = architecture_class(architecture)
    if not kind.reads_source:
        raise UsageError("a language model is trained on text: phrase-scorer train-lm")
    chosen = given(options, ModelConfig)
    sizes = preset_of(options["preset"], architecture).sizes | chosen
    always = {"architecture", "direction", "variant", "shared_words"}  # given or not
    with torch.device("meta"):
        build(ModelConfig(source_words=2, target_words=2, **sizes), given=set(chosen) - always)
    return sizes


def given(options: dict[str, Any], settings: type[Any]) -> dict[str, Any]:
    """The options that are fields of these settings and were given."""
    names = [field.name for field in dataclasses.fields(settings)]
    return {name: options[name] for name in names if options.get(name) is not None}


def check_directory(options: dict[str, Any]) -> None:
    """Refuses what is there or is not, before anything is read."""
    from phrase_scorer.models.directory import ModelDirectory

    path: Path = options["model_path"]
    if path.is_file():
        raise UsageError(f"--model {path} is a file, not a directory")
    if options["resume"]:
        ModelDirectory(path).require_state()
    elif (path / "config.json").exists() and not options["overwrite"]:
        raise UsageError(f"{path} holds a model; --resume continues it, --overwrite replaces it")
