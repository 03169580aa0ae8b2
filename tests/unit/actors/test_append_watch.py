"""What is reported of an event store that can be read but not written."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from actors import append_watch
from actors.append_watch import PROBE_STREAM, AppendWatch
from eventstore.memory import MemoryLog


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("never")


async def test_a_store_that_failed_an_append_is_not_ready_until_an_append_succeeds(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(append_watch, "INTERVAL", 0.001)
    log = MemoryLog()
    watch = AppendWatch(lambda: log)
    assert watch.status()["ready"] is True
    log.down = True
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            watch.failed("database or disk is full")
        assert watch.status()["error"] == "database or disk is full"
        await until(lambda: watch.status()["error"] == "the log is down")
        log.down = False
        await until(lambda: watch.status()["ready"])
    probes = [raw.event_type async for raw in log.read_stream(PROBE_STREAM)]
    assert probes == ["Probed"]
    await watch.stop()
    said = [record.message for record in caplog.records]
    assert said[0] == "the event store takes no appends"
    assert len(said) <= 2


async def test_an_append_that_fails_while_the_connection_is_closed_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(append_watch, "INTERVAL", 0.001)

    class Closing(MemoryLog):
        """Somebody's append fails as this is closed first."""

        closed = 0

        async def close(self) -> None:
            self.closed += 1
            if self.closed == 1:
                watch.failed("full again")
                await asyncio.sleep(0)

    log = Closing()
    watch = AppendWatch(lambda: log)
    watch.failed("full")
    await until(lambda: log.closed == 2)
    assert watch.status()["ready"]
    await watch.stop()
