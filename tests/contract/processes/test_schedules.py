"""Scheduled commands: each is sent once, rather late than never, or is cancelled."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from actors.envelope import Envelope, enclose
from actors.errors import (
    EventStoreUnavailable,
    InvalidCommand,
    KeyReused,
    NoSuchSchedule,
    TooLate,
    Unavailable,
)
from actors.local import LocalRuntime
from actors.schedules import schedule_runner
from actors.schedules.records import DUE, Nothing, new_record
from actors.schedules.schedule_runner import ScheduleRunner
from actors.schedules.schedule_state import ScheduleState, read_schedule
from actors.schedules.schedules import Schedules
from domain.inventory.stock import ReceiveStock, ReserveStock
from domain.orders.commands import CreateOrder, PlaceOrder
from eventstore.errors import StoreUnavailable
from eventstore.memory import MemoryLog
from eventstore.port import Appended, InvalidAppend, Log, StreamAppend
from eventstore.records import Batch, NewRecord
from examples.coupons.coupons import IssueCoupon
from examples.coupons.redeeming import RedeemCoupon
from rayfold import Command, Registry
from tests.contract.processes.stages import Clock, is_so, until

HOUR = timedelta(hours=1)


class Later:
    """A write side, a gateway's schedules, and the runner that sends what is due."""

    def __init__(self, log: Log, registry: Registry) -> None:
        self.log, self.registry, self.clock = log, registry, Clock()
        self.writes = LocalRuntime(registry, log)
        self.schedules = Schedules(log)

    async def start(self) -> None:
        self.runner = ScheduleRunner(self.registry, self.log, self.writes.bus, clock=self.clock)
        await self.runner.start()

    async def crash(self) -> None:
        await self.runner.stop()
        self.writes = LocalRuntime(self.registry, self.log)
        await self.start()

    def pass_time(self, time: timedelta) -> None:
        self.clock.ahead += time
        self.runner.wake()

    def envelope(self, command: Command, command_id: UUID | None = None) -> Envelope:
        return enclose(self.registry, command, command_id=command_id, principal="ada")

    async def schedule(
        self, command: Command, after: timedelta = HOUR, command_id: UUID | None = None
    ) -> dict[str, Any]:
        due = self.clock() + after
        return await self.schedules.schedule(self.envelope(command, command_id), due)

    async def status(self, command_id: str) -> str:
        about = await self.schedules.about(command_id)
        assert about is not None
        return str(about["status"])

    async def types(self, stream: str) -> list[str]:
        return [raw.event_type async for raw in self.log.read_stream(stream)]

    async def until(self, command_id: str, status: str) -> None:
        async def reached() -> bool:
            return await self.status(command_id) == status

        await until(reached)


@pytest.fixture
async def later(log: Log, registry: Registry) -> AsyncIterator[Later]:
    made = Later(log, registry)
    await made.start()
    yield made
    await made.runner.stop()


async def test_a_command_is_sent_once_it_is_due_and_not_before(later: Later) -> None:
    sku = f"sku-{uuid4()}"
    told = await later.schedule(ReceiveStock(sku=sku, quantity=3))
    assert (told["status"], told["stream"]) == ("scheduled", f"stock-{sku}")
    command_id = told["command_id"]
    later.pass_time(HOUR - timedelta(minutes=1))
    await asyncio.sleep(0.1)
    assert await later.status(command_id) == "scheduled"
    later.pass_time(timedelta(minutes=1))
    await later.until(command_id, "accepted")
    about = await later.schedules.about(command_id)
    assert about is not None
    assert about["revision"] == 0
    assert await later.types(f"stock-{sku}") == ["StockReceived"]


async def test_a_command_scheduled_for_the_past_is_sent_at_once(later: Later) -> None:
    told = await later.schedule(ReceiveStock(sku=f"sku-{uuid4()}", quantity=3), -HOUR)
    await later.until(told["command_id"], "accepted")


async def test_a_refusal_is_told_with_its_rule(later: Later) -> None:
    told = await later.schedule(ReserveStock(sku=f"sku-{uuid4()}", quantity=3), -HOUR)
    await later.until(told["command_id"], "rejected")
    about = await later.schedules.about(told["command_id"])
    assert about is not None
    assert about["code"] == "unknown-stock"


@pytest.mark.parametrize(
    "command",
    [ReceiveStock(sku="tea", quantity=3), CreateOrder(order_id=uuid4(), customer_id="ada")],
    ids=["plain", "with its own time"],
)
async def test_a_command_that_the_domain_no_longer_accepts_is_rejected(
    later: Later, command: Command
) -> None:
    kept = later.envelope(command)._replace(payload=b'{"of": "another release"}')
    told = await later.schedules.schedule(kept, later.clock() - HOUR)
    await later.until(told["command_id"], "rejected")
    about = await later.schedules.about(told["command_id"])
    assert about is not None
    assert about["code"] == "invalid-command"


@pytest.mark.parametrize("done", [True, False], ids=["it was done", "it was not"])
async def test_a_decision_due_before_a_crash_has_an_outcome_even_if_no_release_can_read_it(
    done: bool,
) -> None:
    """Nobody knows which streams it would write to, so all are searched for its outcome."""
    log, registry = MemoryLog(), Registry.load("examples.coupons")
    before = LocalRuntime(registry, log)
    await before.send(IssueCoupon(coupon_id="spring", times=3))
    redeem = enclose(registry, RedeemCoupon(coupon_id="spring", customer_id="ada"))
    later = Later(log, registry)
    kept = redeem._replace(payload=b'{"of": "another release"}', stream="coupon-autumn")
    await later.schedules.schedule(kept, later.clock() - HOUR)
    stream = f"schedule-{redeem.command_id}"
    await log.append([StreamAppend(stream, 0, [new_record(DUE, Nothing())])])
    if done:
        await before.bus.send(redeem)
    await later.start()
    await later.until(redeem.command_id, "accepted" if done else "rejected")
    await later.runner.stop()
    about = await later.schedules.about(redeem.command_id)
    assert about is not None
    assert about.get("code") == (None if done else "invalid-command")
    redeemed = ["CouponIssued", "CouponRedeemed"] if done else ["CouponIssued"]
    assert await later.types("coupon-spring") == redeemed


async def test_a_decision_is_told_with_all_streams_that_it_has_read() -> None:
    registry = Registry.load("examples.coupons")
    later = Later(MemoryLog(), registry)
    await later.writes.send(IssueCoupon(coupon_id="spring", times=3))
    await later.start()
    told = await later.schedule(RedeemCoupon(coupon_id="spring", customer_id="ada"), -HOUR)
    await later.until(told["command_id"], "accepted")
    await later.runner.stop()
    about = await later.schedules.about(told["command_id"])
    assert about is not None
    assert about["revisions"] == {"coupon-spring": 1, "customer-ada": 0}


async def test_a_schedule_that_nobody_can_read_delays_no_other_and_is_reported_until_cancelled(
    later: Later,
) -> None:
    foreign, key = str(uuid4()), str(uuid4())
    for each in (foreign, key):
        record = NewRecord("CommandScheduled", b"[]", {}, str(uuid4()))
        await _write(later.log, f"schedule-{each}", None, record)
    other = await later.schedule(ReceiveStock(sku=f"sku-{uuid4()}", quantity=3), -HOUR)
    await later.until(other["command_id"], "accepted")

    async def held() -> int:
        told = {each["command_id"]: each["error"] for each in later.runner.scheduled(1000)[0]}
        return sum(bool(told.get(each)) for each in (foreign, key))

    for crashes in (False, True):
        if crashes:
            await later.crash()
        await until(lambda: is_so(held(), 2))
        assert later.runner.status()["parked"] >= 2
        assert "error" not in later.runner.status()
    assert await later.schedules.about(key) is None
    with pytest.raises(KeyReused):
        await later.schedule(ReceiveStock(sku="tea", quantity=3), HOUR, UUID(key))
    assert (await later.schedules.cancel(key, "ada"))["status"] == "cancelled"
    await later.log.delete_stream(f"schedule-{foreign}")
    await until(lambda: is_so(held(), 1))
    await later.crash()
    assert await held() == 0


async def test_a_record_of_another_client_in_its_stream_does_not_end_a_schedule(
    later: Later,
) -> None:
    receive = ReceiveStock(sku=f"sku-{uuid4()}", quantity=3)
    due, cancelled = [(await later.schedule(receive))["command_id"] for _ in range(2)]
    for command_id in (due, cancelled):
        note = NewRecord("SomebodysNote", b"{}", {}, str(uuid4()))
        await _write(later.log, f"schedule-{command_id}", 0, note)
        assert await later.status(command_id) == "scheduled"
    await later.schedules.cancel(cancelled, "ada")
    later.pass_time(HOUR)
    await later.until(due, "accepted")
    assert await later.status(cancelled) == "cancelled"


async def test_the_same_key_again_is_the_same_command_whatever_became_of_it(later: Later) -> None:
    sku, key = f"sku-{uuid4()}", uuid4()
    due = datetime.now(UTC) + HOUR
    receive = later.envelope(ReceiveStock(sku=sku, quantity=3), key)
    first = await later.schedules.schedule(receive, due)
    assert await later.schedules.schedule(receive, due) == first
    for other in (
        (later.envelope(ReceiveStock(sku=sku, quantity=4), key), due),
        (receive, due + HOUR),
    ):
        with pytest.raises(KeyReused):
            await later.schedules.schedule(*other)
    later.pass_time(2 * HOUR)
    await later.until(str(key), "accepted")
    assert (await later.schedules.schedule(receive, due))["status"] == "accepted"
    assert await later.types(f"stock-{sku}") == ["StockReceived"]


async def test_a_cancelled_command_is_never_sent(later: Later) -> None:
    sku = f"sku-{uuid4()}"
    told = await later.schedule(ReceiveStock(sku=sku, quantity=3))
    for _ in range(2):
        assert (await later.schedules.cancel(told["command_id"], "bob"))["status"] == "cancelled"
    later.pass_time(2 * HOUR)
    other = await later.schedule(ReceiveStock(sku=f"sku-{uuid4()}", quantity=3), -HOUR)
    await later.until(other["command_id"], "accepted")
    await later.crash()
    assert await later.types(f"stock-{sku}") == []
    with pytest.raises(TooLate):
        await later.schedules.cancel(other["command_id"], "bob")
    with pytest.raises(NoSuchSchedule):
        await later.schedules.cancel(str(uuid4()), "bob")


async def known(later: Later, command_id: object) -> bool:
    """Whether the runner knows of it."""
    return str(command_id) in later.runner._open


@pytest.mark.parametrize("tombstone", [False, True])
async def test_a_schedule_whose_stream_was_deleted_is_given_up(
    later: Later, tombstone: bool
) -> None:
    sku = f"tea-{uuid4()}"
    command_id = (await later.schedule(ReceiveStock(sku=sku, quantity=10)))["command_id"]
    await until(lambda: is_so(known(later, command_id), True))
    await later.log.delete_stream(f"schedule-{command_id}", tombstone=tombstone)
    later.pass_time(2 * HOUR)
    await until(lambda: is_so(known(later, command_id), False))
    assert "error" not in later.runner.status()
    assert await later.types(f"stock-{sku}") == []
    assert await later.schedules.about(command_id) is None
    with pytest.raises(NoSuchSchedule):
        await later.schedules.cancel(command_id, "ada")


@pytest.mark.parametrize("crashes", [False, True])
async def test_a_command_whose_schedule_was_deleted_may_be_scheduled_again(
    later: Later, crashes: bool
) -> None:
    sku, key = f"tea-{uuid4()}", uuid4()
    stream = f"schedule-{key}"
    await later.schedule(ReceiveStock(sku=sku, quantity=1), HOUR, key)
    await later.log.delete_stream(stream)
    await later.schedule(ReceiveStock(sku=sku, quantity=2), 2 * HOUR, key)
    if crashes:
        await later.crash()
    later.pass_time(HOUR + timedelta(minutes=1))
    other = await later.schedule(ReceiveStock(sku=f"sku-{uuid4()}", quantity=3), -HOUR)
    await later.until(other["command_id"], "accepted")
    assert await later.status(str(key)) == "scheduled"  # not at the time of the one before
    later.pass_time(HOUR)
    await later.until(str(key), "accepted")
    assert await later.types(f"stock-{sku}") == ["StockReceived"]
    await later.log.delete_stream(stream)
    await later.schedule(ReceiveStock(sku=sku, quantity=2), 2 * HOUR, key)
    await later.schedules.cancel(str(key), "ada")
    later.pass_time(3 * HOUR)
    assert await later.status(str(key)) == "cancelled"


async def test_a_rescheduled_command_keeps_its_new_time_while_the_runner_is_behind(
    later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runner may be behind the log, but it acts on its clock at once."""
    sku, key, caught_up, asked = f"tea-{uuid4()}", uuid4(), asyncio.Event(), asyncio.Event()
    stream, subscribe = f"schedule-{key}", later.log.subscribe

    async def behind(*given: Any) -> AsyncIterator[Batch]:
        async with aclosing(subscribe(*given)) as batches:
            async for batch in batches:
                if any(raw.stream == stream and raw.revision for raw in batch.records):
                    await caught_up.wait()
                yield batch

    async def noticed(log: Log, command_id: str) -> ScheduleState | None:
        state = await read_schedule(log, command_id)
        asked.set()
        return state

    monkeypatch.setattr(later.log, "subscribe", behind)
    await later.crash()
    await later.schedule(ReceiveStock(sku=sku, quantity=1), HOUR, key)
    await until(lambda: is_so(known(later, key), True))
    await later.log.delete_stream(stream)
    await later.schedule(ReceiveStock(sku=sku, quantity=2), 2 * HOUR, key)
    monkeypatch.setattr("actors.schedules.schedule_runner.read_schedule", noticed)
    later.pass_time(HOUR + timedelta(minutes=1))
    async with asyncio.timeout(60):
        await asked.wait()
    assert await later.status(str(key)) == "scheduled"
    before = later.runner._open[str(key)]
    caught_up.set()
    await until(lambda: later.runner._open[str(key)] is not before)
    later.pass_time(HOUR)
    await later.until(str(key), "accepted")
    assert await later.types(f"stock-{sku}") == ["StockReceived"]


async def test_a_command_rescheduled_while_it_is_sent_is_kept_when_a_person_is_forgotten(
    later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a forgetting, the command to send is read again: that is the rescheduled one by now."""
    sku, key, tried = f"tea-{uuid4()}", uuid4(), asyncio.Event()
    send = later.writes.bus.send

    async def away(envelope: Envelope) -> Any:
        if envelope.command_id == str(key):
            tried.set()
            raise Unavailable("it is away")
        return await send(envelope)

    monkeypatch.setattr(later.writes.bus, "send", away)
    await later.schedule(ReceiveStock(sku=sku, quantity=1), -HOUR, key)
    async with asyncio.timeout(60):
        await tried.wait()
    before = later.runner._open[str(key)]
    await later.log.delete_stream(f"schedule-{key}")
    await later.schedule(ReceiveStock(sku=sku, quantity=2), HOUR, key)
    await until(lambda: later.runner._open[str(key)] is not before)
    await later.runner.forget_personal()
    monkeypatch.setattr(later.writes.bus, "send", send)
    other = await later.schedule(ReceiveStock(sku=f"sku-{uuid4()}", quantity=3), -HOUR)
    await later.until(other["command_id"], "accepted")
    assert await later.status(str(key)) == "scheduled"
    assert await known(later, key)
    later.pass_time(HOUR)
    await later.until(str(key), "accepted")
    assert await later.types(f"stock-{sku}") == ["StockReceived"]


async def test_a_late_answer_is_not_recorded_for_a_command_that_was_rescheduled_meanwhile(
    later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the rescheduled command would never be sent."""
    before, after, key = f"tea-{uuid4()}", f"tea-{uuid4()}", uuid4()
    tried, may, send = asyncio.Event(), asyncio.Event(), later.writes.bus.send

    async def slow(envelope: Envelope) -> Any:
        if envelope.stream == f"stock-{before}":
            tried.set()
            await may.wait()
        return await send(envelope)

    monkeypatch.setattr(later.writes.bus, "send", slow)
    await later.schedule(ReceiveStock(sku=before, quantity=1), -HOUR, key)
    async with asyncio.timeout(60):
        await tried.wait()
    first = later.runner._sending.copy()
    await later.log.delete_stream(f"schedule-{key}")
    await later.schedule(ReceiveStock(sku=after, quantity=2), HOUR, key)
    may.set()
    await until(lambda: all(each.done() for each in first))
    assert await later.types(f"stock-{before}") == ["StockReceived"]
    later.pass_time(2 * HOUR)
    await later.until(str(key), "accepted")
    assert await later.types(f"stock-{after}") == ["StockReceived"]


async def test_a_due_command_is_sent_although_the_clock_is_set_back_and_a_person_forgotten(
    later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both happen before it is recorded that the command is due."""
    monkeypatch.setattr("actors.schedules.schedule_runner.RETRY", 0.01)
    sku, tried, append = f"tea-{uuid4()}", asyncio.Event(), later.log.append

    async def down(appends: Any) -> Any:
        if any(record.event_type == DUE for each in appends for record in each.records):
            tried.set()
            raise StoreUnavailable("away")
        return await append(appends)

    command_id = (await later.schedule(ReceiveStock(sku=sku, quantity=1)))["command_id"]
    await until(lambda: is_so(known(later, command_id), True))
    monkeypatch.setattr(later.log, "append", down)
    later.pass_time(HOUR)
    async with asyncio.timeout(60):
        await tried.wait()
    later.pass_time(-HOUR)
    await later.runner.forget_personal()
    monkeypatch.setattr(later.log, "append", append)
    await later.until(command_id, "accepted")
    assert await later.types(f"stock-{sku}") == ["StockReceived"]


async def test_after_a_crash_a_due_command_is_sent_once_wherever_the_crash_was(
    later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    sku = f"sku-{uuid4()}"
    await later.writes.send(ReceiveStock(sku=sku, quantity=100))
    send, sent = later.writes.bus.send, asyncio.Event()

    async def silent(envelope: Envelope) -> Any:
        await send(envelope)
        sent.set()
        raise Unavailable("the answer is lost")

    monkeypatch.setattr(later.writes.bus, "send", silent)
    told = await later.schedule(ReserveStock(sku=sku, quantity=1), -HOUR)
    async with asyncio.timeout(60):
        await sent.wait()
    await later.crash()
    await later.until(told["command_id"], "accepted")
    assert await later.types(f"stock-{sku}") == ["StockReceived", "StockReserved"]


async def test_two_runners_send_a_command_once(later: Later) -> None:
    other = ScheduleRunner(later.registry, later.log, later.writes.bus, clock=later.clock)
    await other.start()
    skus = [f"sku-{uuid4()}" for _ in range(20)]
    told = [await later.schedule(ReceiveStock(sku=sku, quantity=1)) for sku in skus]
    later.pass_time(HOUR)
    other.wake()
    for each in told:
        await later.until(each["command_id"], "accepted")
    await other.stop()
    for sku in skus:
        assert await later.types(f"stock-{sku}") == ["StockReceived"]


async def test_the_time_in_a_command_is_that_at_which_it_is_sent(later: Later) -> None:
    order = uuid4()
    created = later.envelope(CreateOrder(order_id=order, customer_id="ada"))
    due = later.clock() + HOUR
    told = await later.schedules.schedule(created, due)
    later.pass_time(HOUR)
    await later.until(told["command_id"], "accepted")
    async for raw in later.log.read_stream(f"order-{order}"):
        assert datetime.fromisoformat(_field(raw.data, "at")) >= due
        assert _field(raw.metadata, "principal") == "ada"
        assert _field(raw.metadata, "commandId") == told["command_id"]


async def test_the_next_due_commands_are_listed(later: Later) -> None:
    before, total = later.runner.scheduled(10)
    place = PlaceOrder(order_id=uuid4())
    told = await later.schedule(place, timedelta(seconds=30))
    never = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    last = await later.schedules.schedule(later.envelope(PlaceOrder(order_id=uuid4())), never)
    await until(lambda: later.runner.scheduled(10)[1] == total + 2)
    listed = [each["command_id"] for each in later.runner.scheduled(1000)[0]]
    assert told["command_id"] in listed
    assert listed[-1] == last["command_id"]
    for each in (told, last):
        await later.schedules.cancel(each["command_id"], "ada")
    await until(lambda: later.runner.scheduled(10)[1] == total)
    assert later.runner.scheduled(10)[0] == before


async def test_without_a_store_no_schedule_is_accepted(registry: Registry) -> None:
    log = MemoryLog()
    schedules = Schedules(log)
    log.down = True
    envelope = enclose(registry, ReceiveStock(sku="tea", quantity=1))
    with pytest.raises(EventStoreUnavailable):
        await schedules.schedule(envelope, datetime.now(UTC))
    with pytest.raises(EventStoreUnavailable):
        await schedules.about(envelope.command_id)


async def test_a_schedule_that_the_store_refuses_for_good_is_an_invalid_command(
    registry: Registry,
) -> None:
    class SmallLog(MemoryLog):
        """Takes nothing, as all of it is too large."""

        async def append(self, appends: Any) -> Any:
            return [InvalidAppend("it is too large") for _ in appends]

    envelope = enclose(registry, ReceiveStock(sku="tea", quantity=1))
    with pytest.raises(InvalidCommand, match="the event store refuses it for good: it is too"):
        await Schedules(SmallLog()).schedule(envelope, datetime.now(UTC))


async def _write(log: Log, stream: str, expected: int | None, record: NewRecord) -> None:
    [answer] = await log.append([StreamAppend(stream, expected, [record])])
    assert isinstance(answer, Appended)


def _field(data: bytes, name: str) -> str:
    return str(json.loads(data)[name])


async def test_of_very_many_due_commands_few_are_sent_at_a_time_and_unanswered_ones_delay_no_other(
    later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule_runner, "BEGUN", 4)
    fine, let_go, most = later.runner._delivery.answer, asyncio.Event(), 0
    skus = [f"sku-{number}-{uuid4()}" for number in range(20)]
    told = [await later.schedule(ReceiveStock(sku=sku, quantity=1)) for sku in skus]
    stuck = {each["command_id"] for each in told[:6]}

    async def held(envelope: Envelope, *asked: Any, **how: Any) -> Any:
        nonlocal most
        unanswered = later.runner._delivery.unanswered
        if envelope.command_id in stuck:
            unanswered[envelope.command_id] = "it breaks"
        most = max(most, len(later.runner._sending) - len(unanswered))
        if envelope.command_id in stuck:
            await let_go.wait()
        return await fine(envelope, *asked, **how)

    async def known() -> bool:
        return {each["command_id"] for each in told} <= later.runner._open.keys()

    await until(known)
    monkeypatch.setattr(later.runner._delivery, "answer", held)
    later.pass_time(2 * HOUR)
    for each in told[6:]:
        await later.until(each["command_id"], "accepted")
    assert most <= 4
    assert len(later.runner._sending) >= len(stuck)
    let_go.set()
    for each in told:
        await later.until(each["command_id"], "accepted")


async def test_commands_that_fail_before_they_are_sent_delay_no_others(
    later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule_runner, "BEGUN", 2)
    monkeypatch.setattr(schedule_runner, "RETRY", 0.01)
    enclosed, broken = later.runner._envelope, {str(uuid4()) for _ in range(4)}

    def breaks(command_id: str, scheduled: Any) -> Envelope:
        if command_id in broken:
            raise KeyError("a validator of this release")
        return enclosed(command_id, scheduled)

    monkeypatch.setattr(later.runner, "_envelope", breaks)
    for each in sorted(broken):
        await later.schedule(ReceiveStock(sku=f"sku-{each}", quantity=1), -HOUR, UUID(each))
    await until(lambda: len(later.runner._sending) == 4)
    fine = await later.schedule(ReceiveStock(sku=f"sku-{uuid4()}", quantity=1), -HOUR)
    await later.until(fine["command_id"], "accepted")


async def test_an_unexpected_error_is_shown_until_it_is_over(
    later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine = later.runner._delivery.answer

    async def broken(*_: Any, **__: Any) -> Any:
        raise TypeError("nobody thought of it")

    monkeypatch.setattr(later.runner._delivery, "answer", broken)
    due = (await later.schedule(ReceiveStock(sku="tea", quantity=1)))["command_id"]
    later.pass_time(2 * HOUR)

    async def shown() -> bool:
        return later.runner.status().get("error") == "TypeError: nobody thought of it"

    await until(shown)
    monkeypatch.setattr(later.runner._delivery, "answer", fine)
    await later.until(due, "accepted")

    async def over() -> bool:
        return "error" not in later.runner.status()

    await until(over)
