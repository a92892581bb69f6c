"""Vectors of phrases or of words as a file of numpy: what they are of, and an array of numbers.

In: a model and phrases, one per line. Out: an npz, written block by block, so that memory holds the
phrases but never all vectors. torch is not imported here: a refusal costs no time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, cast
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
import numpy.typing as npt

from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.models.config import require_summary
from phrase_scorer.models.files import ModelFiles
from phrase_scorer.runtime.console import progress_bar
from phrase_scorer.runtime.device import Arithmetic
from phrase_scorer.runtime.output import STANDARD, OutputFile
from phrase_scorer.runtime.streams import numbered_lines, require_readable
from phrase_scorer.text.phrase_pairs import PairBlock, words_of, words_of_each
from phrase_scorer.text.unknown_words import UnknownWordCheck

if TYPE_CHECKING:
    from phrase_scorer.scoring.scorer import PhraseScorer, Vectors

MOST_CHARACTERS = 4096  # of a phrase: numpy gives every one the room of the longest
PHRASES_AT_ONCE = 16384


@dataclass(frozen=True)
class VectorRequest:
    """Phrases or a side's words, the model whose vectors they get, and where these are written.

    Raises:
        UsageError: Neither of both, or both; a model that has no vectors of phrases.
        DataError: A file is not there, or the output would overwrite it.
    """

    phrases: str | None  # a file of them
    model_path: Path
    embeddings: Literal["source", "target"] | None = None
    output: str = STANDARD
    max_unknown: float | None = None  # share of unknown words above which nothing is computed
    quiet: bool = False
    arithmetic: Arithmetic = field(default_factory=Arithmetic)

    def __post_init__(self) -> None:
        if (self.phrases is None) == (self.embeddings is None):
            raise UsageError("give either PHRASES (- is standard input) or --embeddings")
        if self.max_unknown is not None and self.embeddings:
            raise UsageError("--max-unknown is for PHRASES")
        self.output_file()  # refused where it cannot be written
        require_readable(self.phrases)
        facts = ModelFiles(self.model_path).require_complete()
        if self.phrases:
            require_summary(facts.model)

    def output_file(self) -> OutputFile:
        """Where it is written."""
        return OutputFile(self.output, inputs=(self.phrases,))


def read_phrases(path: str) -> list[str]:
    """The phrases of a file, one per line, with one blank between words (`-`: standard input).

    Bytes that are not UTF-8 are kept, as surrogates. A DataError tells of a line without words, or
    with a TAB: that is a pair.
    """
    phrases = []
    for number, line in numbered_lines(path, mark="strip"):
        words = words_of(line.removesuffix(b"\r"))
        if not words or b"\t" in line:
            what = "a TAB: expected a phrase, not a pair" if words else "empty phrase"
            raise DataError(what, path=path, line=number, text=line if words else None)
        phrases.append(_kept(b" ".join(words), path, number))
    return phrases


def _kept(phrase: bytes, path: str | Path, number: int) -> str:
    """A line as an array of numpy keeps it."""
    text = phrase.decode("utf-8", "surrogateescape")
    if len(text) > MOST_CHARACTERS:
        raise DataError(
            f"a phrase of more than {MOST_CHARACTERS:,} characters",
            path=path, line=number, text=phrase,
        )  # fmt: skip
    if text.endswith("\0"):
        message = "a NUL at the end, which numpy's strings do not keep"
        raise DataError(message, path=path, line=number, text=phrase)
    return text


def write_vectors(request: VectorRequest, scorer: PhraseScorer) -> None:
    """Writes the arrays `phrases` and `vectors` or, of embeddings, `words` and `vectors`."""
    if request.phrases is not None:
        _write_summaries(request, scorer, read_phrases(request.phrases))
    elif request.embeddings is not None:
        vocabulary = scorer.vocabularies[request.embeddings]
        side = "source" if vocabulary is scorer.source_vocabulary else "target"
        path = ModelFiles(request.model_path).vocabulary_file(side)
        words = [_kept(word, path, number) for number, word in enumerate(vocabulary.words, 1)]
        found = scorer.embeddings(request.embeddings)
        _write(request, "words", words, found.shape[1], [found])


def _write_summaries(request: VectorRequest, scorer: PhraseScorer, phrases: list[str]) -> None:
    side = next(iter(scorer.vocabularies))
    models = {"": {side: scorer.source_vocabulary}}
    check = UnknownWordCheck(str(request.phrases), models, request.max_unknown)
    first = _words(phrases[:PHRASES_AT_ONCE])
    check.begin(PairBlock(first, first))
    shown = not request.quiet and request.phrases != STANDARD
    with progress_bar("vectors", show=shown, total=len(phrases), unit=" phrases") as bar:

        def computed() -> Iterator[Vectors]:
            for block in _blocks(phrases):
                yield scorer.vectors_of_block(_words(block))
                bar.update(len(block))

        _write(request, "phrases", phrases, scorer.model.config.hidden, computed())
    check.finish()


def _blocks(texts: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(texts), PHRASES_AT_ONCE):
        yield texts[start : start + PHRASES_AT_ONCE]


def _words(phrases: list[str]) -> list[list[bytes]]:
    return words_of_each([phrase.encode("utf-8", "surrogateescape") for phrase in phrases])


def _write(
    request: VectorRequest, name: str, texts: list[str], width: int, vectors: Iterable[Vectors]
) -> None:
    string, number = np.dtype(f"<U{max(map(len, texts), default=1)}"), np.dtype("<f4")
    strings = (np.array(block, string) for block in _blocks(texts))
    with request.output_file() as out, ZipFile(cast(IO[bytes], _Written(out)), "w") as archive:
        _write_array(archive, name, string, (len(texts),), strings)
        _write_array(archive, "vectors", number, (len(texts), width), vectors)


def _write_array(
    archive: ZipFile, name: str, kind: np.dtype[Any], shape: tuple[int, ...],
    parts: Iterable[npt.NDArray[Any]],
) -> None:  # fmt: skip
    """Writes an array, whose parts come one after the other, as `numpy.load` reads it."""
    entry = ZipInfo(f"{name}.npy")  # its time is 1980: equal content gives equal bytes
    if kind.kind == "U":  # four bytes a character, and mostly padding
        entry.compress_type = ZIP_DEFLATED
    header = {"descr": kind.str, "fortran_order": False, "shape": shape}
    with archive.open(entry, "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(part.astype(kind, copy=False).tobytes())


class _Written:
    """An output file as `zipfile` writes into what has no places."""

    def __init__(self, out: OutputFile) -> None:
        self._out, self.flush = out, out.flush

    def write(self, block: bytes) -> int:
        """Appends; how many bytes."""
        self._out.write(block)
        return len(block)
