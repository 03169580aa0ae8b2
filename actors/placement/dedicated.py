"""Aggregates that have an actor each: made on first use, evicted when idle."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

from actors.envelope import Envelope, Outcome
from actors.errors import Overloaded
from actors.placement.host_client import HostClient

log = logging.getLogger(__name__)


class Dedicated:
    """Host clients by stream, the least recently used first; at most `capacity` of them."""

    def __init__(
        self,
        client: Callable[[str], HostClient],
        remove: Callable[[HostClient], Awaitable[None]],
        *,
        capacity: int,
        idle_timeout: float,
    ) -> None:
        """`client` gives the client of a stream's actor, `remove` drains and removes one. Times in
        seconds.
        """
        self._client = client
        self._remove = remove
        self._capacity = capacity
        self._idle_timeout = idle_timeout
        self._clients: OrderedDict[str, HostClient] = OrderedDict()
        self._leaving: dict[str, asyncio.Task[None]] = {}

    @property
    def clients(self) -> list[HostClient]:
        """Return the clients of the actors that are there."""
        return list(self._clients.values())

    async def send(self, envelope: Envelope) -> Outcome:
        """Return the outcome from the stream's own actor; `Overloaded` if none can be evicted."""
        try:
            client = await self.client_of(envelope.stream)
        except Overloaded as error:
            return error
        return await client.send(envelope)

    async def client_of(self, stream: str) -> HostClient:
        """Return the client of the stream's own actor, which is made if need be.

        Raises:
            Overloaded: there are too many, and none can be evicted.
        """
        leaving = self._leaving.get(stream)
        if leaving is not None:
            await asyncio.wait([leaving])
        client = self._clients.get(stream)
        if client is None:
            if len(self._clients) >= self._capacity and not self._evict_one():
                raise Overloaded
            client = self._clients[stream] = self._client(stream)
        self._clients.move_to_end(stream)
        return client

    async def forget(self, stream: str) -> None:
        """Let a stream's actor fold it again, if there is one."""
        client = self._clients.get(stream)
        if client is not None:
            await client.forget(stream)

    def lose(self) -> None:
        """Call no actor any more, as Ray is gone; forget those for which no command waits."""
        for stream, client in list(self._clients.items()):
            client.lose()
            if not client.outstanding:
                del self._clients[stream]

    def renew(self) -> None:
        """Make the actors again for which commands wait."""
        for client in self._clients.values():
            client.renew()

    def sweep(self) -> None:
        """Evict those that were idle for long."""
        oldest = time.monotonic() - self._idle_timeout
        for stream, client in list(self._clients.items()):
            if client.used_at > oldest:
                break
            if not client.outstanding:
                self._evict(stream)

    async def close(self) -> None:
        """Evict all."""
        for stream in list(self._clients):
            self._evict(stream)
        while self._leaving:
            await asyncio.wait(list(self._leaving.values()))

    async def status(self) -> list[dict[str, Any]]:
        """Return one entry for all of them; it is ready as long as none is silent that is asked.

        What one said that nobody waits for is old: the next command finds out.
        """
        errors = {client.error for client in self._clients.values() if client.outstanding} - {""}
        return [
            {
                "part": "write:dedicated",
                "kind": "write",
                "ready": not errors,
                **({"error": ", ".join(sorted(errors))} if errors else {}),
                "actors": len(self._clients),
                "most": self._capacity,
                "waiting": sum(client.outstanding for client in self._clients.values()),
            }
        ]

    def _evict_one(self) -> bool:
        for stream, client in self._clients.items():
            if not client.outstanding:
                self._evict(stream)
                return True
        return False

    def _evict(self, stream: str) -> None:
        client = self._clients.pop(stream)
        task = asyncio.create_task(self._remove_actor(client))
        self._leaving[stream] = task
        task.add_done_callback(lambda _: self._leaving.pop(stream, None))

    async def _remove_actor(self, client: HostClient) -> None:
        await self._remove(client)
        await client.close()
