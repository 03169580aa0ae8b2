"""How `rayfold up` ends when it is stopped."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.errors import StartError
from deploy.stack import folder, up
from deploy.stack.settings import Settings
from rayfold import Registry
from tests.ports import free_port

TIMEOUT = 60.0


async def test_requests_are_answered_although_the_data_folder_is_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A stack that serves ends by itself; one that starts is cancelled."""
    data = tmp_path / "data"
    data.mkdir()
    stop = asyncio.Event()
    answered: list[str] = []

    async def run(*_: Any, serves: asyncio.Event, lost: object) -> None:
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
                Settings(), Registry(()), data, bound, stop, asyncio.Event(), asyncio.Event()
            )
    assert (code, answered) == (0, ["it"])


@pytest.mark.parametrize("serving", [True, False])
async def test_up_says_that_another_process_has_taken_over_its_stack(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, serving: bool
) -> None:
    """Nobody told it to end, so a supervisor that restarts failed processes must know."""

    async def run(*given: Any, serves: asyncio.Event, lost: Callable[[], None]) -> None:
        if serving:
            serves.set()
        lost()
        life = given[3]
        assert life.stop.is_set()
        await asyncio.sleep(0)
        if not serving:
            await asyncio.Event().wait()

    monkeypatch.setattr(up, "run", run)
    monkeypatch.setattr(up, "take_signals", lambda _: None)  # those of the tests stay
    monkeypatch.setattr(os, "umask", lambda _: None)  # and theirs as well
    monkeypatch.setattr(up.descendants, "mark_descendants", lambda _: None)
    settings = Settings(data=tmp_path / "data", port=free_port())
    with pytest.raises(StartError, match="another process has taken over the stack 'rayfold'"):
        async with asyncio.timeout(TIMEOUT):
            await up.up(settings)


async def test_a_full_disk_is_reported_before_anything_is_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    full = shutil._ntuple_diskusage(10**9, 10**9, 61_440)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    monkeypatch.setattr(up, "take_signals", lambda _: None)  # those of the tests stay
    monkeypatch.setattr(os, "umask", lambda _: None)  # and theirs as well
    monkeypatch.setattr(up.descendants, "mark_descendants", lambda _: None)
    settings = Settings(data=tmp_path / "data", port=free_port())
    with pytest.raises(StartError, match=r"the disk of .*data is full: 61440 bytes are free"):
        await up.up(settings)
