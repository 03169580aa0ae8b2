"""Live queries over the real stack."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx

from tests.integration.stack.orders import add, create
from tests.stack import Stack

DEADLINE = 60.0
LISTENERS = int(os.environ.get("RAYFOLD_LISTENERS", "200"))
"""The issue asks for 1,000; `make test` does a fifth of it."""


async def states(
    http: httpx.AsyncClient, order: str, after: str | None = None
) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Ids and rows of a stream."""
    headers = {"Last-Event-ID": after} if after else {}
    async with http.stream("GET", f"/orders/{order}/live", headers=headers) as stream:
        assert stream.status_code == 200
        position = ""
        async for line in stream.aiter_lines():
            if line.startswith("id: "):
                position = line[4:]
            elif line.startswith("data: "):
                yield position, json.loads(line[6:])


async def test_a_change_is_told_to_everybody(stack: Stack, http: httpx.Client) -> None:
    order = create(http)
    limits = httpx.Limits(max_connections=None)
    ready = asyncio.Semaphore(0)

    async def listen(client: httpx.AsyncClient) -> int:
        first = True
        async for _, row in states(client, order):
            if first:
                ready.release()
                first = False
            if row["revision"] == 1:
                return len(row["lines"])
        raise AssertionError("the stream ended")

    async with (
        asyncio.timeout(DEADLINE),
        httpx.AsyncClient(base_url=stack.url, timeout=DEADLINE, limits=limits) as client,
    ):
        listeners = [asyncio.create_task(listen(client)) for _ in range(LISTENERS)]
        for _ in listeners:
            await ready.acquire()
        await asyncio.to_thread(add, http, order)
        assert await asyncio.gather(*listeners) == [1] * LISTENERS


async def test_a_reconnect_misses_nothing(stack: Stack, http: httpx.Client) -> None:
    order = create(http)
    async with (
        asyncio.timeout(DEADLINE),
        httpx.AsyncClient(base_url=stack.url, timeout=DEADLINE) as client,
    ):
        async for position, row in states(client, order):
            if row["revision"] == 0:
                seen = position
                break
        await asyncio.to_thread(add, http, order)
        async for _, row in states(client, order, seen):
            if row["revision"] == 1:
                break


async def test_following_a_row_that_does_not_exist_is_refused(stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=stack.url, timeout=DEADLINE) as client:
        assert (await client.get(f"/orders/{uuid4()}/live")).status_code == 404
