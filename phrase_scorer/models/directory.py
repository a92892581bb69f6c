"""The model directory: what training leaves and scoring loads. No pickle, nothing executed.

Every file is replaced as a whole, never half. A state has its own digest; weights and vocabularies
have theirs in config.json (files.py).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from phrase_scorer.errors import ModelError, printable
from phrase_scorer.models import ModelConfig, PhraseModel, build
from phrase_scorer.models.config import LANGUAGE_MODEL_USES
from phrase_scorer.models.files import (
    FORMAT,
    ModelFiles,
    Progress,
    TrainingState,
    digest_of_file,
    open_tensors,
)
from phrase_scorer.runtime.output import reason, write_file
from phrase_scorer.runtime.records import Origin, parse_json
from phrase_scorer.text.vocabulary import Vocabulary
from phrase_scorer.version import __version__

_CARD = """\
# A model of phrase-scorer

It gives the natural logarithm of {probability}, words and end symbol.

| | |
| --- | --- |
{table}
    {command}

Words must be tokenised, cased and escaped as in what it was trained on.
`phrase-scorer info` says all of its settings.
"""
CARD_BEGINS = _CARD[: _CARD.index("\n") + 1].encode()  # by which ours is known
_PAIRS = "phrase-scorer rescore phrase-table.gz new.gz"
# By direction, and of a language model: (the probability that a model gives, how it is used).
_USE = {
    "forward": ("p(target | source) of a phrase pair", f"{_PAIRS} --model DIR"),
    "inverse": ("p(source | target) of a phrase pair", f"{_PAIRS} --inverse-model DIR"),
    "text": ("p(sentence) of a language model", "phrase-scorer perplexity --model DIR text"),
}

Shapes = Mapping[str, tuple[int, ...]]  # of tensors, by name


class ModelDirectory(ModelFiles):
    """The files of a model under one path, with their tensors."""

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
            if self._card_is_ours():
                self.card_file.unlink(missing_ok=True)
        except OSError as error:
            raise ModelError(f"cannot write: {reason(error)}", path=self.path) from error
        for side, vocabulary in zip(("source", "target"), vocabularies, strict=True):
            vocabulary.save(self.vocabulary_file(side))
        known = {"format": FORMAT, "phrase_scorer": __version__, "model": config.as_dict()}
        names = map(self.vocabulary_file, ("source", "target"))
        digests = {path.name: [digest_of_file(path)] for path in names}
        self._write_config({**known, **details, "sha256": digests})

    def _write_config(self, content: Mapping[str, Any]) -> None:
        write_file(self.config_file, json.dumps(content, indent=2).encode() + b"\n")

    def save_weights(self, weights: Mapping[str, Tensor], progress: Progress | None = None) -> None:
        """Replaces model.safetensors; with the validation that chose them, where there was one."""
        known = None
        if progress is not None and math.isfinite(progress.best_loss):
            # One key: safetensors writes several in an order of chance.
            known = {"validation": f"{progress.best_loss!r} after {progress.best_update}"}
        self._replace(self.weights_file, save(dict(weights), metadata=known))

    def _card_is_ours(self) -> bool:
        """Whether README.md is not there, or from us."""
        try:
            with open(self.card_file, "rb") as file:
                return file.read(len(CARD_BEGINS)) == CARD_BEGINS
        except FileNotFoundError:
            return True
        except OSError:
            return False

    def save_card(self) -> None:
        """Replaces README.md: what the model is, what it was trained on, how it is used.

        One that somebody else has written stays.
        """
        if not self._card_is_ours():
            return
        facts, written = self.describe(), self.facts()
        config, data = written.model, written.data
        of_text = config.architecture in LANGUAGE_MODEL_USES
        probability, command = _USE["text" if of_text else config.direction]
        validation = facts.get("validation")
        rows = {
            "architecture": f"{config.architecture}, {config.hidden:,} units",
            "parameters": f"{facts['parameters']:,}",
            "words of its input and output": f"{config.source_words:,}, {config.target_words:,}",
            "trained on": f"{data.get('pairs', 0):,} distinct pairs: {_cell(data.get('path'))}",
            "validation": "none"
            if validation is None
            else f"{validation['loss']} nats a symbol, after update {validation['update']:,}",
            "fingerprint": facts["fingerprint"],
            "written by": facts["written_by"],
        }
        table = "".join(f"| {name} | {value} |\n" for name, value in rows.items())
        card = _CARD.format(probability=probability, table=table, command=command)
        write_file(self.card_file, card.encode("utf-8", "replace"))

    def load_model(self) -> PhraseModel:
        """The model with its best weights, in evaluation mode.

        A ModelError tells of weights that do not fit config.json, before there is memory for them;
        that are not those that were saved; that are not finite.
        """
        config = self.model_config()
        with self._possible_settings(), torch.device("meta"):
            expected = build(config)
        self._verify(self.weights_file)
        with open_tensors(self.weights_file, "pt") as stream:
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

    def load_state(self) -> tuple[dict[str, dict[str, Tensor]], TrainingState]:
        """(parts, the rest), as `save_state` was given them; a ModelError where they are not."""
        self.require_state()
        origin = Origin(self.state_file, error=ModelError)
        with open_tensors(self.state_file, "pt") as stream:
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

    def _replace(self, path: Path, content: bytes) -> None:
        """Replaces a file and its digest; at whatever moment that ends, config.json knows it."""
        known, new = self.facts().sha256.get(path.name), hashlib.sha256(content).hexdigest()
        if not known and path.exists():
            known = [digest_of_file(path)]
        self._verified.pop(path.name, None)
        self._vouch(path, [*(known or []), new])
        write_file(path, content)
        self._vouch(path, [new])

    def _vouch(self, path: Path, digests: list[str]) -> None:
        config = self._read_config()
        config.setdefault("sha256", {})[path.name] = digests
        self._write_config(config)


def _cell(path: object) -> str:
    """A path in a table of Markdown."""
    return "`" + printable(str(path)).replace("`", "'").replace("|", "\\|") + "`"


def shapes_of(tensors: Mapping[str, Tensor]) -> Shapes:
    """Their shapes."""
    return {name: tuple(value.shape) for name, value in tensors.items()}


def first_difference(expected: Shapes, found: Shapes) -> str:
    """The first name that only one has, or with another shape; an empty string: there is none."""
    return min((name for name, _ in expected.items() ^ found.items()), default="")


def _digest_of(tensors: Mapping[str, Tensor], said: str) -> str:
    digest = hashlib.sha256(said.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(
            tensors[name].detach().contiguous().reshape(-1).view(torch.uint8).numpy().data
        )
    return digest.hexdigest()


def _names(stream: Any) -> list[str]:
    return list(stream.keys())


def _tensors(stream: Any) -> dict[str, Tensor]:
    return {name: stream.get_tensor(name) for name in _names(stream)}


def _require_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    for name, value in tensors.items():
        # nan is both the least and the greatest; no other test is as fast, or needs no memory.
        if value.numel() and not all(math.isfinite(end) for end in value.aminmax()):
            raise ModelError("a number that is not finite", path=path, text=name)
