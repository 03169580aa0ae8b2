"""An embedded Redis, if a server is installed: a child process too."""

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
"""The longest socket path in bytes: the kernel accepts 107, and a temporary one is created
first.
"""

LOADING = 300.0
"""Seconds that it may take to read its own log, with a gigabyte of rows."""


class RedisProcess(ChildProcess):
    """A server on a Unix socket that only its owner may use; its data stays in the folder.

    It appends each write to a log that is written to disk every second: in a crash, rows and their
    checkpoint are lost together, and folded again. It never evicts, as missing rows would not be
    loaded again.
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
            "logfile": str(self._errors),  # not the pipe, which is not read
            # It would overwrite the mark by which we recognise our processes.
            "set-proc-title": "no",
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
                except (RedisError, OSError):  # not started yet, or still reading its log
                    await asyncio.sleep(0.02)
                else:
                    return url
        finally:
            await client.aclose()

    async def stop(self) -> None:
        """Let it write its data, and end it."""
        await super().stop()
        if self._elsewhere is not None:
            shutil.rmtree(self._elsewhere, ignore_errors=True)


class RedisQuestion:
    """Checks that a server accepts rows, on its own connections."""

    def __init__(self, url: str) -> None:
        # One retry, as it may have been restarted; further attempts are the probe's.
        self._client = Redis.from_url(url, retry=Retry(NoBackoff(), 1), socket_timeout=None)

    async def __call__(self) -> str | None:
        """Return why it cannot keep rows, None if it can; raise if it does not answer."""
        return fault(await self._client.info())

    async def close(self) -> None:
        """Close the connection."""
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
