"""A real Postgres for all tests of the read side."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rayfold import Registry
from tests.postgres_server import postgres_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A DSN."""
    with postgres_server() as dsn:
        yield dsn


@pytest.fixture(scope="session")
def registry() -> Registry:
    """The reference domain."""
    return Registry.load("domain")
