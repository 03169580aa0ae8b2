"""Gateways with tables of different ages, and hosts that have newer ones; without Ray."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any
from uuid import uuid4

import pytest

from actors.envelope import Done, Envelope, enclose
from actors.errors import NeedsOwnActor, NoRoom, Overloaded, StaleTable, Unavailable
from actors.host.assignment import Assignment, Term
from actors.host.host import Host
from actors.host.host_actor import portable
from actors.host.limits import HostLimits
from actors.host.shard import shard_of
from actors.placement.host_client import HostClient
from actors.placement.shards import ShardTable
from actors.write_gateway import WriteGateway
from actors.write_settings import WriteSettings
from domain.inventory.stock import ReceiveStock
from domain.orders.commands import CreateOrder
from eventstore.memory import MemoryLog
from rayfold import NotFound, Registry
from rayfold.runtime.rpc import Address, RpcDisconnected, RpcServer
from tests.releases.two.accounts import Deposit

PATIENCE = 60.0


class FakeHost:
    """A host that takes commands, and its actor's handle."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.assignment = Assignment(sharded=True)
        self.taken: list[str] = []
        self.asked: list[str] = []
        """Streams of commands that it may refuse at most."""
        self.refuses = False
        self.is_full = False
        self.ends: Callable[[], None] | None = None
        """Called when it gets commands, which it does not answer."""
        self._actor_id = name.encode()
        self._rpc = RpcServer(self._commands)
        self.address = self

    async def remote(self) -> Address:
        """Return where it listens."""
        return await self._rpc.address("127.0.0.1")

    async def end(self) -> None:
        """Take no more."""
        await self._rpc.close()

    async def _commands(self, request: Any) -> list[Any] | None:
        term, shards, wired, _ = request
        if shards is not None:
            self.assignment.learn(term, shards)
        elif self.assignment.unknown(term):
            return None
        if self.ends is not None:
            self.ends()
            self._rpc.cut()
        return [self._answer(term, Envelope.from_wire(each, time.monotonic())) for each in wired]

    def _answer(self, term: Term, envelope: Envelope) -> Any:
        if self.assignment.refuses(term, envelope.stream):
            return StaleTable(self.assignment.term)
        if envelope.only_refuse:
            self.asked.append(envelope.stream)
            return NotFound("no", "it is not there") if self.refuses else NeedsOwnActor()
        if self.is_full:
            return Overloaded(7)
        self.taken.append(envelope.stream)
        return tuple(Done(0, len(self.taken)))[:2]


class Cluster:
    """Two hosts, and a gateway that is told of tables when it looks."""

    def __init__(self, registry: Registry) -> None:
        self.hosts = {name: FakeHost(name) for name in ("a", "b")}
        self.table = ShardTable(2)
        self.looked = 0
        settings = WriteSettings("domain", "kdb://127.0.0.1:1?Tls=false")
        self.made: list[str] = []
        """Streams whose own actors were asked for."""
        self.full = False
        self.gateway = WriteGateway(registry, settings, make_dedicated=self._make, look=self._look)
        self.published: list[tuple[int, dict[str, Any]]] = []

    def publish(self, epoch: int, names: Iterable[str] = ("a", "b")) -> None:
        """Let the gateway see the table of now when it looks for one."""
        hosts = [{"name": name, "actor": name.encode().hex()} for name in names]
        self.published.append((epoch, {"hosts": hosts, **self.table.plain()}))

    def learn(self, name: str, epoch: int, host: int) -> None:
        """Let a host know the table of now from somebody else."""
        self.hosts[name].assignment.learn((epoch, self.table.version), self.table.shards_of(host))

    def _look(self) -> None:
        self.looked += 1
        if self.published:
            asyncio.get_running_loop().call_later(0.01, self.follow)

    def follow(self) -> None:
        """Follow what was published."""
        for epoch, routes in self.published:
            self.gateway.follow(epoch, routes)

    async def find(self, name: str) -> FakeHost:
        """As `ray.get_actor`."""
        if name not in self.hosts:
            raise RpcDisconnected(f"no actor is named {name}")
        return self.hosts[name]

    async def _make(self, stream: str) -> None:
        self.made.append(stream)
        if self.full:
            raise Overloaded(7)
        name = self.gateway.settings.dedicated_name(stream)
        self.hosts[name] = FakeHost(name)


@pytest.fixture
async def cluster(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    it = Cluster(registry)
    monkeypatch.setattr(it.gateway, "_find", it.find)
    yield it
    await it.gateway.stop()
    for host in it.hosts.values():
        await host.end()


def order_in(table: ShardTable, host: int, registry: Registry) -> Envelope:
    """Return a command for an order whose shard a host has."""
    while True:
        command = CreateOrder(order_id=uuid4(), customer_id="ada")
        envelope = enclose(registry, command, timeout=PATIENCE)
        if shard_of(envelope.stream) in table.shards_of(host):
            return envelope


async def test_commands_wait_for_the_first_table(cluster: Cluster, registry: Registry) -> None:
    envelope = order_in(cluster.table, 1, registry)
    sending = asyncio.create_task(cluster.gateway.bus.send(envelope))
    await asyncio.sleep(0)
    cluster.publish(1)
    cluster.follow()
    await sending
    assert cluster.hosts["b"].taken == [envelope.stream]


async def test_a_gateway_with_an_old_table_reads_the_new_one_and_sends_the_command_again(
    cluster: Cluster, registry: Registry
) -> None:
    cluster.publish(1)
    cluster.follow()
    envelope = order_in(cluster.table, 1, registry)
    await cluster.gateway.bus.send(order_in(cluster.table, 1, registry))  # it is connected
    cluster.table.lose(1)
    cluster.learn("b", 1, 1)  # by its owner
    cluster.publish(1)
    await cluster.gateway.bus.send(envelope)
    assert cluster.looked == 1
    assert envelope.stream in cluster.hosts["a"].taken
    assert envelope.stream not in cluster.hosts["b"].taken


async def test_a_gateway_of_an_older_owner_is_refused_until_it_knows_the_new_one(
    cluster: Cluster, registry: Registry
) -> None:
    cluster.publish(1)
    cluster.follow()
    envelope = order_in(cluster.table, 0, registry)
    cluster.learn("a", 2, 0)
    with pytest.raises(Unavailable, match="deadline"):
        await cluster.gateway.bus.send(
            order_in(cluster.table, 0, registry)._replace(deadline=time.monotonic() + 0.5)
        )
    assert cluster.hosts["a"].taken == []
    cluster.publish(2)
    await cluster.gateway.bus.send(envelope)
    assert cluster.hosts["a"].taken == [envelope.stream]


async def test_without_dedicated_actors_the_part_is_ready_and_serves_nothing(
    cluster: Cluster,
) -> None:
    parts = {each["part"]: each for each in await cluster.gateway.status()}
    assert parts["write:dedicated"]["ready"]
    assert not parts["write:dedicated"]["serves"]


async def test_a_removed_host_is_not_asked_once_the_table_says_so(
    cluster: Cluster, registry: Registry
) -> None:
    cluster.publish(1)
    cluster.follow()
    envelope = order_in(cluster.table, 1, registry)
    await cluster.hosts.pop("b").end()
    sending = asyncio.create_task(cluster.gateway.bus.send(envelope))
    await asyncio.sleep(0.05)  # it meets nobody; whatever it does, it may not fail
    cluster.table.spread(1)
    cluster.publish(1, ("a",))
    cluster.follow()
    await sending
    assert cluster.hosts["a"].taken == [envelope.stream]


async def test_a_host_that_leaves_during_a_status_request_is_reported_once_more(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def well(client: HostClient) -> dict[str, Any]:
        return {"ready": True}

    monkeypatch.setattr(HostClient, "status", well)
    cluster.publish(1)
    cluster.follow()
    asking = asyncio.create_task(cluster.gateway.status())
    await asyncio.sleep(0)  # it asks both
    cluster.table.spread(1)
    cluster.published.clear()
    cluster.publish(1, ["a"])
    cluster.follow()
    parts = [part["part"] for part in await asking]
    assert parts[:2] == ["write#0", "write#1"]


async def test_a_command_refused_by_a_host_needs_no_dedicated_actor(
    cluster: Cluster, registry: Registry
) -> None:
    cluster.publish(1)
    cluster.follow()
    for host in cluster.hosts.values():
        host.refuses = True
    for number in range(5):
        with pytest.raises(NotFound):
            await cluster.gateway.bus.send(received(registry, f"made-up-{number}"))
    assert cluster.made == []
    assert sum(len(host.asked) for host in cluster.hosts.values()) == 5


async def test_a_command_that_no_host_refuses_and_later_ones_go_to_the_aggregates_own_actor(
    cluster: Cluster, registry: Registry
) -> None:
    cluster.publish(1)
    cluster.follow()
    for _ in range(3):
        await cluster.gateway.bus.send(received(registry, "tea"))
    own = cluster.hosts[cluster.gateway.settings.dedicated_name("stock-tea")]
    assert cluster.made == ["stock-tea"]
    assert own.taken == ["stock-tea"] * 3
    shared = [cluster.hosts[name] for name in ("a", "b")]
    assert [stream for host in shared for stream in host.asked] == ["stock-tea"]
    assert [stream for host in shared for stream in host.taken] == []


async def test_hosts_of_another_release_are_not_asked_new_questions(
    cluster: Cluster, registry: Registry
) -> None:
    cluster.publish(1)
    cluster.follow()
    cluster.gateway._release = "@before"
    cluster.hosts["rayfold::aggregate:stock-tea@before"] = own = FakeHost("own")
    await cluster.gateway.bus.send(received(registry, "tea"))
    assert own.taken == ["stock-tea"]
    assert [cluster.hosts[name].asked for name in ("a", "b")] == [[], []]


async def test_a_host_of_the_previous_release_refuses_commands_with_new_fields_that_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise it would ignore them, and answer that the command was done."""
    two = Registry.load("tests.releases.two")
    cluster, log = Cluster(two), MemoryLog()
    before = Host(Registry.load("tests.releases.one"), log, "before", HostLimits())
    monkeypatch.setattr(cluster.gateway, "_find", cluster.find)

    async def answers(request: Any) -> list[Any]:
        envelopes = [Envelope.from_wire(each, time.monotonic()) for each in request[2]]
        return [portable(each) for each in await before.handle(envelopes)]

    for host in cluster.hosts.values():
        host._rpc = RpcServer(answers)
    cluster.publish(1)
    cluster.follow()

    async def deposit(**note: str) -> Done:
        command = Deposit(account_id="ada", cents=1, **note)
        receipt = await cluster.gateway.bus.send(enclose(two, command, timeout=PATIENCE))
        return Done(receipt.revision, receipt.position)

    assert (await deposit()).revision == 0
    assert (await deposit(note="")).revision == 1
    with pytest.raises(Unavailable, match="does not know all of note of 'deposit' yet"):
        await deposit(note="rent")
    assert len([raw async for raw in log.read_all(two.prefixes)]) == 2
    await cluster.gateway.stop()
    for host in cluster.hosts.values():
        await host.end()


async def test_a_client_is_told_where_there_is_no_room_for_an_actor(
    cluster: Cluster, registry: Registry
) -> None:
    cluster.publish(1)
    cluster.follow()
    cluster.full = True
    with pytest.raises(NoRoom, match="all dedicated actors are in use") as refused:
        await cluster.gateway.bus.send(received(registry, "tea"))
    assert refused.value.retry_after == 7


async def test_a_command_sent_before_is_not_answered_as_refused_by_a_full_host(
    cluster: Cluster, registry: Registry
) -> None:
    """The host that ended without an answer may have done it."""
    cluster.publish(1)
    cluster.follow()
    envelope = order_in(cluster.table, 1, registry)
    cluster.hosts["a"].is_full = True

    def leave() -> None:
        cluster.table.spread(1)
        cluster.publish(1, ("a",))
        cluster.follow()

    cluster.hosts["b"].ends = leave
    with pytest.raises(Unavailable, match="sent before"):
        await cluster.gateway.bus.send(envelope)
    with pytest.raises(Overloaded, match="nothing was done"):
        await cluster.gateway.bus.send(order_in(cluster.table, 0, registry))


def received(registry: Registry, sku: str) -> Envelope:
    return enclose(registry, ReceiveStock(sku=sku, quantity=1), timeout=PATIENCE)
