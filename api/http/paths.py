"""Paths whose parameters have encoded slashes: `/stock/a%2Fb` is the item `a/b`.

A server decodes a path before routing, and then a slash within a parameter looks like one between
parameters. Until the parameters are extracted, it is therefore replaced by a character that no path
may have otherwise.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from litestar.types import Scope

from api.http.problems import malformed

HELD_SLASH = "\x00"

_HELD = "rayfold.held_slashes"

UNREADABLE = "\ufffd"
"""What a server decodes invalid UTF-8 to. It is the same for all such bytes, so that two ids of a
client would become one."""


def held(scope: Scope) -> Scope:
    """Return the scope with the encoded slashes of its path replaced, if it has any."""
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
    """Return the path's parameters with the replaced slashes restored.

    Raises:
        Problem: 400 if the client itself sent the replacement character.
    """
    if _HELD not in scope:
        raise malformed("a path may not contain NUL")
    parameters: dict[str, str] = scope["path_params"]
    return {name: text.replace(HELD_SLASH, "/") for name, text in parameters.items()}


def check_utf8(scope: Any) -> None:
    """Check that `UNREADABLE` in a path was sent as that character.

    Raises:
        Problem: 400 if the path is not UTF-8.
    """
    try:
        unquote_to_bytes(scope.get("raw_path") or b"").decode()
    except UnicodeDecodeError as error:
        raise malformed("a path must be UTF-8") from error
