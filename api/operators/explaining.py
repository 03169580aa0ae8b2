"""The route `GET /operators/explain/{name}`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from difflib import get_close_matches
from typing import Any, Protocol, TypeVar

from litestar.handlers import HTTPRouteHandler

from api.http.auth import Role
from api.http.endpoint import Call, Endpoint
from api.http.problems import Problem
from api.http.reply import Reply, json_reply
from api.operators.explanations import COUNTED, explain
from rayfold import RayfoldError, Registry

SOON = 3.0
"""Seconds that the route waits for a part that may be unable to answer."""

T = TypeVar("T")


class Observed(Protocol):
    """What the route reads: see `Operations`."""

    async def parts(self) -> list[dict[str, Any]]:
        """Return every part."""
        ...

    async def rebuilds(self) -> list[dict[str, Any]]:
        """Return the last rebuild of each view."""
        ...

    async def parked(
        self, view: str, key: str, after: Sequence[Any], limit: int
    ) -> list[dict[str, Any]]:
        """See `Operations.parked`."""
        ...


def names_of(registry: Registry) -> dict[str, str]:
    """Return the names that can be explained, with the name to look up: for a query, its view."""
    known = {
        name: name
        for names in (
            registry.views,
            registry.projections,
            registry.publications,
            registry.reactors,
            registry.processes,
        )
        for name in names
    }
    queries = {
        name: view.name
        for name, query in registry.queries.items()
        if (view := getattr(query, "view", None) or getattr(query, "projection", None)) is not None
    }
    return {**queries, **known}


class ExplainRoutes:
    """The handler, which reads the status of all parts."""

    def __init__(self, registry: Registry, operations: Observed) -> None:
        self._names = names_of(registry)
        self._operations = operations

    def handlers(self, endpoint: Endpoint) -> list[HTTPRouteHandler]:
        """Return the one handler."""
        path = "/operators/explain/{name}"
        return [endpoint.handler("GET", path, self._explain, Role.OPERATOR)]

    async def _explain(self, call: Call) -> Reply:
        asked = call.path["name"]
        name = self._names.get(asked)
        if name is None:
            close = get_close_matches(asked, self._names, 3)
            hint = f": {', '.join(close)}?" if close else ""
            detail = f"nothing that can be explained is named {asked!r}{hint}"
            raise Problem(404, "not-found", detail)
        parts = await self._operations.parts()
        rebuilds, parked = await asyncio.gather(
            _soon(self._operations.rebuilds()),
            _soon(self._operations.parked(name, "", (), COUNTED)),
        )
        if parked is None:
            parked = [
                {"store": part["kind"], **_place(each)}
                for part in parts
                for each in part.get("poison", ())
            ]
        return json_reply(explain(name, parts, rebuilds or [], parked).plain())


async def _soon(asked: Awaitable[Sequence[T]]) -> Sequence[T] | None:
    """Return None if a part does not answer within `SOON` seconds: the rest is still explained."""
    try:
        async with asyncio.timeout(SOON):
            return await asked
    except (TimeoutError, RayfoldError):
        return None


def _place(poison: dict[str, str]) -> dict[str, Any]:
    """Return a parked event from a part's status in the form of the list of parked events."""
    revision, _, stream = poison["event"].partition("@")
    return {
        "view": poison["view"],
        "key": poison["key"],
        "stream": stream,
        "revision": int(revision),
        "error": poison["reason"],
    }
