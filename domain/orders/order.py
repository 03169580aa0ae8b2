"""The order: its rules, and what its events make of it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, assert_never

from domain.orders.commands import (
    AddLine,
    CancelOrder,
    CreateOrder,
    ExpireOrder,
    OrderCommand,
    PayOrder,
    PlaceOrder,
    RemoveLine,
    ShipOrder,
)
from domain.orders.events import (
    FulfilmentRequested,
    LineAdded,
    LineRemoved,
    OrderCancelled,
    OrderCreated,
    OrderEvent,
    OrderPaid,
    OrderPlaced,
    OrderShipped,
)
from domain.orders.lines import Line, Lines
from rayfold import Aggregate, Message, NotFound, Rejected, RowsOf, UtcDatetime

MAX_TOTAL_CENTS = 10**12

MAX_LINES_TO_FULFIL = 500
"""Of an order that is fulfilled by a process: each is a command to an item of stock."""


class Status(StrEnum):
    """The status of an order."""

    NONE = "none"
    OPEN = "open"
    PLACED = "placed"
    PAID = "paid"
    SHIPPED = "shipped"
    CANCELLED = "cancelled"


class OrderState(Message):
    """What deciding on an order needs to know."""

    status: Status = Status.NONE
    currency: str = ""
    lines: Annotated[Lines, RowsOf(Line)] = Lines()
    total_cents: int = 0
    placed_at: UtcDatetime | None = None


class Order(
    Aggregate[OrderState, OrderCommand, OrderEvent],
    category="order",
    id_field="order_id",
    initial=OrderState(),
):
    """An order of one customer."""

    @staticmethod
    def decide(state: OrderState, command: OrderCommand) -> Iterable[OrderEvent]:
        """See `Aggregate.decide`; the rules are those of the helpers' names below."""
        order_id = command.order_id
        if isinstance(command, CreateOrder):
            if state.status is not Status.NONE:
                raise Rejected("order-exists", f"order {order_id} exists already")
            return [OrderCreated(**vars(command))]
        if state.status is Status.NONE:
            raise NotFound("unknown-order", f"there is no order {order_id}")
        match command:
            case AddLine():
                _must_be(Status.OPEN, state)
                line = Line(
                    sku=command.sku,
                    quantity=command.quantity,
                    unit_price_cents=command.unit_price_cents,
                )
                _must_fit(line, state)
                return [LineAdded(**vars(command))]
            case RemoveLine():
                _must_be(Status.OPEN, state)
                if state.lines.get(command.sku) is None:
                    raise Rejected("no-such-line", f"the order has no line {command.sku!r}")
                return [LineRemoved(**vars(command))]
            case PlaceOrder():
                _must_be(Status.OPEN, state)
                if not len(state.lines):
                    raise Rejected("empty-order", "an order without lines cannot be placed")
                return _placed(state, command)
            case PayOrder():
                _must_be(Status.PLACED, state)
                return [OrderPaid(order_id=order_id, at=command.at)]
            case ShipOrder():
                _must_be(Status.PAID, state)
                return [OrderShipped(order_id=order_id, at=command.at)]
            case CancelOrder():
                if state.status in (Status.SHIPPED, Status.CANCELLED):
                    raise Rejected(f"order-{state.status}", f"the order is {state.status} already")
                return [_cancelled(state, command)]
            case ExpireOrder():
                _must_be(Status.PLACED, state)
                return [_cancelled(state, command)]
            case _:
                assert_never(command)

    @staticmethod
    def evolve(state: OrderState, event: OrderEvent) -> OrderState:
        """See `Aggregate.evolve`."""
        match event:
            case OrderCreated():
                return state.replace(status=Status.OPEN, currency=event.currency)
            case LineAdded():
                line = line_of(event)
                return state.replace(
                    lines=state.lines.add(line), total_cents=state.total_cents + line.cents
                )
            case LineRemoved():
                removed = state.lines.get(event.sku)
                return state.replace(
                    lines=state.lines.remove(event.sku),
                    total_cents=state.total_cents - (removed.cents if removed else 0),
                )
            case OrderPlaced():
                return state.replace(status=Status.PLACED, placed_at=event.at)
            case FulfilmentRequested():
                return state
            case OrderPaid():
                return state.replace(status=Status.PAID)
            case OrderShipped():
                return state.replace(status=Status.SHIPPED)
            case OrderCancelled():
                return state.replace(status=Status.CANCELLED)
            case _:
                assert_never(event)


def line_of(event: LineAdded) -> Line:
    """Return the line that the event added."""
    return Line(sku=event.sku, quantity=event.quantity, unit_price_cents=event.unit_price_cents)


def _placed(state: OrderState, command: PlaceOrder) -> list[OrderEvent]:
    placed = OrderPlaced(
        order_id=command.order_id,
        total_cents=state.total_cents,
        currency=state.currency,
        at=command.at,
    )
    if not command.fulfil:
        return [placed]
    if len(state.lines) > MAX_LINES_TO_FULFIL:
        raise Rejected(
            "too-many-lines", f"an order of more than {MAX_LINES_TO_FULFIL} lines is not fulfilled"
        )
    lines = tuple(state.lines)
    return [placed, FulfilmentRequested(order_id=command.order_id, lines=lines, at=command.at)]


def _cancelled(state: OrderState, command: CancelOrder | ExpireOrder) -> OrderCancelled:
    return OrderCancelled(
        order_id=command.order_id,
        total_cents=state.total_cents,
        currency=state.currency,
        placed_at=state.placed_at,
        at=command.at,
    )


def _must_be(status: Status, state: OrderState) -> None:
    if state.status is not status:
        raise Rejected(f"order-not-{status}", f"the order is {state.status}, not {status}")


def _must_fit(line: Line, state: OrderState) -> None:
    present = state.lines.get(line.sku)
    if present is not None and present.unit_price_cents != line.unit_price_cents:
        raise Rejected(
            "price-differs",
            f"{line.sku!r} is in the order at {present.unit_price_cents} cents, "
            f"not at {line.unit_price_cents}",
        )
    if state.total_cents + line.cents > MAX_TOTAL_CENTS:
        raise Rejected("order-too-large", f"an order's total is at most {MAX_TOTAL_CENTS} cents")
