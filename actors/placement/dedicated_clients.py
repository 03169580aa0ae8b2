"""Connections to dedicated actors, as a sender of commands holds them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from actors.placement.host_client import HostClient

IDLE = 60.0
"""Seconds without a command after which a connection is closed; others may still use the actor."""


class DedicatedClients:
    """Host clients by stream."""

    def __init__(self, client: Callable[[str], HostClient]) -> None:
        """`client` returns the client of a stream's actor, which it finds or requests."""
        self._client = client
        self._clients: dict[str, HostClient] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def clients(self) -> list[HostClient]:
        """Return the clients that were used lately."""
        return list(self._clients.values())

    def client_of(self, stream: str) -> HostClient:
        """Return the client of the stream's dedicated actor."""
        client = self._clients.get(stream)
        if client is not None and client.has_been_cut_off and not client.outstanding:
            # It was ended when idle, or it died: a new actor has its name now.
            self._close(stream)
            client = None
        if client is None:
            client = self._clients[stream] = self._client(stream)
        return client

    def known(self, stream: str) -> HostClient | None:
        """Return the client of a stream's dedicated actor if it was used lately."""
        return self._clients.get(stream)

    def lose(self) -> None:
        """Stop calling actors: Ray is gone; forget those for which no command waits."""
        for stream, client in list(self._clients.items()):
            client.lose()
            if not client.outstanding:
                self._close(stream)

    def renew(self) -> None:
        """Find again the actors for which commands wait."""
        for client in self._clients.values():
            client.renew()

    def sweep(self) -> None:
        """Close connections that were not used for long, or whose actor has ended."""
        oldest = time.monotonic() - IDLE
        for stream, client in list(self._clients.items()):
            done_with = client.used_at < oldest or client.has_been_cut_off
            if done_with and not client.outstanding:
                self._close(stream)

    async def close(self) -> None:
        """Close all connections."""
        for stream in list(self._clients):
            self._close(stream)
        await asyncio.gather(*self._closing)

    @property
    def errors(self) -> list[str]:
        """Return the errors of silent actors for which a command waits.

        The error of an actor that no command waits for is outdated: the next command will tell.
        """
        return sorted({each.error for each in self._clients.values() if each.outstanding} - {""})

    def _close(self, stream: str) -> None:
        task = asyncio.create_task(self._clients.pop(stream).close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
