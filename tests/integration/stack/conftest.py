"""The real stack, started once for all integration tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.stack import Stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running `rayfold up`."""
    folder: Path = tmp_path_factory.mktemp("stack")
    running = Stack(folder / "data")
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="session")
def http(stack: Stack) -> Iterator[httpx.Client]:
    """A client of its gateway."""
    with httpx.Client(base_url=stack.url, timeout=30) as client:
        yield client
