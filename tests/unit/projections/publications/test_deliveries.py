"""Parallel deliveries: one with personal data that has waited is read again first."""

from __future__ import annotations

import asyncio
import math
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from eventstore.errors import StoreUnavailable
from projections.publications import deliveries as deliveries_module
from projections.publications.deliveries import Deliveries
from projections.publications.outgoing import Outgoing
from projections.publications.settings import Patience
from tests.unit.projections.publications.papers import Recording, Slow, until

PATIENCE = Patience(0.001, 0.01, 60.0, 3600.0)


def outgoing(
    key: str, text: str = "", *, personal: bool = False, read: float = -math.inf
) -> Outgoing:
    body = f'{{"subject": "{key}", "data": {{"text": "{text}"}}}}'.encode()
    return Outgoing(key, "told", key, 1, "json", body, read=read, personal=personal)


async def test_a_silent_key_store_delays_no_delivery_without_personal_data() -> None:
    receiver, silent, asked = Slow(), asyncio.Event(), []

    async def as_of_now(each: Outgoing) -> Outgoing:
        asked.append(each.key)
        await silent.wait()
        return each._replace(read=math.inf)

    receiver.may.set()
    deliveries = Deliveries("news", receiver, PATIENCE, 2, as_of_now)
    late = [asyncio.create_task(deliveries.deliver(outgoing(k, personal=True))) for k in "abcd"]
    await until(lambda: len(asked) == 2)
    async with asyncio.timeout(10.0):
        await deliveries.deliver(outgoing("nobody"))
    assert [told["subject"] for told in receiver.taken] == ["nobody"]
    silent.set()
    await asyncio.gather(*late)
    assert deliveries.taken == 5


async def test_a_delivery_that_waits_long_for_a_connection_is_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, asked, receiver = 0.0, 0, Slow()
    monkeypatch.setattr(deliveries_module, "time", SimpleNamespace(monotonic=lambda: now))

    async def as_of_now(each: Outgoing) -> Outgoing:
        nonlocal asked
        asked += 1
        return outgoing(each.key, f"read {asked}", personal=True, read=now)

    deliveries = Deliveries("news", receiver, PATIENCE, 1, as_of_now)
    first = asyncio.create_task(deliveries.deliver(outgoing("nobody")))
    await until(lambda: receiver.attempts["all"] == 1)
    second = asyncio.create_task(deliveries.deliver(outgoing("ada", personal=True)))
    await until(lambda: asked == 1)
    now = 1000.0
    receiver.may.set()
    await asyncio.gather(first, second)
    assert receiver.texts("ada") == ["read 2"]
    await deliveries.deliver(outgoing("ada", personal=True))
    assert receiver.texts("ada") == ["read 2", "read 3"]  # where a connection is free, once


@pytest.mark.parametrize("failures", [deliveries_module.REPLAY_TRIES - 1, math.inf])
async def test_a_repeated_delivery_waits_only_a_moment_for_a_store_that_is_down(
    failures: float,
) -> None:
    asked, receiver = 0, Recording()

    async def as_of_now(each: Outgoing) -> Outgoing:
        nonlocal asked
        asked += 1
        if asked <= failures:
            raise StoreUnavailable("away")
        return each._replace(read=math.inf)

    deliveries = Deliveries("news", receiver, PATIENCE, 1, as_of_now)
    given_up = pytest.raises(StoreUnavailable) if failures == math.inf else nullcontext()
    async with asyncio.timeout(10.0):
        with given_up:
            assert await deliveries.in_order([outgoing("ada", personal=True)]) == (1, "")
    assert asked == deliveries_module.REPLAY_TRIES
