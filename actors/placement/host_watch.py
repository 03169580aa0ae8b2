"""Replacing hosts that fall silent: Ray restarts those that die, not those that hang."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from actors.placement.host_client import HostClient

log = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between two checks."""

SILENCE_TIMEOUT = 4.0
"""Seconds without a response after which a connected host is replaced."""

UNANSWERED = 2
"""Unanswered requests that are needed in that time as well: while this process or the machine was
suspended, time passed without any, and the host may wake later than we do.
"""

AWAY = 2.0
"""Seconds without a response after which the shards of a disconnected host move to others: a
restarted process is back in about that time, a process on a dead node is not.
"""

START_TIMEOUT = 20.0
"""Seconds that an actor may take to start on a busy machine before it counts as silent."""


class HostWatch:
    """Checks all clients periodically."""

    def __init__(
        self,
        clients: Callable[[], Iterable[HostClient]],
        away: Callable[[HostClient], None],
        replace: Callable[[HostClient], None],
    ) -> None:
        """`clients` returns the clients to check; one that waits for nothing may be left out.

        `away` is called repeatedly for a host that is away and may return soon, `replace` for one
        that is to be replaced.
        """
        self._clients = clients
        self._away = away
        self._replace = replace
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start checking."""
        self._task = asyncio.create_task(self._run())

    def stop(self) -> None:
        """Stop checking."""
        if self._task is not None:
            self._task.cancel()

    async def look(self, client: HostClient) -> None:
        """Ping a host that has not responded lately; replace one that is silent."""
        if time.monotonic() - client.heard_at < INTERVAL:
            return
        await client.ping()
        silence = time.monotonic() - client.heard_at
        is_long = silence > (SILENCE_TIMEOUT if client.hangs else START_TIMEOUT)
        if is_long and client.unanswered >= UNANSWERED:
            log.error(
                "a write host is silent and is replaced",
                extra={"seconds": round(silence, 1), "error": client.error},
            )
            self._replace(client)
        elif client.error and silence > AWAY and not client.connected:
            self._away(client)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                await asyncio.gather(*(self.look(client) for client in self._clients()))
            except Exception:
                log.exception("looking at the write hosts failed")
