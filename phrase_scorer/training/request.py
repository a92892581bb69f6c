"""What a training is asked for, checked before anything is read; `train`, all of it in one call.

torch is not imported at the top: a refusal costs no time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from phrase_scorer.errors import DataError, UsageError, require_at_least, require_choice
from phrase_scorer.models.config import CELL_USES, LANGUAGE_MODEL_USES, USES
from phrase_scorer.runtime.device import Arithmetic
from phrase_scorer.runtime.output import Place, is_same_file
from phrase_scorer.runtime.streams import require_readable
from phrase_scorer.text.given_pairs import Phrase, blocks_of_pairs
from phrase_scorer.text.pair_files import PairFiles, PairReader, read_pairs
from phrase_scorer.text.phrase_pairs import PairBlock
from phrase_scorer.training.settings import (
    PRESET_NAMES,
    SAMPLED_ABOVE,
    UNLIMITED,
    Preset,
    TrainingSettings,
    preset_of,
)

if TYPE_CHECKING:
    from phrase_scorer.models import ModelConfig
    from phrase_scorer.models.files import TrainingState
    from phrase_scorer.training.data import TrainingData
    from phrase_scorer.training.job import TrainingResult

SHORTLIST = 15_000  # words of each language; paper, section 4.1
GIVEN_PAIRS = "the pairs given"  # the name of those of a program
FEW = 1000  # pairs of which so many may be held out that none is left
GIVEN_AT_ONCE = 1 << 14  # taken at once from a program's pairs


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
    softmax: str | None = None
    label_smoothing: float | None = None
    averaged: int | None = None
    seed: int | None = None

    def of(self, kind: type[Any]) -> dict[str, Any]:
        """Those of a class' fields that were chosen."""
        named = {field.name: getattr(self, field.name, None) for field in fields(kind)}
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """A training as it is asked for, of whatever model; what cannot be is refused here."""

    model_path: Path
    preset: str | None = None  # None: small; of a training to resume, what it began with
    shortlist: int = SHORTLIST
    choices: Choices = field(default_factory=Choices)
    arithmetic: Arithmetic = field(default_factory=Arithmetic)
    max_minutes: float | None = None  # stop after that many
    checkpoint_minutes: float = 10.0  # save the state this often
    resume: bool = False  # go on with a training that was stopped
    overwrite: bool = False  # replace a model that is there
    quiet: bool = False

    def __post_init__(self) -> None:
        model = self.model_path
        if self.preset is not None:
            require_choice("preset", self.preset, PRESET_NAMES)
        require_at_least(2, "--shortlist", self.shortlist)
        if self.choices.schedule == "timed" and self.max_minutes is None:
            raise UsageError("--schedule timed needs --max-minutes")
        if model.is_file():
            raise UsageError(f"--model {model} is a file, not a directory")
        if not self.resume and not self.overwrite and (model / "config.json").exists():
            raise UsageError(
                f"{model} holds a model; --resume continues it, --overwrite replaces it"
            )

    def planned(self, architecture: str, **fixed: Any) -> tuple[ModelConfig, TrainingSettings]:
        """The model, its numbers of words still unknown, and how it is trained.

        What was chosen must go with the preset, and a training to resume must be there.
        """
        from phrase_scorer.models.config import ModelConfig, check_settings
        from phrase_scorer.models.files import ModelFiles

        directory, sizes = ModelFiles(self.model_path), self.choices.of(ModelConfig)
        preset = preset_of(self.preset or PRESET_NAMES[0], architecture)
        began = directory.known_state() if self.resume else None
        if began is not None and self.preset is None:
            preset = Preset(began.of(ModelConfig), began.of(TrainingSettings))
        words = {"source_words": 2, "target_words": 2, "architecture": architecture}
        config = ModelConfig(**preset.sizes | sizes | fixed | words)
        check_settings(config, sizes)
        for given, file in product(self.inputs(), directory.files):
            if is_same_file(given, file):
                raise UsageError(f"--model {self.model_path} would overwrite the file {given}")
        require_readable(*self.inputs())
        training = dict(preset.training)
        if minutes := self.scheduled_minutes(began):
            training |= {"max_updates": UNLIMITED, "schedule": "timed", "minutes": minutes}
        return config, TrainingSettings(**training | self.choices.of(TrainingSettings))

    def scheduled_minutes(self, began: TrainingState | None) -> float:
        """The minutes at whose end the learning rate falls to 0; 0: it follows the updates.

        `max_minutes` means that where nothing else was chosen to end the training. Of one that is
        resumed it means all its minutes, if it began so; else it only limits this run.
        """
        given = self.max_minutes or 0.0
        if self.choices.schedule:
            return given if self.choices.schedule == "timed" else 0.0
        if began is not None:
            minutes = began.of(TrainingSettings).get("minutes", 0.0)
            return (given or minutes) if minutes > 0 else 0.0
        return 0.0 if self.choices.max_updates else given

    @property
    def learned_from(self) -> tuple[str, ...]:
        """The files that it learns from."""
        raise NotImplementedError

    @property
    def learned_from_name(self) -> str:
        """The same, as one name."""
        return " and ".join(self.learned_from) or GIVEN_PAIRS

    def inputs(self) -> list[str]:
        """The files that it learns from, and is validated on."""
        return list(self.learned_from)

    def run(
        self, data: TrainingData, config: ModelConfig, settings: TrainingSettings
    ) -> TrainingResult:
        """Trains the model that `plan` gave."""
        from phrase_scorer.training.job import RunLimits, TrainingJob
        from phrase_scorer.training.trainer import run_training

        source, target = map(len, data.vocabularies)
        config = replace(config, source_words=source, target_words=target)
        if target < SAMPLED_ABOVE and self.choices.softmax is None and not self.resume:
            settings = replace(settings, softmax="full")
        details = {"path": self.learned_from_name, "preset": self.preset or PRESET_NAMES[0]}
        return run_training(
            TrainingJob(data, config, settings, self.model_path, details),
            RunLimits(self.max_minutes, self.checkpoint_minutes),
            device=self.arithmetic.torch_device(),
            resume=self.resume,
            show_progress=not self.quiet,
        )


@dataclass(frozen=True, kw_only=True)
class TrainRequest(TrainingRequest):
    """What `train` is asked for."""

    pairs: PairFiles
    architecture: str = "encoder_decoder"
    direction: str = "forward"
    variant: str = "paper"
    shared_words: bool = False

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        if self.architecture in LANGUAGE_MODEL_USES:
            raise UsageError("a language model is trained on text: phrase-scorer train-lm")
        require_choice("architecture", self.architecture, USES)
        if self.choices.cell is not None and "cell" in USES[self.architecture]:
            require_choice("cell", self.choices.cell, CELL_USES)

    @property
    @override
    def learned_from(self) -> tuple[str, ...]:
        return self.pairs.paths

    def plan(self) -> tuple[ModelConfig, TrainingSettings]:
        """As `planned`."""
        return self.planned(
            self.architecture,
            direction=self.direction,
            variant=self.variant,
            shared_words=self.shared_words,
        )

    def collect(self, blocks: Iterable[PairBlock]) -> TrainingData:
        """The pairs, read to their end."""
        from phrase_scorer.training.data import collect_training_data

        return collect_training_data(
            blocks,
            path=self.learned_from_name,
            shortlist=self.shortlist,
            direction="inverse" if self.direction == "inverse" else "forward",
            shared_words=self.shared_words,
        )

    @override
    def run(
        self, data: TrainingData, config: ModelConfig, settings: TrainingSettings
    ) -> TrainingResult:
        if len(data.pairs) <= FEW:
            pairs, held_out = map(len, data.split(settings.validation_pairs, settings.seed))
            if pairs < 2:
                message = f"{pairs} pair to train on, {held_out} held out to validate: too few"
                raise DataError(message, path=self.learned_from_name)
        return super().run(data, config, settings)

    def train(
        self, of_program: Iterable[tuple[Phrase, Phrase]] | None, read: PairReader
    ) -> TrainingResult:
        """Trains on pairs of a program, or on those that `read` finds in the files."""
        plan = self.plan()
        if of_program is None:
            return self.run(self.collect(read(self.pairs)), *plan)
        blocks = blocks_of_pairs(of_program, None, GIVEN_AT_ONCE)
        return self.run(self.collect(blocks), *plan)


Given = Place | tuple[Place, Place] | Iterable[tuple[Phrase, Phrase]]


def train(
    pairs: Given,
    model: Place,
    *,
    architecture: str = "encoder_decoder",
    direction: str = "forward",
    preset: str | None = None,
    shortlist: int = SHORTLIST,
    choices: Choices | None = None,
    weight_by_count: bool = False,
    max_minutes: float | None = None,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    show_progress: bool = False,
    read: PairReader = read_pairs,
) -> TrainingResult:
    """Trains a model on pairs and leaves it in a directory, as the command `train` does.

    >>> train("pairs.tsv", "rnn/", max_minutes=10)  # doctest: +SKIP
    >>> train(("corpus.en.gz", "corpus.fr.gz"), "att/", architecture="attention")  # doctest: +SKIP

    `pairs` is a file of lines "source<TAB>target"; (sources, targets), two files of lines; or an
    iterable of (source, target), each phrase a string with blanks, or a list of words. `model` is
    the directory. `choices` say what is to be other than in the preset; `weight_by_count` needs a
    phrase table; what `read` reads the files with may know more kinds of them, as that of
    moses_integration does. The rest is as the command's options of these names. In the main thread
    SIGINT and SIGTERM end the training, not the program: `stopped` names them.

    Raises:
        UsageError: What cannot be, before anything is read.
        DataError: Wrong content of a file, or no pairs.
        ModelError: Nothing to resume, or a state that is broken.
        PhraseScorerError: The training diverged.
    """
    paths, of_program = _given(pairs)
    if of_program is not None and weight_by_count:
        raise UsageError("pairs without counts cannot be weighed by them")
    request = TrainRequest(
        pairs=PairFiles(paths, with_counts=weight_by_count),
        model_path=Path(model),
        architecture=architecture,
        direction=direction,
        preset=preset,
        shortlist=shortlist,
        choices=choices or Choices(),
        arithmetic=Arithmetic(device),
        max_minutes=max_minutes,
        resume=resume,
        overwrite=overwrite,
        quiet=not show_progress,
    )
    return request.train(of_program, read)


def _given(pairs: Given) -> tuple[tuple[str, ...], Iterable[tuple[Phrase, Phrase]] | None]:
    """(files, pairs of the program where there are no files)."""
    paths: Any = (pairs,) if isinstance(pairs, str | os.PathLike) else pairs
    if (
        isinstance(paths, tuple)
        and paths
        and all(isinstance(path, str | os.PathLike) for path in paths)
    ):
        return tuple(map(os.fspath, paths)), None
    return (), paths
