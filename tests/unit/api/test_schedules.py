"""Commands for later over HTTP: what is promised, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from actors.schedules.records import ACCEPTED, Acceptance, new_record
from actors.schedules.schedules import Schedules
from eventstore.memory import MemoryLog
from eventstore.port import StreamAppend
from rayfold import Registry
from tests.unit.api.conftest import Gateway
from tests.unit.api.problems import problem

NEW_YEAR = "2030-01-01T00:00:00Z"


@pytest.fixture
async def later(registry: Registry) -> AsyncIterator[Gateway]:
    """A gateway that keeps commands in a log."""
    made = Gateway(registry, options={"schedules": Schedules(MemoryLog())})
    async with made.http:
        yield made


async def schedule(gateway: Gateway, when: str, key: str = "", **fields: Any) -> Any:
    headers = {"Rayfold-Not-Before": when} | ({"Idempotency-Key": key} if key else {})
    body = {"sku": "tea", "quantity": 1} | fields
    return await gateway.http.post("/commands/receive-stock", json=body, headers=headers)


async def test_a_command_for_later_is_kept_and_not_sent(later: Gateway) -> None:
    answer = await schedule(later, NEW_YEAR)
    assert answer.status_code == 202
    told = answer.json()
    assert told == {
        "command_id": told["command_id"],
        "status": "scheduled",
        "stream": "stock-tea",
        "command": "receive-stock",
        "not_before": NEW_YEAR,
    }
    assert answer.headers["location"] == f"/commands/{told['command_id']}"
    assert (await later.http.get(answer.headers["location"])).json() == told
    assert later.commands.sent == []


async def test_every_route_of_a_command_takes_the_header(later: Gateway) -> None:
    answer = await later.http.post(
        "/stock/tea/receive", json={"quantity": 1}, headers={"Rayfold-Not-Before": NEW_YEAR}
    )
    assert (answer.status_code, answer.json()["status"]) == (202, "scheduled")
    assert later.commands.sent == []


async def test_a_key_stands_for_one_command_at_one_time(later: Gateway) -> None:
    key = str(uuid4())
    first = await schedule(later, NEW_YEAR, key)
    again = await schedule(later, "2030-01-01T01:00:00+01:00", key)
    assert (again.status_code, again.json()) == (202, first.json())
    problem(await schedule(later, NEW_YEAR, key, quantity=2), 422, "idempotency-key-reused")
    problem(await schedule(later, "2030-01-01T00:00:01Z", key), 422, "idempotency-key-reused")


async def test_it_is_cancelled_by_its_id_or_by_its_key(later: Gateway) -> None:
    await schedule(later, NEW_YEAR, "new year")
    for _ in range(2):
        cancelled = await later.http.delete("/commands/new year")
        assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert (await later.http.get("/commands/new year")).json()["status"] == "cancelled"
    assert (await schedule(later, NEW_YEAR, "new year")).json()["status"] == "cancelled"
    for unknown in (str(uuid4()), "a-key"):
        told = problem(await later.http.delete(f"/commands/{unknown}"), 404, "not-scheduled")
        assert told["detail"].endswith(f"under the id {unknown}")


async def test_the_status_of_a_scheduled_decision_depends_on_the_views_of_all_its_streams() -> None:
    log, registry = MemoryLog(), Registry.load("examples.coupons")
    gateway = Gateway(registry, options={"schedules": Schedules(log)})
    async with gateway.http:
        body = {"coupon_id": "spring", "customer_id": "ada"}
        headers = {"Rayfold-Not-Before": NEW_YEAR}
        answer = await gateway.http.post("/commands/redeem-coupon", json=body, headers=headers)
        revisions = {"coupon-spring": 1, "customer-ada": 0}
        record = new_record(ACCEPTED, Acceptance(1, 7, revisions))
        stream = f"schedule-{answer.json()['command_id']}"
        await log.append([StreamAppend(stream, 0, [record])])
        gateway.queries.behind = ["customers"]
        told = (await gateway.http.get(answer.headers["location"])).json()
    assert (told["status"], told["behind"]) == ("processing", ["customers"])
    assert told["revisions"] == revisions


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1970-01-01T00:00:00Z", datetime(1970, 1, 1, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59.999999Z", datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
        ("2030-01-01t12:00:00.5-05:30", datetime(2030, 1, 1, 17, 30, 0, 500000, tzinfo=UTC)),
    ],
)
async def test_any_form_of_an_instant_is_accepted(
    later: Gateway, text: str, instant: datetime
) -> None:
    answer = await schedule(later, text)
    assert answer.status_code == 202
    assert datetime.fromisoformat(answer.json()["not_before"]) == instant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "17",
        "2030-01-01",
        "2030-01-01T00:00:00",
        "2030-02-30T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "9999-12-31T23:59:59-00:01",
        "0001-01-01T00:00:00+00:01",
        "2030-01-01T00:00:00Zz",
        "２０３０-01-01T00:00:00Z".encode().decode("latin-1"),
    ],
)
async def test_an_invalid_instant_is_refused_and_nothing_is_kept(later: Gateway, text: str) -> None:
    key = str(uuid4())
    headers = [("Rayfold-Not-Before", text.encode("latin-1")), ("Idempotency-Key", key)]
    answer = await later.http.post(
        "/commands/receive-stock", json={"sku": "tea", "quantity": 1}, headers=headers
    )
    problem(answer, 400, "malformed")
    problem(await later.http.get(f"/commands/{key}"), 404)
    assert later.commands.sent == []


async def test_two_instants_are_refused(later: Gateway) -> None:
    answer = await later.http.post(
        "/commands/receive-stock",
        json={"sku": "tea", "quantity": 1},
        headers=[("Rayfold-Not-Before", NEW_YEAR), ("Rayfold-Not-Before", NEW_YEAR)],
    )
    problem(answer, 400, "malformed")


async def test_an_invalid_command_is_refused_at_once(later: Gateway) -> None:
    problem(await schedule(later, NEW_YEAR, quantity=0), 422, "invalid-fields")


async def test_without_the_store_no_schedule_is_accepted(registry: Registry) -> None:
    log = MemoryLog()
    log.down = True
    made = Gateway(registry, options={"schedules": Schedules(log)})
    problem(await schedule(made, NEW_YEAR), 503)
