"""Events relayed from an outbox are recognised on the log, in every store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from actors.host.state.outbox import Relay
from eventstore.kurrentdb.log import EventLog
from eventstore.memory import MemoryLog
from eventstore.port import Log
from eventstore.records import NewRecord


@pytest.fixture(params=["memory", "server", "server without append_records"])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[Log]:
    if request.param == "memory":
        yield MemoryLog()
        return
    uri: str = request.getfixturevalue("eventstore")
    connected = EventLog(uri, atomic=False if "without" in request.param else None)
    yield connected
    await connected.close()


async def test_events_that_another_relay_has_written_in_part_are_recognised(log: Log) -> None:
    """Servers with `append_records` add metadata of their own to the events."""
    relay, stream = Relay(log), f"account-{uuid4()}"
    outbox = [
        (at, NewRecord("Paid", b'{"cents": 1}', {"commandId": f"c{at}"}, str(uuid4())))
        for at in range(3)
    ]
    assert await relay.append(stream, outbox[:1], 0)
    assert await relay.position_of(stream, outbox[:1]) is not None
    assert await relay.append(stream, outbox, 0)
    assert await relay.position_of(stream, outbox) is not None
    assert [raw.revision async for raw in log.read_stream(stream)] == [0, 1, 2]
    others = [(at, record._replace(metadata={"commandId": "d"})) for at, record in outbox]
    assert await relay.position_of(stream, others) is None
