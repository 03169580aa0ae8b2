"""Whether Ray's processes on this machine answer: one may hang without ending."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""How a client begins (RFC 9113, 3.4). Every server of HTTP/2, so of gRPC, greets it back.

Whoever imports gRPC's client before `eventstore.kurrentdb` has its handlers of forks as well, with
which Ray, that is started by one, did not come up beside a call to somebody who hangs.
"""

PERIOD = 5.0
"""Seconds between two rounds of questions."""

TIMEOUT = 2.0
"""Seconds that each has to answer."""

SILENT = 2
"""Rounds without an answer after which it is told: some 14 s, as each waits for its answer."""

HANGS = 6
"""Rounds without an answer after which it does not come back by itself: some 40 s.

A minute after a raylet fell silent the GCS gives the node up, and all of its actors end. Rounds
count, and not seconds: if this process or the machine stood still, that is no silence of Ray's.
"""


class RayAnswers:
    """How many rounds each process of Ray has not answered for, one after the other."""

    def __init__(self, addresses: Callable[[], Mapping[str, str]]) -> None:
        """`addresses` gives `HOST:PORT` of each by its name, as they are now."""
        self._addresses = addresses
        self._silent: dict[tuple[str, str], int] = {}

    async def watch(self) -> None:
        """Ask them again and again."""
        while True:
            await asyncio.sleep(PERIOD)
            await self.ask()

    async def ask(self) -> None:
        """Ask each process once. One that was replaced since counts from zero."""
        asked = list(self._addresses().items())
        answered = await asyncio.gather(*(_answers(address) for _, address in asked))
        self._silent = {
            each: 0 if answers else self._silent.get(each, 0) + 1
            for each, answers in zip(asked, answered, strict=True)
        }

    def silent(self) -> str | None:
        """Return the name of one that does not answer, if there is one."""
        return self._silent_for(SILENT)

    def hanging(self) -> str | None:
        """Return the name of one that has not answered for so long that it has to go."""
        return self._silent_for(HANGS)

    def forget(self) -> None:
        """Count anew: they are others from now on."""
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
