"""Sending every query to a store that can answer it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Protocol

from projections.errors import NoSuchStore
from projections.memory.reader import MemoryReader
from projections.queries.composed import compose
from projections.queries.live import LiveQueries
from projections.row_query import RowQuery, RowResult, row_query, text_of
from projections.sql.reader import SqlReader
from projections.supervision.actor_handle import ActorHandle
from projections.supervision.placements import Placements
from rayfold import (
    Answer,
    ComposedQuery,
    Query,
    Registry,
    SqlQuery,
    ViewDefinition,
    view_query_of,
)
from rayfold.tenants import NoTenant, within


class RowReader(Protocol):
    """Queries a store for rows: implemented by `MemoryReader` and `StoreReader`."""

    async def ask(self, query: RowQuery, deadline: float) -> RowResult:
        """Return an answer that has reached `query.at_least`, by `deadline` (`time.monotonic`)."""
        ...


class QueryBus:
    """Sends queries to the stores; reads views, never aggregates."""

    def __init__(
        self,
        registry: Registry,
        placements: Placements,
        stores_of: Callable[[ViewDefinition], Sequence[str]],
        readers: Mapping[str, RowReader],
        memory: MemoryReader,
        sql: SqlReader,
    ) -> None:
        """`stores_of` returns the stores that keep a view here; each has one of the `readers`."""
        self._registry = registry
        self._placements = placements
        self._stores = {view.name: tuple(stores_of(view)) for view in registry.views.values()}
        self._readers = readers
        self._sql = sql
        self._live = LiveQueries(placements, memory)

    async def ask(
        self,
        query: Query,
        *,
        at_least: int | None = None,
        timeout: float = 2.0,
        store: str | None = None,
        tenant: str = "",
    ) -> Answer:
        """Return the answer of a store that has reached position `at_least`.

        `store` is one that the view names; by default the first that this stack has. `timeout` is
        in seconds. If there are tenants, only rows of the given one are read.

        Raises:
            NoTenant: the stack has tenants, and none is given.
            Behind: no store reached the position in time.
            ReplicaUnavailable, ReadStoreUnavailable: no answer.
            BadCursor: see `PageQuery`.
            NoSuchStore: the view is not kept there.
            BadQuery: a value is one that no store can have; see `SqlReader` too.
            QueryFailed: see `SqlReader` and `compose`.
        """
        if self._registry.tenants and not tenant:
            raise NoTenant(f"{type(query).__rayfold__.name!r} needs a tenant, and none was given")
        if isinstance(query, SqlQuery | ComposedQuery):
            return await self._ask_more(query, at_least, timeout, store, tenant)
        view = view_query_of(query).view
        stores = self._stores[view.name]
        chosen = store or stores[0]
        if chosen not in stores:
            raise NoSuchStore(f"view {view.name!r} is not kept in {chosen!r}")
        wanted = row_query(query, at_least or 0, tenant)
        deadline = time.monotonic() + timeout
        result = await self._readers[chosen].ask(wanted, deadline)
        return Answer(result.body, result.revision, result.position)

    async def _ask_more(
        self,
        query: SqlQuery | ComposedQuery,
        at_least: int | None,
        timeout: float,
        store: str | None,
        tenant: str,
    ) -> Answer:
        deadline = time.monotonic() + timeout
        if isinstance(query, SqlQuery):
            if store not in (None, "postgres"):
                name = type(query).__rayfold__.projection.name
                raise NoSuchStore(f"projection {name!r} is not kept in {store}")
            found = await self._sql.ask(query, at_least or 0, deadline, tenant)
            return Answer(found.body, None, found.position)

        async def ask(part: Query) -> tuple[bytes | None, int]:
            left = max(deadline - time.monotonic(), 0)
            answer = await self.ask(
                part, at_least=at_least, timeout=left, store=store, tenant=tenant
            )
            return answer.body, answer.position

        body, position = await compose(query, ask)
        return Answer(body, None, max(position, at_least or 0))

    def live(
        self, query: Query, *, after: int | None = None, tenant: str = ""
    ) -> AsyncGenerator[tuple[int, bytes], None]:
        """Return the row that a query asks for, now and after each change, with positions.

        Several changes in quick succession may arrive as their last state. `after` is the last
        position that the caller has seen: it gets no older state.

        Raises:
            NoTenant, BadQuery: as in `ask`, before any request is made.
            NoSuchStore: the view is not kept in memory; also before any request.
            ReplicaUnavailable: no replica answers.
        """
        view = view_query_of(query).view
        if "memory" not in view.stores:
            raise NoSuchStore(f"view {view.name!r} is not kept in memory: no live queries")
        if self._registry.tenants and not tenant:
            raise NoTenant(f"{type(query).__rayfold__.name!r} needs a tenant, and none was given")
        key = within(tenant, text_of(query, view.key))
        return self._live.follow(view.name, key, after or 0)

    async def reached(self, views: Sequence[str], position: int, timeout: float) -> list[str]:
        """Return the views of which a store has not reached `position` after `timeout` seconds.

        Custom SQL projections count as views.

        One memory replica is enough: a query with a token goes to that one.
        """
        deadline = time.monotonic() + timeout
        there = await asyncio.gather(*(self._shows(view, position, deadline) for view in views))
        return [view for view, is_there in zip(views, there, strict=True) if not is_there]

    async def _shows(self, view: str, position: int, deadline: float) -> bool:
        """Wait for the actors that keep the view; for others, if these are removed meanwhile."""
        while True:
            keeping = self._keeping(view)
            if await self._show(view, position, deadline):
                return True
            if keeping == self._keeping(view) or time.monotonic() >= deadline:
                return False

    def _keeping(self, view: str) -> list[ActorHandle]:
        if view in self._registry.projections:
            return [self._placements.sql_projectors[view]]
        filling = [
            each
            for store in self._stores[view]
            for each in self._placements.filling(view, None, store)
        ]
        return [*filling, *self._placements.replicas_of(view)]

    async def _show(self, view: str, position: int, deadline: float) -> bool:
        if view in self._registry.projections:
            return await self._placements.sql_projectors[view].reached(position, deadline)
        stores = self._stores[view]
        for store in stores:
            for each in self._placements.filling(view, None, store):
                if not await each.reached(position, deadline):
                    return False
        if "memory" not in stores:
            return True
        known = self._placements.replicas_of(view)
        replicas: list[ActorHandle] = [each for each in known if each.ready] or [*known]
        if any(each.progress.position >= position for each in replicas):
            return True
        waits = [asyncio.create_task(each.reached(position, deadline)) for each in replicas]
        try:
            for first in asyncio.as_completed(waits):
                if await first:
                    return True
            return False
        finally:
            for wait in waits:
                wait.cancel()
