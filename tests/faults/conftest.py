"""One server for all tests that stop commands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faults.injection import COMPILER, Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Skips where there is no C compiler for the library to preload."""
    if COMPILER is None:
        pytest.skip("no C compiler")
    with Server(tmp_path_factory.mktemp("shim")) as server:
        yield server
