"""Whatever a client sends, it is never answered with a 500."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.unit.api.conftest import Gateway
from tests.unit.api.fakes import ORDER_ID

PATHS = [
    "/orders",
    f"/orders/{ORDER_ID}",
    f"/orders/{ORDER_ID}/lines",
    f"/orders/{ORDER_ID}/lines/sku",
    f"/orders/{ORDER_ID}/place",
    f"/orders/{ORDER_ID}/history",
    "/stock/sku/receive",
    "/sales/2026-01-01",
    "/sales",
    "/commands/create-order",
    f"/commands/{ORDER_ID}",
    "/queries/list-orders",
    "/operators/scale",
    "/health/ready",
]
HEADERS = [
    "idempotency-key",
    "if-match",
    "if-none-match",
    "consistency-token",
    "prefer",
    "traceparent",
    "x-correlation-id",
    "x-causation-id",
    "rayfold-store",
    "content-type",
    "accept",
    "authorization",
    "content-encoding",
    "expect",
]
FIELDS = ["order_id", "customer_id", "sku", "quantity", "unit_price_cents", "at", "currency"]
METHODS = ["GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"]

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(ORDER_ID),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
objects = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), values, max_size=6)
bodies = st.binary(max_size=200) | objects.map(lambda fields: json.dumps(fields).encode())
# What a server's parser lets through: no control characters.
header_values = st.text(
    st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=300
).map(lambda text: text.encode("latin-1"))
headers = st.dictionaries(st.sampled_from(HEADERS), header_values, max_size=5)
parameters = st.dictionaries(
    st.sampled_from([*FIELDS, "limit", "cursor", "status", "as_of"]) | st.text(max_size=5),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    max_size=4,
)

fuzzed = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def _is_an_answer(reply: httpx.Response, path: str = "") -> None:
    assert reply.status_code < 500, reply.text
    if reply.status_code >= 400:
        forms = {"application/problem+json"}
        if path.lstrip("/").partition("/")[0] == "console":
            forms.add("text/html; charset=utf-8")
        assert reply.headers["content-type"] in forms


@fuzzed
@given(method=st.sampled_from(METHODS), path=st.sampled_from(PATHS), body=bodies, head=headers)
async def test_no_body_and_no_header_leads_to_a_500(
    gateway: Gateway, method: str, path: str, body: bytes, head: dict[str, Any]
) -> None:
    _is_an_answer(await gateway.http.request(method, path, content=body, headers=head))


@fuzzed
@given(path=st.sampled_from(PATHS), params=parameters)
async def test_no_parameter_leads_to_a_500(
    gateway: Gateway, path: str, params: dict[str, str]
) -> None:
    _is_an_answer(await gateway.http.get(path, params=params))


async def _raw(gateway: Gateway, method: str, path: str, query_string: bytes) -> None:
    """Go past httpx, which would not send everything that a socket lets through."""
    sent: list[dict[str, Any]] = []

    incoming = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Any:
        # A client that goes away: what is asked for may be a stream without an end.
        await asyncio.sleep(0)
        return next(incoming, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode("utf-8", "replace"),
        "root_path": "",
        "query_string": query_string,
        "headers": [(b"host", b"127.0.0.1")],
        "scheme": "http",
        "server": ("gateway", 80),
        "client": ("127.0.0.1", 1),
        "http_version": "1.1",
    }
    await gateway.app(scope, receive, send)
    start, *rest = sent
    head = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]]
    body = b"".join(message["body"] for message in rest)
    _is_an_answer(httpx.Response(start["status"], headers=head, content=body), path)


@fuzzed
@given(query_string=st.binary(max_size=60))
async def test_no_query_string_leads_to_a_500(gateway: Gateway, query_string: bytes) -> None:
    for path in ("/orders", f"/orders/{ORDER_ID}", "/queries/get-stock"):
        await _raw(gateway, "GET", path, query_string)


@fuzzed
@given(tail=st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
@example(tail="/health/live")
@example(tail="console/aggregates")
async def test_no_path_leads_to_a_500(gateway: Gateway, tail: str) -> None:
    for start in ("/orders/", "/stock/", "/commands/", "/queries/", "/sales/", "/"):
        for method in ("GET", "POST"):
            await _raw(gateway, method, start + tail, b"")
