"""The write side that is killed by parts: from the first of its tests to the last."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from actors.write_side import WriteSide
from rayfold import Registry
from tests.write_sides import write_side


@pytest.fixture(scope="package")
async def side(registry: Registry, eventstore: str, postgres: str) -> AsyncIterator[WriteSide]:
    """A write side on Ray."""
    async with write_side(registry, eventstore, postgres) as side:
        yield side
