"""A whole rescoring: from what is asked for to the new table, its signature and its moses.ini."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from moses_integration.rescoring.block import RescoreCounts
from moses_integration.rescoring.columns import Column, load_columns
from moses_integration.rescoring.request import DEFAULT_FLOOR, RescoreRequest
from moses_integration.rescoring.stream import TableReader, rescore_table
from moses_integration.system.check import IniTarget
from phrase_scorer.runtime.device import Arithmetic
from phrase_scorer.runtime.output import Place
from phrase_scorer.text.pair_files import OnBadLine


def run_rescoring(
    request: RescoreRequest, reader: TableReader, columns: Sequence[Column]
) -> RescoreCounts:
    """Writes the table with its columns; the folder for it must be there (`folder_made`)."""
    assert request.files.output is not None
    return rescore_table(
        reader,
        request.files.output,
        columns,
        floor=request.floor,
        allow_duplicate=request.allow_duplicate,
        replaced=request.replaced,
        require_scores=request.require_scores,
        processes=request.processes,
        resume=request.resume,
        show_progress=not request.quiet,
    )


def rescore(
    table: Place,
    output: Place,
    *,
    models: Iterable[Place] = (),
    inverse_models: Iterable[Place] = (),
    ensemble: bool = False,
    unknown_words: bool = False,
    moses_ini: Place | None = None,
    moses_ini_out: Place | None = None,
    floor: float = DEFAULT_FLOOR,
    on_bad_line: OnBadLine = "stop",
    resume: bool = False,
    arithmetic: Arithmetic | None = None,
    show_progress: bool = False,
) -> RescoreCounts:
    """Writes a phrase table with one more score per column, as the command `rescore` does.

    >>> rescore("pt.gz", "pt.rnn.gz", models=["rnn/"])  # doctest: +SKIP

    `table` and `output` are files, or folders as `filter` makes them, whose moses.ini is rewritten.
    A column is added for each of `models`, p(target | source), and of `inverse_models`, or one for
    either (`ensemble`), and one of words unknown to the first. `floor` is the least natural
    logarithm written. The rest is as the command's options of these names; `arithmetic` says on
    which device, in which precision, and in how many processes (`threads`; where that is not 1,
    a program needs the guard `if __name__ == "__main__"`).

    Returns:
        What was counted: entries, bad lines, values below the floor.

    Raises:
        UsageError: What cannot be, before the table is read.
        DataError: A bad line (file, line number, text), and all that `rescore_table` raises.
        ModelError: The directory of a model is broken.
    """
    request = RescoreRequest(
        table=os.fspath(table),
        output=os.fspath(output),
        models=tuple(map(Path, models)),
        inverse_models=tuple(map(Path, inverse_models)),
        ensemble=ensemble,
        unknown_words=unknown_words,
        floor=float(floor),
        on_bad_line=on_bad_line,
        resume=resume,
        quiet=not show_progress,
        ini_target=IniTarget(_named(moses_ini), _named(moses_ini_out)),
        arithmetic=arithmetic or Arithmetic(threads=1),
    )
    request.arithmetic.use_threads()
    columns = load_columns(request)
    with request.folder_made():
        counts = run_rescoring(request, TableReader(request.phrase_table), columns)
        if request.moses_ini and request.files.ini_target.moses_ini_out:
            request.files.ini_target.write(request.edited_ini)
    return counts


def _named(place: Place | None) -> str | None:
    return None if place is None else os.fspath(place)
