"""The configuration of an experiment: a TOML file, checked key by key.

Paths in it are relative to its folder. What a section alone can get wrong is checked by its
dataclass, what sections say of each other by `Experiment`.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import msgspec

from phrase_scorer.errors import DataError, shortened
from phrase_scorer.runtime.numbers import LARGEST
from phrase_scorer.runtime.output import real_path, reason

Section = TypeVar("Section")
Number = int | float  # a whole number stays one, as it stands in the file

MOST_LETTERS, MOST_PARTS = 1 << 16, 500  # of a file, of a key: Python's reader is quadratic in both
MOST_RUNS, MOST_THREADS = 1000, 4096

TUNING_SET = "tuning set"  # as the steps call it

KINDS = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    Number: "a number",
    tuple[str, ...]: "a list of texts",
    tuple[Number, ...]: "a list of numbers",
}
FILES = {"moses_ini", "source", "reference", "pairs", "model", "text", "validation", "arpa"}


def file_name(name: str) -> str:
    """A name as a file has it: "RNN + WP" becomes "rnn-wp"; mert-moses.pl knows no blanks."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")


def _require_within(most: int, name: str, number: int) -> None:
    if not 1 <= number <= most:
        text = str(number) if abs(number) <= LARGEST else "…"
        raise DataError(f"{name} must be from 1 to {most:,}", text=text)


def _require(holds: object, message: str, text: object = None) -> None:
    if not holds:
        raise DataError(message, text=None if text is None else str(text))


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

    def __post_init__(self) -> None:
        one = bool(self.pairs) != bool(self.model)
        _require(one, "give pairs or model, one of both", self.name)


@dataclass(frozen=True)
class ContinuousSpaceLM:
    """[[language_model]]: a CSLM to train on `text`, or one that is there, and its n-grams."""

    name: str
    arpa: str  # an n-gram model: its n-grams get the network's probabilities
    text: str = ""
    validation: str = ""
    options: tuple[str, ...] = ()  # of `train-lm`
    model: str = ""
    prune: Number = 0.0  # of `export-arpa`, as the next two
    share: Number = 1.0
    nbest_of: str = ""  # a system before it, whose lists (of run 1) give more n-grams

    def __post_init__(self) -> None:
        where = "in [[language_model]] must be"
        _require(0 < self.share <= 1, f"share {where} above 0 and at most 1", self.share)
        _require(0 <= self.prune <= 1, f"prune {where} from 0 to 1", self.prune)
        one = bool(self.text) != bool(self.model)
        _require(one, "give text or model, one of both", self.name)


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
    weights: tuple[Number, ...] = ()  # start weights of the new columns
    language_models: tuple[str, ...] = ()  # names of language models
    nbest_of: str = ""  # a system before it

    def __post_init__(self) -> None:
        for weight in self.weights:
            _require(math.isfinite(weight), "weights must be finite", weight)
        both = self.unknown_words and self.unknown_words_of
        _require(not both, "give unknown_words or unknown_words_of, one of both", self.name)
        if self.unknown_words or self.unknown_words_of:
            message = "unknown words are a column beside those of models"
            _require(self.networks, message, self.name)
        if self.nbest_of:
            message = "nbest_of goes without ensemble and weights"
            _require(not (self.ensemble or self.weights), message, self.name)
            _require(self.networks + self.language_models, "nbest_of needs models", self.name)

    @property
    def networks(self) -> tuple[str, ...]:
        """All that it uses."""
        return self.models + self.inverse_models


@dataclass(frozen=True)
class TuningSet:
    """[tuning]: the tuning set, and how to tune."""

    source: str
    reference: str
    runs: int = 3
    options: tuple[str, ...] = ()  # of `tune`
    name: str = TUNING_SET  # in the reports

    def __post_init__(self) -> None:
        _require_within(MOST_RUNS, "runs in [tuning]", self.runs)


@dataclass(frozen=True)
class Reranking:
    """[reranking]: all n-best lists, also those for language models, and weights for them."""

    size: int = 200  # distinct hypotheses per sentence, at most
    options: tuple[str, ...] = ()  # of `tune --rescore-nbest`

    def __post_init__(self) -> None:
        _require_within(LARGEST, "size in [reranking]", self.size)


@dataclass(frozen=True)
class Experiment:
    """A configuration file, its paths made absolute (they are relative to its folder).

    A DataError tells where a system names a network that is not there, or n-best lists of a system
    that comes later, and where two things have one name.
    """

    moses_ini: str
    tuning: TuningSet
    tests: tuple[TestSet, ...]
    systems: tuple[System, ...]
    networks: tuple[Network, ...] = ()
    language_models: tuple[ContinuousSpaceLM, ...] = ()
    reranking: Reranking = Reranking()
    threads: int = 1
    lowercase: bool = False  # in evaluation

    @classmethod
    def read(cls, path: str | Path) -> Experiment:
        """Reads a TOML file; a DataError names what is missing, unknown, or of the wrong kind."""
        try:
            text = Path(path).read_text("utf-8-sig")
            if len(text) > MOST_LETTERS:
                raise DataError(f"more than {MOST_LETTERS:,} characters", path=path)
            for number, line in enumerate(text.split("\n"), 1):
                if line.partition("=")[0].count(".") > MOST_PARTS:
                    message = f"a key of more than {MOST_PARTS:,} parts"
                    raise DataError(message, path=path, line=number, text=line)
            content = tomllib.loads(text)
        except OSError as error:
            raise DataError(f"cannot read: {reason(error)}", path=path) from error
        except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, too long a number
            raise DataError(f"not TOML: {shortened(error)}", path=path) from error
        try:
            return _experiment(content, real_path(path).parent)
        except DataError as error:
            raise DataError(error.message, path=path, text=error.text) from error

    def __post_init__(self) -> None:
        _require_within(MOST_THREADS, "threads in the file", self.threads)
        kinds: tuple[Sequence[Network | ContinuousSpaceLM | System | TestSet], ...] = (
            self.networks, self.language_models, self.systems, self.tests,
        )  # fmt: skip
        for kind in kinds:
            files = [file_name(item.name) for item in kind]
            for item, name in zip(kind, files, strict=True):
                _require(name, "a name needs a letter or a digit", item.name)
                _require(files.count(name) == 1, "two names lead to one file", item.name)
        networks = {network.name for network in self.networks}
        models = {model.name for model in self.language_models}
        for network in self.networks:
            message = "a [[network]] and a [[language_model]] have one name"
            _require(network.name not in models, message, network.name)
        for test in self.tests:
            others = {file_name(TUNING_SET), file_name(self.tuning.name)}
            is_other = file_name(test.name) not in others
            _require(is_other, "a [[test]] needs another name", test.name)
        for system in self.systems:
            other = system.unknown_words_of
            _require(other in {"", *networks, *models}, f"{system.name} names no model", other)
            for name in system.networks:
                _require(name in networks, f"{system.name} names no [[network]]", name)
            for name in system.language_models:
                _require(name in models, f"{system.name} names no [[language_model]]", name)
        self._check_order()
        _require(self.tests and self.systems, "give at least one [[test]] and one [[system]]")

    def _check_order(self) -> None:
        """Checks that n-best lists come from systems that are decoded before they are wanted."""
        lists_of = {model.name: model.nbest_of for model in self.language_models}
        decoded = {""}  # "": no lists are wanted
        for system in self.systems:
            if system.nbest_of:
                wanted = {system.name: system.nbest_of}
            else:
                wanted = {name: lists_of[name] for name in system.language_models}
            for name, other in wanted.items():
                message = f"nbest_of {name} must be a decoded [[system]] that stands before"
                _require(other in decoded, message, other)
            if not system.nbest_of:
                decoded.add(system.name)
        for name, other in lists_of.items():
            _require(other in decoded, f"nbest_of {name} is no decoded [[system]]", other)


# -- from TOML to dataclasses ----------------------------------------------------------------------

SECTIONS = {"tuning": TuningSet, "reranking": Reranking}
ARRAYS = {
    "test": TestSet, "system": System, "network": Network, "language_model": ContinuousSpaceLM,
}  # fmt: skip


def _experiment(content: dict[str, Any], folder: Path) -> Experiment:
    """The file as a whole; its arrays have the names of `Experiment`'s fields less an s."""
    known = {"moses_ini", "threads", "lowercase", *SECTIONS, *ARRAYS}
    _refuse_unknown(content, known, "the file")
    for key in ("moses_ini", "tuning", "test", "system"):
        _require(key in content, f"{key} is missing")
    values: dict[str, Any] = {}
    for key, given in content.items():
        if key in SECTIONS:
            values[key] = _table(SECTIONS[key], given, f"[{key}]", folder)
        elif key in ARRAYS:
            _require(isinstance(given, list), f"[[{key}]] must be an array of tables")
            values[f"{key}s"] = [_table(ARRAYS[key], item, f"[[{key}]]", folder) for item in given]
        else:
            values[key] = given
    return _table(Experiment, values, "the file", folder)


def _table(kind: type[Section], content: Any, where: str, folder: Path) -> Section:
    """A table of the file as its dataclass, names of files made absolute."""
    _require(isinstance(content, dict), f"{where} must be a table")
    kinds = get_type_hints(kind)
    for key, value in content.items():
        texts = value if isinstance(value, list) else [value]
        is_bad = any(isinstance(text, str) and "\0" in text for text in texts)
        _require(not is_bad, f"{key} in {where} has a NUL", value)
    _refuse_unknown(content, set(kinds), where)
    files = {
        key: os.path.normpath(folder / value)
        for key, value in content.items()
        if key in FILES and value and isinstance(value, str)
    }
    try:
        return msgspec.convert(content | files, kind)
    except msgspec.ValidationError as error:
        # "Object missing required field `name`", or "Expected `int`, got `str` - at `$.runs`"
        told, at, place = str(error).partition(" - at `$.")
        if not at:
            raise DataError(f"missing in {where}: '{told.split('`')[1]}'") from error
        key = re.split(r"\W", place)[0]
        message = f"{key} in {where} must be {KINDS[kinds[key]]}"
        raise DataError(message, text=str(content[key])) from error


def _refuse_unknown(content: dict[str, Any], known: set[str], where: str) -> None:
    for key in content:
        _require(key in known, f"unknown key in {where} (known: {', '.join(sorted(known))})", key)
