"""The way of every request in and out: Litestar routes it, and little else touches it.

Litestar's own call path (request object, dependency injection, signature parsing,
response object) costs several times what answering from a replica's bytes does. So a
handler answers in a middleware of its own: the router, its errors and the exception
handlers remain Litestar's, and nothing in between is paid for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal, NamedTuple

from litestar import HttpMethod, route
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, Receive, Send

from api.http.auth import Principals
from api.http.problems import Problem, malformed, problem_of
from api.http.reply import Reply
from api.operators.metrics import Metrics
from api.operators.recent_errors import RecentErrors
from rayfold import RayfoldError

log = logging.getLogger(__name__)

Method = Literal["GET", "POST", "DELETE"]


class Call:
    """A request: what an answer may need, read only when it is needed."""

    __slots__ = ("_max_body", "_receive", "headers", "path", "principal", "query_string", "scope")

    def __init__(self, scope: Any, receive: Receive, headers: dict[bytes, bytes], max_body: int):
        self.scope = scope
        self.headers = headers
        self.path: dict[str, str] = scope["path_params"]
        self.query_string: bytes = scope["query_string"]
        self.principal = ""
        self._receive = receive
        self._max_body = max_body

    async def body(self) -> bytes:
        """Return the whole body.

        Raises:
            Problem: 413 as soon as it is known to be too large; the rest is not read.
        """
        length = self.headers.get(b"content-length")
        if (
            length is not None
            and len(length) > 6
            and length.isdigit()
            and int(length) > self._max_body
        ):
            raise self._too_large()
        message: Any = await self._receive()
        body: bytes = message.get("body", b"")
        while message.get("more_body"):
            if len(body) > self._max_body:
                raise self._too_large()
            message = await self._receive()
            body += message.get("body", b"")
        if message["type"] == "http.disconnect":
            raise malformed("the client went away before the body's end")
        if len(body) > self._max_body:
            raise self._too_large()
        return body

    async def gone(self) -> None:
        """Return when the client has gone away."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _too_large(self) -> Problem:
        detail = f"a body has at most {self._max_body} bytes"
        # Closing is what keeps the server from reading the rest.
        return Problem(413, "too-large", detail, headers={"Connection": "close"})


class Stream(NamedTuple):
    """A body that goes on until its end, the client's, or the server's."""

    headers: list[tuple[bytes, bytes]]
    chunks: AsyncIterator[bytes]


Handler = Callable[[Call], Awaitable[Reply | Stream]]


class Endpoint:
    """Makes Litestar handlers out of answers."""

    def __init__(self, metrics: Metrics, principals: Principals, max_body: int) -> None:
        self._metrics = metrics
        self._principals = principals
        self._max_body = max_body
        self.closing = asyncio.Event()
        """Set when the server stops: streams end."""
        self.recent_errors = RecentErrors()

    def handler(
        self, method: Method, path: str, handle: Handler, *, public: bool = False
    ) -> HTTPRouteHandler:
        """Return a handler for a path like `/orders/{order_id}`; its parameters arrive as text.

        One that is `public` asks for no credentials.
        """

        async def serve(scope: Any, receive: Receive, send: Send) -> None:
            headers = dict(scope["headers"])
            try:
                call = Call(scope, receive, headers, self._max_body)
                if "\x00" in scope["path"]:
                    raise malformed("a path has no NUL in it")
                if not public:
                    call.principal = self._principals.of(headers)
                reply = await handle(call)
            except Problem as problem:
                reply = self._told(scope, problem)
            except RayfoldError as error:
                reply = self._told(scope, problem_of(error))
            if isinstance(reply, Stream):
                self._metrics.replied(scope["method"], path, 200)
                await self._stream(call, reply, send)
            else:
                status, fields, body = reply
                self._metrics.replied(scope["method"], path, status)
                await send({"type": "http.response.start", "status": status, "headers": fields})
                await send({"type": "http.response.body", "body": body, "more_body": False})

        def answering(app: ASGIApp) -> ASGIApp:
            return serve

        methods = [HttpMethod.GET, HttpMethod.HEAD] if method == "GET" else [HttpMethod(method)]
        declare = route(typed(path), http_method=methods, middleware=[answering], status_code=200)
        return declare(_never)

    def _told(self, scope: Any, problem: Problem) -> Reply:
        if problem.status >= 500:
            self.recent_errors.note(scope["method"], scope["path"], problem.status, problem.detail)
        return problem.reply()

    async def _stream(self, call: Call, stream: Stream, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": stream.headers})
        if call.scope["method"] != "HEAD":
            await self._until_an_end(call, stream, send)
        with contextlib.suppress(OSError):  # whoever went away needs no proper end
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _until_an_end(self, call: Call, stream: Stream, send: Send) -> None:
        pump = asyncio.create_task(self._pump(stream.chunks, send))
        ends = [pump, asyncio.create_task(call.gone()), asyncio.create_task(self.closing.wait())]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in ends:
                task.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
        if not pump.cancelled() and (error := pump.exception()) is not None:
            log.error("a stream of %s broke", call.scope["path"], exc_info=error)

    async def _pump(self, chunks: AsyncIterator[bytes], send: Send) -> None:
        async for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})


def typed(path: str) -> str:
    """Return the path in Litestar's notation."""
    return path.replace("}", ":str}")


async def _never() -> None:
    """Do nothing: the middleware has answered."""
