"""Health: alive, able to serve something, complete."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import pytest

from api.operators import health
from rayfold import Registry
from tests.unit.api.conftest import Gateway
from tests.unit.api.fakes import FakeOperations
from tests.unit.api.problems import problem


async def test_live_says_that_the_gateway_answers(gateway: Gateway) -> None:
    assert (await gateway.http.get("/health/live")).status_code == 200


async def test_it_is_ready_while_any_part_can_serve(gateway: Gateway) -> None:
    gateway.operations.known.append({"part": "postgres#0", "ready": False})
    assert (await gateway.http.get("/health/ready")).status_code == 200
    gateway.operations.known[0]["ready"] = False
    reply = await gateway.http.get("/health/ready")
    missing = problem(reply, 503, "not-ready")["parts"]
    assert [each["part"] for each in missing] == ["memory:all#0", "postgres#0"]
    assert "retry-after" in reply.headers
    gateway.operations.known.clear()
    problem(await gateway.http.get("/health/ready"), 503, "not-ready")


class CountedOperations(FakeOperations):
    """Counts how often the parts are asked."""

    asked = 0

    async def parts(self) -> list[dict[str, Any]]:
        self.asked += 1
        await asyncio.sleep(0)
        return await super().parts()


@pytest.mark.parametrize(("fresh", "looks"), [(3600.0, 1), (-1.0, 2)])
async def test_however_many_ask_the_parts_are_checked_only_now_and_then(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, fresh: float, looks: int
) -> None:
    """No token is needed to ask."""
    monkeypatch.setattr(health, "FRESH", fresh)
    operations = CountedOperations()
    made = Gateway(registry, operations=operations)
    async with made.http as http:
        for _ in range(2):
            paths = ("/health/ready", "/health/parts") * 10
            replies = await asyncio.gather(*map(http.get, paths))
            assert {each.status_code for each in replies} == {200}
    assert operations.asked == looks


async def test_the_list_of_parts_names_what_is_not_ready_and_since_when(gateway: Gateway) -> None:
    reply = await gateway.http.get("/health/parts")
    assert reply.json() == {"status": "ready", "parts": ["memory:all#0"]}
    gateway.operations.known.append({"part": "postgres#0", "ready": False})
    first = problem(await gateway.http.get("/health/parts"), 503, "not-ready")["parts"]
    assert [each["part"] for each in first] == ["postgres#0"]
    assert datetime.fromisoformat(first[0]["since"]).tzinfo is not None
    assert "error" not in first[0]
    gateway.operations.known[1] |= {"error": "10.0.0.7 recovers", "plainly": "it is a standby"}
    told = problem(await gateway.http.get("/health/parts"), 503, "not-ready")
    assert told["detail"] == "not ready: postgres#0 (it is a standby)"
    assert told["parts"] == [first[0] | {"error": "it is a standby"}]
    del gateway.operations.known[1]["plainly"]
    again = problem(await gateway.http.get("/health/parts"), 503, "not-ready")["parts"]
    assert again == first
    gateway.operations.known[1]["ready"] = True
    assert (await gateway.http.get("/health/parts")).status_code == 200


async def test_a_server_alone_does_not_make_the_gateway_ready(gateway: Gateway) -> None:
    gateway.operations.known.append({"part": "eventstore", "ready": True, "serves": False})
    gateway.operations.known[0]["ready"] = False
    missing = problem(await gateway.http.get("/health/ready"), 503, "not-ready")["parts"]
    assert [each["part"] for each in missing] == ["memory:all#0"]
    gateway.operations.known[0]["ready"] = True
    gateway.operations.known[1]["ready"] = False
    assert (await gateway.http.get("/health/ready")).status_code == 200
    missing = problem(await gateway.http.get("/health/parts"), 503, "not-ready")["parts"]
    assert [each["part"] for each in missing] == ["eventstore"]
