"""The past of a resource: its audit trail, and the resource as it was."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse
from pydantic import ValidationError

from actors.entity import AggregateType
from api.problems import Problem, invalid, invalid_field
from api.responses import json_response
from rayfold import Registry, Route, View

AnyRequest = Request[Any, Any, Any]

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)\Z")


class Histories(Protocol):
    """See `projections.history.History`."""

    async def events(self, aggregate: AggregateType, aggregate_id: str) -> list[dict[str, Any]]:
        """See `History.events`."""
        ...

    async def as_of(
        self, view: type[View], key: str, stream: str, at: int | datetime
    ) -> bytes | None:
        """See `History.as_of`."""
        ...


class PastOf:
    """The past of what one route answers with."""

    def __init__(self, declared: Route, aggregate: AggregateType, histories: Histories) -> None:
        self.declared = declared
        self.aggregate = aggregate
        self._query: Any = declared.message
        self._histories = histories

    async def as_of(self, path: Mapping[str, str], given: Mapping[str, str]) -> ASGIResponse:
        """The resource at the revision or time `as_of`."""
        if set(given) != {"as_of"}:
            raise invalid_field("as_of", "goes with no other parameter")
        key = self._key(path)
        body = await self._histories.as_of(
            self._query.view, key, self.aggregate.stream(key), _moment(given["as_of"])
        )
        if body is None:
            raise Problem(404, "not-found", "there was no such thing then")
        return ASGIResponse(body=body, media_type="application/json")

    async def history(self, path: Mapping[str, str]) -> ASGIResponse:
        """Every event, in order."""
        events = await self._histories.events(self.aggregate, self._key(path))
        if not events:
            raise Problem(404, "not-found", "nothing has ever happened to it")
        return json_response(events)

    def _key(self, path: Mapping[str, str]) -> str:
        try:
            query = self._query.model_validate_strings(dict(path))
        except ValidationError as error:
            raise invalid(error, f"{self._query.name}: see errors") from error
        return str(getattr(query, self._query.view.key))


class Past:
    """Finds the routes that answer with a single aggregate's row."""

    def __init__(self, registry: Registry, histories: Histories) -> None:
        self._found: dict[str, PastOf] = {}
        taken: set[AggregateType] = set()
        for declared in registry.routes:
            aggregate = _aggregate_of(registry, declared)
            if aggregate is not None and aggregate not in taken:
                taken.add(aggregate)
                self._found[declared.path] = PastOf(declared, aggregate, histories)

    def of(self, declared: Route) -> PastOf | None:
        """The past of what that route answers with; None if it has none."""
        return self._found.get(declared.path) if declared.method == "GET" else None

    def handlers(self) -> list[HTTPRouteHandler]:
        """`…/history` for each."""
        return [_history(past) for past in self._found.values()]


def _history(past: PastOf) -> HTTPRouteHandler:
    path = past.declared.path
    for name in past.declared.parameters:
        path = path.replace(f"{{{name}}}", f"{{{name}:str}}")

    @get(f"{path}/history")
    async def history(request: AnyRequest) -> ASGIResponse:
        return await past.history(request.path_params)

    return history


def _aggregate_of(registry: Registry, declared: Route) -> AggregateType | None:
    if declared.method != "GET":
        return None
    message: Any = declared.message
    for aggregate in registry.aggregates.values():
        if declared.parameters == (aggregate.id_field,) and set(message.view.folds) <= set(
            aggregate.events
        ):
            return aggregate
    return None


def _moment(text: str) -> int | datetime:
    """A revision, or an RFC 3339 time."""
    if text.isdigit() and len(text) <= 18:
        return int(text)
    # An unescaped + in a query string arrives as a space.
    text = re.sub(r" (?=\d\d:\d\d\Z)", "+", text)
    if _RFC3339.match(text):
        try:
            return datetime.fromisoformat(text.upper())
        except ValueError as error:
            raise invalid_field("as_of", str(error)) from error
    raise invalid_field("as_of", "is a revision or an RFC 3339 time")
