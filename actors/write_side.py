"""The write side as a whole: its actors, and the bus that reaches them."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError

from actors.append_watch import AppendWatch
from actors.command_bus import CommandBus
from actors.deletion_watch import DeletionWatch
from actors.envelope import Done, Envelope, Outcome
from actors.errors import BadScale, EventStoreUnavailable, InvalidCommand, WriteSideError
from actors.host.host import HostLimits
from actors.host.host_actor import HostActor
from actors.placement.dedicated import Dedicated
from actors.placement.host_client import HostClient, Moved
from actors.placement.host_watch import HostWatch
from actors.placement.shards import Moves, ShardTable
from eventstore.kurrentdb.log import EventLog
from rayfold import Placement, Registry
from rayfold.registry import AggregateType
from rayfold.runtime.node_domain import broke_while_made, why_not_made
from rayfold.runtime.placing import Anywhere, Placed, Placing
from rayfold.runtime.rpc import RpcDisconnected

log = logging.getLogger(__name__)

START_TIMEOUT = 60.0
"""Seconds for an actor to come up on a busy machine."""

DRAIN_TIMEOUT = 10.0
"""Seconds that an actor has to finish what it accepted."""

RETURN_TIMEOUT = 20.0
"""Seconds that a host that is away has to answer before it is replaced, or replaced again."""

RETURN_INTERVAL = 0.2
"""Seconds between two questions whether it is there again."""

SWEEP_INTERVAL = 5.0

MAX_HOSTS = 64


@dataclass(frozen=True)
class WriteSettings:
    """`domain` is a package, `eventstore` a URI. `dedicated` bounds actors of their own
    (55 MB each); `dedicated_idle` is in seconds. `stack_id` is in the name of every actor: stacks
    of one namespace share none."""

    domain: str
    eventstore: str
    hosts: int = 1
    namespace: str = "rayfold"
    stack_id: str = ""
    dedicated: int = 24
    dedicated_idle: float = 60.0
    limits: HostLimits = field(default_factory=HostLimits)
    placing: Placing = field(default_factory=Anywhere)


class WriteSide:
    """Started in the gateway's process, where Ray runs already."""

    def __init__(self, registry: Registry, settings: WriteSettings) -> None:
        self.settings = settings
        self._aggregates = registry.aggregates
        self._hosts: list[HostClient] = []
        self._table = ShardTable(settings.hosts)
        self._dedicated = Dedicated(
            lambda stream: self._client(f"rayfold:aggregate:{stream}", "dedicated"),
            self._remove,
            capacity=settings.dedicated,
            idle_timeout=settings.dedicated_idle,
        )
        self._deletions = DeletionWatch(
            EventLog(settings.eventstore), registry.prefixes, self._forget
        )
        self._appends = AppendWatch(lambda: EventLog(settings.eventstore))
        self._lost = False
        self._scaling = asyncio.Lock()
        self._watch = HostWatch(self._waited_for, self._go_around, self._replace)
        self._returning: dict[HostClient, asyncio.Task[None]] = {}
        """Hosts that are away, and what brings them back."""
        self._sweeper: asyncio.Task[None] | None = None
        self.bus = CommandBus(registry, self._route)

    @classmethod
    async def start(cls, registry: Registry, settings: WriteSettings) -> WriteSide:
        """Make the hosts and wait until they answer.

        Raises:
            WriteSideError: one of them does not.
        """
        side = cls(registry, settings)
        side._hosts = await side._new_hosts(range(settings.hosts))
        side._sweeper = asyncio.create_task(side._sweep())
        side._watch.start()
        side._deletions.start()
        return side

    async def scale(self, hosts: int) -> None:
        """Add or remove hosts while serving: moved aggregates are folded where they land.

        Raises:
            BadScale: there cannot be so many.
            WriteSideError: a new one does not come up.
        """
        if not 1 <= hosts <= MAX_HOSTS:
            raise BadScale(f"write hosts go from 1 to {MAX_HOSTS}, not {hosts}")
        async with self._scaling:
            have = len(self._hosts)
            self._hosts += await self._new_hosts(range(have, hosts))
            self._moved(self._table.spread(hosts))
            leaving = self._hosts[hosts:]
            # From here on nothing new is sent to them; what was sent gets its answer first.
            await asyncio.gather(*(self._retire(client) for client in leaving))
            del self._hosts[hosts:]

    async def delete_stream(self, stream: str, *, tombstone: bool = False) -> None:
        """Delete an aggregate's stream, between two of its commands; see `Log.delete_stream`.

        Raises:
            InvalidCommand: no aggregate of the domain has such a stream.
            Overloaded, Unavailable: it was not deleted, or may not have been; try again.
        """
        category, dash, aggregate_id = stream.partition("-")
        owner = self._aggregates.get(category)
        if owner is None or not dash or not aggregate_id:
            raise InvalidCommand(f"no aggregate has the stream {stream!r}")
        if owner.placement is Placement.DEDICATED:
            client = await self._dedicated.client_of(stream)
        else:
            client = self._hosts[self._table.host_of(stream)]
        await client.delete_stream(stream, tombstone=tombstone)

    async def outcome(self, command_id: str) -> tuple[str, Outcome | None] | None:
        """Return a command's stream and what became of it, if a writer remembers it.

        For whoever did not send it: another gateway may have, which may be gone.
        """
        clients = [*self._hosts, *self._dedicated.clients]
        found = await asyncio.gather(*(client.outcome(command_id) for client in clients))
        known = [each for each in found if each is not None]
        # A shard that moved: another host may have refused it, or have it on its way still.
        known.sort(key=lambda each: (isinstance(each[1], Done), each[1] is not None))
        return known[-1] if known else None

    async def lose(self) -> None:
        """Call no actor any more: Ray is gone. Commands wait for `heal`, within their deadlines."""
        self._lost = True
        self._give_up_returning()
        for client in self._hosts:
            client.lose()
        self._dedicated.lose()

    async def heal(self) -> None:
        """Make the actors again, in another Ray; wait for the hosts.

        Commands that have no answer yet are sent to the new ones.

        Raises:
            WriteSideError: a host does not come up.
        """
        self._lost = False
        for client in self._hosts:
            client.renew()
        self._dedicated.renew()
        await self._up(self._hosts)
        for number in range(len(self._hosts)):
            self._moved(self._table.rejoin(number))

    async def status(self) -> list[dict[str, Any]]:
        """Return the state of every host, of the dedicated actors, and of appends."""
        hosts = await asyncio.gather(
            *(self._status(number, client) for number, client in enumerate(self._hosts))
        )
        dedicated = await self._dedicated.status()
        return [
            *hosts,
            *({**part, "ready": not self._lost and part["ready"]} for part in dedicated),
            self._appends.status(),
        ]

    async def pids(self) -> list[int]:
        """Return the processes of all hosts that answer: what a test of failure kills."""
        clients = [*self._hosts, *self._dedicated.clients]
        statuses = await asyncio.gather(*(self._status(0, client) for client in clients))
        return [status["pid"] for status in statuses if status["ready"]]

    async def stop(self) -> None:
        """Finish what was accepted, then remove the actors."""
        self._watch.stop()
        self._give_up_returning()
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self._appends.stop()
        await self._deletions.stop()
        await asyncio.gather(
            self._dedicated.close(), *(self._retire(client) for client in self._hosts)
        )
        self._hosts.clear()

    async def _route(self, owner: AggregateType, envelope: Envelope) -> Outcome:
        if owner.placement is Placement.DEDICATED:
            outcome = await self._dedicated.send(envelope)
        else:
            while True:  # whoever sent it keeps its deadline
                client = self._hosts[self._table.host_of(envelope.stream)]
                outcome = await client.send(envelope)
                if not isinstance(outcome, Moved):
                    break
        if isinstance(outcome, EventStoreUnavailable):
            self._appends.failed(outcome.detail)
        return outcome

    async def _forget(self, stream: str) -> None:
        owner = self._aggregates[stream.partition("-")[0]]
        if owner.placement is Placement.DEDICATED:
            await self._dedicated.forget(stream)
        elif self._hosts:
            await self._hosts[self._table.host_of(stream)].forget(stream)

    async def _new_hosts(self, numbers: range) -> list[HostClient]:
        clients = [self._client(f"rayfold:write#{number}", "write") for number in numbers]
        try:
            await self._up(clients)
        except BaseException:
            for client in clients:  # whoever tries again makes others
                await client.end()
                client.place.ended()
                await client.close()
            raise
        return clients

    async def _up(self, clients: list[HostClient]) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await asyncio.gather(*(self._answer(client) for client in clients))
        except (TimeoutError, RayError, RpcDisconnected) as error:
            raise WriteSideError(f"a write host does not come up: {why_not_made(error)}") from error

    async def _answer(self, client: HostClient) -> None:
        while True:
            actor = await client.actor()
            try:
                await actor.status.remote()
            except ActorDiedError as error:
                if broke_while_made(error):
                    raise
                # The name may still lead to one that was ended just now (ray#44083).
                client.renew()
                await asyncio.sleep(RETURN_INTERVAL)
            else:
                return

    def _go_around(self, client: HostClient) -> None:
        """Let others have the shards of a host until it answers again, as it may soon."""
        if client in self._hosts and client not in self._returning and len(self._hosts) > 1:
            self._leave(client, replace=False)

    def _replace(self, client: HostClient) -> None:
        """Let others have the shards of a host that is silent, and make another in its place.

        The silent one may go on: its appends fail by their expected revision.
        """
        if client in self._returning or self._lost:
            return
        log.error("a write host is silent and is replaced", extra={"error": client.error})
        client.place.suspect()
        self._leave(client, replace=True)

    def _leave(self, client: HostClient, *, replace: bool) -> None:
        if client in self._hosts:
            number = self._hosts.index(client)
            self._moved(self._table.lose(number))
            log.warning("a write host is away", extra={"host": number})
        task = asyncio.create_task(self._bring_back(client, replace=replace))
        self._returning[client] = task
        task.add_done_callback(lambda _: self._returning.pop(client, None))

    async def _bring_back(self, client: HostClient, *, replace: bool) -> None:
        """Wait until a host answers, the way that commands go; then it has its shards again."""
        while client in self._hosts or client in self._dedicated.clients:
            if replace:
                await client.replace()
            until = time.monotonic() + RETURN_TIMEOUT
            while time.monotonic() < until:
                await client.ping()
                if not client.error:
                    if client in self._hosts:
                        self._moved(self._table.rejoin(self._hosts.index(client)))
                    return
                await asyncio.sleep(RETURN_INTERVAL)
            replace = True

    def _moved(self, moves: Moves) -> None:
        """Tell those whose shards others have, and those that have others' shards."""
        for number, client in enumerate(self._hosts):
            if number in moves:
                client.gain(moves[number])
            elif self._table.without_shards(number):
                client.hand_over()

    def _give_up_returning(self) -> None:
        for task in self._returning.values():
            task.cancel()
        self._returning.clear()

    def _waited_for(self) -> list[HostClient]:
        if self._lost:
            return []
        waited_for = (each for each in self._dedicated.clients if each.outstanding)
        return [each for each in (*self._hosts, *waited_for) if each not in self._returning]

    def _client(self, name: str, kind: str) -> HostClient:
        place = Placed(self.settings.placing, name, kind, kind)
        return HostClient(partial(self._actor, name, place), self._replace, place)

    def _actor(self, name: str, place: Placed) -> Any:
        if self._lost:
            raise RpcDisconnected("Ray is started again")
        settings = self.settings
        return (
            ray.remote(HostActor)
            .options(
                name=name.replace(":", f":{settings.stack_id}:", 1),
                namespace=settings.namespace,
                get_if_exists=True,
                **place.options(),
                max_restarts=-1,
                max_task_retries=0,
                max_concurrency=1000,
            )
            .remote(name, settings.domain, settings.eventstore, settings.limits)
        )

    async def _status(self, number: int, client: HostClient) -> dict[str, Any]:
        part = {
            "part": f"write#{number}",
            "kind": "write",
            "queued": client.outstanding,
            "shards": self._table.count(number),
        }
        return {**part, **await client.status()}

    async def _retire(self, client: HostClient) -> None:
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT):
                await client.idle()
        except TimeoutError:
            log.warning(
                "a write host is removed with commands open", extra={"commands": client.outstanding}
            )
        await self._remove(client)
        await client.close()

    async def _remove(self, client: HostClient) -> None:
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT):
                actor = await client.actor()
                await actor.drain.remote()
        except (TimeoutError, RayError, RpcDisconnected) as error:
            log.warning("an actor did not drain", extra={"error": repr(error)})
        await client.end()
        client.place.ended()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            self._dedicated.sweep()
