"""A log that is copied, and the store that it is copied to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from kurrentdbclient import KurrentDBClient, NewEvent, StreamState

from eventstore.identity import store_id
from eventstore.kurrentdb.whole_log import WholeLog
from tests.conftest import serve_store


@pytest.fixture
def source_uri(tmp_path: Path) -> Iterator[str]:
    """A store with nothing in it."""
    yield from serve_store(tmp_path / "source")


@pytest.fixture
def target_uri(tmp_path: Path) -> Iterator[str]:
    """One whose positions are others': the server has written to it."""
    for uri in serve_store(tmp_path / "target"):
        with KurrentDBClient(uri) as client:
            events = [NewEvent("$stats", b"{}") for _ in range(777)]
            client.append_to_stream("$stats-0", current_version=StreamState.ANY, events=events)
        yield uri


@pytest.fixture
async def source(source_uri: str) -> AsyncIterator[WholeLog]:
    """The log that is copied."""
    log = WholeLog(source_uri)
    await store_id(log)
    yield log
    await log.close()


@pytest.fixture(params=["server"])
async def target(request: pytest.FixtureRequest, target_uri: str) -> AsyncIterator[WholeLog]:
    """The other end."""
    log = WholeLog(target_uri, atomic=False if "without" in request.param else None)
    yield log
    await log.close()
