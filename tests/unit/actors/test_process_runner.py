"""A runner of processes: if it cannot start it leaves nothing, and it blocks no others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from typing import Any
from uuid import uuid4

import pytest

from actors.envelope import enclose
from actors.errors import Unavailable
from actors.local import LocalRuntime
from actors.processes import process_actor
from actors.processes import runner as runner_module
from actors.processes.checkpoints import Checkpoints, Layout
from actors.processes.process_actor import ProcessActor
from actors.processes.runner import ProcessRunner
from domain.inventory.stock import ReserveStock
from domain.orders.commands import AddLine, CreateOrder, PlaceOrder
from eventstore.errors import StoreUnavailable
from eventstore.memory import MemoryLog
from eventstore.records import RawRecord
from rayfold import Command, Middleware, Registry
from rayfold.runtime.turns import TURN
from tests.own_loop import own_loop
from tests.unit.middleware_domain import with_middleware


class FailingLog(MemoryLog):
    """Cannot be read; what is appended is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.appended: list[Any] = []

    async def read_stream(self, *asked: Any, **how: Any) -> AsyncGenerator[RawRecord, None]:
        """Raise."""
        raise StoreUnavailable("no answer")
        yield

    async def append(self, appends: Any) -> Any:
        """Append, and note it."""
        self.appended += appends
        return await super().append(appends)


@own_loop
async def test_a_start_that_fails_writes_no_checkpoint_of_where_it_never_was() -> None:
    registry, log = Registry.load("domain"), FailingLog()
    before = asyncio.all_tasks()
    definition = registry.processes["fulfilment"]
    bus, layout = LocalRuntime(registry).bus, Layout(0, 1, 0)
    runner = ProcessRunner(registry, definition, log, bus, layout=layout)
    with pytest.raises(StoreUnavailable):
        await runner.start()
    await runner.stop()
    assert log.appended == []
    assert not asyncio.all_tasks() - before


async def test_a_process_whose_command_has_no_answer_says_so() -> None:
    """It is not parked, because the next attempt may succeed; so the status must show it."""
    attempts, broken = count(1), asyncio.Event()

    class Breaking(Middleware, name="breaking"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            if isinstance(command, ReserveStock):
                if next(attempts) == 2:
                    broken.set()
                raise ZeroDivisionError
            return await proceed(command)

    registry = with_middleware(Breaking)
    runtime, order_id = LocalRuntime(registry), uuid4()
    definition, layout = registry.processes["fulfilment"], Layout(0, 1, 0)
    runner = ProcessRunner(registry, definition, runtime.log, runtime.bus, layout=layout)
    await runner.start()
    try:
        assert runner.status()["waiting"] == 0
        await runtime.send(CreateOrder(order_id=order_id, customer_id="ada"))
        await runtime.send(AddLine(order_id=order_id, sku="tea", quantity=1, unit_price_cents=5))
        await runtime.send(PlaceOrder(order_id=order_id, fulfil=True))
        async with asyncio.timeout(60):
            await broken.wait()
        assert runner.status()["waiting"] == 1
        [found], _ = runner.describe_open(parked=False, limit=10)
    finally:
        await runner.stop()
    assert (found["key"], found["status"]) == (str(order_id), "open")
    assert found["error"] == (
        "reserve-stock has no answer, and is sent again:"
        " the domain's middleware 'breaking' broke: ZeroDivisionError, see the log"
    )


async def test_it_reports_a_lag_even_if_the_event_stores_clock_is_ahead_of_its_own() -> None:
    """Otherwise it would seem up to date until the clocks agree, and no alert would fire."""

    class Silent(MemoryLog):
        """Gives no answer to what a process appends."""

        async def append(self, appends: Any) -> Any:
            if any(each.stream.startswith("process-") for each in appends):
                await asyncio.Event().wait()
            return await super().append(appends)

    registry, log, order_id = Registry.load("domain"), Silent(), uuid4()
    runtime, layout = LocalRuntime(registry, log), Layout(0, 1, 0)
    runner = ProcessRunner(
        registry,
        registry.processes["fulfilment"],
        log,
        runtime.bus,
        layout=layout,
        clock=lambda: datetime.now(UTC) - timedelta(hours=1),
    )
    await runner.start()
    try:
        await runtime.send(CreateOrder(order_id=order_id, customer_id="ada"))
        await runtime.send(AddLine(order_id=order_id, sku="tea", quantity=1, unit_price_cents=5))
        await runtime.send(PlaceOrder(order_id=order_id, fulfil=True))
        async with asyncio.timeout(60):
            while not runner.status()["lag_seconds"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        await runner.stop()


async def test_other_tasks_run_while_events_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The author's upcaster may be slow."""
    registry = Registry.load("domain")
    runtime = LocalRuntime(registry)
    creating = [CreateOrder(order_id=uuid4(), customer_id="ada") for _ in range(30)]
    await runtime.host.handle([enclose(registry, each) for each in creating])
    turns = 0
    seen: list[int] = []
    read = runner_module.recorded

    def slowly(*of: Any) -> Any:
        seen.append(turns)
        time.sleep(1.5 * TURN)
        return read(*of)

    async def others() -> None:
        nonlocal turns
        while len(seen) < len(creating):
            turns += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(runner_module, "recorded", slowly)
    definition, layout = registry.processes["fulfilment"], Layout(0, 1, 0)
    runner = ProcessRunner(registry, definition, runtime.log, runtime.bus, layout=layout)
    runner._event_types = ()  # all of them: what it is told is not the point
    await runner.start()
    async with asyncio.timeout(60):
        await others()
    await runner.stop()
    assert all(before < after for before, after in pairwise(seen))


async def test_an_actor_that_does_not_know_yet_what_is_open_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It must not report that nothing is open."""
    registry, log = Registry.load("domain"), MemoryLog()
    definition = registry.processes["fulfilment"]
    actor = ProcessActor.__new__(ProcessActor)  # its `__init__` is for a process of its own
    actor._name, actor._partition, actor._error = definition.name, 0, "the store is away"
    actor._starting = asyncio.create_task(asyncio.Event().wait())  # type: ignore[arg-type]
    monkeypatch.setattr(process_actor, "STARTING", 0.01)
    bus = LocalRuntime(registry, log).bus
    actor._runner = ProcessRunner(registry, definition, log, bus, layout=Layout(0, 1, 0))
    asking = (actor.open(False, 10), actor.timeouts(10), actor.retry("a"), actor.abort("a", True))
    for asked in asking:
        with pytest.raises(Unavailable, match="the store is away"):
            await asked
    actor._starting.cancel()


async def test_a_position_is_noted_once_however_often_it_is_saved() -> None:
    """Otherwise an idle process manager would make the log grow for ever."""
    log, layout = MemoryLog(), Layout(0, 1, 3)
    checkpoints = Checkpoints(log, "idle", layout, 0)
    assert await checkpoints.load() == 3
    for position in (3, 3, 5, 5, 5):
        await checkpoints.save(position)
    assert len([raw async for raw in log.read_all(["rayfold-process-idle-"])]) == 1
    again = Checkpoints(log, "idle", layout, 0)
    assert await again.load() == 5
    await again.save(5)
    assert len([raw async for raw in log.read_all(["rayfold-process-idle-"])]) == 1
