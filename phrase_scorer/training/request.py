"""What a training is asked for, checked before anything is read.

torch is not imported at the top: a refusal costs no time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import combinations, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from typing_extensions import override

from phrase_scorer.errors import (
    DataError,
    UsageError,
    printable,
    require_at_least,
    require_choice,
    require_finite,
)
from phrase_scorer.models.config import (
    CELL_USES,
    LANGUAGE_MODEL_USES,
    USES,
    ModelConfig,
    check_settings,
)
from phrase_scorer.runtime.device import Arithmetic
from phrase_scorer.runtime.output import is_same_file
from phrase_scorer.runtime.streams import require_readable
from phrase_scorer.text.given_pairs import Phrase, blocks_of_pairs
from phrase_scorer.text.pair_files import PairFiles, PairReader
from phrase_scorer.training.events import require_tensorboard
from phrase_scorer.training.settings import (
    PRESET_NAMES,
    SAMPLED_ABOVE,
    UNLIMITED,
    Preset,
    TrainingSettings,
    preset_of,
)
from phrase_scorer.training.start import (
    StartModel,
    load_start,
    require_same_start,
    require_trained_on,
    tell_unknown,
)

if TYPE_CHECKING:
    from phrase_scorer.models.files import TrainingState
    from phrase_scorer.text.vocabulary import Vocabulary
    from phrase_scorer.training.data import PairsOfFile, TrainingData
    from phrase_scorer.training.job import TrainingResult

SHORTLIST = 15_000  # words of each language; paper, section 4.1
ARCHITECTURE = "encoder_decoder"  # where none is chosen
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
    hold_out: str | None = None
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


class TrainingPlan(NamedTuple):
    """What a training will be, before its pairs are known."""

    config: ModelConfig  # its numbers of words still unknown
    settings: TrainingSettings
    preset: str
    words: tuple[Vocabulary, Vocabulary] | None = None  # of a model that is gone on from
    start: StartModel | None = None  # of one that is not resumed


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """A training as it is asked for, of whatever model; what cannot be is refused here."""

    model_path: Path
    preset: str | None = None  # None: small; of a training to resume, what it began with
    start: Path | None = None  # a model whose weights and words it begins from
    shortlist: int | None = None  # None: `SHORTLIST`, or the words of that model
    choices: Choices = field(default_factory=Choices)
    arithmetic: Arithmetic = field(default_factory=Arithmetic)
    max_minutes: float | None = None  # stop after that many
    checkpoint_minutes: float = 10.0  # save the state this often
    resume: bool = False  # go on with a training that was stopped
    overwrite: bool = False  # replace a model that is there
    tensorboard: Path | None = None  # a folder for its events
    quiet: bool = False

    def __post_init__(self) -> None:
        model = self.model_path
        if self.preset is not None:
            require_choice("preset", self.preset, PRESET_NAMES)
        if self.shortlist is not None:
            require_at_least(2, "--shortlist", self.shortlist)
        if self.choices.schedule == "timed" and self.max_minutes is None:
            raise UsageError("--schedule timed needs --max-minutes")
        if model.is_file():
            raise UsageError(f"--model {model} is a file, not a directory")
        if not self.resume and not self.overwrite and (model / "config.json").exists():
            raise UsageError(
                f"{model} holds a model; --resume continues it, --overwrite replaces it"
            )
        if self.start is not None:
            self._require_apart(self.start)
        if self.tensorboard is not None:
            require_tensorboard(self.tensorboard)

    def _require_apart(self, start: Path) -> None:
        """Checks that a model to begin from is not replaced, and nothing is chosen in vain."""
        if is_same_file(start, self.model_path):
            raise UsageError(f"--from {start} and --model are the same directory")
        if self.shortlist is not None:
            raise UsageError(f"--shortlist: the words are those of --from {start}")
        if self.choices.initial_deviation is not None:
            raise UsageError(f"--initial-deviation: the weights are those of --from {start}")

    def planned(self, architecture: str | None, **fixed: Any) -> TrainingPlan:
        """The model and how it is trained.

        What was chosen must go with the preset, or with the model to begin from, and a training to
        resume must be there. None: as in that model or that training, or the default.
        """
        from phrase_scorer.models.files import ModelFiles

        directory = ModelFiles(self.model_path)
        chosen = self.choices.of(ModelConfig) | {"architecture": architecture} | fixed
        chosen = {name: value for name, value in chosen.items() if value is not None}
        name = chosen.get("architecture", ARCHITECTURE)
        began = directory.known_state() if self.resume else None
        start, words, preset = None, None, preset_of(self.preset or PRESET_NAMES[0], name)
        if began is not None:
            if require_same_start(self.model_path, self.start):
                words = directory.vocabularies()
                if self.shortlist is not None:
                    raise UsageError("--shortlist: the words are those of the model it began from")
            elif self.shortlist is None:
                words = directory.vocabularies()
            if self.preset is None:
                preset = Preset(began.of(ModelConfig), began.of(TrainingSettings))
        elif self.start is not None:
            require_trained_on(self.start, of_text=name in LANGUAGE_MODEL_USES)
            start = load_start(self.start, self.preset, chosen)
            preset, words = start.recipe(), start.words
        config = ModelConfig(**preset.sizes | chosen | {"source_words": 2, "target_words": 2})
        check_settings(config, self.choices.of(ModelConfig))
        for given, file in product(self.inputs(), directory.files):
            if is_same_file(given, file):
                raise UsageError(f"--model {self.model_path} would overwrite the file {given}")
        require_readable(*self.inputs())
        training = dict(preset.training)
        if minutes := self.scheduled_minutes(began):
            training |= {"max_updates": UNLIMITED, "schedule": "timed", "minutes": minutes}
        settings = TrainingSettings(**training | self.choices.of(TrainingSettings))
        return TrainingPlan(
            config,
            settings,
            start.preset if start else self.preset or PRESET_NAMES[0],
            words,
            start,
        )

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

    def run(self, data: TrainingData, plan: TrainingPlan) -> TrainingResult:
        """Trains the model that `plan` gave."""
        from phrase_scorer.training.job import RunLimits, TrainingJob
        from phrase_scorer.training.trainer import run_training

        source, target = map(len, data.vocabularies)
        config = replace(plan.config, source_words=source, target_words=target)
        settings = plan.settings
        from_preset = self.choices.softmax is None and not (self.resume and self.preset is None)
        if target < SAMPLED_ABOVE and from_preset:
            settings = replace(settings, softmax="full")
        details = {"path": self.learned_from_name, "preset": plan.preset}
        return run_training(
            TrainingJob(data, config, settings, self.model_path, details, plan.start),
            RunLimits(self.max_minutes, self.checkpoint_minutes),
            device=self.arithmetic.torch_device(),
            resume=self.resume,
            show_progress=not self.quiet,
            events=self.tensorboard,
        )


@dataclass(frozen=True, kw_only=True)
class TrainRequest(TrainingRequest):
    """What `train` is asked for."""

    pairs: PairFiles
    also: tuple[str, ...] = ()  # more files of pairs
    mix: tuple[float, ...] = ()  # shares of all of them; none: each distinct pair once
    with_counts: bool | None = None  # whether pairs weigh by their counts; None: `_with_counts`
    architecture: str | None = None  # None: as in a model that is gone on from, or the default
    direction: str | None = None
    variant: str | None = None
    shared_words: bool = False

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        if self.architecture in LANGUAGE_MODEL_USES:
            raise UsageError("a language model is trained on text: phrase-scorer train-lm")
        architecture = ARCHITECTURE if self.architecture is None else self.architecture
        require_choice("architecture", architecture, USES)
        if self.choices.cell is not None and "cell" in USES[architecture]:
            require_choice("cell", self.choices.cell, CELL_USES)
        for one, other in combinations(self.learned_from, 2):
            if self.also and (one == other or is_same_file(one, other)):
                raise UsageError(f"{printable(other)} is given twice")
        files = 1 + len(self.also)
        if self.mix and len(self.mix) != files:
            shares = "share" if len(self.mix) == 1 else "shares"
            raise UsageError(f"--mix: {len(self.mix)} {shares}, but {files} to mix (--also)")
        if self.mix and self.choices.hold_out == "trigrams":
            raise UsageError("--hold-out trigrams: not with --mix")
        for share in self.mix:
            require_finite("a share of --mix", share)

    @property
    @override
    def learned_from(self) -> tuple[str, ...]:
        return *self.pairs.paths, *self.also

    def files(self) -> list[PairFiles]:
        """All files of pairs; those side by side are one."""
        pairs = replace(self.pairs, with_counts=self._with_counts())
        return [pairs, *(replace(pairs, paths=(path,)) for path in self.also)]

    def _with_counts(self) -> bool | None:
        """Whether pairs weigh by their counts; None: where the file has them (docs/column.md).

        Where nothing is said a training that goes on keeps its way; several files, or the paper's
        preset, count each distinct pair once.
        """
        if self.with_counts is not None:
            return self.with_counts
        if self.resume:
            from phrase_scorer.models.files import EACH_ONCE, ModelFiles

            began = ModelFiles(self.model_path).known_state().weighting
            return began is not None and began != EACH_ONCE
        return False if self.also or self.preset == "paper" else None

    def plan(self) -> TrainingPlan:
        """As `planned`."""
        return self.planned(
            self.architecture,
            direction=self.direction,
            variant=self.variant,
            shared_words=self.shared_words or None,
        )

    def collect(self, files: Sequence[PairsOfFile], plan: TrainingPlan) -> TrainingData:
        """The pairs, read to their end."""
        from phrase_scorer.training.data import collect_training_data

        data = collect_training_data(
            files,
            shortlist=SHORTLIST if self.shortlist is None else self.shortlist,
            direction=plan.config.direction,
            shared_words=plan.config.shared_words,
            shares=self.mix,
            vocabularies=plan.words,
        )
        if plan.start is not None:
            tell_unknown(plan.start.known.path, data.unknown)
        return data

    def read_with(self, read: PairReader, plan: TrainingPlan) -> TrainingData:
        """The pairs of the files."""
        from phrase_scorer.training.data import PairsOfFile

        return self.collect([PairsOfFile(file.name, read(file)) for file in self.files()], plan)

    @override
    def run(self, data: TrainingData, plan: TrainingPlan) -> TrainingResult:
        settings = plan.settings
        if len(data.pairs) <= FEW:
            split = data.split(settings.validation_pairs, settings.seed, settings.hold_out)
            pairs, held_out = map(len, split)
            if pairs < 2:
                message = f"{pairs} pair to train on, {held_out} held out to validate: too few"
                raise DataError(message, path=self.learned_from_name)
        return super().run(data, plan)

    def train(
        self, of_program: Iterable[tuple[Phrase, Phrase]] | None, read: PairReader
    ) -> TrainingResult:
        """Trains on pairs of a program, or on those that `read` finds in the files."""
        plan = self.plan()
        if of_program is None:
            return self.run(self.read_with(read, plan), plan)
        from phrase_scorer.training.data import PairsOfFile

        blocks = blocks_of_pairs(of_program, None, GIVEN_AT_ONCE)
        return self.run(self.collect([PairsOfFile(GIVEN_PAIRS, blocks)], plan), plan)
