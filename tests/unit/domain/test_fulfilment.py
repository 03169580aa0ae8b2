"""Fulfilments: each rule, and whole sagas with a clock of their own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from domain.fulfilment.process import Fulfilment
from domain.fulfilment.views import Fulfilments, Stage
from domain.inventory.stock import (
    ReceiveStock,
    ReleaseStock,
    ReserveStock,
    StockItem,
    StockReleased,
    StockReserved,
)
from domain.orders.commands import (
    AddLine,
    CancelOrder,
    CreateOrder,
    ExpireOrder,
    PayOrder,
    PlaceOrder,
    ShipOrder,
)
from domain.orders.events import (
    FulfilmentRequested,
    OrderCancelled,
    OrderPaid,
    OrderPlaced,
    OrderShipped,
)
from domain.orders.lines import Line
from domain.orders.order import MAX_LINES_TO_FULFIL, Order, Status
from rayfold import (
    Command,
    CommandRejected,
    Complete,
    Refused,
    Schedule,
    Send,
    TimedOut,
    Unschedule,
)
from rayfold.testing import Story, given, rows_of

ID = UUID(int=1)
AT = datetime(2026, 11, 24, tzinfo=UTC)
TEA = Line(sku="tea", quantity=2, unit_price_cents=450)
CUP = Line(sku="cup", quantity=1, unit_price_cents=900)
REQUESTED = FulfilmentRequested(order_id=ID, lines=(TEA, CUP), at=AT)
TEA_RESERVED = StockReserved(sku="tea", quantity=2, order_id=ID)
CUP_RESERVED = StockReserved(sku="cup", quantity=1, order_id=ID)
PAID = OrderPaid(order_id=ID, at=AT)
SHIPPED = OrderShipped(order_id=ID, at=AT)
CANCELLED = OrderCancelled(order_id=ID, total_cents=1800, currency="EUR", placed_at=AT, at=AT)
RESERVE_TEA = ReserveStock(sku="tea", quantity=2, order_id=ID)
RESERVE_CUP = ReserveStock(sku="cup", quantity=1, order_id=ID)
RELEASE_TEA = ReleaseStock(sku="tea", quantity=2, order_id=ID)
RELEASE_CUP = ReleaseStock(sku="cup", quantity=1, order_id=ID)
NO_CUPS = CommandRejected(RESERVE_CUP, "insufficient-stock")
PAYMENT = Schedule("payment", after=timedelta(minutes=15))
OVERDUE = TimedOut("payment", AT)


def test_placing_reserves_each_line() -> None:
    given(Fulfilment).when(REQUESTED).then(Send(RESERVE_TEA), Send(RESERVE_CUP))


def test_it_waits_for_payment_once_all_is_reserved() -> None:
    given(Fulfilment, REQUESTED).when(TEA_RESERVED).then_nothing()
    given(Fulfilment, REQUESTED, TEA_RESERVED).when(CUP_RESERVED).then(PAYMENT)


def test_it_ships_on_payment() -> None:
    reserved = given(Fulfilment, REQUESTED, TEA_RESERVED, CUP_RESERVED)
    reserved.when(PAID).then(Unschedule("payment"), Send(ShipOrder(order_id=ID)))
    given(Fulfilment, REQUESTED, TEA_RESERVED, CUP_RESERVED, PAID).when(SHIPPED).then(Complete())


def test_an_order_that_is_paid_early_ships_once_all_is_reserved() -> None:
    given(Fulfilment, REQUESTED, TEA_RESERVED).when(PAID).then_nothing()
    given(Fulfilment, REQUESTED, TEA_RESERVED, PAID).when(CUP_RESERVED).then(
        Send(ShipOrder(order_id=ID))
    )


def test_an_unpaid_order_expires() -> None:
    reserved = given(Fulfilment, REQUESTED, TEA_RESERVED, CUP_RESERVED)
    reserved.when(OVERDUE).then(Send(ExpireOrder(order_id=ID)))


def test_reservations_are_released_in_reverse_order() -> None:
    given(Fulfilment, REQUESTED, TEA_RESERVED, CUP_RESERVED).when(CANCELLED).then(
        Unschedule("payment"), Send(RELEASE_CUP), Send(RELEASE_TEA), Complete()
    )


def test_lack_of_stock_cancels_the_order() -> None:
    given(Fulfilment, REQUESTED, TEA_RESERVED).when(NO_CUPS).then(Send(CancelOrder(order_id=ID)))
    given(Fulfilment, REQUESTED, TEA_RESERVED, NO_CUPS).when(CANCELLED).then(
        Unschedule("payment"), Send(RELEASE_TEA), Complete()
    )


def test_a_reservation_after_the_cancellation_is_released_too() -> None:
    given(Fulfilment, REQUESTED, TEA_RESERVED).when(CANCELLED).then(
        Unschedule("payment"), Send(RELEASE_TEA)
    )
    given(Fulfilment, REQUESTED, TEA_RESERVED, CANCELLED).when(CUP_RESERVED).then(
        Send(RELEASE_CUP), Complete()
    )
    given(Fulfilment, REQUESTED, TEA_RESERVED, CANCELLED).when(NO_CUPS).then(Complete())


def test_the_order_is_cancelled_once_however_many_items_lack() -> None:
    no_tea = CommandRejected(RESERVE_TEA, "unknown-stock")
    given(Fulfilment, REQUESTED, no_tea).when(NO_CUPS).then_nothing()


def test_stock_reserved_for_nobody_or_for_other_orders_changes_nothing() -> None:
    for order in (None, ID):
        by_hand = StockReserved(sku="spoon", quantity=1, order_id=order)
        given(Fulfilment, REQUESTED).when(by_hand).then_nothing()


def test_an_order_that_does_not_ask_for_fulfilment_is_ignored() -> None:
    story = a_story(tea=0)
    order(story, "tea", fulfil=False)
    story.send(PayOrder(order_id=ID))
    story.send(ShipOrder(order_id=ID))
    assert not story.process(Fulfilment, ID).begun
    assert not story.refusals


def test_an_order_with_too_many_lines_is_not_fulfilled() -> None:
    story = a_story()
    skus = [f"sku-{number}" for number in range(MAX_LINES_TO_FULFIL + 1)]
    with pytest.raises(Refused) as refused:
        order(story, *skus)
    assert refused.value.rule == "too-many-lines"
    placed = order_placed(story, fulfil=False)
    assert isinstance(placed[0], OrderPlaced)


def test_an_order_with_stock_is_shipped() -> None:
    story = a_story(tea=5, cup=1)
    order(story, "tea", "cup")
    assert story.process(Fulfilment, ID).timers["payment"].due == story.now + timedelta(minutes=15)
    assert stages(story) == [Stage.AWAITING_PAYMENT]
    story.wait(timedelta(minutes=14))
    story.send(PayOrder(order_id=ID))
    assert story.state_of(Order, ID).status is Status.SHIPPED
    assert story.process(Fulfilment, ID).ended
    story.wait(timedelta(days=1))
    assert [reserved(story, sku) for sku in ("tea", "cup")] == [1, 1]
    assert stages(story) == [Stage.SHIPPED]


def test_an_order_without_stock_for_its_second_line_is_compensated() -> None:
    story = a_story(tea=5)
    order(story, "tea", "cup")
    assert story.state_of(Order, ID).status is Status.CANCELLED
    assert reserved(story, "tea") == 0
    assert story.process(Fulfilment, ID).ended
    assert stages(story) == [Stage.CANCELLED]
    [(command, refusal)] = story.refusals
    assert (type(command), refusal.rule) == (ReserveStock, "unknown-stock")


def test_an_unpaid_order_is_compensated_after_its_timeout() -> None:
    story = a_story(tea=5, cup=5)
    order(story, "tea", "cup")
    story.wait(timedelta(minutes=15))
    assert story.state_of(Order, ID).status is Status.CANCELLED
    released = [event.sku for event in story.events if isinstance(event, StockReleased)]
    assert released == ["cup", "tea"]
    with pytest.raises(Refused):
        story.send(PayOrder(order_id=ID))


AFTERWARDS: list[Command | timedelta] = [
    PayOrder(order_id=ID),
    CancelOrder(order_id=ID),
    ShipOrder(order_id=ID),
    timedelta(minutes=10),
]


@for_all(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 2)), min_size=1, max_size=4),
    st.lists(st.sampled_from(AFTERWARDS), max_size=6),
)
def test_every_fulfilment_ends_and_stock_adds_up(
    stock_and_wanted: list[tuple[int, int]], afterwards: list[Any]
) -> None:
    story = Story(Order, StockItem, Fulfilment)
    story.send(CreateOrder(order_id=ID, customer_id="ada"))
    wanted = {f"sku-{n}": want for n, (_, want) in enumerate(stock_and_wanted)}
    for (have, want), sku in zip(stock_and_wanted, wanted, strict=True):
        if have:
            story.send(ReceiveStock(sku=sku, quantity=have))
        story.send(AddLine(order_id=ID, sku=sku, quantity=want, unit_price_cents=1))
    order_placed(story)
    for each in afterwards:
        if isinstance(each, timedelta):
            story.wait(each)
            continue
        try:
            story.send(each)
        except Refused:
            continue
    story.wait(timedelta(hours=1))
    status = story.state_of(Order, ID).status
    assert status in (Status.SHIPPED, Status.CANCELLED)
    assert story.process(Fulfilment, ID).ended
    for sku, want in wanted.items():
        assert reserved(story, sku) == (want if status is Status.SHIPPED else 0)


def test_an_aborted_fulfilment_is_cancelled_and_its_stock_released() -> None:
    story = a_story(tea=1, cup=1)
    order(story, "tea", "cup")
    story.abort(Fulfilment, ID)
    assert story.process(Fulfilment, ID).ended
    assert story.state_of(Order, ID).status is Status.CANCELLED
    assert [event.sku for event in story.events if isinstance(event, StockReleased)] == [
        "cup",
        "tea",
    ]
    with pytest.raises(LookupError):
        story.abort(Fulfilment, ID)


def a_story(**stock: int) -> Story:
    story = Story(Order, StockItem, Fulfilment)
    for sku, quantity in stock.items():
        if quantity:
            story.send(ReceiveStock(sku=sku, quantity=quantity))
    return story


def order(story: Story, *skus: str, fulfil: bool = True) -> None:
    story.send(CreateOrder(order_id=ID, customer_id="ada"))
    for sku in skus:
        story.send(AddLine(order_id=ID, sku=sku, quantity=1, unit_price_cents=450))
    order_placed(story, fulfil=fulfil)


def order_placed(story: Story, fulfil: bool = True) -> list[Any]:
    return story.send(PlaceOrder(order_id=ID, fulfil=fulfil))


def reserved(story: Story, sku: str) -> int:
    found: int = story.state_of(StockItem, sku).reserved
    return found


def stages(story: Story) -> list[Stage]:
    return [row.stage for row in rows_of(Fulfilments, *story.events).values()]
