"""The way of queries, up to the store that is asked."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any

import pytest
from pydantic import AwareDatetime

from projections.errors import BadQuery
from projections.queries.bus import QueryBus
from projections.supervision.placements import Placements
from rayfold import PageQuery, Query, Registry, UtcDatetime, View, on
from tests.integration.projections import small


class Days(View, name="days", key="at", indexes=("last",)):
    """What was added at a time."""

    at: UtcDatetime
    last: UtcDatetime | None = None

    @staticmethod
    @on(small.Added, key=lambda event: None)
    def added(row: Days, event: small.Added) -> Days:
        return row


class GetDay(Query, name="get-day", view=Days):
    """Takes an instant that is none in UTC."""

    at: AwareDatetime


class ListDays(PageQuery, name="list-days", view=Days):
    """Likewise."""

    last: AwareDatetime | None = None


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
async def test_a_value_that_no_store_can_have_is_refused(text: str) -> None:
    nothing: Any = None
    registry = Registry([small, sys.modules[__name__]])
    bus = QueryBus(registry, Placements(), lambda view: ("memory",), {}, nothing, nothing)
    at = datetime.fromisoformat(text)
    for query in (GetDay(at=at), ListDays(last=at)):
        with pytest.raises(BadQuery, match="outside the years 1 to 9999"):
            await bus.ask(query)
    with pytest.raises(BadQuery, match="outside the years 1 to 9999"):
        bus.live(GetDay(at=at))  # before a stream begins
