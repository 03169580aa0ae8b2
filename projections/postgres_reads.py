"""Queries to Postgres: rows and how far they have come, in one statement."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncpg

from projections.errors import Behind, PostgresUnavailable
from projections.part import Part
from projections.projector import hash_of
from projections.replica import Ask, Found
from projections.rows import Rows
from projections.table import decode_cursor, page_json
from rayfold import Registry, document

TIMEOUT = 10.0
"""Seconds for a statement."""


class PostgresReads:
    """A pool of connections, and the projectors that fill the tables."""

    def __init__(self, registry: Registry, dsn: str) -> None:
        self._dsn = dsn
        self._rows = {
            view.name: Rows(view) for view in registry.views.values() if "postgres" in view.stores
        }
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self.projectors: list[Part] = []

    async def connect(self) -> None:
        """Raises `PostgresUnavailable` if Postgres does not answer."""
        try:
            self._pool = await asyncpg.create_pool(
                self._dsn, min_size=1, max_size=8, command_timeout=TIMEOUT
            )
        except (asyncpg.PostgresError, OSError, TimeoutError) as error:
            raise PostgresUnavailable(f"Postgres does not answer: {error}") from error

    async def close(self) -> None:
        """Closes the pool."""
        if self._pool is not None:
            self._pool.terminate()

    async def ask(self, ask: Ask, deadline: float) -> Found:
        """An answer that is at `ask.at_least`; `deadline` is in `time.monotonic` seconds.

        Raises:
            Behind: the projectors did not come so far in time.
            PostgresUnavailable: Postgres does not answer.
            BadCursor: see `PageQuery`.
        """
        while True:
            found = await self._one(ask) if ask.key is not None else await self._page(ask)
            if found.position >= ask.at_least:
                return found
            if time.monotonic() >= deadline:
                raise Behind(ask.view, found.position, ask.at_least)
            parts = self._parts(ask)
            for part in parts:
                await part.reached(ask.at_least, deadline)
            if not parts:
                await asyncio.sleep(0.05)

    async def rows(self, view: str) -> list[tuple[str, bytes, int]]:
        """Key, document and position of every row.

        Raises:
            PostgresUnavailable: Postgres does not answer.
        """
        rows = self._rows[view]
        records = await self._fetch(f'SELECT {rows.codec.select_list} FROM "{rows.table}" t')
        entries = [(record["_key"], rows.codec.decode(record)) for record in records]
        return [(key, document(entry), entry.position) for key, entry in entries]

    def _parts(self, ask: Ask) -> list[Part]:
        if not self.projectors:  # the key space is being partitioned anew
            return []
        if ask.key is None:
            return self.projectors
        return [self.projectors[hash_of(ask.key) % len(self.projectors)]]

    async def _one(self, ask: Ask) -> Found:
        rows = self._rows[ask.view]
        key = str(ask.key)
        records = await self._fetch(
            f"SELECT c.position AS at, {rows.codec.select_list} FROM rayfold_checkpoint c"
            f' LEFT JOIN "{rows.table}" t ON t._key = $1'
            ' WHERE c."table" = $2 AND c.partition = $3::bigint % c.partitions',
            key,
            rows.table,
            hash_of(key),
        )
        if not records:
            return Found(None, None, 0)
        if records[0]["_key"] is None:
            return Found(None, None, records[0]["at"])
        entry = rows.codec.decode(records[0])
        return Found(document(entry), entry.revision, records[0]["at"])

    async def _page(self, ask: Ask) -> Found:
        rows = self._rows[ask.view]
        after = decode_cursor(ask.cursor) if ask.cursor else -1
        wheres = ["t._started > $2"]
        parameters: list[Any] = [rows.table, after]
        for field, value in ask.filters.items():
            parameters.append(value)
            wheres.append(f't."{field}"::text = ${len(parameters)}')
        records = await self._fetch(
            f'SELECT (SELECT min(position) FROM rayfold_checkpoint WHERE "table" = $1) AS at,'
            f" {rows.codec.select_list}"
            f' FROM (SELECT 1) AS one LEFT JOIN LATERAL (SELECT * FROM "{rows.table}" t'
            f" WHERE {' AND '.join(wheres)} ORDER BY t._started LIMIT {ask.limit + 1}) t ON true"
            " ORDER BY t._started",
            *parameters,
        )
        entries = [rows.codec.decode(record) for record in records if record["_key"] is not None]
        page = entries[: ask.limit]
        last = page[-1].started if len(entries) > ask.limit else None
        body = page_json([document(entry) for entry in page], last)
        return Found(body, None, records[0]["at"] or 0)

    async def _fetch(self, statement: str, *parameters: Any) -> list[asyncpg.Record]:
        if self._pool is None:
            raise PostgresUnavailable("not connected to Postgres")
        try:
            return await self._pool.fetch(statement, *parameters)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            raise PostgresUnavailable(f"Postgres does not answer: {error}") from error
