"""Hosts that decide over the same aggregates, in generated orders: no deadlock, no error."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Sequence
from types import ModuleType
from typing import Any

import pytest

from actors.envelope import Done, Envelope, enclose
from actors.errors import Unavailable
from actors.host.host import Host
from actors.host.limits import HostLimits
from eventstore.memory import MemoryLog
from eventstore.port import AppendResult, JointAppend, StreamAppend
from eventstore.records import RawRecord
from examples.coupons import coupons, customers, redeeming
from examples.coupons.coupons import CouponRedeemed, IssueCoupon, WithdrawCoupon
from examples.coupons.customers import BarCustomer, Customer, RedemptionNoted
from examples.coupons.redeeming import RedeemCoupon
from rayfold import Command, Decision, Event, Read, Registry

COUPONS = ["c0", "c1", "c2"]
CUSTOMERS = ["k0", "k1", "k2", "k3"]
STREAMS = [*(f"coupon-{each}" for each in COUPONS), *(f"customer-{each}" for each in CUSTOMERS)]


class Swap(Command, name="swap"):
    """Of two coupons, either of which may lead."""

    source: str
    target: str


class Swapping(
    Decision[Swap],
    reads={
        "source": Read(coupons.Coupon, by="source"),
        "target": Read(coupons.Coupon, by="target"),
    },
):
    """Writes to both."""

    @staticmethod
    def decide(states: Any, command: Swap) -> Iterable[Event]:
        for each in (command.source, command.target):
            yield CouponRedeemed(coupon_id=each, customer_id="swapped")


class Look(Command, name="look"):
    """The customer leads, who leads nowhere else."""

    customer_id: str
    coupon_id: str


class Looking(Decision[Look], reads={"customer": Customer, "coupon": coupons.Coupon}):
    """Writes to the customer alone, or to nobody."""

    @staticmethod
    def decide(states: Any, command: Look) -> Iterable[Event]:
        if states["coupon"].known:
            yield RedemptionNoted(customer_id=command.customer_id, coupon_id=command.coupon_id)


class UnreliableLog(MemoryLog):
    """Takes its time, and loses answers."""

    loses = True

    async def append(self, appends: Sequence[StreamAppend | JointAppend]) -> list[AppendResult]:
        await _pause()
        answers = await super().append(appends)
        await _pause()
        if self.loses and random.random() < 0.02:
            raise TimeoutError("lost")
        return answers

    async def read_stream(self, stream: str, **options: Any) -> AsyncGenerator[RawRecord, None]:
        await _pause()
        async for raw in super().read_stream(stream, **options):
            yield raw


async def _pause() -> None:
    for _ in range(random.randrange(4)):
        await asyncio.sleep(0)


@pytest.fixture(scope="module")
def registry() -> Registry:
    made = ModuleType(__name__)
    made.Swapping, made.Looking = Swapping, Looking  # type: ignore[attr-defined]
    return Registry([coupons, customers, redeeming, made])


def _any_command() -> Command:
    coupon, customer = random.choice(COUPONS), random.choice(CUSTOMERS)
    source, target = random.sample(COUPONS, 2)
    return random.choices(
        [
            RedeemCoupon(coupon_id=coupon, customer_id=customer),
            Swap(source=source, target=target),
            Look(coupon_id=coupon, customer_id=customer),
            BarCustomer(customer_id=customer),
            WithdrawCoupon(coupon_id=coupon),
            IssueCoupon(coupon_id=coupon, times=40, each=15),
        ],
        [45, 15, 15, 5, 2, 18],
    )[0]


class Client:
    """Sends one command after the other, to any host, until each has its answer."""

    def __init__(self, registry: Registry, hosts: list[Host], *, deletes: bool) -> None:
        self._registry = registry
        self._hosts = hosts
        self._deletes = deletes
        self.receipts: list[tuple[Envelope, Done]] = []

    async def run(self, commands: int) -> None:
        for _ in range(commands):
            await self._send(enclose(self._registry, _any_command()))
            host, stream = random.choice(self._hosts), random.choice(STREAMS)
            if random.random() < 0.1:
                host.forget(stream)
            if random.random() < 0.1:
                await host.passivate(2**50)
            if self._deletes and random.random() < 0.03:
                await host.delete(stream, tombstone=False)
                for each in self._hosts:
                    each.forget(stream)

    async def _send(self, envelope: Envelope) -> None:
        outcome: object = Unavailable("not sent")
        while isinstance(outcome, Unavailable):
            [outcome] = await random.choice(self._hosts).handle([envelope])
        if isinstance(outcome, Done):
            self.receipts.append((envelope, outcome))


@pytest.mark.parametrize("deletes", [False, True], ids=["", "with deletions"])
@pytest.mark.parametrize("seed", range(5))
async def test_hosts_that_decide_over_the_same_streams(
    registry: Registry, seed: int, deletes: bool
) -> None:
    random.seed(seed)
    log = UnreliableLog()
    limits = HostLimits(
        attempts=20, commit_events=random.choice([1, 3, 500]), concurrent_commits=1 + seed % 2
    )
    hosts = [Host(registry, log, f"host-{n}", limits) for n in range(1 + seed % 3)]
    clients = [Client(registry, hosts, deletes=deletes) for _ in range(25)]
    async with asyncio.timeout(60):
        await asyncio.gather(*(client.run(10) for client in clients))
    for host in hosts:  # nothing waits, and nothing of what has waited is left
        assert host.status()["waiting"] == 0
        at = host._streams
        assert not any((at._busy, at.mailboxes, at.ready, at._owners, at._awaited))
    if deletes:
        return
    written: dict[str, dict[str, int]] = {}
    events: Counter[tuple[str, str]] = Counter()
    async for raw in log.read_all(["coupon-", "customer-"]):
        command_id = json.loads(raw.metadata)["commandId"]
        written.setdefault(command_id, {})[raw.stream] = raw.revision
        events[command_id, raw.stream] += 1
    assert set(events.values()) == {1}
    log.loses = False
    knows_nothing = Host(registry, log, "knows-nothing", limits)
    for envelope, done in (receipt for client in clients for receipt in client.receipts):
        found = written.get(envelope.command_id)
        if found is None:
            continue  # it led to no event
        named = done.revisions or {envelope.stream: done.revision}
        assert found.items() <= named.items()
        assert await knows_nothing.handle([envelope]) == [done]
