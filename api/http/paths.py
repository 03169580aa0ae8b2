"""Paths whose parameters hold encoded slashes: `/stock/a%2Fb` is the item `a/b`.

A server decodes a path before it is routed, and then a slash within a parameter looks like one
between two. Until the parameters are cut out, it is therefore held as a character that no path may
have otherwise.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from litestar.types import Scope

from api.http.problems import malformed

HELD_SLASH = "\x00"

_HELD = "rayfold.held_slashes"

UNREADABLE = "\ufffd"
"""What a server reads for bytes that are no UTF-8: the same for all of them, so that ids that a
client takes for two would be one."""


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


def check_utf8(scope: Any) -> None:
    """Check that a path has `UNREADABLE` because it says so.

    Raises:
        Problem: 400 if it is no UTF-8.
    """
    try:
        unquote_to_bytes(scope.get("raw_path") or b"").decode()
    except UnicodeDecodeError as error:
        raise malformed("a path is UTF-8") from error
