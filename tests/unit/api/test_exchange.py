"""Answers that bypass ASGI have the same bytes, and nothing can be smuggled into them."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from api.http.exchange import Exchange
from api.http.reply import Fields
from tests.ports import free_port
from tests.unit.api.conftest import Gateway
from tests.unit.api.fakes import ORDER_ID
from tests.unit.api.serving import serving, soon

BODY = b'{"sku":"a","quantity":1,"unit_price_cents":5}'


def _request(line: str, *headers: str, body: bytes = b"") -> bytes:
    if body:
        headers = (*headers, f"content-length: {len(body)}")
    head = "".join(f"{each}\r\n" for each in ("host: 127.0.0.1", *headers))
    return f"{line}\r\n{head}\r\n".encode() + body


REQUESTS = [
    _request(f"GET /orders/{ORDER_ID} HTTP/1.1"),
    _request(f"GET /orders/{ORDER_ID} HTTP/1.1", "prefer: return=minimal"),
    _request(f"GET /orders/{ORDER_ID} HTTP/1.1", "connection: close"),
    _request(f"GET /orders/{ORDER_ID} HTTP/1.1", "if-none-match: *"),
    _request(f"GET /orders/{ORDER_ID} HTTP/1.1", 'if-none-match: "3"'),
    _request(f"GET /orders/{ORDER_ID} HTTP/1.0"),
    _request(f"HEAD /orders/{ORDER_ID} HTTP/1.1"),
    _request("GET /orders/%ff HTTP/1.1"),
    _request(f"POST /orders/{ORDER_ID}/lines HTTP/1.1", f"idempotency-key: {ORDER_ID}", body=BODY),
    _request(
        f"POST /orders/{ORDER_ID}/lines HTTP/1.1",
        f"idempotency-key: {ORDER_ID}", "expect: 100-continue", body=BODY,
    ),
    _request(f"POST /orders/{ORDER_ID}/lines HTTP/1.1", body=b"{"),
    _request("GET /health/live HTTP/1.1"),
]  # fmt: skip


@pytest.fixture
def port() -> int:
    """Return a free one."""
    return free_port()


async def _answers(port: int, request: bytes) -> bytes:
    """Return what comes for a request, and for one after it that ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request + _request("GET /health/live HTTP/1.1", "connection: close"))
    answer = await soon(reader.read())
    writer.close()
    return re.sub(rb"date: [^\r]*", b"date:", answer)


@pytest.mark.parametrize("request_bytes", REQUESTS, ids=range(len(REQUESTS)))
async def test_an_answer_is_the_same_with_and_without_asgi(
    gateway: Gateway, port: int, request_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(gateway, port):
        short = await _answers(port, request_bytes)
        with monkeypatch.context() as patched:
            patched.setattr(Exchange, "answer", lambda *_: False)
            patched.setattr(Exchange, "body", lambda _: None)
            by_asgi = await _answers(port, request_bytes)
    assert short == by_asgi
    assert short.startswith(b"HTTP/1.1 ")


class _Cycle(SimpleNamespace):
    """What `Exchange` needs of uvicorn's."""

    def __init__(self, **changes: Any) -> None:
        self.written: list[bytes] = []
        as_always = {
            "keep_alive": True, "disconnected": False, "response_started": False,
            "response_complete": False, "waiting_for_100_continue": False,
            "flow": SimpleNamespace(write_paused=False), "scope": {"method": "GET"},
            "transport": SimpleNamespace(write=self.written.append),
            "message_event": asyncio.Event(), "on_response": lambda: None, "default_headers": [],
        }  # fmt: skip
        super().__init__(**{**as_always, **changes})


def _fields(*more: tuple[bytes, bytes]) -> Fields:
    return [(b"content-length", b"2"), *more]


def test_a_whole_answer_is_one_write() -> None:
    cycle: Any = _Cycle()
    assert Exchange(cycle).answer(200, _fields((b"x-note", b"a\tb")), b"{}")
    assert cycle.written == [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-note: a\tb\r\n\r\n{}"]
    assert cycle.response_complete


@pytest.mark.parametrize(
    "field",
    [
        (b"x-note", b"a\r\nset-cookie: b"),
        (b"x-note", b"a\nb"),
        (b"x-note", b"a\x00b"),
        (b"x-note\r\n\r\n", b"a"),
        (b"x\x7f", b"a"),
    ],
)
def test_headers_with_control_characters_are_left_to_the_server_to_refuse(
    field: tuple[bytes, bytes],
) -> None:
    cycle: Any = _Cycle()
    assert not Exchange(cycle).answer(200, _fields(field), b"{}")
    assert not cycle.written


def _special() -> Iterator[Any]:
    yield pytest.param({"keep_alive": False}, 200, id="it is the connection's last")
    yield pytest.param({"disconnected": True}, 200, id="nobody is there")
    yield pytest.param({"response_started": True}, 200, id="it has begun")
    yield pytest.param({"flow": SimpleNamespace(write_paused=True)}, 200, id="the client is slow")
    yield pytest.param({"scope": {"method": "HEAD"}}, 200, id="it has no body")
    yield pytest.param({}, 204, id="it may have no body")
    yield pytest.param({}, 413, id="it may end the connection")


@pytest.mark.parametrize(("changes", "status"), _special())
def test_special_answers_go_through_asgi(changes: dict[str, Any], status: int) -> None:
    cycle: Any = _Cycle(**changes)
    assert not Exchange(cycle).answer(status, _fields(), b"{}")
    assert not cycle.written


async def test_requests_leave_no_reference_cycles(gateway: Gateway, port: int) -> None:
    """A request in a reference cycle stays in memory, and in the cache of the processor."""
    async with serving(gateway, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def ask(times: int) -> None:
            for _ in range(times):
                writer.write(REQUESTS[0] + REQUESTS[7])
                for _ in range(2):
                    head = await soon(reader.readuntil(b"\r\n\r\n"))
                    found = re.search(rb"content-length: (\d+)", head)
                    assert found is not None
                    await soon(reader.readexactly(int(found[1])))

        await ask(5)
        gc.collect()
        gc.disable()
        try:
            await ask(100)
            assert gc.collect() < 100
        finally:
            gc.enable()
        writer.close()
