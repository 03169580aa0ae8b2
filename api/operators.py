"""Routes for operators: health, metrics, status, scaling, verification."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse

from api.console import PAGE
from api.metrics import Metrics
from api.problems import invalid_field, malformed, unavailable
from api.responses import json_response

AnyRequest = Request[Any, Any, Any]


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


class _Scale(msgspec.Struct):
    target: str
    n: int


def operator_handlers(operations: Operations, metrics: Metrics) -> list[HTTPRouteHandler]:
    """The handlers."""

    @get("/health/live")
    async def live(request: AnyRequest) -> ASGIResponse:
        return json_response({"status": "live"})

    @get("/health/ready")
    async def ready(request: AnyRequest) -> ASGIResponse:
        missing = [part["part"] for part in await operations.parts() if not part.get("ready")]
        if missing:
            raise unavailable("not-ready", f"not ready: {', '.join(missing)}")
        return json_response({"status": "ready"})

    @get("/metrics")
    async def prometheus(request: AnyRequest) -> ASGIResponse:
        text = metrics.text(await operations.parts())
        return ASGIResponse(body=text.encode(), media_type="text/plain; version=0.0.4")

    @get("/operators/status")
    async def status(request: AnyRequest) -> ASGIResponse:
        return json_response({"parts": await operations.parts()})

    @get("/operators/verify")
    async def verify(request: AnyRequest) -> ASGIResponse:
        return json_response({"differences": await operations.verify()})

    @post("/operators/scale", status_code=200)
    async def scale(request: AnyRequest) -> ASGIResponse:
        try:
            wanted = msgspec.json.decode(await request.body(), type=_Scale)
        except msgspec.ValidationError as error:
            raise invalid_field("target, n", str(error)) from error
        except msgspec.DecodeError as error:
            raise malformed(f"the body is no JSON: {error}") from error
        await operations.scale(wanted.target, wanted.n)
        return json_response({"target": wanted.target, "n": wanted.n})

    @get("/console")
    async def console(request: AnyRequest) -> ASGIResponse:
        return ASGIResponse(body=PAGE, media_type="text/html; charset=utf-8")

    return [live, ready, prometheus, status, verify, scale, console]
