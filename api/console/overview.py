"""The first page: what is wrong and why, what is running, and rates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import Any

from litestar.handlers import HTTPRouteHandler
from msgspec.json import encode

from api.console.forms import Console
from api.console.front import PAGE_FIELDS
from api.console.lagging import LAGGING, troubles
from api.console.templates import Templates
from api.console.views import named_view, view_content, views_content
from api.console.watch import Look, Watch
from api.http.endpoint import Call, Stream
from api.http.problems import Problem
from api.http.reply import Reply
from api.operators.recent_errors import RecentErrors
from api.operators.routes import Operations, if_known
from rayfold import Registry

HEARTBEAT = 15.0
"""Seconds between two comments on the stream, so that it is not taken for broken without a look."""

Made = Callable[[Look], Awaitable[dict[bytes, bytes]]]
"""Renders the changing parts of a page, by the names of their events."""

_STREAM = [
    *((name, value) for name, value in PAGE_FIELDS if name != b"cache-control"),
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class Overview:
    """The page, and the streams that update it and the pages of views."""

    def __init__(
        self,
        registry: Registry,
        operations: Operations,
        watch: Watch,
        templates: Templates,
        errors: RecentErrors,
    ) -> None:
        self._registry = registry
        self._operations = operations
        self._watch = watch
        self._templates = templates
        self._errors = errors

    def handlers(self, console: Console) -> list[HTTPRouteHandler]:
        """Return the handlers."""
        return [
            console.get("/console", partial(self._page, console)),
            console.get("/console/live/{page}", self._live),
        ]

    async def _page(self, console: Console, call: Call) -> Reply:
        content = await self._content(await self._watch.look())
        return console.page(call, "overview.html", **content)

    async def _content(self, look: Look) -> dict[str, Any]:
        found = troubles(self._registry, look)
        answering = [part for part in look.parts if {"position", "lag"} <= part.keys()]
        ends = [part["position"] + part["lag"] for part in answering]
        declared = {*self._registry.views, *self._registry.projections}
        views = declared & {view for part in look.parts for view in part.get("views", ())}
        behind = {
            view
            for part in look.parts
            if part.get("lag_seconds", 0.0) > LAGGING or not part.get("ready")
            for view in part.get("views", ())
        }
        samples = self._watch.samples
        return {
            "look": look,
            "troubles": found,
            "end": max(ends, default=None),
            "views": len(views),
            "behind": len(views & behind),
            "parked": sum(part.get("parked") or 0 for part in look.parts),
            "rates": samples[-1] if samples else None,
            "moves": await if_known(self._operations.moves()),
            "errors": self._errors.last(),
        }

    async def _live(self, call: Call) -> Stream:
        page = call.path["page"]
        if page == "overview":
            return Stream(_STREAM, self._events(self._overview_now))
        if page == "views":
            return Stream(_STREAM, self._events(self._views_now))
        if page == "view":
            name = named_view(self._registry, call)
            return Stream(_STREAM, self._events(partial(self._view_now, name)))
        raise Problem(404, "not-found", "there is no such page")

    async def _overview_now(self, look: Look) -> dict[bytes, bytes]:
        content = await self._content(look)
        render = self._templates.render
        return {
            b"page": render("_overview.html", content),
            b"rest": render("_overview_rest.html", content),
        }

    async def _views_now(self, look: Look) -> dict[bytes, bytes]:
        content = views_content(self._registry, look)
        return {b"page": self._templates.render("_views.html", content)}

    async def _view_now(self, name: str, look: Look) -> dict[bytes, bytes]:
        content = view_content(self._registry, look, name)
        return {b"page": self._templates.render("_view.html", content)}

    async def _events(self, made: Made) -> AsyncGenerator[bytes, None]:
        """Yield the existing samples, then at each reading the parts of the page and a sample."""
        yield _event(b"samples", encode(self._watch.samples))
        looks = self._watch.follow()
        try:
            while True:
                try:
                    async with asyncio.timeout(HEARTBEAT):
                        look, sample = await anext(looks)
                except TimeoutError:  # it has ended the generator, so begin again
                    looks = self._watch.follow()
                    yield b": still here\n\n"
                    continue
                for name, part in (await made(look)).items():
                    yield _event(name, part)
                yield _event(b"samples", encode([sample]))
        finally:
            await looks.aclose()


def _event(name: bytes, data: bytes) -> bytes:
    """Return a Server-Sent Event; every line end in the HTML ends a `data` line."""
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return b"event: %b\n%b\n\n" % (name, b"\n".join(b"data: " + line for line in lines))
