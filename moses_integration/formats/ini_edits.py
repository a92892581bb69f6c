"""Edits of moses.ini beside new columns: where its files are, which weights it has.

As in moses_ini, only what is edited changes; every other byte stays.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from moses_integration.formats.moses_ini import TEXT_TABLE, Item, MosesIni, check_path, read_weights
from phrase_scorer.errors import DataError

Weights = dict[str, tuple[float, ...]]  # by feature name, in the order of the file

SUFFIXES = ("", ".gz", ".minphr", ".minlexr", ".binphr.idx", ".binlexr.idx")  # as Moses tries

_PATH = re.compile(rb"(?<=[ \t]path=)[^ \t\r\n#]+")
_CLASS = re.compile(rb"[^ \t]+")


class FeatureFile(NamedTuple):
    """A line of [feature] that names a file."""

    item: Item
    class_name: str
    path: str


def feature_files(ini: MosesIni) -> list[FeatureFile]:
    """The feature lines with `path=`, in the order of the file."""
    found = []
    for item in ini.values("feature", "feature-add"):
        path = _PATH.search(item.text)
        if path:
            found.append(FeatureFile(item, os.fsdecode(item.tokens[0]), os.fsdecode(path[0])))
    return found


def find_file(path: str, ini_path: str) -> Path:
    """The file that `path=` means: seen from the current folder or, failing that, the ini's.

    Moses knows only the first; most people run it in the folder of the ini. The result is
    absolute, and as long or short as `path=` was where Moses adds a suffix by itself.

    Raises:
        DataError: There is no such file.
    """
    for folder in (Path.cwd(), Path(ini_path).resolve().parent):
        place = Path(os.path.normpath(folder / path))
        if any(Path(f"{place}{suffix}").exists() for suffix in SUFFIXES):
            return place
    raise DataError("moses.ini names a file that is not there", path=ini_path, text=path)


def existing(path: Path) -> Path:
    """The file that Moses' scripts take: the name, or the name with .gz."""
    return path if path.is_file() else Path(f"{path}.gz")


def place_of(item: Item, path: str) -> Path:
    """`find_file` for the path on a line of the ini.

    Raises:
        DataError: It is not there (line number, text).
    """
    try:
        return find_file(path, item.ini_path)
    except DataError as error:
        raise item.error("the file of this line is not there") from error


def with_absolute_paths(ini: MosesIni) -> MosesIni:
    """The ini for a program that runs in another folder.

    A text phrase table gets its whole name: the scripts of Moses try .gz, the decoder does not.

    Raises:
        DataError: A file is not there (line number, text).
    """
    paths = {}
    for file in feature_files(ini):
        place = place_of(file.item, file.path)
        place = existing(place) if file.class_name == TEXT_TABLE else place
        paths[file.item.line] = (file.class_name, str(place))
    lines = list(with_files(ini, paths).lines)
    for item in ini.values("weight-file"):
        place = place_of(item, os.fsdecode(item.text))
        lines[item.line - 1] = lines[item.line - 1].replace(item.text, os.fsencode(place), 1)
    return MosesIni.parse(b"".join(lines), ini.path)


def with_files(ini: MosesIni, files: Mapping[int, tuple[str, str]]) -> MosesIni:
    """New classes and paths for some lines of [feature]: line number -> (class, path).

    Raises:
        UsageError: A path that moses.ini cannot hold.
    """
    lines = list(ini.lines)
    for number, (class_name, path) in files.items():
        check_path(path)
        line = _CLASS.sub(lambda _, c=class_name: os.fsencode(c), lines[number - 1], count=1)  # type: ignore[misc]
        lines[number - 1] = _PATH.sub(lambda _, p=path: os.fsencode(p), line, count=1)  # type: ignore[misc]
    return MosesIni.parse(b"".join(lines), ini.path)


def weights_of(ini: MosesIni) -> Weights:
    """The weights by feature name.

    Raises:
        DataError: A weight is not a number.
    """
    weights: Weights = {}
    for item in ini.values("weight"):
        name = os.fsdecode(item.tokens[0]).removesuffix("=")
        weights[name] = read_weights(item)
    return weights


def with_weights(ini: MosesIni, weights: Mapping[str, Sequence[float]]) -> MosesIni:
    """The ini with other weights; a feature that is not among them keeps its own.

    A feature without a weight line gets one. Comments on the changed lines stay.
    """
    lines = list(ini.lines)
    missing = dict(weights)
    last = 0
    for item in ini.values("weight"):
        last = item.line
        name = os.fsdecode(item.tokens[0]).removesuffix("=")
        if name in weights:
            missing.pop(name, None)
            line = lines[item.line - 1]
            lines[item.line - 1] = line.replace(item.text, _weight_line(name, weights[name]), 1)
    added = b"".join(_weight_line(name, values) + b"\n" for name, values in missing.items())
    if added and not last:
        added = b"\n[weight]\n" + added
        last = len(lines)
    if added:
        if not lines[last - 1].endswith(b"\n"):
            added = b"\n" + added
        lines[last - 1] += added
    return MosesIni.parse(b"".join(lines), ini.path)


def with_weight_file(ini: MosesIni, path: str | Path) -> MosesIni:
    """The ini with a file of sparse weights, in place of any it had."""
    lines = list(ini.lines)
    for item in ini.values("weight-file"):
        lines[item.line - 1] = lines[item.line - 1].replace(item.text, b"# " + item.text, 1)
    end = b"" if lines and lines[-1].endswith(b"\n") else b"\n"
    section = end + b"\n[weight-file]\n" + os.fsencode(path) + b"\n"
    return MosesIni.parse(b"".join([*lines, section]), ini.path)


def _weight_line(name: str, values: Sequence[float]) -> bytes:
    return os.fsencode(f"{name}= " + " ".join(f"{value:.6g}" for value in values))


def with_language_model(ini: MosesIni, path: str, order: int, weight: float) -> MosesIni:
    """The ini with one more n-gram model, `KENLM name=LM… factor=0 path=… order=…`, and its weight.

    It stands behind the last language model, or at the end of [feature]; its name is the first of
    LM0, LM1, … that is free.

    Raises:
        DataError: There is no [feature].
        UsageError: A path that moses.ini cannot hold.
    """
    check_path(path)
    features = ini.values("feature", "feature-add")
    if not features:
        raise DataError("no [feature] in it", path=ini.path)
    text = b" ".join(item.text for item in features)
    number = 0
    while re.search(rb"(?<!\S)name=LM%d(?!\S)" % number, text):
        number += 1
    models = [item for item in features if item.tokens[0].upper().endswith(b"LM")]
    last = (models or features)[-1].line
    line = b"KENLM name=LM%d factor=0 path=%b order=%d\n" % (number, os.fsencode(path), order)
    lines = list(ini.lines)
    if not lines[last - 1].endswith(b"\n"):
        line = b"\n" + line
    lines[last - 1] += line
    edited = MosesIni.parse(b"".join(lines), ini.path)
    return with_weights(edited, {f"LM{number}": [weight]})
