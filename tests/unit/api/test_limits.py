"""What a stranger may occupy, on real sockets: sizes, times, connections."""

from __future__ import annotations

import asyncio
import http.client
import json
import resource
from asyncio import StreamReader, StreamWriter
from typing import Any

import httpx
import pytest
import urllib3

from api.http.bodies import Bodies
from api.http.limits import Limits
from api.http.problems import Problem
from rayfold import Registry
from tests.ports import free_port
from tests.unit.api.conftest import Gateway
from tests.unit.api.fakes import ORDER_ID
from tests.unit.api.serving import NO_MORE, serving, soon

MIB = 1024 * 1024
LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n"
CHUNKED = b"POST /orders HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b'13\r\n{"customer_id":"c"}\r\n0\r\n'


@pytest.fixture
def port() -> int:
    """Return one that was free a moment ago."""
    return free_port()


async def connected(port: int, sent: bytes = b"") -> tuple[StreamReader, StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    return reader, writer


async def answer(reader: StreamReader) -> tuple[int, dict[str, Any]]:
    """Return status and document of the one answer that comes."""
    head = (await soon(reader.readuntil(b"\r\n\r\n"))).decode()
    lines = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
    body = await soon(reader.readexactly(int(lines["content-length"])))
    return int(head.split(" ")[1]), json.loads(body)


async def refused(reader: StreamReader, status: int, kind: str) -> None:
    got, document = await answer(reader)
    assert (got, document["status"], document["type"]) == (status, status, f"/problems/{kind}")
    assert await soon(reader.read()) == b""  # and the connection is closed


@pytest.mark.parametrize(
    "head",
    [
        b"GET /%b HTTP/1.1\r\n\r\n" % (b"a" * 40_000),
        b"GET / HTTP/1.1\r\nx: %b\r\n\r\n" % (b"a" * 40_000),
        b"GET / HTTP/1.1\r\n" + b"x: 1\r\n" * 101 + b"\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"a" * 40_000,
        b"GET / HTTP/1.1\r\nx: " + b"a" * 400_000,
    ],
    ids=["url", "header", "headers", "endless", "large"],
)
async def test_a_head_that_is_too_large_is_refused(
    gateway: Gateway, port: int, head: bytes
) -> None:
    async with serving(gateway, port, NO_MORE):
        reader, _ = await connected(port, head)
        await refused(reader, 431, "head-too-large")
        reader, writer = await connected(port, LIVE)
        assert (await answer(reader))[0] == 200
        writer.write(head)
        await refused(reader, 431, "head-too-large")


@pytest.mark.parametrize(
    ("begun", "endless"),
    [
        (LAST, b"x: 1\r\n" * 200),
        (LAST + b"x: ", b"a" * 1000),
        (b"", b"0" * 1000),
        (b"2;", b"a" * 1000),
    ],
    ids=["trailers", "trailer", "size", "extension"],
)
async def test_what_is_sent_besides_a_body_is_no_larger_than_a_head(
    gateway: Gateway, port: int, begun: bytes, endless: bytes
) -> None:
    async with serving(gateway, port):
        reader, writer = await connected(port, CHUNKED + begun)
        for _ in range(100):
            writer.write(endless)
            await asyncio.sleep(0.001)  # not all of it at once
        await refused(reader, 431, "head-too-large")
    assert not gateway.commands.sent


async def test_trailers_are_not_taken_for_headers(gateway: Gateway, port: int) -> None:
    async with serving(gateway, port):
        trailers = b"Host: elsewhere\r\nIdempotency-Key: a\r\nOrigin: http://elsewhere\r\n\r\n"
        reader, _ = await connected(port, CHUNKED + LAST + trailers)
        assert (await answer(reader))[0] == 202


async def test_a_request_before_one_that_is_too_large_is_answered(
    gateway: Gateway, port: int
) -> None:
    async with serving(gateway, port, NO_MORE):
        head = b"GET / HTTP/1.1\r\nx: %b\r\n\r\n" % (b"a" * 40_000)
        reader, _ = await connected(port, LIVE + head)
        assert (await answer(reader))[0] == 200
        assert await soon(reader.read()) == b""


async def test_a_large_head_within_the_bounds_is_read(gateway: Gateway, port: int) -> None:
    async with serving(gateway, port), httpx.AsyncClient() as client:
        headers = {f"x-{n}": "a" * 300 for n in range(90)}
        url = f"http://127.0.0.1:{port}/health/live"
        for _ in range(3):
            assert (await client.get(url, headers=headers)).status_code == 200
        body = b'{"customer_id":"c"}'.ljust(MIB)
        assert (await client.post(f"http://127.0.0.1:{port}/orders", content=body)).is_success


@pytest.mark.parametrize(("sent", "status"), [(b"GET / HT", 408), (POST + b"{", 408), (b"", 0)])
async def test_a_client_that_sends_too_slowly_is_cut_off(
    gateway: Gateway, port: int, sent: bytes, status: int
) -> None:
    limits = Limits(head_timeout=0.2, body_timeout=0.2, linger_timeout=0.1)
    async with serving(gateway, port, limits):
        reader, _ = await connected(port, sent)
        if status:
            await refused(reader, status, "too-slow")
        else:
            assert await soon(reader.read()) == b""
    assert not gateway.commands.sent


async def test_single_bytes_now_and_then_do_not_extend_the_time(
    gateway: Gateway, port: int
) -> None:
    async with serving(gateway, port, Limits(head_timeout=0.3, linger_timeout=0.1)):
        reader, writer = await connected(port, b"GET / HTTP/1.1\r\n")

        async def drip() -> None:
            while True:
                writer.write(b"x: 1\r\n")
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        assert (await answer(reader))[0] == 408
        dripping.cancel()


async def test_an_idle_connection_is_closed(gateway: Gateway, port: int) -> None:
    async with serving(gateway, port, Limits(idle_timeout=0.2)):
        reader, _ = await connected(port, LIVE)
        assert (await answer(reader))[0] == 200
        assert await soon(reader.read()) == b""


async def test_slow_clients_make_room_for_others(gateway: Gateway, port: int) -> None:
    async with serving(gateway, port, Limits(connections=4)):
        slow = [await connected(port, sent) for sent in (b"", b"GET", POST, LIVE) * 3]
        reader, _ = await connected(port, LIVE)
        assert (await answer(reader))[0] == 200
        assert await soon(slow[0][0].read()) == b""


async def test_connections_that_wait_for_an_answer_are_kept(gateway: Gateway, port: int) -> None:
    limits = Limits(connections=4)
    async with serving(gateway, port, limits):
        live = f"GET /orders/{ORDER_ID}/live HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        streams = [await connected(port, live) for _ in range(4)]
        for reader, _ in streams:
            await soon(reader.readuntil(b"data: "))
        reader, _ = await connected(port, LIVE)
        await refused(reader, 503, "too-many-connections")
        streams[0][1].close()
        await soon(streams[0][1].wait_closed())
        await _until_served(port)


async def _until_served(port: int) -> None:
    """Ask until there is room again: the server learns of an end when it comes to it."""
    async with asyncio.timeout(10):
        while True:
            reader, _ = await connected(port, LIVE)
            if (await answer(reader))[0] == 200:
                return


async def test_streams_leave_room_for_requests(registry: Any, port: int) -> None:
    limits = Limits(connections=4, streams=2)
    gateway = Gateway(registry, options={"limits": limits})
    async with serving(gateway, port, limits):
        live = f"GET /orders/{ORDER_ID}/live HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        streams = [await connected(port, live) for _ in range(2)]
        for reader, _ in streams:
            await soon(reader.readuntil(b"data: "))
        reader, _ = await connected(port, live)
        assert await answer(reader) == (503, ANY_STREAMS)
        reader, _ = await connected(port, LIVE)
        assert (await answer(reader))[0] == 200


ANY_STREAMS = {
    "type": "/problems/too-many-streams",
    "title": "Too many streams",
    "status": 503,
    "detail": "as many rows are followed already as may be at once",
}


async def test_a_client_that_does_not_read_its_answers_is_dropped(
    gateway: Gateway, port: int
) -> None:
    async with serving(gateway, port, Limits(write_timeout=0.3)):
        reader, writer = await connected(port)
        request = b"GET /docs/scalar.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
        writer.write(request * 64)  # some 50 MB, which nobody reads
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(10):
            while not writer.transport.is_closing():
                writer.write(b" ")
                await asyncio.sleep(0.05)


def _by_http_client(url: str, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(url.split("/")[2], timeout=10)
    connection.request("POST", "/orders", body)
    reply = connection.getresponse()
    return reply.status, reply.read()


def _by_httpx(url: str, body: bytes) -> tuple[int, bytes]:
    reply = httpx.post(url, content=body, timeout=10)
    return reply.status_code, reply.content


def _by_urllib3(url: str, body: bytes) -> tuple[int, bytes]:
    reply = urllib3.request("POST", url, body=body, timeout=10, retries=False)
    return reply.status, reply.data


def _in_chunks(url: str, body: bytes) -> tuple[int, bytes]:
    pieces = (body[at : at + 65536] for at in range(0, len(body), 65536))
    reply = httpx.post(url, content=pieces, timeout=10)
    return reply.status_code, reply.content


@pytest.mark.parametrize("send", [_by_http_client, _by_httpx, _by_urllib3, _in_chunks])
@pytest.mark.parametrize("size", [MIB + 1, 20 * MIB])
async def test_a_client_sees_that_its_body_is_too_large(
    gateway: Gateway, port: int, send: Any, size: int
) -> None:
    async with serving(gateway, port):
        url = f"http://127.0.0.1:{port}/orders"
        status, document = await soon(asyncio.to_thread(send, url, b" " * size))
        assert status == 413
        assert json.loads(document)["type"] == "/problems/too-large"


async def test_the_number_of_pipelined_requests_on_a_connection_is_bounded(
    gateway: Gateway, port: int
) -> None:
    async with serving(gateway, port, Limits(pipelined=10)):
        reader, _ = await connected(port, LIVE * 100)
        got = await soon(reader.read())
    # The one that is answered, those that wait, and then their client may connect again.
    assert got.count(b"HTTP/1.1 200 OK") == got.count(b"HTTP/1.1") == 11
    assert got.rpartition(b"HTTP/1.1")[2].count(b"connection: close") == 1


async def test_without_a_token_no_large_body_is_accepted(gateway: Gateway, port: int) -> None:
    form = b"token=".ljust(20_000, b"t")
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    async with serving(gateway, port):
        for path in (b"/console/sign-in", b"/console/sign-out"):
            reader, _ = await connected(port, head % (path, len(form)) + form)
            got = await soon(reader.readuntil(b"\r\n"))
            assert b" 303 " in got if path.endswith(b"out") else b" 413 " in got


async def test_the_bytes_of_all_bodies_in_memory_are_bounded(registry: Registry, port: int) -> None:
    gateway = Gateway(registry, options={"limits": Limits(bodies_bytes=200_000)})
    async with serving(gateway, port):
        begun = b"POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500000\r\n\r\n"
        reader, _ = await connected(port, begun + b" " * 400_000)
        got, document = await answer(reader)
        assert (got, document["type"]) == (503, "/problems/overloaded")
        body = b'{"customer_id":"c"}'.ljust(150_000)
        url = f"http://127.0.0.1:{port}/orders"
        assert (await soon(asyncio.to_thread(_by_httpx, url, body)))[0] == 202


def test_a_body_counts_until_it_has_arrived() -> None:
    bodies = Bodies(100)
    with bodies.begun() as one:
        one.grown(40)
        one.grown(60)
        with pytest.raises(Problem, match="overloaded"), bodies.begun() as another:
            another.grown(50)
        with bodies.begun() as another:
            another.grown(40)
    with bodies.begun() as one:
        one.grown(100)


async def test_an_endless_body_is_not_read_forever(gateway: Gateway, port: int) -> None:
    async with serving(gateway, port, Limits(linger_bytes=4 * MIB)):
        _, writer = await connected(
            port, b"POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n"
        )
        sent = await soon(_sent_until_the_end(writer))
        assert sent < 64 * MIB


async def _sent_until_the_end(writer: StreamWriter) -> int:
    sent = 0
    try:
        while True:
            writer.write(b" " * 65536)
            await writer.drain()
            sent += 65536
    except ConnectionError:
        return sent


@pytest.mark.parametrize(
    ("files", "connections"),
    [(1024, 768), (100, 36), (20, 8), (10**6, 10_000), (resource.RLIM_INFINITY, 10_000)],
)
def test_file_descriptors_are_reserved_for_the_connections_of_the_gateway(
    files: int, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (files, files))
    limits = Limits.of_process()
    assert (limits.connections, limits.streams) == (connections, connections // 2)
