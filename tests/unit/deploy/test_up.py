"""How `rayfold up` ends once it is told to."""

from __future__ import annotations

import asyncio
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from deploy.stack import folder, up
from deploy.stack.settings import Settings
from rayfold import Registry

TIMEOUT = 60.0


async def test_what_was_asked_is_answered_though_the_data_folder_is_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A stack that serves ends by itself; one that starts is broken off."""
    data = tmp_path / "data"
    data.mkdir()
    stop = asyncio.Event()
    answered: list[str] = []

    async def run(*_: Any, serves: asyncio.Event) -> None:
        folder.announce(data, "http://127.0.0.1:1")
        serves.set()
        shutil.rmtree(data)
        stop.set()
        for _ in range(20):  # turns of the loop, for a request that was in flight
            await asyncio.sleep(0)
        answered.append("it")

    monkeypatch.setattr(up, "run", run)
    with socket.socket() as bound:
        async with asyncio.timeout(TIMEOUT):
            code = await up._until_stopped(
                Settings(), Registry(()), data, bound, stop, asyncio.Event()
            )
    assert (code, answered) == (0, ["it"])
