"""What the runtime of process managers promises: every step once, whatever crashes."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from actors.errors import Unavailable
from actors.processes import process_state
from domain.inventory.stock import ReserveStock
from domain.orders.commands import CancelOrder, CreateOrder, PayOrder
from domain.orders.events import OrderCreated
from eventstore.errors import StoreUnavailable
from eventstore.memory import MemoryLog
from eventstore.port import Log
from rayfold import (
    ProcessManager,
    Registry,
    Send,
    Step,
    starts,
)
from tests.contract.processes.breaking import Breaking, Broken
from tests.contract.processes.stages import (
    Stage,
    amount,
    ended,
    is_so,
    last,
    named,
    until,
    waits_for,
)


async def test_an_order_with_stock_is_shipped_once_it_is_paid(log: Log, registry: Registry) -> None:
    async with Stage(log, registry) as stage:
        tea, cup = await stage.stock(), await stage.stock()
        order = await stage.order(tea, cup)
        await until(lambda: waits_for(stage, order) == 1)
        await stage.send(PayOrder(order_id=order))
        await until(lambda: ended(stage, order))
        assert await stage.status(order) == "shipped"
        assert [await stage.reserved(sku) for sku in (tea, cup)] == [1, 1]
        types = await stage.types(order)
        assert types.count("ProcessSawEvent") == 5  # requested, two reserved, paid, shipped
        assert types.count("ProcessCommandAccepted") == 3


async def test_an_order_without_stock_is_compensated(log: Log, registry: Registry) -> None:
    async with Stage(log, registry) as stage:
        tea = await stage.stock()
        order = await stage.order(tea, f"lacking-{uuid4()}")
        await until(lambda: ended(stage, order))
        assert await stage.status(order) == "cancelled"
        await until(lambda: is_so(stage.reserved(tea), 0))
        rejected = [
            r for r in await stage.records(order) if r.event_type == "ProcessCommandRejected"
        ]
        told = json.loads(rejected[0].data)["told"]
        assert told["rule"] == "unknown-stock"


async def test_a_timeout_fires_once_also_over_a_restart(log: Log, registry: Registry) -> None:
    async with Stage(log, registry) as stage:
        tea = await stage.stock()
        order = await stage.order(tea)
        await until(lambda: waits_for(stage, order) == 1)
        await stage.crash()
        await stage.pass_time(timedelta(minutes=14))
        assert await stage.status(order) == "placed"
        await stage.pass_time(timedelta(minutes=1))
        await until(lambda: ended(stage, order))
        await until(lambda: is_so(stage.reserved(tea), 0))
        assert await stage.status(order) == "cancelled"
        assert (await stage.types(order)).count("ProcessTimedOut") == 1


async def test_a_timeout_due_while_no_runner_ran_fires_when_one_starts(
    log: Log, registry: Registry
) -> None:
    stage = Stage(log, registry)
    await stage.start()
    order = await stage.order(await stage.stock())
    await until(lambda: waits_for(stage, order) == 1)
    await stage.runner.stop()
    stage.clock.ahead += timedelta(days=1)
    async with stage:
        await until(lambda: is_so(stage.status(order), "cancelled"))


async def test_events_that_happened_while_no_runner_ran_are_handled_in_order(
    log: Log, registry: Registry
) -> None:
    stage = Stage(log, registry)
    await stage.start()
    await stage.runner.stop()
    tea = await stage.stock()
    order = await stage.order(tea)
    await stage.send(PayOrder(order_id=order))  # so that both are in one batch
    async with stage:
        await until(lambda: is_so(stage.status(order), "shipped"))


async def test_an_order_that_does_not_ask_for_it_is_left_alone(
    log: Log, registry: Registry
) -> None:
    async with Stage(log, registry) as stage:
        order = await stage.order("nothing", fulfil=False)
        [receipt] = await stage.send(PayOrder(order_id=order))
        await until(lambda: stage.runner.position >= receipt.position)
        assert await stage.types(order) == []
        assert await stage.status(order) == "paid"


async def test_a_manager_begins_with_what_happens_after_its_first_start(
    log: Log, registry: Registry
) -> None:
    stage = Stage(log, registry, named("firsts"))
    before = await stage.order(await stage.stock())
    async with stage:
        after = await stage.order(await stage.stock())
        await until(lambda: amount(stage, after, "ProcessSawEvent"))
        assert await stage.types(before) == []


@pytest.mark.parametrize("crashes", range(12))
async def test_every_command_takes_effect_once_wherever_the_runner_crashes(
    log: Log, registry: Registry, crashes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After this many appends the next one is written, but nobody gets its answer."""
    async with Stage(log, registry) as stage:
        tea, cup = await stage.stock(), await stage.stock()
        append, calls = log.append, 0
        broken = asyncio.Event()

        async def breaking(appends: Any) -> Any:
            nonlocal calls
            results = await append(appends)
            if any("process-" in each.stream or "stock-" in each.stream for each in appends):
                calls += 1
                if calls == crashes + 1:
                    broken.set()
                    await asyncio.Event().wait()
            return results

        monkeypatch.setattr(log, "append", breaking)
        order = await stage.order(tea, cup)
        waiting = asyncio.create_task(broken.wait())
        settled = asyncio.create_task(until(lambda: waits_for(stage, order) == 1))
        await asyncio.wait([waiting, settled], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        settled.cancel()
        monkeypatch.setattr(log, "append", append)
        await stage.crash()
        await until(lambda: waits_for(stage, order) == 1)
        assert [await stage.reserved(sku) for sku in (tea, cup)] == [1, 1]
        await stage.send(CancelOrder(order_id=order))
        await until(lambda: ended(stage, order))
        assert [await stage.reserved(sku) for sku in (tea, cup)] == [0, 0]


async def test_a_command_takes_effect_once_even_if_its_aggregate_no_longer_remembers_it(
    log: Log, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Stage(log, registry) as stage:
        tea = await stage.stock(1000)
        send = stage.writes.bus.send

        async def silent(envelope: Any) -> Any:
            receipt = await send(envelope)
            if envelope.principal:
                raise Unavailable("the answer is lost")
            return receipt

        monkeypatch.setattr(stage.writes.bus, "send", silent)
        order = await stage.order(tea)
        await until(lambda: is_so(stage.reserved(tea), 1))
        monkeypatch.undo()
        await stage.drop()
        for _ in range(300):  # more than an aggregate remembers after a crash
            await stage.send(ReserveStock(sku=tea, quantity=1))
        await stage.crash()
        await until(lambda: waits_for(stage, order) == 1)
        assert await stage.reserved(tea) == 301


async def test_two_runners_of_one_process_manager_have_each_effect_once(
    log: Log, registry: Registry
) -> None:
    async with (
        Stage(log, registry) as stage,
        Stage(log, registry, writes=stage.writes) as other,
    ):
        skus = [await stage.stock(100) for _ in range(3)]
        orders = [await stage.order(*skus) for _ in range(5)]
        for order in orders:
            await until(lambda order=order: is_so(amount(stage, order, "ProcessSawEvent"), 4))
            await stage.send(PayOrder(order_id=order))
        for order in orders:
            await until(lambda order=order: is_so(stage.status(order), "shipped"))
        assert [await stage.reserved(sku) for sku in skus] == [5, 5, 5]
        assert other.runner.error == ""


KEYS = 32


async def test_keys_are_divided_among_partitions(log: Log, registry: Registry) -> None:
    definition = named("shared")
    async with (
        Stage(log, registry, definition, partition=(0, 2)) as first,
        Stage(log, registry, definition, partition=(1, 2)) as second,
    ):
        sku = await first.stock(100)
        # Keys are random: of 8, all were one partition's in one run of 128.
        orders = [await first.order(sku) for _ in range(KEYS)]
        both = [first.runner, second.runner]
        await until(lambda: sum(len(runner.open) for runner in both) == KEYS)
        assert first.runner.open
        assert second.runner.open
        assert not first.runner.open & second.runner.open
        await until(lambda: is_so(first.reserved(sku), KEYS))
        assert {str(order) for order in orders} == first.runner.open | second.runner.open


async def test_keys_move_to_new_partitions_while_an_old_runner_still_runs(
    log: Log, registry: Registry
) -> None:
    definition = named("handed")
    async with Stage(log, registry, definition) as old:
        sku = await old.stock(100)
        orders = [await old.order(sku) for _ in range(4)]
        async with (
            Stage(log, registry, definition, partition=(0, 2), writes=old.writes) as first,
            Stage(log, registry, definition, partition=(1, 2), writes=old.writes) as second,
        ):
            orders += [await first.order(sku) for _ in range(4)]
            await until(lambda: is_so(old.reserved(sku), 8))
            both = [first.runner, second.runner]
            for order in orders[:6]:
                await until(lambda order=order: is_so(amount(old, order, "ProcessSawEvent"), 2))
                await old.send(PayOrder(order_id=order))
            for order in orders[:6]:
                await until(lambda order=order: is_so(old.status(order), "shipped"))
            await until(lambda: sum(len(runner.open) for runner in both) == 2)
        for order in orders[6:]:
            await old.send(PayOrder(order_id=order))
    # The one that took over before is no layout any more: the next goes on from the other two.
    async with Stage(log, registry, definition, writes=old.writes) as last_one:
        for order in orders:
            await until(lambda order=order: is_so(last_one.status(order), "shipped"))
        await until(lambda: not last_one.runner.open)
        layouts = [raw async for raw in log.read_stream(f"rayfold-process-{definition.name}")]
        assert layouts[-1].revision == 2
    assert await last_one.reserved(sku) == 8
    for order in orders:
        types = await last_one.types(order)
        assert types.count("ProcessSawEvent") == 4  # requested, reserved, paid, shipped
        assert types.count("ProcessCommandAccepted") == 2


async def test_the_runner_continues_when_the_store_is_back(registry: Registry) -> None:
    log = MemoryLog()
    async with Stage(log, registry) as stage:
        order = await stage.order(await stage.stock())
        log.down = True
        with pytest.raises((StoreUnavailable, Unavailable)):
            await stage.stock()
        log.down = False
        await until(lambda: waits_for(stage, order) == 1)


async def test_a_handler_that_raises_parks_only_its_own_process(
    log: Log, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Breaking, "broken", True)
    async with Stage(log, registry, Breaking.__rayfold__) as stage:
        one, other = await stage.order("tea", fulfil=False), await stage.order("tea", fulfil=False)
        await stage.send(PayOrder(order_id=one))
        await until(lambda: str(one) in stage.runner.parked)
        told = r"RuntimeError: no idea \(breaking\.py, line \d+\)"
        assert re.fullmatch(told, stage.runner.parked[str(one)])
        await stage.send(CancelOrder(order_id=other))
        await until(lambda: ended(stage, other))
        # What comes for the parked one waits behind, in order, also over a crash.
        await stage.pass_time(timedelta(hours=1))
        await until(lambda: is_so(last(stage, one), "ProcessWaits"))
        await stage.send(CancelOrder(order_id=one))
        await until(lambda: is_so(amount(stage, one, "ProcessWaits"), 2))
        await stage.crash()
        assert str(one) in stage.runner.parked
        await stage.runner.retry(str(one))
        await until(lambda: is_so(amount(stage, one, "ProcessParked"), 2))
        monkeypatch.setattr(Breaking, "broken", False)
        await stage.runner.retry(str(one))
        await until(lambda: ended(stage, one))
        assert str(one) not in stage.runner.parked
        steps = [each for each in await stage.types(one) if each in process_state.STEPS]
        assert steps[:4] == [
            "ProcessSawEvent",  # created
            "ProcessSawEvent",  # paid
            "ProcessTimedOut",
            "ProcessSawEvent",  # cancelled
        ]
        with pytest.raises(LookupError):
            await stage.runner.retry(str(one))


async def test_an_aborted_process_receives_no_more_events(
    log: Log, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Breaking, "broken", True)
    async with Stage(log, registry, Breaking.__rayfold__) as stage:
        order = await stage.order("tea", fulfil=False)
        await stage.send(PayOrder(order_id=order))
        await until(lambda: str(order) in stage.runner.parked)
        await stage.runner.abort(str(order))
        await stage.crash()
        assert str(order) not in stage.runner.open
        [receipt] = await stage.send(CancelOrder(order_id=order))
        await until(lambda: stage.runner.position >= receipt.position)
        assert (await stage.types(order))[-1] == "ProcessAborted"
        with pytest.raises(LookupError):
            await stage.runner.abort(str(order))


class Circling(
    ProcessManager[Broken, OrderCreated], name="circling", key="customer_id", initial=Broken()
):
    """Creates an order for each that was created."""

    @staticmethod
    def evolve(state: Broken, happened: Any) -> Broken:
        return state.replace(seen=state.seen + 1)

    @staticmethod
    @starts(OrderCreated, key=lambda event: _circles(event.customer_id))
    def created(state: Broken, event: OrderCreated) -> Iterator[Step]:
        following = UUID(int=event.order_id.int + 1)
        yield Send(CreateOrder(order_id=following, customer_id=event.customer_id))


def _circles(customer: str) -> str | None:
    return customer if customer.startswith("circle") else None


async def test_a_process_that_keeps_causing_itself_is_parked_with_the_chain_of_causes(
    log: Log, registry: Registry
) -> None:
    async with Stage(log, registry, Circling.__rayfold__) as stage:
        customer = f"circle-{uuid4()}"
        await stage.send(CreateOrder(order_id=uuid4(), customer_id=customer))
        await until(lambda: customer in stage.runner.parked)
        assert "more than 100 commands" in stage.runner.parked[customer]
        assert "create-order ← create-order" in stage.runner.parked[customer]
        await until(lambda: is_so(amount(stage, customer, "ProcessCommandAccepted"), 100))


async def test_what_a_process_does_has_the_correlation_id_of_what_started_it(
    log: Log, registry: Registry
) -> None:
    async with Stage(log, registry) as stage:
        sku = await stage.stock()
        order = await stage.order(sku)
        await until(lambda: waits_for(stage, order) == 1)
        stock = [raw async for raw in log.read_stream(f"stock-{sku}")]
        placed = [raw async for raw in log.read_stream(f"order-{order}")]
        reserved, requested = json.loads(stock[-1].metadata), json.loads(placed[-1].metadata)
        assert reserved["$correlationId"] == requested["$correlationId"]
        assert reserved["principal"] == "process:fulfilment"
        assert (
            json.loads((await stage.records(order))[0].metadata)["$correlationId"]
            == (requested["$correlationId"])
        )
