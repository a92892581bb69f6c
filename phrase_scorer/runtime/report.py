"""How results are shown: tables as text and as Markdown, content as JSON, results as files."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phrase_scorer.runtime.figures import Picture, save_picture
from phrase_scorer.runtime.output import Place, write_file


@dataclass(frozen=True)
class Table:
    """Cells under a header; the first columns hold text, the others numbers."""

    title: str  # stands above; may be empty, as the note
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""  # stands below
    text_columns: int = 1

    def as_text(self) -> str:
        """Columns aligned with blanks: text to the left, numbers to the right."""
        columns = []
        for number, cells in enumerate(zip(self.header, *self.rows, strict=True)):
            align = str.ljust if number < self.text_columns else str.rjust
            width = max(map(len, cells))
            columns.append([align(cell, width) for cell in cells])
        lines = ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]
        title, note = ([text] * bool(text) for text in (self.title, self.note))
        return "\n".join([*title, *lines, *note])

    def as_markdown(self, rules: tuple[str, str] = ("---", "---:")) -> str:
        """The table in GitHub's Markdown; the title is a heading, the note a paragraph.

        `rules` stand under the header: of a column of text, and of one of numbers.
        """
        numbers = len(self.header) - self.text_columns
        rule = [rules[0]] * self.text_columns + [rules[1]] * numbers
        header, *rows = [[*map(escape_markdown, row)] for row in (self.header, *self.rows)]
        table = "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))
        title = f"### {escape_markdown(self.title)}" if self.title else ""
        return "\n\n".join(part for part in (title, table, escape_markdown(self.note)) if part)


def as_cell(value: float | None, form: str, missing: str = "") -> str:
    """A number for a table in this format, or what stands where it is missing."""
    return missing if value is None else format(value, form)


def duration(seconds: float) -> str:
    """1 h 2 min, 3 min 4 s, or 5 s."""
    minutes, hours = seconds / 60, seconds / 3600
    if hours >= 1:
        return f"{int(hours)} h {int(minutes % 60)} min"
    return f"{int(minutes)} min {int(seconds % 60)} s" if minutes >= 1 else f"{seconds:.0f} s"


def escape_markdown(text: str) -> str:
    """The text without what Markdown would take for its own."""
    return "".join(f"\\{letter}" if letter in r"\`*_[]<>|#~" else letter for letter in text)


def as_json(content: Any, *, indent: int | None = 2) -> str:
    """JSON with a newline at its end; dataclasses are objects, and nan and infinity null."""
    plain = _plain(content)
    return json.dumps(plain, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Place, content: Any, *, indent: int | None = 2) -> None:
    """Writes `as_json` to a file, whole or not at all."""
    write_file(path, as_json(content, indent=indent).encode("utf-8", "backslashreplace"))


def _plain(content: Any) -> Any:
    """The content in the types that JSON has."""
    if dataclasses.is_dataclass(content) and not isinstance(content, type):
        content = {f.name: getattr(content, f.name) for f in dataclasses.fields(content)}
    if isinstance(content, Mapping):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def write_results(stem: Path, contents: Mapping[str, str | Picture]) -> list[Path]:
    """Writes texts and pictures, by suffix, to files of one name; their paths."""
    paths = [stem.with_suffix(suffix) for suffix in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        if isinstance(content, str):
            write_file(path, content.encode("utf-8", "backslashreplace"))
        else:
            save_picture(content, path)
    return paths
