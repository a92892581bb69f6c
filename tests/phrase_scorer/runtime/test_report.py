"""Tables as text and Markdown, content as JSON, results as files."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from phrase_scorer.errors import DataError
from phrase_scorer.runtime.figures import Picture, drawn, save_picture
from phrase_scorer.runtime.report import (
    Table,
    as_cell,
    as_json,
    write_json,
    write_results,
)

TABLE = Table("A [b]", ["name", "n|m"], [["x_y", "1.50"], ["", "-10"]], "a <note>")


def test_text():
    assert TABLE.as_text() == "A [b]\nname   n|m\nx_y   1.50\n       -10\na <note>"
    bare = Table("", ["a", "b", "c"], [["1", "22", "3"]], text_columns=2)
    assert bare.as_text() == "a  b   c\n1  22  3"


def test_markdown():
    assert TABLE.as_markdown() == (
        "### A \\[b\\]\n\n| name | n\\|m |\n| --- | ---: |\n| x\\_y | 1.50 |\n|  | -10 |\n\n"
        "a \\<note\\>"
    )
    bare = Table("", ["a", "b"], [], text_columns=2)
    assert bare.as_markdown((":--", "--:")) == "| a | b |\n| :-- | :-- |"


def test_cells():
    assert (as_cell(0.1234, "+.2f"), as_cell(1234, ",")) == ("+0.12", "1,234")
    assert (as_cell(None, ".2f"), as_cell(None, ".2f", "-")) == ("", "-")


@dataclass(frozen=True)
class Inner:
    score: float


@dataclass(frozen=True)
class Outer:
    name: str
    inner: tuple[Inner, ...]
    by_number: dict[int, float]


def test_json_of_dataclasses():
    content = Outer("é", (Inner(0.5), Inner(math.nan)), {2: -math.inf})
    text = as_json(content, indent=None)
    assert text == (
        '{"name": "é", "inner": [{"score": 0.5}, {"score": null}], "by_number": {"2": null}}\n'
    )


def test_json_in_a_file(tmp_path):
    write_json(tmp_path / "a.json", [1], indent=1)
    assert (tmp_path / "a.json").read_text() == "[\n 1\n]\n"
    with pytest.raises(DataError) as error:
        write_json(tmp_path / "none" / "a.json", [1])
    assert str(error.value) == f"{tmp_path}/none/a.json: cannot write: No such file or directory"


@drawn
def line() -> Picture:
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().plot([1, 2])
    return Picture(figure, "a line", "It rises.")


def test_results_in_files_of_one_name(tmp_path):
    picture = line()
    paths = write_results(tmp_path / "a", {".md": "é\n", ".png": picture, ".svg": picture})
    assert [path.name for path in paths] == ["a.md", "a.png", "a.svg"]
    assert paths[0].read_bytes() == "é\n".encode()
    for path in paths[1:]:  # a picture written a second time is as one of its own
        save_picture(line(), alone := tmp_path / f"alone{path.suffix}")
        assert path.read_bytes() == alone.read_bytes()
