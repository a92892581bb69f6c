"""The model directory: what training leaves and scoring loads. No pickle, nothing executed.

    config.json                 format version, model sizes, training settings, data fingerprint
    model.safetensors           the weights of the best validation so far
    source.vocab, target.vocab  one word per line (vocabulary.py)
    training_log.jsonl          one line per logged update and validation
    training_state.safetensors  what --resume needs: weights, optimiser, progress

Every file is replaced as a whole, never half.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from phrase_scorer.errors import ModelError, UsageError
from phrase_scorer.models import ModelConfig, PhraseModel, build
from phrase_scorer.runtime.output import reason, write_file
from phrase_scorer.text.vocabulary import Vocabulary
from phrase_scorer.version import __version__

FORMAT = 1  # of the directory; a newer one is refused
FINGERPRINT_DIGITS = 16


class ModelDirectory:
    """The files of a model under one path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.json"
        self.weights_file = path / "model.safetensors"
        self.state_file = path / "training_state.safetensors"
        self.log_file = path / "training_log.jsonl"

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
        write_file(self.config_file, json.dumps({**known, **details}, indent=2).encode() + b"\n")

    def read_config(self) -> dict[str, Any]:
        """config.json, checked: it is there, JSON, and of no newer format (else ModelError)."""
        try:
            content = json.loads(self.config_file.read_bytes())
        except FileNotFoundError as error:
            what = "has no config.json" if self.path.is_dir() else "does not exist"
            raise ModelError(f"not a model directory: it {what}", path=self.path) from error
        except (OSError, ValueError) as error:
            raise ModelError(f"cannot be read as JSON ({error})", path=self.config_file) from error
        if not isinstance(content, dict) or not isinstance(content.get("format"), int):
            raise ModelError("not a model's config: no format number", path=self.config_file)
        if (found := content["format"]) > FORMAT:
            raise ModelError(
                f"format {found} is newer than this program knows ({FORMAT}); update phrase-scorer",
                path=self.config_file,
            )
        return content

    def model_config(self) -> ModelConfig:
        """The model's sizes; a ModelError where values are missing or impossible."""
        with self._possible_settings():
            return ModelConfig(**self.read_config()["model"])

    def vocabularies(self) -> tuple[Vocabulary, Vocabulary]:
        """(source, target) vocabularies, of the sizes that config.json names (else ModelError)."""
        config = self.model_config()
        source = self._vocabulary("source", config.source_words)
        return source, self._vocabulary("target", config.target_words)

    def _vocabulary(self, side: str, size: int) -> Vocabulary:
        path = self.vocabulary_file(side)
        self._require(path)
        vocabulary = Vocabulary.load(path)
        if len(vocabulary) != size:
            raise ModelError(f"{len(vocabulary)} words, but the model has {size}", path=path)
        return vocabulary

    def save_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Replaces model.safetensors."""
        write_file(self.weights_file, save(dict(weights)))

    def load_model(self) -> PhraseModel:
        """The model with its best weights, which must fit config.json, in evaluation mode."""
        config = self.model_config()
        self._require(self.weights_file)
        weights, _ = _read_tensors(self.weights_file)
        with self._possible_settings():
            model = build(config)
        expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        found = {name: tuple(value.shape) for name, value in weights.items()}
        if found != expected:
            name = sorted(set(expected.items()) ^ set(found.items()))[0][0]
            message = f"weights do not fit config.json (first difference: {name})"
            raise ModelError(message, path=self.weights_file)
        model.load_state_dict(weights)
        return model.eval().requires_grad_(False)

    def save_state(
        self, parts: Mapping[str, Mapping[str, Tensor]], progress: Mapping[str, Any]
    ) -> None:
        """Replaces training_state.safetensors: each part's tensors are named `part/name`."""
        tensors = {f"{part}/{n}": value for part in parts for n, value in parts[part].items()}
        metadata = {"progress": json.dumps(progress)}
        write_file(self.state_file, save(tensors, metadata=metadata))

    def require_state(self) -> None:
        """Checks that there is a training to resume: else a ModelError."""
        if not self.state_file.exists():
            message = "nothing to resume: there is no training_state.safetensors"
            raise ModelError(message, path=self.path)

    def load_state(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """(parts, progress), as `save_state` was given them; a ModelError where they are not."""
        self.require_state()
        tensors, metadata = _read_tensors(self.state_file)
        if "progress" not in metadata:
            raise ModelError("not the state of a training", path=self.state_file)
        parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
        for place, value in tensors.items():
            part, _, name = place.partition("/")
            parts[part][name] = value
        return parts, json.loads(metadata["progress"])

    def fingerprint(self) -> str:
        """Hexadecimal digits that change whenever a score could: sizes, weights, vocabularies."""
        digest = hashlib.sha256(json.dumps(self.model_config().as_dict()).encode())
        files = (self.weights_file, self.vocabulary_file("source"), self.vocabulary_file("target"))
        for path in files:
            self._require(path)
            with open(path, "rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()[:FINGERPRINT_DIGITS]

    def describe(self) -> dict[str, str | int]:
        """What a model is, for people: sizes, direction, training, fingerprint."""
        content, model = self.read_config(), self.load_model()
        facts: dict[str, str | int] = {"directory": str(self.path), **model.config.as_dict()}
        facts["parameters"] = sum(parameter.numel() for parameter in model.parameters())
        facts["fingerprint"] = self.fingerprint()
        facts["written by"] = f"phrase-scorer {content['phrase_scorer']}"
        for part in ("training", "data"):
            facts |= {f"{part}: {name}": value for name, value in content.get(part, {}).items()}
        if self.state_file.exists():
            progress = self.load_state()[1]["progress"]
            facts["updates"] = progress["update"]
            facts["best validation"] = (
                f"{progress['best_loss']:.4f} nats a target symbol (update "
                f"{progress['best_update']})"
            )
        return facts

    @contextmanager
    def _possible_settings(self) -> Iterator[None]:
        try:
            yield
        except (KeyError, TypeError, UsageError) as error:
            message = f"impossible model settings: {error}"
            raise ModelError(message, path=self.config_file) from error

    def _require(self, path: Path) -> None:
        if not path.exists():
            message = f"the model directory is incomplete: {path.name} is missing"
            if path == self.weights_file and self.log_file.exists():
                message += " (training has not reached its first validation)"
            raise ModelError(message, path=self.path)


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, "pt") as stream:
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
            return tensors, stream.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"cannot be read ({error})", path=path) from error
