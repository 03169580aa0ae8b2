"""What this gateway's settings leave open to others: `rayfold doctor` as a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from litestar.handlers import HTTPRouteHandler

from api.console.forms import Console
from api.http.endpoint import Call
from api.http.reply import Reply

Openness = Callable[[], Sequence[tuple[str, str]]]
"""Returns pairs: what others may do, and what to change to prevent it; see `rayfold doctor`."""


class AccessPage:
    """The page."""

    def __init__(self, openness: Openness) -> None:
        self._openness = openness

    def handlers(self, console: Console) -> list[HTTPRouteHandler]:
        """Return the one handler."""
        return [console.get("/console/access", partial(self._page, console))]

    async def _page(self, console: Console, call: Call) -> Reply:
        return console.page(call, "access.html", open=self._openness())
