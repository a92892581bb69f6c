"""The files of a model, read without torch: what it is, not what its weights are.

    config.json                 format version, model sizes, training settings, data fingerprint
    model.safetensors           the weights of the best validation so far
    source.vocab, target.vocab  one word per line (vocabulary.py)
    training_log.jsonl          one line per logged update and validation
    training_state.safetensors  what --resume needs: weights, optimiser, progress
    README.md                   what the model is, for people who find the directory

config.json has the digests of weights and vocabularies, so that no flipped bit is taken for a
number; older ones have none.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import msgspec
from safetensors import SafetensorError, safe_open

from phrase_scorer.errors import ModelError, UsageError, quoted, shortened
from phrase_scorer.models.config import ModelConfig, check_settings
from phrase_scorer.runtime.numbers import real_number, whole_number
from phrase_scorer.runtime.output import reason
from phrase_scorer.runtime.records import Origin, parse_json, read_json, typed
from phrase_scorer.text.vocabulary import Vocabulary

FORMAT = 1  # of the directory; a newer one is refused
FINGERPRINT_DIGITS = 16

_Count = Annotated[int, msgspec.Meta(ge=0)]
_Amount = Annotated[float, msgspec.Meta(ge=0)]


@dataclass
class Progress:
    """Where a training stands; saved with its state."""

    update: _Count = 0  # updates done
    best_loss: _Amount = math.inf  # nats per target symbol on the validation pairs
    best_update: _Count = 0
    waited: _Count = 0  # validations since the best
    seconds: _Amount = 0.0  # spent so far, over all runs


EACH_ONCE = "none"  # the weighting of a training to which all pairs are alike


@dataclass(frozen=True)
class TrainingState:
    """What the state of a training says besides its tensors."""

    progress: Progress
    config: dict[str, Any]  # fields of ModelConfig
    settings: dict[str, Any]  # fields of TrainingSettings
    data: str  # digests: of the pairs,
    weighting: str | None = None  # of their weights (or EACH_ONCE),
    validation: str | None = None  # and of other pairs to validate on; None: an older state
    mix: str = "none"  # shares of the files

    def of(self, kind: type[Any]) -> dict[str, Any]:
        """What it began with of a dataclass of sizes or settings."""
        known, names = self.config | self.settings, {field.name for field in fields(kind)}
        return {name: value for name, value in known.items() if name in names}


class Start(msgspec.Struct, frozen=True):
    """The model that a training began from."""

    path: str
    fingerprint: str


class ModelFacts(msgspec.Struct):
    """What config.json says."""

    format: int
    model: ModelConfig
    phrase_scorer: str  # the version that wrote it
    training: dict[str, Any] = {}
    data: dict[str, Any] = {}
    start: Start | None = None  # None: weights drawn at random
    # By file, of what it holds now; two while it is being replaced, when it may be either.
    sha256: dict[str, list[str]] = {}


class ModelFiles:
    """The files of a model under one path, and what they say."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.json"
        self.weights_file = path / "model.safetensors"
        self.state_file = path / "training_state.safetensors"
        self.log_file = path / "training_log.jsonl"
        self.card_file = path / "README.md"
        self._verified: dict[str, str] = {}  # by name of a file that was read, its digest

    @property
    def files(self) -> list[Path]:
        """All that training writes."""
        vocabularies = map(self.vocabulary_file, ("source", "target"))
        texts = self.log_file, self.card_file
        return [self.config_file, self.weights_file, self.state_file, *texts, *vocabularies]

    def vocabulary_file(self, side: str) -> Path:
        """The vocabulary of "source" or "target"."""
        return self.path / f"{side}.vocab"

    def _read_config(self) -> dict[str, Any]:
        """config.json: it is there, JSON, and of no newer format (else ModelError)."""
        if not self.config_file.exists():
            what = "has no config.json" if self.path.is_dir() else "does not exist"
            what = "is a file" if self.path.is_file() else what
            raise ModelError(f"not a model directory: it {what}", path=self.path)
        content = read_json(self.config_file, dict[str, Any], error=ModelError, finite=False)
        if not isinstance(found := content.get("format"), int):
            raise ModelError("not a model's config: no format number", path=self.config_file)
        if found > FORMAT:
            raise ModelError(
                f"format {found} is newer than this program knows ({FORMAT}); update phrase-scorer",
                path=self.config_file,
            )
        return content

    def facts(self) -> ModelFacts:
        """config.json, of which each value is possible (else ModelError)."""
        content, origin = self._read_config(), Origin(self.config_file, error=ModelError)
        with self._possible_settings():
            facts = typed(content, ModelFacts, origin)
            names = {field.name for field in fields(ModelConfig)}
            if unknown := content["model"].keys() - names:
                raise UsageError(f"nothing is known of {quoted(min(unknown))}")
        return facts

    def require_complete(self) -> ModelFacts:
        """What config.json says; a ModelError where a file that scoring needs is missing."""
        facts = self.facts()
        for path in (self.weights_file, *map(self.vocabulary_file, ("source", "target"))):
            self._require(path)
        return facts

    def model_config(self) -> ModelConfig:
        """The model's sizes."""
        return self.facts().model

    def vocabularies(self) -> tuple[Vocabulary, Vocabulary]:
        """(source, target) vocabularies, of the sizes that config.json names (else ModelError)."""
        config = self.model_config()
        source = self._vocabulary("source", config.source_words)
        return source, self._vocabulary("target", config.target_words)

    def _vocabulary(self, side: str, size: int) -> Vocabulary:
        path = self.vocabulary_file(side)
        self._verify(path)
        vocabulary = Vocabulary.load(path)
        if len(vocabulary) != size:
            raise ModelError(f"{len(vocabulary)} words, but the model has {size}", path=path)
        return vocabulary

    def require_state(self) -> None:
        """Checks that there is a training to resume: else a ModelError."""
        if not self.state_file.exists():
            message = "nothing to resume: there is no training_state.safetensors"
            raise ModelError(message, path=self.path)

    def known_state(self) -> TrainingState:
        """What the state of a training says besides its tensors; a ModelError where it is none."""
        self.require_state()
        origin = Origin(self.state_file, error=ModelError)
        with open_tensors(self.state_file) as stream:
            metadata = stream.metadata() or {}
        said = metadata.get("progress")
        if said is None:
            origin.refuse("not the state of a training")
        if metadata.get("sha256") not in (None, _digest_of_state(self.state_file, said)):
            origin.refuse("damaged: its SHA-256 is not what it says")
        return parse_json(said.encode(), TrainingState, origin, finite=False)

    def _validation(self) -> tuple[float | None, int | None]:
        """(nats per target symbol, update) of the validation that chose the weights, if known."""
        with open_tensors(self.weights_file) as stream:
            said = (stream.metadata() or {}).get("validation")
        if said:
            loss, _, update = said.partition(" after ")
            return real_number(loss), whole_number(update)
        best = self.known_state().progress if self.state_file.exists() else Progress()
        return (best.best_loss if math.isfinite(best.best_loss) else None), best.best_update

    def fingerprint(self) -> str:
        """Hexadecimal digits that change whenever a score could: sizes, weights, vocabularies."""
        digest = hashlib.sha256(json.dumps(self.model_config().as_dict()).encode())
        files = (self.weights_file, self.vocabulary_file("source"), self.vocabulary_file("target"))
        for path in files:
            self._require(path)
            digest.update(bytes.fromhex(self._verified.get(path.name) or digest_of_file(path)))
        return digest.hexdigest()[:FINGERPRINT_DIGITS]

    def _verify(self, path: Path) -> None:
        """Checks that a file is there and, where config.json has its digest, as it was saved."""
        self._require(path)
        known, found = self.facts().sha256.get(path.name), digest_of_file(path)
        if known and found not in known:
            # Unless it was replaced just now, by a training that goes on.
            again, found = self.facts().sha256.get(path.name, []), digest_of_file(path)
            if found not in again:
                what = "damaged, or not of this model: its SHA-256 is not that in config.json"
                raise ModelError(what, path=path)
        self._verified[path.name] = found

    def describe(self) -> dict[str, Any]:
        """What a model is: sizes, direction, training, fingerprint; numbers are numbers.

        A ModelError tells of weights or vocabularies that are not those that were saved; whether
        weights fit the sizes, who loads them finds out.
        """
        written = self.facts()
        self.vocabularies()
        self._verify(self.weights_file)
        with open_tensors(self.weights_file) as stream:
            shapes = [stream.get_slice(name).get_shape() for name in stream.keys()]  # noqa: SIM118
        with self._possible_settings():
            check_settings(written.model)
        facts = {
            "directory": str(self.path),
            **written.model.as_dict(),
            "parameters": sum(map(math.prod, shapes)),
            "fingerprint": self.fingerprint(),
            "written_by": f"phrase-scorer {written.phrase_scorer}",
            "training": written.training,
            "data": written.data,
        }
        if written.start is not None:
            facts["start"] = msgspec.structs.asdict(written.start)
        if self.state_file.exists():
            facts["updates"] = self.known_state().progress.update
        loss, update = self._validation()
        if loss is not None and update is not None:
            facts["validation"] = {"loss": round(loss, 4), "update": update}
        return facts

    @contextmanager
    def _possible_settings(self) -> Iterator[None]:
        try:
            yield
        except UsageError as error:
            message = f"impossible model settings: {shortened(error)}"
            raise ModelError(message, path=self.config_file) from error

    def _require(self, path: Path) -> None:
        if not path.exists():
            message = f"the model directory is incomplete: {path.name} is missing"
            if path == self.weights_file and self.log_file.exists():
                message += " (training has not reached its first validation)"
            raise ModelError(message, path=self.path)


def digest_of_file(path: Path) -> str:
    """The SHA-256 of a file; a ModelError where it cannot be read."""
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read: {reason(error)}", path=path) from error


@contextmanager
def open_tensors(path: Path, framework: str = "numpy") -> Iterator[Any]:
    """A file of tensors, its header read; with the framework "pt", its tensors are torch's."""
    try:
        with safe_open(path, framework) as stream:
            yield stream
    except (SafetensorError, OSError) as error:
        raise ModelError(f"cannot be read ({shortened(error)})", path=path) from error


def _digest_of_state(path: Path, said: str) -> str:
    """The digest of a training's state, as its metadata have it: what it says, and its tensors."""
    digest = hashlib.sha256(said.encode())
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        first = file.tell()
        for name in sorted(header.keys() - {"__metadata__"}):
            begin, end = header[name]["data_offsets"]
            digest.update(name.encode())
            file.seek(first + begin)
            digest.update(file.read(end - begin))
    return digest.hexdigest()
