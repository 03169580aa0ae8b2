"""A webhook receiver in a process of its own, which can be killed: what it has taken is in a file.

It answers a share of the requests with 500, closes the connection on others, and writes down what
it takes before it says so: also what the sender never hears of.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from standardwebhooks.webhooks import Webhook

from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
START = 60.0


class ReceiverProcess:
    """Started again on the same port, it appends to the same file."""

    def __init__(self, file: Path, secret: str, failing: float) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self._file = file
        self._arguments = [str(self.port), str(file), secret, str(failing)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return once it listens."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.publications.receiver", *self._arguments],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"listening\n"

    def kill(self) -> None:
        """With -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(START)

    def taken(self) -> list[dict[str, Any]]:
        """Return what it has taken, in order; a line that was cut off by its end is none."""
        if not self._file.exists():
            return []
        lines = self._file.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]


async def serve(port: int, file: Path, secret: str, failing: float) -> None:
    """Answer for ever."""
    verifier, chance = Webhook(secret), random.Random()
    with file.open("a") as out:

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                    headers = {
                        line.partition(":")[0].lower(): line.partition(": ")[2] for line in head[1:]
                    }
                    body = await reader.readexactly(int(headers["content-length"]))
                    verifier.verify(body, headers)
                    draw = chance.random()
                    if draw < failing / 2:
                        status = "500 Internal Server Error"
                    else:
                        out.write(body.decode() + "\n")
                        out.flush()
                        status = "204 No Content"
                    if failing / 2 <= draw < failing:
                        return  # taken, and nobody is told
                    writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n".encode())
                    await writer.drain()
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", port)
        sys.stdout.write("listening\n")
        sys.stdout.flush()
        await server.serve_forever()


def wait_for(condition: Any, what: str, seconds: float = 60.0) -> None:
    """Wait for a condition."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], float(sys.argv[4])))
