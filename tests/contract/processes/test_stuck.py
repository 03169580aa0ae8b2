"""Processes that cannot continue: they delay no others, and operators can end them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from actors.errors import NoSuchProcess, ProcessStuck, Unavailable
from actors.processes import delivery, runner, showing
from actors.processes.open_index import OpenIndex
from actors.processes.open_processes import OpenProcess
from actors.processes.records import PARKED, SAW_EVENT, Parked, Told, new_record, step_record
from domain.fulfilment.process import Fulfilment, FulfilmentState
from domain.inventory.stock import ReserveStock, StockReserved
from domain.orders.commands import CancelOrder, CreateOrder, PayOrder
from domain.orders.events import OrderCreated, OrderPaid
from eventstore.kurrentdb.log import EventLog
from eventstore.memory import MemoryLog
from eventstore.port import ANY, InvalidAppend, Log, StreamAppend
from eventstore.records import NewRecord
from rayfold import (
    CommandRejected,
    Complete,
    ProcessManager,
    Registry,
    Send,
    Step,
    on,
    on_rejected,
    starts,
)
from rayfold.process_instance import ProcessStep, Sending
from tests.contract.processes.breaking import Breaking, Broken
from tests.contract.processes.stages import (
    Stage,
    amount,
    ended,
    is_so,
    last,
    named,
    until,
    waits_for,
)


async def test_a_process_that_ended_while_events_waited_is_not_open_after_a_crash(
    log: Log, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Breaking, "broken", True)
    async with Stage(log, registry, Breaking.__rayfold__) as stage:
        order = await stage.order("tea", fulfil=False)
        await stage.send(PayOrder(order_id=order))
        await until(lambda: str(order) in stage.runner.parked)
        await stage.send(CancelOrder(order_id=order))
        await until(lambda: is_so(last(stage, order), "ProcessWaits"))
        await stage.pass_time(timedelta(hours=1))
        await until(lambda: is_so(amount(stage, order, "ProcessWaits"), 2))
        monkeypatch.setattr(Breaking, "broken", False)
        await stage.runner.retry(str(order))
        await until(lambda: is_so(amount(stage, order, "ProcessDropped"), 1))
        await until(lambda: ended(stage, order))
        await stage.crash()
        assert str(order) not in stage.runner.open
        assert str(order) not in stage.runner.parked
        assert not [timer for timer in stage.runner.timers if timer.key == str(order)]


async def test_an_event_for_a_process_that_ended_changes_nothing(
    log: Log, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "CHECKPOINT_INTERVAL", 3600.0)
    async with Stage(log, registry, named("late")) as stage:
        order = await stage.order(f"lacking-{uuid4()}")
        await until(lambda: ended(stage, order))
        records = await stage.records(order)
        await stage.crash()  # nothing was saved: all of it is told again
        [paid] = await stage.send(PayOrder(order_id=await stage.order("tea", fulfil=False)))
        await until(lambda: stage.runner.position >= paid.position)
        assert await stage.records(order) == records
        assert str(order) not in stage.runner.open


async def test_two_process_managers_have_separate_processes_for_the_same_key(
    log: Log, registry: Registry
) -> None:
    async with (
        Stage(log, registry) as stage,
        Stage(log, registry, Breaking.__rayfold__) as other,
    ):
        order = await stage.order(await stage.stock())
        await until(lambda: waits_for(stage, order) == 1)
        await until(lambda: waits_for(other, order) == 1)
        await stage.runner.abort(str(order))
        await until(lambda: ended(stage, order))
        assert "ProcessAborted" not in await other.types(order)


class Refusing(MemoryLog):
    """Takes no records of these types for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[str] = set()

    async def append(self, appends: Any) -> Any:
        invalid = [{r.event_type for r in each.records} & self.refused for each in appends]
        taken = [each for each, no in zip(appends, invalid, strict=True) if not no]
        answers = iter(await super().append(taken) if taken else [])
        return [InvalidAppend("too large") if no else next(answers) for no in invalid]


async def test_a_process_that_cannot_be_parked_is_listed_and_can_be_retried(
    registry: Registry,
) -> None:
    log = Refusing()
    async with Stage(log, registry) as stage:
        sku = await stage.stock()
        order = await stage.order(sku)
        await until(lambda: waits_for(stage, order) == 1)
        steps = stage.runner.status()["steps"]
        log.refused = {"ProcessSawEvent", PARKED}
        [paid] = await stage.send(PayOrder(order_id=order))
        await until(lambda: str(order) in stage.runner.parked)
        assert "cannot be parked: too large" in stage.runner.parked[str(order)]
        assert stage.runner.status()["steps"] == steps
        assert str(order) in stage.runner.open
        with pytest.raises(ProcessStuck, match="too large"):
            await stage.runner.abort(str(order))
        other = await stage.order(sku, fulfil=False)
        [receipt] = await stage.send(PayOrder(order_id=other))
        await until(lambda: stage.runner.position >= receipt.position)
        assert stage.runner._safe_position() < paid.position  # or a restart would lose it
        log.refused = set()
        await stage.runner.retry(str(order))
        await until(lambda: is_so(stage.status(order), "shipped"))
        await until(lambda: ended(stage, order))
        assert stage.runner.parked == {}


@pytest.mark.parametrize("error", [ValueError("another domain's"), SystemExit("another domain's")])
async def test_a_process_that_cannot_be_read_is_not_aborted_and_the_error_says_so(
    log: Log, registry: Registry, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    async with Stage(log, registry) as stage:
        order = await stage.order(await stage.stock())
        await until(lambda: waits_for(stage, order) == 1)
        decode = registry.decode

        def unreadable(event_type: str, *rest: Any) -> Any:
            if event_type == "FulfilmentRequested":
                raise error
            return decode(event_type, *rest)

        monkeypatch.setattr(registry, "decode", unreadable)
        await stage.crash()
        await stage.pass_time(timedelta(minutes=15))
        await until(lambda: str(order) in stage.runner.parked)
        before = await stage.types(order)
        for ordered in (stage.runner.abort, stage.runner.retry):
            with pytest.raises(ProcessStuck, match="another domain's"):
                await ordered(str(order))
        assert await stage.types(order) == before
        monkeypatch.undo()
        await stage.runner.retry(str(order))  # and its timeout, which was due, fires
        await until(lambda: is_so(stage.status(order), "cancelled"))


async def test_a_process_with_a_foreign_record_is_parked_and_delays_no_start(
    log: Log, registry: Registry
) -> None:
    definition = named("foreign")  # alone: the server's log is other tests' too
    async with Stage(log, registry, definition) as stage:
        order, other = [await stage.order(await stage.stock()) for _ in range(2)]
        await until(lambda: waits_for(stage, order) == waits_for(stage, other) == 1)
        stream = definition.stream(order)
        foreign = NewRecord("ProcessSawEvent", b"[]", {}, str(uuid4()))
        await log.append([StreamAppend(stream, ANY, [foreign])])
        await stage.crash()
        await until(lambda: stage.runner.parked.keys() == {str(order)})
        assert "cannot be read" in stage.runner.parked[str(order)]
        await stage.send(*(PayOrder(order_id=each) for each in (order, other)))
        await until(lambda: ended(stage, other))
        with pytest.raises(ProcessStuck, match="cannot be read"):
            await stage.runner.retry(str(order))


async def test_commands_that_are_never_accepted_delay_no_others_and_stop_when_aborted(
    log: Log, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "SENDING", 4)
    monkeypatch.setattr(delivery, "LONGEST_PAUSE", 0.1)
    async with Stage(log, registry) as stage:
        await stage.drop()
        await stage.crash()  # with the smaller number
        never = f"never-{uuid4()}"
        send, tried = stage.writes.bus.send, list[str]()

        async def down(envelope: Any) -> Any:
            if envelope.stream == f"stock-{never}":
                tried.append(envelope.command_id)
                raise Unavailable("its aggregate is away")
            return await send(envelope)

        monkeypatch.setattr(stage.writes.bus, "send", down)
        stuck = [await stage.order(never) for _ in range(5)]
        await until(lambda: len({*tried}) == 5)
        order = await stage.order(await stage.stock())
        await until(lambda: waits_for(stage, order) == 1)
        for each in stuck:
            await stage.runner.abort(str(each), as_it_is=True)
        sending = stage.runner._commits._tasks
        await until(lambda: not [task for task in sending if "_send" in repr(task)])
        for each in stuck:
            await until(lambda each=each: ended(stage, each))
            assert await last(stage, each) == "ProcessAborted"


class Reserving(
    ProcessManager[Broken, OrderCreated | OrderPaid],
    name="reserving",
    key="order_id",
    initial=Broken(),
):
    """Reserves what is not there, and breaks on being told so, or before."""

    broken_on = "refusal"

    @staticmethod
    def evolve(state: Broken, happened: Any) -> Broken:
        return state.replace(seen=state.seen + 1)

    @staticmethod
    @starts(OrderCreated)
    def created(state: Broken, event: OrderCreated) -> Iterator[Step]:
        yield Send(ReserveStock(sku=f"no-{event.order_id}", quantity=1))

    @staticmethod
    @on(OrderPaid)
    def paid(state: Broken, event: OrderPaid) -> Iterator[Step]:
        yield Complete()

    @staticmethod
    @on_rejected(ReserveStock)
    def lacking(state: Broken, rejected: CommandRejected[ReserveStock]) -> Iterator[Step]:
        if Reserving.broken_on:
            raise RuntimeError("no idea")
        yield Complete()


async def test_a_command_whose_refusal_breaks_the_handler_is_not_sent_again_and_again(
    log: Log, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Stage(log, registry, Reserving.__rayfold__) as stage:
        send, sent = stage.writes.bus.send, list[str]()

        async def counting(envelope: Any) -> Any:
            if envelope.principal:
                sent.append(envelope.command_id)
            return await send(envelope)

        monkeypatch.setattr(stage.writes.bus, "send", counting)
        order, other = await stage.order("tea", fulfil=False), uuid4()
        await until(lambda: str(order) in stage.runner.parked)
        await stage.send(CreateOrder(order_id=other, customer_id="ada"))
        await until(lambda: str(other) in stage.runner.parked)
        assert len(sent) == 2
        monkeypatch.setattr(Reserving, "broken_on", "")
        await stage.runner.retry(str(order))
        await until(lambda: ended(stage, order))


async def test_an_aborted_fulfilment_is_compensated_in_reverse_order(
    log: Log, registry: Registry
) -> None:
    async with Stage(log, registry) as stage:
        tea, cup = await stage.stock(), await stage.stock()
        order = await stage.order(tea, cup)
        await until(lambda: waits_for(stage, order) == 1)
        await stage.runner.abort(str(order))
        await until(lambda: ended(stage, order))
        assert await stage.status(order) == "cancelled"
        assert [await stage.reserved(sku) for sku in (tea, cup)] == [0, 0]
        released = {}
        for sku in (tea, cup):
            async for raw in log.read_stream(f"stock-{sku}", backwards=True, limit=1):
                assert raw.event_type == "StockReleased"
                released[sku] = raw.position
        assert released[cup] < released[tea]
        types = await stage.types(order)
        assert types.count("ProcessAborted") == 1


@pytest.mark.parametrize("crashes", [False, True])
async def test_an_abort_cancels_unsent_commands_and_compensates_those_under_way(
    log: Log, registry: Registry, monkeypatch: pytest.MonkeyPatch, crashes: bool
) -> None:
    async with Stage(log, registry) as stage:
        tea, cup = await stage.stock(), await stage.stock()
        send, sent, answered = stage.writes.bus.send, asyncio.Event(), asyncio.Event()

        async def slow(envelope: Any) -> Any:
            receipt = await send(envelope)
            if envelope.stream == f"stock-{tea}" and envelope.command == "reserve-stock":
                sent.set()
                await answered.wait()
            return receipt

        monkeypatch.setattr(stage.writes.bus, "send", slow)
        order = await stage.order(tea, cup)
        async with asyncio.timeout(60):
            await sent.wait()
        await stage.runner.abort(str(order))
        if crashes:
            await stage.crash()
        answered.set()
        await until(lambda: ended(stage, order))
        assert await stage.status(order) == "cancelled"
        assert [await stage.reserved(sku) for sku in (tea, cup)] == [0, 0]
        assert [raw.event_type async for raw in log.read_stream(f"stock-{cup}")] == [
            "StockReceived"
        ]


async def test_an_abort_of_a_parked_process_takes_waiting_events_into_account(
    log: Log, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Stage(log, registry) as stage:
        tea = await stage.stock()
        reserved = Fulfilment.__rayfold__.handlers[StockReserved]
        broken = True

        def breaking(state: Any, event: Any) -> Any:
            if broken:
                raise RuntimeError("no idea")
            return reserved.apply(state, event)

        handlers = Fulfilment.__rayfold__.handlers
        monkeypatch.setitem(handlers, StockReserved, replace(reserved, apply=breaking))
        order = await stage.order(tea)
        await until(lambda: str(order) in stage.runner.parked)
        await stage.runner.abort(str(order))
        await until(lambda: ended(stage, order))
        # The reservation that it broke on is known to the compensation.
        assert await stage.reserved(tea) == 0
        assert await stage.status(order) == "cancelled"
        await stage.crash()
        assert str(order) not in stage.runner.open | stage.runner.parked.keys()


async def test_an_abort_whose_handler_raises_changes_nothing_and_reports_the_error(
    log: Log, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Stage(log, registry) as stage:
        order = await stage.order(await stage.stock())
        await until(lambda: waits_for(stage, order) == 1)

        def breaking(state: FulfilmentState, aborted: Any) -> Any:
            raise RuntimeError("no way back")

        monkeypatch.setitem(vars(Fulfilment.__rayfold__), "on_abort", breaking)
        with pytest.raises(ProcessStuck, match="no way back"):
            await stage.runner.abort(str(order))
        assert "ProcessAborted" not in await stage.types(order)
        await stage.runner.abort(str(order), as_it_is=True)
        assert await ended(stage, order)
        assert await stage.status(order) == "placed"


async def test_the_streams_of_checkpoints_do_not_grow(
    eventstore: str, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "CHECKPOINT_INTERVAL", 0.0)
    definition = named("bounded")
    log = EventLog(eventstore)
    async with Stage(log, registry, definition) as stage:
        sku = await stage.stock(100)
        for _ in range(5):
            order = await stage.order(sku)
            await until(lambda order=order: waits_for(stage, order) == 1)
        stream = f"rayfold-process-{definition.name}-0-0"
        records = [raw async for raw in log.read_stream(stream)]
        assert records[-1].revision > 4
        assert len(records) <= 2
    await log.close()


async def test_two_processes_retried_at_once_share_one_task_that_follows_the_log(
    registry: Registry,
) -> None:
    log = Refusing()
    async with Stage(log, registry) as stage:
        orders = [await stage.order(await stage.stock()) for _ in range(2)]
        for order in orders:
            await until(lambda order=order: waits_for(stage, order) == 1)
        log.refused = {"ProcessSawEvent", PARKED}
        for order in orders:
            await stage.send(PayOrder(order_id=order))
        await until(lambda: len(stage.runner.parked) == 2)
        log.refused = set()
        await asyncio.gather(*(stage.runner.retry(str(order)) for order in orders))
        following = [each for each in stage.runner._tasks if "_follow_always" in repr(each)]
        assert len(following) == 1
        for order in orders:
            await until(lambda order=order: is_so(stage.status(order), "shipped"))


async def test_an_accepted_command_may_be_removed_from_the_domain_while_its_process_is_open(
    log: Log, registry: Registry
) -> None:
    definition = named("gone")
    after = Registry.load("domain")
    del after.commands["reserve-stock"]
    async with Stage(log, registry, definition) as before:
        order = await before.order(await before.stock())
        await until(lambda: waits_for(before, order))
    async with Stage(log, after, definition) as stage:
        await stage.send(PayOrder(order_id=order))
        await until(lambda: ended(stage, order))
        assert await stage.status(order) == "shipped"
        assert not stage.runner.parked


async def test_a_process_that_waits_for_a_removed_command_is_parked_and_names_the_command(
    log: Log, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = named("waits")
    after = Registry.load("domain")
    del after.commands["reserve-stock"]
    async with Stage(log, registry, definition) as before:
        send = before.writes.bus.send

        async def down(envelope: Any) -> Any:
            if envelope.command == "reserve-stock":
                raise Unavailable("its aggregate is away")
            return await send(envelope)

        monkeypatch.setattr(before.writes.bus, "send", down)
        order = await before.order("tea")
        await until(lambda: amount(before, order, "ProcessSawEvent"))
        await before.drop()
    async with Stage(log, after, definition) as stage:
        await until(lambda: str(order) in stage.runner.parked)
        assert "no command is named 'reserve-stock'" in stage.runner.parked[str(order)]
        shown = await showing.show(log, after, definition, str(order))
        assert shown["status"] == "parked"
        assert "no command is named 'reserve-stock'" in shown["error"]


async def test_of_a_process_with_many_steps_only_the_last_are_shown(
    log: Log, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = named("shown")
    async with Stage(log, registry, definition) as stage:
        order = await stage.order(await stage.stock(1))
        await until(lambda: waits_for(stage, order) == 1)
    shown = await showing.show(log, registry, definition, str(order))
    assert shown["left_out"] == 0
    *before, last = shown["steps"]
    monkeypatch.setattr(showing, "STEPS", 1)
    cut = await showing.show(log, registry, definition, str(order))
    assert cut == {**shown, "steps": [last], "left_out": len(before)}
    assert before


@pytest.mark.parametrize("tombstone", [False, True])
async def test_a_process_whose_stream_was_deleted_does_not_exist(
    log: Log, registry: Registry, tombstone: bool
) -> None:
    definition, key = Fulfilment.__rayfold__, str(uuid4())
    await log.delete_stream(f"{definition.prefix}{key}", tombstone=tombstone)
    with pytest.raises(NoSuchProcess):
        await showing.show(log, registry, definition, key)


async def test_a_process_whose_stream_is_tombstoned_delays_no_other(
    log: Log, registry: Registry
) -> None:
    definition = named("buried")
    async with Stage(log, registry, definition) as stage:
        order = await stage.order(await stage.stock())
        await until(lambda: waits_for(stage, order) == 1)
        await log.delete_stream(definition.stream(order), tombstone=True)
        await stage.crash()
        [paid] = await stage.send(PayOrder(order_id=order))
        await until(lambda: stage.runner.position >= paid.position)
        assert stage.runner._safe_position() >= paid.position
        assert str(order) not in stage.runner.open | stage.runner.parked.keys()
        with pytest.raises(LookupError):
            await stage.runner.abort(str(order))


async def test_a_process_that_starts_again_after_its_deletion_is_found_open() -> None:
    log, definition = MemoryLog(), Fulfilment.__rayfold__
    stream, told = definition.stream("a"), Told("order-a@0", event="OrderPlaced")
    for decided in (Complete(), Sending(uuid4(), CancelOrder(order_id=uuid4()))):
        await log.delete_stream(stream)  # once it has ended, say
        step = step_record(told, ProcessStep(told.trigger, (), (decided,)))
        await log.append([StreamAppend(stream, None, [new_record(SAW_EVENT, step, "", "")])])
    index = OpenIndex(log, "", "process", definition.prefix, OpenProcess)
    found, _ = await index.load()
    assert found.keys() == {"a"}


async def test_a_process_that_starts_again_and_fails_at_once_is_found_parked() -> None:
    log, definition = MemoryLog(), Fulfilment.__rayfold__
    stream, told = definition.stream("a"), Told("order-a@0", event="OrderPlaced")
    step = step_record(told, ProcessStep(told.trigger, (), (Complete(),)))
    await log.append([StreamAppend(stream, None, [new_record(SAW_EVENT, step, "", "")])])
    await log.delete_stream(stream)
    parked = new_record(PARKED, Parked(told, "no idea"), "", "")
    await log.append([StreamAppend(stream, None, [parked])])
    index = OpenIndex(log, "", "process", definition.prefix, OpenProcess)
    found, _ = await index.load()
    assert found["a"].parked == [told.trigger]
    assert found["a"].error == "no idea"
