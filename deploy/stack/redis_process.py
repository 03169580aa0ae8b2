"""A Redis of our own, if one is installed, as a child process."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from deploy.stack.child_process import ChildProcess

LONGEST_SOCKET = 100
"""Bytes of a socket's path: the kernel takes 107, and a temporary one is made before."""

LOADING = 300.0
"""Seconds for it to read its own log, a gigabyte of rows with it."""


class RedisProcess(ChildProcess):
    """A server on a Unix socket that its owner alone may use; its data stays in the folder.

    It keeps what it is told in a log that it writes to the disk each second: rows and their
    checkpoint are lost together then, and folded again. It never evicts, as rows are not a cache
    of their own.
    """

    name = "redis"
    title = "Redis"
    start_timeout = LOADING

    def __init__(self, data: Path, program: str) -> None:
        super().__init__(data)
        self._program = program
        self._elsewhere: Path | None = None
        self._socket = data / "redis.sock"

    async def _command(self) -> Sequence[str]:
        self._data.mkdir(mode=0o700, exist_ok=True)
        if self._elsewhere is None and len(str(self._socket).encode()) > LONGEST_SOCKET:
            self._elsewhere = Path(tempfile.mkdtemp(prefix="rayfold-redis-"))
            self._socket = self._elsewhere / "redis.sock"
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._data),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "logfile": str(self._errors),  # not the pipe, which nobody reads
            "set-proc-title": "no",  # it would overwrite by what we know a process of ours
        }
        given = (word for name, value in options.items() for word in (f"--{name}", value))
        return (self._program, *given)

    async def _address(self, process: asyncio.subprocess.Process) -> str:
        url = f"unix://{quote(str(self._socket))}"
        client = Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=None)
        try:
            while True:
                try:
                    await client.ping()
                except (RedisError, OSError):  # not there yet, or it still reads its log
                    await asyncio.sleep(0.02)
                else:
                    return url
        finally:
            await client.aclose()

    async def stop(self) -> None:
        """Let it write what it has, and end it."""
        await super().stop()
        if self._elsewhere is not None:
            shutil.rmtree(self._elsewhere, ignore_errors=True)


class RedisQuestion:
    """Whether a server takes rows, asked over connections of its own."""

    def __init__(self, url: str) -> None:
        # Once more, as it may have been started again; more attempts are the probe's.
        # Who asks has a timeout: the client's own loses a cancellation that comes while it writes
        # (Python 3.11's `wait_for` does).
        self._client = Redis.from_url(url, retry=Retry(NoBackoff(), 1), socket_timeout=None)

    async def __call__(self) -> str | None:
        """Return why it cannot keep rows, None if it can; raise what keeps it from answering."""
        return fault(await self._client.info())

    async def close(self) -> None:
        """End the connection."""
        await self._client.aclose()


def fault(info: dict[str, Any]) -> str | None:
    """Return why a server with this INFO cannot keep rows, None if it can."""
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy.startswith("allkeys"):
        return f"it evicts rows ({policy}): set maxmemory-policy noeviction"
    if info.get("redis_mode") == "cluster" or info.get("server_mode") == "cluster":
        return "it is a node of a Redis Cluster, which splits a view's rows: give one server"
    if info.get("role", "master") != "master":
        return "it is a replica, which takes no writes: give the primary"
    if info.get("aof_last_write_status", "ok") != "ok":
        return "it cannot write its log to the disk, and refuses rows"
    if info.get("loading"):
        return "it reads its data from the disk"
    return None
