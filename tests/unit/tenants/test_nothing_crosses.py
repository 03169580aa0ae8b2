"""Each tenant of a stack sees what it would see if it were the only one: whatever the others do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from itertools import count
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.unit.tenants.one_process import Stack, running

IDS = st.sampled_from(["a", "b", "acme:a"])
"""Of accounts and owners alike; the last one looks like a tenant's."""

AMOUNTS = st.integers(0, 2)
KEYS = st.none() | st.sampled_from(["k", "0b9c5f0e-3c5e-4a55-9c61-6c2b1f1f7f00"])

PHASES = (Phase.explicit, Phase.generate)
"""What is found is told as it is: to shrink it takes minutes."""

Asked = tuple[str, str, dict[str, Any] | None, str | None]
"""Method, path, body, idempotency key."""


def _post(path: Any, **body: Any) -> Any:
    return st.tuples(st.just("POST"), path, st.fixed_dictionaries(body), KEYS)


def _get(path: Any) -> Any:
    return st.tuples(st.just("GET"), path, st.none(), st.none())


ASKED = st.one_of(
    _post(st.just("/accounts"), account_id=IDS, owner=IDS),
    _post(st.just("/accounts"), account_id=IDS, owner=st.just("a")),
    _post(IDS.map("/accounts/{}/deposits".format), amount=AMOUNTS),
    _post(st.just("/commands/deposit"), account_id=IDS, amount=AMOUNTS),
    _post(IDS.map("/accounts/{}/transfers".format), payee=IDS, amount=AMOUNTS),
    _post(IDS.map("/owners/{}/name".format), name=IDS),
    _get(IDS.map("/accounts/{}".format)),
    _get(IDS.map("/accounts/{}/history".format)),
    _get(IDS.map("/accounts/{}?as_of=0".format)),
    _get(IDS.map("/owners/{}".format)),
    _get(IDS.map("/owners/{}/wealth".format)),
    _get(IDS.map("/accounts?limit=1&owner={}".format)),
    _get(AMOUNTS.map("/accounts?balance={}".format)),
    _get(st.just("/accounts?limit=2")),
    _get(st.just("/queries/list-owners?limit=2")),
    _get(IDS.map("/queries/get-account?account_id={}".format)),
    _get(st.just("/commands/k")),
    _get(st.just("/commands/0b9c5f0e-3c5e-4a55-9c61-6c2b1f1f7f00")),
)

SCRIPTS = st.lists(st.tuples(st.integers(0, 2), ASKED), min_size=10, max_size=40)
"""What three tenants ask, in turns."""

_OF_THE_LOG = ("position", "recorded_at", "detail", "metadata", "command_id")
"""What tells how much else was written, or is drawn."""


def _told(value: Any) -> Any:
    if isinstance(value, dict):
        cursor = {"next_cursor": bool(value["next_cursor"])} if "next_cursor" in value else {}
        return {k: _told(v) for k, v in value.items() if k not in _OF_THE_LOG} | cursor
    return [_told(each) for each in value] if isinstance(value, list) else value


async def _ask(stack: Stack, tenant: str, asked: Asked) -> str:
    """Return what a tenant is told, as if it had no name: of a list, page by page."""
    method, path, body, key = asked
    headers = {"rayfold-tenant": tenant} if stack.registry.tenants else {}
    headers |= {"idempotency-key": key} if key else {}
    told: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        more = f"&cursor={cursor}" if cursor else ""
        reply = await stack.ask("any", method, path + more, json=body, headers=headers)
        said = reply.json()
        told.append([reply.status_code, reply.headers.get("etag"), _told(said)])
        told.append(reply.headers.get("location"))
        cursor = said.get("next_cursor") if isinstance(said, dict) else None
    nameless = json.dumps(told).replace(f"-{tenant}:", "-")
    assert "-t-" not in nameless, nameless  # another's stream
    return nameless


async def _compare(stack: Stack, names: Iterator[str], script: list[tuple[int, Asked]]) -> None:
    """Let tenants that nobody knows yet ask in turns; then each of them alone, where there is none.

    So what they are told is also what it always was.
    """
    tenants = [next(names) for _ in range(3)]
    together = [await _ask(stack, tenants[who], asked) for who, asked in script]
    for each in range(3):
        async with running(tenants=False) as alone:
            said = [await _ask(alone, "nobody", asked) for who, asked in script if who == each]
        assert said == [
            told for (who, _), told in zip(script, together, strict=True) if who == each
        ]


def test_each_tenant_sees_what_it_would_see_alone() -> None:
    names = map("t-{}".format, count())
    with asyncio.Runner() as runner:
        stack_of_all = running()
        stack = runner.run(stack_of_all.__aenter__())

        @settings(max_examples=30, deadline=None, phases=PHASES)
        @given(SCRIPTS)
        def compare(script: list[tuple[int, Asked]]) -> None:
            runner.run(_compare(stack, names, script))

        try:
            compare()
        finally:
            runner.run(stack_of_all.__aexit__(None, None, None))
