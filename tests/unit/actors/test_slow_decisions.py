"""A domain that computes for long: its host answers others meanwhile, and does all it is asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any
from uuid import uuid4

import pytest

from actors.envelope import Done, enclose
from actors.host import host as host_module
from actors.host.host import Host
from domain.orders.commands import AddLine, CreateOrder
from domain.orders.order import Order
from eventstore.memory import MemoryLog
from examples.coupons.coupons import IssueCoupon
from examples.coupons.redeeming import Redeem, RedeemCoupon
from rayfold import Command, Event, Registry, Rejected

DECIDING = 0.002
COMMANDS = 30


class Others:
    """Whoever else is there, and how often it had its turn between two decisions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(host_module, "DECIDING", DECIDING)
        self.turns = 0
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


async def outcomes(others: Others, registry: Registry, commands: list[Command]) -> list[Any]:
    """Send all at once, on a host that knows their aggregates; return what becomes of them."""
    host = Host(registry, MemoryLog(), "test")
    meanwhile = asyncio.create_task(others.run())
    answers = await host.handle([enclose(registry, each) for each in commands])
    await host.drain()
    meanwhile.cancel()
    return answers


@pytest.mark.parametrize("kind", ["one", "many", "refused"])
async def test_others_have_their_turn_between_two_decisions(
    monkeypatch: pytest.MonkeyPatch, kind: str
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
    answers = await outcomes(others, registry, commands)
    done = [each for each in answers if isinstance(each, Done)]
    refused = [each for each in answers if isinstance(each, Rejected)]
    assert (len(done), len(refused)) == {
        "one": (COMMANDS, 0),
        "many": (COMMANDS, 0),
        "refused": (1, COMMANDS - 1),
    }[kind]
    if kind == "one":
        assert [each.revision for each in done] == list(range(COMMANDS))
    assert len(others.seen) >= COMMANDS
    # Two commits may be decided in a row: the store, which is in memory, is asked between them.
    assert all(before < after for before, after in zip(others.seen, others.seen[2:], strict=False))


async def test_so_they_have_between_decisions_over_several_aggregates(
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
    assert all(before < after for before, after in zip(others.seen, others.seen[2:], strict=False))
