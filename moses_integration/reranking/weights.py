"""Weights for n-best lists with more features, and the best hypotheses under them.

The weights are learned by Moses' own kbmira or mert on what its extractor makes of the list, as in
one iteration of mert-moses.pl; the decoder is not run again (compare scripts/nbest-rescore).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from operator import mul
from pathlib import Path

from moses_integration.decoder.programs import Moses, ProgramError, run_program
from moses_integration.decoder.tuning import Optimizer, bleu
from moses_integration.formats.moses_ini import Weights
from moses_integration.formats.nbest import Features, Hypothesis, read_nbest
from phrase_scorer.errors import DataError
from phrase_scorer.runtime.output import OutputFile, is_same_file, write_file
from phrase_scorer.runtime.streams import line_blocks

MIRA_ROUNDS = 300  # of kbmira, as in scripts/nbest-rescore/train.py
RESTARTS = 20  # of mert, as in mert-moses.pl

_DENSE = re.compile(r"F(\d+) (\S+)")
_BEST = re.compile(r"Best point: (.*) => (\S+)")


def learn_weights(
    moses: Moses,
    nbest: Path,
    reference: Path,
    folder: Path,
    start: Weights,
    *,
    optimizer: Optimizer = "mira",
    seed: int = 1,
    threads: int = 1,
) -> Weights:
    """Weights for all dense and sparse features of an n-best list.

    Args:
        moses: Where extractor, kbmira and mert are.
        nbest: The list of a tuning set; plain or gz.
        reference: Its translation.
        folder: Where the programs work; logs stay there.
        start: Where to start; a feature without a weight, a new one, starts at 0.
        optimizer: "mira" or "mert" (which knows no sparse features).
        seed: Of what is random in it.
        threads: Of mert.

    Raises:
        DataError: A broken list, or one for another number of sentences than the reference has.
        ProgramError: A program failed; its log is kept.
    """
    first = _check_sentences(nbest, reference)
    dense = {os.fsdecode(n): values for n, values in first.features.items() if b"_" not in n}
    names = [name for name, values in dense.items() for _ in values]
    initial = [
        start[name][place] if place < len(start.get(name, ())) else 0.0
        for name, values in dense.items()
        for place in range(len(values))
    ]
    log = folder / "rescore-nbest.log"
    scores, features = folder / "scores.dat", folder / "features.dat"
    moses.note_in(log)
    run_program(
        [
            moses.program("extractor"), "--sctype", "BLEU", "--scconfig", "case:true",
            "--scfile", scores, "--ffile", features, "-r", reference, "-n", nbest,
        ],
        log=log, cwd=folder,
    )  # fmt: skip
    if optimizer == "mira":
        return _kbmira(moses, folder, log, names, initial, seed)
    return _mert(moses, folder, log, names, initial, seed, threads)


def _kbmira(
    moses: Moses, folder: Path, log: Path, names: list[str], initial: list[float], seed: int
) -> Weights:
    start, out = folder / "start.dense", folder / "mira.out"
    lines = [f"{name}= {value:.8g}\n" for name, value in zip(names, initial, strict=True)]
    start.write_text("".join(lines))
    run_program(
        [
            moses.program("kbmira"), "--dense-init", start, "--ffile", folder / "features.dat",
            "--scfile", folder / "scores.dat", "-J", str(MIRA_ROUNDS), "-r", str(seed), "-o", out,
        ],
        log=log, cwd=folder,
    )  # fmt: skip
    values, sparse = list(initial), {}
    for line in out.read_text().splitlines():
        if found := _DENSE.fullmatch(line):
            values[int(found[1])] = float(found[2])
        elif "_" in line:
            name, _, value = line.rpartition(" ")
            sparse[name] = (float(value),)
    return _normalised({**_by_name(names, values), **sparse})


def _mert(
    moses: Moses, folder: Path, log: Path, names: list[str], initial: list[float], seed: int,
    threads: int,
) -> Weights:  # fmt: skip
    start = folder / "init.opt"
    rows = (initial, [0.0] * len(initial), [1.0] * len(initial))
    start.write_text("".join(" ".join(f"{v:.8g}" for v in row) + "\n" for row in rows))
    run_program(
        [
            moses.program("mert"), "-d", str(len(initial)), "-n", str(RESTARTS), "-r", str(seed),
            "--threads", str(threads), "--ifile", start, "--ffile", folder / "features.dat",
            "--scfile", folder / "scores.dat",
        ],
        log=log, cwd=folder,
    )  # fmt: skip
    best = _BEST.findall(log.read_text(errors="replace"))
    if not best:
        raise ProgramError(f"mert told no best point; its log is {log}")
    return _normalised(_by_name(names, [float(value) for value in best[-1][0].split()]))


def _by_name(names: Sequence[str], values: Sequence[float]) -> Weights:
    weights: Weights = {}
    for name, value in zip(names, values, strict=True):
        weights[name] = (*weights.get(name, ()), value)
    return weights


def _normalised(weights: Weights) -> Weights:
    """Absolute values that sum to 1, as mert-moses.pl leaves them."""
    total = sum(abs(value) for values in weights.values() for value in values) or 1.0
    return {name: tuple(value / total for value in values) for name, values in weights.items()}


def _check_sentences(nbest: Path, reference: Path) -> Hypothesis:
    """Checks that the list has the sentences of the reference; its first hypothesis."""
    first, sentences = None, 0
    for hypotheses in read_nbest(nbest):
        first = first or hypotheses[0]
        if hypotheses[0].sentence != sentences:
            raise hypotheses[0].error(f"sentence {sentences} is missing", None)
        sentences += 1
    references = sum(len(block.lines) for block in line_blocks(reference))
    if first is None:
        raise DataError("the n-best list is empty", path=nbest)
    if sentences != references:
        found = f"{sentences:,} sentences, but {reference} has {references:,} lines"
        raise DataError(found, path=nbest)
    return first


def total(
    features: Features, weights: Mapping[bytes, Sequence[float]], hypothesis: Hypothesis
) -> float:
    """The weighted sum of a hypothesis' features; weights by the bytes of the names.

    Raises:
        DataError: A feature without a weight, or with another number of values than weights.
    """
    result = 0.0
    for name, values in features.items():
        known = weights.get(name)
        if known is None and b"_" in name:  # a sparse feature that tuning never saw weighs nothing
            continue
        if known is None or len(known) != len(values):
            found = f"{len(known)} weights for its {len(values)} values" if known else "no weight"
            raise hypothesis.error(f"the feature {os.fsdecode(name)} has {found}", None)
        result += sum(map(mul, known, values))
    return result


def rerank(
    nbest: str | Path, weights: Weights, output: str | Path, *, whole_list: bool = False
) -> int:
    """Writes the best hypothesis of each sentence, or the whole list in its new order.

    Hypotheses of one total keep their order. A sentence number that the list leaves out becomes an
    empty line. Returns the number of sentences.

    Raises:
        DataError: A broken line, or a feature without a weight.
    """
    if is_same_file(nbest, output):
        raise DataError("the output would overwrite the input", path=output)
    sentences = 0
    with OutputFile(output) as out:
        for ranked in _ranked(nbest, weights):
            number = ranked[0][1].sentence
            if whole_list:
                text = b"".join(h.with_total(score) + b"\n" for score, h in ranked)
            else:
                text = b"\n" * (number - sentences) + b" ".join(ranked[0][1].words) + b"\n"
            out.write(text)
            sentences = number + 1
    return sentences


def nbest_bleu(nbest: Path, reference: Path, weights: Weights | None) -> float:
    """sacreBLEU, in percent, of each sentence's best hypothesis; without weights, of its first."""
    ranked = _ranked(nbest, weights) if weights else ([(0.0, h[0])] for h in read_nbest(nbest))
    return bleu([b" ".join(hypotheses[0][1].words) for hypotheses in ranked], reference)


def _ranked(nbest: str | Path, weights: Weights) -> Iterator[list[tuple[float, Hypothesis]]]:
    known = {os.fsencode(name): values for name, values in weights.items()}
    for hypotheses in read_nbest(nbest):
        scored = [(total(h.features, known, h), h) for h in hypotheses]
        yield sorted(scored, key=lambda pair: -pair[0])  # stable


def write_weights(path: str | Path, weights: Weights) -> None:
    """Writes weights as lines `Name= w w`, which a moses.ini or nbest-rescore reads, too."""
    lines = [f"{name}= {' '.join(f'{v:.8g}' for v in values)}" for name, values in weights.items()]
    write_file(path, os.fsencode("\n".join(lines) + "\n"))


def read_weights(path: str | Path) -> Weights:
    """Weights as `write_weights` wrote them, or the [weight] section of a moses.ini.

    Raises:
        DataError: No weight, or a line that is none.
    """
    weights: Weights = {}
    section = b"[weight]"
    for block in line_blocks(path):
        for number, line in enumerate(block.lines, block.first):
            text = line.partition(b"#")[0].split()
            if text and text[0].startswith(b"["):
                section = text[0]
            elif text and section == b"[weight]":
                try:
                    if not text[0].endswith(b"=") or len(text) < 2:
                        raise ValueError
                    weights[os.fsdecode(text[0][:-1])] = tuple(float(value) for value in text[1:])
                except ValueError as error:
                    raise DataError(
                        "not a line of weights, Name= 0.2 0.2", path=path, line=number, text=line
                    ) from error
    if not weights:
        raise DataError("no weights in it", path=path)
    return weights
