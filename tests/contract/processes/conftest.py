"""The logs that processes are run over."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from eventstore.kurrentdb.log import EventLog
from eventstore.memory import MemoryLog
from eventstore.port import Log


@pytest.fixture(params=["memory", "server"])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[Log]:
    """In this process, and a server's."""
    if request.param == "memory":
        yield MemoryLog()
        return
    connected = EventLog(request.getfixturevalue("eventstore"))
    yield connected
    await connected.close()
