"""The audit trail, and resources as they were."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.unit.api.conftest import Gateway
from tests.unit.api.fakes import ORDER_ID, ROW
from tests.unit.api.problems import fields_of, problem

ORDER = f"/orders/{ORDER_ID}"


async def test_the_history_is_the_events_in_order(gateway: Gateway) -> None:
    reply = await gateway.http.get(f"{ORDER}/history")
    assert reply.json() == gateway.histories.past


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
