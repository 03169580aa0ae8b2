"""A Redis of our own: its rows survive its end, and it ends with us."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import psutil
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from deploy.stack.descendants import descendants, mark_descendants
from deploy.stack.display import Display
from deploy.stack.probe import Probe
from deploy.stack.redis_process import RedisProcess
from deploy.stack.redis_server import installed, start_redis
from deploy.stack.settings import load
from rayfold import Registry

DEADLINE = 60.0
"""Seconds for whatever is waited for."""


@pytest.fixture
async def parts() -> AsyncIterator[AsyncExitStack]:
    """Give exits that end what a test starts."""
    async with AsyncExitStack() as stack:
        yield stack


async def started(data: Path, parts: AsyncExitStack) -> tuple[Redis, Probe]:
    server = await start_redis(
        load(redis="embedded", data=data), Registry([]), data, parts, Display()
    )
    client = Redis.from_url(server.url)
    parts.push_async_callback(client.aclose)
    [probe] = server.probes
    return client, probe


async def answered(client: Redis, *command: str) -> Any:
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            return await client.execute_command(*command)
        except (RedisError, OSError):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


async def test_its_data_is_there_after_a_stop_and_a_start(tmp_path: Path) -> None:
    for times in (1, 2):
        async with AsyncExitStack() as parts:
            client, _ = await started(tmp_path, parts)
            assert await client.incr("times") == times
            assert (await client.config_get("maxmemory-policy"))["maxmemory-policy"] == "noeviction"


async def test_a_killed_redis_comes_back_at_the_same_address_with_its_data(
    tmp_path: Path, parts: AsyncExitStack
) -> None:
    client, probe = await started(tmp_path, parts)
    await client.set("row", "1")
    before = probe.status()
    os.kill(before["pid"], signal.SIGKILL)
    deadline = time.monotonic() + DEADLINE
    while (now := probe.status()).get("restarts") != 1 or not now["ready"]:
        assert time.monotonic() < deadline, now
        await asyncio.sleep(0.02)
    assert now["pid"] != before["pid"]
    assert await answered(client, "GET", "row") == b"1"


async def test_it_is_recognised_as_ours_and_ends_with_its_parent(
    tmp_path: Path, parts: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_RAYFOLD_FOLDER", "")
    mark_descendants(tmp_path)
    async with AsyncExitStack() as own:
        client, probe = await started(tmp_path, own)
        assert await client.ping()
        pid = probe.status()["pid"]
        assert pid in [each.pid for each in descendants(tmp_path)]
        assert psutil.Process(pid).net_connections("inet") == []  # its socket is a file's
    assert not psutil.pid_exists(pid)


async def test_a_folder_with_a_long_name_has_its_socket_elsewhere(tmp_path: Path) -> None:
    program = installed()
    assert program is not None
    data = tmp_path / ("a folder with a name, long and odd: %20 " * 3)
    data.mkdir()
    process = RedisProcess(data / "redis", program)
    url = await process.start()
    socket = Path(unquote(url.removeprefix("unix://")))
    assert stat.S_ISSOCK(os.stat(socket).st_mode)
    assert os.stat(socket.parent).st_mode & 0o077 == 0
    client = Redis.from_url(url)
    assert await client.ping()
    await client.aclose()
    await process.stop()
    with pytest.raises(FileNotFoundError):
        os.stat(socket.parent)
