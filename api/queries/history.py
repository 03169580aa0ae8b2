"""The history of a resource: its audit trail, and its earlier states."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, Protocol

from litestar.handlers import HTTPRouteHandler
from msgspec.json import encode
from pydantic import ValidationError

from api.http.auth import Role
from api.http.endpoint import Call, Document, Endpoint
from api.http.headers import store, token
from api.http.problems import Problem, invalid, invalid_field
from api.http.reply import OF_JSON, Reply, json_bytes
from api.queries.query_middleware import Ask, QueryMiddleware
from api.queries.resources import needs_of
from rayfold import (
    Answer,
    Query,
    Reading,
    Registry,
    Route,
    ViewDefinition,
    ViewQueryDefinition,
    key_text,
)
from rayfold.aggregate import AggregateType
from rayfold.derived_routes import HISTORY, aggregate_of
from rayfold.runtime.turns import Turn
from rayfold.tenants import within

_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})\Z"
)
AT_ONCE = 1000
"""Events of a history that are one answer; of a longer one the others follow piece by piece."""

PIECE = 500
"""Events that are written at a time."""

_REVISION = re.compile(r"([0-9]{1,18})(\.0+)?\Z")


class Histories(Protocol):
    """See `projections.queries.history.History`."""

    def events(
        self,
        aggregate: AggregateType,
        aggregate_id: str,
        *,
        after: int | None = None,
        limit: int | None = None,
    ) -> AsyncGenerator[dict[str, Any], None]:
        """See `History.events`."""
        ...

    async def last(self, aggregate: AggregateType, aggregate_id: str) -> tuple[int, int]:
        """See `History.last`."""
        ...

    async def as_of(
        self, view: ViewDefinition, key: str, stream: str, at: int | datetime
    ) -> tuple[bytes, int] | None:
        """See `History.as_of`."""
        ...


class HistoryOf:
    """The past of what one route answers with."""

    def __init__(
        self,
        registry: Registry,
        declared: Route,
        aggregate: AggregateType,
        histories: Histories,
        around: QueryMiddleware | None,
    ) -> None:
        self.aggregate = aggregate
        message: Any = declared.message
        self.shows_events = declared.history
        self._query: ViewQueryDefinition = message.__rayfold__
        self._view = registry.views[self._query.view.name]
        self.needs = needs_of(message)
        self._histories = histories
        self._around = around

    async def as_of(self, call: Call, given: Mapping[str, str]) -> Reply:
        """Return the resource at the revision or time `as_of`."""
        if set(given) != {"as_of"}:
            raise invalid_field("as_of", "cannot be combined with another parameter")
        store(call.headers)  # an unknown store is refused, although the log answers
        moment = _moment(given["as_of"])

        async def ask(query: Query) -> Answer:
            key = self._key(call, query)
            found = await self._histories.as_of(self._view, key, self.aggregate.stream(key), moment)
            if found is None:
                raise Problem(404, "not-found", "it did not exist then")
            return Answer(found[0], None, found[1])

        return await self._answer(call, ask, Reading.AS_OF)

    async def history(self, call: Call) -> Reply | Document:
        """Return every event, in order; many of them are never in memory at once.

        But where there is middleware: that is given a whole answer.
        """
        if call.query_string:
            raise invalid_field("history", "takes no parameters")

        async def ask(query: Query) -> Answer:
            return await _whole(await self._begun(self._key(call, query), None))

        if self._around is not None:
            return await self._answer(call, ask, Reading.HISTORY)
        key = self._key(call, self._read(call.path))
        begun = await self._begun(key, AT_ONCE)
        if len(begun) < AT_ONCE:
            return _reply(call, await _whole(begun))
        revision, position = await self._histories.last(self.aggregate, key)
        headers = [*OF_JSON, _token(call, max(position, begun[-1]["position"]))]
        return Document(200, headers, self._pieces(key, begun, revision))

    async def _begun(self, key: str, limit: int | None) -> list[dict[str, Any]]:
        """Return the first events.

        Raises:
            Problem: there are none.
        """
        reading = self._histories.events(self.aggregate, key, limit=limit)
        async with aclosing(reading) as events:
            begun = [each async for each in events]
        if not begun:
            raise Problem(404, "not-found", "it has no events")
        return begun

    async def _pieces(
        self, key: str, begun: list[dict[str, Any]], until: int
    ) -> AsyncGenerator[bytes, None]:
        """Yield the document of the events that begin so, up to a revision."""
        yield encode(begun)[:-1]
        reading = self._histories.events(self.aggregate, key, after=begun[-1]["revision"])
        piece: list[dict[str, Any]] = []
        async with aclosing(reading) as events:
            async for each in events:
                if each["revision"] > until:
                    break
                piece.append(each)
                if len(piece) == PIECE:
                    yield b"," + encode(piece)[1:-1]
                    piece.clear()
        yield b"," + encode(piece)[1:] if piece else b"]"

    async def _answer(self, call: Call, ask: Ask, reading: Reading) -> Reply:
        """Middleware that is around the row is around its past: it shows what the row shows."""
        query = self._read(call.path)
        if self._around is None:
            answer = await ask(query)
        else:
            answer = await self._around.ask(call, query, ask, reading)
        return _reply(call, answer)

    def _read(self, path: Mapping[str, str]) -> Query:
        try:
            return self._query.model.model_validate_strings(dict(path))
        except ValidationError as error:
            raise invalid(error, f"{self._query.name}: see errors") from error

    def _key(self, call: Call, query: Query) -> str:
        field = self._query.view.key
        try:
            return within(call.tenant, key_text(getattr(query, field)))
        except ValueError as error:  # its type takes more than any store does
            raise invalid_field(field, str(error)) from error


class HistoryRoutes:
    """Finds the routes that answer with a single aggregate's row."""

    def __init__(
        self, registry: Registry, histories: Histories, around: QueryMiddleware | None
    ) -> None:
        self._found: dict[str, HistoryOf] = {}
        for declared in registry.routes:
            aggregate = aggregate_of(registry, declared)
            if aggregate is not None:
                self._found[declared.path] = HistoryOf(
                    registry, declared, aggregate, histories, around
                )

    def of(self, declared: Route) -> HistoryOf | None:
        """Return the past of what that route answers with; None if it has none."""
        return self._found.get(declared.path) if declared.method == "GET" else None

    def handlers(self, endpoint: Endpoint) -> list[HTTPRouteHandler]:
        """Return `…/history` for each."""
        return [
            endpoint.handler("GET", f"{path}{HISTORY}", past.history, Role.READER, past.needs)
            for path, past in self._found.items()
            if past.shows_events
        ]


async def _whole(events: Sequence[dict[str, Any]]) -> Answer:
    """Return them as one document."""
    pieces, turn = [], Turn()
    for at in range(0, len(events), PIECE):
        pieces.append(encode(events[at : at + PIECE])[1:-1])
        await turn.pass_on()
    return Answer(b"[%b]" % b",".join(pieces), None, events[-1]["position"])


def _reply(call: Call, answer: Answer) -> Reply:
    if answer.body is None:
        raise Problem(404, "not-found", "it does not exist")
    return json_bytes(answer.body, 200, [_token(call, answer.position)])


def _token(call: Call, position: int) -> tuple[bytes, bytes]:
    # The log is ahead of every view: who has seen this must not be shown less by one.
    return b"consistency-token", token(call.headers, position)


def _moment(text: str) -> int | datetime:
    """Return a revision, or an RFC 3339 time."""
    if revision := _REVISION.match(text):
        return int(revision[1])
    # An unescaped + in a query string arrives as a space.
    text = re.sub(r" (?=[0-9]{2}:[0-9]{2}\Z)", "+", text)
    if _RFC3339.match(text):
        try:
            return datetime.fromisoformat(text.upper())
        except ValueError as error:
            raise invalid_field("as_of", str(error)) from error
    raise invalid_field("as_of", "must be a revision or an RFC 3339 time")
