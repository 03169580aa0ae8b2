"""A gateway's access to the write side's actors: it neither starts nor ends them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import ray

from actors.append_watch import AppendWatch
from actors.command_bus import CommandBus
from actors.envelope import Done, Envelope, Outcome
from actors.errors import (
    EventStoreUnavailable,
    NeedsOwnActor,
    NoRoom,
    Overloaded,
    StaleTable,
    Unavailable,
)
from actors.host.assignment import Term
from actors.host.shard import shard_of
from actors.placement.dedicated_clients import DedicatedClients
from actors.placement.host_client import HostClient, Moved, outcome_of
from actors.placement.sent_batch import unsure
from actors.write_settings import WriteSettings
from eventstore.kurrentdb.log import EventLog
from rayfold import Placement, Registry
from rayfold.aggregate import AggregateType
from rayfold.runtime.lasting import lasting
from rayfold.runtime.rpc import RpcDisconnected

SWEEP_INTERVAL = 5.0

AskOutcome = Callable[[str], Awaitable[tuple[str, Outcome | None] | None]]


class WriteGateway:
    """The command bus, and connections to hosts by the owner's shard table."""

    def __init__(
        self,
        registry: Registry,
        settings: WriteSettings,
        *,
        make_dedicated: Callable[[str], Awaitable[None]],
        ask_outcome: AskOutcome | None = None,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        """`make_dedicated` asks the owner to start a stream's dedicated actor, `ask_outcome` asks
        it for a command's outcome. `look` is called when a newer table must exist than the current
        one.
        """
        self.settings = settings
        self._aggregates = registry.aggregates
        self._commands = registry.commands
        self._make_dedicated = make_dedicated
        self._ask_outcome = ask_outcome
        self._look = look
        self._names: list[str] = []
        self._actors: dict[str, str] = {}
        """By name of a host: the id of its actor."""
        self._hosts: dict[str, HostClient] = {}
        self._shards: list[int] = []
        self._term: Term = (0, 0)
        self._followed = asyncio.Event()
        self._release = settings.release
        """The release of the current hosts, which may be the previous one."""
        self._lost = False
        self._dedicated = DedicatedClients(self._dedicated_client)
        self._appends = AppendWatch(lambda: EventLog(settings.eventstore))
        self._closing: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self.bus = CommandBus(registry, self._route)

    def start(self) -> None:
        """Start; commands wait until there is a table."""
        self._sweeper = asyncio.create_task(lasting(self._sweep, "letting dedicated writers go"))

    def follow(self, epoch: int, routes: dict[str, Any]) -> None:
        """Send commands by these routes from now on if they are newer; see `WriteOwner.routes`.

        Commands that wait for a host without shards are sent to the new hosts.
        """
        term = epoch, routes["version"]
        actors = {each["name"]: each["actor"] for each in routes["hosts"]}
        if term < self._term or (term == self._term and actors == self._actors):
            return
        for name, actor in actors.items():
            client = self._hosts.get(name)
            if client is None:
                client = self._hosts[name] = HostClient(partial(self._find, name))
            elif self._actors.get(name) != actor and client.actor_id not in ("", actor):
                client.renew()
        self._term, self._actors, self._names = term, actors, list(actors)
        self._shards, self._release = routes["shards"], routes.get("release", "")
        theirs: list[dict[int, int]] = [{} for _ in self._names]
        for shard, (host, since) in enumerate(zip(self._shards, routes["since"], strict=True)):
            theirs[host][shard] = since
        for name, shards in zip(self._names, theirs, strict=True):
            self._hosts[name].show(term, shards)
            if not shards:
                self._hosts[name].hand_over()
        for name in self._hosts.keys() - actors.keys():
            self._drop(self._hosts.pop(name))
        for client in self._dedicated.clients:
            client.show(term, {})
        self._followed.set()
        self._followed = asyncio.Event()

    async def lose(self) -> None:
        """Stop calling actors: Ray is gone. Commands wait for `heal`, within their deadlines."""
        self._lost = True
        for client in self._hosts.values():
            client.lose()
        self._dedicated.lose()

    async def heal(self) -> None:
        """Find the actors again; commands without an answer are sent to them again."""
        self._lost = False
        for client in self._hosts.values():
            client.renew()
        self._dedicated.renew()

    async def status(self) -> list[dict[str, Any]]:
        """Return the status of every host, of the dedicated actors, and of appends."""
        hosts = await asyncio.gather(
            *(self._status(number, self._hosts[name]) for number, name in enumerate(self._names))
        )
        errors = self._dedicated.errors
        dedicated = {
            "part": "write:dedicated",
            "kind": "write",
            # Without a reachable actor, it is unknown whether one could be started.
            "serves": any(client.connected for client in self._dedicated.clients),
            "ready": not errors and not self._lost,
            **({"error": ", ".join(errors)} if errors else {}),
            "actors": len(self._dedicated.clients),
            "most": self.settings.dedicated,
            "waiting": sum(client.outstanding for client in self._dedicated.clients),
        }
        return [*hosts, dedicated, self._appends.status()]

    async def outcome(self, command_id: str) -> tuple[str, Outcome | None] | None:
        """Return a command's stream and outcome if a writer remembers it.

        Hosts are asked directly; the owner is asked about dedicated actors, as it knows all.
        """
        found = await outcome_of(command_id, list(self._hosts.values()))
        if found is None and self._ask_outcome is not None:
            found = await self._ask_outcome(command_id)
        return found

    async def idle(self) -> None:
        """Wait until every command that was sent has an answer."""
        clients = [*self._hosts.values(), *self._dedicated.clients]
        await asyncio.gather(*(client.idle() for client in clients))

    async def stop(self) -> None:
        """Close the connections; the actors live on."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self._appends.stop()
        await self._dedicated.close()
        await asyncio.gather(*(client.close() for client in self._hosts.values()), *self._closing)
        self._hosts.clear()

    async def _route(self, owner: AggregateType, envelope: Envelope) -> Outcome:
        dedicated = owner.placement is Placement.DEDICATED
        if dedicated and self._may_be_made_up(envelope.stream):
            outcome = await self._send(envelope._replace(only_refuse=True), dedicated=False)
            if not isinstance(outcome, NeedsOwnActor):
                return outcome
        return await self._send(envelope, dedicated=dedicated)

    def _may_be_made_up(self, stream: str) -> bool:
        """Return whether this process has not used the stream's dedicated actor lately.

        A command for such a stream is sent to a host first, as a refusal there costs no actor.
        Hosts of another release may not support that.
        """
        return self._dedicated.known(stream) is None and self._release == self.settings.release

    async def _send(self, envelope: Envelope, *, dedicated: bool) -> Outcome:
        sent_before = False
        while True:  # the sender enforces its deadline
            if dedicated:
                client = self._dedicated.client_of(envelope.stream)
            else:
                client = await self._host_of(envelope.stream)
            outcome = await client.send(envelope)
            if isinstance(outcome, StaleTable):
                await self._newer_than(outcome.term)
            elif isinstance(outcome, Unavailable) and outcome.unread:
                less = self._commands[envelope.command].without(envelope.payload, outcome.unread)
                if less is None:
                    break  # until its writer runs our release, too
                envelope = envelope._replace(payload=less)
                continue
            elif not isinstance(outcome, Moved):
                break
            sent_before = True  # also after a stale table: the previous host may have executed it
        if sent_before and isinstance(outcome, Overloaded):
            return unsure(outcome)
        if isinstance(outcome, EventStoreUnavailable):
            self._appends.failed(outcome.detail)
        elif isinstance(outcome, Done) and outcome.revisions is not None:
            self._tell(client, outcome.revisions)
        return outcome

    def _tell(self, decided: HostClient, revisions: dict[str, int]) -> None:
        """Tell the writers of a decision's other streams about it, with their next batch."""
        for stream, revision in revisions.items():
            if self._aggregates[stream.partition("-")[0]].placement is Placement.DEDICATED:
                client = self._dedicated.known(stream)
            else:
                client = self._hosts[self._names[self._shards[shard_of(stream)]]]
            if client is not None and client is not decided:
                client.note(stream, revision)

    async def _host_of(self, stream: str) -> HostClient:
        while not self._shards:
            await self._followed.wait()
        return self._hosts[self._names[self._shards[shard_of(stream)]]]

    async def _newer_than(self, term: Term) -> None:
        """Wait for a table at least as new as the one that a host has seen."""
        while self._term < term:
            followed = self._followed
            self._look()  # if the owner is in this process, this follows its table at once
            if self._term < term:
                await followed.wait()

    def _dedicated_client(self, stream: str) -> HostClient:
        client = HostClient(partial(self._find_dedicated, stream))
        client.show(self._term, {})
        return client

    async def _find_dedicated(self, stream: str) -> Any:
        name = self.settings.dedicated_name(stream, self._release)
        try:
            return await self._find(name)
        except RpcDisconnected:
            if self._lost:
                raise
            try:
                await self._make_dedicated(stream)
            except Overloaded as error:
                raise NoRoom(error.retry_after) from error
            return await self._find(self.settings.dedicated_name(stream, self._release))

    async def _find(self, name: str) -> Any:
        if self._lost:
            raise RpcDisconnected("Ray is started again")
        try:
            return await asyncio.to_thread(ray.get_actor, name, self.settings.namespace)
        except ValueError:
            raise RpcDisconnected(f"no actor is named {name}") from None

    def _drop(self, client: HostClient) -> None:
        """Let a leaving host answer pending commands; then drop its client."""
        client.leave()

        async def close() -> None:
            await client.idle()
            await client.close()

        task = asyncio.create_task(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _status(self, number: int, client: HostClient) -> dict[str, Any]:
        part = {
            "part": f"write#{number}",
            "kind": "write",
            "queued": client.outstanding,
            "shards": self._shards.count(number),
        }
        return {**part, **await client.status()}

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            self._dedicated.sweep()
