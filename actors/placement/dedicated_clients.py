"""The ways to aggregates that have an actor each, as whoever sends commands to them has them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from actors.placement.host_client import HostClient

IDLE = 60.0
"""Seconds without a command after which a way is closed; its actor may be asked by others."""


class DedicatedClients:
    """Host clients by stream."""

    def __init__(self, client: Callable[[str], HostClient]) -> None:
        """`client` gives the client of a stream's actor, which it finds, or asks for."""
        self._client = client
        self._clients: dict[str, HostClient] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def clients(self) -> list[HostClient]:
        """Return those that were used lately."""
        return list(self._clients.values())

    def client_of(self, stream: str) -> HostClient:
        """Return the client of the stream's own actor."""
        client = self._clients.get(stream)
        if client is not None and client.has_been_cut_off and not client.outstanding:
            # It was ended as it was idle, or it died: whoever has its name now is another one.
            self._close(stream)
            client = None
        if client is None:
            client = self._clients[stream] = self._client(stream)
        return client

    def known(self, stream: str) -> HostClient | None:
        """Return the client of the stream's own actor if it was used lately; None is made."""
        return self._clients.get(stream)

    def lose(self) -> None:
        """Call no actor any more, as Ray is gone; forget those for which no command waits."""
        for stream, client in list(self._clients.items()):
            client.lose()
            if not client.outstanding:
                self._close(stream)

    def renew(self) -> None:
        """Find the actors again for which commands wait."""
        for client in self._clients.values():
            client.renew()

    def sweep(self) -> None:
        """Close the ways that were not used for long, or lead to an actor that has ended."""
        oldest = time.monotonic() - IDLE
        for stream, client in list(self._clients.items()):
            done_with = client.used_at < oldest or client.has_been_cut_off
            if done_with and not client.outstanding:
                self._close(stream)

    async def close(self) -> None:
        """Close all of them."""
        for stream in list(self._clients):
            self._close(stream)
        await asyncio.gather(*self._closing)

    @property
    def errors(self) -> list[str]:
        """Return why those are silent for which somebody waits.

        What one said that nobody waits for is old: the next command finds out.
        """
        return sorted({each.error for each in self._clients.values() if each.outstanding} - {""})

    def _close(self, stream: str) -> None:
        task = asyncio.create_task(self._clients.pop(stream).close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
