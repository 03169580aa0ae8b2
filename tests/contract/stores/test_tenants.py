"""Rows of tenants: each store answers one tenant's questions with that tenant's rows alone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from eventstore.memory import MemoryLog
from projections.operations.query_verification import compare_store, sample
from projections.operations.verification import fold_afresh
from projections.row_query import RowQuery
from projections.stores import known
from rayfold import Registry
from rayfold.tenants import TENANT, NoTenant
from tests.contract.stores import documented, shelf
from tests.contract.stores.conftest import OTHER
from tests.contract.stores.shelf import Painted, Put, Taken, write
from tests.contract.stores.subjects import Durable, InMemory, Subject, place, running

Under = tuple[MemoryLog, Subject]

STORES = ["memory", "postgres", "redis", "dynamodb", "documented"]


def registry_of_tenants(store: str) -> Registry:
    registry = Registry([shelf], tenants=True)
    for name, view in registry.views.items():
        registry.views[name] = replace(view, stores=(store,))
    return registry


@pytest.fixture(params=[] if OTHER else STORES)
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Under]:
    """A store whose rows are tenants'."""
    log, name = MemoryLog(), request.param.replace("documented", "sqlite")
    registry = registry_of_tenants(name)
    if name == "memory":
        yield log, InMemory(log, registry)
        return
    if name == "sqlite":
        folder = request.getfixturevalue("tmp_path")
        where = place(f"sqlite://{folder}/views.db")
        yield log, Durable(log, registry, lambda: documented.store()(registry, where))
        return
    if name == "postgres":
        dsn = request.getfixturevalue("postgres")
        connection = await asyncpg.connect(dsn)
        await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        await connection.close()
        where = place(dsn)._replace(stack="")
    else:
        fixture = "redis_server" if name == "redis" else "dynamo_server"
        where = place(request.getfixturevalue(fixture).url)
    yield log, Durable(log, registry, lambda: known.make(name, registry, where))


async def put(log: MemoryLog, tenant: str, *names: str) -> int:
    end = 0
    for at, name in enumerate(names):
        end = await write(log, Put(id=str(at), name=name), stream=f"thing-{tenant}:{at}")
    return end


def asked(tenant: str, at_least: int, limit: int = 50, **filters: str) -> RowQuery:
    return RowQuery("shelf", None, at_least, {TENANT: tenant, **filters}, limit, None)


async def names(store: Subject, query: RowQuery) -> list[str]:
    """Of all rows, page by page."""
    found: list[str] = []
    while True:
        page = json.loads((await store.ask(query)).body or b"")
        found += [row["name"] for row in page["items"]]
        if page["next_cursor"] is None:
            return found
        query = query._replace(cursor=page["next_cursor"])


async def test_the_same_key_in_two_tenants_is_two_rows_in_every_list(subject: Under) -> None:
    log, store = subject
    async with running(store):
        await put(log, "acme", "tea", "tea", "jam")
        await put(log, "ac", "tea", "bun")
        end = await write(log, Painted(id="0", colour="red"), stream="thing-acme:0")
        end = await write(log, Taken(id="1"), stream="thing-ac:1")
        assert await names(store, asked("acme", end)) == ["tea", "tea", "jam"]
        assert await names(store, asked("acme", end, limit=1)) == ["tea", "tea", "jam"]
        assert await names(store, asked("ac", end)) == ["tea"]
        assert await names(store, asked("nobody", end)) == []
        assert await names(store, asked("acme", end, name="tea")) == ["tea", "tea"]
        assert await names(store, asked("ac", end, name="tea", size="1")) == ["tea"]
        assert await names(store, asked("ac", end, colour="red")) == []
        assert await names(store, asked("acme", end, colour="red", name="tea")) == ["tea"]
        for key, colour in (("acme:0", "red"), ("ac:0", None)):
            found = await store.ask(RowQuery("shelf", key, end, {}, 0, None))
            assert json.loads(found.body or b"")["colour"] == colour
        assert (await store.ask(RowQuery("shelf", "0", end, {}, 0, None))).body is None


async def test_a_view_keyed_by_a_field_has_a_row_for_each_tenant(subject: Under) -> None:
    log, store = subject
    async with running(store):
        await put(log, "acme", "tea")
        await put(log, "globex", "tea")
        await write(log, Painted(id="0", colour="red"), stream="thing-acme:0")
        await write(log, Painted(id="0", colour="red"), stream="thing-acme:0")
        end = await write(log, Painted(id="0", colour="red"), stream="thing-globex:0")
        for key, times in (("acme:red", 2), ("globex:red", 1)):
            found = await store.ask(RowQuery("colours", key, end, {}, 0, None))
            assert json.loads(found.body or b"")["times"] == times


async def test_a_cursor_of_another_tenant_gives_no_row_of_theirs(subject: Under) -> None:
    log, store = subject
    async with running(store):
        await put(log, "acme", "a", "b", "c")
        end = await put(log, "globex", "x", "y")
        first = await store.ask(asked("acme", end, limit=1))
        cursor = json.loads(first.body or b"")["next_cursor"]
        found = await store.ask(asked("globex", end)._replace(cursor=cursor))
        assert [row["name"] for row in json.loads(found.body or b"")["items"]] == ["x", "y"]


async def test_a_list_without_a_tenant_is_refused(subject: Under) -> None:
    log, store = subject
    async with running(store):
        end = await put(log, "acme", "tea")
        filters: list[dict[str, str]] = [{}, {"name": "tea"}, {TENANT: ""}]
        for each in filters:
            with pytest.raises((NoTenant, Exception)) as raised:
                await store.ask(RowQuery("shelf", None, end, each, 50, None), timeout=30)
            assert "no tenant" in str(raised.value)


async def test_an_event_of_no_tenant_is_parked_and_seen_by_nobody(subject: Under) -> None:
    log, store = subject
    async with running(store):
        await write(log, Put(id="0", name="whose"), stream="thing-0")
        end = await put(log, "acme", "tea")
        await store.reached(end)
        assert await names(store, asked("acme", end)) == ["tea"]
        [parked, *_] = [each for each in store.parked() if each.view == "shelf"]
        assert parked.stream == "thing-0"
        assert "of no tenant" in parked.error


async def test_a_rebuild_keeps_tenants_apart_and_verification_finds_no_difference(
    subject: Under,
) -> None:
    log, store = subject
    async with running(store):
        await put(log, "acme", "tea", "jam", "tea")
        end = await put(log, "globex", "tea")
        await store.reached(end)
        await store.rebuild("shelf")
        assert await names(store, asked("acme", end, name="tea")) == ["tea", "tea"]
        table = (await fold_afresh(store.registry, log, end))["shelf"]
        questions = sample(table)
        assert {each.filters[TENANT] for each in questions} == {"acme", "globex"}
        found: Any = await store.snapshot("shelf", questions)
        assert compare_store(store.name, table, questions, found, end) == []
