"""How plots are made and saved: without a screen, whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from phrase_scorer.errors import UsageError
from phrase_scorer.runtime.output import write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("png", "svg", "pdf")


def save_figure(figure: Figure, path: str | Path) -> None:
    """Writes a figure; its kind is that of the file's name.

    Raises:
        UsageError: A kind that is not one of `KINDS`.
        DataError: The file cannot be written.
    """
    kind = require_kind(path)
    figure.tight_layout()
    content = io.BytesIO()
    figure.savefig(content, dpi=150, format=kind)
    write_file(Path(path), content.getvalue())


def require_kind(path: str | Path) -> str:
    """The kind of picture that a file's name asks for.

    Raises:
        UsageError: It is not one of `KINDS`.
    """
    kind = Path(path).suffix.lstrip(".")
    if kind not in KINDS:
        raise UsageError(f"{path}: a plot is one of {', '.join(KINDS)}, by the file's name")
    return kind
