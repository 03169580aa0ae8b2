"""A real server on a real socket: what cannot be seen without one."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import uvloop

from actors.envelope import Envelope
from api.http.server import serve
from deploy.stack.listening import bound
from rayfold import Answer, Receipt, Registry
from tests.ports import free_port
from tests.unit.api.conftest import Gateway
from tests.unit.api.fakes import ORDER_ID, ROW
from tests.unit.api.problems import problem
from tests.unit.api.serving import NO_MORE, PATIENCE, serving, soon


@pytest.fixture
def port() -> int:
    """Return one that was free a moment ago."""
    return free_port()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_taken_port_is_an_error_and_not_an_exit(gateway: Gateway, new_loop: Any) -> None:
    with bound("127.0.0.1", 0, open_to_all=True) as late:
        taken = socket.socket()
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with taken, asyncio.Runner(loop_factory=new_loop) as runner:
            taken.bind(late.getsockname())
            taken.listen()
            stop = asyncio.Event()
            with pytest.raises(OSError, match="in use"):
                runner.run(serve(gateway.app, late, stop=stop, on_ready=stop.set))


async def test_a_request_in_flight_is_finished_on_a_stop(registry: Registry, port: int) -> None:
    gateway = Gateway(registry)
    arrived, go_on = asyncio.Event(), asyncio.Event()

    class Slow:
        async def send(self, envelope: Envelope) -> Receipt:
            arrived.set()
            await go_on.wait()
            return await gateway.commands.send(envelope)

    slow = Gateway(registry, commands=Slow())  # type: ignore[arg-type]
    async with serving(slow, port) as stop, httpx.AsyncClient() as http:
        url = f"http://127.0.0.1:{port}/orders/{ORDER_ID}/place"
        reply = asyncio.create_task(http.post(url))
        await soon(arrived.wait())
        stop.set()
        await asyncio.sleep(0)
        go_on.set()
        async with asyncio.timeout(PATIENCE):
            assert (await reply).status_code == 202


async def test_a_socket_is_handed_over_without_a_failed_request(gateway: Gateway) -> None:
    """Clients that keep connections and never retry go on asking while servers are replaced."""
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/orders/{ORDER_ID}"
    statuses: list[int] = []
    done, answered = asyncio.Event(), asyncio.Event()

    async def follow() -> tuple[asyncio.Event, asyncio.Task[None]]:
        stop, ready = asyncio.Event(), asyncio.Event()
        own = listening.dup()
        own.setblocking(False)
        server = serve(gateway.app, own, stop=stop, on_ready=ready.set, drain=PATIENCE)
        task = asyncio.create_task(server)
        await soon(ready.wait())
        return stop, task

    async def ask() -> None:
        async with httpx.AsyncClient() as http:
            while not done.is_set():
                statuses.append((await http.get(url)).status_code)
                answered.set()

    stop, task = await follow()
    clients = [asyncio.create_task(ask()) for _ in range(4)]
    for _ in range(5):
        next_stop, next_task = await follow()
        stop.set()
        await soon(task)  # it ends before its time, as all clients have gone to the next one
        stop, task = next_stop, next_task
    for _ in range(20):
        answered.clear()
        await soon(answered.wait())
    done.set()
    await soon(asyncio.gather(*clients))
    stop.set()
    await soon(task)
    listening.close()
    assert set(statuses) == {200}


async def test_cancelling_stops_the_server_too(gateway: Gateway, port: int) -> None:
    ready = asyncio.Event()
    listening = socket.create_server(("127.0.0.1", port))
    task = asyncio.create_task(
        serve(gateway.app, listening, stop=asyncio.Event(), on_ready=ready.set)
    )
    await soon(ready.wait())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(task)
    with socket.create_server(("127.0.0.1", port)):
        pass  # the port is free again


async def test_the_rest_of_a_body_that_is_too_large_is_not_awaited(
    gateway: Gateway, port: int
) -> None:
    async with serving(gateway, port, NO_MORE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /orders HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: 999999999999999999\r\n\r\n"
        )
        async with asyncio.timeout(PATIENCE):
            head = await reader.read()  # to its end: the connection is closed
        assert head.startswith(b"HTTP/1.1 413")
        writer.close()


async def test_bytes_that_are_no_http_are_refused(gateway: Gateway, port: int) -> None:
    async with serving(gateway, port, NO_MORE):
        for garbage in (b"\x00\x01\x02\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(garbage)
            async with asyncio.timeout(PATIENCE):
                assert (await reader.read()).startswith(b"HTTP/1.1 400")
            writer.close()


async def _event(lines: AsyncIterator[str]) -> dict[str, str]:
    """Return the next event of a stream, without comments."""
    event: dict[str, str] = {}
    async with asyncio.timeout(PATIENCE):
        async for line in lines:
            if not line and event:
                return event
            name, _, value = line.partition(": ")
            if name:
                event[name] = value
    raise AssertionError("the stream ended")


async def test_a_live_row_comes_now_and_on_each_change(gateway: Gateway, port: int) -> None:
    async with serving(gateway, port) as stop, httpx.AsyncClient() as http:
        url = f"http://127.0.0.1:{port}/orders/{ORDER_ID}/live"
        async with http.stream("GET", url) as reply:
            assert reply.headers["content-type"] == "text/event-stream"
            lines = reply.aiter_lines()
            first = await _event(lines)
            assert (first["id"], first["data"]) == ("42", ROW.decode())
            changed = ROW.replace(b"3", b"4")
            gateway.queries.answer = Answer(changed, 4, 50)
            second = await _event(lines)
            assert (second["id"], json.loads(second["data"])) == ("50", json.loads(changed))
            stop.set()  # a stream does not hold up the server's end
            async with asyncio.timeout(20):
                assert [line async for line in lines if line] == []


async def test_a_live_stream_continues_where_it_was(gateway: Gateway, port: int) -> None:
    async with serving(gateway, port), httpx.AsyncClient() as http:
        url = f"http://127.0.0.1:{port}/orders/{ORDER_ID}/live"
        async with http.stream("GET", url, headers={"last-event-id": "41"}) as reply:
            assert (await _event(reply.aiter_lines()))["id"] == "42"
        assert gateway.queries.followed == [41]


async def test_head_of_a_live_stream_ends_at_once(gateway: Gateway) -> None:
    reply = await gateway.http.head(f"/orders/{ORDER_ID}/live")
    assert reply.headers["content-type"] == "text/event-stream"
    assert reply.content == b""


async def test_a_row_that_does_not_exist_has_no_live_stream(gateway: Gateway) -> None:
    gateway.queries.answer = Answer(None, None, 42)
    problem(await gateway.http.get(f"/orders/{ORDER_ID}/live"), 404, "not-found")


async def test_a_foreign_last_event_id_is_refused(gateway: Gateway) -> None:
    reply = await gateway.http.get(
        f"/orders/{ORDER_ID}/live", headers={"last-event-id": "yesterday"}
    )
    problem(reply, 400, "malformed")
