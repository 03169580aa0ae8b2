"""The effect of an event in each store, derived from positions and parked events."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.orders.events import OrderCreated
from eventstore.memory import MemoryLog
from eventstore.port import StreamAppend
from eventstore.records import NewRecord, RawRecord
from projections import discarded_events as discards
from projections.errors import ActorUnavailable
from projections.operations.applications import Applications
from projections.parked_pages import Asked, in_order
from projections.poison import Parked
from projections.supervision.placements import Placements
from projections.supervision.progress import ObservedProgress
from rayfold import Registry
from tests.own_loop import own_loop

REGISTRY = Registry.load("domain")
ORDER = UUID(int=7)
STREAM = f"order-{ORDER}"


class Handle:
    """An actor that is at a position."""

    def __init__(self, name: str, kind: str, views: list[str]) -> None:
        self.name, self.kind, self.views = name, kind, views
        self.progress = ObservedProgress()
        self.ready = True
        self.seen: dict[str, Any] = {}
        self.is_parked: list[Parked] | None = []
        self.given = 0
        """How much it has said is parked."""

    async def parked(self, asked: Asked) -> list[Parked]:
        if self.is_parked is None:
            raise ActorUnavailable(self.name)
        given = asked.of(in_order(self.is_parked))
        self.given += len(given)
        return given


class Side:
    """A log with one event of an order, and a handle in each store for the order's details."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        self.memory = Handle("memory:all#0", "memory", ["order-details"])
        self.postgres = Handle("postgres:order-details#0", "postgres", ["order-details"])
        self.placements = placements = Placements()
        placements.replicas = [self.memory]  # type: ignore[list-item]
        placements.keep("postgres", {"order-details": [self.postgres]})  # type: ignore[list-item]
        self.applications = Applications(REGISTRY, self.log, placements)

    async def write(self) -> RawRecord:
        created = OrderCreated(order_id=ORDER, customer_id="ada", currency="EUR", at=_now())
        body = OrderCreated.__rayfold__.encode(created)
        new = NewRecord("OrderCreated", body, {"schemaVersion": "1"}, str(uuid4()))
        await self.log.append([StreamAppend(STREAM, None, [new])])
        [raw] = [raw async for raw in self.log.read_stream(STREAM)]
        return raw

    async def told(self, raw: RawRecord) -> dict[str, dict[str, Any]]:
        """Return what is told of the order's details, by store."""
        found = await self.applications.of([raw])
        mine = [each for each in found[STREAM, 0] if each["view"] == "order-details"]
        return {each["store"]: each for each in mine}


def _now() -> Any:
    from datetime import UTC, datetime

    return datetime.now(UTC)


async def test_a_part_that_leaves_during_a_request_is_reported_as_it_was(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example, a view is scaled or rebuilt meanwhile."""
    raw = await side.write()
    for each in (side.memory, side.postgres):
        each.progress.advance(raw.position)

    async def parked(asked: Asked) -> list[Parked]:
        side.placements.replicas = []
        return []

    monkeypatch.setattr(side.memory, "parked", parked)
    told = await side.told(raw)
    assert (told["memory"]["status"], told["memory"]["part"]) == ("applied", side.memory.name)


@pytest.fixture
def side() -> Side:
    return Side()


async def test_a_store_past_the_event_has_applied_it_and_one_before_it_waits(side: Side) -> None:
    raw = await side.write()
    side.memory.progress.advance(raw.position)
    told = await side.told(raw)
    assert told["memory"]["status"] == "applied"
    assert told["memory"]["key"] == str(ORDER)
    assert told["postgres"]["status"] == "waiting"


@own_loop
async def test_the_time_is_known_if_the_store_was_seen_to_pass_the_event(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = await side.write()
    assert raw.recorded_at is not None
    at = raw.recorded_at.timestamp()
    side.postgres.progress.advance(raw.position)  # it was there when first seen
    monkeypatch.setattr(time, "time", lambda: at)
    side.memory.progress._seen.append((at - 1, raw.position - 1))
    monkeypatch.setattr(time, "time", lambda: at + 0.25)
    side.memory.progress.advance(raw.position)
    told = await side.told(raw)
    assert told["memory"]["within_seconds"] == 0.25
    assert told["postgres"]["within_seconds"] is None


async def test_a_parked_event_says_why_and_a_later_one_what_it_waits_behind(side: Side) -> None:
    raw = await side.write()
    side.memory.progress.advance(raw.position)
    side.postgres.progress.advance(raw.position)
    parked = Parked("order-details", str(ORDER), STREAM, 0, raw.position, "division by zero")
    side.postgres.is_parked = [parked]
    told = await side.told(raw)
    assert told["memory"]["status"] == "applied"
    assert (told["postgres"]["status"], told["postgres"]["error"]) == ("parked", "division by zero")
    side.postgres.is_parked = [parked._replace(position=raw.position - 1, revision=4)]
    told = await side.told(raw)
    assert told["postgres"]["error"] == f"waits behind 4@{STREAM}: division by zero"


@pytest.mark.parametrize("key", [str(ORDER), ""])
async def test_only_parked_events_that_concern_the_event_are_read(side: Side, key: str) -> None:
    raw = await side.write()
    side.postgres.progress.advance(raw.position)
    others = [Parked("order-details", f"o{at}", f"order-o{at}", 0, 1, "no") for at in range(100)]
    parked = Parked("order-details", key, STREAM, 0, raw.position, "division by zero")
    side.postgres.is_parked = [*others, parked]
    assert (await side.told(raw))["postgres"]["error"] == "division by zero"
    assert side.postgres.given == 1


async def test_a_discarded_event_is_applied_nowhere(side: Side) -> None:
    raw = await side.write()
    side.postgres.progress.advance(raw.position)
    parked = Parked("order-details", str(ORDER), STREAM, 0, raw.position, "broke")
    await discards.record(side.log, parked)
    assert (await side.told(raw))["postgres"]["status"] == "discarded"


async def test_a_view_that_stopped_and_a_part_that_is_silent_say_so(side: Side) -> None:
    raw = await side.write()
    side.postgres.seen = {"stopped": {"order-details": "broke"}}
    side.memory.progress.advance(raw.position)
    side.memory.is_parked = None
    told = await side.told(raw)
    assert (told["postgres"]["status"], told["postgres"]["error"]) == ("stopped", "broke")
    assert told["memory"]["status"] == "applied"
    assert "does not answer" in told["memory"]["error"]
