"""Every change that an operator asks for is noted, before it is done."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from api.http.auth import Role, Token
from rayfold import Registry
from tests.unit.api.conftest import Gateway
from tests.unit.api.fakes import FakeAudit
from tests.unit.api.problems import problem

OPS = {"authorization": "Bearer ops"}


@pytest.fixture
def notes() -> FakeAudit:
    return FakeAudit()


@pytest.fixture
async def audited(registry: Registry, notes: FakeAudit) -> AsyncIterator[Gateway]:
    tokens = [Token("olga", "ops", Role.OPERATOR), Token("shop", "shop", Role.WRITER)]
    made = Gateway(registry, options={"tokens": tokens, "audit": notes})
    async with made.http:
        yield made


async def test_every_change_of_the_stack_is_noted_with_who_asked(
    audited: Gateway, notes: FakeAudit
) -> None:
    posts = [
        path
        for (method, path), access in audited.app.access.items()
        if access.role is Role.OPERATOR and method != "GET" and not path.startswith("/console")
    ]
    assert len(posts) >= 7
    for path in posts:
        await audited.http.post(path, headers=OPS, content=b"{}")
    assert [(who, what) for who, what, _ in notes.asked_for] == [
        ("olga", path.rpartition("/")[2]) for path in posts
    ]


async def test_the_body_is_noted_and_still_passed_on(audited: Gateway, notes: FakeAudit) -> None:
    body = b'{"target":"memory","n":2}'
    reply = await audited.http.post("/operators/scale", headers=OPS, content=body)
    assert reply.status_code == 200
    assert audited.operations.scaled == [("memory", 2)]
    assert notes.asked_for == [("olga", "scale", body)]
    assert notes.failures == []


async def test_a_request_that_fails_is_noted_as_failed(audited: Gateway, notes: FakeAudit) -> None:
    reply = await audited.http.post("/operators/scale", headers=OPS, content=b"nonsense")
    assert reply.status_code == 400
    assert notes.failures == [("note-1", 400)]


async def test_a_request_that_raises_is_noted_as_failed(
    audited: Gateway, notes: FakeAudit, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks(target: str, count: int) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(audited.operations, "scale", breaks)
    body = b'{"target":"memory","n":2}'
    reply = await audited.http.post("/operators/scale", headers=OPS, content=body)
    problem(reply, 500, "internal-error")
    assert notes.failures == [("note-1", 500)]


async def test_a_forbidden_request_leaves_no_note(audited: Gateway, notes: FakeAudit) -> None:
    headers = {"authorization": "Bearer shop"}
    reply = await audited.http.post("/operators/scale", headers=headers, content=b"{}")
    problem(reply, 403, "forbidden")
    assert notes.asked_for == []


async def test_operators_can_read_the_notes(audited: Gateway) -> None:
    assert (await audited.http.get("/operators/audit", headers=OPS)).json() == {
        "audit": [{"limit": 50}]
    }
    for wrong in ("0", "1000", "-1", "many", "2.5"):
        reply = await audited.http.get(f"/operators/audit?limit={wrong}", headers=OPS)
        problem(reply, 422, "invalid-fields")
