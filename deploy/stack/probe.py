"""A server that everything depends on, checked every second."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from deploy.stack.child_process import ChildProcess

log = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between two checks."""

SILENCE = 1.5
"""Seconds without an answer after which the server counts as not ready."""


class Probe:
    """A server, ours or the user's, and whether it answers: a running one may be suspended."""

    def __init__(
        self,
        name: str,
        ask: Callable[[], Awaitable[str | None]],
        process: ChildProcess | None,
        measured: Mapping[str, int] | None = None,
    ) -> None:
        """`ask` raises, or returns what is wrong, or None. It updates `measured`."""
        self._measured = {} if measured is None else measured
        self.name = name
        self._ask = ask
        self._process = process
        self._wrong: str | None = None
        self._plainly = ""
        self._since = 0.0
        self._since_when: datetime | None = None

    def status(self) -> dict[str, Any]:
        """Return the server as a part of the status, which serves no request by itself.

        `plainly` says what is wrong without addresses and client messages: for anyone.
        """
        part: dict[str, Any] = {"part": self.name, "kind": "server", "serves": False, "ready": True}
        if self._process is not None:
            part |= self._process.status()
        if self._wrong is not None and part["ready"]:
            part |= {"ready": False, "error": self._wrong, "plainly": self._plainly}
        part |= self._measured
        if not part["ready"] and self._since_when is not None:
            part["since"] = self._since_when.isoformat(timespec="milliseconds")
        return part

    async def watch(self) -> None:
        """Check periodically; log when it becomes not ready, and when it is ready again."""
        while True:
            await self.look()
            await asyncio.sleep(INTERVAL)

    async def look(self) -> None:
        """Check once."""
        try:
            async with asyncio.timeout(SILENCE):
                wrong = await self._ask()
            self._plainly = wrong or ""
        except TimeoutError:
            wrong = self._plainly = f"no answer in {SILENCE} s"
        except Exception as error:  # whatever its client raises
            self._plainly = "it does not answer"
            wrong = f"{type(error).__name__}: {error}".splitlines()[0]
        if wrong is not None and self._wrong is None:
            self._since = time.monotonic()
            self._since_when = datetime.now(UTC)
            log.error("a server is not ready", extra={"server": self.name, "error": wrong})
        elif wrong is None and self._wrong is not None:
            seconds = round(time.monotonic() - self._since, 1)
            log.warning("a server is ready again", extra={"server": self.name, "seconds": seconds})
            self._since_when = None
        self._wrong = wrong
