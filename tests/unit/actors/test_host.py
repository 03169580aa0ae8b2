"""What a host does when things go wrong or grow long; on a log in memory."""

from __future__ import annotations

import asyncio
import json
import pickle
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from actors.envelope import Done, enclose
from actors.errors import (
    AggregateDeleted,
    DecisionFailed,
    Overloaded,
    StreamUnreadable,
    Unavailable,
)
from actors.host import recent_commands
from actors.host.host import Host
from actors.host.host_actor import portable
from actors.host.limits import HostLimits
from actors.host.recent_commands import ALWAYS_REMEMBERED
from actors.host.snapshots import snapshot_stream
from domain.orders.commands import AddLine, CreateOrder, PlaceOrder
from domain.orders.order import Order
from eventstore.memory import MemoryLog
from eventstore.port import ANY, AppendResult, Conflict, InvalidAppend, StreamAppend
from eventstore.records import NewRecord, RawRecord
from rayfold import Command, NotFound, Registry, Rejected

pytestmark = pytest.mark.usefixtures("one_turn")


class CountingLog(MemoryLog):
    """Counts events read, and can hold appends back."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0
        self.appends: list[int] = []
        self.open = asyncio.Event()
        self.open.set()
        self.arrived = asyncio.Event()
        self.loses_answers = False

    async def append(self, appends: Sequence[StreamAppend]) -> list[AppendResult]:
        self.appends.append(len(appends))
        self.arrived.set()
        await self.open.wait()
        answers = await super().append(appends)
        return [Conflict("lost") for _ in answers] if self.loses_answers else answers

    async def read_stream(self, stream: str, **options: Any) -> AsyncGenerator[RawRecord, None]:
        async for raw in super().read_stream(stream, **options):
            self.read += 1
            yield raw


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load("domain")


@pytest.fixture
def log() -> CountingLog:
    return CountingLog()


def line(order: UUID, sku: str = "tea") -> AddLine:
    return AddLine(order_id=order, sku=sku, quantity=1, unit_price_cents=450)


class DomainHost:
    """A host, and the domain that it speaks."""

    def __init__(self, registry: Registry, log: MemoryLog, **limits: Any) -> None:
        self.registry = registry
        self.inner = Host(registry, log, "test", replace(HostLimits(), **limits))

    async def send(self, *commands: Command) -> list[Any]:
        return await self.inner.handle([enclose(self.registry, command) for command in commands])

    async def order(self, lines: int = 0) -> UUID:
        order = uuid4()
        await self.send(CreateOrder(order_id=order, customer_id="ada"))
        await self.send(*(line(order, f"sku-{n % 9}") for n in range(lines)))
        return order


async def test_commands_that_arrive_together_are_written_together(
    registry: Registry, log: CountingLog
) -> None:
    host = DomainHost(registry, log)
    creates = [CreateOrder(order_id=uuid4(), customer_id="ada") for _ in range(50)]
    outcomes = await host.send(*creates)
    assert log.appends == [50]
    assert {outcome.position for outcome in outcomes} == {50}


async def test_a_hot_aggregate_is_decided_on_speculative_state(
    registry: Registry, log: CountingLog
) -> None:
    host = DomainHost(registry, log)
    order = uuid4()
    outcomes = await host.send(
        PlaceOrder(order_id=order),
        CreateOrder(order_id=order, customer_id="ada"),
        line(order),
        PlaceOrder(order_id=order),
        line(order),
    )
    assert [type(outcome).__name__ for outcome in outcomes] == [
        "NotFound",
        "Done",
        "Done",
        "Done",
        "Rejected",
    ]
    assert log.appends == [1]


async def test_a_store_that_is_down_leads_to_unavailable_and_recovers(
    registry: Registry, log: CountingLog
) -> None:
    host = DomainHost(registry, log)
    order = await host.order()
    log.down = True
    [outcome] = await host.send(line(order))
    assert isinstance(outcome, Unavailable)
    [outcome] = await host.send(CreateOrder(order_id=uuid4(), customer_id="ada"))
    assert isinstance(outcome, Unavailable)
    log.down = False
    [outcome] = await host.send(line(order))
    assert outcome == Done(1, 2)


async def test_an_append_of_unknown_outcome_is_looked_up(
    registry: Registry, log: CountingLog
) -> None:
    host = DomainHost(registry, log)
    order = await host.order()
    envelope = enclose(registry, line(order))
    log.loses_answers = True
    assert await host.inner.handle([envelope]) == [Done(1, 2)]
    assert await host.inner.handle([envelope]) == [Done(1, 2)]
    assert len([raw async for raw in log.read_stream(f"order-{order}")]) == 2


async def test_commands_beyond_the_bound_are_refused_at_once(
    registry: Registry, log: CountingLog
) -> None:
    host = DomainHost(registry, log, max_queued=5, concurrent_commits=1)
    order = await host.order()
    log.open.clear()
    log.arrived.clear()
    sending = host.send(*(line(order) for _ in range(5)))
    accepted = asyncio.create_task(sending)  # awaited below
    await log.arrived.wait()
    refused = await host.send(line(order))
    assert [type(outcome) for outcome in refused] == [Overloaded]
    log.open.set()
    assert [outcome.revision for outcome in await accepted] == [1, 2, 3, 4, 5]


async def test_a_long_stream_is_read_from_its_snapshot(
    registry: Registry, log: CountingLog
) -> None:
    host = DomainHost(registry, log)
    order = await host.order(lines=2000)
    await host.inner.drain()
    log.read = 0
    [outcome] = await DomainHost(registry, log).send(line(order))
    assert outcome.revision == 2001
    assert log.read < 200


async def test_a_snapshot_of_another_fold_is_ignored(
    registry: Registry, log: CountingLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = DomainHost(registry, log)
    order = await host.order(lines=300)
    await host.inner.drain()
    [snapshot] = [raw async for raw in log.read_stream(snapshot_stream(f"order-{order}"))]
    lie = snapshot.data.replace(b'"fold":"1.', b'"fold":"0.').replace(b'"open"', b'"placed"')
    record = NewRecord("Snapshot", lie, {}, str(uuid4()))
    await log.append([StreamAppend(snapshot_stream(f"order-{order}"), ANY, [record])])
    [outcome] = await DomainHost(registry, log).send(line(order))
    assert outcome.revision == 301


@pytest.mark.parametrize("data", [b"{", b"{}", b'{"fold": 7}'])
async def test_a_snapshot_that_cannot_be_read_is_ignored(
    registry: Registry, log: CountingLog, data: bytes
) -> None:
    host = DomainHost(registry, log)
    order = await host.order(lines=100)
    record = NewRecord("Snapshot", data, {}, str(uuid4()))
    await log.append([StreamAppend(snapshot_stream(f"order-{order}"), ANY, [record])])
    [outcome] = await DomainHost(registry, log).send(line(order))
    assert outcome.revision == 101


async def test_idle_aggregates_leave_memory_and_come_back(
    registry: Registry, log: CountingLog
) -> None:
    host = DomainHost(registry, log, idle_timeout=0.0)
    orders = [await host.order(lines=3) for _ in range(10)]
    assert host.inner.status()["aggregates"] == 10
    assert await host.inner.passivate() == 10
    assert host.inner.status()["aggregates"] == 0
    outcomes = await host.send(*(line(order) for order in orders))
    assert {outcome.revision for outcome in outcomes} == {4}


async def test_the_least_recently_used_aggregates_leave_first(
    registry: Registry, log: CountingLog
) -> None:
    host = DomainHost(registry, log, cached_aggregates=3)
    orders = [await host.order() for _ in range(5)]
    await host.send(line(orders[0]))
    await host.inner.passivate()
    assert host.inner.status()["aggregates"] == 3
    log.read = 0
    await host.send(line(orders[0]), line(orders[3]), line(orders[4]))
    assert log.read == 0


async def test_above_its_memory_limit_a_host_drops_a_quarter_of_its_aggregates(
    registry: Registry, log: CountingLog
) -> None:
    host = DomainHost(registry, log, memory_bytes=1000)
    for _ in range(8):
        await host.order()
    assert await host.inner.passivate(resident_bytes=1000) == 0
    assert await host.inner.passivate(resident_bytes=1001) == 2
    assert host.inner.status()["aggregates"] == 6


async def test_an_unknown_event_type_stops_its_own_aggregate(
    registry: Registry, log: CountingLog
) -> None:
    host = DomainHost(registry, log)
    order, other = await host.order(), await host.order()
    record = NewRecord("OrderTeleported", b"{}", {}, str(uuid4()))
    await log.append([StreamAppend(f"order-{order}", 0, [record])])
    fresh = DomainHost(registry, log)
    unreadable, fine = await fresh.send(line(order), line(other))
    assert isinstance(unreadable, StreamUnreadable)
    assert "'OrderTeleported'" in unreadable.detail
    assert f"revision 1 of stream 'order-{order}'" in unreadable.detail
    assert fine == Done(1, 4)


async def test_a_decision_that_raises_fails_its_own_command(
    registry: Registry, log: CountingLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = DomainHost(registry, log)
    order = await host.order()
    decide = Order.decide

    def broken(state: Any, command: Any) -> Any:
        if getattr(command, "sku", "") == "bug":
            raise ZeroDivisionError
        return decide(state, command)

    monkeypatch.setattr(Order, "decide", staticmethod(broken))
    outcomes = await host.send(line(order), line(order, "bug"), line(order))
    assert [type(outcome).__name__ for outcome in outcomes] == ["Done", "DecisionFailed", "Done"]
    assert [outcomes[0].revision, outcomes[2].revision] == [1, 2]


class OutOfStock(Rejected):
    """A domain's own refusal, which pickle cannot make again."""

    def __init__(self, sku: str) -> None:
        super().__init__("out-of-stock", f"no {sku} left")


def test_a_refusal_travels_whatever_class_a_domain_makes_of_it() -> None:
    found = pickle.loads(pickle.dumps(portable(OutOfStock("tea"))))
    assert type(found) is Rejected
    assert (found.rule, found.detail) == ("out-of-stock", "no tea left")
    assert portable(Done(3, 4)) == (3, 4)


async def test_a_tombstoned_aggregate_takes_no_command(
    registry: Registry, log: CountingLog
) -> None:
    host = DomainHost(registry, log)
    order = await host.order(lines=3)
    await log.delete_stream(f"order-{order}", tombstone=True)
    create = CreateOrder(order_id=order, customer_id="ada")
    for each in (host, DomainHost(registry, log)):
        outcomes = [*await each.send(line(order)), *await each.send(create)]
        assert [type(outcome) for outcome in outcomes] == [AggregateDeleted] * 2
        assert f"order-{order}" in str(outcomes[0])


@pytest.mark.parametrize("lines", [3, 300])
async def test_a_deleted_aggregate_begins_again(
    registry: Registry, log: CountingLog, lines: int
) -> None:
    host = DomainHost(registry, log)
    order = await host.order()
    first = enclose(registry, line(order))
    await host.inner.handle([first])
    await host.send(*(line(order, f"sku-{n}") for n in range(lines)))
    await host.send(PlaceOrder(order_id=order))
    await host.inner.delete(f"order-{order}", tombstone=False)
    [unknown] = await host.send(line(order))
    assert isinstance(unknown, NotFound)
    create = CreateOrder(order_id=order, customer_id="grace")
    [created, added, repeated] = await host.inner.handle(
        [enclose(registry, create), enclose(registry, line(order)), first]
    )
    ended = lines + 2
    assert [created.revision, added.revision, repeated.revision] == [ended + n for n in (1, 2, 3)]
    other = DomainHost(registry, log)
    await other.send(*(line(order, f"sku-{n}") for n in range(70)))
    [outcome] = await DomainHost(registry, log).send(PlaceOrder(order_id=order))
    assert outcome.revision == ended + 74


async def test_a_snapshot_from_before_a_deletion_is_ignored(
    registry: Registry, log: CountingLog
) -> None:
    host = DomainHost(registry, log)
    order = await host.order(lines=300)
    await host.send(PlaceOrder(order_id=order))
    await host.inner.drain()
    await log.delete_stream(f"order-{order}")  # by somebody else, who leaves the snapshot
    host = DomainHost(registry, log)
    await host.send(CreateOrder(order_id=order, customer_id="ada"))
    await host.send(*(line(order) for _ in range(70)))
    [outcome] = await DomainHost(registry, log).send(line(order))
    assert outcome.revision == 302 + 71


async def test_a_deletion_waits_for_earlier_commands_and_later_ones_wait_for_it(
    registry: Registry, log: CountingLog
) -> None:
    host = DomainHost(registry, log)
    order = await host.order()
    log.open.clear()
    log.arrived.clear()
    before = asyncio.create_task(host.send(line(order)))  # awaited below
    await log.arrived.wait()
    deletions = [
        asyncio.create_task(host.inner.delete(f"order-{order}", tombstone=tombstone))
        for tombstone in (False, True)
    ]
    await asyncio.sleep(0)
    behind = asyncio.create_task(host.send(line(order)))  # awaited below
    await asyncio.sleep(0)
    log.open.set()
    assert [outcome.revision for outcome in await before] == [1]
    await asyncio.gather(*deletions)
    assert [type(outcome) for outcome in await behind] == [AggregateDeleted]


async def test_a_cancelled_deletion_delays_no_command(registry: Registry, log: CountingLog) -> None:
    host = DomainHost(registry, log)
    order = await host.order()
    log.open.clear()
    log.arrived.clear()
    before = asyncio.create_task(host.send(line(order)))
    await log.arrived.wait()
    deletions = [
        asyncio.create_task(host.inner.delete(f"order-{order}", tombstone=False)) for _ in range(3)
    ]
    await asyncio.sleep(0)
    deletions[0].cancel()  # before it is its turn
    await asyncio.sleep(0)
    log.open.set()
    await before
    deletions[1].cancel()  # at its turn
    async with asyncio.timeout(60):
        await deletions[2]
        [unknown] = await host.send(line(order))
    assert isinstance(unknown, NotFound)


@pytest.mark.parametrize("broken", [False, True])
async def test_a_repeat_has_an_answer_even_if_its_receipt_cannot_be_read(
    registry: Registry, log: CountingLog, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    order = uuid4()
    first = enclose(registry, CreateOrder(order_id=order, customer_id="ada"))
    await DomainHost(registry, log).inner.handle([first])
    host = DomainHost(registry, log)
    await host.send(line(order))  # what it knows of the first, it has from the log
    if broken:
        monkeypatch.setattr(log, "read_stream", None)
    else:
        await log.delete_stream(f"order-{order}", tombstone=True)  # by somebody else
    async with asyncio.timeout(60):
        [outcome] = await host.inner.handle([first])
    assert isinstance(outcome, Unavailable if broken else AggregateDeleted)
    assert host.inner.status()["waiting"] == 0


@pytest.mark.parametrize("known_from", ["the command", "the log"])
async def test_a_repeat_is_known_for_ten_minutes_whatever_the_wall_clock_says(
    registry: Registry, log: CountingLog, monkeypatch: pytest.MonkeyPatch, known_from: str
) -> None:
    """A repeat was written twice if a clock was set ahead, also if only at one host."""
    host = DomainHost(registry, log)
    order = await host.order()
    first = enclose(registry, line(order))
    [receipt] = await host.inner.handle([first])
    await host.send(*(line(order) for _ in range(ALWAYS_REMEMBERED + 9)))
    if known_from == "the log":
        host = DomainHost(registry, log)
    await host.send(line(order))
    ahead = SimpleNamespace(monotonic=time.monotonic, time=lambda: time.time() + 3600.0)
    monkeypatch.setattr(recent_commands, "time", ahead)
    await host.send(line(order))
    [again] = await host.inner.handle([first])
    assert again.revision == receipt.revision


async def test_an_event_that_the_store_never_accepts_fails_its_own_command(
    registry: Registry, log: CountingLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = DomainHost(registry, log)
    order, other = await host.order(), await host.order()
    append = log.append

    async def strict(appends: Sequence[StreamAppend]) -> list[AppendResult]:
        bad = [any(b"large" in record.data for record in each.records) for each in appends]
        good = [each for each, is_bad in zip(appends, bad, strict=True) if not is_bad]
        answers = iter(await append(good))
        return [InvalidAppend("too large") if is_bad else next(answers) for is_bad in bad]

    monkeypatch.setattr(log, "append", strict)
    outcomes = await host.send(line(order), line(order, "large"), line(order), line(other))
    assert [type(outcome) for outcome in outcomes] == [Done, DecisionFailed, Done, Done]
    assert "too large" in outcomes[1].detail
    assert [outcomes[0].revision, outcomes[2].revision] == [1, 2]


async def test_events_of_another_writer_are_folded_before_a_command_is_refused(
    registry: Registry, log: CountingLog
) -> None:
    here, there = DomainHost(registry, log), DomainHost(registry, log)
    order, other = uuid4(), uuid4()
    await here.send(*(CreateOrder(order_id=each, customer_id="ada") for each in (order, other)))
    await there.send(line(order))
    here.inner.forget_streams(lambda stream: stream == f"order-{order}")
    read = log.read
    assert await here.send(PlaceOrder(order_id=order)) == [Done(2, 4)]
    assert log.read == read + 2
    await here.send(line(other))
    assert log.read == read + 2  # the others are known


async def test_aggregates_hot_on_another_host_are_loaded_before_they_are_asked_for(
    registry: Registry, log: CountingLog
) -> None:
    before, after = DomainHost(registry, log), DomainHost(registry, log)
    orders = [await before.order(lines=3) for _ in range(3)]
    hot = before.inner.hot(2)
    assert hot == [f"order-{order}" for order in orders[1:]]
    after.inner.warm([*hot, "of-another-release"])
    after.inner.warm(hot)  # they are on their way
    await asyncio.gather(*after.inner._tasks)
    read = log.read
    assert await after.send(PlaceOrder(order_id=orders[2])) == [Done(4, 13)]
    assert log.read == read


async def test_a_command_of_the_next_release_does_not_harm_others_of_its_batch(
    registry: Registry, log: CountingLog
) -> None:
    host = DomainHost(registry, log)
    known = enclose(registry, CreateOrder(order_id=uuid4(), customer_id="ada"))
    unknown = known._replace(command="of-another-release", command_id=str(uuid4()))
    changed = known._replace(payload=b'{"of": "another release"}', command_id=str(uuid4()))
    outcome, *refusals = await host.inner.handle([known, unknown, changed])
    assert isinstance(outcome, Done)
    assert [type(each) for each in refusals] == [Unavailable, Unavailable]


async def test_a_command_overtaken_once_is_not_answered_as_one_that_is_overtaken_each_time(
    registry: Registry, log: CountingLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would be answered as not done, and yet be decided: a client would repeat it."""
    host, overtaken = DomainHost(registry, log, attempts=2), 2
    order = await host.order()
    append, later = log.append, list[asyncio.Future[Any]]()

    async def slower(appends: Sequence[StreamAppend]) -> list[AppendResult]:
        nonlocal overtaken
        if overtaken:
            overtaken -= 1
            later.extend(host.inner.begin([enclose(registry, line(order, f"{overtaken}"))]))
            added = {"order_id": str(order), "sku": "nut", "quantity": 1, "unit_price_cents": 450}
            noise = NewRecord("LineAdded", json.dumps(added).encode(), {}, str(uuid4()))
            await append([StreamAppend(f"order-{order}", ANY, [noise])])
        return await append(appends)

    monkeypatch.setattr(log, "append", slower)
    [first] = await host.send(line(order))
    assert isinstance(first, Unavailable)
    assert [type(await each) for each in later] == [Done, Done]
    assert host.inner.status()["waiting"] == 0
