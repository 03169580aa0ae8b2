"""Queries in SQL: the rows and their position, from one snapshot."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from typing import Any

import asyncpg

from projections.errors import BadQuery, Behind, PostgresUnavailable, QueryFailed, named
from projections.poison import is_poison
from projections.postgres.database import AS_USUAL, Database
from projections.postgres.reader import PostgresReader
from projections.row_query import RowResult
from projections.sql.parameters import parameters_of
from projections.sql.schema import live
from projections.supervision.placements import Placements
from rayfold import Registry, SqlQuery, Statement
from rayfold.columns import plain
from rayfold.runtime.postgres import why

_WHERE = (
    "SELECT n.oid::bigint AS schema, c.position FROM pg_namespace n, rayfold_checkpoint c"
    ' WHERE n.nspname = $1 AND c."table" = $1'
)

_SWITCHES = 5
"""Switches that one query survives."""


class SqlReader:
    """Queries the server that `postgres` chooses: the primary, or a replica that is far enough."""

    def __init__(
        self, registry: Registry, placements: Placements, postgres: PostgresReader
    ) -> None:
        self._placements = placements
        self._postgres = postgres
        self._schemas = {each.name: live(each).relation for each in registry.projections.values()}

    async def ask(
        self, query: SqlQuery, at_least: int, deadline: float, tenant: str = ""
    ) -> RowResult:
        """Return an answer that has reached `at_least`; `deadline` is in `time.monotonic` seconds.

        Raises:
            Behind: the projector did not reach the position in time.
            PostgresUnavailable: Postgres does not answer.
            BadQuery: the statement does not accept the query's values.
            QueryFailed: its statement is wrong, or its rows do not fit its type.
        """
        name = type(query).__rayfold__.projection.name
        try:
            statement = query.statement_for(tenant)
        except (Exception, SystemExit) as error:  # the domain's code may raise anything
            raise QueryFailed(f"{_name(query)!r} gives no statement: {named(error)}") from error
        database = self._postgres.choose(self._schemas[name], at_least)
        while True:
            try:
                found = await self._find(database, query, statement)
            except PostgresUnavailable:
                if database is self._postgres.primary:
                    raise
                database = self._postgres.primary
                continue
            if found.position >= at_least:
                return found
            if time.monotonic() >= deadline:
                raise Behind(name, found.position, at_least)
            if database is self._postgres.primary:
                projector = self._placements.sql_projectors[name]
                if projector.progress.position >= at_least:
                    # It has reported it, but Postgres does not show it yet.
                    await asyncio.sleep(0.05)
                await projector.reached(at_least, deadline)
            database = self._postgres.primary

    async def _find(self, database: Database, query: SqlQuery, statement: Statement) -> RowResult:
        for _ in range(_SWITCHES):
            found = await self._in_one_generation(database, query, statement)
            if found is not None:
                return found
        raise PostgresUnavailable(f"{_name(query)!r} is replaced again and again")

    async def _in_one_generation(
        self, database: Database, query: SqlQuery, statement: Statement
    ) -> RowResult | None:
        """Return None if another generation became live meanwhile: half may be of each."""
        schema = self._schemas[type(query).__rayfold__.projection.name]
        async with database.snapshot() as connection:
            place = await connection.fetchrow(_WHERE, schema)
            if place is None:
                return RowResult(b'{"items":[],"more":false}', None, 0)
            await connection.execute(f'SET LOCAL search_path = "{schema}"; {AS_USUAL}')
            try:
                prepared = await connection.prepare(statement.text, name="")
                cursor = await prepared.cursor(*parameters_of(statement))
                records = await cursor.fetch(query.limit + 1)
                failure = None
            except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                if not is_poison(error):
                    raise
                records, failure = [], error
        # The statement resolved table names as of now, and read rows as of its snapshot.
        now = await database.fetch("SELECT to_regnamespace($1)::oid::bigint AS schema", schema)
        if now[0]["schema"] != place["schema"]:
            return None
        if failure is not None:
            raise _told(query, failure)
        return RowResult(_body(query, records), None, place["position"])


def _body(query: SqlQuery, records: list[Any]) -> bytes:
    try:
        rows = [
            type(query).__rayfold__.row.model_validate(_fields(each))
            for each in records[: query.limit]
        ]
    except ValueError as error:
        told = f"{_name(query)!r} gives rows that do not fit: {named(error)}"
        raise QueryFailed(told) from None  # its text has the rows' values, and would be logged
    items = b",".join(row.__pydantic_serializer__.to_json(row) for row in rows)
    more = b"true" if len(records) > query.limit else b"false"
    return b'{"items":[%b],"more":%b}' % (items, more)


def _fields(record: Any) -> dict[str, Any]:
    return {
        name: plain(value) if isinstance(value, Decimal) else value
        for name, value in record.items()
    }


def _told(query: SqlQuery, error: Exception) -> BadQuery | QueryFailed:
    state = str(getattr(error, "sqlstate", None) or "22000")
    if state.startswith("22"):
        return BadQuery(f"{_name(query)!r} does not accept these values: {why(error)}")
    return QueryFailed(f"the statement of {_name(query)!r} failed: {named(error)}")


def _name(query: SqlQuery) -> str:
    return type(query).__rayfold__.name
