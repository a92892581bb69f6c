"""Back-off n-gram models in the ARPA format, as arrays.

    \\data\\
    ngram 1=11208
    ...
    \\1-grams:
    -2.0440974<TAB></s><TAB>0                  log10 p, words, log10 of the back-off weight
    ...
    \\end\\

(Doug Paul's format; SRILM's ngram-format(5); read by KenLM and Moses.) gz is read and written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.runtime.numbers import real_number, whole_number
from phrase_scorer.runtime.output import OutputFile
from phrase_scorer.runtime.streams import numbered_lines

START_WORD, END_WORD, UNKNOWN_WORD = b"<s>", b"</s>", b"<unk>"
NEVER = -99.0  # log10 of probability 0, as SRILM writes it
UNKNOWN_OF_IRSTLM = b"<UNK>"  # the same word to KenLM
MISSING_UNKNOWN = -100.0  # KenLM's log10 p of `<unk>` where a file has none (SRILM's, say)

_COUNT = re.compile(rb"ngram +(\d+) *= *(\d+)\s*$")


@dataclass(frozen=True)
class Order:
    """The n-grams of one order."""

    words: npt.NDArray[np.int32]  # (n-grams, order) places in `Arpa.words`
    log10: npt.NDArray[np.float64]  # (n-grams,) log10 p of the last word after the others
    back_off: npt.NDArray[np.float64]  # (n-grams,) log10 of the weight; zeros in the highest order

    def __len__(self) -> int:
        return len(self.words)


@dataclass(frozen=True)
class Arpa:
    """A back-off model."""

    path: str  # of its file, for messages
    words: list[bytes]  # its vocabulary: the unigrams, in the order of the file
    orders: list[Order]  # from unigrams up


def read_arpa(path: str | Path) -> Arpa:
    """Reads a file; DataError for the first line that does not keep to the format.

    As to KenLM, `<UNK>` is `<unk>`, and where there is neither its log10 p is -100.
    """
    lines = numbered_lines(path, mark="strip")
    places: dict[bytes, int] = {}
    orders: list[Order] = []
    for order, count in enumerate(_read_counts(lines, path), 1):
        entries = _read_section(lines, path, order, count)
        if order == 1:
            for number, text in entries:
                fields = text.split(b"\t")
                word = fields[1] if len(fields) > 1 else b""
                word = UNKNOWN_WORD if word == UNKNOWN_OF_IRSTLM else word
                if word in places:
                    raise DataError("a word stands twice", path=path, line=number, text=text)
                places[word] = len(places)
            for special in (START_WORD, END_WORD):
                if special not in places:
                    raise DataError(f"there is no unigram {special.decode()}", path=path)
            words = list(places)
            places[UNKNOWN_OF_IRSTLM] = places.setdefault(UNKNOWN_WORD, len(words))
        orders.append(_parse(entries, order, places, path))
    if UNKNOWN_WORD not in words:
        given = orders[0]
        orders[0] = Order(
            np.append(given.words, [[len(words)]], axis=0).astype(np.int32),
            np.append(given.log10, MISSING_UNKNOWN),
            np.append(given.back_off, 0.0),
        )
        words.append(UNKNOWN_WORD)
    return Arpa(os.fspath(path), words, orders)


def arpa_order(path: str | Path) -> int:
    """The highest order of a file's n-grams, by its header."""
    return len(_read_counts(numbered_lines(path, mark="strip"), path))


Entries = list[tuple[int, bytes]]  # (line number, text)


def _read_counts(lines: Iterator[tuple[int, bytes]], path: str | Path) -> list[int]:
    """The number of n-grams per order in the header; stops at the first section."""
    counts: list[int] = []
    begun = False
    for number, line in lines:
        text = line.strip()
        found = _COUNT.match(text)
        if text == b"\\data\\":
            begun = True
        elif found and begun:
            order, count = whole_number(found[1]), whole_number(found[2])
            if order != len(counts) + 1:
                message = "n-gram orders are not 1, 2, 3, …"
                raise DataError(message, path=path, line=number, text=line)
            if count is None:
                raise DataError("too many n-grams", path=path, line=number, text=line)
            counts.append(count)
        elif text == b"\\1-grams:" and counts:
            return counts
        elif text and begun:
            raise DataError("not a line of an ARPA header", path=path, line=number, text=line)
    raise DataError("not an ARPA file: \\data\\ and \\1-grams: are missing", path=path)


def _read_section(
    lines: Iterator[tuple[int, bytes]], path: str | Path, order: int, count: int
) -> Entries:
    """The lines of one order; stops at the header of the next."""
    entries: Entries = []
    for number, line in lines:
        if line[:1] == b"\\" and line.strip() in (b"\\%d-grams:" % (order + 1), b"\\end\\"):
            break
        if line.strip():
            entries.append((number, line.rstrip(b"\r\n")))
    else:
        raise DataError(f"cut short: \\end\\ is missing after the {order}-grams", path=path)
    if len(entries) != count:
        message = f"{len(entries)} {order}-grams, but the header says {count}"
        raise DataError(message, path=path, line=number)
    return entries


def _parse(entries: Entries, order: int, places: dict[bytes, int], path: str | Path) -> Order:
    words = np.empty((len(entries), order), np.int32)
    log10, back_off = np.empty(len(entries)), np.zeros(len(entries))
    for row, (number, text) in enumerate(entries):
        fields = text.split(b"\t")
        numbers = [n for field in fields[::2] if (n := real_number(field)) is not None]
        try:
            if len(numbers) < len(fields[::2]) or len(fields) > 3 or numbers[0] > 0:
                raise ValueError
            log10[row], back_off[row] = (*numbers, 0.0)[:2]
            words[row] = [places[word] for word in fields[1].split(b" ")]
        except (ValueError, KeyError, IndexError) as error:
            message = f"not a {order}-gram of known words with log10 p"
            raise DataError(message, path=path, line=number, text=text) from error
    return Order(words, log10, back_off)


def write_arpa(arpa: Arpa, path: str | Path) -> None:
    """Writes a file (gzip where it is named .gz), which has its name only when it is whole.

    A DataError tells where KenLM could not read it: a number is not finite.
    """
    for order in arpa.orders:
        if not (np.isfinite(order.log10).all() and np.isfinite(order.back_off).all()):
            message = f"some {order.words.shape[1]}-grams got no finite probability"
            raise DataError(f"{message} from the model", path=arpa.path)
    with OutputFile(path) as out:
        counts = (b"ngram %d=%d\n" % (n, len(order)) for n, order in enumerate(arpa.orders, 1))
        out.write(b"\\data\\\n" + b"".join(counts) + b"\n")
        for n, order in enumerate(arpa.orders, 1):
            highest = n == len(arpa.orders)
            out.write(b"\\%d-grams:\n" % n)
            columns = (column.tolist() for column in (order.words, order.log10, order.back_off))
            text = []
            for words, log10, back_off in zip(*columns, strict=True):
                line = b"%.7g\t%b" % (log10, b" ".join([arpa.words[word] for word in words]))
                text.append(line if highest else b"%b\t%.7g" % (line, back_off))
            out.write(b"\n".join([*text, b"", b""]))
        out.write(b"\\end\\\n")


def load_kenlm(path: str | Path, option: str) -> Any:
    """KenLM's model of a file, which `option` asked for; UsageError without the package kenlm."""
    try:
        import kenlm
    except ImportError as error:
        raise UsageError(f"{option} needs the package kenlm: pip install kenlm") from error
    try:
        return kenlm.Model(os.fsencode(path))
    except OSError as error:
        raise DataError("not a language model that KenLM reads", path=path) from error


def kenlm_total(model: Any, sentence: Sequence[bytes]) -> float:
    """Log10 p of a sentence, its end included, under KenLM's model."""
    text = b" ".join(sentence)
    if text.split() == list(sentence):
        return float(model.score(text))
    return sum(kenlm_log10(model, sentence))


def kenlm_log10(model: Any, sentence: Sequence[bytes]) -> list[float]:
    """Log10 p of each word and of the end after them, under KenLM's model.

    The words are taken byte for byte: kenlm itself would break them at other blanks than Moses.
    """
    text = b" ".join(sentence)
    if text.split() == list(sentence):
        return [log10 for log10, _, _ in model.full_scores(text)]
    import kenlm

    state, found = kenlm.State(), []
    model.BeginSentenceWrite(state)
    for word in (*sentence, END_WORD):
        before, state = state, kenlm.State()
        found.append(model.BaseScore(before, word.decode("utf-8", "replace"), state))
    return found
