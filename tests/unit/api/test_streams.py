"""Streams that end before their rows do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from rayfold import Query, Registry
from tests.unit.api.conftest import Gateway
from tests.unit.api.fakes import ORDER_ID, ROW, FakeQueries


class FollowedQueries(FakeQueries):
    """Counts who follows a row."""

    following = 0

    async def live(
        self, query: Query, *, after: int | None, tenant: str = ""
    ) -> AsyncGenerator[tuple[int, bytes], None]:
        self.following += 1
        try:
            yield 42, ROW
            await asyncio.Event().wait()
        finally:
            self.following -= 1


@pytest.mark.parametrize("reads", [True, False])
async def test_who_goes_away_follows_nothing_once_the_stream_has_ended(
    registry: Registry, reads: bool
) -> None:
    """Also where the row is on its way to them: nobody else would end what it is of."""
    queries = FollowedQueries()
    gateway = Gateway(registry, queries=queries)
    sent = asyncio.Event()
    asked = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Any:
        if (request := next(asked, None)) is not None:
            return request
        await sent.wait()
        assert queries.following == 1
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if b"id: 42" in message.get("body", b""):
            sent.set()
            if not reads:
                await asyncio.Event().wait()

    path = f"/orders/{ORDER_ID}/live"
    scope: Any = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1")],
        "client": ("127.0.0.1", 1),
    }
    async with asyncio.timeout(10):
        await gateway.app(scope, receive, send)
    assert queries.following == 0
