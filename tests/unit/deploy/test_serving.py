"""Process managers that do not start leave nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from actors.errors import EventStoreUnavailable
from deploy.stack import serving
from eventstore.errors import StoreUnavailable
from eventstore.kurrentdb import log
from eventstore.memory import MemoryLog
from eventstore.records import RawRecord
from rayfold import Registry

CHECKPOINT = "rayfold-process-fulfilment"


class FailingLog(MemoryLog):
    """Answers as often as it may."""

    answers = 0
    closed = False

    def __init__(self, uri: str) -> None:
        super().__init__()

    async def read_stream(self, *asked: Any, **how: Any) -> AsyncIterator[RawRecord]:
        """Refuse, once it has answered often enough."""
        self.answers -= 1
        if self.answers < 0:
            raise StoreUnavailable("no answer")
        async for raw in super().read_stream(*asked, **how):
            yield raw

    async def close(self) -> None:
        """Take note."""
        type(self).closed = True


async def test_a_start_that_fails_closes_the_log_and_writes_no_checkpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[FailingLog] = []

    def connect(uri: str) -> FailingLog:
        made.append(FailingLog(uri))
        return made[0]

    monkeypatch.setattr(log, "EventLog", connect)
    before = asyncio.all_tasks()
    writes: Any = SimpleNamespace(bus=None)
    with pytest.raises(EventStoreUnavailable):
        async with AsyncExitStack() as parts:
            await serving._processes(Registry.load("domain"), "kdb://nowhere", writes, parts)
    assert FailingLog.closed
    made[0].answers = 1
    assert [raw async for raw in made[0].read_stream(CHECKPOINT)] == []
    assert asyncio.all_tasks() == before
