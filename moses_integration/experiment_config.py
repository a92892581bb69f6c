"""The configuration of an experiment: a TOML file, checked key by key.

Paths in it are relative to its folder.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from phrase_scorer.errors import DataError
from phrase_scorer.streams import reason

Section = TypeVar("Section")

FILES = {"source", "reference", "pairs", "model", "text", "validation", "arpa"}  # keys of paths


def file_name(name: str) -> str:
    """A name as a file has it: "RNN + WP" becomes "rnn-wp"; mert-moses.pl knows no blanks."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")


@dataclass(frozen=True)
class TestSet:
    """[[test]]: a text and its translation, tokenised."""

    __test__ = False  # not for pytest

    name: str
    source: str
    reference: str


@dataclass(frozen=True)
class Network:
    """[[network]]: a model to train, or (with `model`) one that is there."""

    name: str
    pairs: str = ""  # a phrase table, or what else `train` reads
    options: tuple[str, ...] = ()  # of `train`
    model: str = ""


@dataclass(frozen=True)
class ContinuousSpaceLM:
    """[[language_model]]: a CSLM to train on `text`, or one that is there, and its n-grams."""

    name: str
    arpa: str  # an n-gram model: its n-grams get the network's probabilities
    text: str = ""
    validation: str = ""
    options: tuple[str, ...] = ()  # of `train-lm`
    model: str = ""
    prune: float = 0.0  # of `export-arpa`


@dataclass(frozen=True)
class System:
    """[[system]]: a row of the table; without columns, the baseline."""

    name: str
    models: tuple[str, ...] = ()  # names of networks
    inverse_models: tuple[str, ...] = ()
    unknown_words: bool = False
    ensemble: bool = False
    weights: tuple[float, ...] = ()  # start weights of the new columns
    language_models: tuple[str, ...] = ()  # names of language models

    @property
    def networks(self) -> tuple[str, ...]:
        """All that it uses."""
        return self.models + self.inverse_models


@dataclass(frozen=True)
class Tuning:
    """[tuning]: the tuning set, and how to tune."""

    source: str
    reference: str
    runs: int = 3
    options: tuple[str, ...] = ()  # of `tune`


@dataclass(frozen=True)
class Experiment:
    """A configuration file, its paths made absolute (they are relative to its folder)."""

    moses_ini: str
    tuning: Tuning
    tests: tuple[TestSet, ...]
    systems: tuple[System, ...]
    networks: tuple[Network, ...] = ()
    language_models: tuple[ContinuousSpaceLM, ...] = ()
    threads: int = 1
    lowercase: bool = False  # in evaluation

    @classmethod
    def read(cls, path: str | Path) -> Experiment:
        """Reads a TOML file.

        Raises:
            DataError: It cannot be read, is no TOML, or a key is missing, unknown or of the wrong
                kind; a system names a network that is not there; two things have one name.
        """
        try:
            content = tomllib.loads(Path(path).read_text())
        except OSError as error:
            raise DataError(f"cannot read: {reason(error)}", path=path) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise DataError(f"not TOML: {error}", path=path) from error
        reader = _Reader(Path(path))
        known = {"moses_ini", "tuning", "test", "system", "threads", "lowercase"}
        known |= {"network", "language_model"}
        reader.refuse_unknown(content, known, "the file")
        try:
            experiment = cls(
                moses_ini=reader.absolute(content["moses_ini"]),
                tuning=reader.section(Tuning, content["tuning"], "[tuning]"),
                tests=reader.sections(TestSet, content["test"], "[[test]]"),
                systems=reader.sections(System, content["system"], "[[system]]"),
                networks=reader.sections(Network, content.get("network", []), "[[network]]"),
                language_models=reader.sections(
                    ContinuousSpaceLM, content.get("language_model", []), "[[language_model]]"
                ),
                threads=content.get("threads", 1),
                lowercase=content.get("lowercase", False),
            )
        except KeyError as error:
            raise DataError(f"{error.args[0]} is missing", path=path) from error
        experiment._check(Path(path))
        return experiment

    def _check(self, path: Path) -> None:
        known = {network.name for network in self.networks}
        kinds: tuple[Sequence[Network | ContinuousSpaceLM | System | TestSet], ...] = (
            self.networks,
            self.language_models,
            self.systems,
            self.tests,
        )
        for kind in kinds:
            files = [file_name(item.name) for item in kind]
            for item, name in zip(kind, files, strict=True):
                if not name:
                    raise DataError("a name needs a letter or a digit", path=path, text=item.name)
                if files.count(name) > 1:
                    raise DataError("two names lead to one file", path=path, text=item.name)
        for system in self.systems:
            for name in system.networks:
                if name not in known:
                    raise DataError(f"{system.name} names no [[network]]", path=path, text=name)
            for name in system.language_models:
                if name not in {model.name for model in self.language_models}:
                    message = f"{system.name} names no [[language_model]]"
                    raise DataError(message, path=path, text=name)
        for model in self.language_models:
            if bool(model.text) == bool(model.model):
                raise DataError("give text or model, one of both", path=path, text=model.name)
        for network in self.networks:
            if bool(network.pairs) == bool(network.model):
                raise DataError("give pairs or model, one of both", path=path, text=network.name)
        if not self.tests or not self.systems:
            raise DataError("give at least one [[test]] and one [[system]]", path=path)


class _Reader:
    """Reads sections into dataclasses; fields named like files become absolute paths."""

    def __init__(self, path: Path) -> None:
        self.path, self.folder = path, path.resolve().parent

    def absolute(self, name: str) -> str:
        return os.path.normpath(self.folder / name) if name else ""

    def refuse_unknown(self, content: Mapping[str, Any], known: set[str], where: str) -> None:
        for key in content:
            if key not in known:
                choices = ", ".join(sorted(known))
                raise DataError(
                    f"unknown key in {where} (known: {choices})", path=self.path, text=key
                )

    def section(self, kind: type[Section], content: Any, where: str) -> Section:
        if not isinstance(content, dict):
            raise DataError(f"{where} must be a table", path=self.path)
        known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
        self.refuse_unknown(content, known, where)
        values = {}
        for key, value in content.items():
            if isinstance(value, list):
                value = tuple(value)
            values[key] = self.absolute(value) if key in FILES else value
        try:
            return kind(**values)
        except TypeError as error:
            missing = str(error).partition("argument")[2].lstrip("s: ")
            raise DataError(f"missing in {where}: {missing}", path=self.path) from error

    def sections(self, kind: type[Section], content: Any, where: str) -> tuple[Section, ...]:
        if not isinstance(content, list):
            raise DataError(f"{where} must be an array of tables", path=self.path)
        return tuple(self.section(kind, item, where) for item in content)
