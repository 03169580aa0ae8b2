"""The causality page of a command: what led to it, what it did, and what that led to."""

from __future__ import annotations

from functools import partial

from litestar.handlers import HTTPRouteHandler

from api.console.forms import Console, given
from api.http.endpoint import Call
from api.http.headers import ids_of
from api.http.problems import Problem, invalid_field
from api.http.reply import Reply
from api.operators.routes import MAX_ASKED, SCAN, Operations


class CausalityPage:
    """The tree of what belongs to a command, a correlation or an event."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def handlers(self, console: Console) -> list[HTTPRouteHandler]:
        """Return the one handler."""
        return [console.get("/console/causality", partial(self._page, console))]

    async def _page(self, console: Console, call: Call) -> Reply:
        asked = given(call).get("id", "").strip()
        if not asked:
            return console.page(call, "causality.html", asked="", found=None)
        if len(asked) > MAX_ASKED:
            raise invalid_field("id", f"must be a text of at most {MAX_ASKED} characters")
        readings = list(dict.fromkeys([asked, *ids_of(asked)]))
        found = await self._operations.causality(readings, SCAN)
        if found is None:
            raise Problem(404, "not-found", f"none of it is in the last {SCAN} events")
        return console.page(call, "causality.html", asked=asked, found=found)
