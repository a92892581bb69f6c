"""N-best lists of Moses as a stream: read, features appended, written; all else unchanged.

`number ||| hypothesis ||| Name= v v … ||| total [||| segmentation] [||| alignment]`, as written by
moses (Manager.cpp:1605) and moses2; the order of the features is the decoder's. Values are natural
logarithms. `Name_key= v` is one sparse value of the feature Name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from moses_integration.formats.moses_ini import MERT_NAME
from moses_integration.formats.phrase_table import SEPARATOR
from phrase_scorer.errors import DataError, UsageError, quoted
from phrase_scorer.runtime.numbers import real_number, whole_number
from phrase_scorer.runtime.streams import numbered_lines

LOG_10 = 2.302585092994046  # natural logarithm of 10: KenLM speaks log10, Moses does not

_FIELDS = 4  # number, hypothesis, features, total: what a line must have
_FEATURES = 2  # the place of the features among the fields
_SPAN = re.compile(rb"(\d{1,20})(?:-(\d{1,20}))?=(?:(\d{1,20})(?:-(\d{1,20}))?)?")

Features = dict[bytes, list[float]]
Span = tuple[int, int]  # first word and the one after the last, from 0


@dataclass(frozen=True)
class Hypothesis:
    """One line of an n-best list; a broken part is refused (DataError) when it is asked for."""

    path: str  # of the list, for messages
    line: int  # its number, from 1
    fields: list[bytes]  # as read, between the bars

    @cached_property
    def sentence(self) -> int:
        """Which input sentence it translates, from 0."""
        text = self.fields[0].strip()
        number = whole_number(text)
        if number is None:
            raise self.error("the sentence number is not a number", text)
        return number

    @cached_property
    def words(self) -> list[bytes]:
        """The translation, with all factors of its words."""
        return self.fields[1].split()

    @cached_property
    def features(self) -> Features:
        """The values of each feature, in the order of the line; a sparse one has one value."""
        features: Features = {}
        values: list[float] | None = None
        for token in self.fields[_FEATURES].split():
            if token.endswith(b"="):
                if token[:-1] in features:
                    raise self.error("a feature stands twice", token)
                values = features[token[:-1]] = []
            else:
                value = real_number(token, finite=False)
                if values is None or value is None:
                    raise self.error("neither Name= nor a number among the features", token)
                values.append(value)
        return features

    @property
    def total(self) -> float:
        """The decoder's weighted sum."""
        text = self.fields[3].strip()
        total = real_number(text, finite=False)
        if total is None:
            raise self.error("the total is not a number", text)
        return total

    @property
    def segmentation(self) -> list[tuple[Span, Span]]:
        """(source words, target words) of each phrase, in target order."""
        text = self.fields[_FIELDS] if len(self.fields) > _FIELDS else b""
        if b"=" not in text and self.words:
            raise self.error("no segmentation; decode with --segmentation", None)
        spans = []
        for token in text.split():
            match = _SPAN.fullmatch(token)
            if match is None:
                raise self.error("not a segmentation (source=target …)", text.strip())
            spans.append((_span(match[1], match[2]), _span(match[3], match[4])))
        return spans

    def with_features(self, values: Iterable[tuple[str, float]]) -> bytes:
        """The line with more features at the end of the third field."""
        added = b"".join(f" {name}= {value:.6g}".encode() for name, value in values)
        fields = list(self.fields)
        fields[_FEATURES] = fields[_FEATURES].rstrip(b" ") + added + b" "
        return SEPARATOR.join(fields)

    def with_total(self, total: float) -> bytes:
        """The line with another total."""
        end = " " if len(self.fields) > _FIELDS else ""
        fields = [*self.fields[:3], f" {total:.6g}{end}".encode(), *self.fields[_FIELDS:]]
        return SEPARATOR.join(fields)

    def error(self, message: str, text: bytes | None) -> DataError:
        """The error to raise about this line."""
        return DataError(message, path=self.path, line=self.line, text=text)


def _span(first: bytes | None, last: bytes | None) -> Span:
    if first is None:  # an empty target phrase
        return (0, 0)
    return (int(first), int(last or first) + 1)


def read_nbest(path: str | Path) -> Iterator[list[Hypothesis]]:
    """The hypotheses sentence by sentence, in the order of the list, which must be theirs."""
    group: list[Hypothesis] = []
    for hypothesis in _hypotheses(path):
        if group and hypothesis.sentence != group[0].sentence:
            if hypothesis.sentence < group[0].sentence:
                before = f"sentence {hypothesis.sentence} after sentence {group[0].sentence}"
                text = hypothesis.fields[0].strip()
                raise hypothesis.error(f"the list is out of order, {before}", text)
            yield group
            group = []
        group.append(hypothesis)
    if group:
        yield group


def _hypotheses(path: str | Path) -> Iterator[Hypothesis]:
    for line, text in numbered_lines(path):
        fields = text.split(SEPARATOR)
        hypothesis = Hypothesis(str(path), line, fields)
        if len(fields) < _FIELDS:
            found = f"{len(fields)} field{'s' * (len(fields) != 1)}"
            expected = "expected number ||| hypothesis ||| features ||| total"
            raise hypothesis.error(f"{found}, {expected}", text)
        yield hypothesis


def check_feature_name(name: str) -> None:
    """Refuses (UsageError) a new feature's name that mert would take for a sparse one's."""
    if not MERT_NAME.fullmatch(name):
        why = "a letter, then letters and digits (mert takes others for sparse)"
        raise UsageError(f"a feature cannot be called {quoted(name)}: {why}")
