"""Who may call what: the documented table is the code's, and every route follows it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.http.auth import Access, Role, Token
from rayfold import Registry
from tests.unit.api.conftest import Gateway

PAGE = Path(__file__).resolve().parents[3] / "docs/reference/access.md"
CALLERS = [Token(role.name.lower(), f"a-{role.name.lower()}", role) for role in Role if role]
OURS = re.compile(
    r"/(commands/\{|queries|processes|publications|health|metrics|schema|docs|console|operators)"
)


@pytest.fixture
async def guarded(registry: Registry) -> AsyncIterator[Gateway]:
    made = Gateway(registry, options={"tokens": CALLERS})
    async with made.http:
        yield made


async def test_every_route_answers_those_who_may_call_it_and_nobody_else(guarded: Gateway) -> None:
    assert len(guarded.app.access) > 60
    for (method, path), access in guarded.app.access.items():
        concrete = re.sub(r"{[^}]*}", "x", path)
        # A HEAD of a live stream ends, and asks the same.
        verb = "HEAD" if method == "GET" else method
        for caller in (None, *CALLERS):
            headers = {} if caller is None else {"authorization": f"Bearer {caller.secret}"}
            reply = await guarded.http.request(verb, concrete, headers=headers, content=b"{}")
            assert reply.status_code < 500, (verb, path, reply.text)
            if access.role is Role.PUBLIC or (caller is not None and caller.role >= access.role):
                assert reply.status_code not in (401, 403), (verb, path, caller)
            else:
                assert reply.status_code == (401 if caller is None else 403), (verb, path, caller)


def table(access: dict[tuple[str, str], Access]) -> str:
    """Return the gateway's own routes as the page has them."""
    lines = ["| request | public | reader | writer | operator |", "|---|---|---|---|---|"]
    for (method, path), needed in sorted(access.items(), key=lambda each: each[0][::-1]):
        if OURS.match(path):
            cells = ["yes" if role >= needed.role else "no" for role in Role]
            lines.append(f"| `{method} {path}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def test_the_documented_table_is_the_codes(guarded: Gateway) -> None:
    text = PAGE.read_text()
    made = table(guarded.app.access)
    assert made in text, f"docs/reference/access.md must have this table:\n{made}"
