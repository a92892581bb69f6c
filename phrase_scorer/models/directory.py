"""The model directory: what training leaves and scoring loads. No pickle, nothing executed.

    config.json                 format version, model sizes, training settings, data fingerprint
    model.safetensors           the weights of the best validation so far
    source.vocab, target.vocab  one word per line (vocabulary.py)
    training_log.jsonl          one line per logged update and validation
    training_state.safetensors  what --resume needs: weights, optimiser, progress

Every file is replaced as a whole, never half. config.json has the digests of weights and
vocabularies, and a state has its own, so that no flipped bit is taken for a number; older ones have
none.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from phrase_scorer.errors import ModelError, UsageError, quoted, shortened
from phrase_scorer.models import ModelConfig, PhraseModel, build
from phrase_scorer.runtime.numbers import real_number, whole_number
from phrase_scorer.runtime.output import reason, write_file
from phrase_scorer.runtime.records import Origin, parse_json, read_json, typed
from phrase_scorer.text.vocabulary import Vocabulary
from phrase_scorer.version import __version__

FORMAT = 1  # of the directory; a newer one is refused
FINGERPRINT_DIGITS = 16

Shapes = Mapping[str, tuple[int, ...]]  # of tensors, by name
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


@dataclass(frozen=True)
class TrainingState:
    """What the state of a training says besides its tensors."""

    progress: Progress
    config: dict[str, Any]  # fields of ModelConfig
    settings: dict[str, Any]  # fields of TrainingSettings
    data: str  # digests: of the pairs,
    weighting: str | None = None  # of their weights,
    validation: str | None = None  # and of other pairs to validate on; None: an older state


class ModelFacts(msgspec.Struct):
    """What config.json says."""

    format: int
    model: ModelConfig
    phrase_scorer: str  # the version that wrote it
    training: dict[str, Any] = {}
    data: dict[str, Any] = {}
    # By file, of what it holds now; two while it is being replaced, when it may be either.
    sha256: dict[str, list[str]] = {}


class ModelDirectory:
    """The files of a model under one path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.json"
        self.weights_file = path / "model.safetensors"
        self.state_file = path / "training_state.safetensors"
        self.log_file = path / "training_log.jsonl"
        self._verified: dict[str, str] = {}  # by name of a file that was read, its digest

    @property
    def files(self) -> list[Path]:
        """All that training writes."""
        vocabularies = map(self.vocabulary_file, ("source", "target"))
        return [self.config_file, self.weights_file, self.state_file, self.log_file, *vocabularies]

    def vocabulary_file(self, side: str) -> Path:
        """The vocabulary of "source" or "target"."""
        return self.path / f"{side}.vocab"

    def create(
        self,
        config: ModelConfig,
        vocabularies: tuple[Vocabulary, Vocabulary],
        details: Mapping[str, Any],
    ) -> None:
        """Writes all that is known before training: vocabularies, then config.json."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for stale in (self.weights_file, self.state_file, self.log_file):
                stale.unlink(missing_ok=True)
        except OSError as error:
            raise ModelError(f"cannot write: {reason(error)}", path=self.path) from error
        for side, vocabulary in zip(("source", "target"), vocabularies, strict=True):
            vocabulary.save(self.vocabulary_file(side))
        known = {"format": FORMAT, "phrase_scorer": __version__, "model": config.as_dict()}
        names = map(self.vocabulary_file, ("source", "target"))
        digests = {path.name: [_digest(path)] for path in names}
        self._write_config({**known, **details, "sha256": digests})

    def _write_config(self, content: Mapping[str, Any]) -> None:
        write_file(self.config_file, json.dumps(content, indent=2).encode() + b"\n")

    def _read_config(self) -> dict[str, Any]:
        """config.json: it is there, JSON, and of no newer format (else ModelError)."""
        if not self.config_file.exists():
            what = "has no config.json" if self.path.is_dir() else "does not exist"
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

    def save_weights(self, weights: Mapping[str, Tensor], progress: Progress | None = None) -> None:
        """Replaces model.safetensors; with the validation that chose them, where there was one."""
        known = None
        if progress is not None and math.isfinite(progress.best_loss):
            # One key: safetensors writes several in an order of chance.
            known = {"validation": f"{progress.best_loss!r} after {progress.best_update}"}
        self._replace(self.weights_file, save(dict(weights), metadata=known))

    def _validation(self) -> tuple[float | None, int | None]:
        """(nats per target symbol, update) of the validation that chose the weights, if known."""
        with _open_tensors(self.weights_file) as stream:
            said = (stream.metadata() or {}).get("validation")
        if said:
            loss, _, update = said.partition(" after ")
            return real_number(loss), whole_number(update)
        best = self.load_state()[1].progress if self.state_file.exists() else Progress()
        return (best.best_loss if math.isfinite(best.best_loss) else None), best.best_update

    def load_model(self) -> PhraseModel:
        """The model with its best weights, in evaluation mode.

        A ModelError tells of weights that do not fit config.json, before there is memory for them;
        that are not those that were saved; that are not finite.
        """
        config = self.model_config()
        with self._possible_settings(), torch.device("meta"):
            expected = build(config)
        self._verify(self.weights_file)
        with _open_tensors(self.weights_file) as stream:
            found = {name: tuple(stream.get_slice(name).get_shape()) for name in _names(stream)}
            if difference := first_difference(shapes_of(expected.state_dict()), found):
                message = f"weights do not fit config.json (first difference: {difference})"
                raise ModelError(message, path=self.weights_file)
            weights = _tensors(stream)
        model = build(config)
        model.load_state_dict(weights)
        _require_finite(model.state_dict(), self.weights_file)
        return model.eval().requires_grad_(False)

    def save_state(self, parts: Mapping[str, Mapping[str, Tensor]], known: TrainingState) -> None:
        """Replaces training_state.safetensors: each part's tensors are named `part/name`."""
        tensors = {f"{part}/{n}": value for part in parts for n, value in parts[part].items()}
        said = json.dumps(asdict(known))
        metadata = {"progress": said, "sha256": _digest_of(tensors, said)}
        write_file(self.state_file, save(tensors, metadata=metadata))

    def require_state(self) -> None:
        """Checks that there is a training to resume: else a ModelError."""
        if not self.state_file.exists():
            message = "nothing to resume: there is no training_state.safetensors"
            raise ModelError(message, path=self.path)

    def load_state(self) -> tuple[dict[str, dict[str, Tensor]], TrainingState]:
        """(parts, the rest), as `save_state` was given them; a ModelError where they are not."""
        self.require_state()
        origin = Origin(self.state_file, error=ModelError)
        with _open_tensors(self.state_file) as stream:
            metadata, tensors = stream.metadata() or {}, _tensors(stream)
        said = metadata.get("progress")
        if said is None:
            origin.refuse("not the state of a training")
        if metadata.get("sha256") not in (None, _digest_of(tensors, said)):
            origin.refuse("damaged: its SHA-256 is not what it says")
        known = parse_json(said.encode(), TrainingState, origin, finite=False)
        _require_finite(tensors, self.state_file)
        parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
        for place, value in tensors.items():
            part, _, name = place.partition("/")
            parts[part][name] = value
        return parts, known

    def fingerprint(self) -> str:
        """Hexadecimal digits that change whenever a score could: sizes, weights, vocabularies."""
        digest = hashlib.sha256(json.dumps(self.model_config().as_dict()).encode())
        files = (self.weights_file, self.vocabulary_file("source"), self.vocabulary_file("target"))
        for path in files:
            self._require(path)
            digest.update(bytes.fromhex(self._verified.get(path.name) or _digest(path)))
        return digest.hexdigest()[:FINGERPRINT_DIGITS]

    def _replace(self, path: Path, content: bytes) -> None:
        """Replaces a file and its digest; at whatever moment that ends, config.json knows it."""
        known, new = self.facts().sha256.get(path.name), hashlib.sha256(content).hexdigest()
        if not known and path.exists():
            known = [_digest(path)]
        self._verified.pop(path.name, None)
        self._vouch(path, [*(known or []), new])
        write_file(path, content)
        self._vouch(path, [new])

    def _vouch(self, path: Path, digests: list[str]) -> None:
        config = self._read_config()
        config.setdefault("sha256", {})[path.name] = digests
        self._write_config(config)

    def _verify(self, path: Path) -> None:
        """Checks that a file is there and, where config.json has its digest, as it was saved."""
        self._require(path)
        known, found = self.facts().sha256.get(path.name), _digest(path)
        if known and found not in known:
            # Unless it was replaced just now, by a training that goes on.
            again, found = self.facts().sha256.get(path.name, []), _digest(path)
            if found not in again:
                what = "damaged, or not of this model: its SHA-256 is not that in config.json"
                raise ModelError(what, path=path)
        self._verified[path.name] = found

    def describe(self) -> dict[str, str | float]:
        """What a model is, for people: sizes, direction, training, fingerprint."""
        written, model = self.facts(), self.load_model()
        facts: dict[str, str | float] = {"directory": str(self.path), **model.config.as_dict()}
        facts["parameters"] = sum(parameter.numel() for parameter in model.parameters())
        facts["fingerprint"] = self.fingerprint()
        facts["written by"] = f"phrase-scorer {written.phrase_scorer}"
        for part in ("training", "data"):
            facts |= {f"{part}: {name}": value for name, value in getattr(written, part).items()}
        if self.state_file.exists():
            facts["updates"] = self.load_state()[1].progress.update
        loss, update = self._validation()
        if loss is not None and update is not None:
            facts["validation: nats per target symbol"] = round(loss, 4)
            facts["validation: after update"] = update
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


def shapes_of(tensors: Mapping[str, Tensor]) -> Shapes:
    """Their shapes."""
    return {name: tuple(value.shape) for name, value in tensors.items()}


def first_difference(expected: Shapes, found: Shapes) -> str:
    """The first name that only one has, or with another shape; an empty string: there is none."""
    return min((name for name, _ in expected.items() ^ found.items()), default="")


def _digest(path: Path) -> str:
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read: {reason(error)}", path=path) from error


def _digest_of(tensors: Mapping[str, Tensor], said: str) -> str:
    digest = hashlib.sha256(said.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(
            tensors[name].detach().contiguous().reshape(-1).view(torch.uint8).numpy().data
        )
    return digest.hexdigest()


@contextmanager
def _open_tensors(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, "pt") as stream:
            yield stream
    except (SafetensorError, OSError) as error:
        raise ModelError(f"cannot be read ({shortened(error)})", path=path) from error


def _names(stream: Any) -> list[str]:
    return list(stream.keys())


def _tensors(stream: Any) -> dict[str, Tensor]:
    return {name: stream.get_tensor(name) for name in _names(stream)}


def _require_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    for name, value in tensors.items():
        # nan is both the least and the greatest; no other test is as fast, or needs no memory.
        if value.numel() and not all(math.isfinite(end) for end in value.aminmax()):
            raise ModelError("a number that is not finite", path=path, text=name)
