"""A gateway over fakes whose answers have the form that the document promises."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from datetime import datetime
from typing import Any

from actors.envelope import Envelope
from actors.schedules import schedules
from eventstore.memory import MemoryLog
from rayfold import Answer, PageQuery, Query, Registry
from tests.unit.api.conftest import Gateway
from tests.unit.api.fakes import ORDER_ID, FakeHistories, FakeOperations, FakeQueries

AT = "2026-11-27T10:00:00Z"
LINE = {"sku": "tea", "quantity": 2, "unit_price_cents": 450}
ORDER = {"order_id": ORDER_ID, "customer_id": "ada", "status": "open", "total_cents": 900}
ROWS: dict[str, dict[str, Any]] = {
    "customer-profiles": {
        "customer_id": ORDER_ID,
        "name": "Ada",
        "email": "ada@example.org",
        "registered_at": AT,
    },
    "fulfilments": {
        "order_id": ORDER_ID,
        "stage": "reserving",
        "wanted": {"tea": 2},
        "reserved": {},
        "requested_at": AT,
    },
    "order-details": {**ORDER, "currency": "EUR", "lines": [LINE], "created_at": AT},
    "order-entries": {**ORDER, "lines": [LINE]},
    "order-summaries": {**ORDER, "currency": "EUR", "created_at": AT},
    "sales-by-day": {"day": "2026-11-27", "orders": 1, "total_cents": {"EUR": 900}},
    "stock-levels": {"sku": "tea", "on_hand": 3, "reserved": 1, "available": 2},
}
EVENT = {
    "type": "OrderCreated",
    "revision": 0,
    "position": 17,
    "recorded_at": AT,
    "data": {"order_id": ORDER_ID},
    "metadata": {"principal": "anonymous"},
}


class Queries(FakeQueries):
    """Answers each query with a row of its view, or with a page of one."""

    async def ask(self, query: Query, **_: Any) -> Answer:
        """See `QueryBus.ask`."""
        document = _document(query)
        if isinstance(query, PageQuery):
            page = {"items": [document], "next_cursor": None}
            return Answer(_compact(page), None, 42)
        return Answer(_compact(document), 3, 42)

    async def live(self, query: Query, **_: Any) -> AsyncIterator[tuple[int, bytes]]:
        """See `QueryBus.live`; two states, and then the end."""
        yield 42, _compact(_document(query))
        yield 43, _compact(_document(query))


class Histories(FakeHistories):
    """Answers with one event, and with a row of the view."""

    async def events(self, *_: Any, **__: Any) -> AsyncGenerator[dict[str, Any], None]:
        """See `History.events`."""
        yield EVENT

    async def as_of(self, view: Any, *_: Any) -> tuple[bytes, int] | None:
        """See `History.as_of`."""
        return _compact({**ROWS[view.name], "revision": 3}), 17


class Operations(FakeOperations):
    """Has one parked event, and a log with one."""

    async def parked(self, *_: Any) -> list[dict[str, Any]]:
        """See `Operations.parked`."""
        return [{"store": "memory", "view": "order-details", "key": ORDER_ID}]

    async def parked_event(self, stream: str, revision: int) -> dict[str, Any] | None:
        """See `Operations.parked_event`."""
        return {**EVENT, "stream": stream, "revision": revision, "data": "{}"}

    async def replay(self, view: str, key: str) -> list[dict[str, Any]]:
        """See `Operations.replay`."""
        return [{"store": "memory", "view": view, "key": key, "parked": False}]


class Schedules(schedules.Schedules):
    """Keeps every command for later."""

    async def schedule(
        self, envelope: Envelope, not_before: datetime, role: str, permissions: Collection[str]
    ) -> dict[str, Any]:
        """See `Schedules.schedule`."""
        about = {"command_id": envelope.command_id, "status": "scheduled"}
        place = {"stream": envelope.stream, "command": envelope.command}
        return {**about, **place, "not_before": not_before}


def gateway(**options: Any) -> Gateway:
    """Return a gateway of the reference domain."""
    return Gateway(
        Registry.load("domain"),
        queries=Queries(),
        histories=Histories(),
        operations=Operations(),
        options={"schedules": Schedules(MemoryLog()), **options},
    )


def _document(query: Query) -> dict[str, Any]:
    view = query.__rayfold__.view
    row = view.model.model_validate_json(json.dumps(ROWS[view.name]))
    return {**json.loads(row.model_dump_json()), "revision": 3}


def _compact(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
