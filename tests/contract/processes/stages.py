"""A write side and a process manager's runner in this process, over a log; both may crash."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from actors.local import LocalRuntime
from actors.processes.checkpoints import lay_out
from actors.processes.runner import ProcessRunner
from domain.fulfilment.process import Fulfilment, FulfilmentState
from domain.inventory.stock import ReceiveStock, StockItem
from domain.orders.commands import AddLine, CreateOrder, PlaceOrder
from domain.orders.order import Order
from eventstore.port import Log
from eventstore.records import RawRecord, recorded
from rayfold import Command, Receipt, Registry
from rayfold.process import ProcessDefinition

DEADLINE = 60.0


class Clock:
    """The time of day, and what a test adds to it."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        """The time."""
        return datetime.now(UTC) + self.ahead


class Stage:
    """`async with Stage(…)`: a runner that runs, and hosts that can be forgotten."""

    def __init__(
        self,
        log: Log,
        registry: Registry,
        definition: ProcessDefinition = Fulfilment.__rayfold__,
        *,
        partition: tuple[int, int] = (0, 1),
        postgres: str = "",
        writes: LocalRuntime | None = None,
    ) -> None:
        """`writes` is another one's write side, where two runners meet: writers are alone."""
        self.log = log
        self.registry = registry
        self.definition = definition
        self.clock = Clock()
        self.partition = partition
        self.postgres = postgres
        self.writes = writes or LocalRuntime(registry, log)
        self.runner: ProcessRunner

    async def start(self) -> None:
        """Begin with a runner that knows nothing."""
        partition, partitions = self.partition
        layout = await lay_out(self.log, self.definition.name, partitions, self.registry.prefixes)
        self.runner = ProcessRunner(
            self.registry,
            self.definition,
            self.log,
            self.writes.bus,
            partition=partition,
            layout=layout,
            postgres=self.postgres,
            clock=self.clock,
        )
        await self.runner.start()

    async def __aenter__(self) -> Stage:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.runner.stop()

    async def crash(self) -> None:
        """Drop the runner and the hosts where they are, and begin with others."""
        await self.drop()
        self.writes = LocalRuntime(self.registry, self.log)
        await self.start()

    async def drop(self) -> None:
        """End the runner where it is, without a checkpoint."""
        for tasks in (self.runner._tasks, self.runner._commits._tasks):
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def pass_time(self, time: timedelta) -> None:
        """Put the clock forward."""
        self.clock.ahead += time
        self.runner.timers.wake()

    async def send(self, *commands: Command) -> list[Receipt]:
        """One after the other."""
        return [await self.writes.send(command) for command in commands]

    async def order(self, *skus: str, fulfil: bool = True, quantity: int = 1) -> UUID:
        """An order of these that is placed."""
        order = uuid4()
        await self.send(
            CreateOrder(order_id=order, customer_id="ada"),
            *(
                AddLine(order_id=order, sku=sku, quantity=quantity, unit_price_cents=450)
                for sku in skus
            ),
            PlaceOrder(order_id=order, fulfil=fulfil),
        )
        return order

    async def stock(self, quantity: int = 10) -> str:
        """A fresh item of stock."""
        sku = f"sku-{uuid4()}"
        await self.send(ReceiveStock(sku=sku, quantity=quantity))
        return sku

    async def state(self, aggregate: Any, aggregate_id: object) -> Any:
        """An aggregate's state, by the log."""
        events = []
        async for raw in self.log.read_stream(aggregate.stream(aggregate_id)):
            events += [each.event for each in recorded(self.registry, raw)]
        return aggregate.fold(events)

    async def status(self, order: UUID) -> str:
        """An order's."""
        return str((await self.state(Order, order)).status)

    async def reserved(self, sku: str) -> int:
        """How many of it are."""
        found: int = (await self.state(StockItem, sku)).reserved
        return found

    async def records(self, key: object) -> list[RawRecord]:
        """A process's stream."""
        stream = self.definition.stream(key)
        return [raw async for raw in self.log.read_stream(stream)]

    async def types(self, key: object) -> list[str]:
        """Its records' types."""
        return [raw.event_type for raw in await self.records(key)]


async def until(condition: Callable[[], Any]) -> None:
    """Wait until it is so; `condition` may be a coroutine function."""
    async with asyncio.timeout(DEADLINE):
        while True:
            found = condition()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.01)


def named(name: str) -> ProcessDefinition:
    """The fulfilment's rules under another name, so that it has no checkpoint yet."""

    class Named(
        Fulfilment,
        name=f"{name}_{uuid4().hex[:8]}",
        key="order_id",
        initial=FulfilmentState(),
    ):
        pass

    object.__setattr__(Named.__rayfold__, "events", Fulfilment.__rayfold__.events)
    object.__setattr__(Named.__rayfold__, "state_type", FulfilmentState)
    return Named.__rayfold__


def waits_for(stage: Stage, order: UUID) -> int:
    """How many timers a process has, once its commands have their answers."""
    state = stage.runner.in_memory(str(order))
    if state is None or state.instance.waiting:
        return 0
    return len(state.instance.timers)


async def ended(stage: Stage, key: object) -> bool:
    """Whether there was a process, and is no more."""
    return bool(await stage.types(key)) and str(key) not in stage.runner.open


async def is_so(found: Any, wanted: Any) -> bool:
    """Whether it comes to that."""
    return bool(await found == wanted)


async def amount(stage: Stage, key: object, event_type: str) -> int:
    """How many records of that type there are in a process's stream."""
    return (await stage.types(key)).count(event_type)


async def last(stage: Stage, key: object) -> str:
    """The type of the last record."""
    return (await stage.types(key))[-1]
