"""Owns the write side's actors: creates, restarts, moves and ends them. One per stack."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from actors.deletion_watch import DeletionWatch
from actors.envelope import Outcome
from actors.errors import BadScale, InvalidCommand
from actors.joint_appends import check_joint_appends
from actors.placement.dedicated_actors import DedicatedActors
from actors.placement.host_actors import (
    ASK_INTERVAL,
    HostActors,
    drain_idle,
    give_up,
    hot,
    retire,
    up,
    warm,
)
from actors.placement.host_client import HostClient, outcome_of
from actors.placement.host_watch import HostWatch
from actors.placement.shards import ShardTable
from actors.write_settings import WriteSettings
from eventstore.kurrentdb.log import EventLog
from rayfold import Placement, Registry
from rayfold.runtime.lasting import lasting
from rayfold.runtime.together import all_done
from rayfold.tenants import NoTenant, tenant_of_stream

log = logging.getLogger(__name__)

RETURN_TIMEOUT = 20.0
"""Seconds that a host that is away has to answer before it is replaced (again)."""

SWEEP_INTERVAL = 5.0

MAX_HOSTS = 64


class WriteOwner:
    """Keeps the wanted number of hosts, and decides which of them has which shards.

    Commands do not pass through it: its connections are for heartbeats, and to tell hosts their
    shards.
    """

    def __init__(
        self,
        registry: Registry,
        settings: WriteSettings,
        *,
        before: dict[str, Any] | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """`before` are the routes that the previous owner has left. `changed` is called when the
        routes change.
        """
        self.settings = settings
        self._registry = registry
        self._aggregates = registry.aggregates
        self._decided_together = registry.decided_together
        self._changed = changed
        self.published: Callable[[], Awaitable[None]] | None = None
        """Waits until other processes that follow the routes can have seen a change."""
        self._hosts: list[HostClient] = []
        self._table = ShardTable.read(before) if before else ShardTable(settings.hosts)
        self._release = before.get("release", settings.release) if before else settings.release
        """The release of the hosts: the previous one goes on until `renew`."""
        self._actors = HostActors(settings, self._replace, self._is_another)
        self._dedicated = DedicatedActors(
            lambda stream: self._actors.dedicated(stream, self._release),
            self._drain_idle,
            capacity=settings.dedicated,
            idle_timeout=settings.dedicated_idle,
            tenant_of=_tenant_of if registry.tenants else lambda _: "",
        )
        self._deletions = DeletionWatch(
            EventLog(settings.eventstore), registry.prefixes, self._forget
        )
        self._scaling = asyncio.Lock()
        self._watch = HostWatch(self._watched, self._go_around, self._replace)
        self._returning: dict[HostClient, asyncio.Task[None]] = {}
        """Hosts that are away, each with the task that brings it back."""
        self._showing: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the hosts, or adopt running ones; wait until they answer.

        Raises:
            WriteSideError: one of them does not answer.
        """
        await self._check_log()
        hosts = self.settings.hosts
        self._table.spread(hosts)
        named = await asyncio.to_thread(self._actors.named, self._release)
        self._hosts = await self._actors.new_hosts(range(hosts), self._release)
        await self._replace_others(self._hosts)
        self._dedicated.adopt(named.streams)
        await self._replace_others(self._dedicated.clients)
        known = {self._host_name(number) for number in range(hosts)}
        await asyncio.gather(
            *(retire(self._actors.host(name)) for name in named.hosts if name not in known),
            *(retire(self._actors.dedicated_named(name)) for name in named.of_others),
        )
        self._announce()
        self._sweeper = asyncio.create_task(lasting(self._sweep, "looking after writers"))
        self._watch.start()
        self._deletions.start()

    async def _replace_others(self, clients: list[HostClient]) -> None:
        """Replace actors of our release that run another release's code, or have other settings.

        During an upgrade, the owner of the new release starts replacements under the names that
        gateways know, with its own code. If the upgrade is given up, or the previous release
        follows it, that code must not go on deciding. An actor with an outdated password or address
        must be replaced too: it cannot reach the stores once these are gone.
        """
        if self._release != self.settings.release:
            return
        said = await asyncio.gather(*map(self._made_of, clients))
        ours = self.settings.identity.domain, self.settings.made_with
        others = [each for each in zip(clients, said, strict=True) if each[1] != ours]
        for _, made_of in others:
            log.warning("a writer %s and is replaced", _otherwise(made_of, ours))
        await asyncio.gather(*(client.replace() for client, _ in others))
        # There may be no room for an actor that did not answer: only its own callers wait for it.
        await up(client for client, made_of in others if made_of is not None)

    async def _made_of(self, client: HostClient) -> tuple[str, str] | None:
        """Return an actor's code and settings; None if it does not answer: it may be restarting."""
        until = time.monotonic() + RETURN_TIMEOUT
        while not (status := await client.status())["ready"]:
            if time.monotonic() > until:
                return None
            await asyncio.sleep(ASK_INTERVAL)
        # An older Rayfold does not report it.
        domain = status.get("domain", self.settings.identity.domain)
        return domain, status.get("made_with", self.settings.made_with)

    async def _check_log(self) -> None:
        event_log = EventLog(self.settings.eventstore)
        try:
            await check_joint_appends(self._registry, event_log)
        finally:
            await event_log.close()

    def routes(self) -> dict[str, Any]:
        """Return the shard table as plain JSON."""
        hosts = [
            {"name": self._host_name(number), "actor": client.actor_id}
            for number, client in enumerate(self._hosts)
        ]
        return {"hosts": hosts, "release": self._release, **self._table.plain()}

    async def scale(self, hosts: int) -> None:
        """Add or remove hosts while serving; moved aggregates are folded at their new host.

        Raises:
            BadScale: that number of hosts is not possible.
            WriteSideError: a new one does not start.
        """
        if not 1 <= hosts <= MAX_HOSTS:
            raise BadScale(f"write hosts go from 1 to {MAX_HOSTS}, not {hosts}")
        async with self._scaling:
            have = len(self._hosts)
            self._hosts += await self._actors.new_hosts(range(have, hosts), self._release)
            self._table.spread(hosts)
            leaving = self._hosts[hosts:]
            del self._hosts[hosts:]
            self._announce()
            for client in leaving:  # told that it has no shards: late commands are sent elsewhere
                client.show(self._term, {})
                self._show(client)
            if leaving and self.published is not None:
                await self.published()
            await asyncio.gather(*(retire(client) for client in leaving))

    async def renew(self) -> None:
        """Replace the hosts of another release while serving; the new ones take over their shards.

        Hot aggregates are folded at their new hosts in advance. New dedicated actors are started
        beside the old ones, too, and are found once these end.

        Raises:
            WriteSideError: a new one does not start; the old ones serve on.
        """
        release = self.settings.release
        if self._release == release:
            return
        async with self._scaling:
            new = await self._actors.new_hosts(range(len(self._hosts)), release)
            try:
                dedicated = await self._actors.new_dedicated(self._dedicated.streams, release)
            except BaseException:
                await give_up(new, end=not self.settings.detached)
                raise
            streams = await asyncio.gather(*(hot(client) for client in self._hosts))
            leaving, self._hosts, self._release = self._hosts, new, release
            self._table.touch()
            self._announce()
            for client in leaving:
                client.show(self._term, {})
                self._show(client)
            if self.published is not None:
                await self.published()
            warming = [warm(client, each) for client, each in zip(new, streams, strict=True)]
            await asyncio.gather(*warming, *(retire(client) for client in leaving))
            await self._dedicated.replace(dedicated, retire)

    async def make_dedicated(self, stream: str) -> None:
        """Start an aggregate's dedicated actor, unless it exists.

        Raises:
            Overloaded: there are too many, and none is idle.
            InvalidCommand: no aggregate of the domain has such a stream.
            RayError: it cannot be started now.
        """
        if self._aggregate_of(stream).placement is not Placement.DEDICATED:
            raise InvalidCommand(f"{stream!r} has no actor of its own")
        await self._dedicated.client_of(stream)

    async def delete_stream(self, stream: str, *, tombstone: bool = False) -> bool:
        """Delete an aggregate's stream, between two of its commands; see `Log.delete_stream`.

        Raises:
            InvalidCommand: no aggregate of the domain has such a stream.
            Overloaded, Unavailable: the stream was not deleted, or may not have been; try again.
        """
        client = await self._writer_of(stream)
        found = await client.delete_stream(stream, tombstone=tombstone)
        if self._aggregate_of(stream) in self._decided_together:
            await self._forget(stream)  # also in hosts that are not its writer
        return found

    async def forget_personal(self, subjects: list[str]) -> None:
        """Make every host fold again all aggregates that may hold data of these persons.

        Raises:
            Unavailable: one of them may not have done it.
        """
        async with self._scaling:  # leaving hosts hold the data until they have finished
            clients = [*self._hosts, *self._dedicated.clients]
            await all_done(*(client.forget_personal(subjects) for client in clients))

    async def refill(self, stream: str) -> None:
        """Rewrite the row of a state-stored aggregate from the log.

        Raises:
            Overloaded, Unavailable: the row may be unchanged.
        """
        async with self._scaling:
            await (await self._writer_of(stream)).refill(stream)

    async def _writer_of(self, stream: str) -> HostClient:
        if self._aggregate_of(stream).placement is Placement.DEDICATED:
            return await self._dedicated.client_of(stream)
        return self._hosts[self._table.host_of(stream)]

    async def lose(self) -> None:
        """Stop calling actors: Ray is gone."""
        self._actors.lost = True
        self._give_up_returning()
        for client in self._hosts:
            client.lose()
        self._dedicated.lose()

    async def heal(self) -> None:
        """Start the actors again in another Ray, or find the running ones; wait for the hosts.

        Raises:
            WriteSideError: a host does not start.
        """
        self._actors.lost = False
        for client in self._hosts:
            client.renew()
        await self._dedicated.clear()
        named = await asyncio.to_thread(self._actors.named, self._release)
        self._dedicated.adopt(named.streams)
        await up(self._hosts)
        for number in range(len(self._hosts)):
            self._table.rejoin(number)
        self._announce()

    def counts(self) -> dict[str, dict[str, int]]:
        """Return counts that a gateway does not know, by part.

        They are: how often each host was restarted, and all dedicated actors together; how many
        dedicated actors exist, and the limit.
        """
        hosts = {
            f"write#{number}": {"restarts": client.restarts}
            for number, client in enumerate(self._hosts)
        }
        dedicated = {
            "restarts": self._dedicated.restarts,
            "actors": len(self._dedicated.clients),
            "most": self._dedicated.capacity,
        }
        return {**hosts, "write:dedicated": dedicated}

    async def outcome(self, command_id: str) -> tuple[str, Outcome | None] | None:
        """Return a command's stream and outcome if a writer remembers it."""
        return await outcome_of(command_id, [*self._hosts, *self._dedicated.clients])

    async def pids(self) -> list[int]:
        """Return the process ids of all actors that answer, for failure tests."""
        clients = [*self._hosts, *self._dedicated.clients]
        statuses = await asyncio.gather(*(client.status() for client in clients))
        return [status["pid"] for status in statuses if status["ready"]]

    async def stop(self) -> None:
        """Stop managing the actors; they live on."""
        self._watch.stop()
        self._give_up_returning()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for task in self._showing:
            task.cancel()
        clients = [*self._hosts, *self._dedicated.clients]
        await all_done(self._deletions.stop(), *(each.close() for each in clients))

    async def end(self) -> None:
        """Let all actors finish the commands they accepted, then end them; stop."""
        self._watch.stop()
        self._give_up_returning()
        try:
            await all_done(self._dedicated.close(), *(retire(client) for client in self._hosts))
        finally:
            self._hosts.clear()
            await self.stop()

    @property
    def _term(self) -> tuple[int, int]:
        return self.settings.epoch, self._table.version

    def _aggregate_of(self, stream: str) -> Any:
        category, dash, aggregate_id = stream.partition("-")
        owner = self._aggregates.get(category)
        if owner is None or not dash or not aggregate_id:
            raise InvalidCommand(f"no aggregate has the stream {stream!r}")
        return owner

    async def _forget(self, stream: str) -> None:
        owner = self._aggregates[stream.partition("-")[0]]
        if owner in self._decided_together:
            # A host that decides over it has a copy: an append to a deleted stream would not fail.
            clients = [*self._hosts, *self._dedicated.clients]
            await asyncio.gather(*(client.forget(stream) for client in clients))
        elif owner.placement is Placement.DEDICATED:
            await self._dedicated.forget(stream)
        elif self._hosts:
            await self._hosts[self._table.host_of(stream)].forget(stream)

    def _host_name(self, number: int) -> str:
        return self.settings.host_name(number, self._release)

    def _go_around(self, client: HostClient) -> None:
        """Give a host's shards to others until it answers again, which may be soon."""
        if client in self._hosts and client not in self._returning and len(self._hosts) > 1:
            self._leave(client, replace=False)

    def _replace(self, client: HostClient) -> None:
        """Give a silent host's shards to others, and start another in its place.

        The silent host may continue: its appends fail on their expected revision.
        """
        if client in self._returning or self._actors.lost:
            return
        log.error("a write host is silent and is replaced", extra={"error": client.error})
        client.place.suspect()
        self._leave(client, replace=True)

    def _leave(self, client: HostClient, *, replace: bool) -> None:
        if client in self._hosts:
            number = self._hosts.index(client)
            self._table.lose(number)
            self._announce()
            log.warning("a write host is away", extra={"host": number})
        task = asyncio.create_task(self._bring_back(client, replace=replace))
        self._returning[client] = task
        task.add_done_callback(lambda _: self._returning.pop(client, None))

    async def _bring_back(self, client: HostClient, *, replace: bool) -> None:
        """Wait until a host answers where commands go; then give it its shards back."""
        while client in self._hosts or client in self._dedicated.clients:
            if replace:
                await client.replace()
            until = time.monotonic() + RETURN_TIMEOUT
            while time.monotonic() < until:
                await client.ping()
                if not client.error:
                    if client in self._hosts:
                        self._table.rejoin(self._hosts.index(client))
                        self._announce()
                    return
                await asyncio.sleep(ASK_INTERVAL)
            replace = True

    def _announce(self) -> None:
        """Send the hosts their shards, and publish the table."""
        for number, client in enumerate(self._hosts):
            client.show(self._term, self._table.shards_of(number))
        self._changed()
        for client in self._hosts:
            if client not in self._returning:
                self._show(client)

    def _show(self, client: HostClient) -> None:
        task = asyncio.create_task(client.ping())
        self._showing.add(task)
        task.add_done_callback(self._showing.discard)

    def _give_up_returning(self) -> None:
        for task in self._returning.values():
            task.cancel()
        self._returning.clear()

    def _watched(self) -> list[HostClient]:
        if self._actors.lost:
            return []
        both = (*self._hosts, *self._dedicated.clients)
        return [each for each in both if each not in self._returning]

    def _is_another(self) -> None:
        self._table.touch()
        self._announce()

    async def _drain_idle(self, client: HostClient, idle: float) -> bool:
        if client in self._returning or not await drain_idle(client, idle):
            return False
        # Meanwhile it may have been replaced: then the actor that was asked is gone.
        return client not in self._returning

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            await self._dedicated.sweep()
            await self._spread()

    async def _spread(self) -> None:
        """Move hosts apart that ended up on one node while another node was away."""
        hosts = list(self._hosts)
        statuses = await asyncio.gather(*(client.status() for client in hosts))
        if self._actors.lost or self._returning or not all(each["ready"] for each in statuses):
            return
        for client, status in zip(hosts, statuses, strict=True):
            client.place.found(status["node"])
        for client in hosts if len(hosts) > 1 else ():
            if await asyncio.to_thread(client.place.misplaced):
                # Meanwhile it may have left, or been replaced because it was silent.
                if client in self._hosts and client not in self._returning:
                    log.warning("a write host goes to another node")
                    self._leave(client, replace=True)
                return


def _tenant_of(stream: str) -> str:
    try:
        return tenant_of_stream(stream)
    except NoTenant:  # from an operator who deletes a stream that no tenant could have written
        return ""


def _otherwise(made_of: tuple[str, str] | None, ours: tuple[str, str]) -> str:
    if made_of is None:
        return "says nothing"
    if made_of[0] != ours[0]:
        return "has the code of another release"
    return "reaches the stores by other settings"
