"""Every rule of orders, as given, when, then."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from domain.orders.commands import (
    AddLine,
    CancelOrder,
    CreateOrder,
    PayOrder,
    PlaceOrder,
    RemoveLine,
    ShipOrder,
)
from domain.orders.events import (
    LineAdded,
    LineRemoved,
    OrderCancelled,
    OrderCreated,
    OrderPaid,
    OrderPlaced,
    OrderShipped,
)
from domain.orders.order import MAX_TOTAL_CENTS, Order, Status
from domain.orders.views import OrderDetails, OrderEntries, OrderSummaries, SalesByDay
from rayfold import Event
from rayfold.testing import given, rows_of

ID = UUID(int=1)
AT = datetime(2026, 11, 24, 23, 59, tzinfo=UTC)

CREATED = OrderCreated(order_id=ID, customer_id="ada", currency="EUR", at=AT)
TEA = LineAdded(order_id=ID, sku="tea", quantity=2, unit_price_cents=450)
PLACED = OrderPlaced(order_id=ID, total_cents=900, currency="EUR", at=AT)
PAID = OrderPaid(order_id=ID, at=AT)
SHIPPED = OrderShipped(order_id=ID, at=AT)
CANCELLED = OrderCancelled(order_id=ID, total_cents=900, currency="EUR", placed_at=AT, at=AT)


def add(sku: str = "tea", quantity: int = 2, cents: int = 450) -> AddLine:
    return AddLine(order_id=ID, sku=sku, quantity=quantity, unit_price_cents=cents)


def test_an_order_is_created() -> None:
    state = given(Order).when(CreateOrder(order_id=ID, customer_id="ada", at=AT)).then(CREATED)
    assert state.status is Status.OPEN


def test_an_order_is_created_once() -> None:
    command = CreateOrder(order_id=ID, customer_id="grace", at=AT)
    given(Order, CREATED).when(command).then_rejected("order-exists")


@pytest.mark.parametrize(
    "command",
    [
        add(),
        RemoveLine(order_id=ID, sku="tea"),
        PlaceOrder(order_id=ID, at=AT),
        PayOrder(order_id=ID, at=AT),
        ShipOrder(order_id=ID, at=AT),
        CancelOrder(order_id=ID, at=AT),
    ],
    ids=lambda command: type(command).__rayfold__.name,
)
def test_nothing_can_be_done_to_an_unknown_order(command: Any) -> None:
    given(Order).when(command).then_not_found()


def test_a_line_is_added() -> None:
    state = given(Order, CREATED).when(add()).then(TEA)
    assert state.total_cents == 900


def test_adding_a_line_that_is_there_raises_its_quantity() -> None:
    state = given(Order, CREATED, TEA).when(add(quantity=3)).then(TEA.replace(quantity=3))
    assert [(line.sku, line.quantity) for line in state.lines] == [("tea", 5)]
    assert state.total_cents == 5 * 450


def test_a_line_has_one_price() -> None:
    given(Order, CREATED, TEA).when(add(cents=451)).then_rejected("price-differs")


def test_a_removed_line_may_come_back_at_another_price() -> None:
    removed = LineRemoved(order_id=ID, sku="tea")
    given(Order, CREATED, TEA, removed).when(add(cents=451)).then(TEA.replace(unit_price_cents=451))


def test_an_order_is_not_worth_more_than_the_limit() -> None:
    dear = LineAdded(order_id=ID, sku="car", quantity=1, unit_price_cents=MAX_TOTAL_CENTS)
    given(Order, CREATED, dear).when(add()).then_rejected("order-too-large")


@pytest.mark.parametrize("quantity", [0, -1])
def test_a_quantity_is_positive(quantity: int) -> None:
    with pytest.raises(ValidationError):
        add(quantity=quantity)


def test_a_line_is_removed() -> None:
    removed = LineRemoved(order_id=ID, sku="tea")
    state = given(Order, CREATED, TEA).when(RemoveLine(order_id=ID, sku="tea")).then(removed)
    assert state.total_cents == 0


def test_only_a_line_that_is_there_is_removed() -> None:
    given(Order, CREATED, TEA).when(RemoveLine(order_id=ID, sku="cake")).then_rejected(
        "no-such-line"
    )


def test_an_order_is_placed() -> None:
    state = given(Order, CREATED, TEA).when(PlaceOrder(order_id=ID, at=AT)).then(PLACED)
    assert state.status is Status.PLACED


@pytest.mark.parametrize("past", [(), (TEA, LineRemoved(order_id=ID, sku="tea"))])
def test_an_empty_order_is_not_placed(past: tuple[Event, ...]) -> None:
    given(Order, CREATED, *past).when(PlaceOrder(order_id=ID, at=AT)).then_rejected("empty-order")


@pytest.mark.parametrize("past", [(PLACED,), (PLACED, PAID), (PLACED, PAID, SHIPPED), (CANCELLED,)])
@pytest.mark.parametrize(
    "command",
    [add(), RemoveLine(order_id=ID, sku="tea"), PlaceOrder(order_id=ID, at=AT)],
    ids=lambda command: type(command).__rayfold__.name,
)
def test_only_an_open_order_changes(past: tuple[Event, ...], command: Any) -> None:
    given(Order, CREATED, TEA, *past).when(command).then_rejected("order-not-open")


def test_a_placed_order_is_paid_and_then_shipped() -> None:
    given(Order, CREATED, TEA, PLACED).when(PayOrder(order_id=ID, at=AT)).then(PAID)
    given(Order, CREATED, TEA, PLACED, PAID).when(ShipOrder(order_id=ID, at=AT)).then(SHIPPED)


def test_an_order_is_paid_once_and_shipped_when_paid() -> None:
    given(Order, CREATED, TEA).when(PayOrder(order_id=ID, at=AT)).then_rejected("order-not-placed")
    given(Order, CREATED, TEA, PLACED, PAID).when(PayOrder(order_id=ID, at=AT)).then_rejected(
        "order-not-placed"
    )
    given(Order, CREATED, TEA, PLACED).when(ShipOrder(order_id=ID, at=AT)).then_rejected(
        "order-not-paid"
    )


@pytest.mark.parametrize("past", [(PLACED,), (PLACED, PAID)])
def test_an_order_is_cancelled_until_it_is_shipped(past: tuple[Event, ...]) -> None:
    given(Order, CREATED, TEA, *past).when(CancelOrder(order_id=ID, at=AT)).then(CANCELLED)


def test_a_shipped_order_is_not_cancelled() -> None:
    given(Order, CREATED, TEA, PLACED, PAID, SHIPPED).when(
        CancelOrder(order_id=ID, at=AT)
    ).then_rejected("order-shipped")


def test_an_order_is_cancelled_once() -> None:
    given(Order, CREATED, CANCELLED).when(CancelOrder(order_id=ID, at=AT)).then_rejected(
        "order-cancelled"
    )


def test_details_merge_lines_and_entries_keep_them_apart() -> None:
    events = (CREATED, TEA, TEA.replace(quantity=1), PLACED)
    details = rows_of(OrderDetails, *events)[ID]
    assert [(line.sku, line.quantity) for line in details.lines] == [("tea", 3)]
    assert details.total_cents == 1350
    assert details.placed_at == AT
    entries = rows_of(OrderEntries, *events)[ID]
    assert [line.quantity for line in entries.lines] == [2, 1]
    assert entries.total_cents == 1350


def test_a_summary_follows_the_status() -> None:
    row = rows_of(OrderSummaries, CREATED, TEA, PLACED, PAID)[ID]
    assert (row.customer_id, row.status, row.total_cents) == ("ada", Status.PAID, 900)


def test_sales_count_what_was_placed_and_not_cancelled_by_day() -> None:
    other = PLACED.replace(order_id=UUID(int=2), currency="USD", total_cents=5)
    rows = rows_of(SalesByDay, PLACED, other, CANCELLED)
    assert {day.isoformat(): (row.orders, row.total_cents) for day, row in rows.items()} == {
        "2026-11-24": (1, {"EUR": 0, "USD": 5})
    }


def test_cancelling_what_was_never_placed_is_no_sale() -> None:
    assert rows_of(SalesByDay, CANCELLED.replace(placed_at=None)) == {}
