"""Commands of processes, for which no caller waits: each gets an answer in the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any
from uuid import UUID, uuid4

import pytest

from actors.envelope import Done, Envelope, enclose
from actors.errors import DecisionFailed, KeyReused, StreamUnreadable, Unavailable
from actors.host import recent_commands
from actors.local import LocalRuntime
from actors.processes import delivery
from actors.processes.delivery import Delivery, Refusal
from domain.inventory.stock import ReceiveStock, ReserveStock
from domain.orders.commands import CreateOrder
from eventstore.errors import StoreUnavailable
from eventstore.memory import MemoryLog
from eventstore.records import RawRecord
from rayfold import Receipt, Registry
from rayfold.errors import MiddlewareFailed
from tests.own_loop import own_loop


class Flaky(MemoryLog):
    """Cannot be read the first time."""

    failed = False

    async def read_stream(self, *asked: Any, **how: Any) -> AsyncGenerator[RawRecord, None]:
        if not self.failed:
            self.failed = True
            raise StoreUnavailable("no answer")
        async for raw in super().read_stream(*asked, **how):
            yield raw


class Counting(MemoryLog):
    """Notes which records were read of it."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[int] = []

    async def read_stream(self, *asked: Any, **how: Any) -> AsyncGenerator[RawRecord, None]:
        async for raw in super().read_stream(*asked, **how):
            self.read.append(raw.position)
            yield raw

    async def read_all(self, *asked: Any, **how: Any) -> AsyncGenerator[RawRecord, None]:
        async for raw in super().read_all(*asked, **how):
            self.read.append(raw.position)
            yield raw


@pytest.mark.parametrize("command", ["receive-stock", "gone"])
async def test_a_command_is_searched_for_after_the_position_of_the_decision_to_send_it(
    command: str,
) -> None:
    """In its stream or in the whole log. That position may be a million events before the end."""
    registry, log = Registry.load("domain"), Counting()
    writes = LocalRuntime(registry, log)
    positions = [
        (await writes.send(ReceiveStock(sku="tea", quantity=1))).position for _ in range(9)
    ]
    log.read.clear()
    unsent = enclose(registry, ReceiveStock(sku="tea", quantity=1))._replace(command=command)
    found = await Delivery(registry, log, writes.bus)._found(unsent, positions[5])
    assert found is None
    assert {*positions[6:]} <= {*log.read} <= {*positions[5:]}


class Reused:
    """A bus whose writers know each id already."""

    async def send(self, envelope: Envelope) -> Receipt:
        raise KeyReused(envelope.command_id)


@pytest.mark.parametrize("there", [True, False])
async def test_a_command_id_that_was_used_before_is_looked_up_until_the_log_answers(
    there: bool,
) -> None:
    registry, log = Registry.load("domain"), Flaky()
    envelope = enclose(registry, CreateOrder(order_id=uuid4(), customer_id="ada"))
    if there:
        await LocalRuntime(registry, log).bus.send(envelope)
    answer = await Delivery(registry, log, Reused()).answer(envelope, -1)
    assert log.failed
    assert answer == Done(0, 1) if there else isinstance(answer, Refusal)


async def test_a_search_of_the_whole_log_does_not_delay_other_commands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "SENDING", 1)
    registry, reading, let_go = Registry.load("domain"), asyncio.Event(), asyncio.Event()

    class Long(MemoryLog):
        """Takes its time to be read whole."""

        async def read_all(self, *asked: Any, **how: Any) -> AsyncGenerator[RawRecord, None]:
            reading.set()
            await let_go.wait()
            async for raw in super().read_all(*asked, **how):
                yield raw

    log = Long()
    sender = Delivery(registry, log, LocalRuntime(registry, log).bus)
    known = enclose(registry, CreateOrder(order_id=uuid4(), customer_id="ada"))
    unknown = known._replace(command="gone", command_id=str(uuid4()))
    async with asyncio.timeout(30):
        looked_for = asyncio.create_task(sender.answer(unknown, 0, sent=True))
        await reading.wait()
        assert await sender.answer(known, 0) == Done(0, 1)
        let_go.set()
        assert isinstance(await looked_for, Refusal)  # nobody has done it, and nobody takes it


class Broken:
    """A bus whose writers break on every command, or give no answer; it knows when each came."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked = 0

    async def send(self, envelope: Envelope) -> Receipt:
        self.asked += 1
        raise self.error


@own_loop
@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (DecisionFailed("ZeroDivisionError"), 100 / delivery.BROKEN),
        (StreamUnreadable("unknown"), 100 / delivery.BROKEN),
        (MiddlewareFailed("audit", "broke"), 100 / delivery.BROKEN),
        (Unavailable("no answer"), 0.1),
    ],
    ids=["decision", "stream", "middleware", "no answer"],
)
async def test_the_more_commands_fail_in_the_domains_code_the_less_often_each_is_sent_again(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    seconds: float,
) -> None:
    """Otherwise ten thousand processes would send two thousand useless commands a second."""
    pauses: list[float] = []
    enough, turn = asyncio.Event(), asyncio.sleep

    async def sleep(pause: float) -> None:
        pauses.append(pause)
        await turn(0)
        if len(pauses) > 1500:
            enough.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(delivery.asyncio, "sleep", sleep)
    monkeypatch.setattr(delivery, "LONGEST_PAUSE", 0.1)
    registry, bus = Registry.load("domain"), Broken(error)
    sender = Delivery(registry, MemoryLog(), bus)
    commands = [ReceiveStock(sku=f"tea-{number}", quantity=1) for number in range(100)]
    waiting = [
        asyncio.ensure_future(sender.answer(enclose(registry, each), -1)) for each in commands
    ]
    try:
        await enough.wait()
    finally:
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)
    assert max(pauses) == pytest.approx(seconds, rel=0.21)
    told = [record for record in caplog.records if record.name == delivery.__name__]
    assert len(told) == len(commands)  # once each, and not again for the same reason


@own_loop
@pytest.mark.parametrize(
    "error", [DecisionFailed("ZeroDivisionError"), Unavailable("no answer")], ids=["break", "wait"]
)
async def test_the_retry_of_a_failing_command_slows_down_only_with_the_number_that_fail_now(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Commands that wait for the store, or have their answers by now, do not count."""
    among_others: list[float] = []
    alone: list[float] = []
    are_mended, turn = False, asyncio.sleep

    class OneBreaks:
        """A bus whose writers always break on one command, and on others until they are mended."""

        async def send(self, envelope: Envelope) -> Receipt:
            if envelope.stream == "stock-tea-0":
                raise DecisionFailed("ZeroDivisionError")
            if not are_mended:
                raise error
            return Receipt(
                command_id=UUID(envelope.command_id), stream=envelope.stream, revision=0, position=0
            )

    async def sleep(pause: float) -> None:
        if asyncio.current_task() is waiting[0]:
            (alone if len(sender.unanswered) == 1 else among_others).append(pause)
        await turn(0)

    async def ten(pauses: list[float]) -> None:
        while len(pauses) < 10:
            await turn(0)

    monkeypatch.setattr(delivery.asyncio, "sleep", sleep)
    monkeypatch.setattr(delivery, "LONGEST_PAUSE", 0.1)
    registry = Registry.load("domain")
    sender = Delivery(registry, MemoryLog(), OneBreaks())
    commands = [ReceiveStock(sku=f"tea-{number}", quantity=1) for number in range(100)]
    waiting = [
        asyncio.ensure_future(sender.answer(enclose(registry, each), -1)) for each in commands
    ]
    try:
        async with asyncio.timeout(60):
            await ten(among_others)
            assert (max(among_others) > 1) == isinstance(error, DecisionFailed)
            are_mended = True
            await asyncio.wait(waiting[1:])
            await ten(alone)
            assert max(alone) < 0.13
    finally:
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)


class Lossy:
    """A bus that loses an answer, until the writer has forgotten the command."""

    def __init__(self, writes: LocalRuntime) -> None:
        self.lost = False
        self._writes = writes

    async def send(self, envelope: Envelope) -> Receipt:
        receipt = await self._writes.bus.send(envelope)
        if self.lost:
            return receipt
        self.lost = True
        for _ in range(3):
            await self._writes.send(ReceiveStock(sku="tea", quantity=1))
        raise Unavailable("the answer is lost")


async def test_a_command_whose_answer_was_lost_counts_once_even_if_its_aggregate_forgot_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recent_commands, "ALWAYS_REMEMBERED", 1)
    monkeypatch.setattr(recent_commands, "RETENTION", 0.0)
    registry, log = Registry.load("domain"), MemoryLog()
    writes = LocalRuntime(registry, log)
    received = await writes.send(ReceiveStock(sku="tea", quantity=9))
    reserve = enclose(registry, ReserveStock(sku="tea", quantity=1))
    bus = Lossy(writes)
    answer = await Delivery(registry, log, bus).answer(reserve, received.position)
    assert bus.lost
    assert isinstance(answer, Done)
    assert answer.revision == 1
    types = [raw.event_type async for raw in log.read_stream("stock-tea")]
    assert types == ["StockReceived", "StockReserved", *["StockReceived"] * 3]
