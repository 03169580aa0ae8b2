"""Routes for operators: health, metrics, status, scaling, verification."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

import msgspec
from litestar.handlers import HTTPRouteHandler

from api.console import PAGE
from api.gate import Call, Gate
from api.metrics import Metrics
from api.problems import Problem, invalid_field, malformed
from api.reply import Reply, content, json_reply
from api.troubles import Troubles


class Operations(Protocol):
    """What an operator can do to the parts."""

    async def parts(self) -> list[dict[str, Any]]:
        """Every part: `part`, `kind`, `ready`, and counts."""
        ...

    async def scale(self, target: str, count: int) -> None:
        """Sets the number of a target's parts; raises `RayfoldError` when it cannot."""
        ...

    async def verify(self) -> list[dict[str, Any]]:
        """The differences between every view in every store and a fresh fold of the log."""
        ...


class _Scale(msgspec.Struct, forbid_unknown_fields=True):
    target: str
    n: int


class OperatorRoutes:
    """Handlers over a running stack."""

    def __init__(self, operations: Operations, metrics: Metrics) -> None:
        self._operations = operations
        self._metrics = metrics

    def handlers(self, gate: Gate) -> list[HTTPRouteHandler]:
        """Health checks, the schema and the console's page ask for no credentials."""
        return [
            gate.handler("GET", "/health/live", self._live, public=True),
            gate.handler("GET", "/health/ready", self._ready, public=True),
            gate.handler("GET", "/metrics", self._prometheus),
            gate.handler("GET", "/operators/status", partial(self._status, gate.troubles)),
            gate.handler("GET", "/operators/verify", self._verify),
            gate.handler("POST", "/operators/scale", self._scale),
            gate.handler("GET", "/console", self._console, public=True),
        ]

    async def _live(self, call: Call) -> Reply:
        return json_reply({"status": "live"})

    async def _ready(self, call: Call) -> Reply:
        parts = await self._operations.parts()
        missing = [part["part"] for part in parts if not part.get("ready")]
        if missing:
            raise Problem(
                503,
                "not-ready",
                f"not ready: {', '.join(missing)}",
                headers={"Retry-After": "1"},
                parts=missing,
            )
        return json_reply({"status": "ready"})

    async def _prometheus(self, call: Call) -> Reply:
        text = self._metrics.text(await self._operations.parts())
        return content(text.encode(), b"text/plain; version=0.0.4; charset=utf-8")

    async def _status(self, troubles: Troubles, call: Call) -> Reply:
        parts = await self._operations.parts()
        return json_reply({"parts": parts, "errors": troubles.last()})

    async def _verify(self, call: Call) -> Reply:
        return json_reply({"differences": await self._operations.verify()})

    async def _scale(self, call: Call) -> Reply:
        try:
            wanted = msgspec.json.decode(await call.body(), type=_Scale)
        except msgspec.ValidationError as error:
            raise invalid_field("target, n", str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise malformed(f"the body is no JSON: {error}") from error
        await self._operations.scale(wanted.target, wanted.n)
        return json_reply({"target": wanted.target, "n": wanted.n})

    async def _console(self, call: Call) -> Reply:
        return content(PAGE, b"text/html; charset=utf-8")
