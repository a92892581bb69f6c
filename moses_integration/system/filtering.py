"""The part of a model that some inputs can use: entries whose source phrase occurs in one of them.

One pass over each table for all inputs together, so that tuning and test sets are rescored once.
The same entries as scripts/training/filter-model-given-input.pl keeps, in the same order; XML
markup in an input is taken for words (the script strips it).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from moses_integration.formats.ini_edits import with_absolute_paths, with_files
from moses_integration.formats.moses_ini import TEXT_TABLE, Feature, MosesIni, feature_files
from moses_integration.formats.phrase_table import SEPARATOR
from moses_integration.formats.signature import read_signature, write_signature
from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.runtime.output import OutputFile, real_path, write_file
from phrase_scorer.runtime.streams import line_blocks, shown_blocks

LONGEST_PHRASE = 10  # words; $MAX_LENGTH of filter-model-given-input.pl
REORDERING = "LexicalReordering"

Factors = tuple[int, ...]


@dataclass(frozen=True)
class Filtered:
    """What became of one table."""

    name: str  # of the file
    kept: int
    entries: int


def source_phrases(
    inputs: Sequence[str | Path],
    factors: Iterable[Factors] = ((0,),),
    longest: int = LONGEST_PHRASE,
) -> dict[Factors, set[bytes]]:
    """All phrases of up to `longest` words in the inputs, for each choice of factors."""
    phrases: dict[Factors, set[bytes]] = {chosen: set() for chosen in factors}
    for block in chain.from_iterable(map(line_blocks, inputs)):
        for line in block.lines:
            words = [word for word in line.replace(b"\t", b" ").split(b" ") if word]
            for chosen, found in phrases.items():
                found.update(_ngrams(_with_factors(words, chosen), longest))
    return phrases


def _with_factors(words: list[bytes], chosen: Factors) -> list[bytes]:
    """The words as a table over these factors holds them."""
    if chosen == (0,):
        return [word.partition(b"|")[0] for word in words]
    split = [word.split(b"|") for word in words]
    return [b"|".join(word[f] for f in chosen if f < len(word)) for word in split]


def _ngrams(words: list[bytes], longest: int) -> Iterator[bytes]:
    for start in range(len(words)):
        for end in range(start + 1, min(len(words), start + longest) + 1):
            yield b" ".join(words[start:end])


def filter_table(
    table: str | Path, output: str | Path, phrases: set[bytes], *, show_progress: bool = True
) -> Filtered:
    """Writes the entries whose source phrase is among `phrases`, byte for byte and in order.

    Serves phrase tables and lexicalised reordering tables alike; an empty one is a DataError. The
    signature of a rescored table goes with it.
    """
    name, kept, entries = Path(table).name, 0, 0
    with (
        OutputFile(output) as out,
        shown_blocks(table, f"filtering {name}", show=show_progress) as blocks,
    ):
        for block in blocks:
            sources = (line.partition(SEPARATOR)[0].strip(b" \t") for line in block.lines)
            chosen = [line for line, s in zip(block.lines, sources, strict=True) if s in phrases]
            entries += len(block.lines)
            kept += len(chosen)
            if chosen:
                out.write(b"\n".join(chosen) + b"\n")
        if not entries:
            raise DataError("the table is empty", path=table)
        details = {"filtered_from": name, "entries": kept}
        write_signature(output, read_signature(table), details)
    return Filtered(name, kept, entries)


def filter_model(
    ini: MosesIni, inputs: Sequence[str | Path], folder: Path, *,
    longest: int = LONGEST_PHRASE, show_progress: bool = True,
) -> list[Filtered]:  # fmt: skip
    """Writes the filtered tables of a moses.ini and a moses.ini for them into a new folder.

    Text phrase tables and lexicalised reordering tables are filtered; all other features keep
    their files, with absolute paths. UsageError for an ini without a table in text form.
    """
    tables = {feature: feature.file() for feature in feature_files(ini) if _is_filterable(feature)}
    if not tables:
        raise UsageError(f"{ini.path}: no {TEXT_TABLE} or {REORDERING} to filter")
    outputs = _new_names(real_path(folder), tables)
    changed = {feature.line: (feature.class_name, str(out)) for feature, out in outputs.items()}
    edited = with_files(with_absolute_paths(ini), changed)  # what cannot be is told beforehand
    phrases = source_phrases(inputs, {feature.factors("input") for feature in tables}, longest)
    filtered = []
    for feature, table in tables.items():
        output, chosen = outputs[feature], phrases[feature.factors("input")]
        filtered.append(filter_table(table, output, chosen, show_progress=show_progress))
    write_file(folder / "moses.ini", edited.to_bytes())
    return filtered


def _is_filterable(feature: Feature) -> bool:
    """As filter-model-given-input.pl decides, but binary reordering tables stay whole."""
    if b"filterable=false" in feature.item.tokens or feature.is_glue_grammar:
        return False
    if feature.class_name == REORDERING:
        return feature.file().is_file()
    return feature.class_name == TEXT_TABLE


def _new_names(folder: Path, tables: Mapping[Feature, Path]) -> dict[Feature, Path]:
    """Each table's own name, in the folder, gzipped; numbered where several have one name."""
    names: dict[Feature, Path] = {}
    for feature, table in tables.items():
        stem = table.name.removesuffix(".gz")
        path, number = folder / f"{stem}.gz", 2
        while path in names.values():
            path, number = folder / f"{stem}.{number}.gz", number + 1
        names[feature] = path
    return names
