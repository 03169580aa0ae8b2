"""The consequences of a command: found by the ids on the log, within a bound."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from actors.envelope import enclose
from actors.local import LocalRuntime
from actors.processes.checkpoints import Layout
from actors.processes.runner import ProcessRunner
from actors.schedules.schedules import Schedules
from deploy.cli.causality import lines_of
from deploy.stack.causality import Causality
from domain.inventory.stock import ReceiveStock
from domain.orders.commands import AddLine, CreateOrder, PlaceOrder
from eventstore import correlation
from eventstore.memory import MemoryLog
from eventstore.port import ANY, StreamAppend
from eventstore.records import NewRecord, RawRecord
from projections.parked_pages import Asked
from projections.publications.records import lane_of
from rayfold import Registry, Rejected

REGISTRY = Registry.load("domain")
ORDER = UUID(int=7)


class Outcomes:
    """What a writer remembers."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[str, Any]] = {}

    async def outcome(self, command_id: str) -> tuple[str, Any] | None:
        return self.known.get(command_id)


class NotApplied:
    """Views that nobody folds."""

    async def of(self, records: Sequence[RawRecord]) -> dict[Any, Any]:
        return {(raw.stream, raw.revision): [] for raw in records}


class Outbound:
    """`order-news` at a position, with what is parked of it; no reactors."""

    def __init__(self) -> None:
        self.position = 10**9
        self.parked_keys: list[dict[str, Any]] = []

    @property
    def publications(self) -> Any:
        return self

    @property
    def reactors(self) -> Any:
        return self

    async def parked_under(self, name: str, lanes: Sequence[str]) -> list[dict[str, Any]]:
        assert name == "order-news"
        return [each for each in self.parked_keys if lane_of(each["key"], "") in lanes]

    async def parked(self, asked: Asked) -> list[dict[str, Any]]:
        assert asked.among  # all that is parked may be as much as there are events
        return []

    def status(self) -> list[dict[str, Any]]:
        part = {"part": "publication:order-news", "publication": "order-news"}
        return [part | {"position": self.position}]


class Stack:
    """A write side in this process, with the reference domain's saga running over it."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        self.local = LocalRuntime(REGISTRY, self.log)
        self.outcomes = Outcomes()
        self.outbound = Outbound()
        applications: Any = NotApplied()
        self.causality = Causality(REGISTRY, self.log, self.outcomes, applications, self.outbound)
        saga = REGISTRY.processes["fulfilment"]
        self.runner = ProcessRunner(
            REGISTRY, saga, self.log, self.local.bus, layout=Layout(0, 1, 0)
        )

    async def of(self, *asked: str, scan: int = 1000) -> dict[str, Any]:
        found = await self.causality.of(asked, scan)
        assert found is not None
        return found

    async def place(self, sku: str, command_id: UUID) -> None:
        """Place an order of one item, to be fulfilled."""
        await self.local.send(CreateOrder(order_id=ORDER, customer_id="ada"))
        await self.local.send(AddLine(order_id=ORDER, sku=sku, quantity=1, unit_price_cents=100))
        await self.local.send(PlaceOrder(order_id=ORDER, fulfil=True), command_id=command_id)

    async def until(self, event_type: str) -> None:
        """Wait until the log has such an event."""
        async with asyncio.timeout(60), aclosing(self.log.subscribe([""], None)) as batches:
            async for batch in batches:
                if any(raw.event_type == event_type for raw in batch.records):
                    return


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    made = Stack()
    await made.runner.start()
    yield made
    await made.runner.stop()


def plain(found: dict[str, Any]) -> list[tuple[int, str | None, str, list[str]]]:
    return [
        (each["depth"], each["command"], each["status"], [e["type"] for e in each["events"]])
        for each in found["commands"]
    ]


async def test_a_command_is_shown_with_what_processes_sent_because_of_it(stack: Stack) -> None:
    command_id = uuid4()
    await stack.local.send(ReceiveStock(sku="pen", quantity=5))
    await stack.place("pen", command_id)
    await stack.until("ProcessCommandAccepted")
    found = await stack.of(str(command_id))
    assert found["complete"]
    assert found["correlation_id"] == str(command_id)
    assert plain(found) == [
        (0, None, "accepted", ["OrderPlaced", "FulfilmentRequested"]),
        (1, "reserve-stock", "accepted", ["StockReserved"]),
    ]
    placed, reserved = found["commands"]
    assert reserved["caused_by"] == str(command_id)
    [told] = [step for step in placed["steps"] if step["sends"]]
    assert told["sends"] == [reserved["command_id"]]
    assert told["because"] == {"stream": f"order-{ORDER}", "revision": 3}
    assert reserved["sent_by"] == {"stream": told["stream"], "revision": told["revision"]}
    json.dumps(found, default=str)
    assert any("reserve-stock" in line for line in lines_of(found))


async def test_an_event_in_the_middle_leads_to_the_same_tree(stack: Stack) -> None:
    command_id = uuid4()
    await stack.local.send(ReceiveStock(sku="pen", quantity=5))
    await stack.place("pen", command_id)
    await stack.until("ProcessCommandAccepted")
    whole = plain(await stack.of(str(command_id)))
    for place in ("1@stock-pen", "stock-pen@1", f"2@order-{ORDER}"):
        assert plain(await stack.of(place)) == whole


async def test_a_refused_command_of_a_process_is_shown_with_its_rule(stack: Stack) -> None:
    command_id = uuid4()
    await stack.local.send(ReceiveStock(sku="pen", quantity=1))
    await stack.local.send(ReceiveStock(sku="ink", quantity=1))
    await stack.place("rare", command_id)
    await stack.until("OrderCancelled")
    found = await stack.of(str(command_id))
    refused = next(each for each in found["commands"] if each["command"] == "reserve-stock")
    assert refused["status"] == "rejected"
    assert refused["code"]
    cancel = next(each for each in found["commands"] if each["command"] == "cancel-order")
    assert cancel["caused_by"] == refused["command_id"]
    assert cancel["depth"] == 2
    [news] = [told for event in cancel["events"] for told in event["outgoing"]]
    assert (news["publication"], news["status"]) == ("order-news", "delivered")


async def test_events_not_yet_published_or_parked_are_marked(stack: Stack) -> None:
    command_id = uuid4()
    await stack.place("rare", command_id)
    await stack.until("OrderCancelled")

    async def status() -> tuple[str, str | None]:
        found = await stack.of(str(command_id))
        events = [event for command in found["commands"] for event in command["events"]]
        [told] = [told for event in events for told in event["outgoing"]]
        return told["status"], told.get("error")

    stack.outbound.position = 1
    assert await status() == ("waiting", None)
    parked = {"key": str(ORDER), "stream": "", "position": 1, "error": "HTTP 500"}
    stack.outbound.parked_keys = [parked]
    assert await status() == ("parked", "HTTP 500")


async def test_a_rejected_command_is_known_as_long_as_its_writer_remembers_it(
    stack: Stack,
) -> None:
    stack.outcomes.known["c"] = "order-1", Rejected("empty-order", "an empty order")
    [command] = (await stack.of("c"))["commands"]
    assert (command["status"], command["code"]) == ("rejected", "empty-order")
    assert await stack.causality.of(["unknown"], 100) is None


async def test_a_scheduled_command_is_shown_before_it_is_sent(stack: Stack) -> None:
    command_id = uuid4()
    envelope = enclose(REGISTRY, ReceiveStock(sku="pen", quantity=1), command_id=command_id)
    due = datetime.now(UTC) + timedelta(days=1)
    await Schedules(stack.log).schedule(envelope, due)
    [command] = (await stack.of(str(command_id)))["commands"]
    assert (command["command"], command["status"]) == ("receive-stock", "scheduled")
    assert command["scheduled"]["not_before"].startswith(due.date().isoformat())
    await Schedules(stack.log).cancel(str(command_id), "me")
    [command] = (await stack.of(str(command_id)))["commands"]
    assert command["status"] == "cancelled"


def record(command_id: str, correlation_id: str, cause: str = "") -> NewRecord:
    ids = {"$correlationId": correlation_id, "commandId": command_id}
    ids["$causationId"] = cause or command_id
    return NewRecord("StockReceived", b'{"sku":"x","quantity":1}', ids, str(uuid4()))


async def appended(log: MemoryLog, *records: NewRecord) -> None:
    await log.append([StreamAppend("stock-x", ANY, list(records))])


async def test_a_circle_of_causes_and_a_long_chain_end(stack: Stack) -> None:
    await appended(stack.log, record("a", "c", "b"), record("b", "c", "a"))
    found = await stack.of("c")
    assert {each["command_id"] for each in found["commands"]} == {"a", "b"}
    chain = [record(f"n{at}", "n0", f"n{max(at - 1, 0)}") for at in range(450)]
    await appended(stack.log, *chain)
    found = await stack.of("n449")
    assert [each["depth"] for each in found["commands"]] == list(range(450))
    json.dumps(found, default=str)  # flat: as deep a tree as there is


async def test_a_very_large_correlation_is_cut_and_says_so(stack: Stack) -> None:
    await appended(stack.log, *(record(f"n{at}", "import") for at in range(800)))
    found = await stack.of("import", scan=2000)
    assert len(found["commands"]) == correlation.MOST
    assert found["left_out"] == 300
    assert not found["complete"]


async def test_a_search_reads_no_more_than_it_may_and_says_so(stack: Stack) -> None:
    await appended(stack.log, record("early", "early"))
    await appended(stack.log, *(record(f"n{at}", f"n{at}") for at in range(300)))
    assert await stack.causality.of(["early"], 100) is None
    found = await stack.of("0@stock-x", scan=100)
    assert not found["complete"]
    assert (await stack.of("early", scan=1000))["complete"]


async def test_events_of_another_client_are_shown_without_a_command(stack: Stack) -> None:
    foreign = NewRecord("StockReceived", b'{"sku":"x","quantity":1}', {}, str(uuid4()))
    await appended(stack.log, foreign)
    [command] = (await stack.of("0@stock-x"))["commands"]
    assert command["command_id"] == ""
    assert [each["revision"] for each in command["events"]] == [0]
    assert any("another writer" in line for line in lines_of(await stack.of("0@stock-x")))


def test_equal_answers_of_replicas_are_one_line() -> None:
    row = {"store": "memory", "view": "orders", "key": "1", "status": "applied"}
    applications = [
        {**row, "within_seconds": 0.1},
        {**row, "within_seconds": 0.3},
        row,
        {**row, "status": "parked", "error": "it broke"},
        {**row, "store": "postgres"},
    ]
    event = {"type": "OrderPlaced", "revision": 0, "stream": "order-1", "position": 5}
    command = {
        "depth": 0,
        "command": "place-order",
        "command_id": "c",
        "status": "accepted",
        "principal": "",
        "scheduled": None,
        "steps": [],
        "events": [{**event, "recorded_at": None, "applications": applications, "outgoing": []}],
    }
    found = {"commands": [command], "left_out": 0, "complete": True}
    assert [line.strip() for line in lines_of(found)][2:] == [
        "memory orders 1: applied within 0.300 s",
        "memory orders 1: parked: it broke",
        "postgres orders 1: applied",
    ]
