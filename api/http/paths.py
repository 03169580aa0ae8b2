"""Paths whose parameters hold encoded slashes: `/stock/a%2Fb` is the item `a/b`.

A server decodes a path before it is routed, and then a slash within a parameter looks like one
between two. Until the parameters are cut out, it is therefore held as a character that no path may
have otherwise.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from litestar.types import ASGIApp, Receive, Scope, Send

from api.http.problems import malformed

HELD_SLASH = "\x00"

_HELD = "rayfold.held_slashes"


class HoldSlashes:
    """The application, on paths whose encoded slashes are held."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        raw: Any = scope.get("raw_path")
        if raw and (b"%2f" in raw or b"%2F" in raw):
            segments = [unquote(each) for each in raw.decode("latin-1").split("/")]
            if not any(HELD_SLASH in each for each in segments):
                path = "/".join(each.replace("/", HELD_SLASH) for each in segments)
                held: Any = {**scope, "path": path, _HELD: True}
                scope = held
        await self._app(scope, receive, send)


def with_slashes(scope: Any) -> dict[str, str]:
    """Return the path's parameters with the slashes that were held.

    Raises:
        Problem: 400 if the character came from the client itself.
    """
    if _HELD not in scope:
        raise malformed("a path has no NUL in it")
    parameters: dict[str, str] = scope["path_params"]
    return {name: text.replace(HELD_SLASH, "/") for name, text in parameters.items()}
