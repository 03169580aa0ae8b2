"""`rayfold migrate`: migrates the tables of states to the layout that the code needs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from actors.errors import StreamUnreadable, Unavailable, WriteSideError
from actors.host.state import migration, migration_plan
from actors.host.state.filling import cut_streams, fill
from actors.host.state.postgres import PostgresStates
from actors.host.state.tables import SCHEMA, Found, layout_found, moved
from deploy.errors import StartError
from deploy.stack import folder
from deploy.stack.display import Display
from deploy.stack.postgres_process import address
from deploy.stack.servers import start_eventstore, start_postgres
from deploy.stack.settings import Settings
from eventstore.errors import StoreError
from eventstore.personal.opening import open_log
from eventstore.port import Log
from eventstore.tenancy import MixedTenancy, check_tenancy
from rayfold import DomainError, Registry
from rayfold.aggregate import AggregateType
from rayfold.foreign_text import on_one_line
from rayfold.runtime.postgres import FAILURES, Connection, connected, why

PROGRESS = 10_000
"""Streams between two lines of progress."""


async def migrate(settings: Settings, *, plan: bool, drop: bool, refold: list[str]) -> int:
    """Print the plan, or apply it; return 1 if a change is refused.

    Raises:
        StartError: a server does not answer, or there is no such aggregate.
    """
    try:
        registry = Registry.load(settings.domain, tenants=settings.tenants)
    except DomainError as error:
        raise StartError(*error.mistakes) from error
    for name in refold:
        if name not in {each.category for each in registry.state_stored}:
            raise StartError(f"no aggregate of the category {name!r} is state-stored")
    async with AsyncExitStack() as parts:
        eventstore, postgres = await parts.enter_async_context(_servers(settings, registry))
        try:
            connection = await parts.enter_async_context(connected(postgres, timeout=15))
            log = open_log(eventstore, registry, postgres)
            parts.push_async_callback(log.close)
            await check_tenancy(log, registry.prefixes, tenants=registry.tenants)
            work = _Work(registry, log, postgres, connection)
            return await (work.plan() if plan else work.run(drop=drop, refold=refold))
        except MixedTenancy as error:
            raise StartError(str(error)) from error
        except FAILURES as error:
            raise StartError(f"Postgres does not answer: {why(error)}: check --postgres") from error
        except (StoreError, Unavailable, StreamUnreadable) as error:
            raise StartError(f"not finished, run it again: {error}") from error
        except WriteSideError as error:
            raise StartError(str(error)) from error


class _Work:
    def __init__(self, registry: Registry, log: Log, postgres: str, connection: Connection) -> None:
        self._registry = registry
        self._log = log
        self._postgres = postgres
        self._connection = connection

    async def plan(self) -> int:
        """Print what `run` would do."""
        refused = 0
        for aggregate in self._registry.state_stored:
            found = await self._found(aggregate)
            wanted = migration_plan.compare(aggregate, found)
            refused += len(wanted.refused)
            if wanted.refused:  # then the rest is not done either
                _say(aggregate.category, [], wanted.refused)
                continue
            lines = list(wanted.said)
            if found is None or not found.filled or found.storage != "state":
                lines.append("write from the log the rows that the tables lack")
            if wanted.left:
                lines.append(f"with --drop, remove for good: {await self._told(wanted.left)}")
            _say(aggregate.category, lines, [])
        for category in await self._gone():
            _say(category, ["keep its state in its events alone; the tables stay until --drop"], [])
        return 1 if refused else 0

    async def _told(self, left: dict[str, list[str]]) -> str:
        """Return what would be removed, and how many rows have values there."""
        found = []
        for table, columns in sorted(left.items()):
            for column in columns or ["*"]:
                counted = column if column == "*" else f'"{column}"'
                rows = await self._connection.fetchval(
                    f'SELECT count({counted}) FROM {SCHEMA}."{table}"'
                )
                name = table if column == "*" else f"{table}.{column}"
                found.append(f"{name} ({rows:,} rows)")
        return ", ".join(found)

    async def run(self, *, drop: bool, refold: list[str]) -> int:
        """Apply the plan; nothing is changed for an aggregate with a refused change."""
        refused = 0
        for aggregate in self._registry.state_stored:
            done = await migration.expand(self._connection, aggregate)
            found = await layout_found(self._connection, aggregate.category)
            again = aggregate.category in refold
            fills = not done.refused and (again or found is None or not found.filled)
            if done.said or done.refused or not fills:
                _say(aggregate.category, [] if done.refused else done.said, done.refused)
            refused += len(done.refused)
            if fills:
                await self._fill(aggregate, again=again)
            if done.refused:
                continue
            if drop:
                for line in await migration.drop(self._connection, aggregate):
                    _print(f"{aggregate.category}: {line}")
        for category in await self._gone():
            refused += await self._leave(self._registry.aggregates[category])
        if drop:
            await self._drop_left()
        return 1 if refused else 0

    async def _found(self, aggregate: AggregateType) -> Found | None:
        known = await self._connection.fetchval(f"SELECT to_regclass('{SCHEMA}._layout')")
        return None if known is None else await layout_found(self._connection, aggregate.category)

    async def _gone(self) -> list[str]:
        """Return the categories that were state-stored and are event-sourced now."""
        stored = {each.category for each in self._registry.state_stored}
        return [
            each for each in await moved(self._connection, self._registry) if each not in stored
        ]

    async def _fill(self, aggregate: AggregateType, *, again: bool) -> None:
        category = aggregate.category

        def said(seen: int) -> None:
            if seen % PROGRESS == 0:
                _print(f"{category}: {seen:,} streams of the log")

        states = PostgresStates(self._postgres, [aggregate])
        try:
            written = await fill(self._registry, self._log, states, aggregate, said, again=again)
        finally:
            await states.close()
        _print(f"{category}: {written:,} rows written from the log")
        await self._connection.execute(
            f"UPDATE {SCHEMA}._layout SET filled = true WHERE category = $1", category
        )

    async def _leave(self, aggregate: AggregateType) -> int:
        """Record that an aggregate is event-sourced now, if all its events are on the log."""
        category = aggregate.category
        states = PostgresStates(self._postgres, [aggregate])
        try:
            cut = await cut_streams(self._registry, self._log, states, aggregate)
        finally:
            await states.close()
        if cut:
            _say(
                category,
                [],
                [
                    f"{len(cut):,} streams, {cut[0]} for one, no longer have their first events"
                    " on the log: only the tables have their state. Keep it state-stored"
                ],
            )
            return 1
        await self._connection.execute(
            f"UPDATE {SCHEMA}._layout SET storage = 'events', since = now() WHERE category = $1",
            category,
        )
        _print(f"{category}: event-sourced from now on; its tables stay until --drop")
        return 0

    async def _drop_left(self) -> None:
        rows = await self._connection.fetch(
            f"SELECT category, tables FROM {SCHEMA}._layout WHERE storage = 'events'"
        )
        for row in rows:
            category = row["category"]
            found = await layout_found(self._connection, category)
            assert found is not None
            async with self._connection.transaction():
                for table in (*found.tables, *found.left):
                    await self._connection.execute(f'DROP TABLE IF EXISTS {SCHEMA}."{table}"')
                for own in ("_outbox", "_command"):
                    await self._connection.execute(
                        f"DELETE FROM {SCHEMA}.{own} WHERE split_part(stream, '-', 1) = $1",
                        category,
                    )
                await self._connection.execute(
                    f"DELETE FROM {SCHEMA}._layout WHERE category = $1", category
                )
            _print(f"{category}: removed its tables")


@asynccontextmanager
async def _servers(settings: Settings, registry: Registry) -> AsyncIterator[tuple[str, str]]:
    """Yield the log's URI and Postgres' DSN: given, running, or started for this command."""
    eventstore, postgres = settings.eventstore, settings.postgres
    if eventstore is not None and postgres is not None:
        yield eventstore, postgres
        return
    async with AsyncExitStack() as parts:
        try:
            data = parts.enter_context(folder.locked(settings.data))
        except folder.InUse:
            if postgres is None:
                postgres = await asyncio.to_thread(running_postgres, settings.data / "postgres")
            yield eventstore or _noted(settings.data / folder.EVENT_STORE), postgres
            return
        display = Display()
        uri, _ = await start_eventstore(settings, registry.prefixes, data, parts, display)
        dsn, _ = await start_postgres(settings, data, parts, display)
        folder.keep_private(data)
        yield str(uri), str(dsn)


def _noted(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise StartError("give the store's --eventstore") from error


def running_postgres(data: Path) -> str:
    """Return the DSN of an embedded Postgres, which writes its address to its folder."""
    try:
        sockets = (data / "postmaster.pid").read_text().splitlines()[4]
    except (OSError, IndexError) as error:
        raise StartError("give the --postgres that the stack uses") from error
    return address(sockets)


def _say(category: str, lines: list[str], refused: list[str]) -> None:
    for line in lines:
        _print(f"{category}: {line}")
    for line in refused:
        _print(f"{category}: REFUSED: {line}")
    if not lines and not refused:
        _print(f"{category}: nothing to do")


def _print(line: str) -> None:
    sys.stdout.write(f"{on_one_line(line)}\n")
    sys.stdout.flush()
