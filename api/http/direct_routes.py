"""A router for frequent requests, which bypasses Litestar.

Litestar's stack costs 9 µs for a request, a seventh of a read: its exception middleware, its
router, the state that it keeps in the scope. Our handlers need only the path's parameters (see
`Endpoint`), so the most frequent routes of a domain are found here. Litestar handles the rest:
other methods, paths in another notation, and unknown paths.
"""

from __future__ import annotations

from typing import Any

from litestar.types import ASGIApp

from api.http.paths import HELD_SLASH


class _Place:
    """A node of the tree of path segments."""

    __slots__ = ("literals", "methods", "parameter")

    def __init__(self) -> None:
        self.literals: dict[str, _Place] = {}
        self.parameter: _Place | None = None
        self.methods: dict[str, tuple[tuple[str, ...], ASGIApp]] = {}


class DirectRoutes:
    """Finds routes by path and method, as Litestar does: text takes precedence over a parameter."""

    def __init__(self) -> None:
        self._plain: dict[str, dict[str, ASGIApp]] = {}
        self._root = _Place()

    def add(self, method: str, path: str, app: ASGIApp | None) -> None:
        """Add a route like `/orders/{order_id}`; without an `app`, Litestar serves it.

        Every path of the application must be added: a path of text alone hides one with parameters.
        """
        if "{" not in path:
            methods = self._plain.setdefault(path, {})
            if app is not None:
                methods[method] = app
            return
        place, names = self._root, []
        for part in path[1:].split("/"):
            if part.startswith("{"):
                names.append(part[1:-1])
                place.parameter = place = place.parameter or _Place()
            else:
                place = place.literals.setdefault(part, _Place())
        if app is not None:
            place.methods[method] = (tuple(names), app)

    def find(self, scope: Any) -> ASGIApp | None:
        """Return the app for a request and set its path parameters; None if Litestar serves it."""
        if scope["type"] != "http":
            return None
        path: str = scope["path"]
        raw: bytes = scope.get("raw_path") or b""
        if b"%2" in raw or HELD_SLASH in path or path[:1] != "/":
            return None  # perhaps with a slash in a parameter: see `api.http.paths`
        plain = self._plain.get(path)
        if plain is not None:
            scope["path_params"] = {}
            return plain.get(scope["method"])
        place, values = self._root, []
        for part in path[1:].split("/"):
            following = place.literals.get(part)
            if following is None:
                following = place.parameter
                if following is None or not part:
                    return None
                values.append(part)
            place = following
        found = place.methods.get(scope["method"])
        if found is None:
            return None
        names, app = found
        scope["path_params"] = dict(zip(names, values, strict=True))
        return app
