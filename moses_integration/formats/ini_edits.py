"""moses.ini, written: new columns, weights, files and language models.

Only what is edited changes; every other byte stays. New lines end as the first one of the file.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TypeVar

from moses_integration.formats.moses_ini import (
    TEXT_TABLE,
    IniLine,
    MosesIni,
    PhraseTableFeature,
    content_end,
    feature_files,
    place_of,
    require_weights,
)
from phrase_scorer.errors import DataError, UsageError, quoted
from phrase_scorer.runtime.output import real_path

Value = TypeVar("Value")

START_WEIGHT = 0.1  # of what is new, until it is tuned


def with_columns(
    ini: MosesIni, table: PhraseTableFeature, *, path: str, start_weights: Sequence[float]
) -> MosesIni:
    """One more column per start weight for a table of the ini, which now stands at `path`.

    A weight line that is missing is written out with the 1.0 that Moses takes for it;
    `tuneable-components=` gets a 1 per column, for Moses refuses a list of another length.

    Raises:
        DataError: The table has more or fewer weights than num-features.
        UsageError: A path that moses.ini cannot hold; no start weight, or one not finite.
    """
    _check_path(path)
    if not start_weights or not all(map(math.isfinite, start_weights)):
        given = _numbers(start_weights) or " none"
        raise UsageError(f"every new column needs a finite start weight, given:{given}")
    require_weights(table)
    lines, at, more = list(ini.lines), table.line - 1, len(start_weights)
    lines[at] = _set_option(lines[at], "num-features", str(table.num_features + more))
    if tuneable := table.options.get("tuneable-components"):
        lines[at] = _set_option(lines[at], "tuneable-components", tuneable + ",1" * more)
    lines[at] = _set_option(lines[at], "path", path)
    if table.weight_item:
        at = table.weight_item.line - 1
        lines[at] = _append(lines[at], _numbers(start_weights))
    else:
        ones = [1.0] * table.num_features
        _add_weights(ini, lines, {table.name: [*ones, *start_weights]})
        if not ini.lines[-1].endswith(b"\n"):  # nor does the new last line end
            lines[-1] = lines[-1].removesuffix(_line_end(lines))
    return ini.with_lines(lines)


def without_columns(
    ini: MosesIni, table: PhraseTableFeature, *, path: str, places: Collection[int]
) -> MosesIni:
    """The undoing of `with_columns`: a table that now stands at `path` has these scores no more.

    DataError where the table has more or fewer weights than num-features, UsageError for a path
    that moses.ini cannot hold.
    """
    _check_path(path)
    require_weights(table)
    lines, at = list(ini.lines), table.line - 1
    lines[at] = _set_option(lines[at], "num-features", str(table.num_features - len(places)))
    if tuneable := table.options.get("tuneable-components"):
        left = ",".join(_left(tuneable.split(","), places))
        lines[at] = _set_option(lines[at], "tuneable-components", left)
    lines[at] = _set_option(lines[at], "path", path)
    if item := table.weight_item:
        name, *weights = item.tokens
        _replace(lines, item, b" ".join([name, *_left(weights, places)]))
    return ini.with_lines(lines)


def with_weights(ini: MosesIni, weights: Mapping[str, Sequence[float]]) -> MosesIni:
    """The ini with other weights; a feature that is not among them keeps its own.

    A feature without a weight line gets one. Comments on the changed lines stay.
    """
    lines, missing = list(ini.lines), dict(weights)
    for item in ini.values("weight"):
        if item.name in weights:
            missing.pop(item.name, None)
            _replace(lines, item, _weight_line(item.name, weights[item.name]))
    if missing:
        _add_weights(ini, lines, missing)
    return ini.with_lines(lines)


def with_weight_file(ini: MosesIni, path: str | Path) -> MosesIni:
    """The ini with a file of sparse weights, in place of any it had."""
    lines = list(ini.lines)
    for item in ini.values("weight-file"):
        _replace(lines, item, b"# " + item.text)
    _insert(lines, len(lines), b"", b"[weight-file]", os.fsencode(path))
    return ini.with_lines(lines)


def with_files(ini: MosesIni, files: Mapping[int, tuple[str, str]]) -> MosesIni:
    """New classes and paths for some lines of [feature]: line number -> (class, path)."""
    lines = list(ini.lines)
    for number, (class_name, path) in files.items():
        _check_path(path)
        line = lines[number - 1]
        line = line.replace(line.split(maxsplit=1)[0], os.fsencode(class_name), 1)
        lines[number - 1] = _set_option(line, "path", path)
    return ini.with_lines(lines)


def with_absolute_paths(ini: MosesIni) -> MosesIni:
    """The ini for a program that runs in another folder; DataError where a file is not there.

    A text phrase table gets its whole name: the scripts of Moses try .gz, the decoder does not.
    """
    files = {}
    for feature in feature_files(ini):
        place = feature.file() if feature.class_name == TEXT_TABLE else feature.place()
        files[feature.line] = (feature.class_name, str(place))
    lines = list(with_files(ini, files).lines)
    for item in ini.values("weight-file"):
        _replace(lines, item, os.fsencode(place_of(item, os.fsdecode(item.text))))
    return ini.with_lines(lines)


def seen_from(ini: MosesIni, folder: str | os.PathLike[str]) -> MosesIni:
    """The ini with its relative paths rewritten, so that they lead to the same files from a folder.

    A file that is not there is taken to be meant from the folder of the ini.
    """
    origin = real_path(ini.path).parent
    folder = real_path(folder)
    if folder == origin:
        return ini

    def moved(item: IniLine, path: str) -> str:
        try:
            place = place_of(item, path)
        except DataError:
            place = origin / path
        return os.path.relpath(place, folder)

    relative = [feature for feature in feature_files(ini) if not os.path.isabs(feature.path)]
    files = {f.line: (f.class_name, moved(f.item, f.path)) for f in relative}
    lines = list(with_files(ini, files).lines)
    for item in ini.values("weight-file"):
        if not os.path.isabs(path := os.fsdecode(item.text)):
            _replace(lines, item, os.fsencode(moved(item, path)))
    return ini.with_lines(lines)


def with_language_model(ini: MosesIni, path: str, order: int, weight: float) -> MosesIni:
    """The ini with one more n-gram model, `KENLM name=LM… factor=0 path=… order=…`, and its weight.

    It stands behind the last language model, or at the end of [feature], under the first of the
    names LM0, LM1, … that is free.
    """
    _check_path(path)
    features = ini.values("feature", "feature-add")
    if not features:
        raise DataError("no [feature] in it", path=ini.path)
    tokens = {token for item in features for token in item.tokens}
    number = next(n for n in count() if b"name=LM%d" % n not in tokens)
    models = [item for item in features if item.tokens[0].upper().endswith(b"LM")]
    line = b"KENLM name=LM%d factor=0 path=%b order=%d" % (number, os.fsencode(path), order)
    lines = list(ini.lines)
    _insert(lines, (models or features)[-1].line, line)
    return with_weights(ini.with_lines(lines), {f"LM{number}": [weight]})


def _left(values: Sequence[Value], places: Collection[int]) -> list[Value]:
    """The values at all other places."""
    return [value for place, value in enumerate(values) if place not in places]


def _check_path(path: str) -> None:
    if not path or re.search("[# \t\r\n]", path):
        reason = "it must not be empty, nor have a blank or a # in it"
        raise UsageError(f"moses.ini cannot hold the path {quoted(path)}: {reason}")


def _numbers(values: Sequence[float]) -> str:
    return "".join(f" {value:.6g}" for value in values)


def _weight_line(name: str, values: Sequence[float]) -> bytes:
    return os.fsencode(f"{name}={_numbers(values)}")


def _append(line: bytes, text: str) -> bytes:
    end = content_end(line)
    return line[:end] + os.fsencode(text) + line[end:]


def _set_option(line: bytes, key: str, value: str) -> bytes:
    """Replace what follows `key=` on a feature line, or append the option."""
    option = re.compile(rb"[ \t]%b=([^ \t]*)" % key.encode())
    found = option.search(line, 0, content_end(line))
    if found:
        return line[: found.start(1)] + os.fsencode(value) + line[found.end(1) :]
    return _append(line, f" {key}={value}")


def _replace(lines: list[bytes], item: IniLine, text: bytes) -> None:
    """Change what Moses reads of a line; the blanks and the comment around it stay."""
    lines[item.line - 1] = lines[item.line - 1].replace(item.text, text, 1)


def _line_end(lines: Sequence[bytes]) -> bytes:
    return b"\r\n" if lines[0].endswith(b"\r\n") else b"\n"


def _insert(lines: list[bytes], behind: int, *new: bytes) -> None:
    """Put new lines behind a line, given by its number."""
    end = _line_end(lines)
    if not lines[behind - 1].endswith(b"\n"):
        lines[behind - 1] += end
    lines[behind - 1] += b"".join(line + end for line in new)


def _add_weights(ini: MosesIni, lines: list[bytes], weights: Mapping[str, Sequence[float]]) -> None:
    """Put weight lines behind the last one, or make the section at the end of the file."""
    last = max((item.line for item in ini.items if item.section == "weight"), default=0)
    head = () if last else (b"", b"[weight]")
    _insert(lines, last or len(lines), *head, *(_weight_line(*each) for each in weights.items()))
