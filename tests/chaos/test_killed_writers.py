"""Writers are killed all the time; every receipt's events are on the log exactly once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from contextlib import suppress
from uuid import UUID, uuid4

from actors.envelope import Envelope, enclose
from actors.errors import Overloaded, Unavailable
from actors.write_side import WriteSide
from domain.inventory.stock import ReceiveStock, ReleaseStock, ReserveStock, StockItem
from domain.orders.commands import AddLine, CreateOrder, PayOrder, PlaceOrder
from domain.orders.order import Order
from eventstore.kurrentdb.log import EventLog
from eventstore.records import metadata_of, recorded
from rayfold import Command, Receipt, Refused, Registry

CLIENTS = 32
ORDERS = 192
ITEMS = 8
SECONDS = float(os.environ.get("RAYFOLD_CHAOS_SECONDS", "15"))
"""The issue asks for 60; `make test` runs a quarter of it."""

SALT = uuid4().hex[:8]


class Client:
    """Sends random commands, again with the same key until there is an outcome."""

    def __init__(self, registry: Registry, side: WriteSide, orders: list[UUID]) -> None:
        self._registry = registry
        self._side = side
        self._orders = orders
        self.receipts: list[tuple[str, Receipt]] = []
        self.refused = 0
        self.again = 0

    async def run(self, killing: asyncio.Task[int]) -> None:
        """For as long as writers are killed, one command after the other."""
        while not killing.done():
            await self._send(enclose(self._registry, self._any_command()))

    async def _send(self, envelope: Envelope) -> None:
        while True:
            try:
                receipt = await self._side.bus.send(envelope)
            except Refused:
                self.refused += 1
                return
            except (Unavailable, Overloaded):
                self.again += 1
            else:
                self.receipts.append((envelope.command_id, receipt))
                return

    def _any_command(self) -> Command:
        if random.random() < 0.2:
            kind = random.choice([ReceiveStock, ReserveStock, ReserveStock, ReleaseStock])
            sku = f"{SALT}-{random.randrange(ITEMS)}"
            return kind(sku=sku, quantity=random.randint(1, 5))
        order = random.choice(self._orders)
        return random.choice(
            [
                CreateOrder(order_id=order, customer_id="ada"),
                AddLine(
                    order_id=order,
                    sku=random.choice("abc"),
                    quantity=1,
                    unit_price_cents=random.choice([100, 100, 100, 101]),
                ),
                AddLine(order_id=order, sku="d", quantity=2, unit_price_cents=5),
                PlaceOrder(order_id=order),
                PayOrder(order_id=order),
            ]
        )


async def kill_one_each_second(side: WriteSide) -> int:
    """SIGKILL to any writer's process, for so long and until there were some."""
    kills = 0
    began = asyncio.get_running_loop().time()
    while (lasted := asyncio.get_running_loop().time() - began) < SECONDS or kills < SECONDS / 4:
        assert lasted < 10 * SECONDS, f"only {kills} writers were killed"
        await asyncio.sleep(0.4)  # asking for the processes takes the rest of a second
        for pid in random.sample(pids := await side.pids(), min(len(pids), 1)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                kills += 1
    return kills


async def test_every_effect_is_on_the_log_once(
    registry: Registry, side: WriteSide, eventstore: str
) -> None:
    orders = [uuid4() for _ in range(ORDERS)]
    clients = [Client(registry, side, orders) for _ in range(CLIENTS)]
    await side.scale(2)
    killing = asyncio.create_task(kill_one_each_second(side))
    await asyncio.gather(*(client.run(killing) for client in clients))
    kills = await killing
    await side.scale(1)

    log = EventLog(eventstore)
    streams = [Order.stream(order) for order in orders]
    streams += [StockItem.stream(f"{SALT}-{item}") for item in range(ITEMS)]
    written: Counter[str] = Counter()
    places: dict[str, tuple[str, int]] = {}
    for stream in streams:
        aggregate = StockItem if stream.startswith("stock-") else Order
        state = aggregate.initial
        expected = 0
        async for raw in log.read_stream(stream):
            assert raw.revision == expected, stream
            expected += 1
            command_id = metadata_of(raw)["commandId"]
            written[command_id] += 1
            places[command_id] = (stream, raw.revision)
            [(event, *_)] = recorded(registry, raw)
            assert_allowed(aggregate, state, event)
            state = aggregate.evolve(state, event)
    await log.close()

    receipts = [receipt for client in clients for receipt in client.receipts]
    again = sum(client.again for client in clients)
    print(f"{len(receipts)} receipts, {kills} kills, {again} commands sent again")
    assert len(receipts) > CLIENTS
    assert set(written.values()) == {1}  # each command here has one event
    for command_id, receipt in receipts:
        assert places[command_id] == (receipt.stream, receipt.revision)
    assert len(written) == len(receipts)  # every client waited for its outcome


def assert_allowed(aggregate: type, state: object, event: object) -> None:
    """The rules, told again from the other side: what may happen in which state."""
    name = type(event).__name__
    if aggregate is StockItem:
        if name == "StockReserved":
            assert event.quantity <= state.on_hand - state.reserved, "oversold"
        elif name == "StockReleased":
            assert event.quantity <= state.reserved
        return
    allowed = {
        "OrderCreated": "none",
        "LineAdded": "open",
        "OrderPlaced": "open",
        "OrderPaid": "placed",
    }
    assert state.status == allowed[name], (name, state.status)
    if name == "OrderPlaced":
        assert len(state.lines) > 0
        assert event.total_cents == sum(line.cents for line in state.lines)
