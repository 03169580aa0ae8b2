"""Dedicated actors as their owner manages them: started on demand, ended when idle.

Commands come from gateways, maybe several, so each actor itself reports how long it was idle.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from weakref import WeakValueDictionary

from actors.errors import Overloaded
from actors.placement.giving_way import Place, giving_way
from actors.placement.host_client import HostClient
from rayfold.runtime.together import all_done

log = logging.getLogger(__name__)


SILENCE = 10.0
"""Seconds that a new actor waits for its turn and for room at most: crashed ones restart in that
time, even on a busy machine.
"""

BUSY = 3.0
"""Seconds in which a busy actor may become idle: most commands take milliseconds."""

FEW = 4
"""New actors of one tenant that start at a time: each is a process. So a tenant waits for few of
another tenant's, however many that one requests.
"""

RETRY_AFTER = 2
"""Seconds after which there may be room: the `Retry-After` of a refusal."""

PAUSE = 0.2
"""Seconds between two status requests to actors that are away or busy."""


class DedicatedActors:
    """Host clients by stream, at most `capacity` of them."""

    def __init__(
        self,
        client: Callable[[str], HostClient],
        retire: Callable[[HostClient, float], Awaitable[bool]],
        *,
        capacity: int,
        idle_timeout: float,
        tenant_of: Callable[[str], str] = lambda _: "",
    ) -> None:
        """`client` returns the client of a stream's actor. `retire` ends an actor unless it is
        busy, or was within so many seconds. Times are in seconds. `tenant_of` returns a stream's
        tenant.
        """
        self._client = client
        self._retire = retire
        self._capacity = capacity
        self._idle_timeout = idle_timeout
        self._tenant_of = tenant_of
        self._newcomers = WeakValueDictionary[str, asyncio.Semaphore]()
        """By tenant: a semaphore for those that may look for room."""
        self._clients: dict[str, HostClient] = {}
        self._leaving: dict[str, asyncio.Task[bool]] = {}
        self._making = asyncio.Lock()
        self._replacing = False
        self._restarts_of_gone = 0
        self._kept: list[str] = []
        """For each actor: why it did not make room for another when last asked."""

    @property
    def clients(self) -> list[HostClient]:
        """Return the clients of the existing actors."""
        return list(self._clients.values())

    @property
    def streams(self) -> list[str]:
        """Return the streams that have an actor."""
        return list(self._clients)

    @property
    def capacity(self) -> int:
        """Return the largest number of dedicated actors."""
        return self._capacity

    @property
    def restarts(self) -> int:
        """Return how often actors were restarted, including actors that have ended since."""
        return self._restarts_of_gone + sum(each.restarts for each in self._clients.values())

    def adopt(self, streams: Iterable[str]) -> None:
        """Take over actors that exist already."""
        for stream in streams:
            self._clients[stream] = self._client(stream)

    async def client_of(self, stream: str) -> HostClient:
        """Return the client of a stream's dedicated actor, which is started if needed.

        Raises:
            Overloaded: there are too many, and none could be evicted in time.
        """
        client = self._there(stream) or await self._newcomer(stream)
        await client.actor()
        return client

    async def _newcomer(self, stream: str) -> HostClient:
        few = self._newcomers.setdefault(self._tenant_of(stream), asyncio.Semaphore(FEW))
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(SILENCE) as waiting, few:
                    client = await self._placed(stream)
                    waiting.reschedule(None)
                    await self._up(stream, client)
                    return client
            # Either all are being replaced by another release, or there is room, but many came at
            # once.
            if not self._replacing and len(self._clients) >= self._capacity:
                log.warning(
                    "no dedicated actor can end to make room for another",
                    extra={"stream": stream, "actors": dict(Counter(self._kept))},
                )
                raise Overloaded(RETRY_AFTER)

    async def _placed(self, stream: str) -> HostClient:
        """Return the stream's client once there is room for it.

        Raises:
            TimeoutError: all are in use.
        """
        began = time.monotonic()
        while True:
            try:
                if (client := await self._found_or_made(stream)) is not None:
                    return client
            except Overloaded:
                if time.monotonic() > began + BUSY:
                    raise TimeoutError from None
            await asyncio.sleep(PAUSE)

    async def _up(self, stream: str, client: HostClient) -> None:
        """Wait until the actor answers, but no longer than `SILENCE`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SILENCE):
                await client.actor()
                while True:
                    ready = (await client.status())["ready"]
                    if ready or self._clients.get(stream) is not client:
                        return
                    await asyncio.sleep(PAUSE)

    async def forget(self, stream: str) -> None:
        """Make a stream's actor, if there is one, fold the stream again."""
        client = self._clients.get(stream)
        if client is not None:
            await client.forget(stream)

    def lose(self) -> None:
        """Stop calling actors: Ray is gone."""
        for client in self._clients.values():
            client.lose()

    async def clear(self) -> None:
        """Forget all actors. If commands wait for one, it is found or started again."""
        clients = self.clients
        self._restarts_of_gone = self.restarts
        self._clients.clear()
        for client in clients:
            client.place.ended()
            await client.close()

    async def sweep(self) -> None:
        """End the actors that have been idle for too long."""
        await asyncio.gather(*(self._evict(s, self._idle_timeout) for s in list(self._clients)))

    async def close(self) -> None:
        """End all actors."""
        await all_done(*(self._evict(s, 0.0, always=True) for s in list(self._clients)))

    async def replace(
        self, fresh: Mapping[str, HostClient], retire: Callable[[HostClient], Awaitable[None]]
    ) -> None:
        """Replace all actors by the `fresh` ones; `retire` the old ones."""
        async with self._making:
            self._restarts_of_gone = self.restarts
            leaving, self._clients = self._clients, dict(fresh)
            self._replacing = True
            try:
                await asyncio.gather(*(retire(client) for client in leaving.values()))
            finally:
                self._replacing = False

    async def _found_or_made(self, stream: str) -> HostClient | None:
        """Return the stream's client; None if there may be room once the other actors answer.

        Raises:
            Overloaded: all have answered, and none can be evicted.
        """
        async with self._making:
            while (leaving := self._leaving.get(stream)) is not None:
                await asyncio.wait([leaving])
            if (client := self._clients.get(stream)) is not None:
                return client
            if len(self._clients) >= self._capacity and not await self._evict_one(stream):
                return None
            client = self._clients[stream] = self._client(stream)
            return client

    def _there(self, stream: str) -> HostClient | None:
        # A replacement gets no command until the actor that it replaces has finished.
        if self._replacing or stream in self._leaving:
            return None
        return self._clients.get(stream)

    async def _evict_one(self, newcomer: str) -> bool:
        """Evict one actor; return False if none can be evicted and not all have answered.

        Raises:
            Overloaded: none can be evicted, and all have answered.
        """
        clients = dict(self._clients)
        said = await asyncio.gather(*(client.status() for client in clients.values()))
        self._kept = ["busy" if status["ready"] else status["error"] for status in said]
        places = [
            Place.of(stream, self._tenant_of(stream), status)
            for stream, status in zip(clients, said, strict=True)
        ]
        for place in giving_way(places, self._tenant_of(newcomer)):
            if await self._evict(place.stream, 0.0, always=place.busy):
                return True
        if all(place.answered for place in places):
            raise Overloaded
        return False

    async def _evict(self, stream: str, idle: float, *, always: bool = False) -> bool:
        if stream in self._leaving or stream not in self._clients:
            return False
        client = self._clients[stream]
        task = asyncio.create_task(self._end(stream, client, idle, always=always))
        self._leaving[stream] = task
        task.add_done_callback(lambda _: self._leaving.pop(stream, None))
        return await asyncio.shield(task)

    async def _end(self, stream: str, client: HostClient, idle: float, *, always: bool) -> bool:
        if not await self._retire(client, idle) and not always:
            return False
        if self._clients.get(stream) is client:
            self._restarts_of_gone += client.restarts
            del self._clients[stream]
        await client.end()
        client.place.ended()
        await client.close()
        return True
