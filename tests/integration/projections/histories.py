"""Random pasts of the reference domain, and a log that delivers them badly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from domain.inventory.stock import ReceiveStock, ReleaseStock, ReserveStock, StockItem
from domain.orders.commands import (
    AddLine,
    CancelOrder,
    CreateOrder,
    PayOrder,
    PlaceOrder,
    RemoveLine,
)
from domain.orders.order import Order
from eventstore.errors import StoreUnavailable
from eventstore.memory import MemoryLog
from eventstore.records import Batch, RawRecord, ticks_of
from rayfold import Event, Refused

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
ORDERS = [UUID(int=number) for number in range(1, 4)]

orders = st.sampled_from(ORDERS)
skus = st.sampled_from(["tea", "cake"])
quantities = st.integers(1, 5)
times = st.sampled_from([AT, AT.replace(day=25)])

commands = st.one_of(
    st.builds(
        CreateOrder, order_id=orders, customer_id=st.sampled_from(["ada", "grace"]), at=times
    ),
    st.builds(AddLine, order_id=orders, sku=skus, quantity=quantities, unit_price_cents=st.just(5)),
    st.builds(RemoveLine, order_id=orders, sku=skus),
    *(st.builds(kind, order_id=orders, at=times) for kind in (PlaceOrder, PayOrder, CancelOrder)),
    *(
        st.builds(kind, sku=skus, quantity=quantities)
        for kind in (ReceiveStock, ReserveStock, ReleaseStock)
    ),
)


def history_of(done: Sequence[Any]) -> list[RawRecord]:
    """The log that these commands lead to; what is refused leaves no trace."""
    events: dict[str, list[Event]] = {}
    log: list[RawRecord] = []
    for command in done:
        is_order = (hasattr(command, "order_id") and not hasattr(command, "sku")) or isinstance(
            command, AddLine | RemoveLine
        )
        aggregate: Any = Order if is_order else StockItem
        stream = aggregate.stream(getattr(command, aggregate.id_field))
        past = events.setdefault(stream, [])
        try:
            new = list(aggregate.decide(aggregate.fold(past), command))
        except Refused:
            continue
        for event in new:
            log.append(
                RawRecord(
                    type(event).__rayfold__.name,
                    event.model_dump_json().encode(),
                    b"{}",
                    stream,
                    len(past),
                    7 * (len(log) + 1),  # positions rise, with gaps
                    ticks_of(AT),
                )
            )
            past.append(event)
    return log


class BadLog(MemoryLog):
    """Delivers a history in batches of these sizes, from too far back, breaking in between.

    `cuts` is used up: a size below one breaks the connection.
    """

    def __init__(self, history: list[RawRecord], cuts: list[int], overlap: int) -> None:
        super().__init__()
        self._history = history
        self._cuts = list(cuts)
        self._overlap = overlap

    async def subscribe(
        self, prefixes: Sequence[str], after: int | None, *, gather: float = 0.0
    ) -> AsyncGenerator[Batch, None]:
        start = sum(1 for raw in self._history if raw.position <= (after or 0))
        at = max(start - self._overlap, 0)
        while at < len(self._history):
            size = self._cuts.pop(0) if self._cuts else len(self._history)
            if size < 1:
                raise StoreUnavailable("the connection broke, as it was told to")
            records = self._history[at : at + size]
            at += size
            yield Batch(records, records[-1].position, at >= len(self._history))
        yield Batch([], self._history[-1].position if self._history else 0, True)
        await asyncio.Event().wait()

    async def read_stream(
        self, stream: str, *, after: int | None = None, **how: Any
    ) -> AsyncGenerator[RawRecord, None]:
        for raw in self._history:
            if raw.stream == stream and (after is None or raw.revision > after):
                yield raw

    async def end_position(self, prefixes: Sequence[str]) -> int:
        return self._history[-1].position if self._history else 0


cuts = st.lists(st.integers(-1, 6), max_size=20)
