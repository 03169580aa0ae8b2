"""Creates an order's stream as the write side would, without one: to fill a log quickly."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from domain.orders.commands import AddLine, CreateOrder, OrderCommand, PlaceOrder
from domain.orders.order import Order
from eventstore.port import StreamAppend
from eventstore.records import NewRecord
from rayfold import Event


def order_stream(lines: int, *, placed: bool) -> tuple[str, StreamAppend]:
    """Return an order's id and its events: created, this many lines, and placed if requested."""
    order = uuid4()
    customer = f"c-{order.int % 1000}"
    commands: list[OrderCommand] = [
        CreateOrder(order_id=order, customer_id=customer, at=datetime.now(UTC)),
        *(
            AddLine(order_id=order, sku=f"sku-{n}", quantity=1, unit_price_cents=100)
            for n in range(lines)
        ),
        *([PlaceOrder(order_id=order)] if placed else []),
    ]
    state: Any = Order.initial
    records = []
    for command in commands:
        new = list(Order.decide(state, command))
        state = Order.fold(new, state)
        records += [_record(event) for event in new]
    return str(order), StreamAppend(f"order-{order}", None, records)


def _record(event: Event) -> NewRecord:
    definition = type(event).__rayfold__
    return NewRecord(definition.name, definition.encode(event), {}, str(uuid4()))
