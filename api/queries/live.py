"""`…/live`: a row now, then each change of it, as Server-Sent Events.

An event's `id` is a position in `$all` at which the row looked like this. A client that
reconnects with `Last-Event-ID` misses nothing and gets nothing older than it has, but may get
the same state once more. A `Consistency-Token` works like a `Last-Event-ID`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from litestar.handlers import HTTPRouteHandler

from api.http.auth import Role
from api.http.endpoint import Call, Endpoint, Handler, Stream
from api.http.headers import at_least
from api.http.problems import Problem, malformed
from api.http.reply import GUARDS, Reply
from api.queries.query_middleware import Ask, QueryMiddleware
from api.queries.resources import needs_of
from api.queries.routes import TIMEOUT, Queries, processing, read_query, respond
from projections.errors import Behind
from rayfold import Answer, Query, Reading, Refused, Registry
from rayfold.derived_routes import LIVE, is_live
from rayfold.errors import MiddlewareFailed

HEARTBEAT = 15.0
"""Seconds between two comments on a stream without changes, as a sign of life."""

_HEADERS = [
    *GUARDS,
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
_SIGN_OF_LIFE = b": still here\n\n"


def live_handlers(
    registry: Registry, queries: Queries, endpoint: Endpoint, around: QueryMiddleware | None
) -> list[HTTPRouteHandler]:
    """Return a handler for each route whose row can be followed."""
    return [
        endpoint.handler(
            "GET",
            f"{declared.path}{LIVE}",
            _live(declared.message, queries, around),
            Role.READER,
            needs_of(declared.message),
        )
        for declared in registry.routes
        if is_live(declared)
    ]


def _live(query_type: Any, queries: Queries, around: QueryMiddleware | None) -> Handler:
    async def answer(call: Call) -> Stream | Reply:
        query = read_query(query_type, call.path)
        after = _after(call)
        seen = at_least(call.headers)
        if around is not None:
            return await _through(around, call, query, queries, after, seen)
        if after is None:
            # The stream of a row that does not exist would stay empty: a 404 is more helpful.
            try:
                found = await queries.ask(query, at_least=seen, timeout=TIMEOUT, tenant=call.tenant)
                respond(found, {})
            except Behind as behind:
                return processing(behind)
        if seen is not None:
            after = max(after or 0, seen)
        return Stream(_HEADERS, _events(queries.live(query, after=after, tenant=call.tenant)))

    return answer


async def _through(
    around: QueryMiddleware,
    call: Call,
    query: Query,
    queries: Queries,
    after: int | None,
    seen: int | None,
) -> Stream | Reply:
    """Answer through middleware, which runs at the start and again for each row that is sent."""
    followed = query

    async def begin(asked: Query) -> Answer:
        nonlocal followed
        followed = asked
        return await queries.ask(asked, at_least=seen, timeout=TIMEOUT, tenant=call.tenant)

    try:
        answer = await around.ask(call, query, begin, Reading.LIVE, TIMEOUT)
    except Behind as behind:
        return processing(behind)
    if after is None:
        respond(answer, {})

    async def changes() -> AsyncGenerator[tuple[int, bytes], None]:
        since = max(after or 0, seen or 0) or None
        following = queries.live(followed, after=since, tenant=call.tenant)
        async with aclosing(following) as rows:
            async for position, row in rows:
                try:
                    told = await around.ask(call, query, _giving(row, position), Reading.LIVE)
                except (Refused, MiddlewareFailed, Problem):
                    return  # the client may no longer see the row
                if told.body is not None:
                    yield position, told.body

    return Stream(_HEADERS, _events(changes()))


def _giving(row: bytes, position: int) -> Ask:
    async def ask(_: Query) -> Answer:
        return Answer(row, None, position)

    return ask


def _after(call: Call) -> int | None:
    raw = call.headers.get(b"last-event-id")
    if raw is None:
        return None
    if not raw.isdigit() or len(raw) > 18:
        raise malformed("the Last-Event-ID is not one that this stack gave")
    return int(raw)


async def _events(
    changes: AsyncGenerator[tuple[int, bytes], None],
) -> AsyncGenerator[bytes, None]:
    """Yield each change as an event, and a comment after `HEARTBEAT` seconds without any."""
    waiting: asyncio.Task[tuple[int, bytes]] | None = None
    async with aclosing(changes):
        try:
            while True:
                waiting = waiting or asyncio.ensure_future(anext(changes))
                done, _ = await asyncio.wait([waiting], timeout=HEARTBEAT)
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
            if waiting is not None:  # else `changes` could not be closed: it runs
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
