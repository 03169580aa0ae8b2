"""A stack that starts again: memory begins with what Postgres has, and shows the same as before."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx

from eventstore.kurrentdb.log import EventLog
from eventstore.port import StreamAppend
from eventstore.records import NewRecord
from rayfold import Registry
from tests.integration.projections.conftest import postgres
from tests.integration.projections.test_poison import dsn
from tests.integration.stack.orders import add, create, read
from tests.stack import Stack, run_rayfold

__all__ = ["dsn", "postgres"]

IN_BOTH = {
    "customer-profiles",
    "fulfilments",
    "order-details",
    "order-summaries",
    "sales-by-day",
    "stock-levels",
}
"""Of the reference domain; `order-entries` is in memory alone."""


def of_orders(view: str) -> bool:
    registry = Registry.load("domain")
    return "order-" in registry.prefixes_of([registry.views[view]])


def test_memory_begins_with_the_rows_of_postgres(tmp_path: Path, dsn: str) -> None:
    stack = Stack(tmp_path / "data", "--postgres", dsn)
    stack.start()
    customer = f"c-{uuid4()}"
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        orders = [create(http, customer) for _ in range(7)]
        for at, order in enumerate(orders):
            for line in range(at):
                add(http, order, f"sku-{line}")
        http.post(f"/orders/{orders[3]}/place").raise_for_status()
        asyncio.run(_append_unreadable(stack, f"order-{orders[0]}"))
        token = http.post(f"/orders/{orders[4]}/place").headers["consistency-token"]
        before = _seen(http, orders, customer, token)
        parked = _parked(http)
        # Whatever it is, it may concern any view that folds events of orders.
        assert {(each["store"], each["view"]) for each in parked} == {
            *(("postgres", view) for view in IN_BOTH if of_orders(view)),
            *(("memory", view) for view in (*IN_BOTH, "order-entries") if of_orders(view)),
        }
        [memory] = _memory(http)
        assert "filled" not in memory  # there was nothing yet
    assert stack.stop() == 0
    stack.start()
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        [memory] = _memory(http)
        assert set(memory["filled"]) == IN_BOTH
        assert memory["filled"]["order-details"] == len(orders)
        assert _seen(http, orders, customer, token) == before
        assert _parked(http) == parked
        assert http.get("/operators/verify").json() == {"differences": []}
        # It goes on from there.
        token = add(http, orders[1], "late").headers["consistency-token"]
        for store in ("memory", "postgres"):
            assert read(http, orders[1], token, store)["lines"][-1]["sku"] == "late"
        assert http.get("/operators/verify").json() == {"differences": []}
    assert stack.stop() == 0
    # Had memory folded the log, it would not show what somebody did to the table.
    asyncio.run(_spoil(dsn, orders[5]))
    stack.start()
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        assert read(http, orders[5], token, "memory")["total_cents"] == 1
        said = http.get("/operators/verify").json()["differences"]
        assert {(each["view"], each["key"]) for each in said} == {("order-details", orders[5])}
        assert len(said) == 2  # in both stores
        run_rayfold(stack, "rebuild", "order-details")
        assert http.get("/operators/verify").json() == {"differences": []}
        assert read(http, orders[5], token, "memory")["total_cents"] == 5 * 450
    assert stack.stop() == 0


def _seen(http: httpx.Client, orders: list[str], customer: str, token: str) -> Any:
    found: list[Any] = [
        read(http, order, token, store) for order in orders for store in ("memory", "postgres")
    ]
    for wanted in ({"customer_id": customer}, {"status": "placed"}, {"limit": 3}):
        page = http.get("/orders", params=wanted, headers={"Consistency-Token": token})
        assert page.status_code == 200, page.text
        found.append(page.json())
    found.append(http.get(f"/orders/{orders[2]}/entries").json())
    return found


def _parked(http: httpx.Client) -> list[dict[str, Any]]:
    """What is parked in the two stores that this is about; Redis may not have come so far."""
    parked: list[dict[str, Any]] = http.get("/operators/parked").json()["parked"]
    parked = [each for each in parked if each["store"] != "redis"]
    return sorted(parked, key=lambda each: (each["store"], each["view"]))


def _memory(http: httpx.Client) -> list[dict[str, Any]]:
    parts = http.get("/operators/status").json()["parts"]
    return [part for part in parts if part["kind"] == "memory"]


def test_a_view_in_memory_alone_begins_with_its_snapshot(tmp_path: Path, dsn: str) -> None:
    stack = Stack(tmp_path / "data", "--postgres", dsn)
    stack.start()
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        orders = [create(http, f"c-{uuid4()}") for _ in range(3)]
        for order in orders:
            token = add(http, order, "tea").headers["consistency-token"]
            read(http, order, token, "memory")
    assert stack.stop() == 0
    stack.start()
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        [memory] = _memory(http)
        assert memory["filled"]["order-entries"] == len(orders)
        late = add(http, orders[1], "cake").headers["consistency-token"]
        for order, lines in zip(orders, (1, 2, 1), strict=True):
            found = read(http, order, late, "memory")
            assert len(found["lines"]) == lines
        assert http.get("/operators/verify").json() == {"differences": []}
    assert stack.stop() == 0


async def _append_unreadable(stack: Stack, stream: str) -> None:
    log = EventLog((stack.data / "eventstore.uri").read_text())
    await log.append([StreamAppend(stream, 0, [NewRecord("Unheard", b"{}", {}, str(uuid4()))])])
    await log.close()


async def _spoil(dsn: str, order: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "UPDATE order_details SET total_cents = 1 WHERE order_id = $1::text::uuid", order
    )
    await connection.close()
