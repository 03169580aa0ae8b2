"""HTTP/1.1 to the letter, on real sockets: where requests end, and required headers."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.ports import free_port
from tests.unit.api.conftest import Gateway
from tests.unit.api.fakes import ORDER_ID
from tests.unit.api.serving import NO_MORE, serving, soon

H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
CREATE = b'{"customer_id":"c"}'
LAST = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture
def port() -> int:
    """Return one that was free a moment ago."""
    return free_port()


async def answers(port: int, *parts: bytes) -> bytes:
    """Return all that comes until the server closes the connection, for parts sent one by one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0)
    got = await soon(reader.read())
    writer.close()
    return got


def statuses(got: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", got)]


def post(path: bytes, body: bytes, fields: bytes = b"") -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\n%bContent-Length: %d\r\n\r\n"
    return head % (path, fields, len(body)) + body


async def test_an_upgrade_that_is_not_granted_is_ignored(gateway: Gateway, port: int) -> None:
    chunked = b"POST /orders HTTP/1.1\r\nHost: a\r\n%bTransfer-Encoding: chunked\r\n\r\n" % H2C
    chunks = b"13\r\n%b\r\n0\r\n\r\n" % CREATE
    async with serving(gateway, port):
        # As one piece and one by one, at once and after others, on a connection that goes on.
        got = await answers(port, post(b"/orders", CREATE, H2C) * 2, chunked + chunks, LAST)
        assert statuses(got) == [202, 202, 202, 200]
        got = await answers(port, *(bytes([each]) for each in chunked + chunks + LAST))
        assert statuses(got) == [202, 200]
        get = b"GET /orders/%b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (ORDER_ID.encode(), H2C)
        assert statuses(await answers(port, get * 40 + LAST)) == [200] * 41
    assert [b'"customer_id":"c"' in each.payload for each in gateway.commands.sent] == [True] * 4


async def test_the_body_of_an_upgrade_is_no_request(gateway: Gateway, port: int) -> None:
    inner = post(f"/orders/{ORDER_ID}/cancel".encode(), b"")
    async with serving(gateway, port):
        got = await answers(port, post(b"/orders", inner, H2C), LAST)
        assert statuses(got) == [400, 200]
        head, _, body = post(b"/orders", inner, H2C).partition(b"\r\n\r\n")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head + b"\r\n\r\n" + body[:1])
        await writer.drain()
        writer.write(body[1:] + LAST)
        assert statuses(await soon(reader.read())) == [400, 200]
        writer.close()
    assert not gateway.commands.sent


@pytest.mark.parametrize(
    "head",
    [
        b"GET %b HTTP/1.1\r\n\r\n",
        b"GET %b HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET %b HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET %b HTTP/1.1\r\n" + H2C + b"\r\n",
    ],
)
async def test_a_request_names_one_host(gateway: Gateway, port: int, head: bytes) -> None:
    async with serving(gateway, port, NO_MORE):
        for path in (b"/orders/%b" % ORDER_ID.encode(), b"/health/live", b"/nowhere"):
            got = await answers(port, head % path)
            assert statuses(got) == [400]
            assert b"/problems/malformed" in got


async def test_http_1_0_needs_no_host(gateway: Gateway, port: int) -> None:
    async with serving(gateway, port):
        assert statuses(await answers(port, b"GET /health/live HTTP/1.0\r\n\r\n")) == [200]


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nx: %b\r\n\r\n" % (b"a" * 40_000),
        b"CONNECT /health/live HTTP/1.1\r\nHost: a\r\n\r\n" + LAST,
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: a\r\n\r\n" + LAST,
    ],
)
async def test_an_answer_to_an_unreadable_request_has_a_date_too(
    gateway: Gateway, port: int, sent: bytes
) -> None:
    async with serving(gateway, port, NO_MORE):
        got = await answers(port, sent)
        assert len(statuses(got)) == 1
        assert b"\r\ndate: " in got
        assert b"\r\nconnection: close\r\n" in got
        assert b"application/problem+json" in got


@pytest.mark.parametrize("written", [b"%FF", b"%C0%AF", b"%ED%A0%80", b"%EF%BF%BD%80"])
async def test_an_id_must_be_valid_utf_8(gateway: Gateway, port: int, written: bytes) -> None:
    targets = [b"/orders/%b", b"/stock/a%%2F%b", b"/orders?customer_id=%b"]
    async with serving(gateway, port):
        for target in targets:
            request = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % (target % written)
            got = await answers(port, request + LAST)
            assert statuses(got) == [400, 200], target
            assert b"/problems/malformed" in got


async def test_the_replacement_character_is_accepted_in_an_id(gateway: Gateway, port: int) -> None:
    async with serving(gateway, port):
        written = b"GET /orders/%EF%BF%BD HTTP/1.1\r\nHost: a\r\n\r\n"
        assert statuses(await answers(port, written + LAST)) == [422, 200]
        written = b"GET /orders?customer_id=%EF%BF%BD HTTP/1.1\r\nHost: a\r\n\r\n"
        assert statuses(await answers(port, written + LAST)) == [200, 200]
