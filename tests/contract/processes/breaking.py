"""A process manager whose handlers raise until a test repairs them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from domain.inventory.stock import ReserveStock
from domain.orders.events import FulfilmentRequested, OrderCancelled, OrderCreated, OrderPaid
from rayfold import (
    CommandRejected,
    Complete,
    Message,
    ProcessManager,
    Schedule,
    Send,
    Step,
    TimedOut,
    on,
    on_rejected,
    on_timeout,
    starts,
)


class Broken(Message):
    """How much it was told."""

    seen: int = 0


class Breaking(
    ProcessManager[Broken, OrderCreated | OrderPaid | OrderCancelled | FulfilmentRequested],
    name="breaking",
    key="order_id",
    initial=Broken(),
):
    """Breaks on a payment as long as it is told to."""

    broken = True

    @staticmethod
    def evolve(state: Broken, happened: Any) -> Broken:
        return state.replace(seen=state.seen + 1)

    @staticmethod
    @starts(OrderCreated)
    def created(state: Broken, event: OrderCreated) -> Iterator[Step]:
        yield Schedule("soon", after=timedelta(hours=1))

    @staticmethod
    @on(OrderPaid)
    def paid(state: Broken, event: OrderPaid) -> Iterator[Step]:
        if Breaking.broken:
            raise RuntimeError("no idea")
        yield Send(ReserveStock(sku=f"for-{event.order_id}", quantity=1))

    @staticmethod
    @on_rejected(ReserveStock)
    def lacking(state: Broken, rejected: CommandRejected[ReserveStock]) -> Iterator[Step]:
        yield Schedule("after", after=timedelta(hours=2))

    @staticmethod
    @on_timeout("soon", "after")
    def soon(state: Broken, timeout: TimedOut) -> Iterator[Step]:
        yield Schedule(timeout.name, after=timedelta(days=1))

    @staticmethod
    @on(OrderCancelled)
    def cancelled(state: Broken, event: OrderCancelled) -> Iterator[Step]:
        yield Complete()
