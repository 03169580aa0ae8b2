"""The write side's actors as Ray has them: made, found by their names, waited for, and ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from ray.exceptions import ActorDiedError, RayError
from ray.util import list_named_actors

from actors.errors import WriteSideError
from actors.host.host_actor import HostActor
from actors.placement.host_client import HostClient
from actors.write_settings import WriteSettings
from rayfold.runtime.named_actor import find_or_make
from rayfold.runtime.node_domain import broke_while_made, why_not_made
from rayfold.runtime.placing import Placed
from rayfold.runtime.rpc import RpcDisconnected
from rayfold.runtime.together import all_done, together

log = logging.getLogger(__name__)

START_TIMEOUT = 60.0
"""Seconds for an actor to come up on a busy machine."""

DRAIN_TIMEOUT = 10.0
"""Seconds that an actor has to finish what it accepted."""

ASK_INTERVAL = 0.2
"""Seconds between two questions whether one is there."""

FEW = 4
"""Actors of one aggregate that are made at a time while others serve: each is a process."""


class Named(NamedTuple):
    """Actors of a stack's write side that are there already."""

    hosts: list[str]
    """Names of those that have shards."""
    streams: list[str]
    """Of those that have one aggregate."""
    of_others: list[str]
    """Names of those of other releases that have one."""


class HostActors:
    """Gives the clients of actors, whichever of them Ray has already."""

    def __init__(
        self,
        settings: WriteSettings,
        on_silence: Callable[[HostClient], None],
        on_other: Callable[[], None],
    ) -> None:
        """`on_silence` is called for one that gives no sign of life any more, `on_other` when
        another actor has come to the name of a host.
        """
        self._settings = settings
        self._on_silence = on_silence
        self._on_other = on_other
        self.lost = False
        """Whether Ray is gone, so that there is none to find."""

    def named(self, release: str) -> Named:
        """Return those that Ray knows, with the streams of a release; blocks."""
        named = Named([], [], [])
        one, own = self._settings.host_name(""), self._settings.dedicated_name("")
        for actor in list_named_actors(all_namespaces=True):
            name = actor["name"]
            if actor["namespace"] != self._settings.namespace:
                continue
            if name.startswith(own) and name.endswith(release):
                named.streams.append(name.removeprefix(own).removesuffix(release))
            elif name.startswith(own):
                named.of_others.append(name)
            elif name.startswith(one):
                named.hosts.append(name)
        return named

    def host(self, name: str) -> HostClient:
        """Return the client of an actor that has shards; it is made when it is asked for."""
        return self._client(name, "write")

    def dedicated(self, stream: str, release: str) -> HostClient:
        """Return the client of an aggregate's own actor; it is made when it is asked for."""
        return self.dedicated_named(self._settings.dedicated_name(stream, release))

    def dedicated_named(self, name: str) -> HostClient:
        """Return the client of such an actor by the actor's name."""
        client = self._client(name, "dedicated")
        client.show((self._settings.epoch, 0), {})
        return client

    async def new_hosts(self, numbers: range, release: str) -> list[HostClient]:
        """Return those of these numbers once they answer.

        Raises:
            WriteSideError: one of them does not.
        """
        clients = [self.host(self._settings.host_name(number, release)) for number in numbers]
        try:
            await up(clients)
        except BaseException:
            # Whoever tries again makes others; what an owner before has left may serve on.
            await give_up(clients, end=bool(numbers.start) or not self._settings.detached)
            raise
        return clients

    async def new_dedicated(self, streams: Iterable[str], release: str) -> dict[str, HostClient]:
        """Start an actor for each of these aggregates; return them by stream once all answer.

        Raises:
            WriteSideError: one of them does not.
        """
        clients = {stream: self.dedicated(stream, release) for stream in streams}
        few = asyncio.Semaphore(FEW)

        async def one(client: HostClient) -> None:
            async with few:
                await up([client])

        try:
            await together(*map(one, clients.values()))
        except BaseException:
            await give_up(clients.values(), end=not self._settings.detached)
            raise
        return clients

    def _client(self, name: str, kind: str) -> HostClient:
        place = Placed(self._settings.placing, name, kind, kind)
        known: list[str] = []

        async def find() -> Any:
            actor = await asyncio.to_thread(self._actor, name, kind, place)
            if known != [found := actor._actor_id.hex()]:
                if known and kind == "write":  # another one has the name: who calls it must look
                    asyncio.get_running_loop().call_soon(self._on_other)
                known[:] = [found]
            return actor

        return HostClient(find, self._on_silence, place)

    def _actor(self, name: str, kind: str, place: Placed) -> Any:
        if self.lost:
            raise RpcDisconnected("Ray is started again")
        settings = self._settings
        return find_or_make(
            HostActor,
            name,
            settings.namespace,
            place,
            name.replace(f":{settings.identity.stack}:", ":", 1),
            settings.domain,
            settings.eventstore,
            settings.limits,
            settings.identity,
            settings.postgres,
            detached=settings.detached,
            sharded=kind == "write",
        )


async def up(clients: Iterable[HostClient]) -> None:
    """Wait until all answer.

    Raises:
        WriteSideError: one of them does not.
    """
    try:
        async with asyncio.timeout(START_TIMEOUT):
            await together(*(_answer(client) for client in clients))
    except (TimeoutError, RayError, RpcDisconnected) as error:
        raise WriteSideError(f"a write host does not come up: {why_not_made(error)}") from error


async def _answer(client: HostClient) -> None:
    while True:
        actor = await client.actor()
        try:
            await actor.status.remote()
        except ActorDiedError as error:
            if broke_while_made(error):
                raise
            # The name may still lead to one that was ended just now (ray#44083).
            client.renew()
            await asyncio.sleep(ASK_INTERVAL)
        else:
            return


async def give_up(clients: Iterable[HostClient], *, end: bool) -> None:
    """Close the ways to actors that are not needed after all; `end` them too, or let them be."""

    async def one(client: HostClient) -> None:
        try:
            if end:
                await client.end()
        finally:
            client.place.ended()
            await client.close()

    await all_done(*map(one, clients))


async def retire(client: HostClient) -> None:
    """Let an actor finish what it accepted, then end it."""
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT):
            actor = await client.actor()
            await actor.drain.remote()
    except (TimeoutError, RayError, RpcDisconnected) as error:
        log.warning("an actor did not drain", extra={"error": repr(error)})
    await client.end()
    client.place.ended()
    await client.close()


async def drain_idle(client: HostClient, idle: float) -> bool:
    """Drain an aggregate's own actor unless it was busy within so many seconds.

    One that is gone has nothing to do either.
    """
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT):
            actor = await client.actor()
            return bool(await actor.retire.remote(idle))
    except (TimeoutError, RayError, RpcDisconnected) as error:
        log.warning("an actor did not drain", extra={"error": repr(error)})
        return isinstance(error, ActorDiedError)


async def hot(client: HostClient) -> list[str]:
    """Return the streams that a host has in memory, if it says so."""
    with suppress(RayError, RpcDisconnected, TimeoutError):
        async with asyncio.timeout(DRAIN_TIMEOUT):
            actor = await client.actor()
            streams: list[str] = await actor.hot.remote()
            return streams
    return []


async def warm(client: HostClient, streams: list[str]) -> None:
    """Let a host fold these before anybody asks; it serves meanwhile."""
    with suppress(RayError, RpcDisconnected, TimeoutError):
        async with asyncio.timeout(DRAIN_TIMEOUT):
            actor = await client.actor()
            await actor.warm.remote(streams)
