"""However a history is delivered, memory and Postgres have what the plain fold gives."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventstore.records import RawRecord, recorded
from projections.folding import Folding
from projections.memory import replica as replica_module
from projections.memory.replica import Replica
from projections.memory.table import Table
from projections.postgres.rows import Rows
from projections.postgres.schema import prepare
from projections.stores import runner
from rayfold import Registry, VersionedRow, document, key_text
from tests.integration.projections.histories import BadLog, commands, cuts, history_of
from tests.integration.projections.postgres_projector import Projector

DEADLINE = 60.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What breaks is tried again at once."""
    monkeypatch.setattr(runner, "RETRY", 0)
    monkeypatch.setattr(replica_module, "RETRY", 0)


def plainly(registry: Registry, view: Any, history: list[RawRecord]) -> dict[str, bytes]:
    """The fold as one would write it on a whiteboard."""
    rows: dict[str, VersionedRow] = {}
    for raw in history:
        for event in recorded(registry, raw):
            for key in view.keys_of(event.event):
                row = view.fold(rows.get(key_text(key)), event, key)
                if row is None:
                    rows.pop(key_text(key), None)
                else:
                    rows[key_text(key)] = row
    return {key: document(row) for key, row in rows.items()}


async def until(progress: Any, position: int, running: list[asyncio.Task[None]]) -> None:
    """Waits for the position, then ends what runs."""
    try:
        assert await progress.reached(position, DEADLINE)
    finally:
        for task in running:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(done=st.lists(commands, max_size=40), cut=cuts, overlap=st.integers(0, 5))
def test_in_memory(registry: Registry, done: list[Any], cut: list[int], overlap: int) -> None:
    history = history_of(done)
    end = history[-1].position if history else 0
    views = [view for view in registry.views.values() if "memory" in view.stores]

    async def deliver() -> Replica:
        names = [view.name for view in views]
        replica = Replica(registry, names, BadLog(history, cut, overlap))
        await until(replica.progress, end, [asyncio.create_task(replica.run())])
        return replica

    replica = asyncio.run(deliver())
    for view in views:
        found = {key: body for key, body, _ in replica.rows(view.name)}
        assert found == plainly(registry, view, history)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(done=st.lists(commands, max_size=40), rests=st.integers(1, 7))
def test_in_memory_with_rows_that_are_json_only_in_between(
    registry: Registry, done: list[Any], rests: int
) -> None:
    history = history_of(done)
    for view in registry.views.values():
        table = Table(view)
        for at, raw in enumerate(history):
            folding = Folding(registry, [view])
            for step in folding.steps(raw):
                table.fold(step, folding)
            if at % rests == 0:
                table.cold()
                table.freeze(table.cold())
        expected = plainly(registry, view, history)
        assert {key: row.json() for key, row in table.rows.items()} == expected
        for field in view.indexes:
            rows = {key: json.loads(body) for key, body in expected.items()}
            for value in {row[field] for row in rows.values()}:
                page, _ = table.page({field: value}, 200, None)
                items = json.loads(page)["items"]
                matching = [row for row in rows.values() if row[field] == value]
                assert sorted(items, key=str) == sorted(matching, key=str)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    done=st.lists(commands, max_size=40),
    copied_at=st.integers(0, 40),
    chunk=st.integers(1, 7),
    overlap=st.integers(0, 5),
)
def test_in_a_copy_of_a_peer(
    registry: Registry, done: list[Any], copied_at: int, chunk: int, overlap: int
) -> None:
    history = history_of(done)
    views = [view for view in registry.views.values() if "memory" in view.stores]
    names = [view.name for view in views]

    async def copy() -> Replica:
        half = history[:copied_at]
        peer = Replica(registry, names, BadLog(half, [], 0))
        middle = half[-1].position if half else 0
        await until(peer.progress, middle, [asyncio.create_task(peer.run())])
        position, keys, parked, stopped = peer.begin_copy()
        # The peer moves on while it is copied.
        for table in peer.tables.values():
            table.freeze(list(table.rows)[::2])
        peer._log = BadLog(history, [], 0)
        end = history[-1].position if history else 0
        await until(peer.progress, end, [asyncio.create_task(peer.run())])
        new = Replica(registry, names, BadLog(history, [], overlap))
        for view, there in keys.items():
            for at in range(0, len(there), chunk):
                new.tables[view].fill(peer.tables[view].export(there[at : at + chunk]))
        gone = {view: table.end_copy() for view, table in peer.tables.items()}
        new.take_over(position, gone, parked, stopped)
        await until(new.progress, end, [asyncio.create_task(new.run())])
        return new

    new = asyncio.run(copy())
    for view in views:
        found = {key: body for key, body, _ in new.rows(view.name)}
        assert found == plainly(registry, view, history)
        pages, _ = new.tables[view.name].page({}, 200, None)
        assert all(body in pages for body in found.values())


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    done=st.lists(commands, max_size=40),
    cut=cuts,
    overlap=st.integers(0, 5),
    partitions=st.integers(1, 3),
    then=st.integers(1, 3),
)
def test_in_postgres(
    registry: Registry,
    postgres: str,
    done: list[Any],
    cut: list[int],
    overlap: int,
    partitions: int,
    then: int,
) -> None:
    history = history_of(done)
    views = [view for view in registry.views.values() if "postgres" in view.stores]

    async def run(log: BadLog, number: int, end: int) -> None:
        connection = await asyncpg.connect(postgres)
        await prepare(connection, views, {view.name: number for view in views})
        await connection.close()
        projectors = [
            Projector(registry, log, postgres, views, partition, number)
            for partition in range(number)
        ]
        running = [asyncio.create_task(each.run()) for each in projectors]
        for each in projectors:
            assert await each.progress.reached(end, DEADLINE)
        await until(projectors[0].progress, end, running)

    async def deliver() -> dict[str, dict[str, bytes]]:
        connection = await asyncpg.connect(postgres)
        await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        half = history[: len(history) // 2]
        await run(BadLog(half, cut, overlap), partitions, half[-1].position if half else 0)
        # Stopped, the key space cut again, started again.
        await run(BadLog(history, cut, overlap), then, history[-1].position if history else 0)
        found = {}
        for view in views:
            rows = Rows(view)
            records = await connection.fetch(
                f'SELECT {rows.codec.select_list} FROM "{rows.table}" t'
            )
            found[view.name] = {
                record["_key"]: document(rows.codec.decode(record)) for record in records
            }
        await connection.close()
        return found

    found = asyncio.run(deliver())
    for view in views:
        assert found[view.name] == plainly(registry, view, history)
