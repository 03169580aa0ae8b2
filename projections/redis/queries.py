"""Queries to Redis: rows and their position, in one step; many are sent together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from projections.errors import BeingBuilt, ReadStoreUnavailable
from projections.pages import Start, decode_cursor, page_json
from projections.partitions import hash_of
from projections.redis.generations import RedisGenerations
from projections.redis.keys import GenerationKeys, after, placed, value_prefix
from projections.redis.rows import parts_of
from projections.redis.scripts import LIVE, PAGE, ROW, WHOLE
from projections.redis.server import Call, Server, answering
from projections.row_query import RowQuery, RowResult, Snapshot
from projections.stores.port import Found
from rayfold import Registry, ViewDefinition
from rayfold.runtime.batching import Batcher, BatchFull

LOOKED_AT = 2_000
"""Places of a list that are read in one step, if several filters leave few of them."""

FRESH = 1.0
"""Seconds for which the live generation's name is cached."""

SWITCHES = 5
"""Switches that one query survives."""

BATCH = 64
QUEUE = 8192

IN_FLIGHT = 2
"""Batches in progress at a time, each on its own connection."""


class _Gone(Exception):
    """The generation was replaced."""


class RedisRows:
    """Answers queries from live generations."""

    def __init__(self, registry: Registry, server: Server, generations: RedisGenerations) -> None:
        self._views = registry.views
        self._server = server
        self._generations = generations
        self._live: dict[str, tuple[float, str]] = {}
        self._batcher: Batcher[Call, Any] = Batcher(
            self._send, max_batch=BATCH, max_queue=QUEUE, in_flight=IN_FLIGHT
        )

    async def find(self, query: RowQuery) -> Found:
        """See `ReadStore.find`."""
        view = self._views[query.view]
        for _ in range(SWITCHES):
            keys = await self._keys(view)
            try:
                if query.key is not None:
                    return await self._one(keys, query.key)
                return await self._page(view, keys, query)
            except _Gone:
                self._live.pop(view.name, None)
            except BeingBuilt:
                self._live.pop(view.name, None)
                raise
        raise ReadStoreUnavailable(f"view {query.view!r} is replaced again and again")

    async def _keys(self, view: ViewDefinition) -> GenerationKeys:
        until, live = self._live.get(view.name, (0.0, ""))
        now = time.monotonic()
        if until < now:
            # All queries need this at the same time: so it is batched like them.
            [found] = await self._ask((LIVE, [self._generations.pointer_key(view)], []))
            if not found:
                raise BeingBuilt(f"Redis has no rows of {view.name!r} yet")
            live = found.decode()
            self._live[view.name] = now + FRESH, live
        return self._generations.keys_of(view, live)

    async def _one(self, keys: GenerationKeys, key: str) -> Found:
        told = [hash_of(key), key.encode()]
        checkpoint, value = await self._ask((ROW, [keys.meta, keys.rows], told))
        position = int(checkpoint[:20])
        if value is None:
            return Found(RowResult(None, None, position), position)
        revision, _, _, body = parts_of(value)
        return Found(RowResult(body, revision, position), position)

    async def _page(self, view: ViewDefinition, keys: GenerationKeys, query: RowQuery) -> Found:
        """Return a page. If it takes several steps, each row is from one of them."""
        start = decode_cursor(query.cursor)
        behind = _begins(start)
        found: list[bytes] = []
        covered: int | None = None
        furthest = 0
        while True:
            left = query.limit + 1 - len(found) // 2
            call = _page_call(view, keys, query, left, start, behind, LOOKED_AT)
            answer = await self._ask(call)
            least, most, behind, pairs = answer
            covered = int(least) if covered is None else covered
            furthest = max(furthest, int(most))
            found += pairs
            if not behind or len(found) > 2 * query.limit:
                body = _body(found, query.limit, start)
                return Found(RowResult(body, None, furthest), covered)

    async def _ask(self, call: Call) -> Any:
        try:
            answer = await self._batcher.call(call)
        except BatchFull as error:
            raise ReadStoreUnavailable("too many queries wait already") from error
        if isinstance(answer, Exception):
            with answering():
                raise answer
        return _of(answer)

    async def _send(self, calls: list[Call]) -> Sequence[Any]:
        with answering():
            return await self._server.run_each(calls)

    async def snapshot(self, view: str, queries: Sequence[RowQuery]) -> Snapshot:
        """See `ReadStore.snapshot`. Redis does nothing else meanwhile."""
        for _ in range(SWITCHES):
            try:
                return await self._snapshot(self._views[view], queries)
            except _Gone:
                self._live.pop(view, None)
        raise ReadStoreUnavailable(f"view {view!r} is replaced again and again")

    async def _snapshot(self, view: ViewDefinition, queries: Sequence[RowQuery]) -> Snapshot:
        keys, every = await self._keys(view), 2**31
        starts = [decode_cursor(each.cursor) for each in queries]
        calls = [
            _page_call(view, keys, each, each.limit + 1, start, _begins(start), every)
            for each, start in zip(queries, starts, strict=True)
        ]
        # The first only checks whether the others are complete.
        calls.insert(0, (WHOLE, keys.written, []))
        rows, [state, *pages] = await self._server.with_hash(keys.rows, calls)
        said = _of(state)[0]
        if any(field[:1] == b"f" for field in said[::2]):
            raise BeingBuilt(f"Redis lacks rows of {view.name!r}")
        listed = []
        for key, value in rows.items():
            try:
                _, position, started, body = parts_of(value)
            except ValueError:  # somebody else wrote it: that is a difference
                position, started, body = 0, 0, value
            listed.append((key.decode(), body, position, started))
        found = []
        for page, query, start in zip(pages, queries, starts, strict=True):
            try:
                found.append(_body(_of(page)[3], query.limit, start))
            except ValueError:  # of such a row
                found.append(b"")
        return Snapshot(listed, found)


def _page_call(
    view: ViewDefinition,
    keys: GenerationKeys,
    query: RowQuery,
    wanted: int,
    start: Start,
    behind: bytes,
    most: int,
) -> Call:
    lists, told = [], [wanted, behind, most, int(start.newest_first)]
    for field, value in view.sought(query.filters).items():
        at = view.lists.index(field)
        lists.append(keys.by[at])
        told += f"i{at}", value_prefix(value)
    return PAGE, [keys.meta, keys.rows, keys.all, *lists], told


def _begins(start: Start) -> bytes:
    """Return the member behind which a page begins; an empty one for the first page."""
    return b"" if start.behind is None else after(start.behind)


def _of(answer: Sequence[Any]) -> Sequence[Any]:
    """Return a script's result.

    Raises:
        BeingBuilt: the generation is incomplete, or has lost rows.
    """
    state, *more = answer
    if state == b"OK":
        return more
    if state == b"GONE":
        raise _Gone
    raise BeingBuilt("Redis has lost rows, or lacks some of them yet: they are folded")


def _body(found: Sequence[bytes], limit: int, start: Start) -> bytes:
    """Return a page from places and values, given alternately."""
    page = found[: 2 * limit]
    following = start._replace(behind=placed(page[-2])) if len(found) > 2 * limit else None
    return page_json([parts_of(value)[3] for value in page[1::2]], following)
