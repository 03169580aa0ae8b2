"""Rayfold's own columns in queries to Postgres do not collide with any field."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from types import ModuleType
from typing import Any

import asyncpg
import msgspec
import pytest
from pydantic import create_model

from eventstore.memory import MemoryLog
from projections.errors import PostgresUnavailable, QueryFailed
from projections.postgres.reader import PostgresReader
from projections.postgres.schema import prepare, table_of
from projections.row_query import RowQuery
from projections.supervision.placements import Placements
from rayfold import Message, Registry, View, on
from tests.generated.names import NAMES
from tests.integration.projections import small
from tests.integration.projections.postgres_projector import Projector
from tests.integration.projections.small import Added
from tests.integration.projections.test_poison import DEADLINE, dsn

__all__ = ["dsn"]

pytestmark = pytest.mark.filterwarnings("ignore:Field name .* shadows")


def view_of(names: list[str]) -> type[View]:
    """A view with a text in each of these fields: its name; and a number."""
    fields: dict[str, tuple[type, Any]] = dict.fromkeys(names, (str, ""))
    fields |= {"counter": (str, ...), "counted": (int, 0)}
    base = create_model("Base", __base__=View, **fields)  # type: ignore[call-overload]

    @on(Added)
    def added(row: View, event: Added) -> View:
        return Message.replace(row, **{name: name for name in names})

    members = {"added": staticmethod(added), "__module__": "made_up"}
    made: type[View] = type("Made", (base,), members, name="made", key="counter")
    return made


async def test_a_view_field_may_have_any_name(dsn: str) -> None:
    module = ModuleType("made_up")
    module.Made = view_of(NAMES)  # type: ignore[attr-defined]
    registry = Registry([small, module])
    log = MemoryLog()
    await small.add(log, "a", 1)
    end = await log.end_position(registry.prefixes)
    view = registry.views["made"]
    connection = await asyncpg.connect(dsn)
    await prepare(connection, [view], {"made": 1})
    await connection.close()
    projector = Projector(registry, log, dsn, [view])
    task = asyncio.create_task(projector.run())
    assert await projector.progress.reached(end, DEADLINE)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    reader = PostgresReader(registry, Placements(), dsn, [dsn])  # as a replica answers, too
    await reader.store.connect()
    try:
        for key in ("a", "b", None):
            query = RowQuery("made", key, end, {}, 10, None)
            found = await reader.ask(query, time.monotonic())
            assert found.position == end
            if key != "b":
                answer = msgspec.json.decode(found.body or b"")
                [row] = answer["items"] if key is None else [answer]
                texts = {name: name for name in NAMES}
                assert row == {"counter": "a", "counted": 0, **texts, "revision": 0}
        await of_another_release(reader, dsn, table_of(view))
    finally:
        await reader.store.close()


async def switched_meanwhile(
    reader: PostgresReader, connection: Any, table: str, column: str
) -> None:
    """Rows of the table before are read again, where ours took over before it is asked whose."""
    database = reader.choose(table, 0)
    fetch, switches = database.fetch, f"UPDATE \"{table}\" SET {column} = 'new'"

    async def fetch_and_switch(statement: str, *parameters: Any) -> Any:
        found = await fetch(statement, *parameters)
        await connection.execute(switches)
        return found

    for key in ("a", None):
        await connection.execute(f'UPDATE "{table}" SET {column} = NULL')
        database.fetch = fetch_and_switch  # type: ignore[method-assign]
        found = await reader.ask(RowQuery("made", key, 0, {}, 10, None), time.monotonic())
        assert b'"new"' in (found.body or b"")
        database.fetch = fetch  # type: ignore[method-assign]


async def of_another_release(reader: PostgresReader, dsn: str, table: str) -> None:
    """What does not decode is another release's if that has built the table, and only then."""
    connection = await asyncpg.connect(dsn)

    async def refused(change: str, error: type[Exception], told: str) -> None:
        await connection.execute(change.replace("TABLE", f'TABLE "{table}"'))
        for key in ("a", None):
            with pytest.raises(error, match=told) as found:
                async with asyncio.timeout(DEADLINE):
                    await reader.ask(RowQuery("made", key, 0, {}, 10, None), time.monotonic())
            assert "ada@example.org" not in str(found.value)

    column, other = f'"{NAMES[0]}"', "those of another release"
    await refused(f'UPDATE "{table}" SET {column} = NULL', QueryFailed, "valid string")
    await switched_meanwhile(reader, connection, table, column)
    await refused(f'UPDATE "{table}" SET {column} = NULL', QueryFailed, "valid string")
    await refused("UPDATE rayfold_view SET fingerprint = 'b'", PostgresUnavailable, other)
    text = "ALTER TABLE ALTER COLUMN counted TYPE text USING 'ada@example.org'"
    await refused(text, PostgresUnavailable, other)
    await refused(f"ALTER TABLE DROP COLUMN {column}", PostgresUnavailable, other)
    await refused("DROP TABLE", PostgresUnavailable, f'does not answer: relation "{table}"')
    await connection.close()
