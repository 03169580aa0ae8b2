"""A stack that is started on a copy: everything continues there, and nothing happens twice."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import uuid4

from actors.envelope import enclose
from actors.local import LocalRuntime
from actors.processes.checkpoints import lay_out
from actors.schedules.schedule_runner import ScheduleRunner
from actors.schedules.schedules import Schedules
from domain.inventory.stock import ReserveStock
from domain.orders.commands import CreateOrder, PayOrder
from eventstore.identity import store_id
from eventstore.kurrentdb.whole_log import WholeLog
from eventstore.one_record import last_record
from eventstore.personal.log import PersonalLog
from eventstore.personal.witness import note_destroyed, witness
from eventstore.records import recorded
from eventstore.tenancy import is_of_tenants, mark_as_tenants
from projections import discarded_events
from projections.operations.audit import Audit
from projections.poison import Discarded
from projections.poison import Parked as ParkedRow
from projections.publications.records import Parked, PublicationRecords
from rayfold import FORGOTTEN, Registry
from tests.contract.copying.copies import (
    also_older,
    copied,
    everything,
    names_the_same_events,
    new,
    stream_of,
    written,
)
from tests.contract.processes.stages import Clock, Stage, ended, is_so, named, until, waits_for
from tests.memory_keys import MemoryKeys
from tests.personal.people import Register, Registered


@also_older
async def test_processes_continue_on_the_copy_from_where_they_were(
    source: WholeLog, target: WholeLog, registry: Registry
) -> None:
    definition = named("moved")
    async with Stage(source, registry, definition) as stage:
        tea = await stage.stock(100)
        orders = [await stage.order(tea) for _ in range(20)]
        lacking = await stage.order(tea, f"lacking-{uuid4()}")
        for order in orders:
            await until(lambda order=order: waits_for(stage, order) == 1)
        await stage.send(PayOrder(order_id=orders[0]))
        await until(lambda: ended(stage, orders[0]))
        await until(lambda: ended(stage, lacking))
        await stage.runner.stop()
        await stage.send(PayOrder(order_id=orders[1]))  # nobody is told of it before the copy

    told = await copied(source, target)
    assert not told.went_on
    assert told.checkpoints == 1
    await names_the_same_events(source, target)
    before = {order: len(await stage.records(order)) for order in orders}

    async with Stage(target, registry, definition) as moved:
        await until(lambda: is_so(moved.status(orders[1]), "shipped"))
        await moved.send(PayOrder(order_id=orders[2]))
        await until(lambda: is_so(moved.status(orders[2]), "shipped"))
        for order in (orders[0], *orders[3:]):
            assert len(await moved.records(order)) == before[order]
        await moved.pass_time(timedelta(minutes=16))
        for order in orders[3:]:
            await until(lambda order=order: ended(moved, order))
            await until(lambda order=order: is_so(moved.status(order), "cancelled"))
        await until(lambda: is_so(moved.reserved(tea), 3))
        for order in orders:
            commands = [
                decided["command_id"]
                for raw in await moved.records(order)
                for decided in json.loads(raw.data).get("decided", ())
                if decided["type"] == "send"
            ]
            # Reserved and shipped; or reserved, expired and released.
            assert len(commands) == len(set(commands)) == (2 if order in orders[:3] else 3)


async def test_a_process_that_is_parked_is_told_what_waits_for_it(
    source: WholeLog, target: WholeLog, registry: Registry
) -> None:
    definition = named("parked")
    async with Stage(source, registry, definition) as stage:
        order = await stage.order(await stage.stock())
        await until(lambda: waits_for(stage, order) == 1)
    stream = definition.stream(order)
    last = await last_record(source, stream)
    assert last is not None
    position = (await stage.send(CreateOrder(order_id=uuid4(), customer_id="ada")))[0].position
    told = {"trigger": "t", "event": "OrderPaid", "position": position}
    for event_type, body in {
        "ProcessParked": {"told": told, "error": "it broke"},
        "ProcessWaits": {"told": told},
        "ProcessDropped": {"told": told},
        "ProcessAborted": {"compensates": True, "missed": [told, told], "position": position},
    }.items():
        await written(source, stream, new(event_type, **body))
    await copied(source, target)
    moved = {raw.event_type: json.loads(raw.data) for raw in await stream_of(target, stream)}
    of = [each for each in await everything(target) if each.event_type == "OrderCreated"][-1]
    assert of.position != position
    told = {**told, "position": of.position}
    assert moved["ProcessParked"] == {"told": told, "error": "it broke"}
    assert moved["ProcessWaits"] == moved["ProcessDropped"] == {"told": told}
    aborted = {"compensates": True, "missed": [told, told], "position": of.position}
    assert moved["ProcessAborted"] == aborted


async def test_the_partitions_of_a_process_manager_are_the_same_on_the_copy(
    source: WholeLog, target: WholeLog, registry: Registry
) -> None:
    await written(source, "order-1", new())
    for partitions in (1, 2, 3):
        layout = await lay_out(source, "many", partitions, ["order-"])
    await copied(source, target)
    moved = await lay_out(target, "many", 3, ["order-"])
    assert (moved.number, moved.partitions) == (layout.number, 3) == (2, 3)
    assert [raw.position for raw in await stream_of(target, "order-1")] == [moved.after]


async def test_commands_that_are_scheduled_are_sent_once(
    source: WholeLog, target: WholeLog, registry: Registry
) -> None:
    clock = Clock()
    writes = LocalRuntime(registry, source)
    async with Stage(source, registry) as stage:
        tea = await stage.stock()

    async def schedule(log: WholeLog, after: timedelta) -> str:
        envelope = enclose(registry, ReserveStock(sku=tea, quantity=1), principal="ada")
        told = await Schedules(log).schedule(envelope, clock() + after)
        return str(told["command_id"])

    @asynccontextmanager
    async def running(log: WholeLog, writes: LocalRuntime) -> AsyncIterator[ScheduleRunner]:
        runner = ScheduleRunner(registry, log, writes.bus, clock=clock)
        await runner.start()
        yield runner
        await runner.stop()

    async def status(log: WholeLog, command_id: str) -> str:
        about = await Schedules(log).about(command_id)
        assert about is not None
        return str(about["status"])

    async with running(source, writes):
        done, later = (
            await schedule(source, timedelta()),
            await schedule(source, timedelta(hours=1)),
        )
        never = await schedule(source, timedelta(hours=1))
        await until(lambda: is_so(status(source, done), "accepted"))
        await Schedules(source).cancel(never, "ada")
    await copied(source, target)
    about = await Schedules(target).about(done)
    assert about is not None
    [_, reserved] = await stream_of(target, f"stock-{tea}")
    assert (about["revision"], about["position"]) == (1, reserved.position)
    async with running(target, LocalRuntime(registry, target)) as runner:
        assert await status(target, later) == "scheduled"
        clock.ahead += timedelta(hours=2)
        runner.wake()
        await until(lambda: is_so(status(target, later), "accepted"))
        assert await status(target, never) == "cancelled"
    assert len(await stream_of(target, f"stock-{tea}")) == 3


async def test_publications_continue_on_the_copy_with_the_same_keys_parked(
    source: WholeLog, target: WholeLog
) -> None:
    events = [
        (await written(source, "order-1", new(number=number))).position for number in range(9)
    ]
    news = PublicationRecords(source, "news")
    place = ("order-1", 5, events[5], "it is down", "2026-01-01T00:00:00Z")
    await news.park([Parked("ada", *place), Parked("bob", *place)])
    await news.release([Parked("bob", *place)])
    for position in events[:8]:
        await news.save(position)
    await copied(source, target)
    there = [raw.position for raw in await stream_of(target, "order-1")]
    assert there != events
    moved = PublicationRecords(target, "news")
    ada = Parked("ada", "order-1", 5, there[5], *place[3:])
    assert await moved.load() == (there[7], {"key ada": ada})
    metadata = await last_record(target, "$$rayfold-publication-news")
    assert metadata is not None
    assert json.loads(metadata.data) == {"$maxCount": 2}

    # Until nobody writes to the source any more, what is there now follows.
    await news.save(events[8])
    await copied(source, target)
    assert (await PublicationRecords(target, "news").load())[0] == there[8]
    assert len(await stream_of(target, "rayfold-publication-news")) == 2


async def test_other_records_of_rayfold_are_copied_except_the_id_of_the_log(
    source: WholeLog, target: WholeLog
) -> None:
    keys = (await witness(source, uuid4())).keys
    gone = uuid4()
    await note_destroyed(source, [gone])
    await mark_as_tenants(source)
    discarded = Discarded("orders", "ada", "order-acme:1", 3)
    await discarded_events.record(source, ParkedRow(*discarded, 17, "it broke"))
    await Audit(source).asked("ada", "replay", b'{"after": 17}')
    await written(source, "snapshot-order-1", new("Snapshot", position=1))
    await written(source, "order-acme:1", new())
    told = await copied(source, target)
    assert (told.records, told.by_category.total()) == (6, 6)
    assert await witness(target, uuid4()) == (keys, {gone})
    assert await is_of_tenants(target)
    assert await discarded_events.load(target, ["orders"]) == {discarded}
    [note] = await Audit(target).last(10)
    assert (note["principal"], note["arguments"]) == ("ada", {"after": 17})
    assert await stream_of(target, "snapshot-order-1") == []
    assert await store_id(target) != await store_id(source)


async def test_personal_data_is_copied_encrypted_and_read_with_its_keys(
    source: WholeLog, target: WholeLog
) -> None:
    people, keys = Registry.load("tests.personal"), MemoryKeys()
    writes = LocalRuntime(people, PersonalLog(source, keys))
    await writes.send(Register(customer_id="ada", email="secret@example.org"))
    await writes.send(Register(customer_id="bob", email="secret-bob@example.org"))
    keys.forget("bob")
    await copied(source, target)
    assert not any(b"secret" in each.data + each.metadata for each in await everything(target))
    read = {
        each.event.customer_id: each.event.email
        async for raw in PersonalLog(target, keys).read_all(people.prefixes)
        for each in recorded(people, raw)
        if isinstance(each.event, Registered)
    }
    assert read == {"ada": "secret@example.org", "bob": FORGOTTEN}
