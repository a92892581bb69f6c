"""moses.ini, read: its lines as bytes, its features and weights, the files that it names.

Only this module knows what `[feature]` and `[weight]` mean to Moses; `ini_edits` writes them. It
opens no phrase table and runs no Moses program: callers give the number of scores.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from phrase_scorer.errors import DataError, UsageError, quoted
from phrase_scorer.runtime.numbers import real_number, whole_number
from phrase_scorer.runtime.output import real_path, reason
from phrase_scorer.runtime.streams import BYTE_ORDER_MARK

Weights = dict[str, tuple[float, ...]]  # by feature name, in the order of the file

TEXT_TABLE = "PhraseDictionaryMemory"  # the one class that reads a phrase-based table as text
MOST_FEATURES = 10_000  # of one table; mert is at its end with 30
MERT_NAME = re.compile(r"[A-Za-z][0-9A-Za-z]*")  # mert-moses.pl takes any other for sparse
BINARISERS = {
    "PhraseDictionaryCompact": "processPhraseTableMin -in NEW.gz -out NEW -nscores {} -threads 1",
    "PhraseDictionaryOnDisk": "CreateOnDiskPt 1 1 {} 100 2 NEW.gz NEW",
    "ProbingPT": "CreateProbingPT --num-scores {} --log-prob --input-pt NEW.gz --output-dir NEW",
}

_TABLE_CLASS = re.compile(r"PhraseDictionary\w*|ProbingPT|RuleTable|Mmsapt")
_COMBINING_CLASS = re.compile(r"PhraseDictionary(Group|MultiModel\w*)")
_SUFFIXES = ("", ".gz", ".minphr", ".minlexr", ".binphr.idx", ".binlexr.idx")  # as Moses tries
_PATH = re.compile(rb"(?<=[ \t]path=)[^ \t]+")


@dataclass(frozen=True)
class IniLine:
    """One line that Moses keeps: a value, or (with empty text) the header of its section."""

    ini_path: str
    section: str
    line: int  # its number, from 1
    text: bytes  # without the comment and the blanks around it

    @property
    def tokens(self) -> list[bytes]:
        """The text cut at blanks and tabs, as Moses cuts it."""
        return re.split(rb"[ \t]+", self.text)

    @property
    def name(self) -> str:
        """The first token: the class of a feature, or the feature to which weights belong."""
        return os.fsdecode(self.tokens[0]).removesuffix("=")

    def error(self, message: str) -> DataError:
        """The error to raise about this line."""
        text = self.text or f"[{self.section}]"
        return DataError(message, path=self.ini_path, line=self.line, text=text)


@dataclass(frozen=True)
class Feature:
    """A line of the [feature] section."""

    item: IniLine
    class_name: str
    path: str  # its `path=`; empty where it has none

    @property
    def line(self) -> int:
        """The number of the line, from 1."""
        return self.item.line

    def factors(self, side: Literal["input", "output"]) -> tuple[int, ...]:
        """The factors of its words, `input-factor=0,1`; DataError for what is no list of them."""
        for token in self.item.tokens:
            key, _, value = token.partition(b"=")
            if key == f"{side}-factor".encode():
                texts = value.split(b",")
                found = [f for text in texts if (f := whole_number(text)) is not None]
                if len(found) < len(texts):
                    raise self.item.error(f"not a list of factors: {side}-factor=0,1")
                return tuple(found)
        return (0,)

    @property
    def factor_counts(self) -> tuple[int, int]:
        """How many factors a word of its sources and of its targets has."""
        return len(self.factors("input")), len(self.factors("output"))

    @property
    def is_glue_grammar(self) -> bool:
        """Whether filter-model-given-input.pl takes it for the glue grammar: by its path."""
        return "glue-grammar" in self.path

    def require_path(self) -> None:
        """Refuse (DataError) a line that does not say where the file is."""
        if not self.path:
            raise self.item.error("no path= on the line of the phrase table")

    def place(self) -> Path:
        """What `path=` means, see `place_of`; a line without it is refused, too."""
        self.require_path()
        return place_of(self.item, self.path)

    def file(self) -> Path:
        """The file that Moses' scripts take: `place`, or `place` with .gz."""
        place = self.place()
        return place if place.is_file() else Path(f"{place}.gz")

    def files(self) -> list[Path]:
        """All files behind `path=`, with the suffixes that Moses adds; of a folder, those in it."""
        place = self.place()
        found = [Path(f"{place}{suffix}") for suffix in _SUFFIXES]
        inside = sorted(path for folder in found if folder.is_dir() for path in folder.rglob("*"))
        return [path for path in (*found, *inside) if path.is_file()]


@dataclass(frozen=True)
class PhraseTableFeature(Feature):
    """One phrase table of the [feature] section, with its weights."""

    name: str  # `name=`, or class and counter
    options: dict[str, str]  # key=value in the order of the line
    num_features: int
    weights: tuple[float, ...] | None  # None: no weight line, Moses takes 1.0 for all
    weight_item: IniLine | None


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
        """Read a file; DataError where it cannot be read or `parse` refuses it."""
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise DataError(f"cannot read: {reason(error)}", path=path) from error
        return cls.parse(data, path)

    @classmethod
    def parse(cls, data: bytes, path: str | os.PathLike[str] = "moses.ini") -> MosesIni:
        """Take the content of a file; `path` is for messages.

        Raises:
            DataError: A line before the first section, an old-style ini, no blank after `Name=` on
                a weight line, a phrase table line with a duplicate key, without `=`, or whose
                num-features is not a number.
        """
        ini = cls(os.fspath(path), tuple(re.findall(rb"[^\n]*\n|[^\n]+", data)))
        for item in ini.items:
            if item.text and not item.section:
                mark = ", here behind a byte order mark" * item.text.startswith(BYTE_ORDER_MARK)
                raise item.error(f"a line before the first [section]{mark} (Moses stops)")
            if item.section == "ttable-file":
                raise item.error("old-style moses.ini; make one with [feature] (train-model.perl)")
        for item in ini.values("weight-add", "weight"):
            first, *values = item.tokens  # Moses chops the last character of `first` to get a name
            if not values or first.find(b"=") != len(first) - 1:
                raise item.error("a weight line must be Name= 0.2 0.2, with a blank after the =")
        _ = ini.phrase_tables  # raises what is wrong with them
        return ini

    def with_lines(self, lines: Iterable[bytes]) -> MosesIni:
        """The same file with other lines, parsed."""
        return self.parse(b"".join(lines), self.path)

    def to_bytes(self) -> bytes:
        """The content of the file."""
        return b"".join(self.lines)

    @cached_property
    def items(self) -> tuple[IniLine, ...]:
        """All values and section headers, by line."""
        return tuple(_read_items(self.lines, self.path))

    def values(self, *sections: str) -> list[IniLine]:
        """The values of the sections, in Moses's order: section by section, then by line."""
        return [item for s in sections for item in self.items if item.section == s and item.text]

    @cached_property
    def phrase_tables(self) -> tuple[PhraseTableFeature, ...]:
        """All phrase tables in the order that [mapping] counts them."""
        weight_lines = {item.name: item for item in self.values("weight-add", "weight")}
        unnamed: Counter[str] = Counter()
        tables = []
        for item in self.values("feature", "feature-add"):
            if _TABLE_CLASS.fullmatch(item.name):
                options = _read_options(item)
                name = options.get("name") or f"{item.name}{unnamed[item.name]}"
                unnamed[item.name] += not options.get("name")  # Moses counts only these lines
                tables.append(_phrase_table(item, name, options, weight_lines.get(name)))
        return tuple(tables)

    def tables(self, name: str | None) -> list[PhraseTableFeature]:
        """The phrase tables of that name (UsageError: unknown); without a name, all but glue
        grammars. DataError where that leaves none.
        """
        every = self.phrase_tables
        found = [t for t in every if (t.name == name if name else not t.is_glue_grammar)]
        if name and every and not found:
            raise UsageError(f"{self.path}: no phrase table {quoted(name)} among {_names(every)}")
        if not found:
            raise DataError("no phrase table in [feature]", path=self.path)
        return found

    def phrase_table(self, name: str | None = None, new_columns: int = 1) -> PhraseTableFeature:
        """The table that gets columns: by feature name, or the only text table but glue grammar.

        Raises:
            DataError: No phrase table; its class does not read text (the message has the
                binarise command for `new_columns` more); no `path=`; weights that do not fit.
            UsageError: Unknown name, or several tables and no name.
        """
        tables = self.tables(name)
        fitting = [table for table in tables if name or table.class_name == TEXT_TABLE]
        if len(fitting) > 1:
            raise UsageError(f"{self.path}: several phrase tables: {_names(fitting)}")
        table = (fitting or tables)[0]
        _require_text_table(table, new_columns)
        require_weights(table)
        return table


def feature_files(ini: MosesIni) -> list[Feature]:
    """The features with `path=`, in the order of the file."""
    features = ini.values("feature", "feature-add")
    return [Feature(item, item.name, path) for item in features if (path := _path_on(item))]


def place_of(item: IniLine, path: str) -> Path:
    """The file that a line means: seen from the current folder or, failing that, the ini's.

    Moses knows only the first; most people run it in the folder of the ini. The result is
    absolute, and as long or short as `path` was where Moses adds a suffix by itself. DataError
    where the file is in neither.
    """
    for folder in (Path.cwd(), real_path(item.ini_path).parent):
        place = Path(os.path.normpath(folder / path))
        if any(Path(f"{place}{suffix}").exists() for suffix in _SUFFIXES):
            return place
    raise item.error("the file of this line is not there")


def weights_of(ini: MosesIni) -> Weights:
    """The weights by feature name; DataError for one that is not a number."""
    return {item.name: _weights_on(item) for item in ini.values("weight")}


def require_weights(table: PhraseTableFeature) -> None:
    """Refuse (DataError) a weight line without num-features weights, as Moses does
    (moses/FF/Factory.cpp, DefaultSetup).
    """
    if table.weight_item and len(table.weights or ()) != table.num_features:
        found = f"{len(table.weights or ())} weights but num-features is {table.num_features}"
        raise table.weight_item.error(f"{table.name} has {found} in line {table.line}")


def require_scores(table: PhraseTableFeature, score_count: int) -> None:
    """Refuse (DataError) a num-features that is not the number of scores in the phrase table.

    Moses refuses it, too (LoaderStandard.cpp), but moses2 and ProbingPT read wrong scores silently.
    """
    if table.num_features != score_count:
        found = f"but the phrase table has {score_count} scores"
        raise table.item.error(f"num-features is {table.num_features} {found}")


def content_end(line: bytes) -> int:
    """Where the part of a line that Moses reads ends: `#` starts a comment anywhere."""
    return len(line.split(b"#", 1)[0].rstrip(b" \t\r\n"))


def _read_items(lines: Sequence[bytes], ini_path: str) -> Iterator[IniLine]:
    section = ""
    for number, line in enumerate(lines, 1):
        text = line[: content_end(line)].lstrip(b" \t\r\n")
        if not text.startswith(b"["):
            if text:
                yield IniLine(ini_path, section, number, text)
        elif b"]" in text:  # otherwise Moses skips the line and stays in the section
            section = os.fsdecode(text[1 : text.index(b"]")])
            yield IniLine(ini_path, section, number, b"")


def _read_options(item: IniLine) -> dict[str, str]:
    options: dict[str, str] = {}
    for token in item.tokens[1:]:
        key, equals, value = os.fsdecode(token).partition("=")
        if not equals:
            raise item.error(f"not of the form key=value: {quoted(token)}")
        if key in options:
            raise item.error(f"duplicate key {key}=")
        options[key] = value
    return options


def _phrase_table(
    item: IniLine, name: str, options: dict[str, str], weight_item: IniLine | None
) -> PhraseTableFeature:
    text = options.get("num-features", "1")  # FeatureFunction.cpp: m_numScoreComponents(1)
    count = whole_number(text, MOST_FEATURES)
    if count is None:
        what = f"num-features is not a number up to {MOST_FEATURES}"
        raise item.error(f"{what}: {quoted(text)}")
    weights = _weights_on(weight_item) if weight_item else None
    return PhraseTableFeature(
        item, item.name, _path_on(item), name, options, count, weights, weight_item
    )


def _path_on(item: IniLine) -> str:
    path = _PATH.search(item.text)
    return os.fsdecode(path[0]) if path else ""


def _weights_on(item: IniLine) -> tuple[float, ...]:
    weights = [weight for token in item.tokens[1:] if (weight := real_number(token)) is not None]
    if len(weights) < len(item.tokens) - 1:
        raise item.error("a weight is not a number")
    return tuple(weights)


def _names(tables: Sequence[PhraseTableFeature]) -> str:
    return f"{', '.join(table.name for table in tables)}; choose one with --table-name"


def _require_text_table(table: PhraseTableFeature, new_columns: int) -> None:
    kind, error = table.class_name, table.item.error
    if kind == TEXT_TABLE:
        return table.require_path()
    if _COMBINING_CLASS.fullmatch(kind):
        raise error(f"{kind} combines tables; name a member with --table-name")
    remedy = f"put the text table here with class {TEXT_TABLE} and rescore that"
    if kind in BINARISERS:
        command = BINARISERS[kind].format(table.num_features + new_columns)
        remedy += f", then binarise it again: {command}"
    raise error(f"{kind} does not read a phrase table in text form; {remedy}")
