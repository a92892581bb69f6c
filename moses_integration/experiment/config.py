"""The configuration of an experiment: a TOML file, checked key by key.

Paths in it are relative to its folder.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from phrase_scorer.errors import DataError
from phrase_scorer.runtime.output import reason

Section = TypeVar("Section")

TUNING_SET = "tuning set"  # as the reports call it

KINDS = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    tuple[str, ...]: "a list of texts",
    tuple[float, ...]: "a list of numbers",
}
RANGES = {
    "threads": (1, math.inf, "at least 1"),
    "runs": (1, math.inf, "at least 1"),
    "size": (1, math.inf, "at least 1"),
    "share": (1e-9, 1, "above 0 and at most 1"),
    "prune": (0, math.inf, "at least 0"),
}
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
    prune: float = 0.0  # of `export-arpa`, as the next two
    share: float = 1.0
    nbest_of: str = ""  # a system before it, whose lists (of run 1) give more n-grams


@dataclass(frozen=True)
class System:
    """[[system]]: a row of the table; without columns, the baseline.

    With `nbest_of`, models and language models are features of the n-best lists of another system:
    models score whole sentences, language models are not exported but asked themselves.
    """

    name: str
    models: tuple[str, ...] = ()  # names of networks
    inverse_models: tuple[str, ...] = ()
    unknown_words: bool = False  # to the first network
    unknown_words_of: str = ""  # a network or a language model
    ensemble: bool = False
    weights: tuple[float, ...] = ()  # start weights of the new columns
    language_models: tuple[str, ...] = ()  # names of language models
    nbest_of: str = ""  # a system before it

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
class Reranking:
    """[reranking]: all n-best lists, also those for language models, and weights for them."""

    size: int = 200  # distinct hypotheses a sentence, at most
    options: tuple[str, ...] = ()  # of `tune --rescore-nbest`


@dataclass(frozen=True)
class Experiment:
    """A configuration file, its paths made absolute (they are relative to its folder)."""

    moses_ini: str
    tuning: Tuning
    tests: tuple[TestSet, ...]
    systems: tuple[System, ...]
    networks: tuple[Network, ...] = ()
    language_models: tuple[ContinuousSpaceLM, ...] = ()
    reranking: Reranking = Reranking()
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
        known |= {"network", "language_model", "reranking"}
        reader.refuse_unknown(content, known, "the file")
        try:
            experiment = cls(
                moses_ini=reader.absolute(
                    reader.checked("moses_ini", content["moses_ini"], str, "the file")
                ),
                tuning=reader.section(Tuning, content["tuning"], "[tuning]"),
                tests=reader.sections(TestSet, content["test"], "[[test]]"),
                systems=reader.sections(System, content["system"], "[[system]]"),
                networks=reader.sections(Network, content.get("network", []), "[[network]]"),
                language_models=reader.sections(
                    ContinuousSpaceLM, content.get("language_model", []), "[[language_model]]"
                ),
                reranking=reader.section(Reranking, content.get("reranking", {}), "[reranking]"),
                threads=reader.checked("threads", content.get("threads", 1), int, "the file"),
                lowercase=reader.checked(
                    "lowercase", content.get("lowercase", False), bool, "the file"
                ),
            )
        except KeyError as error:
            raise DataError(f"{error.args[0]} is missing", path=path) from error
        experiment._check(Path(path))
        return experiment

    def _check(self, path: Path) -> None:
        known = {network.name for network in self.networks}
        language_models = {model.name for model in self.language_models}
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
        for name in sorted(known & language_models):
            message = "a [[network]] and a [[language_model]] have one name"
            raise DataError(message, path=path, text=name)
        for test in self.tests:
            if file_name(test.name) == file_name(TUNING_SET):
                raise DataError("a [[test]] needs another name", path=path, text=test.name)
        for system in self.systems:
            other = system.unknown_words_of
            if other and other not in known | language_models:
                raise DataError(f"{system.name} names no model", path=path, text=other)
            if other and system.unknown_words:
                message = "give unknown_words or unknown_words_of, one of both"
                raise DataError(message, path=path, text=system.name)
            if (other or system.unknown_words) and not system.networks:
                message = "unknown words are a column beside those of models"
                raise DataError(message, path=path, text=system.name)
            for name in system.networks:
                if name not in known:
                    raise DataError(f"{system.name} names no [[network]]", path=path, text=name)
        self._check_order(path)
        for model in self.language_models:
            if bool(model.text) == bool(model.model):
                raise DataError("give text or model, one of both", path=path, text=model.name)
        for network in self.networks:
            if bool(network.pairs) == bool(network.model):
                raise DataError("give pairs or model, one of both", path=path, text=network.name)
        if not self.tests or not self.systems:
            raise DataError("give at least one [[test]] and one [[system]]", path=path)

    def _check_order(self, path: Path) -> None:
        """Checks that n-best lists come from systems that are decoded before they are wanted."""
        models = {model.name: model for model in self.language_models}
        before: set[str] = set()
        for system in self.systems:
            wanted = [(system.name, system.nbest_of)] if system.nbest_of else []
            for name in system.language_models:
                if name not in models:
                    message = f"{system.name} names no [[language_model]]"
                    raise DataError(message, path=path, text=name)
                if models[name].nbest_of and not system.nbest_of:
                    wanted.append((name, models[name].nbest_of))
            for name, other in wanted:
                if other not in before:
                    message = f"nbest_of {name} must be a decoded [[system]] that stands before"
                    raise DataError(message, path=path, text=other)
            if not system.nbest_of:
                before.add(system.name)
                continue
            if system.ensemble or system.weights:
                raise DataError(
                    "nbest_of goes without ensemble and weights", path=path, text=system.name
                )
            if not (system.networks or system.language_models):
                raise DataError("nbest_of needs models", path=path, text=system.name)
        for model in self.language_models:
            if model.nbest_of and model.nbest_of not in before:
                message = f"nbest_of {model.name} is no decoded [[system]]"
                raise DataError(message, path=path, text=model.nbest_of)


def _is(value: Any, kind: type) -> bool:
    """Whether a value is of a kind, a whole number being a number; true is none."""
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


class _Reader:
    """Reads sections into dataclasses; fields named like files become absolute paths."""

    def __init__(self, path: Path) -> None:
        self.path, self.folder = path, path.resolve().parent

    def absolute(self, name: str) -> str:
        return os.path.normpath(self.folder / name) if name else ""

    def checked(self, key: str, value: Any, kind: Any, where: str) -> Any:
        """A value of TOML as a field of this kind holds it.

        Raises:
            DataError: It is of another kind, or out of the range of what has this name.
        """
        wanted = KINDS[kind]
        if get_origin(kind) is tuple:
            element, _ = get_args(kind)
            is_right = isinstance(value, list) and all(_is(item, element) for item in value)
            value = tuple(value) if is_right else value
        else:
            is_right = _is(value, kind)
        if is_right and key in RANGES:
            least, most, wanted = RANGES[key]
            is_right = least <= value <= most
        if not is_right:
            raise DataError(f"{key} in {where} must be {wanted}", path=self.path, text=str(value))
        return value

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
        types = get_type_hints(kind)
        for key, given in content.items():
            value = self.checked(key, given, types[key], where)
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
