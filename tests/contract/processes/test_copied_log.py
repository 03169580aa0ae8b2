"""A log that is copied to another store: what went on goes on there, and nothing happens twice."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from kurrentdbclient import KurrentDBClient, NewEvent, StreamState

from actors.envelope import enclose
from actors.local import LocalRuntime
from actors.processes.checkpoints import lay_out
from actors.schedules.schedule_runner import ScheduleRunner
from actors.schedules.schedules import Schedules
from deploy.cli.copying import _run as command
from deploy.copying import copy as copy_module
from deploy.copying.copy import Copied, Copy, CopyRefused
from deploy.copying.own_records import UnknownRecord
from deploy.errors import StartError
from deploy.stack.owning import own_store_id
from domain.inventory.stock import ReceiveStock, ReserveStock
from domain.orders.commands import CreateOrder, PayOrder
from eventstore.errors import StoreUnavailable, StreamTombstoned
from eventstore.identity import begin_copy, is_unfinished_copy, store_id
from eventstore.kurrentdb.whole_log import WholeLog, WholeRecord
from eventstore.one_record import first_record, last_record
from eventstore.personal.keys import MemoryKeys
from eventstore.personal.log import PersonalLog
from eventstore.personal.witness import note_destroyed, witness
from eventstore.port import ANY, Appended, StreamAppend
from eventstore.records import NewRecord, RawRecord, recorded
from eventstore.tenancy import is_of_tenants, mark_as_tenants
from projections import discarded_events
from projections.operations.audit import Audit
from projections.operations.verification import fold_afresh
from projections.poison import Discarded
from projections.poison import Parked as ParkedRow
from projections.publications.records import Parked, PublicationRecords
from rayfold import FORGOTTEN, Registry
from tests.conftest import serve_store
from tests.contract.processes.stages import Clock, Stage, ended, is_so, named, until, waits_for
from tests.personal.people import Register, Registered
from tests.ports import free_port
from tests.stack import rayfold


@pytest.fixture
def source_uri(tmp_path: Path) -> Iterator[str]:
    """A store with nothing in it."""
    yield from serve_store(tmp_path / "source")


@pytest.fixture
def target_uri(tmp_path: Path) -> Iterator[str]:
    """One whose positions are others': the server has written to it."""
    for uri in serve_store(tmp_path / "target"):
        with KurrentDBClient(uri) as client:
            events = [NewEvent("$stats", b"{}") for _ in range(777)]
            client.append_to_stream("$stats-0", current_version=StreamState.ANY, events=events)
        yield uri


@pytest.fixture
async def source(source_uri: str) -> AsyncIterator[WholeLog]:
    """The log that is copied."""
    log = WholeLog(source_uri)
    await store_id(log)
    yield log
    await log.close()


@pytest.fixture(params=["server"])
async def target(request: pytest.FixtureRequest, target_uri: str) -> AsyncIterator[WholeLog]:
    """The other end."""
    log = WholeLog(target_uri, atomic=False if "without" in request.param else None)
    yield log
    await log.close()


also_older = pytest.mark.parametrize(
    "target", ["server", "server without append_records"], indirect=True
)


async def copied(source: WholeLog, target: WholeLog, *, up_to_now: bool = False) -> Copied:
    """Copy it."""
    return await Copy(source, target, lambda _: None, up_to_now=up_to_now).run()


async def written(log: WholeLog, stream: str, *records: NewRecord, expected: int = ANY) -> Appended:
    """Append to a stream, as whoever does not ask where it is."""
    [answer] = await log.append([StreamAppend(stream, expected, [*records])])
    assert isinstance(answer, Appended)
    return answer


def new(event_type: str = "Noted", **fields: Any) -> NewRecord:
    """Return a record of somebody's."""
    return NewRecord(event_type, msgspec.json.encode(fields), {"by": "me"}, str(uuid4()))


async def stream_of(log: WholeLog, stream: str) -> list[RawRecord]:
    """Read all of a stream."""
    return [raw async for raw in log.read_stream(stream)]


async def everything(log: WholeLog) -> list[WholeRecord]:
    """Read all that is not the server's."""
    return [record async for record in log.read_whole()]


@also_older
async def test_processes_go_on_where_they_were(
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


async def names_the_same_events(source: WholeLog, target: WholeLog) -> None:
    """Check that what processes were told of stands in either log where they say that it does."""
    for log in (source, target):
        records = await everything(log)
        at = {each.position: each for each in records}
        steps = [each for each in records if each.event_type == "ProcessSawEvent"]
        assert steps
        for step in steps:
            told = json.loads(step.data)["told"]
            event = at[told["position"]]
            assert (event.stream, event.revision) == (told["stream"], told["revision"])
            assert event.position < step.position


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


async def test_a_manager_of_more_partitions_keeps_its_layout(
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


async def test_publications_go_on_where_they_were_and_have_the_same_keys_parked(
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


async def test_what_else_rayfold_has_written_is_there_but_not_which_log_it_is(
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


@also_older
async def test_records_of_other_clients_are_copied_as_they_are(
    source: WholeLog, target: WholeLog, source_uri: str
) -> None:
    odd = [
        NewEvent("an odd type!", b"\x00\xff", b"\xfe no JSON", "application/octet-stream"),
        NewEvent("Numbers", b'{ "a" : 1.10 }', b'{"n": 1, "b": [true, null], "t": "x"}'),
        NewEvent("NoMetadata", b"{}"),
        NewEvent("$>", b"0@order-1"),
        NewEvent("Large", b'"%b"' % (b"x" * 900_000)),
    ]
    with KurrentDBClient(source_uri) as client:
        for stream in ("theirs", "Theirs-2", "process-it", "schedule-it"):
            some = odd if stream[0] in "tT" else [NewEvent("ProcessSawEvent", b"no JSON")]
            if stream == "schedule-it":
                some = [NewEvent("ScheduledCommandAccepted", b'["no object"]')]
            client.append_to_stream(stream, current_version=StreamState.ANY, events=some)
    told = await copied(source, target)
    assert told.records == 12
    ours, theirs = await everything(source), await everything(target)
    names = ("theirs", "Theirs-2", "process-it", "schedule-it")
    there = [each for each in theirs if each.stream in names]
    assert [e.content for e in ours if e.stream in names] == [each.content for each in there]
    assert [e.data for e in ours if e.stream in names] == [each.data for each in there]
    assert json.loads(there[1].metadata) == {"n": 1, "b": [True, None], "t": "x"}
    assert there[0].metadata == b"\xfe no JSON"


@also_older
async def test_what_was_deleted_stays_so_and_nothing_is_numbered_anew(
    source: WholeLog, target: WholeLog
) -> None:
    for stream in ("gone", "again", "cut", "never", "whole"):
        for number in range(5):
            await written(source, f"order-{stream}", new(secret=stream, number=number))
    for stream in ("gone", "again"):
        await source.delete_stream(f"order-{stream}")
    await source.delete_stream("order-never", tombstone=True)
    await source.truncate("order-cut", 3)
    for number in range(2):
        await written(source, "order-again", new(number=number))
    told = await copied(source, target)
    assert (told.records, told.streams, told.tombstoned) == (9, 3, 1)
    for stream, revisions in {"whole": [*range(5)], "cut": [3, 4], "again": [5, 6]}.items():
        for log in (source, target):
            found = await stream_of(log, f"order-{stream}")
            assert [raw.revision for raw in found] == revisions
    assert await first_record(target, "order-gone") is None
    with pytest.raises(StreamTombstoned):
        await first_record(target, "order-never")
    secrets = [record.data for record in await everything(target) if b"secret" in record.data]
    assert len(secrets) == 7  # whole, and what is left of the one that was cut
    # It counts on where it ended, as it would have.
    for log in (source, target):
        answer = await log.append([StreamAppend("order-gone", None, [new()])])
        assert answer[0].last_revision in (5, None)  # type: ignore[union-attr]
        assert [raw.revision for raw in await stream_of(log, "order-gone")] == [5]

    with pytest.raises(CopyRefused, match="of order-gone"):  # as the target was written to
        await copied(source, target)


async def test_what_is_deleted_after_a_first_copy_goes_with_the_second(
    source: WholeLog, target: WholeLog
) -> None:
    for stream in ("gone", "cut", "never", "again"):
        await written(source, f"order-{stream}", new(), new(), new())
    await copied(source, target)
    await source.delete_stream("order-gone")
    await source.delete_stream("order-never", tombstone=True)
    await source.delete_stream("order-again")
    await written(source, "order-again", new())
    await source.truncate("order-cut", 2)
    await written(source, "order-cut", new())
    for _ in range(2):
        told = await copied(source, target)
        assert told.records == 3
        assert await stream_of(target, "order-gone") == []
        assert [raw.revision for raw in await stream_of(target, "order-cut")] == [2, 3]
        assert [raw.revision for raw in await stream_of(target, "order-again")] == [3]
        with pytest.raises(StreamTombstoned):
            await stream_of(target, "order-never")
    assert told.found == 3
    await written(source, "order-gone", new())  # begins again
    assert (await copied(source, target)).records == 4
    assert [raw.revision for raw in await stream_of(target, "order-gone")] == [3]


@also_older
async def test_what_began_again_after_a_first_copy_is_folded_as_in_the_source(
    source: WholeLog, target: WholeLog, registry: Registry
) -> None:
    """The target had it without its deletion, which readers of `$all` have to see."""

    async def received(sku: str, *quantities: int) -> None:
        writes = LocalRuntime(registry, source)  # knows no stream that was deleted meanwhile
        for quantity in quantities:
            await writes.send(ReceiveStock(sku=sku, quantity=quantity))

    async def on_hand(log: WholeLog) -> dict[str, int]:
        levels = (await fold_afresh(registry, log, await log.last_position()))["stock-levels"]
        return {sku: json.loads(row.json())["on_hand"] for sku, row in levels.rows.items()}

    for sku in ("tea", "cup", "mug"):
        await received(sku, 7)
    await copied(source, target)
    await received("cup", 5)  # the target never gets that one
    for sku in ("tea", "cup"):
        await source.delete_stream(f"stock-{sku}")
        await received(sku, 1)
    for _ in range(2):
        told = await copied(source, target)
        assert await on_hand(source) == await on_hand(target) == {"tea": 1, "cup": 1, "mug": 7}
    assert told.found == told.records == 3
    await source.delete_stream("stock-tea")
    await received("tea", 2)
    await copied(source, target)
    assert await on_hand(source) == await on_hand(target) == {"tea": 2, "cup": 1, "mug": 7}


async def test_what_began_again_during_a_first_copy_wants_another_target(
    source: WholeLog, target: WholeLog
) -> None:
    await written(source, "order-1", new(), new())
    await copied(source, target)
    await source.delete_stream("order-1")
    await written(source, "order-1", new())
    # The first one found all three, and no settings when it looked at those.
    await target.append_whole([(await everything(source))[-1]])
    with pytest.raises(CopyRefused, match="order-1 was deleted in the source"):
        await copied(source, target)


@also_older
async def test_an_interrupted_copy_is_gone_on_with(
    source: WholeLog,
    target: WholeLog,
    target_uri: str,
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    definition = named("broken_off")
    async with Stage(source, registry, definition) as stage:
        tea = await stage.stock(100)
        orders = [await stage.order(tea) for _ in range(10)]
        for order in orders:
            await until(lambda order=order: waits_for(stage, order) == 1)
    append, calls = WholeLog.append_whole, 0

    async def broken_off(log: WholeLog, records: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls % 3:
            return await append(log, records)
        if calls % 2:
            await append(log, records)  # and the answer is lost
        raise StoreUnavailable("it has died")

    monkeypatch.setattr(WholeLog, "append_whole", broken_off)
    broken = 0
    while True:
        try:
            told = await copied(source, target)
        except StoreUnavailable:
            broken += 1
            with pytest.raises(StartError, match="a copy that is not finished"):
                await own_store_id(target_uri)
        else:
            break
    assert broken > 1
    assert told.found > 0
    await names_the_same_events(source, target)
    monkeypatch.undo()
    again = await copied(source, target)
    assert (again.digest, again.records, again.found) == (told.digest, told.records, told.records)


async def test_a_log_that_is_written_to_is_copied_up_to_its_end_then_the_rest(
    source: WholeLog, target: WholeLog, target_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await written(source, "order-1", new())
    append = WholeLog.append_whole

    async def meanwhile(log: WholeLog, records: Any) -> Any:
        monkeypatch.undo()
        await written(source, "order-2", new())
        return await append(log, records)

    monkeypatch.setattr(WholeLog, "append_whole", meanwhile)
    assert (await copied(source, target)).went_on
    with pytest.raises(StartError, match="a copy that is not finished"):
        await own_store_id(target_uri)
    await written(source, "order-1", new())
    last = (await written(source, "order-3", new())).position
    told = await copied(source, target)
    assert (told.records, told.position, told.went_on) == (4, last, False)
    assert [raw.revision for raw in await stream_of(target, "order-1")] == [0, 1]

    # It is unfinished again from the moment that a next run looks at what it has.
    read = WholeLog.read_whole
    looked: list[bool] = []

    async def looked_into(log: WholeLog, *args: Any, **kwargs: Any) -> AsyncIterator[WholeRecord]:
        if log is target:
            looked.append(await is_unfinished_copy(target))
        async for record in read(log, *args, **kwargs):
            yield record

    monkeypatch.setattr(WholeLog, "read_whole", looked_into)
    await copied(source, target)
    assert set(looked) == {True}

    # Of a source that is never silent it may stay behind.
    await written(source, "order-1", new())
    monkeypatch.setattr(WholeLog, "append_whole", meanwhile)
    assert (await copied(source, target, up_to_now=True)).went_on
    assert await own_store_id(target_uri)
    assert len(await stream_of(target, "order-1")) == 3


async def test_what_is_not_a_copy_is_left_alone(source: WholeLog, target: WholeLog) -> None:
    await written(source, "order-1", new(), new())
    await written(target, "order-1", new())
    with pytest.raises(CopyRefused, match="give an empty store"):
        await copied(source, target)
    assert len(await everything(target)) == 1
    await target.delete_stream("order-1")
    await store_id(target)
    with pytest.raises(CopyRefused, match="a stack was started on the target"):
        await copied(source, target)
    assert len(await everything(target)) == 2


async def test_a_refused_run_leaves_a_finished_copy_finished(
    source: WholeLog, target: WholeLog, target_uri: str
) -> None:
    await written(source, "order-1", new())
    await copied(source, target)
    await written(target, "order-2", new())  # as if it were the copy of another source
    with pytest.raises(CopyRefused, match="the target has what the source has not"):
        await copied(source, target)
    assert await own_store_id(target_uri)


async def test_a_run_that_is_broken_off_before_it_writes_leaves_a_finished_copy_finished(
    source: WholeLog, target: WholeLog, target_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await written(source, "order-1", new())
    await copied(source, target)
    read, looked = WholeLog.read_whole, asyncio.Event()

    async def silent(log: WholeLog, *args: Any, **kwargs: Any) -> AsyncIterator[WholeRecord]:
        async for record in read(log, *args, **kwargs):
            looked.set()
            await asyncio.Event().wait()
            yield record

    monkeypatch.setattr(WholeLog, "read_whole", silent)
    running = asyncio.create_task(copied(source, target))
    async with asyncio.timeout(60):
        await looked.wait()
    assert await is_unfinished_copy(target)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await own_store_id(target_uri)


async def test_a_stack_that_begins_on_the_target_first_keeps_it(
    source: WholeLog, target: WholeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def begun(log: WholeLog) -> None:
        await store_id(log)  # in the moment before
        await begin_copy(log)

    await written(source, "order-1", new())
    monkeypatch.setattr(copy_module, "begin_copy", begun)
    with pytest.raises(CopyRefused, match="a stack was started on the target"):
        await copied(source, target)
    assert await stream_of(target, "order-1") == []


async def test_a_record_that_this_release_does_not_know_is_refused(
    source: WholeLog, target: WholeLog
) -> None:
    for stream in ("rayfold-new", "process-fulfilment-1", "rayfold-process-fulfilment"):
        await source.delete_stream("rayfold-new")
        await written(source, stream, new("NewOfItsKind", position=1))
        with pytest.raises(UnknownRecord, match="NewOfItsKind"):
            await copied(source, target)


@also_older
async def test_many_records_are_copied_in_order(source: WholeLog, target: WholeLog) -> None:
    started = datetime.now(UTC)
    for number in range(30):
        some = [StreamAppend(f"order-{each}", ANY, [new(number=number)]) for each in range(20)]
        await source.append(some)
    told = await copied(source, target)
    assert (told.records, told.streams, told.by_category) == (600, 20, {"order": 600})
    ours, theirs = await everything(source), await everything(target)
    named_so = [each.content for each in theirs if each.stream.startswith("order-")]
    assert [each.content for each in ours if each.stream.startswith("order-")] == named_so
    raw = await first_record(target, "order-0")
    assert raw is not None
    assert raw.recorded_at is not None
    assert raw.recorded_at >= started


async def test_large_records_are_not_held_by_the_thousand(
    source: WholeLog, target: WholeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(25):
        await written(source, "order-1", new(text="x" * 900_000))
    append, read = WholeLog.append_whole, WholeLog.read_whole
    appended, most = 0, 0

    async def counted(log: WholeLog, records: Any) -> Any:
        nonlocal appended, most
        appended += sum(each.size for each in records)
        most = max(most, appended)
        return await append(log, records)

    def read_again(log: WholeLog, *args: Any, **kwargs: Any) -> Any:
        nonlocal appended
        appended = 0
        return read(log, *args, **kwargs)

    monkeypatch.setattr(WholeLog, "append_whole", counted)
    monkeypatch.setattr(WholeLog, "read_whole", read_again)
    assert (await copied(source, target)).records == 25
    assert most < 10_000_000


def test_the_command_copies_and_says_what_comes_next(source_uri: str, target_uri: str) -> None:
    with KurrentDBClient(source_uri) as client:
        events = [NewEvent("KeysNamed", json.dumps({"id": str(uuid4())}).encode())]
        for stream in ("rayfold-personal-keys", "order-1"):
            client.append_to_stream(stream, current_version=StreamState.ANY, events=events)
    done = ran("--from", source_uri, "--to", target_uri)
    assert done.returncode == 0, done.stderr
    assert "the copy has 2 records of 2 streams, 0 of them from before" in done.stdout
    assert "  order: 1\n" in done.stdout
    assert "next: start a stack on the copy with an empty Postgres" in done.stdout
    assert "keys of personal data" in done.stdout


async def test_the_command_says_why_it_does_not_copy(source_uri: str, target_uri: str) -> None:
    nobody = f"kdb://admin:secret@127.0.0.1:{free_port()}?Tls=false"
    with KurrentDBClient(target_uri) as client:
        events = [NewEvent("Noted", b"{}")]
        client.append_to_stream("order-1", current_version=StreamState.ANY, events=events)
    for source, target, why in (
        (nobody, target_uri, "the source, kdb://admin:…@"),
        (source_uri, nobody, "the target, kdb://admin:…@"),
        (source_uri, source_uri, "the same store"),
        ("nonsense", target_uri, "the source, nonsense, does not answer"),
    ):
        with pytest.raises(StartError) as refused:
            await command(source, target, up_to_now=False)
        assert why in str(refused.value)
        assert "secret" not in str(refused.value)
    done = ran("--from", source_uri, "--to", target_uri)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "the target has what the source has not" in done.stderr


def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [*rayfold(), "copy", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)
