"""The audit trail, and resources as they were."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from api.http.auth import Role, Token
from api.http.limits import Limits
from api.queries.history import AT_ONCE
from projections.errors import ReadStoreUnavailable
from rayfold import Registry
from tests.ports import free_port
from tests.unit.api.conftest import Gateway
from tests.unit.api.fakes import ORDER_ID, ROW, FakeHistories
from tests.unit.api.problems import fields_of, problem
from tests.unit.api.serving import PATIENCE, serving, soon

ORDER = f"/orders/{ORDER_ID}"


async def test_the_history_is_the_events_in_order(gateway: Gateway) -> None:
    reply = await gateway.http.get(f"{ORDER}/history")
    assert reply.json() == gateway.histories.past


@pytest.mark.parametrize("number", [AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 3 * AT_ONCE + 1])
async def test_a_long_history_has_all_events(gateway: Gateway, number: int) -> None:
    gateway.histories.past = [
        {"type": "LineAdded", "revision": n, "position": 3 * n} for n in range(number)
    ]
    reply = await gateway.http.get(f"{ORDER}/history")
    assert reply.json() == gateway.histories.past
    assert reply.headers["consistency-token"] == str(3 * (number - 1))
    assert reply.headers["content-type"] == "application/json"


async def test_a_long_history_ends_at_the_position_of_its_token(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = gateway.histories.past = [
        {"type": "LineAdded", "revision": n, "position": n} for n in range(2 * AT_ONCE)
    ]
    last = gateway.histories.last

    async def and_another_comes(*asked: Any) -> tuple[int, int]:
        end = await last(*asked)
        past.append({"type": "LineAdded", "revision": len(past), "position": len(past)})
        return end

    monkeypatch.setattr(gateway.histories, "last", and_another_comes)
    reply = await gateway.http.get(f"{ORDER}/history")
    assert reply.json() == past[:-1]
    assert reply.headers["consistency-token"] == str(2 * AT_ONCE - 1)


async def test_a_route_may_leave_out_the_history_of_its_row() -> None:
    """Its events may have fields that must not be shown; its past rows can still be read."""
    registry = Registry.load("domain")
    registry.routes[:] = [
        replace(each, history=False) if each.path == "/orders/{order_id}" else each
        for each in registry.routes
    ]
    gateway = Gateway(registry)
    reply = await gateway.http.get(f"{ORDER}/history")
    assert reply.status_code == 404
    assert "history=False" in reply.json()["detail"]
    assert (await gateway.http.get(f"{ORDER}?as_of=0")).status_code == 200
    paths = (await gateway.http.get("/schema")).json()["paths"]
    assert "/orders/{order_id}/live" in paths
    assert "/orders/{order_id}/history" not in paths


class StoppedHistories(FakeHistories):
    """Have many events; the last of them come, or the error does, once they may."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.past = [
            {"type": "LineAdded", "revision": n, "position": n} for n in range(3 * AT_ONCE)
        ]
        self.go_on = asyncio.Event()
        self._error = error

    async def events(self, *of: Any, after: int | None = None, **how: Any) -> Any:
        """See `History.events`."""
        async for each in super().events(*of, after=after, **how):
            if after is not None and each["revision"] > 2 * AT_ONCE:
                await self.go_on.wait()
                if self._error is not None:
                    raise self._error
            yield each


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (ReadStoreUnavailable("it went away"), 503, "it went away"),
        (ValueError("a secret"), 500, "ValueError, see the log"),
    ],
)
async def test_a_client_notices_if_a_long_history_breaks_off(
    registry: Registry, error: Exception, status: int, detail: str
) -> None:
    histories, port = StoppedHistories(error), free_port()
    histories.go_on.set()
    gateway = Gateway(registry, histories=histories)
    url = f"http://127.0.0.1:{port}"
    async with serving(gateway, port), httpx.AsyncClient(base_url=url, timeout=PATIENCE) as http:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get(f"{ORDER}/history")
        [noted] = (await http.get("/operators/status")).json()["errors"]
    assert noted["path"] == f"{ORDER}/history"
    assert (noted["status"], noted["detail"]) == (status, detail)


async def test_a_gateway_that_stops_finishes_a_long_history_first(registry: Registry) -> None:
    histories, port = StoppedHistories(), free_port()
    gateway = Gateway(registry, histories=histories)
    url = f"http://127.0.0.1:{port}{ORDER}/history"
    async with (
        serving(gateway, port) as stop,
        httpx.AsyncClient(timeout=PATIENCE) as http,
        http.stream("GET", url) as reply,
    ):
        stop.set()
        async with asyncio.timeout(PATIENCE):
            with suppress(ConnectionError):
                while True:  # it listens still
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    await asyncio.sleep(0.01)
        histories.go_on.set()
        await reply.aread()
        assert reply.json() == histories.past


async def test_a_long_history_is_not_read_further_after_the_client_left(registry: Registry) -> None:
    read_no_more = asyncio.Event()

    class Histories(StoppedHistories):
        async def events(self, *of: Any, **how: Any) -> Any:
            try:
                async for each in super().events(*of, **how):
                    yield each
            finally:
                if "after" in how:
                    read_no_more.set()

    port = free_port()
    async with serving(Gateway(registry, histories=Histories()), port):
        async with (
            httpx.AsyncClient(timeout=PATIENCE) as http,
            http.stream("GET", f"http://127.0.0.1:{port}{ORDER}/history"),
        ):
            assert not read_no_more.is_set()
        await soon(read_no_more.wait())


async def test_a_long_history_counts_as_a_request_and_not_as_a_stream(registry: Registry) -> None:
    """It does not count as a stream, but counts as a request; caches vary by tenant."""
    histories = StoppedHistories()
    histories.go_on.set()
    tokens = [
        Token("ada", "ada", Role.READER, tenant="acme"),
        Token("ops", "ops", Role.OPERATOR),
    ]
    made = Gateway(
        Registry.load("domain", tenants=True),
        histories=histories,
        options={"tokens": tokens, "limits": Limits(streams=0)},
    )
    async with made.http as http:
        of_ada = {"authorization": "Bearer ada"}
        reply = await http.get(f"{ORDER}/history", headers=of_ada)
        assert reply.json() == histories.past
        assert reply.headers["vary"] == "rayfold-tenant"
        head = await http.head(f"{ORDER}/history", headers=of_ada)
        assert (head.status_code, head.content) == (200, b"")
        metrics = await http.get("/metrics", headers={"authorization": "Bearer ops"})
    assert 'http_seconds_count{method="GET",route="/orders/{order_id}/history"} 1' in metrics.text


async def test_a_row_that_never_existed_has_no_history(gateway: Gateway) -> None:
    gateway.histories.past = []
    problem(await gateway.http.get(f"{ORDER}/history"), 404, "not-found")


async def test_a_resource_with_any_key_has_a_history(gateway: Gateway) -> None:
    assert (await gateway.http.get("/stock/nut/history")).status_code == 200
    assert (await gateway.http.get("/stock/nut?as_of=0")).status_code == 200


@pytest.mark.parametrize(
    ("given", "moment"),
    [
        ("0", 0),
        ("17", 17),
        ("17.0", 17),
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02t03:04:05.5z", datetime(2026, 1, 2, 3, 4, 5, 500_000, tzinfo=UTC)),
        ("2026-01-02T04:04:05+01:00", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T02:04:05-01:00", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
    ],
)
async def test_as_of_is_a_revision_or_a_time(
    gateway: Gateway, given: str, moment: int | datetime
) -> None:
    reply = await gateway.http.get(f"{ORDER}?as_of={given}")  # the + is not escaped
    assert reply.content == ROW
    assert gateway.histories.moments == [moment]


@pytest.mark.parametrize(
    "given", ["", "-1", "yesterday", "2026-13-01T00:00:00Z", "2026-01-01", "1" * 30, "٣"]
)
async def test_any_other_value_of_as_of_is_refused(gateway: Gateway, given: str) -> None:
    assert fields_of(await gateway.http.get(ORDER, params={"as_of": given})) == {"as_of"}


async def test_as_of_cannot_be_combined_with_other_parameters(gateway: Gateway) -> None:
    assert fields_of(await gateway.http.get(f"{ORDER}?as_of=1&limit=2")) == {"as_of"}


async def test_before_its_first_event_a_row_does_not_exist(gateway: Gateway) -> None:
    gateway.histories.row = None
    problem(await gateway.http.get(f"{ORDER}?as_of=0"), 404, "not-found")


async def test_a_row_of_many_streams_has_no_past(gateway: Gateway) -> None:
    assert fields_of(await gateway.http.get("/sales/2026-01-01?as_of=1")) == {"as_of"}


async def test_the_token_of_a_past_state_is_not_older_than_the_clients(gateway: Gateway) -> None:
    for path in (f"{ORDER}/history", f"{ORDER}?as_of=0"):
        assert (await gateway.http.get(path)).headers["consistency-token"] == "17"
        reply = await gateway.http.get(path, headers={"consistency-token": "40"})
        assert reply.headers["consistency-token"] == "40"
