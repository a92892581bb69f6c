"""A whole rescoring: from what is asked for to the new table, its signature and its moses.ini."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path

from moses_integration.rescoring.columns import Column, load_columns, scorers_of
from moses_integration.rescoring.counts import RescoreCounts
from moses_integration.rescoring.log import RescoreLog, RunFacts
from moses_integration.rescoring.parts import TablePart
from moses_integration.rescoring.request import DEFAULT_FLOOR, RescoreRequest
from moses_integration.rescoring.stream import TableReader, rescore_table
from moses_integration.system.check import IniTarget
from phrase_scorer.errors import printable
from phrase_scorer.kernels.library import kernels_in_words
from phrase_scorer.runtime.device import Arithmetic
from phrase_scorer.runtime.output import Place
from phrase_scorer.scoring.scorer import PhraseScorer
from phrase_scorer.text.pair_files import OnBadLine
from phrase_scorer.text.unknown_words import UnknownWordCheck
from phrase_scorer.version import __version__

SAMPLED_ENTRIES = 20_000  # of the table's beginning; some of them measure the accuracy


def run_rescoring(
    request: RescoreRequest, reader: TableReader, columns: Sequence[Column]
) -> RescoreCounts:
    """Writes the table with its columns; the folder for it must be there (`folder_made`)."""
    output = request.files.output
    assert output is not None
    with RescoreLog(request.log, _facts(request)) if request.log else nullcontext() as log:
        return rescore_table(
            reader,
            output,
            columns,
            floor=request.floor,
            allow_duplicate=request.allow_duplicate,
            replaced=request.replaced,
            require_scores=request.require_scores,
            processes=request.processes,
            resume=request.resume,
            show_progress=not request.quiet,
            log=log,
            part=request.part,
        )


def _facts(request: RescoreRequest) -> RunFacts:
    """How the run computes, for its log."""
    arithmetic = request.arithmetic
    first = arithmetic.torch_device()
    output = str(request.files.output)
    device = str(first) if arithmetic.device == "auto" else arithmetic.device
    written = request.part.path(output) if request.part else output
    return RunFacts(
        __version__, printable(written), request.processes, device, arithmetic.precision,
        kernels_in_words(first.type),
    )  # fmt: skip


def check_of(request: RescoreRequest, scorers: Sequence[PhraseScorer]) -> UnknownWordCheck:
    """What looks for words that the models do not know."""
    paths = [str(path) for path in (*request.models, *request.inverse_models)]
    models = {path: s.vocabularies for path, s in zip(paths, scorers, strict=True)}
    return UnknownWordCheck(request.files.table, models, request.max_unknown)


def rescore(
    table: Place,
    output: Place,
    *,
    models: Place | Iterable[Place] = (),
    inverse_models: Place | Iterable[Place] = (),
    ensemble: bool = False,
    unknown_words: bool = False,
    moses_ini: Place | None = None,
    moses_ini_out: Place | None = None,
    floor: float = DEFAULT_FLOOR,
    on_bad_line: OnBadLine = "stop",
    max_unknown: float | None = None,
    resume: bool = False,
    log: Place | None = None,
    part: str | None = None,
    arithmetic: Arithmetic | None = None,
    show_progress: bool = False,
) -> RescoreCounts:
    """Writes a table with one more score per column, as the command `rescore`; what it counted.

    >>> rescore("pt.gz", "pt.rnn.gz", models=["rnn/"])  # doctest: +SKIP

    `table` and `output` are files, or folders as `filter` makes them, whose moses.ini is rewritten.
    A column is added for each of `models`, p(target | source), and of `inverse_models`, or one for
    either (`ensemble`), and one of words unknown to the first; `floor` is the least natural
    logarithm written. The command's warnings are not given; of too many unknown words,
    `max_unknown` makes an error. To `log` a line is appended every second; `part`, "I/N", writes
    that share alone, for `join`. `arithmetic` says where and how to compute, and in how many
    processes (more than one need the guard `if __name__ == "__main__"`).

    Raises:
        UsageError: What cannot be, before the table is read.
        DataError: A bad line (file, line number, text), and all that `rescore_table` raises.
        ModelError: The directory of a model is broken.
    """
    request = RescoreRequest(
        os.fspath(table), os.fspath(output), _paths(models), _paths(inverse_models),
        ensemble=ensemble,
        unknown_words=unknown_words,
        floor=float(floor),
        on_bad_line=on_bad_line,
        max_unknown=max_unknown,
        resume=resume,
        part=None if part is None else TablePart.parse(part),
        log=_named(log),
        quiet=not show_progress,
        ini_target=IniTarget(_named(moses_ini), _named(moses_ini_out)),
        arithmetic=arithmetic or Arithmetic(threads=1),
    )  # fmt: skip
    request.arithmetic.use_threads()
    columns, reader = load_columns(request), TableReader(request.phrase_table)
    if max_unknown is not None:
        check_of(request, scorers_of(columns)).begin(reader.sample(SAMPLED_ENTRIES))
    with request.folder_made():
        counts = run_rescoring(request, reader, columns)
        if request.moses_ini and request.files.ini_target.moses_ini_out:
            request.files.ini_target.write(request.edited_ini)
    return counts


def _paths(given: Place | Iterable[Place]) -> tuple[Path, ...]:
    return (Path(given),) if isinstance(given, str | os.PathLike) else tuple(map(Path, given))


def _named(place: Place | None) -> str | None:
    return None if place is None else os.fspath(place)
