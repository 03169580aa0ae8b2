"""Whether the stack can serve, for load balancers, orchestrators and people."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from litestar.handlers import HTTPRouteHandler

from api.http.auth import Role
from api.http.endpoint import Call, Endpoint
from api.http.problems import Problem
from api.http.reply import Reply, json_reply

Parts = Callable[[], Awaitable[list[dict[str, Any]]]]

FRESH = 0.25
"""Seconds for which a status of the parts is reused for all callers.

Callers need no token, and each status costs a call to every part: a client that polled without
pause took as much of a write host's time as its commands.
"""


class Health:
    """Answers from the parts' status; remembers since when a part is not ready."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._since: dict[str, str] = {}
        self._look: asyncio.Task[list[dict[str, Any]]] | None = None
        self._fresh_until = float("-inf")

    def handlers(self, endpoint: Endpoint) -> list[HTTPRouteHandler]:
        """Return the handlers, which need no credentials."""
        return [
            endpoint.handler("GET", "/health/live", self._live, Role.PUBLIC),
            endpoint.handler("GET", "/health/ready", self._ready, Role.PUBLIC),
            endpoint.handler("GET", "/health/parts", self._all_ready, Role.PUBLIC),
        ]

    async def _live(self, call: Call) -> Reply:
        return json_reply({"status": "live"})

    async def _ready(self, call: Call) -> Reply:
        """Return 200 if any part can serve; requests for the other parts get a 503."""
        parts = await self._seen()
        missing = self._missing(parts)
        # Servers on which parts depend do not serve requests themselves.
        serving = {part["part"] for part in parts if part.get("serves", True)}
        if serving <= {part["part"] for part in missing}:
            raise _not_ready(missing or [{"part": "all", "since": None}])
        return json_reply({"status": "ready"})

    async def _all_ready(self, call: Call) -> Reply:
        parts = await self._seen()
        missing = self._missing(parts)
        if missing:
            raise _not_ready(missing)
        return json_reply({"status": "ready", "parts": [part["part"] for part in parts]})

    async def _seen(self) -> list[dict[str, Any]]:
        clock = asyncio.get_running_loop().time
        if self._look is None or (self._look.done() and clock() > self._fresh_until):

            async def look() -> list[dict[str, Any]]:
                try:
                    return await self._parts()
                finally:
                    self._fresh_until = clock() + FRESH

            self._look = asyncio.create_task(look())
        # Shielded: the first caller may disconnect before the others have their answer.
        return await asyncio.shield(self._look)

    def _missing(self, parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        missing = {part["part"]: part for part in parts if not part.get("ready")}
        self._since = {name: self._since.get(name, now) for name in missing}
        return [
            {
                "part": name,
                "since": self._since[name],
                # Not `error`, which may name hosts: these routes need no credentials.
                **({"error": part["plainly"]} if part.get("plainly") else {}),
            }
            for name, part in missing.items()
        ]


def _not_ready(missing: list[dict[str, Any]]) -> Problem:
    said = [
        f"{each['part']} ({each['error']})" if "error" in each else each["part"] for each in missing
    ]
    return Problem(
        503,
        "not-ready",
        "not ready: " + ", ".join(said),
        headers={"Retry-After": "1"},
        parts=missing,
    )
