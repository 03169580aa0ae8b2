"""A domain's stack without Ray: what was written is seen, sagas run, time passes when told to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import date, timedelta
from uuid import uuid4

import pytest

from deploy.local_stack import LocalStack
from domain.fulfilment.process import Fulfilment
from domain.inventory.stock import ReceiveStock
from domain.inventory.views import GetStock
from domain.orders.commands import AddLine, CreateOrder, PayOrder, PlaceOrder
from domain.orders.queries import GetOrder, ListOrders
from domain.orders.views import OrderSummaries
from examples.shop.baskets import PutIn
from examples.shop.bestsellers import TopSellers
from examples.shop.views import GetBasketAndDemand
from projections.errors import BadCursor, NoSuchStore
from rayfold import PageQuery, Registry
from tests.unit.deploy import bells
from tests.unit.deploy.bells import GetBell, Ring


class LatestOrders(PageQuery, name="latest-orders", view=OrderSummaries, newest_first=True):
    """The same as `ListOrders`, the other way round."""

    customer_id: str | None = None


@pytest.fixture
async def stack() -> AsyncIterator[LocalStack]:
    async with LocalStack(Registry.load("domain")) as running:
        await running.send(ReceiveStock(sku="tea", quantity=2))
        yield running


async def test_a_query_sees_what_was_sent_before(stack: LocalStack) -> None:
    order = uuid4()
    assert (await stack.ask(GetOrder(order_id=order))).document is None
    receipt = await stack.send(CreateOrder(order_id=order, customer_id="ada"))
    answer = await stack.ask(GetOrder(order_id=order))
    assert answer.document["status"] == "open"
    assert (answer.revision, answer.position) == (0, receipt.position)
    page = (await stack.ask(ListOrders(customer_id="ada"))).document
    assert [each["order_id"] for each in page["items"]] == [str(order)]
    with pytest.raises(BadCursor):
        await stack.ask(ListOrders(cursor="none"))


async def test_pages_have_the_oldest_first_or_the_newest_as_their_query_says(
    stack: LocalStack,
) -> None:
    orders = [uuid4() for _ in range(5)]
    for each in orders:
        await stack.send(CreateOrder(order_id=each, customer_id="ada"))

    async def pages(ask: Callable[[str | None], PageQuery]) -> tuple[list[str], list[str]]:
        found: list[str] = []
        cursors: list[str] = []
        while True:
            page = (await stack.ask(ask(cursors[-1] if cursors else None))).document
            found += [each["order_id"] for each in page["items"]]
            if page["next_cursor"] is None:
                return found, cursors
            cursors.append(page["next_cursor"])

    oldest, up = await pages(lambda cursor: ListOrders(customer_id="ada", limit=2, cursor=cursor))
    assert oldest == [str(each) for each in orders]
    newest, down = await pages(lambda cursor: LatestOrders(limit=2, cursor=cursor))
    assert newest == oldest[::-1]
    for wrong in (LatestOrders(cursor=up[0]), ListOrders(cursor=down[0])):
        with pytest.raises(BadCursor, match="in the other order"):
            await stack.ask(wrong)


@pytest.mark.parametrize(("pays", "ends"), [(True, "shipped"), (False, "cancelled")])
async def test_a_saga_runs_to_its_end(stack: LocalStack, pays: bool, ends: str) -> None:
    order = uuid4()
    await stack.send(CreateOrder(order_id=order, customer_id="ada"))
    await stack.send(AddLine(order_id=order, sku="tea", quantity=2, unit_price_cents=450))
    await stack.send(PlaceOrder(order_id=order, fulfil=True))
    await stack.until(GetStock(sku="tea"), lambda stock: stock["reserved"] == 2)
    if pays:
        await stack.send(PayOrder(order_id=order))
    else:
        await stack.pass_time(Fulfilment.payment_timeout - timedelta(minutes=1))
        assert (await stack.ask(GetOrder(order_id=order))).document["status"] == "placed"
        await stack.pass_time(timedelta(minutes=1))
    await stack.until(GetOrder(order_id=order), lambda row: row["status"] == ends)
    await stack.until(GetStock(sku="tea"), lambda stock: stock["reserved"] == 2 * pays)


async def test_an_expected_change_that_never_comes_is_reported_with_what_there_is(
    stack: LocalStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.local_stack.PATIENCE", 0.05)
    with pytest.raises(TimeoutError, match="'on_hand': 2"):
        await stack.until(GetStock(sku="tea"), lambda stock: stock["on_hand"] == 3)


async def test_time_passes_step_by_step_and_what_is_due_is_done_in_each() -> None:
    """As it counts from then: a step before that would count from the end of all steps."""
    stack = LocalStack(Registry([bells]))
    for day in (1, 2):  # it may be entered again
        async with stack:
            await stack.send(Ring(bell="tower"))
            for _ in range(24):
                await stack.pass_time(timedelta(hours=1))
            await stack.until(GetBell(bell="dinner"), lambda row, n=24 * day: row["times"] == n)


@pytest.mark.parametrize(
    ("bell", "told"),
    [
        ("cracked", "'ringing' of key 'cracked' is parked: RuntimeError: it is cracked"),
        ("worn", "row 'worn' of 'bells' is parked: RuntimeError: it is worn"),
    ],
)
async def test_what_is_parked_is_told_where_something_does_not_come(
    bell: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with LocalStack(Registry([bells])) as stack:
        await stack.send(Ring(bell=bell))
        await stack.pass_time(timedelta(hours=1))
        monkeypatch.setattr("deploy.local_stack.PATIENCE", 0.05)
        with pytest.raises(TimeoutError, match=told):
            await stack.until(GetBell(bell="dinner"), lambda bell: bell is not None)


async def test_a_process_that_gets_no_answer_lets_no_time_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("deploy.local_stack.PATIENCE", 0.05)
    async with LocalStack(Registry([bells])) as stack:
        await stack.send(Ring(bell="alarm"))
        with pytest.raises(TimeoutError, match="'ringing' of key 'alarm' has no answer"):
            await stack.pass_time(timedelta(hours=1))


async def test_all_views_are_in_memory_and_sql_is_left_out() -> None:
    async with LocalStack(Registry.load("examples.shop")) as stack:
        await stack.send(PutIn(basket_id="a", sku="tea", quantity=2))
        both = (await stack.ask(GetBasketAndDemand(basket_id="a"))).document
        assert both == {"basket_id": "a", "bought": False, "wanted": {"tea": 2}}
        with pytest.raises(NoSuchStore, match="needs Postgres"):
            await stack.ask(TopSellers(day=date(2026, 12, 1)))
