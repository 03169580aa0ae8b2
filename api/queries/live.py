"""`…/live`: a row now, then each change of it, as Server-Sent Events.

An event's `id` is a position in `$all` that shows the row, so that a client that
reconnects with `Last-Event-ID` misses nothing and gets nothing older than it has; the row
as it has it may come once more. A `Consistency-Token` counts like what was seen last.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Protocol, runtime_checkable

from litestar.handlers import HTTPRouteHandler

from api.http.endpoint import Answer, Call, Endpoint, Stream
from api.http.headers import at_least
from api.http.problems import malformed
from api.http.reply import Reply
from api.queries.resources import aggregate_of
from api.queries.routes import DEADLINE, Queries, processing, read_query, respond
from projections.errors import Behind, ProjectionError
from rayfold import Query, Registry

PATIENCE = 15.0
"""Seconds between two signs of life on a stream where nothing happens."""

PACE = 0.05
"""Seconds between two questions for one stream: a busy log must not make it spin."""

_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
_SIGN_OF_LIFE = b": still here\n\n"


@runtime_checkable
class LiveRoute(Protocol):
    """A query bus that tells of changes by itself."""

    def live(self, query: Query, *, after: int | None) -> AsyncIterator[tuple[int, bytes]]:
        """The row if it has changed since position `after`, then each change of it."""
        ...


def live_handlers(registry: Registry, queries: Queries, gate: Endpoint) -> list[HTTPRouteHandler]:
    """One for each route that answers with a single aggregate's row."""
    return [
        gate.handler("GET", f"{declared.path}/live", _live(declared.message, queries))
        for declared in registry.routes
        if aggregate_of(registry, declared) is not None
    ]


def _live(query_type: Any, queries: Queries) -> Answer:
    async def answer(call: Call) -> Stream | Reply:
        query = read_query(query_type, call.path)
        after = _after(call)
        seen = at_least(call.headers)
        if after is None:
            # A stream of a row that is not there would stay empty: 404 is more help.
            try:
                respond(await queries.ask(query, at_least=seen, deadline=DEADLINE), {})
            except Behind as behind:
                return processing(behind)
        if seen is not None:
            after = max(after or 0, seen)
        if isinstance(queries, LiveRoute):
            changes = queries.live(query, after=after)
        else:
            changes = follow(queries, query, after)
        return Stream(_HEADERS, _events(changes))

    return answer


def _after(call: Call) -> int | None:
    raw = call.headers.get(b"last-event-id")
    if raw is None:
        return None
    if not raw.isdigit() or len(raw) > 18:
        raise malformed("no Last-Event-ID of ours")
    return int(raw)


async def _events(changes: AsyncIterator[tuple[int, bytes]]) -> AsyncIterator[bytes]:
    """Each change as an event; a comment where none comes for a while."""
    following = aiter(changes)
    waiting: asyncio.Task[tuple[int, bytes]] | None = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(following))
            done, _ = await asyncio.wait([waiting], timeout=PATIENCE)
            if not done:
                yield _SIGN_OF_LIFE
                continue
            try:
                position, row = waiting.result()
            except StopAsyncIteration:
                return
            finally:
                waiting = None
            yield b"id: %d\ndata: %b\n\n" % (position, row)
    finally:
        if waiting is not None:
            waiting.cancel()


async def follow(
    queries: Queries, query: Query, after: int | None
) -> AsyncIterator[tuple[int, bytes]]:
    """Changes by asking again whenever the view has moved on.

    Several changes between two questions come as one: a reader sees the latest state.
    """
    seen: int | None = None
    position = after
    first = after is None
    while True:
        try:
            answer = await queries.ask(
                query, at_least=None if first else (position or 0) + 1, deadline=PATIENCE
            )
        except Behind:
            continue  # nothing has happened anywhere
        except ProjectionError:
            await asyncio.sleep(PACE)  # a replica that restarts is back soon
            continue
        first = False
        position = answer.position
        if answer.body is not None and answer.revision != seen:
            seen = answer.revision
            yield position, answer.body
        await asyncio.sleep(PACE)
