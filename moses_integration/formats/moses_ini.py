"""moses.ini as bytes: its phrase tables and their weights, and the edit that new columns need.

In comes the file, out goes the same file with `num-features=`, `path=` and the weight line of one
phrase table changed; every other byte stays. Only this module knows `[feature]` and `[weight]`.
It does not open a phrase table and runs no Moses program: callers give the number of scores.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from phrase_scorer.errors import DataError, UsageError, quoted

TEXT_TABLE = "PhraseDictionaryMemory"  # the one class that reads a phrase-based table as text

MERT_NAME = re.compile(r"[A-Za-z][0-9A-Za-z]*")  # mert-moses.pl takes any other for sparse

BINARISERS = {
    "PhraseDictionaryCompact": "processPhraseTableMin -in NEW.gz -out NEW -nscores {} -threads 1",
    "PhraseDictionaryOnDisk": "CreateOnDiskPt 1 1 {} 100 2 NEW.gz NEW",
    "ProbingPT": "CreateProbingPT --num-scores {} --log-prob --input-pt NEW.gz --output-dir NEW",
}
_TABLE_CLASS = re.compile(r"PhraseDictionary\w*|ProbingPT|RuleTable|Mmsapt")
_COMBINING_CLASS = re.compile(r"PhraseDictionary(Group|MultiModel\w*)")


@dataclass(frozen=True)
class Item:
    """One line that Moses keeps: a value, or (with empty text) the header of its section."""

    ini_path: str
    section: str
    line: int  # 1-based
    text: bytes  # without the comment and the blanks around it

    @property
    def tokens(self) -> list[bytes]:
        """The text cut at blanks and tabs, as Moses cuts it."""
        return re.split(rb"[ \t]+", self.text)

    def error(self, message: str) -> DataError:
        """The error to raise about this line."""
        text = self.text or f"[{self.section}]"
        return DataError(message, path=self.ini_path, line=self.line, text=text)


@dataclass(frozen=True)
class PhraseTableFeature:
    """One phrase table of the [feature] section, with its weights."""

    item: Item
    class_name: str
    name: str  # `name=`, or class and counter
    options: dict[str, str]  # key=value in the order of the line
    num_features: int
    weights: tuple[float, ...] | None  # None: no weight line, Moses takes 1.0 for all
    weight_item: Item | None

    @property
    def line(self) -> int:
        """The 1-based number of the feature line."""
        return self.item.line

    @property
    def path(self) -> str:
        """The `path=` of the table, empty where there is none."""
        return self.options.get("path", "")


@dataclass(frozen=True)
class MosesIni:
    """A moses.ini; immutable, an edit returns a new one.

    Moses reads it in Parameter::ReadConfigFile (moses/Parameter.cpp) and each feature line in
    FeatureFunction::ParseLine (moses/FF/FeatureFunction.cpp).
    """

    path: str
    lines: tuple[bytes, ...]  # with their line ends

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> MosesIni:
        """Read a file.

        Raises:
            DataError: It cannot be read, or `parse` refuses it.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise DataError(f"cannot read: {error.strerror}", path=path) from error
        return cls.parse(data, path)

    @classmethod
    def parse(cls, data: bytes, path: str | os.PathLike[str] = "moses.ini") -> MosesIni:
        """Take the content of a file; `path` is for messages.

        Raises:
            DataError: Old-style ini, no blank after `Name=` on a weight line, a phrase table line
                with a duplicate key, without `=`, or with a number that is none.
        """
        ini = cls(os.fspath(path), tuple(re.findall(rb"[^\n]*\n|[^\n]+", data)))
        for item in ini.items:
            if item.section == "ttable-file":
                raise item.error("old-style moses.ini; make one with [feature] (train-model.perl)")
        for item in ini.values("weight-add", "weight"):
            _check_weight_line(item)
        _ = ini.phrase_tables  # raises what is wrong with them
        return ini

    def to_bytes(self) -> bytes:
        """The content of the file."""
        return b"".join(self.lines)

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """All values and section headers, by line."""
        return tuple(_read_items(self.lines, self.path))

    def values(self, *sections: str) -> list[Item]:
        """The values of the sections, in Moses's order: section by section, then by line."""
        return [item for s in sections for item in self.items if item.section == s and item.text]

    @cached_property
    def phrase_tables(self) -> tuple[PhraseTableFeature, ...]:
        """All phrase tables in the order that [mapping] counts them."""
        unnamed: Counter[str] = Counter()
        tables = []
        for item in self.values("feature", "feature-add"):
            class_name = _text(item.tokens[0])
            if _TABLE_CLASS.fullmatch(class_name):
                options = _read_options(item)
                name = options.get("name") or f"{class_name}{unnamed[class_name]}"
                unnamed[class_name] += not options.get("name")  # Moses counts only these lines
                tables.append(self._feature(item, class_name, name, options))
        return tuple(tables)

    def phrase_table(self, name: str | None = None, new_columns: int = 1) -> PhraseTableFeature:
        """The table that gets columns: by feature name, or the only text table but glue grammar.

        Raises:
            DataError: No phrase table; its class does not read text (the message has the
                binarise command for `new_columns` more); no `path=`; weights that do not fit.
            UsageError: Unknown name, or several tables and no name.
        """
        # "glue-grammar" in the path is how filter-model-given-input.pl knows the glue grammar.
        tables = [t for t in self.phrase_tables if name or "glue-grammar" not in t.path]
        if not tables:
            raise DataError("no phrase table in [feature]", path=self.path)
        fitting = [t for t in tables if (t.name == name if name else t.class_name == TEXT_TABLE)]
        if name and not fitting:
            raise UsageError(f"{self.path}: no phrase table {quoted(name)} among {_names(tables)}")
        if len(fitting) > 1:
            raise UsageError(f"{self.path}: several phrase tables: {_names(fitting)}")
        table = (fitting or tables)[0]
        _require_text_table(table, new_columns)
        require_weights(table)
        return table

    def with_columns(
        self, name: str | None = None, *, path: str, start_weights: Sequence[float]
    ) -> MosesIni:
        """Add one column per start weight to a table that now stands at `path`.

        A weight line that is missing is written out with the 1.0 that Moses takes for it;
        `tuneable-components=` gets a 1 per column, for Moses refuses a list of another length.

        Raises:
            DataError, UsageError: As `phrase_table`.
            UsageError: A path that moses.ini cannot hold; no start weight, or one not finite.
        """
        check_path(path)
        _check_start_weights(start_weights)
        table = self.phrase_table(name, len(start_weights))
        lines, at = list(self.lines), table.line - 1
        lines[at] = _widened(lines[at], table, len(start_weights), path)
        added = _numbers(start_weights)
        if table.weight_item is None:
            ones = _numbers([1.0] * table.num_features)
            self._add_weight_line(lines, _bytes(f"{table.name}=") + ones + added)
        else:
            at = table.weight_item.line - 1
            lines[at] = _append(lines[at], added)
        return MosesIni.parse(b"".join(lines), self.path)

    def _feature(
        self, item: Item, class_name: str, name: str, options: dict[str, str]
    ) -> PhraseTableFeature:
        count = options.get("num-features", "1")  # FeatureFunction.cpp: m_numScoreComponents(1)
        if not re.fullmatch("[0-9]+", count):
            raise item.error(f"num-features is not a number: {quoted(count)}")
        lines = {w.tokens[0]: w for w in self.values("weight-add", "weight")}
        last = lines.get(_bytes(f"{name}="))  # a later line replaced an earlier one
        weights = read_weights(last) if last else None
        return PhraseTableFeature(item, class_name, name, options, int(count), weights, last)

    def _add_weight_line(self, lines: list[bytes], weights: bytes) -> None:
        """Put a weight line behind the last one, or make the section at the end of the file."""
        end = b"\r\n" if lines[0].endswith(b"\r\n") else b"\n"
        last = max((item.line for item in self.items if item.section == "weight"), default=0)
        if not last:
            weights = end + b"[weight]" + end + weights
        complete = lines[last - 1].endswith(b"\n")
        lines[last - 1] += weights + end if complete else end + weights


def require_weights(table: PhraseTableFeature) -> None:
    """Check that there are num-features weights, or no weight line at all.

    Raises:
        DataError: There are not; Moses stops there (moses/FF/Factory.cpp, DefaultSetup).
    """
    if table.weight_item and len(table.weights or ()) != table.num_features:
        found = f"{len(table.weights or ())} weights but num-features is {table.num_features}"
        raise table.weight_item.error(f"{table.name} has {found} in line {table.line}")


def require_scores(table: PhraseTableFeature, score_count: int) -> None:
    """Check that num-features is the number of scores in the phrase table.

    Raises:
        DataError: It is not; Moses would refuse the table (LoaderStandard.cpp) or, as moses2
            and ProbingPT do, read wrong scores without a word.
    """
    if table.num_features != score_count:
        found = f"but the phrase table has {score_count} scores"
        raise table.item.error(f"num-features is {table.num_features} {found}")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")  # any bytes come back unchanged


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _content_end(line: bytes) -> int:
    """Where the part of a line that Moses reads ends: `#` starts a comment anywhere."""
    return len(line.split(b"#", 1)[0].rstrip(b" \t\r\n"))


def _read_items(lines: Sequence[bytes], ini_path: str) -> Iterator[Item]:
    section = ""
    for number, line in enumerate(lines, 1):
        text = line[: _content_end(line)].lstrip(b" \t\r\n")
        if not text.startswith(b"["):
            if text:
                yield Item(ini_path, section, number, text)
        elif b"]" in text:  # otherwise Moses skips the line and stays in the section
            section = _text(text[1 : text.index(b"]")])
            yield Item(ini_path, section, number, b"")


def _read_options(item: Item) -> dict[str, str]:
    options: dict[str, str] = {}
    for token in item.tokens[1:]:
        key, equals, value = _text(token).partition("=")
        if not equals:
            raise item.error(f"not of the form key=value: {quoted(token)}")
        if key in options:
            raise item.error(f"duplicate key {key}=")
        options[key] = value
    return options


def _check_weight_line(item: Item) -> None:
    """Refuse `LM0=0.5`: Moses chops the last character of the first token to get the name."""
    if len(item.tokens) < 2 or item.tokens[0].find(b"=") != len(item.tokens[0]) - 1:
        raise item.error("a weight line must be Name= 0.2 0.2, with a blank after the =")


def read_weights(item: Item) -> tuple[float, ...]:
    """The weights on a line of [weight].

    Raises:
        DataError: One of them is not a number.
    """
    try:
        return tuple(float(token) for token in item.tokens[1:])
    except ValueError as error:
        raise item.error("a weight is not a number") from error


def _names(tables: Sequence[PhraseTableFeature]) -> str:
    return f"{', '.join(table.name for table in tables)}; choose one with --table-name"


def _require_text_table(table: PhraseTableFeature, new_columns: int) -> None:
    kind, error = table.class_name, table.item.error
    if kind == TEXT_TABLE and not table.path:
        raise error("no path= on the line of the phrase table")
    if _COMBINING_CLASS.fullmatch(kind):
        raise error(f"{kind} combines tables; name a member with --table-name")
    if kind != TEXT_TABLE:
        remedy = f"put the text table here with class {TEXT_TABLE} and rescore that"
        if kind in BINARISERS:
            command = BINARISERS[kind].format(table.num_features + new_columns)
            remedy += f", then binarise it again: {command}"
        raise error(f"{kind} does not read a phrase table in text form; {remedy}")


def check_path(path: str) -> None:
    """Check a `path=` before it is written.

    Raises:
        UsageError: moses.ini cannot hold it.
    """
    if not path or re.search("[# \t\r\n]", path):
        reason = "it must not be empty, nor have a blank or a # in it"
        raise UsageError(f"moses.ini cannot hold the path {quoted(path)}: {reason}")


def _check_start_weights(start_weights: Sequence[float]) -> None:
    if not start_weights or not all(math.isfinite(weight) for weight in start_weights):
        given = _numbers(start_weights).decode() or " none"
        raise UsageError(f"every new column needs a finite start weight, given:{given}")


def _numbers(values: Sequence[float]) -> bytes:
    return b"".join(f" {value:.6g}".encode() for value in values)


def _append(line: bytes, text: bytes) -> bytes:
    end = _content_end(line)
    return line[:end] + text + line[end:]


def _set_option(line: bytes, key: str, value: str) -> bytes:
    """Replace what follows `key=` on a feature line, or append the option."""
    option = re.compile(rb"[ \t]" + key.encode() + rb"=([^ \t]*)")
    found = option.search(line, 0, _content_end(line))
    if found:
        return line[: found.start(1)] + _bytes(value) + line[found.end(1) :]
    return _append(line, _bytes(f" {key}={value}"))


def _widened(line: bytes, table: PhraseTableFeature, new_columns: int, path: str) -> bytes:
    line = _set_option(line, "num-features", str(table.num_features + new_columns))
    if tuneable := table.options.get("tuneable-components"):
        line = _set_option(line, "tuneable-components", tuneable + ",1" * new_columns)
    return _set_option(line, "path", path)
