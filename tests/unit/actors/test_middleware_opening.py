"""When a domain's middleware is opened and closed, and which requests that may delay."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors.command_middleware import ANYBODY
from actors.envelope import enclose
from actors.errors import Unavailable
from actors.local import LocalRuntime
from rayfold import (
    Command,
    Forbidden,
    Middleware,
    Receipt,
)
from rayfold.errors import MiddlewareFailed
from rayfold.runtime import middleware_layers
from tests.unit.middleware_domain import TEA, Around, runtime


async def test_middleware_is_opened_once_before_its_first_use_and_again_if_that_failed() -> None:
    happened: list[str] = []

    class Opening(Around, name="opening"):
        async def open(self) -> None:
            happened.append("open")
            if len(happened) == 1:
                raise OSError("not there yet")

        async def close(self) -> None:
            happened.append("close")

    local = runtime(Opening)
    with pytest.raises(MiddlewareFailed, match="failed to open: OSError"):
        await local.send(TEA)
    await asyncio.gather(local.send(TEA), local.send(TEA))
    await local.close()
    await local.close()
    assert happened == ["open", "open", "close"]


async def test_opening_continues_even_if_no_caller_waits_for_it() -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()
    happened: list[str] = []

    class Slow(Around, name="slow", order=2):
        async def open(self) -> None:
            happened.append("open")
            begun.set()
            await may_end.wait()

    class Outer(Around, name="outer", order=1):
        pass

    local = runtime(Outer, Slow)
    for _ in range(2):  # one runs out of time, the other goes away
        begun.clear()
        waiting = asyncio.create_task(_in_time(local, 0.05))
        with pytest.raises(Unavailable, match="in the domain's middleware 'slow'"):
            await waiting
        going = asyncio.create_task(local.send(TEA))
        await asyncio.sleep(0)
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
    may_end.set()
    await local.send(TEA)
    assert happened == ["open"]


async def _in_time(local: LocalRuntime, seconds: float) -> Receipt:
    around = local._around
    assert around is not None
    return await around.send(enclose(local._registry, TEA, timeout=seconds), ANYBODY)


async def test_on_close_middleware_that_is_opening_is_cancelled_and_the_rest_is_closed() -> None:
    begun = asyncio.Event()
    happened: list[str] = []

    class Slow(Around, name="slow", order=2):
        async def open(self) -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                happened.append("broken off")

        async def close(self) -> None:
            happened.append("slow")

    class Outer(Around, name="outer", order=1):
        async def close(self) -> None:
            happened.append("outer")

    local = runtime(Outer, Slow)
    sending = asyncio.create_task(local.send(TEA))
    await begun.wait()
    await local.close()
    assert happened == ["broken off", "outer"]
    with pytest.raises(MiddlewareFailed, match="'slow' failed to open: CancelledError"):
        await sending


async def test_middleware_that_fails_to_open_stops_only_requests_that_reach_it() -> None:
    class Reads(Middleware, name="reads", order=1):
        async def open(self) -> None:
            raise OSError("its database is away")

        async def query(self, query: Any, context: Any, proceed: Any) -> Any:
            return await proceed(query)

    class Guard(Around, name="guard", order=2):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            if context.principal == "eve":
                raise Forbidden("no", "not you")
            return await proceed(command)

    class Away(Around, name="away", order=3):
        async def open(self) -> None:
            raise OSError("its database is away")

    local = runtime(Reads, Guard, Away)
    with pytest.raises(MiddlewareFailed, match="'away' failed to open"):
        await local.send(TEA)
    with pytest.raises(Forbidden):
        await local.send(TEA, principal="eve")


async def test_middleware_that_does_not_close_delays_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(middleware_layers, "CLOSING", 0.01)
    closed: list[str] = []

    class First(Around, name="first", order=1):
        async def close(self) -> None:
            closed.append("first")

    class Hanging(Around, name="hanging", order=2):
        async def close(self) -> None:
            await asyncio.Event().wait()

    local = runtime(First, Hanging)
    await local.send(TEA)
    await local.close()
    assert closed == ["first"]
    assert "a middleware failed to close" in caplog.text


async def test_closing_middleware_before_it_opened_is_reported_as_its_own_error() -> None:
    """A cancellation would be taken for one by the client."""

    class Closed(Around, name="closed"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            return await proceed(command)

    local = runtime(Closed)
    sending = asyncio.create_task(local.send(TEA))
    await asyncio.sleep(0)  # its opening is a task that has not run yet
    await local.close()
    with pytest.raises(MiddlewareFailed, match="was closed before it was open"):
        await sending
