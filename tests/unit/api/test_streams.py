"""Streams that end before their rows do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from itertools import count
from typing import Any

import pytest

from api.http.auth import Role, Token
from api.http.limits import Limits
from api.http.protocol import GatewayProtocol
from api.http.streams import Streams
from rayfold import Answer, Query, Registry
from tests.ports import free_port
from tests.unit.api.conftest import Gateway
from tests.unit.api.fakes import ORDER_ID, FakeQueries, FollowedQueries
from tests.unit.api.serving import PATIENCE, serving, soon

LARGE_ROW = b'{"text":"%b"}' % (b"x" * 8000)


class RestlessQueries(FakeQueries):
    """Follows a row that changes all the time."""

    async def live(
        self, query: Query, *, after: int | None, tenant: str = ""
    ) -> AsyncGenerator[tuple[int, bytes], None]:
        for position in count():
            yield position, LARGE_ROW
            await asyncio.sleep(0)


async def test_for_a_stream_that_is_not_read_only_one_state_is_kept(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to 5,000 streams may be left unread."""
    kept: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    pause = GatewayProtocol.pause_writing

    def paused(protocol: GatewayProtocol) -> None:
        pause(protocol)
        if not kept.done():
            kept.set_result(protocol.transport.get_write_buffer_size())

    monkeypatch.setattr(GatewayProtocol, "pause_writing", paused)
    port = free_port()
    async with serving(Gateway(registry, queries=RestlessQueries()), port):
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.write(f"GET /orders/{ORDER_ID}/live HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert await soon(kept) < 2 * len(LARGE_ROW)
        writer.close()


async def test_a_client_that_disconnects_before_its_stream_begins_takes_no_place(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, gone, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()
    lost = GatewayProtocol.connection_lost

    class SlowQueries(FollowedQueries):
        async def ask(self, *arguments: Any, **options: Any) -> Answer:
            asked.set()
            await go_on.wait()
            return await super().ask(*arguments, **options)

    def connection_lost(protocol: GatewayProtocol, error: Exception | None) -> None:
        lost(protocol, error)
        gone.set()

    monkeypatch.setattr(GatewayProtocol, "connection_lost", connection_lost)
    request = f"GET /orders/{ORDER_ID}/live HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    port, limits = free_port(), Limits(streams=1)
    gateway = Gateway(registry, queries=SlowQueries(), options={"limits": limits})
    async with serving(gateway, port, limits):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        await soon(asked.wait())
        writer.transport.abort()
        await soon(gone.wait())
        go_on.set()
        answer = b""
        async with asyncio.timeout(PATIENCE):
            while b" 200 " not in answer:  # the place is given back in its own time
                await asyncio.sleep(0.01)
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(request)
                answer = await reader.readline()
                writer.close()


@pytest.mark.parametrize("reads", [True, False])
async def test_a_client_that_disconnects_follows_nothing_once_its_stream_has_ended(
    registry: Registry, reads: bool
) -> None:
    """Also if a row is just being sent to it: nothing else would end the subscription."""
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


@pytest.mark.parametrize("tenants", [False, True])
async def test_a_client_with_many_streams_prevents_no_other_from_following(tenants: bool) -> None:
    """The streams of a tenant count together, as it may have any number of principals."""
    acme, globex = ("acme", "globex") if tenants else ("", "")
    tokens = [
        Token("ada", "ada", Role.READER, tenant=acme),
        Token("eve", "eve", Role.READER, tenant=acme),
        Token("bob", "bob", Role.READER, tenant=globex),
    ]
    port, limits = free_port(), Limits(streams=3)
    gateway = Gateway(
        Registry.load("domain", tenants=tenants),
        queries=FollowedQueries(),
        options={"limits": limits, "tokens": tokens},
    )

    async def follow(name: str) -> tuple[asyncio.StreamReader, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        request = f"GET /orders/{ORDER_ID}/live HTTP/1.1\r\nHost: localhost\r\n"
        writer.write(f"{request}Authorization: Bearer {name}\r\n\r\n".encode())
        writers.append(writer)
        status = (await soon(reader.readline())).split()[1]
        if status == b"200":
            await soon(reader.readuntil(b"\ndata: "))
        return reader, status

    writers: list[asyncio.StreamWriter] = []
    async with serving(gateway, port, limits):
        others = "ada" if not tenants else "eve"
        first, _ = await follow("ada")
        for name in ("ada", others):
            assert (await follow(name))[1] == b"200"
        assert (await follow("ada"))[1] == (await follow(others))[1] == b"503"
        assert (await follow("bob"))[1] == b"200"
        await soon(first.readuntil(b"\r\n0\r\n\r\n"))  # the oldest of who has most has ended
        for name in ("bob", "ada", others):
            assert (await follow(name))[1] == b"503"
        for each in writers:
            each.close()


async def test_the_place_of_a_stream_that_is_ending_can_be_given_away() -> None:
    """Its last piece waits for a client that does not read, and keeps its place until then."""
    streams = Streams(2)
    with streams.begun(("ada",)) as over, streams.begun(("ada",)):
        over.cancel()
        streams.check(("bob",))
        with streams.begun(("bob",)):
            pass
