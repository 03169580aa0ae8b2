"""The write side's Ray actors: created, found by name, awaited, and ended."""

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
"""Seconds that an actor may take to start on a busy machine."""

DRAIN_TIMEOUT = 10.0
"""Seconds that an actor has to finish the commands it accepted."""

ASK_INTERVAL = 0.2
"""Seconds between two checks whether an actor answers."""

FEW = 4
"""Dedicated actors that are started at a time while others serve: each is a process."""


class Named(NamedTuple):
    """The existing actors of a stack's write side."""

    hosts: list[str]
    """The names of the hosts that serve shards."""
    streams: list[str]
    """The streams of the dedicated actors."""
    of_others: list[str]
    """The names of dedicated actors of other releases."""


class HostActors:
    """Creates clients of actors, including those that Ray knows already."""

    def __init__(
        self,
        settings: WriteSettings,
        on_silence: Callable[[HostClient], None],
        on_other: Callable[[], None],
    ) -> None:
        """`on_silence` is called for an actor that no longer responds, `on_other` when another
        actor has taken the name of a host.
        """
        self._settings = settings
        self._on_silence = on_silence
        self._on_other = on_other
        self.lost = False
        """Whether Ray is gone, so that no actor can be found."""

    def named(self, release: str) -> Named:
        """Return the actors that Ray knows, with the streams of a release; blocks."""
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
        """Return the client of a host; its actor is started when it is first called."""
        return self._client(name, "write")

    def dedicated(self, stream: str, release: str) -> HostClient:
        """Return the client of a dedicated actor; the actor is started when it is first called."""
        return self.dedicated_named(self._settings.dedicated_name(stream, release))

    def dedicated_named(self, name: str) -> HostClient:
        """Return the client of a dedicated actor by the actor's name."""
        client = self._client(name, "dedicated")
        client.show((self._settings.epoch, 0), {})
        return client

    async def new_hosts(self, numbers: range, release: str) -> list[HostClient]:
        """Return the hosts of these numbers once they answer.

        Raises:
            WriteSideError: one of them does not answer.
        """
        clients = [self.host(self._settings.host_name(number, release)) for number in numbers]
        try:
            await up(clients)
        except BaseException:
            # A retry creates new ones; those of a previous owner may go on serving.
            await give_up(clients, end=bool(numbers.start) or not self._settings.detached)
            raise
        return clients

    async def new_dedicated(self, streams: Iterable[str], release: str) -> dict[str, HostClient]:
        """Start a dedicated actor for each stream; return them by stream once all answer.

        Raises:
            WriteSideError: one of them does not answer.
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
                # Another actor has the name now: the caller must look it up again.
                if known and kind == "write":
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
        WriteSideError: one of them does not answer.
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
            # The name may still resolve to an actor that was just ended (ray#44083).
            client.renew()
            await asyncio.sleep(ASK_INTERVAL)
        else:
            return


async def give_up(clients: Iterable[HostClient], *, end: bool) -> None:
    """Close the connections to actors that are not needed after all; `end` also ends the actors."""

    async def one(client: HostClient) -> None:
        try:
            if end:
                await client.end()
        finally:
            client.place.ended()
            await client.close()

    await all_done(*map(one, clients))


async def retire(client: HostClient) -> None:
    """Let an actor finish the commands it accepted, then end it."""
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
    """Drain a dedicated actor unless it was busy within so many seconds; return whether it is idle.

    An actor that is gone counts as idle.
    """
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT):
            actor = await client.actor()
            return bool(await actor.retire.remote(idle))
    except (TimeoutError, RayError, RpcDisconnected) as error:
        log.warning("an actor did not drain", extra={"error": repr(error)})
        return isinstance(error, ActorDiedError)


async def hot(client: HostClient) -> list[str]:
    """Return the most recently used streams of a host; none if it does not answer."""
    with suppress(RayError, RpcDisconnected, TimeoutError):
        async with asyncio.timeout(DRAIN_TIMEOUT):
            actor = await client.actor()
            streams: list[str] = await actor.hot.remote()
            return streams
    return []


async def warm(client: HostClient, streams: list[str]) -> None:
    """Let a host fold these streams in advance; it serves meanwhile."""
    with suppress(RayError, RpcDisconnected, TimeoutError):
        async with asyncio.timeout(DRAIN_TIMEOUT):
            actor = await client.actor()
            await actor.warm.remote(streams)
