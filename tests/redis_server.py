"""A real `redis-server`, from Debian's package: started for tests, killed, emptied, filled up."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

import redis

from tests.ports import free_port

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")

START = 60.0


class RedisServer:
    """On a Unix socket in a folder of its own; nothing is kept on disk but what it is told to."""

    def __init__(self, *options: str, cluster: bool = False) -> None:
        """`cluster`: as the one node of a Redis Cluster."""
        self._cluster = cluster
        assert PROGRAM, "redis-server is not installed: `make servers` installs it"
        self._folder = Path(tempfile.mkdtemp(prefix="rf-redis-"))
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._folder / 'redis.sock'}"

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def client(self) -> redis.Redis:
        """A client that blocks."""
        return redis.Redis.from_url(self.url)

    def start(self) -> None:
        """Return when it answers."""
        assert PROGRAM
        socket = str(self._folder / "redis.sock")
        where = ["--port", "0", "--unixsocket", socket, "--dir", str(self._folder)]
        keeps = ["--save", "", "--appendonly", "no", "--logfile", str(self._folder / "log")]
        command = [PROGRAM, *where, *keeps, *self._options]
        deadline = time.monotonic() + START
        while True:
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(
                    [*command, *self._bus()], stdout=subprocess.DEVNULL
                )
            try:
                with self.client as client:
                    client.ping()
                return
            except redis.RedisError:
                assert time.monotonic() < deadline, "redis-server did not answer in time"
                time.sleep(0.02)

    def _bus(self) -> list[str]:
        """Where nodes of a cluster talk; somebody may take the port meanwhile: then another one."""
        if not self._cluster:
            return []
        told = ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
        return [*told, "--bind", "127.0.0.1"]

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def restart(self) -> None:
        """Kill it, and start it again."""
        self.kill()
        await asyncio.to_thread(self.start)

    def flush(self) -> None:
        """Take everything away."""
        with self.client as client:
            client.flushall()

    def own_all_slots(self) -> None:
        """Make a cluster of this one node."""
        with self.client as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            deadline = time.monotonic() + START
            while b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO"):
                assert time.monotonic() < deadline, "the cluster did not start"
                time.sleep(0.02)

    def set(self, **settings: str) -> None:
        """Change settings; underscores stand for dashes."""
        with self.client as client:
            for name, value in settings.items():
                client.config_set(name.replace("_", "-"), value)
