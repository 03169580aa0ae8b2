"""Requests that bypass Litestar's router reach the same handlers."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from rayfold import Registry
from tests.unit.api.conftest import Gateway

METHODS = ["GET", "POST", "GET", "POST", "DELETE", "HEAD", "PUT", "OPTIONS"]


class Paths:
    """Paths near to those of an application."""

    def __init__(self, gateway: Gateway) -> None:
        paths = [path for _, path in gateway.app.access]
        self.written = sorted(path for path in paths if not path.startswith("/console"))
        self.parts = sorted({part for path in paths for part in path.split("/")})

    def strategy(self) -> st.SearchStrategy[str]:
        """Return routes with their parameters filled in, and parts of routes in any order."""
        part = st.sampled_from([*self.parts, "", "x", "a b", "ä", ".", "..", "{", "\x00", "a/b"])
        mixed = st.lists(part, max_size=5).map(lambda parts: "/" + "/".join(parts))
        filled = st.tuples(st.sampled_from(self.written), st.lists(part, min_size=9, max_size=9))
        return st.one_of(filled.map(_filled), mixed, filled.map(lambda pair: f"{_filled(pair)}/"))


def _filled(pair: tuple[str, list[str]]) -> str:
    path, values = pair
    parts = [values.pop() if part.startswith("{") else part for part in path.split("/")]
    return "/".join(parts)


async def _reached(gateway: Gateway, app: Any, method: str, path: str) -> tuple[Any, ...]:
    """Return the answer's status and what the domain's side was asked."""
    sent: list[Any] = []
    received = iter([{"type": "http.request", "body": b"{}", "more_body": False}])

    async def receive() -> Any:
        return next(received, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"",
        "root_path": "", "headers": [(b"host", b"127.0.0.1")], "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80), "state": {},
    }  # fmt: skip
    asked = gateway.queries.asked
    asked.clear()
    await app(scope, receive, send)
    body = b"" if sent[1].get("more_body") else sent[1].get("body", b"")
    return sent[0]["status"], sorted(sent[0]["headers"]), body, list(map(repr, asked))


def test_direct_routes_answer_as_the_router_does(registry: Registry) -> None:
    """Without the direct routes the same request has the same answer."""
    gateway = Gateway(registry)
    paths = Paths(gateway)
    taken = 0

    @settings(max_examples=400, deadline=None)
    @example("GET", "/orders/a b")
    @example("POST", "/orders/ä/lines")
    @given(st.sampled_from(METHODS), paths.strategy())
    def check(method: str, path: str) -> None:
        nonlocal taken

        async def both() -> None:
            nonlocal taken
            scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode()}
            if gateway.app._direct.find(scope) is None:
                return  # the same way
            taken += 1
            direct = await _reached(gateway, gateway.app, method, path)
            assert direct == await _reached(gateway, gateway.app._app, method, path)

        asyncio.run(both())

    check()
    assert taken >= 2
