"""The command train, and what it shares with train-lm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from typing_extensions import override

from phrase_scorer.cli.options import (
    COUNT,
    COUNT_OR_NONE,
    MINUTES,
    POSITIVE,
    PRESET,
    SHARE,
    WEIGHT,
    Bounded,
    Command,
    any_table_option,
    device_options,
    model_option,
    option,
    seed_option,
    shortlist_option,
    takes,
    together,
)
from phrase_scorer.errors import DataError, UsageError, require_choice
from phrase_scorer.models.config import CELL_USES, LANGUAGE_MODEL_USES, USES
from phrase_scorer.runtime.console import SIGNAL_EXIT_CODES, note, say
from phrase_scorer.runtime.device import Arithmetic
from phrase_scorer.runtime.output import is_same_file
from phrase_scorer.runtime.streams import require_readable
from phrase_scorer.text.pair_files import PairFiles, PairReader

if TYPE_CHECKING:
    from phrase_scorer.models import ModelConfig
    from phrase_scorer.models.files import ModelFiles
    from phrase_scorer.training.data import TrainingData
    from phrase_scorer.training.settings import TrainingSettings
    from phrase_scorer.training.trainer import TrainingResult

FEW = 1000  # pairs of which so many may be held out that none is left


@dataclass(frozen=True)
class Choices:
    """Fields of `ModelConfig` and `TrainingSettings` that a user may choose; None: the preset's."""

    cell: str | None = None
    hidden: int | None = None
    embedding: int | None = None
    dropout: float | None = None
    forget_bias: float | None = None
    layers: int | None = None
    heads: int | None = None
    feed_forward: int | None = None
    positions: str | None = None
    order: int | None = None
    second_hidden: int | None = None
    short_histories: float | None = None
    batch_pairs: int | None = None
    optimizer: str | None = None
    learning_rate: float | None = None
    schedule: str | None = None
    initial_deviation: float | None = None
    max_updates: int | None = None
    validation_pairs: int | None = None
    validate_every: int | None = None
    patience: int | None = None
    precision: str | None = None
    seed: int | None = None

    def of(self, kind: type[Any]) -> dict[str, Any]:
        """Those of a class' fields that were chosen."""
        named = {field.name: getattr(self, field.name, None) for field in fields(kind)}
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """A training as it is asked for, of whatever model; what cannot be is refused here."""

    model_path: Path
    preset: str
    shortlist: int
    choices: Choices
    arithmetic: Arithmetic
    max_minutes: float | None
    checkpoint_minutes: float
    resume: bool
    overwrite: bool
    quiet: bool

    def __post_init__(self) -> None:
        model = self.model_path
        if self.choices.schedule == "timed" and self.max_minutes is None:
            raise UsageError("--schedule timed needs --max-minutes")
        if model.is_file():
            raise UsageError(f"--model {model} is a file, not a directory")
        if not self.resume and not self.overwrite and (model / "config.json").exists():
            raise UsageError(
                f"{model} holds a model; --resume continues it, --overwrite replaces it"
            )

    def plan(self, architecture: str, **fixed: Any) -> tuple[ModelConfig, TrainingSettings]:
        """The model, its numbers of words still unknown, and how it is trained.

        What was chosen must go with the preset, and a training to resume must be there.
        """
        from phrase_scorer.models.config import ModelConfig, check_settings
        from phrase_scorer.models.files import ModelFiles
        from phrase_scorer.training.settings import UNLIMITED, TrainingSettings, preset_of

        preset, sizes = preset_of(self.preset, architecture), self.choices.of(ModelConfig)
        config = ModelConfig(2, 2, architecture, **preset.sizes | sizes | fixed)
        check_settings(config, sizes)
        directory = ModelFiles(self.model_path)
        for given, file in product(self.inputs(), directory.files):
            if is_same_file(given, file):
                raise UsageError(f"--model {self.model_path} would overwrite the file {given}")
        if self.resume:
            directory.require_state()
        require_readable(*self.inputs())
        training = dict(preset.training)
        if minutes := self.scheduled_minutes(directory):
            training |= {"max_updates": UNLIMITED, "schedule": "timed", "minutes": minutes}
        settings = TrainingSettings(**training | self.choices.of(TrainingSettings))
        return config, settings

    def scheduled_minutes(self, directory: ModelFiles) -> float:
        """The minutes at whose end the learning rate falls to 0; 0: it follows the updates.

        `max_minutes` means that where nothing else was chosen to end the training. One that is
        resumed keeps the schedule that it began with, and `max_minutes` only limits this run.
        """
        given = self.max_minutes or 0.0
        if self.choices.schedule:
            return given if self.choices.schedule == "timed" else 0.0
        if self.resume:
            began_with = directory.facts().training.get("minutes")
            if isinstance(began_with, float | int) and began_with > 0:
                return given or began_with
            return 0.0
        return 0.0 if self.choices.max_updates else given

    @property
    def learned_from(self) -> tuple[str, ...]:
        """The files that it learns from."""
        raise NotImplementedError

    def inputs(self) -> list[str]:
        """The files that it learns from, and is validated on."""
        return list(self.learned_from)

    def run(self, data: TrainingData, config: ModelConfig, settings: TrainingSettings) -> int:
        """Trains, says how it ended; returns the exit code."""
        from phrase_scorer.training.trainer import RunLimits, TrainingJob, train

        if len(data.pairs) <= FEW:
            pairs, held_out = map(len, data.split(settings.validation_pairs, settings.seed))
            if pairs < 2:
                message = f"{pairs} pair to train on, {held_out} held out to validate: too few"
                raise DataError(message, path=" and ".join(self.learned_from))
        source, target = map(len, data.vocabularies)
        config = replace(config, source_words=source, target_words=target)
        details = {"path": " and ".join(self.learned_from), "preset": self.preset}
        result = train(
            TrainingJob(data, config, settings, self.model_path, details),
            RunLimits(self.max_minutes, self.checkpoint_minutes),
            device=self.arithmetic.torch_device(),
            resume=self.resume,
            show_progress=not self.quiet,
        )
        _tell_result(result)
        return SIGNAL_EXIT_CODES.get(result.stopped, 0)


def _tell_result(result: TrainingResult) -> None:
    progress = result.progress
    best = "no validation pairs"
    if result.validated:
        loss, update = progress.best_loss, progress.best_update
        best = f"best validation {loss:.4f} nats a target symbol (update {update})"
    say(
        f"stopped by {result.stopped} after {progress.update} updates, "
        f"{progress.seconds / 60:.1f} minutes; {best}"
    )
    if result.stopped in SIGNAL_EXIT_CODES:
        say("the state is saved; --resume continues")


def preset_option(
    name: str, text: str, kind: click.ParamType[Any] = COUNT, metavar: str | None = "N"
) -> Callable[[Command], Command]:
    """An option whose default the preset decides."""
    return option(name, type=kind, metavar=metavar, help=f"{text}  [default: preset's]")


# Where the model goes, its preset, its words.
model_options = together(
    model_option,
    option("--preset", type=PRESET, default="small", help="Sizes and training settings: small "
           "and base for CPUs, paper as in Cho et al. 2014."),
    shortlist_option,
)  # fmt: skip
# How long it is trained, when it is saved, where it is computed.
training_options = together(
    preset_option("--max-updates", "Updates in all."),
    option("--max-minutes", type=MINUTES, metavar="M", help="Stop after this many minutes. Where "
           "neither --schedule nor --max-updates is given, the learning rate falls to 0 then."),
    preset_option("--optimizer", "Algorithm of the updates.",
                  click.Choice(["adamw", "adadelta"]), None),
    preset_option("--learning-rate", "Highest learning rate.", POSITIVE, "X"),
    option("--validate-every", type=COUNT, metavar="N", help="Updates between two validations."),
    option("--patience", type=COUNT_OR_NONE, metavar="N",
           help="Stop after this many validations without improvement."),
    seed_option,
    option("--checkpoint-minutes", type=Bounded(float, 0, 1e9), default=10.0, metavar="M",
           help="Save the state this often; also at Ctrl-C and SIGTERM."),
    option("--resume", is_flag=True, help="Continue a training that was stopped."),
    option("--overwrite", is_flag=True, help="Replace the model that is there."),
    device_options,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainRequest(TrainingRequest):
    """What `train` is asked for."""

    pairs: PairFiles
    architecture: str
    direction: str
    variant: str
    shared_words: bool

    @property
    @override
    def learned_from(self) -> tuple[str, ...]:
        return self.pairs.paths

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        if self.architecture in LANGUAGE_MODEL_USES:
            raise UsageError("a language model is trained on text: phrase-scorer train-lm")
        require_choice("architecture", self.architecture, USES)
        if self.choices.cell is not None and "cell" in USES[self.architecture]:
            require_choice("cell", self.choices.cell, CELL_USES)


@click.command("train", epilog="""\b
Examples:
  phrase-scorer train model/phrase-table.gz --model rnn/
  phrase-scorer train model/phrase-table.gz --model rnn/ --preset paper --device cuda
  phrase-scorer train pairs.tsv --model rnn/ --max-minutes 30
  phrase-scorer train corpus.en.gz corpus.fr.gz --model att/ --architecture attention
  phrase-scorer train model/phrase-table.gz --model lstm/ --cell lstm --forget-bias 1
  phrase-scorer train model/phrase-table.gz --model att/ --architecture attention
  phrase-scorer train model/phrase-table.gz --model rnn/ --resume
""")  # fmt: skip
@click.argument("paths", metavar="PHRASE_TABLE | PAIRS | SOURCES TARGETS", nargs=-1, required=True)
@model_options
@option("--architecture", default="encoder_decoder", metavar="NAME", help="encoder_decoder (Cho et "
        "al. 2014), seq2seq (Sutskever et al. 2014), attention (Bahdanau et al. 2015), "
        "transformer, decoder_only, masked (a pseudo-probability).")  # fmt: skip
@option("--cell", metavar="NAME",
        help="Recurrent cell: rnn, lstm or gru.  [default: gru; of seq2seq: lstm]")  # fmt: skip
@option("--forget-bias", type=WEIGHT, metavar="B", help="Where an LSTM's forget gates start; "
        "1 remembers from the start.  [default: 0]")  # fmt: skip
@option("--dropout", type=SHARE, metavar="P", help="Share of units left out in training, "
        "say 0.3 for small data.  [default: 0]")  # fmt: skip
@option("--positions", type=click.Choice(["sinusoidal", "learned"]),
        help="What a Transformer adds to its embeddings.  [default: sinusoidal]")  # fmt: skip
@preset_option("--hidden", "Units of each cell; width of a Transformer.")
@preset_option("--embedding", "Width of the embeddings of recurrent models.")
@preset_option("--layers", "Layers of seq2seq and the Transformers.")
@preset_option("--heads", "Heads of a Transformer's attention.")
@preset_option("--feed-forward", "Units inside a Transformer's blocks.")
@option("--direction", type=click.Choice(["forward", "inverse"]), default="forward",
        help="forward: p(target | source); inverse: p(source | target).")  # fmt: skip
@option("--variant", type=click.Choice(["paper", "groundhog"]), default="paper", help="Form of "
        "encoder_decoder: as printed, or as in the authors' released code.")  # fmt: skip
@option("--shared-words", is_flag=True, help="One shortlist, one embedding for both languages.")
@any_table_option
@option(
    "--weight-by-count",
    "with_counts",
    is_flag=True,
    help="Weigh pairs by their counts.  [paper: no]",
)
@preset_option("--batch-pairs", "Pairs per update.")
@preset_option("--schedule", "Course of the learning rate; timed: it falls to 0 at --max-minutes.",
               click.Choice(["constant", "linear", "inverse-sqrt", "timed"]), None)  # fmt: skip
@option("--precision", type=click.Choice(["float32", "bfloat16"]),
        help="Numbers of the products in training; weights and states stay float32.")  # fmt: skip
@option(
    "--validation-pairs", type=COUNT_OR_NONE, metavar="N", help="About how many pairs to hold out."
)
@training_options
@click.pass_obj
@takes(TrainRequest)
def train_command(read: PairReader, request: TrainRequest) -> int:
    """Train a model on phrase pairs: a phrase table, lines of pairs, or two files side by side.

    A line of PAIRS is "source<TAB>target" or "source ||| target"; line n of SOURCES belongs to line
    n of TARGETS. All may be compressed (gz, bz2, xz, zst); - is standard input.

    Every distinct pair counts once, whatever its frequency. Pairs of some source phrases are held
    out for validation. The unit of all losses is nats per target symbol, end symbols included.
    """
    from phrase_scorer.scoring.library import kernels_in_words
    from phrase_scorer.training.data import collect_training_data

    config, settings = request.plan(
        request.architecture,
        direction=request.direction,
        variant=request.variant,
        shared_words=request.shared_words,
    )
    request.arithmetic.use_threads()
    device = request.arithmetic.torch_device()
    data = collect_training_data(
        read(request.pairs),
        path=request.pairs.name,
        shortlist=request.shortlist,
        direction=config.direction,
        shared_words=config.shared_words,
    )
    source, target = map(len, data.vocabularies)
    note(
        f"{len(data.pairs):,} pairs; {source:,} source and {target:,} target words in the "
        f"shortlists; device {device}; kernels: {kernels_in_words(device.type)}"
    )
    return request.run(data, config, settings)
