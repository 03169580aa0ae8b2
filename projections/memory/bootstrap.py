"""Loading views from Postgres into a memory replica that starts without a peer.

Postgres's rows are a fold of the same events with the same code, so the replica would arrive at the
same ones. Everything else is folded from the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

import asyncpg

from projections.errors import PostgresUnavailable, named
from projections.memory.last_event import LastEvent
from projections.memory.table import Copied, Table
from projections.partitions import AlreadyProjected
from projections.poison import Parked
from projections.postgres import generations
from projections.postgres import parked_events as parking
from projections.postgres.database import Database
from projections.postgres.documents import documents, parts_of
from projections.postgres.generations import Pooled
from projections.postgres.row_codec import fingerprint_of
from projections.postgres.rows import Rows
from rayfold import ViewDefinition, key_text
from rayfold.runtime.together import cancel

log = logging.getLogger(__name__)

PAGE = 500
"""Rows that are read at a time: about 2 milliseconds, 20 if they are decoded by the model. Rows
that are requested ahead should fit into the socket buffer, as Postgres prepares no more than that.
"""


class Filled(NamedTuple):
    """A view's rows, the events that they include, and what is parked."""

    table: Table
    covered: AlreadyProjected
    parked: list[Parked]
    last: LastEvent | None = None
    """The last event that any row has folded; None if unknown."""


async def fill(dsn: str, views: Iterable[ViewDefinition]) -> list[Filled]:
    """Return the views that Postgres can give, each as of its own moment.

    Views are left out if Postgres does not keep them, or their live table has another definition or
    has not begun; so are all remaining ones if it does not answer.
    """
    database = Database(dsn, "postgres-primary")
    found = []
    try:
        for view in views:
            if "postgres" in view.stores and (filled := await _fill(database, view)):
                found.append(filled)
    # Or a row that the view's model does not accept.
    except (PostgresUnavailable, ValueError) as error:
        why = {"error": named(error)}
        log.warning("the log is folded instead of reading Postgres", extra=why)
    finally:
        database.close()
    return found


async def _fill(database: Database, view: ViewDefinition) -> Filled | None:
    rows, table = Rows(view), Table(view)
    statement, copied = _copying(rows)
    async with database.snapshot() as connection:
        checkpoints = await _checkpoints(connection, rows)
        if not min(checkpoints, default=0):
            return None
        parked = await parking.load(connection, {rows.table: view.name})
        if any(each.by_store for each in parked):
            return None  # rows that Postgres rejects: memory folds them
        async with aclosing(_pages(connection, statement)) as pages:
            async for records in pages:
                table.fill(copied(records))
    table.filled()
    return Filled(table, AlreadyProjected(checkpoints), parked)


async def _pages(connection: Pooled, statement: str) -> AsyncGenerator[Sequence[Any], None]:
    """Yield all records of a SELECT, page by page; Postgres prepares the next page meanwhile."""
    cursor = await connection.cursor(statement)
    asked = asyncio.ensure_future(cursor.fetch(PAGE))
    try:
        while records := await asked:
            asked = asyncio.ensure_future(cursor.fetch(PAGE))
            await asyncio.sleep(0)  # sends the request before these rows block the event loop
            yield records
    finally:
        await cancel(asked)


def _copying(rows: Rows) -> tuple[str, Callable[[Sequence[Any]], Copied]]:
    """Return a SELECT of all rows, and what turns its records into rows of a memory table."""
    codec = rows.codec
    view, parts = codec.view, parts_of(codec)
    if parts is None:

        def through_the_model(records: Sequence[Any]) -> Copied:
            entries = [(record["_key"], codec.decode(record)) for record in records]
            return Copied.of(view, entries)

        return rows.select_all, through_the_model

    columns = {column.field: column for column in codec.columns}
    indexed = [columns[field] for field in view.indexes]
    own = ["t._key", "t._revision", "t._position", "t._started"]
    selected = [*own, *(f"t.{each.quoted}" for each in indexed), *(part.sql for part in parts)]

    def straight(records: Sequence[Any]) -> Copied:
        keys, revisions, positions, started, *others = map(list, zip(*records, strict=True))
        texts = [
            [_text(value, column.from_sql) for value in values]
            for column, values in zip(indexed, others, strict=False)  # the document comes after
        ]
        return Copied(
            keys,
            revisions,
            positions,
            started,
            documents(parts, others[len(indexed) :]),
            _listed(view, keys, list(zip(*texts, strict=True)) if texts else [()] * len(keys)),
        )

    return f'SELECT {", ".join(selected)} FROM "{rows.table}" t', straight


def _listed(
    view: ViewDefinition, keys: Sequence[str], indexed: list[tuple[str | None, ...]]
) -> list[tuple[str | None, ...]]:
    if not view.tenants:
        return indexed
    return [view.listed(key, texts) for key, texts in zip(keys, indexed, strict=True)]


def _text(value: Any, from_sql: Callable[[Any], Any] | None) -> str | None:
    return None if value is None else key_text(from_sql(value) if from_sql else value)


async def _checkpoints(connection: Pooled, rows: Rows) -> list[int]:
    """Return every partition's checkpoint; none if there is no table of this definition."""
    try:
        # The snapshot begins after this, with the first row that is read. But table names are
        # resolved as of now: without the lock, a new generation could take the name in between.
        await connection.execute(f'LOCK TABLE "{rows.table}" IN ACCESS SHARE MODE')
        made_by = await generations.fingerprint_of_live(connection, rows.view.name)
        records = await connection.fetch(
            'SELECT position FROM rayfold_checkpoint WHERE "table" = $1 ORDER BY partition',
            rows.table,
        )
    except asyncpg.UndefinedTableError:  # it was not created yet
        return []
    return [each["position"] for each in records] if made_by == fingerprint_of(rows.view) else []
