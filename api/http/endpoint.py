"""The call path of every request: Litestar routes it, and our own code does the rest.

Litestar's own call path (request object, dependency injection, signature parsing,
response object) costs several times what answering from a replica's bytes does. So a
handler answers in a middleware of its own: Litestar's router and its errors remain, and the
rest of its stack is skipped. The most frequent requests skip the router too: see
`api.http.direct_routes`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from functools import partial
from time import monotonic, perf_counter
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from litestar import HttpMethod, route
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, Receive, Send

from api.http import tenants
from api.http.auth import ANONYMOUS, EVERYBODY, Access, Principals, Role
from api.http.bodies import Bodies
from api.http.direct_routes import DirectRoutes
from api.http.exchange import EXCHANGE, Exchange
from api.http.headers import joined, traceparent
from api.http.limits import Limits
from api.http.origin import Origins
from api.http.paths import HELD_SLASH, UNREADABLE, check_utf8, with_slashes
from api.http.problems import (
    UNFORESEEN,
    Problem,
    allowed,
    malformed,
    problem_of,
)
from api.http.rates import Rates
from api.http.reply import GUARDS, Fields, Reply
from api.http.streams import Holder, Streams
from api.http.traces import RequestSpan, RequestTraces
from api.operators.metrics import Metrics
from api.operators.recent_errors import RecentErrors
from rayfold import RayfoldError
from rayfold.keys import printable

log = logging.getLogger(__name__)

_PARAMETER = re.compile(r"{[^}]*}")

LOGGED = 10.0
"""Seconds between two lines that say why requests are answered alike: there may be thousands."""

Method = Literal["GET", "POST", "DELETE"]

Done = TypeVar("Done")

Shown = Callable[[], Awaitable[dict[bytes, bytes]]]
"""Returns the headers of a request anew, with the token of the console's session, if it lasts."""


class Call:
    """A request; its parts are read only when they are needed."""

    __slots__ = (
        "_bodies",
        "_known_body",
        "_max_body",
        "_receive",
        "caller",
        "headers",
        "path",
        "query_string",
        "scope",
        "span",
        "tenant",
        "traced",
    )

    def __init__(
        self,
        scope: Any,
        receive: Receive,
        headers: dict[bytes, bytes],
        max_body: int,
        bodies: Bodies,
    ) -> None:
        self.scope = scope
        self.headers = headers
        self.path: dict[str, str] = scope["path_params"]
        self.query_string: bytes = scope["query_string"]
        self.caller = EVERYBODY
        self.tenant = ""
        """The tenant of the command or query, on a stack that serves tenants."""
        self.span: RequestSpan | None = None
        self.traced = False
        """Whether this request may be traced: if it is, it has a `span`."""
        self._receive = receive
        self._max_body = max_body
        self._bodies = bodies
        self._known_body: bytes | None = None

    @property
    def principal(self) -> str:
        """The caller's name."""
        return self.caller.name

    async def body(self) -> bytes:
        """Return the whole body.

        Raises:
            Problem: 413 as soon as it is known to be too large, 415 if it is compressed; the rest
                is not read.
        """
        if self._known_body is not None:
            return self._known_body
        if self.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise self._compressed()
        exchange: Exchange | None = self.scope.get(EXCHANGE)
        if exchange is not None and (whole := exchange.body()) is not None:
            if len(whole) > self._max_body:
                raise self._too_large()
            return whole
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
        if message.get("more_body"):
            body, message = await self._rest(body)
        if message["type"] == "http.disconnect":
            raise malformed("the client closed the connection before the end of the body")
        if len(body) > self._max_body:
            raise self._too_large()
        return body

    async def body_again(self) -> bytes:
        """Return the whole body, and keep it for the next call of `body`."""
        self._known_body = await self.body()
        return self._known_body

    async def _rest(self, begun: bytes) -> tuple[bytes, Any]:
        body = bytearray(begun)
        message: Any = None
        with self._bodies.begun() as one:
            while message is None or message.get("more_body"):
                if len(body) > self._max_body:
                    raise self._too_large()
                one.grown(len(body))
                message = await self._receive()
                body += message.get("body", b"")
        return bytes(body), message

    async def gone(self) -> None:
        """Return when the client has disconnected."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _compressed(self) -> Problem:
        coding = self.headers[b"content-encoding"].decode("latin-1")
        detail = f"a body may not have the Content-Encoding {printable(coding)!r}: send it as it is"
        headers = {"Accept-Encoding": "identity", "Connection": "close"}  # RFC 9110, 12.5.3
        return Problem(415, "unsupported-media-type", detail, headers=headers)

    def _too_large(self) -> Problem:
        detail = f"a body may have at most {self._max_body} bytes"
        # Only so much more is read that the client gets to read this answer: `Limits.linger_bytes`.
        return Problem(413, "too-large", detail, headers={"Connection": "close"})


class Stream(NamedTuple):
    """A body that is sent until it ends, the client disconnects, or the server stops."""

    headers: list[tuple[bytes, bytes]]
    chunks: AsyncGenerator[bytes, None]


class Document(NamedTuple):
    """A `Reply` whose body is sent in pieces; if it fails, the connection is closed."""

    status: int
    headers: Fields
    pieces: AsyncGenerator[bytes, None]


Answered = Reply | Document | Stream
Handler = Callable[[Call], Awaitable[Answered]]


class Audits(Protocol):
    """See `projections.operations.audit.Audit`."""

    async def asked(self, principal: str, action: str, arguments: bytes) -> str:
        """See `Audit.asked`."""
        ...

    async def failed(self, note: str, status: int, reason: str) -> None:
        """See `Audit.failed`."""
        ...

    async def last(self, limit: int) -> list[dict[str, Any]]:
        """See `Audit.last`."""
        ...


class Front(Protocol):
    """The human front of a route: pages and forms, where programs send and receive JSON."""

    async def known(self, headers: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """Return a request's headers with the token of the signed-in user."""
        ...

    def check_change(self, headers: Mapping[bytes, bytes]) -> None:
        """Check a request that may change something; raise `Problem` if it is not allowed."""
        ...

    def told(self, scope: Any, problem: Problem) -> Reply:
        """Return the page that shows a problem."""
        ...


class Endpoint:
    """Makes Litestar handlers out of our own."""

    def __init__(
        self,
        metrics: Metrics,
        principals: Principals,
        origins: Origins,
        limits: Limits,
        rates: Rates,
        audit: Audits,
        traces: RequestTraces | None,
        *,
        tenants: bool,
    ) -> None:
        """`tenants`: whether commands and queries are of a tenant."""
        self._tenants = tenants
        self._traces = traces
        self._metrics = metrics
        self._principals = principals
        self._origins = origins
        self._limits = limits
        self._bodies = Bodies(limits.bodies_bytes)
        self._rates = rates
        self._audit = audit
        self.access: dict[tuple[str, str], Access] = {}
        """The access that each route requires, by method and path."""
        self._methods: dict[str, set[str]] = {}
        self._paths: set[str] = set()
        self._streams = Streams(limits.streams)
        self.closing = asyncio.Event()
        """Set when the server stops: streams end."""
        self.recent_errors = RecentErrors()
        self._logged: dict[str, float] = {}
        self.direct = DirectRoutes()
        """The routes of the domain for programs, which bypass Litestar."""

    def handler(
        self,
        method: Method,
        path: str,
        handle: Handler,
        role: Role,
        permission: str = "",
        front: Front | None = None,
    ) -> HTTPRouteHandler:
        """Return a handler for a path like `/orders/{order_id}`; its parameters arrive as text.

        It requires a role of its caller, and a permission if one is given. With a `front` it is a
        page; the handler of a form that changes something records that itself: see `noted`.
        """
        needed = self.access[method, path] = Access(role, permission)
        changes = method != "GET"
        limits = self._limits
        max_body = limits.public_body_bytes if role is Role.PUBLIC else limits.body_bytes
        checked = role is not Role.PUBLIC and not self._principals.open
        counted = role is not Role.PUBLIC and not self._rates.unbounded
        check_change = self._origins.check_change if front is None else front.check_change
        if changes and role is Role.OPERATOR and front is None:
            handle = self._audited(path, handle)
        for_operators = role is Role.OPERATOR
        check_name = None
        if role is not Role.PUBLIC and self._principals.open:
            check_name = self._origins.check_operator if for_operators else self._origins.check_host
        of_domain = role in (Role.READER, Role.WRITER)
        traces = self._traces if of_domain else None
        of_tenants = self._tenants and role is not Role.PUBLIC
        varies = of_tenants and not for_operators

        async def serve(scope: Any, receive: Receive, send: Send) -> None:
            began = perf_counter()
            span: RequestSpan | None = None
            pairs = scope["headers"]
            headers = dict(pairs)
            try:
                if len(headers) != len(pairs):
                    headers = joined(pairs)
                asked = headers
                if front is not None and checked:
                    headers = await front.known(asked)
                call = Call(scope, receive, headers, max_body, self._bodies)
                if traces is not None:
                    span = call.span = traces.begin(method, path, traceparent(headers))
                    call.traced = True
                if HELD_SLASH in scope["path"]:
                    call.path = with_slashes(scope)
                if UNREADABLE in scope["path"]:
                    check_utf8(scope)
                if changes:
                    check_change(headers)
                if check_name is not None:
                    check_name(headers, scope)
                if checked:
                    call.caller = await self._principals.of(headers)
                    call.caller.check(needed)
                if of_tenants:
                    if for_operators:
                        tenants.check_operator(call.caller)
                    else:
                        call.tenant = tenants.tenant_of(call.caller, headers)
                elif of_domain:
                    tenants.check_none(headers)
                if counted:
                    self._rates.count(call.caller, _address(scope), call.tenant)
                reply = await handle(call)
                if isinstance(reply, Stream):
                    self._streams.check(_holder(call))
            except Problem as problem:
                reply = self._told(scope, problem, front)
            except RayfoldError as error:
                reply = self._told(scope, problem_of(error), front, whole=for_operators)
            except (Exception, SystemExit) as error:  # an author's validator may exit
                if span is not None:
                    span.end(error)
                reply = self._unforeseen(scope, error, front)
                span = None
            except BaseException as error:  # no client waits for an answer
                if span is not None:
                    span.end(error)
                raise
            if isinstance(reply, Stream):
                self._metrics.replied(scope["method"], path, 200)
                if span is not None:
                    span.end()  # it has begun, and the client decides when it ends
                shown = None if front is None else partial(front.known, asked)
                await self._stream(call, needed, reply, send, shown)
            else:
                status, fields, body = reply
                if varies:
                    fields = [*fields, tenants.VARY]
                seconds = perf_counter() - began
                if span is None:
                    self._metrics.replied(scope["method"], path, status, seconds)
                else:
                    self._metrics.replied(scope["method"], path, status, seconds, span.trace_id)
                    span.set("http.response.status_code", status)
                    span.end(str(status) if status >= 500 else None)
                exchange: Exchange | None = scope.pop(EXCHANGE, None)  # else a reference cycle
                if not isinstance(body, bytes):
                    await self._write(call, Document(status, fields, body), send)
                elif exchange is None or not exchange.answer(status, fields, body):
                    await _send(send, status, fields, body)

        methods = [HttpMethod.GET, HttpMethod.HEAD] if method == "GET" else [HttpMethod(method)]
        told = self._methods.setdefault(_PARAMETER.sub("{}", path), {"OPTIONS"})
        told.update(each.value for each in methods)
        often = of_domain and front is None
        self.direct.add(method, path, serve if often else None)
        if path in self._paths:
            return _declared(path, methods, serve)
        # One handler of each path answers OPTIONS too, since Litestar's own answer differs from
        # ours. Separate handlers for OPTIONS would double the time to build an application.
        self._paths.add(path)
        return _declared(path, [*methods, HttpMethod.OPTIONS], _with_options(serve, told))

    @staticmethod
    def ordered(handlers: list[HTTPRouteHandler]) -> list[HTTPRouteHandler]:
        """Return handlers in the order that Litestar needs: those that answer OPTIONS first."""
        return sorted(handlers, key=lambda each: "OPTIONS" not in each.http_methods)

    def _audited(self, path: str, handle: Handler) -> Handler:
        """Return a handler that records its caller, and its failure, in the audit log."""
        action = path.rpartition("/")[2]

        async def noted(call: Call) -> Answered:
            arguments = await call.body_again()
            return await self.noted(call.principal, action, arguments, partial(handle, call))

        return noted

    async def noted(
        self, principal: str, action: str, arguments: bytes, do: Callable[[], Awaitable[Done]]
    ) -> Done:
        """Return the result of `do`; record the caller in the audit log first, then a failure."""
        note = await self._audit.asked(principal, action, arguments)
        try:
            return await do()
        except (Exception, SystemExit) as error:
            problem = UNFORESEEN
            if isinstance(error, Problem):
                problem = error
            elif isinstance(error, RayfoldError):
                problem = problem_of(error)
            await self._audit.failed(note, problem.status, problem.said or problem.detail)
            raise

    def _told(
        self, scope: Any, problem: Problem, front: Front | None, *, whole: bool = False
    ) -> Reply:
        """Return the answer; with the `whole` detail, which goes into the log else."""
        said = problem.said or problem.detail
        if problem.status >= 500:
            self.recent_errors.note(scope["method"], scope["path"], problem.status, said)
        if whole:
            problem.detail = said
        elif said != problem.detail and self._logged.get(problem.kind, 0.0) < (now := monotonic()):
            self._logged[problem.kind] = now + LOGGED
            where = {"method": scope["method"], "path": scope["path"]}
            log.warning("a part is down that a request needs", extra={**where, "error": said})
        return problem.reply() if front is None else front.told(scope, problem)

    def _unforeseen(self, scope: Any, error: BaseException, front: Front | None) -> Reply:
        """Return the answer to an unexpected error: it is logged, and not shown to the client."""
        method, path = scope["method"], scope["path"]
        log.error("a request failed", exc_info=error, extra={"method": method, "path": path})
        detail = f"{type(error).__name__}, see the log"
        self.recent_errors.note(method, path, 500, detail)
        return UNFORESEEN.reply() if front is None else front.told(scope, UNFORESEEN)

    async def _stream(
        self, call: Call, needed: Access, stream: Stream, send: Send, shown: Shown | None
    ) -> None:
        with self._streams.begun(_holder(call)) as over:
            exchange: Exchange | None = call.scope.get(EXCHANGE)
            if exchange is not None:
                exchange.hold_nothing_back()
            await send({"type": "http.response.start", "status": 200, "headers": stream.headers})
            if call.scope["method"] != "HEAD":
                others: list[Awaitable[Any]] = [over, self.closing.wait()]
                may_end = self._principals.may_end or (shown and not self._principals.open)
                if needed.role is not Role.PUBLIC and may_end:
                    others.append(self._until_refused(call, needed, shown))
                pump = await self._until_an_end(call, stream.chunks, send, *others)
                if not pump.cancelled() and (error := pump.exception()) is not None:
                    path = call.scope["path"]
                    log.error(
                        "a stream of server-sent events failed",
                        exc_info=error,
                        extra={"path": path},
                    )
            with contextlib.suppress(OSError):  # the client is gone and needs no proper end
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _until_refused(self, call: Call, needed: Access, shown: Shown | None) -> None:
        """Return when the caller of a stream may no longer follow it.

        Then the caller's token, or session of the console, has ended.
        """
        while True:
            await asyncio.sleep(self._limits.token_checked)
            try:
                headers = call.headers if shown is None else await shown()
                (await self._principals.of(headers)).check(needed)
            except Problem as problem:
                if problem.status in (401, 403):
                    return

    async def _write(self, call: Call, document: Document, send: Send) -> None:
        status, headers, pieces = document
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if call.scope["method"] != "HEAD":
            pump = await self._until_an_end(call, pieces, send)
            if pump.cancelled():
                return  # the client has disconnected
            if (error := pump.exception()) is not None:
                # The body has no proper end, so the server closes the connection.
                if isinstance(error, RayfoldError):
                    self._told(call.scope, problem_of(error), None)
                else:
                    self._unforeseen(call.scope, error, None)
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _until_an_end(
        self,
        call: Call,
        chunks: AsyncGenerator[bytes, None],
        send: Send,
        *others: Awaitable[Any],
    ) -> asyncio.Task[None]:
        """Send the chunks until they end, the client disconnects, or one of `others` is done."""
        pump = asyncio.create_task(self._pump(chunks, send))
        ends = [pump, *map(asyncio.ensure_future, (call.gone(), *others))]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in ends:
                each.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
        return pump

    async def _pump(self, chunks: AsyncGenerator[bytes, None], send: Send) -> None:
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})


def _declared(path: str, methods: list[HttpMethod], serve: ASGIApp) -> HTTPRouteHandler:
    def answering(app: ASGIApp) -> ASGIApp:
        return serve

    declare = route(typed(path), http_method=methods, middleware=[answering], status_code=200)
    return declare(_never)


def _with_options(serve: ASGIApp, methods: set[str]) -> ASGIApp:
    """Return an app that answers OPTIONS with a path's methods, as a 405 does, else calls `serve`.

    `methods` are those of all handlers of the path, also of those added later.
    """

    async def either(scope: Any, receive: Receive, send: Send) -> None:
        if scope["method"] != "OPTIONS":
            await serve(scope, receive, send)
            return
        await _send(send, 204, [*GUARDS, (b"allow", allowed(methods).encode())], b"")

    return either


async def _send(send: Send, status: int, fields: Fields, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _holder(call: Call) -> Holder:
    """Return the holder of a stream: all callers of a tenant count as one holder."""
    if call.tenant:
        return (call.tenant,)
    name = call.caller.name
    return "", name, _address(call.scope) if name == ANONYMOUS else ""


def _address(scope: Any) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def typed(path: str) -> str:
    """Return the path in Litestar's notation."""
    return path.replace("}", ":str}")


async def _never() -> None:
    """Do nothing, since the middleware has answered."""
