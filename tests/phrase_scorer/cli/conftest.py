"""A phrase table for the commands that read one."""

from __future__ import annotations

from pathlib import Path

import pytest

TABLE = b"""la maison ||| the house ||| 0.5 0.25 ||| 0-0 1-1 ||| 2 2 1
la maison bleue ||| the blue house ||| 0.5 0.25 ||| 0-0 1-2 2-1 ||| 2 2 1
la ||| the ||| 1 0.5 ||| 0-0 ||| 4 4 4
la ||| her ||| 1 0.5 ||| 0-0 ||| 4 4 1
le chat ||| the cat ||| 1 1 ||| 0-0 1-1 ||| 1 1 2
le chat noir ||| the black cat ||| 1 1 ||| 0-0 1-2 2-1 ||| 1 1 1
le ||| the ||| 1 1 ||| 0-0 ||| 3 3 3
le ||| it ||| 1 1 ||| 0-0 ||| 3 3 1
"""


@pytest.fixture
def table(folder: Path) -> None:
    """The table, in the current folder."""
    (folder / "table").write_bytes(TABLE)
