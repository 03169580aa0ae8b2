"""Hosts that fall silent are replaced: Ray restarts what dies, not what is stopped or hangs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from actors.placement.host_client import HostClient

log = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between two looks."""

SILENCE_TIMEOUT = 4.0
"""Seconds without a word from a host that is connected until it is replaced."""

UNANSWERED = 2
"""Questions in that time at least: where this process or the machine stood still, it passed without
any, and the host may wake later than we do."""

AWAY = 2.0
"""Seconds without a word from a host that is not connected until others have its shards: one whose
process died is there again in about as many, one whose node died is not."""

START_TIMEOUT = 20.0
"""Seconds that an actor has to come up, on a busy machine, before it counts as silent."""


class HostWatch:
    """Looks at all clients again and again."""

    def __init__(
        self,
        clients: Callable[[], Iterable[HostClient]],
        away: Callable[[HostClient], None],
        replace: Callable[[HostClient], None],
    ) -> None:
        """`clients` gives those to look at; one that waits for nothing may be left out.

        `away` is called again and again for one that is not there, and may be soon, `replace` for
        one that is to be replaced.
        """
        self._clients = clients
        self._away = away
        self._replace = replace
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run())

    def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()

    async def look(self, client: HostClient) -> None:
        """Ask a host that was not heard of lately how it is; replace one that is silent."""
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
