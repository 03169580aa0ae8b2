"""Routes that answer queries: bytes from a store, as it made them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast
from urllib.parse import parse_qsl

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse
from pydantic import ValidationError

from api import headers as read
from api.headers import Headers, headers_of
from api.metrics import Metrics
from api.minimal import wants_minimal, without_revision
from api.past import Past
from api.problems import Problem, invalid
from api.responses import json_response
from projections.errors import Behind
from projections.query_bus import Answer
from rayfold import Query, Registry, Route

AnyRequest = Request[Any, Any, Any]

DEADLINE = 2.0
"""Seconds that a query waits for a store to reach its `Consistency-Token`."""


class Queries(Protocol):
    """See `projections.query_bus.QueryBus`."""

    async def ask(
        self,
        query: Query,
        *,
        at_least: int | None = None,
        deadline: float = 2.0,
        store: str | None = None,
    ) -> Answer:
        """See `QueryBus.ask`."""
        ...

    async def reached(self, views: Sequence[str], position: int, deadline: float) -> list[str]:
        """See `QueryBus.reached`."""
        ...


class QueryRoutes:
    """Handlers for every query of a domain."""

    def __init__(self, registry: Registry, queries: Queries, past: Past, metrics: Metrics) -> None:
        self._registry = registry
        self._queries = queries
        self._past = past
        self._metrics = metrics

    def handlers(self) -> list[HTTPRouteHandler]:
        """One for each declared route, and one for all queries by name."""
        declared = [
            self._declared(declared)
            for declared in self._registry.routes
            if declared.method == "GET"
        ]
        return [*declared, self._generic()]

    def _declared(self, declared: Route) -> HTTPRouteHandler:
        query_type: Any = declared.message
        path = declared.path
        for name in declared.parameters:
            path = path.replace(f"{{{name}}}", f"{{{name}:str}}")
        minimal = declared.minimal
        past = self._past.of(declared)

        @get(path)
        async def ask(request: AnyRequest) -> ASGIResponse:
            scope = request.scope
            headers = headers_of(scope)
            fields = request.path_params
            if scope["query_string"]:
                given = _parameters(scope["query_string"])
                if past is not None and "as_of" in given:
                    return await past.as_of(fields, given)
                fields = given | fields
            if minimal is not None and wants_minimal(headers):
                answer = await self._ask(_read(minimal, fields), headers)
                if isinstance(answer, Answer) and answer.body is not None:
                    answer = answer._replace(body=without_revision(answer.body))
            else:
                answer = await self._ask(_read(query_type, fields), headers)
            return respond(answer, headers)

        return ask

    def _generic(self) -> HTTPRouteHandler:
        @get("/queries/{name:str}")
        async def by_name(request: AnyRequest) -> ASGIResponse:
            name = request.path_params["name"]
            query_type = self._registry.queries.get(name)
            if query_type is None:
                raise Problem(404, "unknown-query", f"no query is named {name!r}")
            headers = headers_of(request.scope)
            query = _read(query_type, _parameters(request.scope["query_string"]))
            return respond(await self._ask(query, headers), headers)

        return by_name

    async def _ask(self, query: Query, headers: Headers) -> Answer | Behind:
        self._metrics.asked(query.name)
        try:
            return await self._queries.ask(
                query,
                at_least=read.at_least(headers),
                deadline=DEADLINE,
                store=read.store(headers),
            )
        except Behind as behind:
            return behind


def _parameters(query_string: bytes) -> dict[str, str]:
    return dict(parse_qsl(query_string.decode("latin-1"), keep_blank_values=True))


def _read(query_type: type[Query], fields: dict[str, str]) -> Query:
    try:
        query: Query = query_type.__pydantic_validator__.validate_strings(cast(Any, fields))
    except ValidationError as error:
        raise invalid(error, f"{query_type.name}: see errors") from error
    return query


def respond(answer: Answer | Behind, headers: Headers) -> ASGIResponse:
    """200 with the body; 304, 404, or 202 where the store is behind the client's token."""
    if isinstance(answer, Behind):
        response = json_response(
            {
                "status": "processing",
                "view": answer.view,
                "position": answer.position,
                "wanted": answer.wanted,
                "detail": "the write stands; the view has not come so far yet",
            },
            202,
        )
        response.headers["retry-after"] = "1"
        return response
    token = (b"consistency-token", b"%d" % answer.position)
    if answer.body is None:
        raise Problem(
            404,
            "not-found",
            f"the view has no such row, as of position {answer.position}",
            headers={"Consistency-Token": str(answer.position)},
        )
    if answer.revision is None:
        return ASGIResponse(
            body=answer.body, media_type="application/json", encoded_headers=[token]
        )
    etag = b'"%d"' % answer.revision
    if headers.get(b"if-none-match") == etag:
        return ASGIResponse(status_code=304, encoded_headers=[token, (b"etag", etag)])
    return ASGIResponse(
        body=answer.body,
        media_type="application/json",
        encoded_headers=[token, (b"etag", etag)],
    )
