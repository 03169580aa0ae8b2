"""Links are written once for each event, even if a write fails."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest

from eventstore.embedded.protocol.errors import unavailable
from eventstore.embedded.storage import system_projections
from eventstore.embedded.storage.event import Proposed
from eventstore.embedded.storage.operations import Append, Operation
from eventstore.embedded.storage.store import Store
from eventstore.embedded.storage.system_projections import SystemProjections, WriteLinks


class FlakyStore(Store):
    """The first two writes of links have no answer; one of them was done."""

    writes = 0

    async def write(self, operation: Operation, *rest: object, **options: object) -> object:  # type: ignore[override]
        if isinstance(operation, WriteLinks):
            self.writes += 1
            if self.writes == 1:
                raise unavailable("The write failed: database or disk is full")
            if self.writes == 2:
                await super().write(operation, type(None))
                raise unavailable("timed out")
        return await super().write(operation, *rest, **options)  # type: ignore[arg-type]


async def test_links_continue_after_a_failed_write_and_are_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_projections, "RETRY", 0.0)
    store = FlakyStore(tmp_path)
    await store.start()
    projections = SystemProjections(store)
    projections.start()
    try:
        async with asyncio.timeout(10):
            for revision in range(3):
                event = Proposed(uuid4().bytes, "Placed", True, b"{}", b"")
                await store.submit(Append("order-1", revision - 1, [event]))
            while store.writes < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await store.barrier()
            info = store.log.info("$ce-order")
            while info.last < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        rows = store.log.stream_events(info.sid, 0, info.last, 100)
        links = [row.record().data for row in rows]
    finally:
        await projections.stop()
        await store.stop()
    assert links == [b"0@order-1", b"1@order-1", b"2@order-1"]
