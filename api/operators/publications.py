"""Routes for publications: where each is, what is parked of it, and what is sent again."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

import msgspec
from litestar.handlers import HTTPRouteHandler

from api.http.auth import Role
from api.http.endpoint import Call, Endpoint
from api.http.problems import Problem
from api.http.reply import Reply, json_reply
from api.operators.bodies import read_body

MAX_POSITION = 2**63 - 1


class Publications(Protocol):
    """See `projections.publications.publication_side.PublicationSide`."""

    async def list(self) -> dict[str, Any]:
        """Return every publication with what is parked of it."""
        ...

    async def replay(
        self, name: str, *, key: str | None, after: int | None, until: int | None
    ) -> dict[str, int]:
        """Deliver again; raise `RayfoldError` where there is none of that name."""
        ...


class NoPublications:
    """Those of a gateway that reaches none."""

    async def list(self) -> dict[str, Any]:
        """See `Publications.list`."""
        return {"publications": []}

    async def replay(
        self, name: str, *, key: str | None, after: int | None, until: int | None
    ) -> dict[str, int]:
        """See `Publications.replay`."""
        raise Problem(404, "not-found", f"there is no publication {name!r}")


Position = Annotated[int, msgspec.Meta(ge=0, le=MAX_POSITION)]


class Republish(msgspec.Struct, forbid_unknown_fields=True):
    """What is delivered again: what is parked, of `key` or of all; or what lies in a range.

    A range is given by one or both of `after` and `until`, positions in `$all`.
    """

    publication: str
    key: str | None = None
    after: Position | None = None
    until: Position | None = None


class PublicationRoutes:
    """Handlers over the publications of a stack."""

    def __init__(self, publications: Publications) -> None:
        self._publications = publications

    def handlers(self, endpoint: Endpoint) -> list[HTTPRouteHandler]:
        """Return the handlers; all are for operators: keys are the domain's data."""
        operator = Role.OPERATOR
        return [
            endpoint.handler("GET", "/publications", self._list, operator),
            endpoint.handler("POST", "/operators/publications/replay", self._replay, operator),
        ]

    async def _list(self, call: Call) -> Reply:
        return json_reply(await self._publications.list())

    async def _replay(self, call: Call) -> Reply:
        wanted = await read_body(call, Republish)
        counts = await self._publications.replay(
            wanted.publication, key=wanted.key, after=wanted.after, until=wanted.until
        )
        return json_reply({"publication": wanted.publication, **counts})
