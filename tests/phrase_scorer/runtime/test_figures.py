"""Pictures as files: the same bytes from equal figures, whatever the user's settings."""

from __future__ import annotations

import re
import time
from xml.etree import ElementTree

import matplotlib
import pytest
from matplotlib.figure import Figure

from phrase_scorer.errors import UsageError
from phrase_scorer.runtime.figures import Picture, drawn, require_kind, save_picture


@drawn
def picture(title: str = "A line & more") -> Picture:
    figure = Figure(figsize=(3, 2))
    axes = figure.subplots()
    axes.plot([1, 2], label="翻訳")
    axes.set_title("½ $x_1$")
    axes.legend()
    return Picture(figure, title, "It rises; 1 < 2 – always.")


@pytest.mark.parametrize(
    ("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.PDF", b"%PDF")]
)
def test_equal_pictures_give_equal_files(name, start, tmp_path, monkeypatch):
    path = tmp_path / name
    save_picture(picture(), path)
    first = path.read_bytes()
    assert first.startswith(start)
    assert not re.search(rb"dc:date|CreationDate|20[23]\d-\d\d-\d\d", first)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(int(time.time()) + 86_400))  # another day
    save_picture(picture(), path)
    assert path.read_bytes() == first
    assert [found.name for found in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_the_users_settings_change_nothing_but_fonts(kind, tmp_path):
    one, other, third = (tmp_path / f"{name}.{kind}" for name in "abc")
    save_picture(picture(), one)
    settings = {"lines.linewidth": 9, "savefig.bbox": "tight", "text.usetex": True, "axes.grid": 1}
    with matplotlib.rc_context(settings):
        save_picture(picture(), other)
        assert matplotlib.rcParams["lines.linewidth"] == 9
    assert one.read_bytes() == other.read_bytes()
    with matplotlib.rc_context({"font.family": "serif"}):
        save_picture(picture(), third)
    assert one.read_bytes() != third.read_bytes()


def test_an_svg_is_read_aloud_as_its_title_and_description(tmp_path):
    save_picture(picture(), tmp_path / "a.svg")
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    assert root.get("role") == "img"
    assert [child.tag for child in root][:2] == [f"{space}title", f"{space}desc"]
    assert [child.text for child in root][:2] == ["A line & more", "It rises; 1 < 2 – always."]


def test_other_kinds_tell_it_in_their_metadata(tmp_path):
    for kind, told in (("png", b"Title\0A line & more"), ("pdf", b"/Title (A line & more)")):
        save_picture(picture(), tmp_path / f"a.{kind}")
        assert told in (tmp_path / f"a.{kind}").read_bytes()


def test_a_picture_that_cannot_be_drawn_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "a.svg"
    path.write_text("old")

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    made = picture()
    monkeypatch.setattr(made.figure, "savefig", fail)
    with pytest.raises(MemoryError):
        save_picture(made, path)
    assert path.read_text() == "old"


@pytest.mark.parametrize("name", ["plot.gif", "plot", "plot.png.gz"])
def test_other_kinds_of_pictures(name):
    with pytest.raises(UsageError) as error:
        require_kind(name)
    assert str(error.value) == f"{name}: the name of a plot must end in .png, .svg or .pdf"
