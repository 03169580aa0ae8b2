"""Checking that Ray's processes on this machine answer: one may hang without ending."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""The client's preface (RFC 9113, 3.4). Every HTTP/2 server, and so every gRPC server, answers it.

gRPC's own client is not used: importing it before `eventstore.kurrentdb` installs its fork
handlers, with which Ray, which is started by a fork, did not start during a call to a hanging
process.
"""

PERIOD = 5.0
"""Seconds between two rounds of checks."""

TIMEOUT = 2.0
"""Seconds that each process has to answer."""

SILENT = 2
"""Missed rounds after which it is reported: some 14 s, as each waits for its answer."""

HANGS = 6
"""Missed rounds after which a process is considered lost: some 40 s.

A minute after a raylet fell silent, the GCS gives up the node, and all of its actors end. This
counts rounds, not seconds: the suspension of this process or machine is not Ray's silence.
"""


class RayAnswers:
    """Counts the consecutive rounds that each Ray process has missed."""

    def __init__(self, addresses: Callable[[], Mapping[str, str]]) -> None:
        """`addresses` returns the current `HOST:PORT` of each by name."""
        self._addresses = addresses
        self._silent: dict[tuple[str, str], int] = {}

    async def watch(self) -> None:
        """Check them periodically."""
        while True:
            await asyncio.sleep(PERIOD)
            await self.ask()

    async def ask(self) -> None:
        """Check each process once. For a replaced one, the count restarts."""
        asked = list(self._addresses().items())
        answered = await asyncio.gather(*(_answers(address) for _, address in asked))
        self._silent = {
            each: 0 if answers else self._silent.get(each, 0) + 1
            for each, answers in zip(asked, answered, strict=True)
        }

    def silent(self) -> str | None:
        """Return the name of a process that does not answer, if any."""
        return self._silent_for(SILENT)

    def hanging(self) -> str | None:
        """Return the name of a process that has been silent for too long and must be replaced."""
        return self._silent_for(HANGS)

    def forget(self) -> None:
        """Reset the counts: the processes were replaced."""
        self._silent = {}

    def _silent_for(self, rounds: int) -> str | None:
        return next((name for (name, _), each in self._silent.items() if each >= rounds), None)


async def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(TIMEOUT):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(GREETING)
                return await reader.read(1) != b""
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
