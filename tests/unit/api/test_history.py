"""The audit trail, and resources as they were."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from api.queries.history import AT_ONCE
from tests.unit.api.conftest import Gateway
from tests.unit.api.fakes import ORDER_ID, ROW
from tests.unit.api.problems import fields_of, problem

ORDER = f"/orders/{ORDER_ID}"


async def test_the_history_is_the_events_in_order(gateway: Gateway) -> None:
    reply = await gateway.http.get(f"{ORDER}/history")
    assert reply.json() == gateway.histories.past


@pytest.mark.parametrize("number", [AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 3 * AT_ONCE + 1])
async def test_a_long_history_is_all_of_its_events_too(gateway: Gateway, number: int) -> None:
    gateway.histories.past = [
        {"type": "LineAdded", "revision": n, "position": 3 * n} for n in range(number)
    ]
    reply = await gateway.http.get(f"{ORDER}/history")
    assert reply.json() == gateway.histories.past
    assert reply.headers["consistency-token"] == str(3 * (number - 1))
    assert reply.headers["content-type"] == "application/json"


async def test_a_long_history_ends_where_its_token_says(
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


async def test_what_never_was_has_no_history(gateway: Gateway) -> None:
    gateway.histories.past = []
    problem(await gateway.http.get(f"{ORDER}/history"), 404, "not-found")


async def test_a_resource_has_a_history_whatever_its_key(gateway: Gateway) -> None:
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
async def test_a_moment_is_a_revision_or_a_time(
    gateway: Gateway, given: str, moment: int | datetime
) -> None:
    reply = await gateway.http.get(f"{ORDER}?as_of={given}")  # the + is not escaped
    assert reply.content == ROW
    assert gateway.histories.moments == [moment]


@pytest.mark.parametrize(
    "given", ["", "-1", "yesterday", "2026-13-01T00:00:00Z", "2026-01-01", "1" * 30, "٣"]
)
async def test_no_other_moment_can_be_read(gateway: Gateway, given: str) -> None:
    assert fields_of(await gateway.http.get(ORDER, params={"as_of": given})) == {"as_of"}


async def test_a_moment_goes_with_nothing_else(gateway: Gateway) -> None:
    assert fields_of(await gateway.http.get(f"{ORDER}?as_of=1&limit=2")) == {"as_of"}


async def test_before_it_began_there_was_nothing(gateway: Gateway) -> None:
    gateway.histories.row = None
    problem(await gateway.http.get(f"{ORDER}?as_of=0"), 404, "not-found")


async def test_what_follows_many_streams_has_no_past(gateway: Gateway) -> None:
    assert fields_of(await gateway.http.get("/sales/2026-01-01?as_of=1")) == {"as_of"}


async def test_the_past_forgets_nothing_that_the_client_has_seen(gateway: Gateway) -> None:
    for path in (f"{ORDER}/history", f"{ORDER}?as_of=0"):
        assert (await gateway.http.get(path)).headers["consistency-token"] == "17"
        reply = await gateway.http.get(path, headers={"consistency-token": "40"})
        assert reply.headers["consistency-token"] == "40"
