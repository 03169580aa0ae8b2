"""A real `nats-server` with JetStream, from the wheel that carries it."""

from __future__ import annotations

import subprocess
import sysconfig
import time
from pathlib import Path

import nats
from nats.js.api import RetentionPolicy, StorageType, StreamConfig

from projections.publications.nats_credentials import signing
from tests.ports import free_port

START = 60.0


class NatsServer:
    """A process; what it has stored outlives it.

    With a `config` that asks for `credentials`, the tests' own questions are asked with them too.
    """

    def __init__(self, folder: Path, config: str = "", credentials: Path | None = None) -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._folder = folder
        self._config = folder / "nats.conf"
        self._config.write_text(config)
        self._auth = signing(str(credentials) if credentials else None)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return once it answers."""
        binary = Path(sysconfig.get_path("scripts")) / "nats-server"
        with (self._folder / "nats.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(str(binary), "--addr", "127.0.0.1", "--port", str(self.port)),
                    *("--config", str(self._config)),
                    *("--jetstream", "--store_dir", str(self._folder / "jetstream")),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        until = time.monotonic() + START
        while not _answers(self.port):
            assert self._process.poll() is None, (self._folder / "nats.log").read_text()
            assert time.monotonic() < until, "nats-server did not answer in time"
            time.sleep(0.02)

    def kill(self) -> None:
        """As a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(START)

    async def make_stream(self, name: str, subject: str) -> None:
        """Make a stream that takes all below a subject."""
        client = await nats.connect(self.url, **self._auth)
        await client.jetstream().add_stream(
            StreamConfig(
                name=name,
                subjects=[f"{subject}.>"],
                retention=RetentionPolicy.LIMITS,
                storage=StorageType.FILE,
            )
        )
        await client.close()

    async def messages(self, name: str) -> list[tuple[str, dict[str, str], bytes]]:
        """Return what a stream has: subject, headers, data."""
        client = await nats.connect(self.url, **self._auth)
        stream = client.jetstream()
        info = await stream.stream_info(name)
        found = []
        for number in range(1, info.state.last_seq + 1):
            message = await stream.get_msg(name, number)
            headers = {key.lower(): value for key, value in (message.headers or {}).items()}
            found.append((message.subject or "", headers, message.data or b""))
        await client.close()
        return found


def _answers(port: int) -> bool:
    import socket

    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            return connection.recv(4) == b"INFO"
    except OSError:
        return False
