"""A runner of processes that does not start leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors.local import LocalRuntime
from actors.processes.checkpoints import Layout
from actors.processes.runner import ProcessRunner
from eventstore.errors import StoreUnavailable
from eventstore.memory import MemoryLog
from eventstore.records import RawRecord
from rayfold import Registry


class FailingLog(MemoryLog):
    """Cannot be read; what is appended is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.appended: list[Any] = []

    async def read_stream(self, *asked: Any, **how: Any) -> AsyncIterator[RawRecord]:
        """Raise."""
        raise StoreUnavailable("no answer")
        yield

    async def append(self, appends: Any) -> Any:
        """Append, and note it."""
        self.appended += appends
        return await super().append(appends)


async def test_a_start_that_fails_writes_no_checkpoint_of_where_it_never_was() -> None:
    registry, log = Registry.load("domain"), FailingLog()
    before = asyncio.all_tasks()
    definition = registry.processes["fulfilment"]
    bus, layout = LocalRuntime(registry).bus, Layout(0, 1, 0)
    runner = ProcessRunner(registry, definition, log, bus, layout=layout)
    with pytest.raises(StoreUnavailable):
        await runner.start()
    await runner.stop()
    assert log.appended == []
    assert asyncio.all_tasks() == before
