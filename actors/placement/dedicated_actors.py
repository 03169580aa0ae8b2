"""Aggregates that have an actor each, as their owner sees them: made when asked for, ended when
idle.

Commands come from elsewhere, maybe from several gateways; so how long one was idle it says itself.
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
"""Seconds that a new one waits for its turn and for room, at most: those that have crashed come up
again meanwhile, which a machine that is busy leaves little time for."""

BUSY = 3.0
"""Seconds in which one of them may come to its end of work: most commands take milliseconds."""

FEW = 4
"""Newcomers of a tenant at a time, until they answer: each is a process. So a tenant's next one
waits for few of another's, however many that one asks for."""

RETRY_AFTER = 2
"""Seconds after which there may be room."""

PAUSE = 0.2
"""Seconds between two questions to actors that are not there, or busy."""


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
        """`client` gives the client of a stream's actor. `retire` ends one unless it is busy, or
        was within so many seconds. Times in seconds. `tenant_of` tells whose a stream is.
        """
        self._client = client
        self._retire = retire
        self._capacity = capacity
        self._idle_timeout = idle_timeout
        self._tenant_of = tenant_of
        self._newcomers = WeakValueDictionary[str, asyncio.Semaphore]()
        """By tenant: who of it may look for room."""
        self._clients: dict[str, HostClient] = {}
        self._leaving: dict[str, asyncio.Task[bool]] = {}
        self._making = asyncio.Lock()
        self._replacing = False
        self._restarts_of_gone = 0
        self._kept: list[str] = []
        """What kept each of them from making room for another when they were last asked."""

    @property
    def clients(self) -> list[HostClient]:
        """Return the clients of the actors that are there."""
        return list(self._clients.values())

    @property
    def streams(self) -> list[str]:
        """Return the streams that have an actor."""
        return list(self._clients)

    @property
    def capacity(self) -> int:
        """Return how many there may be."""
        return self._capacity

    @property
    def restarts(self) -> int:
        """Return how often one of them was started again, those that have gone since too."""
        return self._restarts_of_gone + sum(each.restarts for each in self._clients.values())

    def adopt(self, streams: Iterable[str]) -> None:
        """Take over actors that are there already."""
        for stream in streams:
            self._clients[stream] = self._client(stream)

    async def client_of(self, stream: str) -> HostClient:
        """Return the client of the stream's own actor, which is made if need be.

        Raises:
            Overloaded: there are too many, and none gives way, as far as they say in time.
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
            # All are on their way to another release; or there is room, but many came at once.
            if not self._replacing and len(self._clients) >= self._capacity:
                log.warning(
                    "no aggregate's own actor makes room for another",
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
        """Wait until it answers, if that takes no longer than `SILENCE`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SILENCE):
                await client.actor()
                while True:
                    ready = (await client.status())["ready"]
                    if ready or self._clients.get(stream) is not client:
                        return
                    await asyncio.sleep(PAUSE)

    async def forget(self, stream: str) -> None:
        """Let a stream's actor fold it again, if there is one."""
        client = self._clients.get(stream)
        if client is not None:
            await client.forget(stream)

    def lose(self) -> None:
        """Call no actor any more, as Ray is gone."""
        for client in self._clients.values():
            client.lose()

    async def clear(self) -> None:
        """Forget all actors. Where commands wait for one, it is looked up or made again."""
        clients = self.clients
        self._restarts_of_gone = self.restarts
        self._clients.clear()
        for client in clients:
            client.place.ended()
            await client.close()

    async def sweep(self) -> None:
        """End those that were idle for long."""
        await asyncio.gather(*(self._evict(s, self._idle_timeout) for s in list(self._clients)))

    async def close(self) -> None:
        """End all."""
        await all_done(*(self._evict(s, 0.0, always=True) for s in list(self._clients)))

    async def replace(
        self, fresh: Mapping[str, HostClient], retire: Callable[[HostClient], Awaitable[None]]
    ) -> None:
        """Put the `fresh` actors in the place of all; `retire` those that were there before."""
        async with self._making:
            self._restarts_of_gone = self.restarts
            leaving, self._clients = self._clients, dict(fresh)
            self._replacing = True
            try:
                await asyncio.gather(*(retire(client) for client in leaving.values()))
            finally:
                self._replacing = False

    async def _found_or_made(self, stream: str) -> HostClient | None:
        """Return the stream's client; None if there may be room for it as soon as others answer.

        Raises:
            Overloaded: all have answered, and none gives way.
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
        # One that takes the place of another gets no command until that one has finished.
        if self._replacing or stream in self._leaving:
            return None
        return self._clients.get(stream)

    async def _evict_one(self, newcomer: str) -> bool:
        """End one that gives way; return False if none does, and not all have answered.

        Raises:
            Overloaded: all have answered.
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
