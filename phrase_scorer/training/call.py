"""`train`, all of a training in one call of a program."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phrase_scorer.errors import UsageError
from phrase_scorer.runtime.device import Arithmetic
from phrase_scorer.runtime.output import Place
from phrase_scorer.text.given_pairs import Phrase
from phrase_scorer.text.pair_files import PairFiles, PairReader, read_pairs
from phrase_scorer.training.request import Choices, TrainRequest

if TYPE_CHECKING:
    from phrase_scorer.training.job import TrainingResult

Given = Place | tuple[Place, Place] | Iterable[tuple[Phrase, Phrase]]


def train(
    pairs: Given,
    model: Place,
    *,
    also: Sequence[Place] = (),
    mix: Sequence[float] = (),
    start: Place | None = None,
    architecture: str | None = None,
    direction: str | None = None,
    preset: str | None = None,
    shortlist: int | None = None,
    choices: Choices | None = None,
    weight_by_count: bool | None = None,
    max_minutes: float | None = None,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    tensorboard: Place | None = None,
    show_progress: bool = False,
    read: PairReader = read_pairs,
) -> TrainingResult:
    """Trains a model on pairs and leaves it in a directory, as the command `train` does.

    >>> train("pairs.tsv", "rnn/", max_minutes=10)  # doctest: +SKIP
    >>> train(("corpus.en.gz", "corpus.fr.gz"), "att/", architecture="attention")  # doctest: +SKIP
    >>> train("news.tsv", "news/", start="rnn/")  # doctest: +SKIP
    >>> train("news.tsv", "both/", also=["pairs.tsv"], mix=[1, 3])  # doctest: +SKIP

    `pairs` is a file of lines "source<TAB>target"; (sources, targets), two files of lines; or an
    iterable of (source, target), each phrase a string with blanks, or a list of words. `model` is
    the directory. `also` are more files of pairs, each with its share of `mix`, if there is one;
    `start` is a model whose weights and words it begins from, the command's --from. `choices` say
    what is to be other than in the preset; `weight_by_count` needs a phrase table (None: pairs
    weigh by their counts where one has them); what `read` reads the files with may know more kinds
    of them, as that of moses_integration does. The rest is
    as the command's options of these names. In the main thread SIGINT and SIGTERM end the training,
    not the program: `stopped` names them.

    Raises:
        UsageError: What cannot be, before anything is read.
        DataError: Wrong content of a file, or no pairs.
        ModelError: Nothing to resume, or a state that is broken.
        PhraseScorerError: The training diverged.
    """
    paths, of_program = _given(pairs)
    if of_program is not None and weight_by_count:
        raise UsageError("pairs without counts cannot be weighed by them")
    if of_program is not None and also:
        raise UsageError("pairs of a program go with no file: give all pairs, or files alone")
    request = TrainRequest(
        pairs=PairFiles(paths), with_counts=weight_by_count,
        also=tuple(os.fspath(path) for path in also), mix=tuple(mix),
        model_path=Path(model), start=None if start is None else Path(start),
        architecture=architecture, direction=direction, preset=preset, shortlist=shortlist,
        choices=choices or Choices(), arithmetic=Arithmetic(device), max_minutes=max_minutes,
        resume=resume, overwrite=overwrite, quiet=not show_progress,
        tensorboard=None if tensorboard is None else Path(tensorboard),
    )  # fmt: skip
    return request.train(of_program, read)


def _given(pairs: Given) -> tuple[tuple[str, ...], Iterable[tuple[Phrase, Phrase]] | None]:
    """(files, pairs of the program where there are no files)."""
    paths: Any = (pairs,) if isinstance(pairs, str | os.PathLike) else pairs
    if (
        isinstance(paths, tuple)
        and paths
        and all(isinstance(path, str | os.PathLike) for path in paths)
    ):
        return tuple(map(os.fspath, paths)), None
    return (), paths
