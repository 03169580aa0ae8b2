"""What operators are told of processes, and what they get wrong."""

from __future__ import annotations

from typing import Any

import pytest

from actors.errors import NoSuchProcess, ProcessStuck
from rayfold import Registry
from tests.unit.api.conftest import Gateway
from tests.unit.api.problems import problem


class Processes:
    """One process, and what was asked of it."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def list(self, name: str | None, *, parked: bool, limit: int) -> dict[str, Any]:
        self.asked.append((name, parked, limit))
        if name == "nobody":
            raise NoSuchProcess(name)
        return {"processes": [], "total": 0}

    async def schedules(self, limit: int) -> dict[str, Any]:
        return {"schedules": [], "total": limit}

    async def show(self, name: str, key: str) -> dict[str, Any]:
        if key == "no one":
            raise NoSuchProcess(name, key)
        return {"process": name, "key": key}

    async def retry(self, name: str, key: str) -> None:
        await self.show(name, key)
        self.asked.append(("retry", name, key))

    async def abort(self, name: str, key: str, *, as_it_is: bool = False) -> None:
        if key == "stuck" and not as_it_is:
            raise ProcessStuck(name, key, "it cannot be read")
        self.asked.append(("abort", name, key))


@pytest.fixture
def processes() -> Processes:
    return Processes()


@pytest.fixture
def told(registry: Registry, processes: Processes) -> Gateway:
    return Gateway(registry, options={"processes": processes})


async def test_processes_are_listed_by_manager_and_by_whether_they_are_parked(
    told: Gateway, processes: Processes
) -> None:
    assert (await told.http.get("/processes")).json() == {"processes": [], "total": 0}
    await told.http.get("/processes?process=fulfilment&parked=true&limit=7")
    assert processes.asked == [(None, False, 100), ("fulfilment", True, 7)]
    problem(await told.http.get("/processes?process=nobody"), 404, "not-found")
    assert (await told.http.get("/operators/schedules?limit=3")).json()["total"] == 3


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "limit=²", "parked=yes", "colour=red", "limit=1&limit=2"],
)
async def test_an_invalid_question_is_named(told: Gateway, query: str) -> None:
    problem(await told.http.get(f"/processes?{query}"), 422)


async def test_a_process_with_any_key_can_be_shown(told: Gateway) -> None:
    shown = await told.http.get("/processes/fulfilment/a%2Fb%20c")
    assert shown.json() == {"process": "fulfilment", "key": "a/b c"}
    problem(await told.http.get("/processes/fulfilment/no%20one"), 404, "not-found")


async def test_operators_retry_and_abort(told: Gateway, processes: Processes) -> None:
    order = {"process": "fulfilment", "key": "1"}
    for what in ("retry", "abort"):
        answer = await told.http.post(f"/operators/processes/{what}", json=order)
        assert (answer.status_code, answer.json()) == (200, order)
    assert processes.asked == [("retry", "fulfilment", "1"), ("abort", "fulfilment", "1")]
    unknown = {"process": "fulfilment", "key": "no one"}
    problem(await told.http.post("/operators/processes/retry", json=unknown), 404, "not-found")
    stuck = {"process": "fulfilment", "key": "stuck"}
    problem(await told.http.post("/operators/processes/abort", json=stuck), 409, "process-stuck")
    answer = await told.http.post("/operators/processes/abort", json=stuck | {"as_it_is": True})
    assert (answer.status_code, answer.json()) == (200, stuck)
    answer = await told.http.post("/operators/processes/abort", json={"key": "1"})
    assert answer.status_code == 422


async def test_a_gateway_without_process_managers_says_so(gateway: Gateway) -> None:
    assert (await gateway.http.get("/processes")).json()["total"] == 0
    problem(await gateway.http.get("/processes/fulfilment/1"), 404, "not-found")
