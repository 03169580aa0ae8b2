"""Which tenant a request belongs to, on every route; and who may call."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from api.http.auth import Role
from api.openapi.document import openapi
from tests.unit.api.problems import problem
from tests.unit.tenants.one_process import REGISTRIES, Stack, running


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    async with running() as made:
        yield made


async def _open(stack: Stack, caller: str, account: str, **headers: str) -> httpx.Response:
    body = {"account_id": account, "owner": "ada"}
    return await stack.ask(caller, "POST", "/accounts", json=body, headers=headers)


def _routes(stack: Stack) -> list[tuple[str, str, Role]]:
    found = []
    for (method, path), access in stack.access.items():
        concrete = re.sub(r"{[^}]*}", "x", path)
        # A HEAD of a live stream ends, and asks the same.
        found.append(("HEAD" if method == "GET" else method, concrete, access.role))
    return found


async def test_no_route_of_the_domain_answers_without_a_tenant(stack: Stack) -> None:
    routes = [each for each in _routes(stack) if each[2] in (Role.READER, Role.WRITER)]
    assert len(routes) > 15
    asked: list[tuple[str, dict[str, str], int]] = [
        ("any", {}, 400),
        ("operator", {}, 400),
        ("any", {"rayfold-tenant": "Acme"}, 400),
        ("any", {"rayfold-tenant": ""}, 400),
        ("any", {"rayfold-tenant": "a:b"}, 400),
        ("none", {}, 403),
        ("none", {"rayfold-tenant": "acme"}, 403),
        ("acme", {"rayfold-tenant": "globex"}, 403),
    ]
    for method, path, _ in routes:
        for caller, headers, status in asked:
            reply = await stack.ask(caller, method, path, headers=headers, content=b"{}")
            assert reply.status_code == status, (method, path, caller, headers)


async def test_no_route_of_operators_answers_a_principal_of_a_tenant(stack: Stack) -> None:
    routes = [each for each in _routes(stack) if each[2] is Role.OPERATOR]
    assert len(routes) > 40
    for method, path, _ in routes:
        reply = await stack.ask("insider", method, path, content=b"{}")
        assert reply.status_code == 403, (method, path)


async def test_a_principal_without_a_tenant_must_name_one(stack: Stack) -> None:
    assert (await _open(stack, "any", "a", **{"rayfold-tenant": "acme"})).status_code == 202
    seen = await stack.ask("acme", "GET", "/accounts/a", headers={"rayfold-tenant": "acme"})
    assert seen.json()["owner"] == "ada"
    assert seen.headers["vary"] == "rayfold-tenant"
    problem(await stack.ask("any", "GET", "/accounts/a"), 400, "tenant-needed")
    problem(await stack.ask("globex", "GET", "/accounts/a"), 404, "not-found")
    both = httpx.Headers([("rayfold-tenant", "acme"), ("rayfold-tenant", "globex")])
    token = {"authorization": "Bearer token-of-any"}
    reply = await stack.http.get("/accounts/a", headers=[*both.multi_items(), *token.items()])
    assert reply.status_code == 400


async def test_an_empty_id_with_a_tenant_is_refused(stack: Stack) -> None:
    problem(await _open(stack, "acme", ""), 422)
    assert (await _open(stack, "acme", ":")).status_code == 202
    assert (await _open(stack, "acme", "x" * 1024)).status_code == 202
    problem(await _open(stack, "acme", "x" * 1025), 422)


async def test_the_status_of_a_command_is_shown_only_to_its_tenant(stack: Stack) -> None:
    key = "0b9c5f0e-3c5e-4a55-9c61-6c2b1f1f7f00"
    told = (await _open(stack, "acme", "a", **{"idempotency-key": key})).json()
    command_id = told["command_id"]
    assert command_id != key
    for known in (key, command_id):
        mine = await stack.ask("acme", "GET", f"/commands/{known}")
        assert mine.json()["command_id"] == command_id
        theirs = await stack.ask("globex", "GET", f"/commands/{known}")
        problem(theirs, 404, "unknown-command-id")
    again = await _open(stack, "acme", "a", **{"idempotency-key": key})
    assert again.json() == told
    other = (await _open(stack, "globex", "a", **{"idempotency-key": key})).json()
    assert other["command_id"] != command_id
    ids = [raw async for raw in stack.log.read_all(stack.registry.prefixes)]
    assert len({raw.stream for raw in ids}) == len(ids) == 2


async def test_another_tenant_cannot_cancel_what_is_scheduled(stack: Stack) -> None:
    later = {"rayfold-not-before": "2999-01-01T00:00:00Z", "idempotency-key": "later"}
    told = (await _open(stack, "acme", "a", **later)).json()
    for known in ("later", told["command_id"]):
        theirs = await stack.ask("globex", "DELETE", f"/commands/{known}")
        problem(theirs, 404, "not-scheduled")
        problem(await stack.ask("globex", "GET", f"/commands/{known}"), 404, "unknown-command-id")
    assert (await stack.ask("acme", "GET", "/commands/later")).json()["status"] == "scheduled"
    ended = await stack.ask("acme", "DELETE", f"/commands/{told['command_id']}")
    assert ended.json()["status"] == "cancelled"


async def test_a_cursor_or_a_token_of_another_tenant_leads_to_no_row_of_theirs(
    stack: Stack,
) -> None:
    for account in ("a", "b", "c"):
        await _open(stack, "acme", account)
    await _open(stack, "globex", "mine")
    first = await stack.ask("acme", "GET", "/accounts?limit=1")
    path = f"/accounts?cursor={first.json()['next_cursor']}"
    token = {"consistency-token": first.headers["consistency-token"]}
    for headers in ({}, token):
        found = await stack.ask("globex", "GET", path, headers=headers)
        assert [row["account_id"] for row in found.json()["items"]] == ["mine"]


async def test_without_tenants_no_request_is_served_for_a_tenant() -> None:
    async with running(tenants=False) as stack:
        assert (await _open(stack, "none", "a")).json()["stream"] == "account-a"
        seen = await stack.ask("globex", "GET", "/accounts/a")
        assert seen.json()["owner"] == "ada"
        assert "vary" not in seen.headers
        for method, path, role in _routes(stack):
            named = await stack.ask("any", method, path, headers={"rayfold-tenant": "acme"})
            if role in (Role.READER, Role.WRITER):
                assert named.status_code == 400, (method, path)
        named = await _open(stack, "none", "b", **{"rayfold-tenant": "acme"})
        problem(named, 400, "no-tenants")


def test_the_schema_has_the_tenant_header_if_there_are_tenants() -> None:
    def with_header(document: dict[str, Any]) -> set[str]:
        return {
            path
            for path, item in document["paths"].items()
            if any(each["name"] == "Rayfold-Tenant" for each in item.get("parameters", ()))
        }

    assert with_header(openapi(REGISTRIES[False])) == set()
    found = with_header(openapi(REGISTRIES[True]))
    assert {"/accounts", "/accounts/{account_id}/history", "/commands/{command_id}"} <= found
    assert not any(path.startswith(("/operators", "/health")) for path in found)
