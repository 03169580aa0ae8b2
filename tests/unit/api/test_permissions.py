"""Permissions that a domain asks for, and how much a principal may send."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from actors.schedules.schedules import Schedules
from api.http.auth import EVERYBODY, Access, Caller, Role, Token
from api.http.problems import Problem
from api.http.rates import Rates
from eventstore.memory import MemoryLog
from rayfold import Registry
from tests.unit.api.conftest import Gateway
from tests.unit.api.fakes import ORDER_ID
from tests.unit.api.problems import problem

GRANT = "/refunds/r-1/grant"
TOKENS = [
    Token("clerk", "clerk", Role.WRITER),
    Token("boss", "boss", Role.WRITER, frozenset({"refunds:grant", "refunds:read"})),
    Token("ops", "ops", Role.OPERATOR),
    Token("audit", "audit", Role.READER, frozenset({"refunds:grant", "refunds:list"})),
]


@pytest.fixture(scope="module")
def refunds() -> Registry:
    return Registry.load("tests.unit.api.guarded")


@pytest.fixture
async def guarded(refunds: Registry) -> AsyncIterator[Gateway]:
    made = Gateway(refunds, options={"tokens": TOKENS})
    async with made.http:
        yield made


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/refunds", {"clerk", "boss", "ops"}),
        ("POST", GRANT, {"boss", "ops"}),
        ("POST", "/commands/grant-refund", {"boss", "ops"}),
        ("GET", "/refunds/r-1", {"boss", "ops"}),
        ("GET", "/refunds/r-1/history", {"boss", "ops"}),
        ("GET", "/refunds/r-1?as_of=0", {"boss", "ops"}),
        ("GET", "/queries/get-refund?refund_id=r-1", {"boss", "ops"}),
        ("GET", "/queries/refund-name?refund_id=r-1", {"clerk", "boss", "ops", "audit"}),
        ("GET", "/refunds", {"ops", "audit"}),
    ],
)
async def test_a_route_with_a_permission_is_for_those_who_have_it(
    guarded: Gateway, method: str, path: str, allowed: set[str]
) -> None:
    for token in TOKENS:
        headers = {"authorization": f"Bearer {token.secret}"}
        reply = await guarded.http.request(method, path, headers=headers, json={})
        if token.name in allowed:
            assert reply.status_code not in (401, 403), (token.name, reply.text)
        else:
            problem(reply, 403, "forbidden")


async def test_who_may_not_send_a_command_may_not_cancel_it(refunds: Registry) -> None:
    options = {"tokens": TOKENS, "schedules": Schedules(MemoryLog())}
    made = Gateway(refunds, options=options)
    clerk, boss = ({"authorization": f"Bearer {name}"} for name in ("clerk", "boss"))
    later = {**boss, "rayfold-not-before": "2030-01-01T00:00:00Z", "idempotency-key": "new year"}
    async with made.http as http:
        assert (await http.post(GRANT, headers=later)).status_code == 202
        problem(await http.delete("/commands/new year", headers=clerk), 403, "forbidden")
        told = await http.get("/commands/new year", headers=clerk)
        assert told.json()["status"] == "scheduled"
        reply = await http.delete("/commands/new year", headers=boss)
        assert reply.json()["status"] == "cancelled"
        problem(await http.delete("/commands/nobody's", headers=clerk), 404, "not-scheduled")


async def test_a_live_query_needs_the_permission_of_its_query(guarded: Gateway) -> None:
    headers = {"authorization": "Bearer clerk"}
    problem(await guarded.http.get("/refunds/r-1/live", headers=headers), 403, "forbidden")
    assert guarded.app.access["GET", "/refunds/{refund_id}/live"].permission == "refunds:read"


async def test_without_tokens_no_permission_is_needed(refunds: Registry) -> None:
    made = Gateway(refunds)
    async with made.http as http:
        assert (await http.post(GRANT)).status_code == 202


async def test_each_principal_has_a_rate_of_its_own(registry: Registry) -> None:
    rates = Rates({"shop": "3/minute", "default": "1/hour"})
    tokens = [Token(name, name, Role.WRITER) for name in ("shop", "kiosk", "web")]
    made = Gateway(registry, options={"tokens": tokens, "rates": rates})
    statuses = {}
    async with made.http as http:
        for name in ("shop", "kiosk", "web"):
            headers = {"authorization": f"Bearer {name}"}
            replies = [
                await http.post(f"/orders/{ORDER_ID}/place", headers=headers) for _ in "12345"
            ]
            statuses[name] = [reply.status_code for reply in replies]
            problem(replies[-1], 429, "rate-limited")
            assert int(replies[-1].headers["retry-after"]) >= 1
        assert (await http.get("/health/live")).status_code == 200
    assert statuses == {
        "shop": [202, 202, 202, 429, 429],
        "kiosk": [202, 429, 429, 429, 429],
        "web": [202, 429, 429, 429, 429],
    }
    assert len(made.commands.sent) == 5


async def test_without_tokens_each_address_has_a_rate_of_its_own(registry: Registry) -> None:
    rates = Rates({"default": "1/hour"})
    for address in ("127.0.0.1", "127.0.0.2"):
        rates.count(EVERYBODY, address)
    with pytest.raises(Exception, match="rate-limited"):
        rates.count(EVERYBODY, "127.0.0.2")


def test_principals_of_the_same_name_in_two_tenants_count_separately() -> None:
    rates = Rates({"default": "1/hour"})
    for tenant, name in (("acme", "ada"), ("globex", "ada"), ("", "acme/ada"), ("a", "c/ada")):
        rates.count(Caller(name, Role.WRITER, frozenset(), tenant), "")
    with pytest.raises(Exception, match="rate-limited"):
        rates.count(Caller("ada", Role.WRITER, frozenset(), "globex"), "")


def test_a_tenant_has_a_rate_of_its_own_whoever_asks_for_it() -> None:
    rates = Rates({"busy": "1/hour"}, {"acme": "2/hour", "default": "1/hour"})
    backend, busy = (Caller(name, Role.WRITER, frozenset(), "*") for name in ("backend", "busy"))
    rates.count(busy, "", "acme")
    with pytest.raises(Exception, match="rate-limited"):
        rates.count(busy, "", "acme")  # which does not count for the tenant
    rates.count(backend, "", "acme")
    for tenant in ("globex", "initech"):
        rates.count(backend, "", tenant)
    for tenant in ("acme", "globex"):
        with pytest.raises(Problem) as refused:
            rates.count(backend, "", tenant)
        assert refused.value.detail.startswith(f"{tenant} may send ")
    rates.count(Caller("ops", Role.OPERATOR), "")


async def test_requests_of_the_domain_count_for_their_tenant() -> None:
    tokens = [
        Token("backend", "backend", Role.WRITER, tenant="*"),
        Token("ops", "ops", Role.OPERATOR),
    ]
    options = {"tokens": tokens, "rates": Rates(of_tenants={"default": "1/hour"})}
    made = Gateway(Registry.load("domain", tenants=True), options=options)
    async with made.http as http:
        for tenant, statuses in (("acme", [202, 429]), ("globex", [202, 429])):
            headers = {"authorization": "Bearer backend", "rayfold-tenant": tenant}
            path = f"/orders/{ORDER_ID}/place"
            assert [
                (await http.post(path, headers=headers)).status_code for _ in statuses
            ] == statuses
        operator = {"authorization": "Bearer ops"}
        replies = [await http.get("/operators/status", headers=operator) for _ in range(3)]
        assert [reply.status_code for reply in replies] == [200] * 3


def test_the_openapi_document_has_the_permissions_of_routes(refunds: Registry) -> None:
    access = Gateway(refunds).app.access
    assert access["POST", "/refunds/{refund_id}/grant"] == Access(Role.WRITER, "refunds:grant")
    assert access["GET", "/health/live"] == Access(Role.PUBLIC)
    assert access["POST", "/operators/scale"] == Access(Role.OPERATOR)
