"""The index of open processes: a start reads it, or the log if the index is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest

from actors.processes.open_index import OpenIndex
from domain.orders.commands import PayOrder
from eventstore import folded_log
from eventstore.kurrentdb.log import EventLog
from eventstore.memory import MemoryLog
from eventstore.port import StreamAppend
from eventstore.records import NewRecord, RawRecord
from rayfold import Registry
from tests.contract.processes.stages import Stage, ended, named, until, waits_for


class Counting(EventLog):
    """Notes from where all streams are read."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.read_after: list[int | None] = []

    def read_all(
        self, prefixes: Sequence[str], *, after: int | None = None, limit: int | None = None
    ) -> AsyncGenerator[Any, None]:
        self.read_after.append(after)
        return super().read_all(prefixes, after=after, limit=limit)


@pytest.fixture
async def log(eventstore: str) -> AsyncIterator[Counting]:
    """A server's."""
    connected = Counting(eventstore)
    yield connected
    await connected.close()


async def test_a_start_continues_with_what_is_open_without_reading_the_log_again(
    log: Counting, registry: Registry, postgres: str
) -> None:
    async with Stage(log, registry, named("indexed"), postgres=postgres) as stage:
        tea = await stage.stock(100)
        done, waits = await stage.order(tea), await stage.order(tea)
        lacks = await stage.order(f"lacking-{uuid4()}")
        await until(lambda: waits_for(stage, done) == 1)
        await until(lambda: waits_for(stage, waits) == 1)
        await stage.send(PayOrder(order_id=done))
        await until(lambda: ended(stage, done))
        await until(lambda: ended(stage, lacks))
        kind = f"process:{stage.definition.name}"
        await until(lambda: _keys(postgres, kind, {str(waits)}))
        log.read_after.clear()
        await stage.crash()
        [after] = log.read_after
        records = await stage.records(waits)
        assert after is not None
        assert after >= records[-1].position
        # Until the events since the last checkpoint are told again, which ended ones pass over.
        await until(lambda: stage.runner.open == {str(waits)})
        [timer] = stage.runner.timers
        assert await _due(postgres, kind) == [timer.due]
        await stage.send(PayOrder(order_id=waits))
        await until(lambda: ended(stage, waits))
        await until(lambda: _keys(postgres, kind, set()))


async def test_a_lost_index_is_rebuilt_from_the_log(
    log: Counting, registry: Registry, postgres: str
) -> None:
    async with Stage(log, registry, named("lost"), postgres=postgres) as stage:
        order = await stage.order(await stage.stock())
        await until(lambda: waits_for(stage, order) == 1)
        kind = f"process:{stage.definition.name}"
        await until(lambda: _keys(postgres, kind, {str(order)}))
        await _execute(postgres, "DROP TABLE rayfold_open, rayfold_open_until")
        log.read_after.clear()
        await stage.crash()
        assert log.read_after == [None]
        assert stage.runner.open == {str(order)}
        await until(lambda: _keys(postgres, kind, {str(order)}))


async def test_an_index_with_an_unreadable_row_is_rebuilt_from_the_log(
    log: Counting, registry: Registry, postgres: str
) -> None:
    async with Stage(log, registry, named("garbled"), postgres=postgres) as stage:
        order = await stage.order(await stage.stock())
        await until(lambda: waits_for(stage, order) == 1)
        kind = f"process:{stage.definition.name}"
        await until(lambda: _keys(postgres, kind, {str(order)}))
        row = f"""'{kind}', 'other', NULL, '{{"timers": "of another release"}}'"""
        await _execute(postgres, f"INSERT INTO rayfold_open VALUES ({row})")
        await stage.crash()
        assert stage.runner.open == {str(order)}
        await until(lambda: _keys(postgres, kind, {str(order)}))
        await until(lambda: "index" not in stage.runner.status())


async def test_processes_start_while_postgres_is_down(
    log: Counting, registry: Registry, postgres: str
) -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
    async with Stage(log, registry, named("away"), postgres=postgres) as stage:
        order = await stage.order(await stage.stock())
        await until(lambda: waits_for(stage, order) == 1)
        stage.postgres = nowhere
        await stage.crash()
        assert stage.runner.open == {str(order)}
        await stage.send(PayOrder(order_id=order))
        await until(lambda: ended(stage, order))


async def test_two_runners_may_keep_the_same_index(
    log: Counting, registry: Registry, postgres: str
) -> None:
    definition = named("twice")
    async with (
        Stage(log, registry, definition, postgres=postgres) as stage,
        Stage(log, registry, definition, postgres=postgres),
    ):
        tea = await stage.stock(100)
        orders = [await stage.order(tea) for _ in range(5)]
        wanted = {str(order) for order in orders}
        await until(lambda: _keys(postgres, f"process:{definition.name}", wanted))
        for order in orders:
            await stage.send(PayOrder(order_id=order))
        await until(lambda: _keys(postgres, f"process:{definition.name}", set()))


class Begun(msgspec.Struct):
    """Is open for ever."""

    events: int = 0
    is_open = True
    due = None

    @classmethod
    def begins_with(cls, raw: RawRecord, *, is_open: bool) -> bool:
        return raw.revision == 0

    def fold(self, raw: RawRecord) -> None:
        self.events += 1


async def test_open_processes_may_have_any_name(postgres: str) -> None:
    log, kind = MemoryLog(), f"kind-{uuid4().hex}"
    names = {"nul\0", "\x1a0000", "plain", "\U0010ffff\x7f\r\n'\"\\"}
    for name in names:
        event = NewRecord("Begun", b"{}", {}, str(uuid4()))
        await log.append([StreamAppend(f"begun-{name}", None, [event])])

    def index() -> OpenIndex[Begun]:
        return OpenIndex(log, postgres, kind, "begun-", Begun)

    kept = index()
    keeping = asyncio.create_task(kept.keep())
    try:
        await until(lambda: _many(postgres, kind, len(names)))
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
    assert kept.error == ""
    await log.delete_stream("begun-plain")  # so that it is the index that is read, not the log
    found, _ = await index().load()
    assert {name: each.events for name, each in found.items()} == dict.fromkeys(names, 1)


async def test_a_log_without_any_such_process_is_read_once(postgres: str) -> None:
    log, kind = await begin(MemoryLog(), "a", "b"), f"kind-{uuid4().hex}"

    def index() -> OpenIndex[Begun]:
        return OpenIndex(log, postgres, kind, "other-", Begun)

    end = await log.end_position(None)
    assert await index().load() == ({}, 0)
    keeping = asyncio.create_task(index().keep())
    try:
        await until(lambda: _is_until(postgres, kind, end))
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
    assert await index().load() == ({}, end)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that lacks something is not waited for."""
    monkeypatch.setattr(folded_log, "LAG", 0)
    monkeypatch.setattr(folded_log, "LOOK", 0)


async def begin(log: MemoryLog, *names: str) -> MemoryLog:
    for name in names:
        event = NewRecord("Begun", b"{}", {}, str(uuid4()))
        await log.append([StreamAppend(f"begun-{name}", None, [event])])
    return log


async def keep(index: OpenIndex[Begun], dsn: str, kind: str, wanted: set[str]) -> None:
    """Let it be kept until these are in it."""
    keeping = asyncio.create_task(index.keep())
    try:
        await until(lambda: _keys(dsn, kind, wanted))
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


@pytest.mark.usefixtures("impatient")
async def test_after_a_restore_of_the_log_the_index_is_rebuilt(postgres: str) -> None:
    kind = f"kind-{uuid4().hex}"

    async def kept(log: MemoryLog, wanted: set[str]) -> set[str]:
        """Let it be kept; return what the next start finds."""
        await keep(OpenIndex(log, postgres, kind, "begun-", Begun), postgres, kind, wanted)
        found, position = await OpenIndex(log, postgres, kind, "begun-", Begun).load()
        assert position == await log.end_position(["begun-"])
        return {*found}

    whole = await begin(MemoryLog(), "a", "b", "c")
    assert await kept(whole, {"a", "b", "c"}) == {"a", "b", "c"}
    restored = await begin(MemoryLog(), "a", "other")
    found, position = await OpenIndex(restored, postgres, kind, "begun-", Begun).load()
    assert ({*found}, position) == ({"a", "other"}, 2)  # also where nobody has kept it since
    assert await kept(restored, {"a", "other"}) == {"a", "other"}


@pytest.mark.usefixtures("impatient")
async def test_the_index_is_rebuilt_although_the_restored_log_has_grown_as_far_again(
    postgres: str,
) -> None:
    """The index is written as soon as it was loaded."""
    kind = f"kind-{uuid4().hex}"
    whole = await begin(MemoryLog(), "a", "b", "c")
    index = OpenIndex(whole, postgres, kind, "begun-", Begun)
    await keep(index, postgres, kind, {"a", "b", "c"})
    restored = await begin(MemoryLog(), "a")
    index = OpenIndex(restored, postgres, kind, "begun-", Begun)
    assert {*(await index.load())[0]} == {"a"}
    await begin(restored, "x", "y", "z")
    await keep(index, postgres, kind, {"a", "x", "y", "z"})


async def _many(dsn: str, kind: str, wanted: int) -> bool:
    try:
        rows = await _fetch(dsn, "SELECT key FROM rayfold_open WHERE kind = $1", kind)
    except asyncpg.UndefinedTableError:
        return False
    return len(rows) == wanted


async def _is_until(dsn: str, kind: str, position: int) -> bool:
    try:
        rows = await _fetch(dsn, "SELECT position FROM rayfold_open_until WHERE kind = $1", kind)
    except asyncpg.UndefinedTableError:
        return False
    return [row["position"] for row in rows] == [position]


async def _keys(dsn: str, kind: str, wanted: set[str]) -> bool:
    try:
        rows = await _fetch(dsn, "SELECT key FROM rayfold_open WHERE kind = $1", kind)
    except asyncpg.UndefinedTableError:
        return False
    return {row["key"] for row in rows} == wanted


async def _due(dsn: str, kind: str) -> list[Any]:
    rows = await _fetch(dsn, "SELECT due FROM rayfold_open WHERE kind = $1", kind)
    return [row["due"] for row in rows]


async def _fetch(dsn: str, statement: str, *arguments: Any) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(statement, *arguments))
    finally:
        await connection.close()


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
