"""What the write side promises, wherever it runs."""

from __future__ import annotations

import asyncio
import json
from uuid import uuid4

import pytest

from actors.errors import AggregateDeleted, KeyReused, RevisionMismatch, Unavailable
from domain.orders.commands import AddLine, CreateOrder, PlaceOrder
from domain.orders.order import Order
from eventstore.records import recorded
from rayfold import NotFound, Receipt, Rejected
from tests.contract.write_side.runtimes import Orders


def line(order: object, sku: str = "tea", quantity: int = 1) -> AddLine:
    return AddLine(order_id=order, sku=sku, quantity=quantity, unit_price_cents=450)


async def test_commands_are_recorded_in_order(orders: Orders) -> None:
    order = uuid4()
    receipts = [
        await orders.send(CreateOrder(order_id=order, customer_id="ada")),
        await orders.send(line(order)),
        await orders.send(PlaceOrder(order_id=order)),
    ]
    assert [receipt.revision for receipt in receipts] == [0, 1, 2]
    assert {receipt.stream for receipt in receipts} == {f"order-{order}"}
    events = await orders.events(f"order-{order}")
    assert [event.event_type for event in events] == ["OrderCreated", "LineAdded", "OrderPlaced"]
    assert [
        receipt.position >= event.position for receipt, event in zip(receipts, events, strict=True)
    ] == [True] * 3


async def test_a_refusal_appends_nothing(orders: Orders) -> None:
    order = uuid4()
    with pytest.raises(NotFound):
        await orders.send(line(order))
    await orders.send(CreateOrder(order_id=order, customer_id="ada"))
    with pytest.raises(Rejected, match="without lines"):
        await orders.send(PlaceOrder(order_id=order))
    with pytest.raises(Rejected, match="exists already"):
        await orders.send(CreateOrder(order_id=order, customer_id="grace"))
    assert len(await orders.events(f"order-{order}")) == 1


async def test_a_revision_can_be_asked_for(orders: Orders) -> None:
    order = uuid4()
    await orders.send(CreateOrder(order_id=order, customer_id="ada"))
    with pytest.raises(RevisionMismatch) as mismatch:
        await orders.send(line(order), expected=3)
    assert (mismatch.value.expected, mismatch.value.actual) == (3, 0)
    assert (await orders.send(line(order), expected=0)).revision == 1


async def test_a_repeat_gives_the_first_receipt(orders: Orders) -> None:
    order, key, other = uuid4(), uuid4(), uuid4()
    create = CreateOrder(order_id=order, customer_id="ada")
    first = await orders.send(create, key=key)
    added = await orders.send(line(order), key=other)
    assert await orders.send(create, key=key) == first
    assert await orders.send(line(order), key=other) == added
    assert len(await orders.events(f"order-{order}")) == 2


async def test_a_repeat_after_a_crash_gives_the_first_receipt(orders: Orders) -> None:
    order, key = uuid4(), uuid4()
    create = CreateOrder(order_id=order, customer_id="ada")
    first = await orders.send(create, key=uuid4())
    # In a group commit of many, whose receipts share a position.
    receipts = await asyncio.gather(
        orders.send(line(order), key=key),
        *(orders.send(line(order, f"sku-{number}")) for number in range(20)),
        *(orders.send(CreateOrder(order_id=uuid4(), customer_id="x")) for _ in range(5)),
    )
    await orders.after_a_crash()
    assert await orders.send(line(order), key=key) == receipts[0]
    with pytest.raises(Rejected):
        await orders.send(CreateOrder(order_id=order, customer_id="ada"))
    assert first.revision == 0
    assert len(await orders.events(f"order-{order}")) == 22


async def test_copies_of_a_command_that_race_are_executed_once(orders: Orders) -> None:
    order, key = uuid4(), uuid4()
    await orders.send(CreateOrder(order_id=order, customer_id="ada"))
    receipts = await asyncio.gather(*(orders.send(line(order), key=key) for _ in range(8)))
    assert len(set(receipts)) == 1
    assert len(await orders.events(f"order-{order}")) == 2


async def test_a_key_cannot_be_reused_for_another_command(orders: Orders) -> None:
    order, key = uuid4(), uuid4()
    await orders.send(CreateOrder(order_id=order, customer_id="ada"), key=key)
    with pytest.raises(KeyReused):
        await orders.send(CreateOrder(order_id=order, customer_id="grace"), key=key)
    await orders.after_a_crash()
    with pytest.raises(KeyReused):
        await orders.send(CreateOrder(order_id=order, customer_id="grace"), key=key)


async def test_one_hot_aggregate_takes_every_command_once(orders: Orders) -> None:
    order = uuid4()
    await orders.send(CreateOrder(order_id=order, customer_id="ada"))
    receipts = await asyncio.gather(*(orders.send(line(order)) for _ in range(300)))
    assert sorted(receipt.revision for receipt in receipts) == list(range(1, 301))
    events = await orders.events(f"order-{order}")
    assert [event.revision for event in events] == list(range(301))


async def test_the_metadata_of_an_event_says_which_command_caused_it(orders: Orders) -> None:
    order, key = uuid4(), uuid4()
    await orders.send(CreateOrder(order_id=order, customer_id="ada"), key=key)
    [event] = await orders.events(f"order-{order}")
    metadata = json.loads(event.metadata)
    assert metadata["commandId"] == str(key)
    assert metadata["$correlationId"] == str(key)
    assert metadata["$causationId"] == str(key)
    assert metadata["schemaVersion"] == "1"
    assert "/" in metadata["writer"]


async def test_a_long_stream_goes_on_after_a_crash(orders: Orders) -> None:
    order = uuid4()
    await orders.send(CreateOrder(order_id=order, customer_id="ada"))
    await asyncio.gather(*(orders.send(line(order, f"sku-{n % 7}")) for n in range(700)))
    await orders.after_a_crash()
    receipt = await orders.send(line(order, "last"))
    assert receipt.revision == 701
    events = await orders.events(f"order-{order}")
    state = Order.fold(each.event for raw in events for each in recorded(orders.registry, raw))
    assert state.total_cents == 701 * 450


async def test_two_writers_of_one_stream_take_turns(orders: Orders) -> None:
    """The other writer is unknown to the first one, as after a network partition."""
    from actors.local import LocalRuntime

    order = uuid4()
    await orders.send(CreateOrder(order_id=order, customer_id="ada"))
    other = LocalRuntime(orders.registry, orders.log, states=orders.states)
    answers = await asyncio.gather(
        *(orders.send(line(order)) for _ in range(40)),
        *(other.send(line(order)) for _ in range(40)),
        return_exceptions=True,
    )
    receipts = [answer for answer in answers if isinstance(answer, Receipt)]
    # A writer that was too slow each time says so, and nothing of it is on the log.
    assert all(isinstance(answer, Receipt | Unavailable) for answer in answers)
    assert len({receipt.revision for receipt in receipts}) == len(receipts)
    assert len(await orders.events(f"order-{order}")) == len(receipts) + 1


async def test_a_deleted_aggregate_begins_again(orders: Orders) -> None:
    order, key = uuid4(), uuid4()
    await orders.send(CreateOrder(order_id=order, customer_id="ada"))
    await orders.send(line(order), key=key)
    assert await orders.delete(f"order-{order}", tombstone=False)
    assert not await orders.delete(f"order-{uuid4()}", tombstone=False)
    with pytest.raises(NotFound):
        await orders.send(line(order), key=key)
    await orders.send(CreateOrder(order_id=order, customer_id="grace"))
    await orders.send(line(order), key=key)
    events = await orders.events(f"order-{order}")
    assert [event.revision for event in events] == [2, 3]
    await orders.after_a_crash()
    assert (await orders.send(PlaceOrder(order_id=order))).revision == 4


async def test_a_tombstoned_aggregate_takes_no_command(orders: Orders) -> None:
    order = uuid4()
    await orders.send(CreateOrder(order_id=order, customer_id="ada"))
    await orders.delete(f"order-{order}", tombstone=True)
    for _ in range(2):
        with pytest.raises(AggregateDeleted, match=str(order)):
            await orders.send(line(order))
        with pytest.raises(AggregateDeleted, match=str(order)):
            await orders.send(CreateOrder(order_id=order, customer_id="grace"))
        await orders.after_a_crash()
