"""Who may call: tokens with roles; without tokens, which pages, and from which address."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx
import pytest

from api.http.auth import Role, Token
from rayfold import Registry
from tests.unit.api.conftest import Gateway
from tests.unit.api.fakes import ORDER_ID
from tests.unit.api.problems import problem

PLACE = f"/orders/{ORDER_ID}/place"
ORDER = f"/orders/{ORDER_ID}"
TOKENS = [
    Token("dashboard", "reads-only", Role.READER),
    Token("shop", "s3cret", Role.WRITER),
    Token("ops", "all-of-it", Role.OPERATOR),
]


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


@pytest.fixture
async def guarded(registry: Registry) -> AsyncIterator[Gateway]:
    """Return a gateway with a token for each role."""
    made = Gateway(registry, options={"tokens": TOKENS})
    async with made.http:
        yield made


async def test_if_tokens_are_set_only_their_bearers_may_call(guarded: Gateway) -> None:
    for authorization in ("", "Bearer nope", "Basic s3cret", "Bearer"):
        reply = await guarded.http.post(PLACE, headers={"authorization": authorization})
        problem(reply, 401, "unauthorized")
        assert reply.headers["www-authenticate"] == "Bearer"
    assert not guarded.commands.sent
    reply = await guarded.http.post(PLACE, headers={"authorization": "bearer s3cret"})
    assert reply.status_code == 202
    assert guarded.commands.sent[0].principal == "shop"
    for path in ("/health/live", "/health/ready", "/health/parts", "/schema", "/docs"):
        assert (await guarded.http.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("GET", ORDER, Role.READER),
        ("GET", f"{ORDER}/history", Role.READER),
        ("GET", "/queries/get-stock?sku=nut", Role.READER),
        ("GET", f"/commands/{ORDER_ID}", Role.READER),
        ("POST", PLACE, Role.WRITER),
        ("DELETE", f"{ORDER}/lines/sku-1", Role.WRITER),
        ("POST", "/commands/place-order", Role.WRITER),
        ("GET", "/metrics", Role.OPERATOR),
        ("GET", "/operators/status", Role.OPERATOR),
        ("POST", "/operators/scale", Role.OPERATOR),
    ],
)
async def test_a_role_includes_those_before_it(
    guarded: Gateway, method: str, path: str, needed: Role
) -> None:
    problem(await guarded.http.request(method, path), 401, "unauthorized")
    for token in TOKENS:
        reply = await guarded.http.request(method, path, headers=bearer(token.secret))
        if token.role < needed:
            problem(reply, 403, "forbidden")
        else:
            assert reply.status_code not in (401, 403)


async def test_with_a_token_operators_may_come_from_anywhere(guarded: Gateway) -> None:
    headers = {**bearer("all-of-it"), "host": "shop.example"}
    assert (await guarded.http.get("/operators/status", headers=headers)).status_code == 200


FOREIGN = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:9999"},
    {"origin": "file://"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "cross-site"},
    # A name of the attacker's that leads here: same origin to the browser, but none of ours.
    {"origin": "http://evil.example", "host": "evil.example"},
    # The same behind a proxy that sends its own `Host`.
    {"origin": "https://evil.example", "sec-fetch-site": "same-origin"},
    {"origin": "null", "sec-fetch-site": "same-origin"},
]
"""Headers that a browser sends for a page of another site."""


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", PLACE), ("DELETE", f"{ORDER}/lines/sku-1"), ("POST", "/operators/scale")],
)
async def test_a_page_of_another_site_changes_nothing(
    gateway: Gateway, headers: dict[str, str], method: str, path: str
) -> None:
    body = {"target": "memory", "n": 2} if path.startswith("/operators") else {}
    reply = await gateway.http.request(method, path, headers=headers, json=body)
    assert reply.status_code == 403
    assert not gateway.commands.sent
    assert not gateway.operations.scaled


OWN = [
    {},
    {"origin": "http://127.0.0.1:8000"},
    {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"},
    {"origin": "http://localhost:8000", "host": "localhost:8000"},
    {"origin": "http://localhost", "host": "localhost"},
    {"origin": "http://[::1]:8000", "host": "[::1]:8000"},
    {"origin": "https://10.0.0.7", "host": "10.0.0.7"},
    {"sec-fetch-site": "none"},
    # A proxy that ends TLS and sends a `Host` of its own.
    {"origin": "https://localhost", "host": "127.0.0.1:8000", "sec-fetch-site": "same-origin"},
]


@pytest.mark.parametrize("headers", OWN)
async def test_programs_and_own_pages_may_change_things(
    gateway: Gateway, headers: dict[str, str]
) -> None:
    assert (await gateway.http.post(PLACE, headers=headers)).status_code == 202


async def test_a_declared_host_name_counts_as_our_own(registry: Registry) -> None:
    named = Gateway(registry, options={"hosts": ["Shop.example"]})
    async with named.http as http:
        headers = {"origin": "https://shop.example", "host": "shop.example"}
        assert (await http.post(PLACE, headers=headers)).status_code == 202
        assert (await http.get("/operators/status", headers=headers)).status_code == 200


async def test_a_shell_may_send_any_content_type_and_a_page_must_send_json(
    gateway: Gateway,
) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    body = b'{"customer_id": "ada"}'
    reply = await gateway.http.post("/orders", content=body, headers=form)
    assert reply.status_code == 202
    page = {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}
    for content_type in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data"):
        headers = {**page, "content-type": content_type}
        reply = await gateway.http.post("/orders", content=body, headers=headers)
        problem(reply, 415, "unsupported-media-type")
    for content_type in ("application/json; charset=utf-8", "Application/JSON"):
        headers = {**page, "content-type": content_type}
        reply = await gateway.http.post("/orders", content=body, headers=headers)
        assert reply.status_code == 202


@pytest.mark.parametrize("path", ["/operators/status", "/operators/parked", "/metrics"])
@pytest.mark.parametrize("host", ["evil.example", "10.0.0.7:8000", "127.0.0.1.evil.example", ""])
async def test_without_tokens_operators_must_use_a_loopback_name(
    gateway: Gateway, path: str, host: str
) -> None:
    problem(await gateway.http.get(path, headers={"host": host}), 403, "foreign-host")
    for own in ("localhost:8000", "LocalHost", "127.0.0.1", "127.9.9.9:1", "[::1]:8000"):
        assert (await gateway.http.get(path, headers={"host": own})).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ORDER),
        ("HEAD", ORDER),
        ("GET", f"{ORDER}/history"),
        ("GET", f"{ORDER}?as_of=0"),
        ("GET", "/queries/get-stock?sku=nut"),
        ("GET", f"/commands/{ORDER_ID}"),
        ("POST", PLACE),
    ],
)
async def test_without_tokens_a_host_name_that_may_be_an_attackers_is_refused(
    gateway: Gateway, method: str, path: str
) -> None:
    """A page of that name could read every answer, if the name resolves to this machine."""
    others = ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "[evil.example]:8000")
    for host in (*others, "gateway.shop", "svc.evil.example", "internal.example", ""):
        reply = await gateway.http.request(method, path, headers={"host": host})
        assert reply.status_code == 403, host
        if method != "HEAD":
            problem(reply, 403, "foreign-host")
    assert not gateway.commands.sent
    addresses = ("localhost:8000", "LocalHost", "127.0.0.1", "[::1]:8000", "10.0.0.7:8000")
    private = ("gateway:8000", "shop.prod.svc", "shop.prod.svc.cluster.local", "db7.internal")
    for own in (*addresses, *private):
        reply = await gateway.http.request(method, path, headers={"host": own})
        assert reply.status_code != 403, own


async def test_with_tokens_or_a_name_that_is_declared_any_program_is_answered(
    registry: Registry, guarded: Gateway
) -> None:
    here = {"host": "shop.example"}
    for authorization, status in (({}, 401), (bearer("reads-only"), 200)):
        reply = await guarded.http.get(ORDER, headers={**here, **authorization})
        assert reply.status_code == status
    named = Gateway(registry, options={"hosts": ["Shop.example"]})
    async with named.http as http:
        assert (await http.get(ORDER, headers=here)).status_code == 200


async def test_without_tokens_operators_must_be_on_this_machine(gateway: Gateway) -> None:
    for client, status in (("10.0.0.7", 403), ("127.0.0.2", 200), ("::ffff:127.0.0.1", 200)):
        transport = httpx.ASGITransport(app=gateway.app, client=(client, 5))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            assert (await http.get("/operators/status")).status_code == status
            assert (await http.get(ORDER)).status_code == 200


@pytest.mark.parametrize(
    "header", ["Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP", "Via"]
)
async def test_without_tokens_operators_must_not_come_through_a_proxy(
    gateway: Gateway, header: str
) -> None:
    """A proxy on this machine may pass on anybody's requests, under the name that it knows."""
    headers = {"host": "127.0.0.1:8000", header: "127.0.0.1"}
    for path in ("/operators/status", "/metrics"):
        problem(await gateway.http.get(path, headers=headers), 403, "not-local")
    assert (await gateway.http.get("/console", headers=headers)).status_code == 403
    assert (await gateway.http.get(ORDER, headers=headers)).status_code == 200


async def test_behind_a_proxy_operators_show_a_token(guarded: Gateway) -> None:
    headers = {"X-Forwarded-For": "192.0.2.1", **bearer("all-of-it")}
    assert (await guarded.http.get("/operators/status", headers=headers)).status_code == 200


@pytest.mark.parametrize("headers", FOREIGN)
async def test_a_page_of_another_site_may_not_even_read_operators_routes(
    gateway: Gateway, headers: dict[str, str]
) -> None:
    kind = "foreign-host" if "host" in headers else "foreign-origin"
    problem(await gateway.http.get("/operators/status", headers=headers), 403, kind)
    own = {"origin": "http://127.0.0.1:8000"}
    assert (await gateway.http.get("/operators/status", headers=own)).status_code == 200


@pytest.mark.parametrize("path", ["/console", "/console/views", "/docs"])
async def test_pages_allow_no_foreign_scripts_and_no_frames(gateway: Gateway, path: str) -> None:
    page = await gateway.http.get(path)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["x-frame-options"] == "DENY"
    assert not re.search(r"<script>|<style|\s(on[a-z]+|style)=|javascript:|https?://", page.text)
    sources = re.findall(r'(?:src|<link[^>]*href)="([^"]+)"', page.text)
    assert sources
    for source in sources:
        assert source.startswith(("/console/static/", "/docs/"))
        part = await gateway.http.get(source)
        assert part.status_code == 200
        assert part.headers["x-content-type-options"] == "nosniff"
