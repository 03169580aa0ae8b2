"""A command has one deadline, over queues, attempts and processes."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any
from uuid import uuid4

import pytest

from actors.command_bus import CommandBus
from actors.envelope import Envelope, Outcome, enclose
from actors.errors import Unavailable
from actors.host.host import Host
from domain.orders.commands import CreateOrder
from eventstore.memory import MemoryLog
from rayfold import Registry


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load("domain")


def create(registry: Registry, timeout: float = math.inf) -> Envelope:
    return enclose(registry, CreateOrder(order_id=uuid4(), customer_id="ada"), timeout=timeout)


async def test_no_caller_waits_for_a_writer_beyond_the_deadline(registry: Registry) -> None:
    async def never(owner: Any, envelope: Envelope) -> Outcome:
        await asyncio.Event().wait()
        raise AssertionError

    began = time.monotonic()
    with pytest.raises(Unavailable, match="deadline"):
        await CommandBus(registry, never).send(create(registry, timeout=0.05))
    assert time.monotonic() - began < 5


async def test_a_command_whose_deadline_passed_in_the_mailbox_is_not_decided(
    registry: Registry,
) -> None:
    log = MemoryLog()
    host = Host(registry, log, "test")
    late, early = create(registry, timeout=-1.0), create(registry, timeout=60.0)
    outcomes = await host.handle([late, early])
    assert isinstance(outcomes[0], Unavailable)
    assert not isinstance(outcomes[1], Exception)
    assert [raw async for raw in log.read_stream(late.stream)] == []


def test_a_deadline_is_measured_by_the_clock_of_the_receiving_process() -> None:
    sent = Envelope("create-order", "order-1", b"{}", "id", "print", deadline=107.0)
    received = Envelope.from_wire(sent.to_wire(now=100.0), now=5000.0)
    assert received == sent._replace(deadline=5007.0)
    only = sent._replace(only_refuse=True, tenant="acme")
    for each in (only, only._replace(tenant="")):
        assert Envelope.from_wire(each.to_wire(now=107.0), now=107.0) == each
    endless = Envelope("create-order", "order-1", b"{}", "id", "print")
    assert Envelope.from_wire(endless.to_wire(now=100.0), now=5000.0) == endless
