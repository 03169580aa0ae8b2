"""Paths whose parameters hold encoded slashes: `/stock/a%2Fb` is the item `a/b`.

A server decodes a path before it is routed, and then a slash within a parameter looks like one
between two. Until the parameters are cut out, it is therefore held as a character that no path may
have otherwise.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from litestar.types import Scope

from api.http.problems import malformed

HELD_SLASH = "\x00"

_HELD = "rayfold.held_slashes"


def held(scope: Scope) -> Scope:
    """Return the scope with a path whose encoded slashes are held, if it has such."""
    raw: Any = scope.get("raw_path")
    if not raw or (b"%2f" not in raw and b"%2F" not in raw):
        return scope
    segments = [unquote(each) for each in raw.decode("latin-1").split("/")]
    if any(HELD_SLASH in each for each in segments):
        return scope
    path = "/".join(each.replace("/", HELD_SLASH) for each in segments)
    changed: Any = {**scope, "path": path, _HELD: True}
    return changed  # type: ignore[no-any-return]


def with_slashes(scope: Any) -> dict[str, str]:
    """Return the path's parameters with the slashes that were held.

    Raises:
        Problem: 400 if the character came from the client itself.
    """
    if _HELD not in scope:
        raise malformed("a path has no NUL in it")
    parameters: dict[str, str] = scope["path_params"]
    return {name: text.replace(HELD_SLASH, "/") for name, text in parameters.items()}
