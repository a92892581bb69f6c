"""Pictures: how every one is drawn and saved, so that equal content gives equal files."""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from phrase_scorer.errors import UsageError
from phrase_scorer.runtime.output import Place, write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Told apart by the colour-blind, too (Okabe and Ito 2008, its yellow left out).
PALETTE = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999",
)  # fmt: skip
# What is matplotlib's default in all else, whatever the user's own settings, but for fonts.
STYLE: dict[str, Any] = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "axes.titlelocation": "left",
    "figure.constrained_layout.use": True,
    "font.size": 9.0,
    "legend.fontsize": "small",
    "legend.frameon": False,
    "pdf.fonttype": 3,  # the names of other embedded fonts may differ from run to run
    "svg.hashsalt": "phrase-scorer",  # ids depend on nothing but the figure
}
DOTS_PER_INCH = 150
# By the kind of file, what its metadata call a description, and what must be left out of them.
DESCRIPTIONS = {"png": "Description", "svg": "Description", "pdf": "Subject"}
DATES = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}

Arguments = ParamSpec("Arguments")


@dataclass(frozen=True)
class Picture:
    """A figure, and in words what it shows, for those who do not see it."""

    figure: Figure
    title: str
    description: str


def drawn(draw: Callable[Arguments, Picture]) -> Callable[Arguments, Picture]:
    """Gives a function that draws the style of all pictures."""

    @functools.wraps(draw)
    def styled(*given: Arguments.args, **named: Arguments.kwargs) -> Picture:
        with _style():
            return draw(*given, **named)

    return styled


def require_kind(path: Place) -> str:
    """The kind of picture that a file's name asks for; a UsageError unless png, svg or pdf."""
    kind = Path(path).suffix.lower().lstrip(".")
    if kind not in DATES:
        raise UsageError(f"{path}: the name of a plot must end in .png, .svg or .pdf")
    return kind


def require_matplotlib() -> None:
    """Imports it: where it is missing or broken, that is told before hours of work, not after."""
    import matplotlib.figure  # noqa: F401


def save_picture(picture: Picture, path: Place) -> None:
    """Writes a picture of a `require_kind`, whole or not at all; equal pictures, equal bytes."""
    kind = require_kind(path)
    told = {"Title": picture.title, DESCRIPTIONS[kind]: picture.description}
    content = io.BytesIO()
    with _style(), warnings.catch_warnings():
        # Where the font lacks a letter of a word, a box stands in its place.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        picture.figure.savefig(
            content, dpi=DOTS_PER_INCH, format=kind, metadata={**told, **DATES[kind]}
        )
    image = content.getvalue()
    write_file(path, _described(image, picture.description) if kind == "svg" else image)


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib

    # Not by `rcdefaults`, which imports pyplot.
    defaults: Any = matplotlib.rcParamsDefault  # whose type has a name for each setting
    users = ("font.", "backend")
    plain = {name: value for name, value in defaults.items() if not name.startswith(users)}
    with matplotlib.rc_context(plain | STYLE):
        yield


def _described(svg: bytes, description: str) -> bytes:
    """The SVG as one image that is read aloud as its title and description."""
    told = f"</title>\n <desc>{escape(description, quote=False)}</desc>"
    svg = svg.replace(b"<svg ", b'<svg role="img" ', 1)
    return svg.replace(b"</title>", told.encode(), 1)
