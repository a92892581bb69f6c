"""N-best lists of Moses as a stream: read, features appended, written; all else unchanged.

`number ||| hypothesis ||| Name= v v … ||| total [||| segmentation] [||| alignment]`, as written by
moses (Manager.cpp:1605) and moses2; the order of the features is the decoder's. Values are natural
logarithms. `Name_key= v` is one sparse value of the feature Name.

Fields are cut at each `|||`, as by Moses' own readers (mert/Data.cpp:155). A hypothesis that holds
one (moses -factor-delimiter writes such) shifts the fields behind it, and is refused for that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

from moses_integration.formats.moses_ini import MERT_NAME
from moses_integration.formats.phrase_table import SEPARATOR, surface_words
from phrase_scorer.errors import DataError, UsageError, quoted
from phrase_scorer.runtime.numbers import real_number, whole_number
from phrase_scorer.runtime.streams import numbered_lines
from phrase_scorer.text.phrase_pairs import words_of

LOG_10 = 2.302585092994046  # natural logarithm of 10: KenLM speaks log10, Moses does not

_FIELDS = 4  # number, hypothesis, features, total: what a line must have
_LAST_SENTENCE = 10**8  # reranking writes an empty line for each number left out
_FEATURES, _TOTAL = 2, 3  # the places of the features and of the total among them
_VALUES = re.compile(  # numbers, and labels Name=
    rb"(?:[ \t]*+(?:[+-]?(?:(?:\d++\.?\d*+|\.\d++)(?:[eE][+-]?\d++)?|inf|nan)(?![^ \t])"
    rb"|[^ \t]++(?<==)))*+[ \t]*+"
)
_SPAN = re.compile(rb"(\d{1,20})(?:-(\d{1,20}))?=(\d{1,20})(?:-(\d{1,20}))?")
_BEFORE_THE_FIRST = ((1 << 64) - 1, (1 << 32) - 1)  # 0 - 1, as Moses' unsigned numbers have it

Features = dict[bytes, list[float]]
Span = tuple[int, int]  # first word and the one after the last, from 0


@dataclass(frozen=True)
class Hypothesis:
    """One line of an n-best list, its four fields checked.

    What it says of words and spans is refused (DataError), where it is broken, when asked for.
    """

    path: str  # of the list, for messages
    line: int  # its number, from 1
    fields: list[bytes]  # as read, between the bars

    def __post_init__(self) -> None:
        fields = self.fields
        if len(fields) < _FIELDS:
            found = f"{len(fields)} field{'s' * (len(fields) != 1)}"
            expected = "expected number ||| hypothesis ||| features ||| total"
            raise self.error(f"{found}, {expected}", SEPARATOR.join(fields))
        if whole_number(fields[0].strip(), _LAST_SENTENCE) is None:
            raise self.error("the sentence number is not a number", fields[0].strip())
        if not _VALUES.fullmatch(fields[_FEATURES]):
            wrong = next(t for t in words_of(fields[_FEATURES]) if not _VALUES.fullmatch(t))
            raise self.error("neither Name= nor a number among the features", wrong)
        if b"=" not in fields[_FEATURES] and any(b"= " in field for field in fields[_FIELDS:]):
            raise self.error("a hypothesis with ||| in it", SEPARATOR.join(fields[1:4]).strip())
        if real_number(fields[_TOTAL].strip(), finite=False) is None:
            raise self.error("the total is not a number", fields[_TOTAL].strip())

    @cached_property
    def sentence(self) -> int:
        """Which input sentence it translates, from 0."""
        return int(self.fields[0])

    @property
    def tokens(self) -> list[bytes]:
        """The words of the translation as they stand there, with all their factors."""
        return words_of(self.fields[1])

    @cached_property
    def words(self) -> list[bytes]:
        """The words of the translation, of each the surface factor."""
        words = surface_words([self.fields[1]])[0]
        if b"" in words:
            mark = self.tokens[words.index(b"")]
            what = "a word without a surface factor (from -report-segmentation?)"
            raise self.error(what, mark)
        return words

    @cached_property
    def features(self) -> Features:
        """The values of each feature, in the order of the line; a sparse one has one value."""
        values: list[float] = []
        features: Features = {b"": values}
        for token in words_of(self.fields[_FEATURES]):
            if not token.endswith(b"="):
                values.append(float(token))
            elif token[:-1] in features:
                raise self.error("a feature stands twice", token)
            else:
                values = features[token[:-1]] = []
        if features.pop(b""):
            text = self.fields[_FEATURES].strip()
            raise self.error("values without names; decode with -labeled-n-best-list true", text)
        return features

    @property
    def total(self) -> float:
        """The decoder's weighted sum."""
        return float(self.fields[_TOTAL])

    def segmentation(self, source_words: int) -> list[tuple[Span, Span]]:
        """(source words, target words) of each phrase, in target order; a target may be empty.

        Moses writes the first word and, after a dash, the last one where it is greater; of an empty
        phrase the last one is before the first. `2=2` is a word or none: what follows decides.
        """
        text = self.fields[_FIELDS].strip() if len(self.fields) > _FIELDS else b""
        words = len(self.words)
        if b"=" not in text and (source_words or words):
            raise self.error("no segmentation; decode with --segmentation", None)
        tokens, spans = words_of(text), list[tuple[Span, Span]]()
        behind = words  # where the target of the phrase behind begins
        for token in reversed(tokens):
            match = _SPAN.fullmatch(token)
            if not match:
                raise self.error("not a segmentation (source=target …)", text)
            if not (found := _spans(match, behind)):
                break
            spans.append(found)
            behind = found[1][0]
        ends = [0, *chain.from_iterable(sorted(source for source, _ in spans)), source_words]
        if len(spans) < len(tokens) or behind > 0 or ends[::2] != ends[1::2]:
            sizes = f"{source_words} source and {words} target words"
            raise self.error(f"the segmentation does not fit {sizes}", text)
        return spans[::-1]

    def with_features(self, values: Iterable[tuple[str, float]]) -> bytes:
        """The line with more features at the end of the third field."""
        added = b"".join(f" {name}= {value:.6g}".encode() for name, value in values)
        fields = list(self.fields)
        fields[_FEATURES] = fields[_FEATURES].rstrip(b" ") + added + b" "
        return SEPARATOR.join(fields)

    def with_total(self, total: float) -> bytes:
        """The line with another total."""
        fields = list(self.fields)
        fields[_TOTAL] = fields[_TOTAL].replace(fields[_TOTAL].strip(), b"%.6g" % total, 1)
        return SEPARATOR.join(fields)

    def error(self, message: str, text: bytes | None) -> DataError:
        """The error to raise about this line."""
        return DataError(message, path=self.path, line=self.line, text=text)


def _spans(match: re.Match[bytes], target_end: int) -> tuple[Span, Span] | None:
    """The spans of one phrase whose target ends there; None where they are none."""
    first, target = int(match[1]), int(match[3])
    end = int(match[2] or match[1]) + 1
    if target < target_end:
        fits = int(match[4] or match[3]) + 1 == target_end
    else:  # an empty target
        no_last = match[4] is None or (target == 0 and int(match[4]) in _BEFORE_THE_FIRST)
        fits = target == target_end and no_last
    return ((first, end), (target, target_end)) if fits and first < end else None


def read_nbest(path: str | Path) -> Iterator[list[Hypothesis]]:
    """The hypotheses sentence by sentence, in the order of the list, which must be theirs.

    A list without a line is a DataError, too.
    """
    group: list[Hypothesis] = []
    for line, text in numbered_lines(path, mark="keep"):  # no sentence number has one
        hypothesis = Hypothesis(str(path), line, text.split(SEPARATOR))
        if group and hypothesis.sentence != group[0].sentence:
            if hypothesis.sentence < group[0].sentence:
                before = f"sentence {hypothesis.sentence} after sentence {group[0].sentence}"
                text = hypothesis.fields[0].strip()
                raise hypothesis.error(f"the list is out of order, {before}", text)
            yield group
            group = []
        group.append(hypothesis)
    if not group:
        raise DataError("the n-best list is empty", path=path)
    yield group


def check_feature_name(name: str) -> None:
    """Refuses (UsageError) a new feature's name that mert would take for a sparse one's."""
    if not MERT_NAME.fullmatch(name):
        why = "a letter, then letters and digits (mert takes others for sparse)"
        raise UsageError(f"a feature cannot be called {quoted(name)}: {why}")
