"""Weights for n-best lists with more features, and the best hypotheses under them.

Moses' own kbmira or mert learns the weights from what its extractor makes of the list, as in one
iteration of mert-moses.pl; the decoder is not run again (compare scripts/nbest-rescore).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import isfinite
from operator import mul
from pathlib import Path

from moses_integration.decoder.programs import Argument, Moses, ProgramError, run_program
from moses_integration.decoder.tuning import TuningSettings, bleu, one_weight
from moses_integration.formats.moses_ini import Weights
from moses_integration.formats.nbest import Hypothesis, read_nbest
from phrase_scorer.errors import DataError, printable
from phrase_scorer.runtime.numbers import real_number, whole_number
from phrase_scorer.runtime.output import OutputFile, write_file
from phrase_scorer.runtime.streams import line_blocks, numbered_lines
from phrase_scorer.text.phrase_pairs import words_of

NBEST_MIRA_ROUNDS = 300  # kbmira's rounds, as in scripts/nbest-rescore/train.py
RESTARTS = 20  # mert's random starts, as in mert-moses.pl

NEVER_LISTED = "UnknownWordPenalty"  # not tuneable, so in no n-best list

_BEST = re.compile(r"Best point: (.*) => (\S+)")


def learn_weights(
    moses: Moses, nbest: Path, reference: Path, folder: Path, start: Weights,
    settings: TuningSettings,
) -> Weights:  # fmt: skip
    """Weights for all dense and sparse features of an n-best list.

    Args:
        moses: The installation that has extractor, kbmira and mert.
        nbest: The list of a tuning set; plain or gz.
        reference: The tuning set's translation.
        folder: Where the programs work and leave their log.
        start: The weights to start from; a new feature starts at 0.
        settings: The optimizer (mert knows no sparse features), its seed and threads.

    Raises:
        DataError: A broken list, or one for another number of sentences than the reference has.
        ProgramError: A program failed; its log is kept.
    """
    first = _check_sentences(nbest, reference)
    dense = {os.fsdecode(n): values for n, values in first.features.items() if b"_" not in n}
    places = [(name, place) for name, values in dense.items() for place in range(len(values))]
    initial = [one_weight(start, name, place) for name, place in places]
    learner = _Learner(moses, folder, [name for name, _ in places], initial, settings)
    moses.note_in(learner.log)
    # BLEU is of the surface, the first factor.
    learner.run("extractor", "--sctype", "BLEU", "--scconfig", "case:true", "--factors", "0",
                "-r", reference, "-n", nbest)  # fmt: skip
    return _normalised(learner.kbmira() if settings.optimizer == "mira" else learner.mert())


@dataclass(frozen=True)
class _Learner:
    """Moses' programs that learn, in one folder and with one log."""

    moses: Moses
    folder: Path
    names: list[str]  # of the dense features, one per weight
    initial: list[float]  # their weights
    settings: TuningSettings

    @property
    def log(self) -> Path:
        return self.folder / "rescore-nbest.log"

    def run(self, program: str, *words: Argument) -> None:
        """Runs a program on what the extractor writes."""
        files = "--ffile", self.folder / "features.dat", "--scfile", self.folder / "scores.dat"
        command = [self.moses.program(program), *words, *files]
        run_program(command, log=self.log, cwd=self.folder)

    def kbmira(self) -> Weights:
        start, out = self.folder / "start.dense", self.folder / "mira.out"
        rows = zip(self.names, self.initial, strict=True)
        write_file(start, "".join(f"{name}= {value:.8g}\n" for name, value in rows).encode())
        self.run("kbmira", "--dense-init", start, "-J", str(NBEST_MIRA_ROUNDS),
                 "-r", str(self.settings.seed), "-o", out)  # fmt: skip
        if not out.is_file():  # no weights changed anything
            raise ProgramError(f"kbmira found no weights; its log is {self.log}")
        values, sparse = list(self.initial), {}
        for number, line in numbered_lines(out):
            name, _, text = line.rpartition(b" ")
            place, value = whole_number(name[1:], len(values) - 1), real_number(text)
            if value is None:
                raise DataError("not a weight", path=out, line=number, text=line)
            if name.startswith(b"F") and place is not None:
                values[place] = value
            else:
                sparse[os.fsdecode(name)] = (value,)
        return {**self._by_name(values), **sparse}

    def mert(self) -> Weights:
        start, count = self.folder / "init.opt", len(self.initial)
        rows = (self.initial, [0.0] * count, [1.0] * count)
        text = "".join(" ".join(f"{v:.8g}" for v in row) + "\n" for row in rows)
        write_file(start, text.encode())
        self.run("mert", "-d", str(count), "-n", str(RESTARTS), "-r", str(self.settings.seed),
                 "--threads", str(self.settings.threads), "--ifile", start)  # fmt: skip
        best = _BEST.findall(self.log.read_text(errors="replace"))
        told = best[-1][0].split() if best else []
        values = [value for text in told if (value := real_number(text)) is not None]
        if len(values) != count:
            raise ProgramError(f"mert told no best point; its log is {self.log}")
        return self._by_name(values)

    def _by_name(self, values: Sequence[float]) -> Weights:
        weights: Weights = {}
        for name, value in zip(self.names, values, strict=True):
            weights[name] = (*weights.get(name, ()), value)
        return weights


def _normalised(weights: Weights) -> Weights:
    """Absolute values that sum to 1, as mert-moses.pl leaves them."""
    total = sum(abs(value) for values in weights.values() for value in values) or 1.0
    return {name: tuple(value / total for value in values) for name, values in weights.items()}


def _check_sentences(nbest: Path, reference: Path) -> Hypothesis:
    """The list's first hypothesis; refuses a list without all sentences of the reference."""
    first, sentences = None, 0
    for hypotheses in _with_equal_features(nbest):
        first = first or hypotheses[0]
        for hypothesis in hypotheses:
            _check_finite(hypothesis)
        if hypotheses[0].sentence != sentences:
            raise hypotheses[0].error(f"sentence {sentences} is missing", None)
        sentences += 1
    references = sum(len(block.lines) for block in line_blocks(reference))
    if sentences != references:
        found = f"{sentences:,} sentences, but {reference} has {references:,} lines"
        raise DataError(found, path=nbest)
    assert first
    return first


def _with_equal_features(nbest: str | Path) -> Iterator[list[Hypothesis]]:
    """The hypotheses of a list by sentence; refuses one without the first one's dense features.

    The order is part of it: the extractor, and mert, know features by their places alone.
    """
    first, shape = None, None
    for hypotheses in read_nbest(nbest):
        for hypothesis in hypotheses:
            features = hypothesis.features
            found = list(features), list(map(len, features.values()))
            if found != shape:  # as it is where there are sparse ones
                dense = [each for each in zip(*found, strict=True) if b"_" not in each[0]]
                first = dense if first is None else first
                pairs = zip_longest(first, dense)
                for name, _ in (one or other for one, other in pairs if one != other):
                    what = "not the dense features of the first line, in its order"
                    raise hypothesis.error(what, name)
                shape = found
        yield hypotheses


def _check_finite(hypothesis: Hypothesis) -> None:
    for name, values in hypothesis.features.items():
        if not all(map(isfinite, values)):
            shown = b"%b= %b" % (name, " ".join(map(str, values)).encode())
            raise hypothesis.error("a feature is not finite", shown)


def total(hypothesis: Hypothesis, weights: Mapping[bytes, Sequence[float]]) -> float:
    """The weighted sum of a hypothesis' features; weights by the bytes of the names.

    A feature must have a weight for each of its values (DataError).
    """
    result = 0.0
    for name, values in hypothesis.features.items():
        known = weights.get(name)
        if known is None and b"_" in name:  # sparse, and never seen in tuning: it weighs nothing
            continue
        if known is None or len(known) != len(values):
            found = f"{len(known)} weights for its {len(values)} values" if known else "no weight"
            raise hypothesis.error(f"the feature {os.fsdecode(name)} has {found}", None)
        result += sum(map(mul, known, values))
    if not isfinite(result):
        _check_finite(hypothesis)
        raise hypothesis.error("the weighted sum is not finite", None)
    return result


def rerank(
    nbest: str | Path, weights: Weights, output: str | Path, *, whole_list: bool = False,
    say: Callable[[str], object] = lambda _: None,
) -> int:  # fmt: skip
    """Writes the best hypothesis per sentence, or the whole list in its new order.

    Hypotheses with equal totals keep their order. A sentence number that the list leaves out
    becomes an empty line. `say` is told of weights that weigh nothing. Returns the number of
    sentences.
    """
    sentences, first = 0, True
    with OutputFile(output, inputs=[nbest]) as out:
        for ranked in _ranked(nbest, weights):
            hypothesis = ranked[0][1]
            if first and (idle := _idle_weights(weights, hypothesis)):
                say(f"warning: weights for what the list has not: {printable(', '.join(idle))}")
            first = False
            if whole_list:
                text = b"".join(h.with_total(score) + b"\n" for score, h in ranked)
            else:
                gap = b"\n" * (hypothesis.sentence - sentences)
                text = gap + b" ".join(hypothesis.tokens) + b"\n"
            out.write(text)
            sentences = hypothesis.sentence + 1
    return sentences


def _idle_weights(weights: Weights, hypothesis: Hypothesis) -> list[str]:
    """The dense weights whose feature a list does not have; Moses itself never lists some."""
    known = {os.fsdecode(name) for name in hypothesis.features}
    return [
        name
        for name, values in weights.items()
        if any(values) and not (name in known or "_" in name or name.startswith(NEVER_LISTED))
    ]


def nbest_bleu(nbest: Path, reference: Path, weights: Weights | None) -> float:
    """sacreBLEU, in percent, of the best hypotheses under some weights, or of the first ones."""
    ranked = _ranked(nbest, weights) if weights else ([(0.0, h[0])] for h in read_nbest(nbest))
    return bleu([b" ".join(hypotheses[0][1].words) for hypotheses in ranked], reference)


def _ranked(nbest: str | Path, weights: Weights) -> Iterator[list[tuple[float, Hypothesis]]]:
    known = {os.fsencode(name): values for name, values in weights.items()}
    for hypotheses in _with_equal_features(nbest):
        scored = [(total(h, known), h) for h in hypotheses]
        yield sorted(scored, key=lambda pair: -pair[0])  # stable


def write_weights(path: str | Path, weights: Weights) -> None:
    """Writes weights as lines `Name= w w`, as a moses.ini and nbest-rescore have them."""
    lines = [f"{name}= {' '.join(f'{v:.8g}' for v in values)}" for name, values in weights.items()]
    write_file(path, os.fsencode("\n".join(lines) + "\n"))


def read_weights(path: str | Path) -> Weights:
    """Weights as `write_weights` wrote them, or the [weight] section of a moses.ini.

    A line of another kind, a name that stands twice, a weight that is not finite, or no line at all
    is a DataError.
    """
    weights: Weights = {}
    section = b"[weight]"
    for number, line in numbered_lines(path, mark="strip"):
        text = words_of(line.removesuffix(b"\r").partition(b"#")[0])
        if text and text[0].startswith(b"["):
            section = text[0]
        elif text and section == b"[weight]":
            name = os.fsdecode(text[0][:-1])
            values = [value for v in text[1:] if (value := real_number(v)) is not None]
            what = f"{name} has weights already" if name in weights else ""
            if not text[0].endswith(b"=") or not values or len(values) < len(text) - 1:
                what = "not a line of weights, Name= 0.2 0.2"
            if what:
                raise DataError(what, path=path, line=number, text=line)
            weights[name] = tuple(values)
    if not weights:
        raise DataError("no weights in it", path=path)
    return weights
