"""A gateway that is told to stop before it serves."""

from __future__ import annotations

import asyncio
import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from deploy.stack import following, gateway
from deploy.stack.seat import Seat
from deploy.stack.settings import Settings
from eventstore.memory import MemoryLog
from eventstore.personal import opening
from rayfold import Registry

TIMEOUT = 60.0


async def test_a_gateway_that_waits_for_views_to_be_built_reacts_to_sigterm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Building may take an hour; a supervisor would kill it long before."""
    waits, left = asyncio.Event(), asyncio.Event()

    async def caught_up(_: float) -> None:
        waits.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    async def served(*_: Any) -> SimpleNamespace:
        return SimpleNamespace(routing=SimpleNamespace(document={"previous": {"one": {}}}))

    async def joined(*_: Any) -> SimpleNamespace:
        where = {"eventstore": "", "postgres": "", "registry": Registry(())}
        return SimpleNamespace(**where, watch_ray=lambda *_: None)

    class Sides:
        writes = controller = None
        reads = SimpleNamespace(monitor=SimpleNamespace(caught_up=caught_up))

        def __init__(self, *_: Any) -> None:
            pass

        async def start(self, *_: Any) -> None:
            pass

    async def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the gateway must not serve yet")

    monkeypatch.setattr(os, "umask", lambda _: None)  # that of the tests stays
    monkeypatch.setattr(gateway, "check", lambda *_: None)
    monkeypatch.setattr(gateway, "load_registry", lambda _: Registry(()))
    monkeypatch.setattr(gateway, "_served", served)
    monkeypatch.setattr(gateway, "join", joined)
    monkeypatch.setattr(gateway, "serve_http", never)
    monkeypatch.setattr(following, "Following", Sides)
    monkeypatch.setattr(opening, "open_log", lambda *_: MemoryLog())
    try:
        async with asyncio.timeout(TIMEOUT):
            running = asyncio.create_task(gateway.run(Settings(), Seat(), 0.0))
            await waits.wait()
            os.kill(os.getpid(), signal.SIGTERM)
            assert await running == 0
    finally:  # the loop is that of all tests
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(number)
    assert left.is_set()
