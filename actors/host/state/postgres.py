"""States in Postgres: tables derived from the state models, written by whole group commits."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from msgspec.json import decode

from actors.host.state.port import (
    Change,
    Kept,
    KeptCommand,
    StatesRefused,
    StatesUnavailable,
)
from actors.host.state.rows import Unstorable, grouped, state_of, told
from actors.host.state.statements import Statements
from actors.host.state.tables import SCHEMA, LayoutDiffers, moved, name_of, prepare
from eventstore.records import NewRecord
from rayfold import Placement, Registry
from rayfold.aggregate import AggregateType
from rayfold.runtime.batching import Batcher, BatchFull
from rayfold.runtime.postgres import (
    BY_INDEX,
    FAILURES,
    connected,
    create_pool,
    left_as_it_is,
    why,
)
from rayfold.runtime.postgres_text import is_storable
from rayfold.state_layout import Table

CONNECTIONS = 4
"""Connections of one host to Postgres: two commits, a load of many, and one spare."""

CLOSED = "the connection to Postgres was closed"

TIMEOUT = 10.0
"""Seconds that a statement or connecting may take."""

MAX_LOADED = 256
"""Aggregates that are loaded by one query."""

_OVERTAKEN = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
"""Two writers wrote to the same rows; neither succeeded."""

_OUTBOX = f"SELECT * FROM {SCHEMA}._outbox WHERE stream = ANY($1) ORDER BY stream, revision"

_COMMANDS = f"SELECT * FROM {SCHEMA}._command WHERE stream = ANY($1) ORDER BY stream, number"

_SETTLE = (
    f"DELETE FROM {SCHEMA}._outbox o USING unnest($1::text[], $2::bigint[]) AS g(stream, revision)"
    " WHERE o.stream = ANY($1) AND o.stream = g.stream AND o.revision <= g.revision"
)

_WAITING = (
    f"SELECT DISTINCT stream FROM {SCHEMA}._outbox"
    # Also times in the future: the clock was set back.
    " WHERE NOT at BETWEEN now() - make_interval(secs => $1) AND now()"
    " AND split_part(stream, '-', 1) = ANY($2)"
    " AND stream > $3 ORDER BY stream LIMIT $4"
)


class PostgresStates:
    """See `States` for what each method promises."""

    def __init__(self, dsn: str, aggregates: Sequence[AggregateType] = ()) -> None:
        """Prepare for `aggregates` with the first connection; see `prepare`."""
        self._dsn = dsn
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._statements: dict[AggregateType, Statements] = {}
        self._loads: dict[AggregateType, Batcher[str, Kept | None]] = {}
        self._wanted = aggregates
        self._opening = asyncio.Lock()
        self._closed = False

    async def prepare(self, aggregates: Sequence[AggregateType]) -> None:
        """See `States.prepare`."""
        self._wanted = aggregates
        async with self._connection():
            return

    async def load(self, aggregate: AggregateType, stream: str) -> Kept | None:
        """See `States.load`. Aggregates that are requested at the same time are loaded together."""
        if not is_storable(stream):  # a stream of another client, which can have no row
            return None
        batcher = self._loads.get(aggregate)
        if batcher is None:

            async def load_all(streams: list[str]) -> list[Kept | None]:
                return await self._load(aggregate, streams)

            batcher = self._loads[aggregate] = Batcher(load_all, max_batch=MAX_LOADED)
        try:
            return await batcher.call(stream)
        except asyncpg.InvalidCachedStatementError:  # a migration has changed a column's type
            return await batcher.call(stream)
        except BatchFull as error:
            raise StatesUnavailable("too many aggregates are being loaded") from error

    async def _load(self, aggregate: AggregateType, streams: list[str]) -> list[Kept | None]:
        ids = [stream[len(aggregate.category) + 1 :] for stream in streams]
        async with (
            self._connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            statements = self._statements[aggregate]
            roots = await connection.fetch(statements.load_root, ids)
            lists = {
                table.name: await connection.fetch(statements.load_list(table), ids)
                for table in statements.layout.tables[1:]
                if roots
            }
            outbox = await connection.fetch(_OUTBOX, streams) if roots else []
            commands = await connection.fetch(_COMMANDS, streams) if roots else []
        found = {row["_id"]: row for row in roots}
        items = {
            table.name: _by_id(lists.get(table.name, ()), len(table.key))
            for table in statements.layout.tables[1:]
        }
        sent: dict[str, list[tuple[int, NewRecord]]] = defaultdict(list)
        for row in outbox:
            record = NewRecord(row["type"], row["data"], decode(row["metadata"]), str(row["id"]))
            sent[row["stream"]].append((row["revision"], record))
        seen: dict[str, list[KeptCommand]] = defaultdict(list)
        for row in commands:
            seen[row["stream"]].append(
                KeptCommand(
                    row["number"], str(row["id"]), row["fingerprint"], row["revision"], row["at"]
                )
            )

        def kept(stream: str, aggregate_id: str) -> Kept | None:
            root = found.get(aggregate_id)
            if root is None:
                return None
            state, misfit = None, ""
            if root["_layout"] == statements.number:
                rows = {name: grouped(each.get(aggregate_id, [])) for name, each in items.items()}
                try:
                    state = state_of(statements.layout, list(root)[4:], rows)
                except ValueError as error:  # also a value that an enumeration no longer has
                    misfit = told(error)
            version, began, there = root["_version"], root["_began"], state is not None
            return Kept(state, version, began, seen[stream], sent[stream], there, misfit)

        return [kept(*each) for each in zip(streams, ids, strict=True)]

    async def commit(self, changes: Sequence[Change], relayed: dict[str, int]) -> list[bool]:
        """See `States.commit`."""
        if not changes:
            if relayed:
                async with self._connection() as connection:
                    await connection.execute(_SETTLE, list(relayed), list(relayed.values()))
            return []
        done: dict[str, bool] = {}
        for aggregate in dict.fromkeys(each.aggregate for each in changes):
            mine = [each for each in changes if each.aggregate is aggregate]
            async with self._connection() as connection:
                for stream in await self._commit(connection, aggregate, mine, relayed):
                    done[stream] = True
            relayed = {}
        return [done.get(each.stream, False) for each in changes]

    async def _commit(
        self,
        connection: Any,
        aggregate: AggregateType,
        changes: list[Change],
        relayed: dict[str, int],
    ) -> list[str]:
        statements = self._statements[aggregate]
        replaced = [each for each in changes if each.whole and each.expected >= 0]
        # Rows are always locked in the same order, so that two writers cannot deadlock.
        changes = sorted(changes, key=lambda each: each.stream)
        try:
            arguments = statements.arguments(changes, relayed)
            if not replaced:
                written = await connection.fetch(statements.commit, *arguments)
            else:
                async with connection.transaction():
                    for each in replaced:
                        await _clear(connection, statements, each)
                    written = await connection.fetch(statements.commit, *arguments)
        except Unstorable as error:
            raise StatesRefused(str(error)) from error
        except _OVERTAKEN:
            return []
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
            raise StatesRefused(f"Postgres cannot keep it: {why(error)}") from error
        except asyncpg.ProgramLimitExceededError as error:
            raise StatesRefused(f"it is too large for Postgres: {why(error)}") from error
        return [aggregate.stream(row["_id"]) for row in written]

    async def remove(self, aggregate: AggregateType, stream: str, expected: int) -> bool:
        """See `States.remove`."""
        aggregate_id = stream[len(aggregate.category) + 1 :]
        async with self._connection() as connection, connection.transaction():
            root, *lists = self._statements[aggregate].layout.tables
            gone = await connection.execute(
                f"DELETE FROM {name_of(root)} WHERE _id = $1 AND _version = $2",
                aggregate_id,
                expected,
            )
            if gone == "DELETE 0":
                return False
            for table in lists:
                await connection.execute(
                    f"DELETE FROM {name_of(table)} WHERE _id = $1", aggregate_id
                )
            for own in ("_outbox", "_command"):
                await connection.execute(f"DELETE FROM {SCHEMA}.{own} WHERE stream = $1", stream)
            return True

    async def waiting(
        self, categories: list[str], older_than: float, after: str, limit: int
    ) -> list[str]:
        """See `States.waiting`."""
        async with self._connection() as connection:
            rows = await connection.fetch(_WAITING, older_than, categories, after, limit)
        return [row["stream"] for row in rows]

    async def ids(self, aggregate: AggregateType, after: str, limit: int) -> list[str]:
        """See `States.ids`."""
        async with self._connection() as connection:
            root = name_of(self._statements[aggregate].layout.root)
            rows = await connection.fetch(
                f"SELECT _id FROM {root} WHERE _id > $1 ORDER BY _id LIMIT $2", after, limit
            )
        return [row["_id"] for row in rows]

    async def close(self) -> None:
        """See `States.close`."""
        self._closed = True
        for batcher in self._loads.values():
            await batcher.close()
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        try:
            pool = self._pool or await self._open()
            async with pool.acquire() as connection:
                try:
                    yield connection
                except asyncpg.ReadOnlySQLTransactionError:
                    await pool.expire_connections()  # each keeps the default with which it began
                    raise
        except asyncpg.InvalidCachedStatementError:
            raise
        except FAILURES as error:
            raise StatesUnavailable(f"Postgres does not answer: {why(error)}") from error

    async def _open(self) -> asyncpg.Pool[asyncpg.Record]:
        async with self._opening:
            if self._closed:
                raise StatesUnavailable(CLOSED)
            if self._pool is None:
                pool = await create_pool(
                    self._dsn,
                    min_size=1,
                    max_size=CONNECTIONS,
                    timeout=TIMEOUT,
                    command_timeout=TIMEOUT,
                    server_settings=BY_INDEX,
                    reset=left_as_it_is,
                )
                try:
                    async with pool.acquire() as connection:
                        numbers = await prepare(connection, self._wanted)
                    if self._closed:  # it was closed meanwhile
                        raise StatesUnavailable(CLOSED)
                except BaseException:
                    pool.terminate()
                    raise
                self._statements = {each: Statements(each, n) for each, n in numbers.items()}
                self._pool = pool
            return self._pool


async def _clear(connection: Any, statements: Statements, change: Change) -> None:
    """Remove the rows that a change rewrites, if it can be written: this locks the root row."""
    root, *lists = statements.layout.tables
    there = await connection.fetchval(
        f"SELECT true FROM {name_of(root)} WHERE _id = $1 AND _version = $2 FOR UPDATE",
        change.aggregate_id,
        change.expected,
    )
    if not there:
        return
    for table in lists:
        await connection.execute(_of(table), change.aggregate_id)
    for own in ("_command", *(["_outbox"] if change.empties_outbox else [])):
        await connection.execute(f"DELETE FROM {SCHEMA}.{own} WHERE stream = $1", change.stream)


def _of(table: Table) -> str:
    return f"DELETE FROM {name_of(table)} WHERE _id = $1"


def _by_id(
    records: Sequence[asyncpg.Record], keys: int
) -> dict[str, list[tuple[tuple[int, ...], list[Any]]]]:
    found: dict[str, list[tuple[tuple[int, ...], list[Any]]]] = defaultdict(list)
    for record in records:
        name, *key = record[:keys]
        found[name].append((tuple(key), list(record[keys:])))
    return found


def connections_of(registry: Registry, hosts: int, dedicated: int) -> int:
    """Return how many connections these hosts and dedicated actors open at most together."""
    placements = {each.placement for each in registry.state_stored}
    actors = hosts if placements else 0
    return CONNECTIONS * (actors + (dedicated if Placement.DEDICATED in placements else 0))


async def prepare_states(dsn: str, registry: Registry) -> None:
    """Create the tables of states that have none yet; do nothing if the domain stores no states.

    Raises:
        StatesUnavailable: Postgres does not answer.
        LayoutDiffers: tables have another layout, or an aggregate was stored in another way; the
            message, one line, says what to do.
    """
    try:
        async with connected(dsn, timeout=TIMEOUT) as connection:
            if changed := await moved(connection, registry):
                raise LayoutDiffers(
                    f"{', '.join(changed)}: the code says another storage than the one before;"
                    " run `rayfold migrate`"
                )
            if registry.state_stored:
                await prepare(connection, registry.state_stored)
    except FAILURES as error:
        raise StatesUnavailable(f"Postgres does not answer: {why(error)}") from error
