"""Routes that answer queries with the bytes that a store returns."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from functools import cache, partial
from hashlib import blake2b
from typing import Any, Protocol, cast
from urllib.parse import parse_qsl

from litestar.handlers import HTTPRouteHandler
from pydantic import ValidationError

from api.http import headers as read
from api.http.auth import Access, Role
from api.http.dates import has_dates, refuse_numbers
from api.http.endpoint import Call, Endpoint, Handler
from api.http.headers import Headers
from api.http.problems import Problem, invalid, invalid_field, malformed
from api.http.reply import GUARDS, OF_JSON, Reply, json_bytes, json_reply
from api.operators.metrics import Metrics
from api.queries.history import HistoryRoutes
from api.queries.minimal import minimal_reply, wants_minimal, with_vary
from api.queries.query_middleware import QueryMiddleware
from api.queries.resources import needs_of
from projections.errors import Behind
from rayfold import Answer, Query, Reading, Registry, Route, ViewQueryDefinition
from rayfold.derived_routes import followed_by

TIMEOUT = 2.0
"""Seconds that a query waits for a store to reach its `Consistency-Token`, unless it sends
`Prefer: wait=N`."""

NO_PAST = (
    "only a row that folds the events of one aggregate, by the aggregate's id, can be asked for"
    " as it was"
)


class Queries(Protocol):
    """See `projections.queries.bus.QueryBus`."""

    async def ask(
        self,
        query: Query,
        *,
        at_least: int | None = None,
        timeout: float = 2.0,
        store: str | None = None,
        tenant: str = "",
    ) -> Answer:
        """See `QueryBus.ask`."""
        ...

    async def reached(self, views: Sequence[str], position: int, deadline: float) -> list[str]:
        """See `QueryBus.reached`."""
        ...

    def live(
        self, query: Query, *, after: int | None, tenant: str = ""
    ) -> AsyncGenerator[tuple[int, bytes], None]:
        """See `QueryBus.live`."""
        ...


class QueryRoutes:
    """Handlers for every query of a domain."""

    def __init__(
        self,
        registry: Registry,
        queries: Queries,
        history: HistoryRoutes,
        metrics: Metrics,
        around: QueryMiddleware | None,
    ) -> None:
        self._registry = registry
        self._around = around
        self._queries = queries
        self._history = history
        self._metrics = metrics
        self._joined = {
            each.model
            for each in registry.queries.values()
            if isinstance(each, ViewQueryDefinition) and followed_by(registry, each.view) is None
        }
        """Queries for rows that fold events of several streams: a revision does not identify their
        state."""

    def handlers(self, endpoint: Endpoint) -> list[HTTPRouteHandler]:
        """Return a handler for each declared route, and one for all queries by name."""
        declared = [
            endpoint.handler(
                "GET",
                declared.path,
                self._declared(declared),
                Role.READER,
                needs_of(declared.message),
            )
            for declared in self._registry.routes
            if declared.method == "GET"
        ]
        return [*declared, endpoint.handler("GET", "/queries/{name}", self._by_name, Role.READER)]

    def _declared(self, declared: Route) -> Handler:
        query_type: Any = declared.message
        minimal = declared.minimal
        history = self._history.of(declared)

        async def answer(call: Call) -> Reply:
            fields = call.path
            if call.query_string:
                given = parameters(call.query_string)
                if history is not None and "as_of" in given:
                    return await history.as_of(call, given)
                if "as_of" in given and "as_of" not in query_type.model_fields:
                    raise invalid_field("as_of", NO_PAST)
                fields = merged(fields, given)
            if minimal is None:
                return await self._answer(read_query(query_type, fields), call)
            if wants_minimal(call.headers):
                call.caller.check(Access(Role.READER, needs_of(minimal)))
                reply = await self._answer(read_query(minimal, fields), call)
                return minimal_reply(reply, call.headers)
            return with_vary(await self._answer(read_query(query_type, fields), call))

        return answer

    async def _by_name(self, call: Call) -> Reply:
        name = call.path["name"]
        definition = self._registry.queries.get(name)
        if definition is None:
            raise Problem(404, "unknown-query", f"no query is named {name!r}")
        call.caller.check(Access(Role.READER, definition.needs))
        query = read_query(definition.model, parameters(call.query_string))
        return await self._answer(query, call)

    async def _answer(self, query: Query, call: Call) -> Reply:
        headers = call.headers
        self._metrics.asked(type(query).__rayfold__.name)
        at_least = read.at_least(headers)
        store = read.store(headers)
        timeout = TIMEOUT
        if at_least is not None and (wait := read.wait_seconds(headers)) is not None:
            timeout = wait
        ask = self._queries.ask
        try:
            if self._around is None:
                answer = await ask(
                    query, at_least=at_least, timeout=timeout, store=store, tenant=call.tenant
                )
            else:
                within = partial(
                    ask, at_least=at_least, timeout=timeout, store=store, tenant=call.tenant
                )
                answer = await self._around.ask(call, query, within, Reading.NOW, timeout)
        except Behind as behind:
            return processing(behind)
        return respond(answer, headers, joined=type(query) in self._joined)


def parameters(query_string: bytes) -> dict[str, str]:
    """Return the query string's parameters.

    Raises:
        Problem: 422 if one of them came twice or holds a NUL.
    """
    if not query_string:
        return {}
    try:
        pairs = parse_qsl(
            query_string.decode(), keep_blank_values=True, errors="strict", max_num_fields=100
        )
    except ValueError as error:
        raise malformed(f"the query string cannot be read: {error}") from error
    given = dict(pairs)
    if len(given) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise invalid_field(twice, "is given more than once")
    for name, value in pairs:
        if "\x00" in value or "\x00" in name:  # see api.commands.decoder: it cannot be stored
            raise invalid_field(name.replace("\x00", "\\0"), "contains a NUL character")
    return given


def known_parameters(query_string: bytes, *known: str) -> dict[str, str]:
    """Return the query string's parameters.

    Raises:
        Problem: 422 if one of them is not `known`, came twice or holds a NUL.
    """
    given = parameters(query_string)
    for name in given:
        if name not in known:
            raise invalid_field(name, "is not a parameter of this path")
    return given


def merged(path: dict[str, str], given: dict[str, str]) -> dict[str, str]:
    """Return a query's fields from its path and its query string.

    Raises:
        Problem: 422 if a field is in both.
    """
    for name in path:
        if name in given:
            raise invalid_field(name, "is given by the path, not as a parameter")
    return path | given


_has_dates = cache(has_dates)


def read_query(query_type: type[Query], fields: dict[str, str]) -> Query:
    """Return the query with the fields in these texts.

    Raises:
        Problem: 422 if they do not fit.
    """
    try:
        query: Query = query_type.__pydantic_validator__.validate_strings(cast(Any, fields))
    except ValidationError as error:
        raise invalid(error, f"{query_type.__rayfold__.name}: see errors") from error
    if _has_dates(query_type):
        refuse_numbers(query, fields)
    return query


def processing(behind: Behind) -> Reply:
    """Return 202: the view has not reached the client's token yet."""
    body = {
        "status": "processing",
        "view": behind.view,
        "position": behind.position,
        "wanted": behind.wanted,
        "detail": "the write stands; the view has not come so far yet",
    }
    return json_reply(body, 202, [(b"retry-after", b"1")])


def respond(answer: Answer, headers: Headers, *, joined: bool = False) -> Reply:
    """Return 200 with the store's body, or 304; raise 404.

    A row's entity tag has a digest of its content, because a rebuilt view may show something else
    at the same revision. Before it stands the aggregate's revision, for `If-Match`; not in the tag
    of a row that is `joined` from several streams, which no revision identifies.
    """
    body, revision, position = answer
    token = b"%d" % position
    if body is None:
        raise Problem(
            404,
            "not-found",
            f"the view has no such row, as of position {position}",
            headers={"Consistency-Token": str(position)},
        )
    if revision is None:
        return json_bytes(body, 200, [(b"consistency-token", token)])
    shown = blake2b(body, digest_size=9).hexdigest().encode()
    etag = b'"%b"' % shown if joined else b'"%d-%b"' % (revision, shown)
    if b"if-none-match" in headers and read.matches(headers, etag):
        return Reply(304, [*GUARDS, (b"etag", etag), (b"consistency-token", token)], b"")
    return Reply(
        200,
        [
            *OF_JSON,
            (b"content-length", b"%d" % len(body)),
            (b"etag", etag),
            (b"consistency-token", token),
        ],
        body,
    )
