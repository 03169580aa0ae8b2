"""What decisions over several aggregates promise, on every log that can carry them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from actors.errors import AggregateDeleted, DecisionFailed, KeyReused, Unavailable
from actors.local import LocalRuntime
from eventstore.kurrentdb.log import EventLog
from eventstore.memory import MemoryLog
from eventstore.port import Log
from examples.coupons.coupons import IssueCoupon, WithdrawCoupon
from examples.coupons.customers import BarCustomer
from examples.coupons.redeeming import RedeemCoupon
from rayfold import Receipt, Registry, Rejected


@pytest.fixture(scope="module")
def registry() -> Registry:
    """The domain of coupons."""
    return Registry.load("examples.coupons")


@pytest.fixture(params=["in memory", "on a server"])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[Log]:
    """A log that appends to several streams at once."""
    if request.param == "in memory":
        yield MemoryLog()
        return
    connected = EventLog(request.getfixturevalue("eventstore"))
    yield connected
    await connected.close()


@pytest.fixture
def coupon() -> str:
    """A coupon that no other test has."""
    return f"c-{uuid4().hex[:12]}"


def redeem(coupon: str, customer: str) -> RedeemCoupon:
    return RedeemCoupon(coupon_id=coupon, customer_id=f"{coupon}-{customer}")


async def events(log: Log, stream: str) -> list[str]:
    return [raw.event_type async for raw in log.read_stream(stream)]


async def test_neither_rule_is_broken_by_many_decisions_at_once(
    registry: Registry, log: Log, coupon: str
) -> None:
    runtime = LocalRuntime(registry, log)
    await runtime.send(IssueCoupon(coupon_id=coupon, times=90, each=2))
    outcomes = await asyncio.gather(
        *(runtime.send(redeem(coupon, f"{n % 5 if n < 20 else n}")) for n in range(150)),
        return_exceptions=True,
    )
    told = Counter(getattr(each, "rule", type(each).__name__) for each in outcomes)
    assert told.pop("Receipt") == 90
    assert set(told) == {"customer-used-up", "coupon-used-up"}
    assert len(await events(log, f"coupon-{coupon}")) == 91
    assert runtime.host.status()["conflicts"] == 0


async def test_a_repeat_gives_the_first_receipt_also_after_a_crash(
    registry: Registry, log: Log, coupon: str
) -> None:
    runtime = LocalRuntime(registry, log)
    await runtime.send(IssueCoupon(coupon_id=coupon))
    wanted = [(redeem(coupon, f"{n % 12}"), uuid4()) for n in range(20)]
    first = await asyncio.gather(
        *(runtime.send(command, command_id=key) for command, key in wanted),
        *(runtime.send(BarCustomer(customer_id=f"{coupon}-{n}")) for n in range(50, 55)),
    )
    restarted = LocalRuntime(registry, log)
    again = await asyncio.gather(
        *(restarted.send(command, command_id=key) for command, key in wanted)
    )
    assert again == first[:20]
    assert all(receipt.revisions[f"coupon-{coupon}"] == receipt.revision for receipt in again)
    with pytest.raises(KeyReused):
        await restarted.send(redeem(coupon, "other"), command_id=wanted[0][1])
    assert len(await events(log, f"coupon-{coupon}")) == 21


async def test_two_writers_of_the_same_streams_break_no_rule(
    registry: Registry, log: Log, coupon: str
) -> None:
    writers = [LocalRuntime(registry, log) for _ in range(3)]
    await writers[0].send(IssueCoupon(coupon_id=coupon, times=30, each=2))
    outcomes = await asyncio.gather(
        *(writers[n % 3].send(redeem(coupon, f"{n % 18}")) for n in range(90)),
        return_exceptions=True,
    )
    receipts = [each for each in outcomes if isinstance(each, Receipt)]
    assert all(isinstance(each, Receipt | Rejected | Unavailable) for each in outcomes)
    assert len({receipt.revision for receipt in receipts}) == len(receipts)
    assert len(await events(log, f"coupon-{coupon}")) == 1 + len(receipts) <= 31
    for n in range(18):
        assert len(await events(log, f"customer-{coupon}-{n}")) <= 2


async def test_decisions_and_commands_see_the_changes_of_another_writer(
    registry: Registry, log: Log, coupon: str
) -> None:
    one, two = LocalRuntime(registry, log), LocalRuntime(registry, log)
    await one.send(IssueCoupon(coupon_id=coupon))
    await one.send(redeem(coupon, "ada"))
    await two.send(BarCustomer(customer_id=f"{coupon}-ada"))
    with pytest.raises(Rejected, match="is barred"):
        await one.send(redeem(coupon, "ada"))
    await one.send(redeem(coupon, "eve"))
    await two.send(redeem(coupon, "eve"))
    with pytest.raises(Rejected, match="2 times already"):
        await one.send(redeem(coupon, "eve"))
    await two.send(WithdrawCoupon(coupon_id=coupon))
    with pytest.raises(Rejected, match="withdrawn"):
        await one.send(redeem(coupon, "bob"))
    assert await events(log, f"customer-{coupon}-bob") == []


async def test_deleted_streams_can_begin_again_and_tombstoned_ones_cannot(
    registry: Registry, log: Log, coupon: str
) -> None:
    runtime = LocalRuntime(registry, log)
    await runtime.send(IssueCoupon(coupon_id=coupon, each=1))
    await runtime.send(redeem(coupon, "ada"))
    await runtime.host.delete(f"customer-{coupon}-ada", tombstone=False)
    key = uuid4()
    receipt = await runtime.send(redeem(coupon, "ada"), command_id=key)
    assert receipt.revisions == {f"coupon-{coupon}": 2, f"customer-{coupon}-ada": 1}
    restarted = LocalRuntime(registry, log)
    assert await restarted.send(redeem(coupon, "ada"), command_id=key) == receipt
    await restarted.host.delete(f"customer-{coupon}-ada", tombstone=True)
    for writer in (runtime, restarted):
        with pytest.raises(AggregateDeleted, match="ada"):
            await writer.send(redeem(coupon, "ada"))
    assert len(await events(log, f"coupon-{coupon}")) == 3


async def test_an_older_server_accepts_all_commands_but_decisions(
    registry: Registry, eventstore: str, coupon: str
) -> None:
    log = EventLog(eventstore, atomic=False)
    runtime = LocalRuntime(registry, log)
    await runtime.send(IssueCoupon(coupon_id=coupon))
    with pytest.raises(DecisionFailed, match="append_records"):
        await runtime.send(redeem(coupon, "ada"))
    receipt = await runtime.send(WithdrawCoupon(coupon_id=coupon))
    assert receipt.revision == 1
    assert await events(log, f"customer-{coupon}-ada") == []
    await log.close()
