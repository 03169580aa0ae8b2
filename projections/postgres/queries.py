"""Queries to Postgres: rows and their position, in one statement."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import asyncpg

from projections.errors import PostgresUnavailable, QueryFailed, named
from projections.pages import Place, Start, decode_cursor, page_json
from projections.partitions import hash_of
from projections.postgres.database import Database, unreadable
from projections.postgres.row_codec import fingerprint_of
from projections.postgres.rows import Rows
from projections.row_query import RowQuery, RowResult, Snapshot
from projections.stores.port import Found
from rayfold import Registry, VersionedRow, document
from rayfold.runtime.postgres_text import is_storable
from rayfold.runtime.turns import Turn
from rayfold.tenants import TENANT

PAGE = 500
"""Rows of a whole view that are read at a time."""

_BUILT_BY = "SELECT fingerprint FROM rayfold_view WHERE view = $1"


class Fetches(Protocol):
    """A database, or a connection with an open transaction."""

    async def fetch(self, statement: str, *parameters: Any) -> list[asyncpg.Record]:
        """Return the records of a statement."""
        ...


class PostgresRows:
    """Queries the primary and its replicas."""

    def __init__(self, registry: Registry, dsn: str, streaming: Sequence[str] = ()) -> None:
        """`streaming` are DSNs of streaming replicas of the database at `dsn`."""
        self._rows = {
            view.name: Rows(view) for view in registry.views.values() if "postgres" in view.stores
        }
        self._competing = {
            rows.table for rows in self._rows.values() if rows.view.delivery == "competing"
        }
        self.primary = Database(dsn, "postgres-primary")
        self.replicas = [Database(dsn, f"postgres-read#{at}") for at, dsn in enumerate(streaming)]

    async def connect(self) -> None:
        """Connect. Replicas may be away for now; they are tried again periodically.

        Raises:
            PostgresUnavailable: the primary does not answer.
        """
        await self.primary.connect()
        await self.look()

    async def look(self) -> None:
        """Check the positions of the replicas."""
        await asyncio.gather(*(replica.look() for replica in self.replicas))

    def close(self) -> None:
        """Close all connections at once."""
        for database in (self.primary, *self.replicas):
            database.close()

    async def find(self, query: RowQuery) -> Found:
        """See `ReadStore.find`; raises `PostgresUnavailable`."""
        table = self._rows[query.view].table
        database = self.choose(table, query.at_least)
        while True:
            try:
                found = await self._find(database, query)
            except PostgresUnavailable:
                if database is self.primary:
                    raise
                # A replica that is there, but has rows of another release, would be chosen forever.
                there = database.ready
                database = self.primary if there else self.choose(table, query.at_least)
                continue
            if found.covered >= query.at_least or database is self.primary:
                return found
            database = self.primary  # the primary reaches a position sooner than its replicas

    def choose(self, table: str, at_least: int) -> Database:
        """Return the less loaded of two ready replicas; without any, the primary.

        A row from competing consumers may include more than the position returned with it, so a
        replica at that position may not have the row: only the primary has.
        """
        if table in self._competing:
            return self.primary
        there = [
            replica
            for replica in self.replicas
            if replica.ready and replica.positions.get(table, -1) >= at_least
        ]
        if not there:
            return self.primary
        return min(random.sample(there, min(2, len(there))), key=lambda each: each.open)

    async def snapshot(self, view: str, queries: Sequence[RowQuery]) -> Snapshot:
        """See `ReadStore.snapshot`; raises `PostgresUnavailable`."""
        rows, found, turn = self._rows[view], [], Turn()
        async with self.primary.snapshot() as connection:
            async for record in connection.cursor(rows.select_all, prefetch=PAGE):
                try:
                    [row] = await _decoded(connection, rows, [record])
                    body = document(row)
                except QueryFailed as error:  # somebody else wrote it, say: that is a difference
                    body = str(error).encode()
                found.append((record["_key"], body, record["_position"], record["_started"]))
                await turn.pass_on()
            pages = [await self._page_body(connection, each) for each in queries]
        return Snapshot(found, pages)

    async def _page_body(self, connection: Fetches, query: RowQuery) -> bytes:
        """Return a page; an empty one where a row of it does not decode."""
        try:
            return (await self._page(connection, query)).result.body or b""
        except QueryFailed:
            return b""

    async def _find(self, database: Database, query: RowQuery) -> Found:
        try:
            return await self._once(database, query)
        except QueryFailed:
            # Rows of the previous table, if ours replaced it before its definition was read.
            return await self._once(database, query)

    async def _once(self, database: Database, query: RowQuery) -> Found:
        if query.key is not None:
            found = await self._one(database, query)
            return Found(found, found.position)
        return await self._page(database, query)

    async def _one(self, database: Database, query: RowQuery) -> RowResult:
        rows = self._rows[query.view]
        key = str(query.key)
        # Our own columns begin with an underscore, as no field does.
        records = await database.fetch(
            f"SELECT c.position AS _covered, {rows.codec.select_list} FROM rayfold_checkpoint c"
            f' LEFT JOIN "{rows.table}" t ON t._key = $1'
            ' WHERE c."table" = $2 AND c.partition = $3::bigint % c.partitions',
            _sendable(key),
            rows.table,
            hash_of(key),
        )
        if not records:
            return RowResult(None, None, 0)
        if records[0]["_key"] is None:
            return RowResult(None, None, records[0]["_covered"])
        [entry] = await _decoded(database, rows, records)
        return RowResult(document(entry), entry.revision, records[0]["_covered"])

    async def _page(self, database: Fetches, query: RowQuery) -> Found:
        rows = self._rows[query.view]
        columns = {column.field: column for column in rows.codec.columns}
        start = decode_cursor(query.cursor)
        rows.view.sought(query.filters)  # of one tenant, if rows belong to tenants
        parameters: list[Any] = [rows.table, *_behind(start)]
        sought = {}
        # In the order of the indexes: the tenant first.
        for field, text in sorted(query.filters.items(), key=lambda each: each[0] != TENANT):
            parameters.append(_sendable(text))
            place = f"${len(parameters)}"
            value = f"{place}::text" if field == TENANT else columns[field].value(place)
            sought[f't."{field}"'] = value
        one = len(query.filters.keys() - {TENANT}) < 2
        where, order = (_in_one_index if one else _in_any_index)(sought, start.newest_first)
        records = await database.fetch(
            f"SELECT c._least, c._most, {rows.codec.select_list}"
            " FROM (SELECT min(position) AS _least, max(position) AS _most"
            ' FROM rayfold_checkpoint WHERE "table" = $1) AS c'
            f' LEFT JOIN LATERAL (SELECT * FROM "{rows.table}" t'
            f" WHERE {where} ORDER BY {order}"
            f" LIMIT {query.limit + 1}) t ON true"
            f" ORDER BY {_ordered(_PLACE, start.newest_first)}",
            *parameters,
        )
        found = [record for record in records if record["_key"] is not None]
        page = found[: query.limit]
        following = None
        if len(found) > query.limit:
            following = start._replace(behind=Place(page[-1]["_started"], page[-1]["_key"]))
        body = page_json([document(row) for row in await _decoded(database, rows, page)], following)
        # Rows of the furthest partition are shown too: with a smaller token, a client that sends it
        # back could see an older state of them in another store.
        return Found(RowResult(body, None, records[0]["_most"] or 0), records[0]["_least"] or 0)


async def _decoded(
    database: Fetches, rows: Rows, records: Sequence[asyncpg.Record]
) -> list[VersionedRow]:
    """Return rows of the live table.

    Raises:
        PostgresUnavailable: another release has built the table.
        QueryFailed: this release has built it: a row that cannot be decoded is an error in the
            domain, which no other release will correct.
    """
    try:
        return [rows.codec.decode(record) for record in records]
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        built_by = await database.fetch(_BUILT_BY, rows.view.name)
        if [each["fingerprint"] for each in built_by] == [fingerprint_of(rows.view)]:
            # Its text has the values of the row, so it is only logged.
            raise QueryFailed(
                f"a row of {rows.view.name!r} does not decode: {named(error)}"
            ) from None
        raise unreadable(f"{type(error).__name__} in {rows.view.name!r}") from error


_PLACE = ("t._started", "t._key")


def _behind(start: Start) -> Place:
    """Return the place behind which a page's rows are, as Postgres can compare it.

    No key there has a NUL character. So the keys after one that has are those after its part before
    that; and the keys before it are that part, and those before that.
    """
    if start.behind is None:
        return Place(2**63 - 1 if start.newest_first else -1, "")
    key, nul, _ = start.behind.key.partition("\0")
    return start.behind._replace(key=f"{key}\1" if nul and start.newest_first else key)


def _ordered(columns: Sequence[str], newest_first: bool) -> str:
    return ", ".join(f"{each} DESC" if newest_first else each for each in columns)


def _in_one_index(sought: Mapping[str, str], newest_first: bool) -> tuple[str, str]:
    """Return WHERE and ORDER BY of a list, by its columns' values, which only its own index serves.

    With plain equality, Postgres knows that these columns do not affect the order, and may use the
    index of the whole view: planned for any value, it would read all of that for a rare one.
    """
    columns, values = [*sought], [*sought.values()]
    behind, until = ("<", ">=") if newest_first else (">", "<=")
    by = [*columns, *_PLACE]
    where = f"({', '.join(by)}) {behind} ({', '.join([*values, '$2', '$3'])})"
    if columns:
        where += f" AND ({', '.join(columns)}) {until} ({', '.join(values)})"
    return where, _ordered(by, newest_first)


def _in_any_index(sought: Mapping[str, str], newest_first: bool) -> tuple[str, str]:
    """Return the same for filters of several lists: Postgres knows which list is shorter."""
    wheres = [f"({', '.join(_PLACE)}) {'<' if newest_first else '>'} ($2, $3)"]
    wheres += [f"{column} = {value}" for column, value in sought.items()]
    return " AND ".join(wheres), _ordered(_PLACE, newest_first)


def _sendable(text: str) -> str | None:
    """Return a text to compare columns with; None if no value here can equal it."""
    return text if is_storable(text) else None
