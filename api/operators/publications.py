"""Routes for publications: their progress, their parked keys, and publishing again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Protocol

import msgspec
from litestar.handlers import HTTPRouteHandler

from api.http.auth import Role
from api.http.endpoint import Call, Endpoint
from api.http.problems import invalid_field
from api.http.reply import Reply, json_reply
from api.operators.bodies import read_body
from api.operators.parked_places import PARKED_PAGE, decode_place, encode_place, page_limit
from api.queries.routes import known_parameters
from projections.publications.parked_keys import BEFORE_ALL, place_of

MAX_POSITION = 2**63 - 1


class Publications(Protocol):
    """See `projections.publications.publication_side.PublicationSide`."""

    async def list(
        self, publication: str = "", after: Sequence[Any] = BEFORE_ALL, limit: int = 0
    ) -> dict[str, Any]:
        """Return every publication, or one, with its parked keys after a place; at most `limit`.

        See `projections.publications.parked_keys` for what a place is.
        """
        ...

    async def replay(
        self, name: str, *, key: str | None, after: int | None, until: int | None
    ) -> dict[str, int]:
        """Deliver again; raise `RayfoldError` if there is no publication of that name."""
        ...


async def listed(
    publications: Publications, name: str, cursor: str, limit: int
) -> list[dict[str, Any]]:
    """Return publications, each with a page of its parked keys and the cursor of the next page.

    Raises:
        Problem: the cursor is not valid.
    """
    after = decode_place(cursor, BEFORE_ALL) if cursor else BEFORE_ALL
    found = (await publications.list(name, after, limit + 1))["publications"]
    for each in found:
        page = each["parked"][:limit]
        more = len(each["parked"]) > limit
        each["parked"] = page
        each["next_cursor"] = encode_place(place_of(page[-1])) if more else None
    return list(found)


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
        """Return the handlers; all are for operators, because keys are the domain's data."""
        operator = Role.OPERATOR
        return [
            endpoint.handler("GET", "/publications", self._list, operator),
            endpoint.handler("POST", "/operators/publications/replay", self._replay, operator),
        ]

    async def _list(self, call: Call) -> Reply:
        given = known_parameters(call.query_string, "publication", "limit", "cursor")
        name, cursor = given.get("publication", ""), given.get("cursor", "")
        if cursor and not name:
            raise invalid_field("cursor", "must come with the one `publication` that it belongs to")
        limit = page_limit(given, PARKED_PAGE)
        return json_reply({"publications": await listed(self._publications, name, cursor, limit)})

    async def _replay(self, call: Call) -> Reply:
        wanted = await read_body(call, Republish)
        counts = await self._publications.replay(
            wanted.publication, key=wanted.key, after=wanted.after, until=wanted.until
        )
        return json_reply({"publication": wanted.publication, **counts})
