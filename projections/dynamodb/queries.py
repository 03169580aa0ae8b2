"""Queries to DynamoDB: checkpoints first, then rows, each read consistently.

So rows may be further than the checkpoint in an answer, and never behind it. Rows of a generation
that was replaced meanwhile are kept longer than a query takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from projections.dynamodb.generations import ANSWERED, DynamoGenerations, pointer_in
from projections.dynamodb.keys import (
    SHARDS,
    GenerationKeys,
    Key,
    after,
    behind,
    place_of,
    value_prefix,
)
from projections.dynamodb.rows import Item, StoredRow, stored_row
from projections.dynamodb.table import Table
from projections.errors import BeingBuilt, ReadStoreUnavailable
from projections.pages import Place, Start, decode_cursor, page_json
from projections.partitions import hash_of
from projections.row_query import RowQuery, RowResult, Snapshot
from projections.stores.pointed_generations import Pointer
from projections.stores.port import Found
from rayfold import Registry, ViewDefinition

ATTEMPTS = 10
"""Attempts to read a view between writes, before writers are paused."""

AT_A_TIME = 100
"""Places of a list that are read at a time."""


class DynamoRows:
    """Answers queries from live generations."""

    def __init__(self, registry: Registry, table: Table, generations: DynamoGenerations) -> None:
        self._views = registry.views
        self._table = table
        self._generations = generations
        self._known: dict[str, Pointer] = {}
        """Each view's pointer when it was last read."""

    async def find(self, query: RowQuery) -> Found:
        """See `ReadStore.find`."""
        view = self._views[query.view]
        try:
            async with asyncio.timeout(ANSWERED):
                if query.key is not None:
                    return await self._one(view, query.key)
                return await self._page(view, query)
        except TimeoutError as error:
            raise ReadStoreUnavailable(f"DynamoDB has not answered in {ANSWERED:.0f} s") from error

    async def _one(self, view: ViewDefinition, key: str) -> Found:
        keys, [checkpoint] = await self._live(view, key)
        [item] = await self._table.get([keys.row(key)])
        position = int(checkpoint["position"])
        if item is None:
            return Found(RowResult(None, None, position), position)
        row = stored_row(item)
        # The row may be further than the checkpoint read before it, and it is all there is of its
        # key.
        at = max(position, row.position)
        return Found(RowResult(row.body, row.revision, at), at)

    async def _live(
        self, view: ViewDefinition, key: str | None
    ) -> tuple[GenerationKeys, list[Item]]:
        """Return the live generation and its checkpoints, or only that of a key's partition.

        Raises:
            BeingBuilt: there is none, or its rows are incomplete.
        """
        known = self._known.get(view.name)
        while True:
            asked: list[Key] = []
            if known is not None and known.live:
                partitions = range(known.partitions)
                if key is not None:
                    partitions = range(at := hash_of(key) % known.partitions, at + 1)
                keys = self._generations.keys_of(view, known.live)
                asked = [keys.checkpoint(at) for at in partitions]
            told, *found = await self._table.get([self._generations.pointer_key(view), *asked])
            pointer = self._known[view.name] = pointer_in(told)
            if not pointer.live:
                raise BeingBuilt(f"DynamoDB has no rows of {view.name!r} yet")
            if pointer == known:
                break
            known = pointer
        checkpoints = [each for each in found if each is not None]
        if len(checkpoints) < len(asked) or any("filling" in each for each in checkpoints):
            raise BeingBuilt(f"DynamoDB lacks rows of {view.name!r}, which are folded")
        return keys, checkpoints

    async def _page(self, view: ViewDefinition, query: RowQuery) -> Found:
        start = decode_cursor(query.cursor)
        keys, checkpoints = await self._live(view, None)
        positions = [int(each["position"]) for each in checkpoints]
        rows = await self._rows(view, keys, query, start)
        furthest = max([*positions, *(each.position for each in rows)])
        return Found(RowResult(_body(rows, query.limit, start), None, furthest), min(positions))

    async def _rows(
        self, view: ViewDefinition, keys: GenerationKeys, query: RowQuery, start: Start
    ) -> list[StoredRow]:
        """Return the rows of a page, and one more if there is one."""
        sought = view.sought(query.filters)
        wanted = {view.lists.index(f): value_prefix(v) for f, v in sought.items()}
        pk, prefix, since, until = keys.all, "", "", ""
        if wanted:
            index, prefix = next(iter(wanted.items()))
            pk, since, until = keys.by[index], prefix, behind(prefix)
        if start.behind is not None and start.newest_first:
            until = prefix + place_of(*start.behind)
        elif start.behind is not None:
            since = prefix + after(start.behind)
        found: list[StoredRow] = []
        more = True
        while more and len(found) <= query.limit:
            members, at = await self._table.page(
                pk,
                min(AT_A_TIME, query.limit + 2),
                since=since,
                until=until,
                backwards=start.newest_first,
            )
            if start.newest_first:  # the last one of the page before comes again
                members = [each for each in members if each["sk"] != until]
            items = await self._table.get([keys.row(each["key"]) for each in members])
            for each, item in zip(members, items, strict=True):
                if item is None:
                    continue  # it was removed meanwhile
                row = stored_row(item)
                is_there = each["sk"].removeprefix(prefix).startswith(f"{row.started:020d} ")
                if is_there and all(row.values[at] == value for at, value in wanted.items()):
                    found.append(row)
            more = at is not None
            if start.newest_first:
                until = at or ""
            else:
                since = at or ""
        return found[: query.limit + 1]

    async def snapshot(self, view: str, queries: Sequence[RowQuery]) -> Snapshot:
        """See `ReadStore.snapshot`: read between writes, or while writers are paused."""
        declared = self._views[view]
        for _ in range(ATTEMPTS):
            keys, before = await self._live(declared, None)
            found = await self._seen(declared, keys, queries)
            now, after_it = await self._live(declared, None)
            if now.generation == keys.generation and _marks(before) == _marks(after_it):
                return found
        await self._generations.hold(keys)
        try:
            return await self._seen(declared, keys, queries)
        finally:
            await self._generations.release(keys)

    async def _seen(
        self, view: ViewDefinition, keys: GenerationKeys, queries: Sequence[RowQuery]
    ) -> Snapshot:
        rows = []
        for shard in range(SHARDS):
            async for item in self._table.all(keys.rows(shard)):
                row = stored_row(item)
                rows.append((row.key, row.body, row.position, row.started))
        pages = []
        for each in queries:
            start = decode_cursor(each.cursor)
            pages.append(_body(await self._rows(view, keys, each, start), each.limit, start))
        return Snapshot(rows, pages)


def _marks(checkpoints: Sequence[Item]) -> list[tuple[str, bool]]:
    return [(each["mark"], "journal" in each) for each in checkpoints]


def _body(rows: Sequence[StoredRow], limit: int, start: Start) -> bytes:
    page, following = rows[:limit], None
    if len(rows) > limit:
        following = start._replace(behind=Place(page[-1].started, page[-1].key))
    return page_json([each.body for each in page], following)
