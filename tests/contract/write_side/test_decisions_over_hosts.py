"""Decisions whose aggregates belong to different hosts: their sockets, without Ray around them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from actors.envelope import enclose
from actors.host.host_actor import HostActor
from actors.host.limits import HostLimits
from actors.host.shard import SHARDS, shard_of
from actors.write_gateway import WriteGateway
from actors.write_settings import WriteSettings
from examples.coupons.coupons import IssueCoupon
from examples.coupons.customers import BarCustomer
from examples.coupons.redeeming import RedeemCoupon
from rayfold import Command, Receipt, Registry, Rejected
from rayfold.runtime.identity import Identity

DOMAIN = "examples.coupons"


class Remote:
    """A method of an actor, as a handle has it."""

    def __init__(self, method: Any) -> None:
        self.remote = method


class Handle:
    """An actor's handle, of an actor in this process; a restarted one has the same."""

    def __init__(self, actors: list[HostActor], number: int) -> None:
        self._actor_id = bytes(2)
        self.address = Remote(lambda: actors[number]._rpc.address("127.0.0.1"))


class Hosts:
    """Two hosts, and a gateway that gives every other shard to the second."""

    def __init__(self, eventstore: str) -> None:
        self.registry = Registry.load(DOMAIN)
        self._eventstore = eventstore
        self.actors = [self._new(number) for number in range(2)]
        settings = WriteSettings(DOMAIN, eventstore)
        self.gateway = WriteGateway(self.registry, settings, make_dedicated=self._nobody)
        self.gateway._find = self._find  # type: ignore[method-assign]

    def start(self) -> None:
        self.gateway.start()
        hosts = [{"name": f"host-{number}", "actor": bytes(2).hex()} for number in range(2)]
        shards = [shard % 2 for shard in range(SHARDS)]
        routes = {"version": 1, "hosts": hosts, "shards": shards, "since": [1] * SHARDS}
        self.gateway.follow(1, routes)

    async def send(self, command: Command, key: UUID | None = None) -> Receipt:
        envelope = enclose(self.registry, command, command_id=key, timeout=60)
        return await self.gateway.bus.send(envelope)

    async def restart(self) -> None:
        """End the hosts, and let others come in their place, who know nothing."""
        for number, actor in enumerate(self.actors):
            self.actors[number] = self._new(number)
            await actor.drain()

    async def stop(self) -> None:
        await self.gateway.stop()
        for actor in self.actors:
            await actor.drain()

    @property
    def conflicts(self) -> list[int]:
        return [actor._running().status()["conflicts"] for actor in self.actors]

    def _new(self, number: int) -> HostActor:
        name = f"host-{number}"
        return HostActor(
            name, DOMAIN, self._eventstore, HostLimits(), Identity("", "", ""), sharded=True
        )

    async def _find(self, name: str) -> Any:
        return Handle(self.actors, int(name[-1]))

    async def _nobody(self, stream: str) -> None:
        raise AssertionError(stream)


@pytest.fixture
async def hosts(eventstore: str) -> AsyncIterator[Hosts]:
    made = Hosts(eventstore)
    made.start()
    yield made
    await made.stop()


def an_id(category: str, host: int) -> str:
    """Return an id whose stream belongs to that host."""
    salt = uuid4().hex[:8]
    names = (f"{salt}-{number}" for number in range(99))
    return next(name for name in names if shard_of(f"{category}-{name}") % 2 == host)


async def test_a_host_is_told_of_decisions_on_other_hosts_before_its_next_command(
    hosts: Hosts,
) -> None:
    coupon, customer = an_id("coupon", 0), an_id("customer", 1)
    bar = BarCustomer(customer_id=customer)
    redeem = RedeemCoupon(coupon_id=coupon, customer_id=customer)
    await hosts.send(IssueCoupon(coupon_id=coupon, each=5))
    for revision in range(3):
        receipt = await hosts.send(redeem)
        assert receipt.revisions == {
            f"coupon-{coupon}": revision + 1,
            f"customer-{customer}": revision,
        }
    assert (await hosts.send(bar)).revision == 3
    assert hosts.conflicts == [0, 0]
    # The coupon's host is not told of plain commands: its append, or a look before it refuses.
    with pytest.raises(Rejected, match="is barred"):
        await hosts.send(redeem)
    with pytest.raises(Rejected, match="barred already"):
        await hosts.send(bar)
    assert hosts.conflicts == [1, 0]


async def test_a_repeat_gives_the_first_receipt_after_both_hosts_restarted(hosts: Hosts) -> None:
    coupon, key = an_id("coupon", 1), uuid4()
    redeem = RedeemCoupon(coupon_id=coupon, customer_id=an_id("customer", 0))
    await hosts.send(IssueCoupon(coupon_id=coupon))
    receipt = await hosts.send(redeem, key)
    await hosts.restart()
    assert await hosts.send(redeem, key) == receipt
