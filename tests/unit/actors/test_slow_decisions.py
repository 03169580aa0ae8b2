"""A domain that computes for long: its host still serves others and does all its work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest

from actors.envelope import Done, enclose
from actors.host import host as host_module
from actors.host.host import Host
from domain.orders.commands import AddLine, CreateOrder
from domain.orders.order import Order
from eventstore.memory import MemoryLog
from eventstore.port import AppendResult, JointAppend, StreamAppend
from examples.coupons.coupons import IssueCoupon
from examples.coupons.redeeming import Redeem, RedeemCoupon
from rayfold import Command, Event, Refused, Registry

DECIDING = 0.002
COMMANDS = 30


class CountingLog(MemoryLog):
    """Counts the streams that appends check."""

    checks = 0

    async def append(self, appends: Sequence[StreamAppend | JointAppend]) -> list[AppendResult]:
        self.checks += sum(len(e.expected) for e in appends if isinstance(e, JointAppend))
        return await super().append(appends)


class Others:
    """Whoever else is there, and how often it had its turn between two decisions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(host_module, "DECIDING", DECIDING)
        self.turns = 0
        self.checks = 0
        self.seen: list[int] = []

    async def run(self) -> None:
        while True:
            self.turns += 1
            await asyncio.sleep(0)

    def slow(self, decide: Any) -> Any:
        """Return the same decision, which takes longer than a turn."""

        def slowly(*of: Any) -> Iterable[Event]:
            self.seen.append(self.turns)
            time.sleep(1.5 * DECIDING)
            events: Iterable[Event] = decide(*of)
            return events

        return staticmethod(slowly)


async def outcomes(
    others: Others, registry: Registry, commands: list[Command], *, together: bool = True
) -> list[Any]:
    """Send all at once, in one call or in one each; return what becomes of them."""
    log = CountingLog()
    host = Host(registry, log, "test")
    envelopes = [enclose(registry, each) for each in commands]
    calls = [envelopes] if together else [[each] for each in envelopes]
    meanwhile = asyncio.create_task(others.run())
    answers = [each for call in await asyncio.gather(*map(host.handle, calls)) for each in call]
    await host.drain()
    meanwhile.cancel()
    others.checks = log.checks
    return answers


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("kind", ["one", "many", "refused", "unknown"])
async def test_other_tasks_run_between_two_decisions(
    monkeypatch: pytest.MonkeyPatch, kind: str, together: bool
) -> None:
    registry = Registry.load("domain")
    others = Others(monkeypatch)
    monkeypatch.setattr(Order, "decide", others.slow(Order.decide))
    orders = [uuid4() for _ in range(COMMANDS)]
    commands: list[Command] = [CreateOrder(order_id=each, customer_id="ada") for each in orders]
    if kind == "one":
        line = AddLine(order_id=orders[0], sku="tea", quantity=1, unit_price_cents=450)
        commands = [commands[0], *(line for _ in range(COMMANDS - 1))]
    if kind == "refused":
        commands = [commands[0] for _ in range(COMMANDS)]
    if kind == "unknown":  # each is looked for on the log first
        commands = [
            AddLine(order_id=each, sku="tea", quantity=1, unit_price_cents=450) for each in orders
        ]
    answers = await outcomes(others, registry, commands, together=together)
    done = [each for each in answers if isinstance(each, Done)]
    refused = [each for each in answers if isinstance(each, Refused)]
    assert (len(done), len(refused)) == {
        "one": (COMMANDS, 0),
        "many": (COMMANDS, 0),
        "refused": (1, COMMANDS - 1),
        "unknown": (0, COMMANDS),
    }[kind]
    if kind == "one":
        assert [each.revision for each in done] == list(range(COMMANDS))
    assert len(others.seen) >= COMMANDS
    assert all(before < after for before, after in pairwise(others.seen))


async def test_other_tasks_run_between_decisions_over_several_aggregates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = Registry.load("examples.coupons")
    others = Others(monkeypatch)
    monkeypatch.setattr(Redeem, "decide", others.slow(Redeem.decide))
    commands: list[Command] = [IssueCoupon(coupon_id="c", times=COMMANDS, each=1)]
    commands += [RedeemCoupon(coupon_id="c", customer_id=f"{at}") for at in range(COMMANDS)]
    answers = await outcomes(others, registry, commands)
    assert all(isinstance(each, Done) for each in answers)
    assert len(others.seen) >= COMMANDS
    assert all(before < after for before, after in pairwise(others.seen))
    # What was read by nobody who was decided is not checked by an append.
    assert others.checks <= 3 * COMMANDS
