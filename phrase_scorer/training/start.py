"""Where a training begins, if not at random: the weights and words of another model.

Continued training (Luong and Manning 2015, section 2): all but the pairs is that model's; optimiser
and schedule start anew. torch is not imported at the top: a refusal costs no time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phrase_scorer.errors import LONGEST_QUOTE, DataError, ModelError, UsageError, printable
from phrase_scorer.models.config import LANGUAGE_MODEL_USES, USES, ModelConfig
from phrase_scorer.models.files import ModelFiles, Start
from phrase_scorer.runtime.console import note, say
from phrase_scorer.text.unknown_words import LIKELY_WHY, MANY_UNKNOWN
from phrase_scorer.text.vocabulary import Counts, Vocabulary
from phrase_scorer.training.settings import PRESET_NAMES, Preset, preset_of

if TYPE_CHECKING:
    from torch import Tensor

FREE = {"dropout", "short_histories"}  # of a model's settings: they shape no weights
# Of AdamW's learning rate: what was learned is to be kept (docs/guide.md has the measurement).
SLOWER = 0.25


@dataclass(frozen=True)
class StartModel:
    """A model from which a training begins."""

    known: Start
    config: ModelConfig
    weights: Mapping[str, Tensor]
    words: tuple[Vocabulary, Vocabulary]
    preset: str  # that it was trained with

    def recipe(self) -> Preset:
        """Its sizes, and how training goes on from it."""
        training = dict(preset_of(self.preset, self.config.architecture).training)
        if training.get("optimizer") == "adamw":
            training["learning_rate"] *= SLOWER
        return Preset(dict(vars(self.config)), training)


def load_start(path: Path, preset: str | None, chosen: Mapping[str, Any]) -> StartModel:
    """The model of a directory; a ModelError where it is none, or a broken one.

    A UsageError tells of a preset or of other settings of a model that are `chosen`, but not its.
    """
    from phrase_scorer.models.directory import ModelDirectory

    directory = ModelDirectory(path)
    facts = directory.require_complete()
    for name, value in chosen.items():
        found = getattr(facts.model, name)
        if found != value and name not in FREE:
            option = "--" + name.replace("_", "-")
            given = option if value is True else f"{option} {value}"
            raise UsageError(f"{given}: {path} has {found}")
    began = facts.data.get("preset")
    _require_preset(path, facts.model, preset, began)
    weights = directory.load_model().state_dict()
    words = directory.vocabularies()
    known = Start(str(path), directory.fingerprint())
    return StartModel(
        known, facts.model, weights, words,
        preset or (began if began in PRESET_NAMES else PRESET_NAMES[0]),
    )  # fmt: skip


def _require_preset(path: Path, model: ModelConfig, given: str | None, began: object) -> None:
    if given is None or given == began:
        return
    for name, size in preset_of(given, model.architecture).sizes.items():
        found = getattr(model, name)
        used = (USES | LANGUAGE_MODEL_USES).get(model.architecture, frozenset())
        if name in used - FREE and found != size:
            raise UsageError(f"--preset {given}: it has {name} {size}, {path} has {found}")


def require_trained_on(path: Path, *, of_text: bool) -> None:
    """Checks that a directory has a language model, or one of pairs: a ModelError if not."""
    found = ModelFiles(path).facts().model.architecture
    if (found in LANGUAGE_MODEL_USES) != of_text:
        command = "train" if of_text else "train-lm"
        raise ModelError(f"a model that {command} goes on from: {found}", path=path)


def require_same_start(model: Path, start: Path | None) -> Start | None:
    """What the training in a directory began from; a DataError where another is given."""
    began = ModelFiles(model).facts().start
    if start is not None:
        found = ModelFiles(start).fingerprint()
        if began is None or found != began.fingerprint:
            other = "no other model" if began is None else f"{began.path} ({began.fingerprint})"
            message = f"cannot resume: it began from {other}, not from {start} ({found})"
            raise DataError(message, path=model)
    return began


def tell_unknown(path: str, sides: Mapping[str, Counts]) -> None:
    """Says in one line how many words of the pairs a model does not know."""
    shown = " and ".join(_lacking(side, counts) for side, counts in sides.items())
    text = f"{shown} are <unk>: the words are those of {path}"
    if max(counts.unknown_share for counts in sides.values()) > MANY_UNKNOWN:
        say(f"warning: {text}: {LIKELY_WHY}")
    else:
        note(text)


def _lacking(side: str, counts: Counts) -> str:
    share = f"{counts.unknown_share:.1%} of all"
    if counts.unknown:
        most = b" ".join(counts.most_frequent()).decode("utf-8", "backslashreplace")
        share += f": {printable(most)[:LONGEST_QUOTE]} …"
    return f"{len(counts.examples):,} {side} words ({share})"
