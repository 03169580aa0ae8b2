"""One connection: uvicorn's HTTP/1.1, within limits of bytes and time."""

from __future__ import annotations

import asyncio
from operator import itemgetter
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from api.http.connections import Connections
from api.http.exchange import EXCHANGE, Exchange
from api.http.one_write import OneWrite
from api.http.problems import Problem, malformed, unavailable

_name_of = itemgetter(0)

# How far a client is with its next request. Plain numbers, as each request sets them three times.
_NOTHING, _HEAD, _BODY = range(3)


class GatewayProtocol(HttpToolsProtocol):
    """Refuses heads that are too large, and clients that take too long.

    An answer before the end of a request, like 413, does not cut the client off: what it still
    sends is read and dropped for a while, since most clients read only when they have sent all.
    """

    def __init__(self, connections: Connections, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self._others = connections
        self._limits = connections.limits
        self._reading = _NOTHING
        self._head_bytes = 0
        self._chunk_bytes = 0
        self._framing_bytes = 0
        self._used = False
        self._since = self.loop.time()
        self._blocked_since: float | None = None
        self._lingering = False
        self._dropped_bytes = 0
        self._refused = False

    # What `Connections` asks

    @property
    def answering(self) -> bool:
        """See `Connection`."""
        return self._reading == _NOTHING and self._blocked_since is None and self._in_flight

    @property
    def idle_since(self) -> float:
        """See `Connection`."""
        return self._since if self._blocked_since is None else self._blocked_since

    def expire(self, now: float) -> None:
        """See `Connection`."""
        limits = self._limits
        waited = now - self._since
        if self._blocked_since is not None and now - self._blocked_since > limits.write_timeout:
            self.drop()
        elif self._lingering:
            if waited > limits.linger_timeout and not self._in_flight:
                self.drop()
        elif self._reading == _BODY:
            if waited > limits.body_timeout:
                self._refuse(_too_slow("body", limits.body_timeout))
        elif self.answering:
            return
        elif self._reading == _HEAD:
            if waited > limits.head_timeout:
                self._refuse(_too_slow("headers", limits.head_timeout))
        elif waited > (limits.idle_timeout if self._used else limits.head_timeout):
            self.transport.close()

    def drop(self) -> None:
        """See `Connection`."""
        self._lingering = True  # so that it closes without waiting for what the client still sends
        self.transport.close()  # what was written in this turn still goes out
        if self._blocked_since is not None:
            self.transport.abort()

    def turn_away(self) -> None:
        """See `Connection`."""
        self._write(
            unavailable("too-many-connections", "the gateway has as many connections as it may")
        )
        self.transport.close()

    # The transport's side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin as uvicorn does, on a transport that joins small writes and ends in order."""
        super().connection_made(OneWrite(transport, self._end))  # type: ignore[arg-type]
        self._others.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End as uvicorn does."""
        self._others.remove(self)
        self._lingering = self._refused = True
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse received data, or drop it if its request was answered already."""
        if self._lingering:
            self._since = self.loop.time()
            self._dropped_bytes += len(data)
            if self._dropped_bytes > self._limits.linger_bytes:
                self.drop()
            return
        self._chunk_bytes = len(data)
        if self._reading != _BODY:
            self._head_bytes += len(data)
        else:
            self._framing_bytes += len(data)
        self._parse(data)
        if self._refused or self._reading == _NOTHING:
            return
        # Besides heads, the parser keeps the framing between chunks, and trailers after the last.
        kept = self._head_bytes if self._reading == _HEAD else self._framing_bytes
        if kept > self._limits.head_bytes:
            self._refuse(_too_large(self._limits.head_bytes))

    def pause_writing(self) -> None:
        """Note since when the client leaves sent data unread."""
        self._blocked_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Go on, because the client has read."""
        self._blocked_since = None
        self._since = self.loop.time()
        super().resume_writing()

    # The parser's side

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._reading = _HEAD
        self._used = True
        self._since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Pass the request on, unless its head is too large or has no host."""
        if self.parser.should_upgrade():
            return  # it comes again: see `_parse`
        limits = self._limits
        if len(self.headers) > limits.headers:
            self._refuse(_too_large(limits.head_bytes, limits.headers))
        elif (
            # The first, cheap test is enough for nearly all; a chunk may hold several requests.
            self._head_bytes + self._chunk_bytes > limits.head_bytes
            and self._size_of_head() > limits.head_bytes
        ):
            self._refuse(_too_large(limits.head_bytes))
        elif not self._names_one_host():
            self._refuse(malformed("a request of HTTP/1.1 must have one Host"))
        elif len(self.pipeline) >= limits.pipelined:
            self._refuse(
                unavailable("overloaded", "too many requests are waiting on this connection")
            )
        if self._refused:
            raise ValueError("refused")  # ends the parser's turn
        self._reading = _BODY
        self._head_bytes = self._framing_bytes = 0
        super().on_headers_complete()
        self.headers = []  # trailers are not headers, and are not read
        if self._others.draining:
            self.cycle.keep_alive = False  # its answer says so

    def on_body(self, body: bytes) -> None:
        """Take a part of the body, as uvicorn does."""
        self._framing_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request is complete."""
        if self.parser.should_upgrade():
            return
        self._reading = _NOTHING
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request: as uvicorn does, but without a timer for each.

        `Connections` has one for all.
        """
        self._since = self.loop.time()
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)

    def _parse(self, data: bytes) -> None:
        """Pass received data to the parser.

        A request that asks for another protocol (`Upgrade: h2c`, as Java's client sends) is
        answered in HTTP/1.1. The parser takes all that follows such a head for the other protocol:
        a body would be dropped, or parsed as the next request. So it gets the head again.
        """
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if self.parser.get_method() == b"CONNECT":
                    self._refuse(malformed("this server is not a proxy"))
                    return
                data = self._head_without_upgrade() + data[upgrade.args[0] :]
            except httptools.HttpParserError:
                if not self._refused:
                    self._refuse(malformed("this is not a request of HTTP/1.1"))
                return
            else:
                return

    def _head_without_upgrade(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % each for each in self.headers if each[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        scope: dict[str, Any] = cycle.scope  # type: ignore[assignment]
        scope[EXCHANGE] = Exchange(cycle)
        super()._start_asgi_task(cycle, app)

    @property
    def _in_flight(self) -> bool:
        cycle = self.cycle
        return cycle is not None and not cycle.response_complete and not cycle.disconnected

    def _size_of_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _names_one_host(self) -> bool:
        hosts = [*map(_name_of, self.headers)].count(b"host")
        return hosts == 1 or (hosts == 0 and self.parser.get_http_version() != "1.1")

    # The end

    def _refuse(self, problem: Problem) -> None:
        """Answer a request without the application, and end."""
        self._refused = True
        if self._in_flight and self._reading == _BODY:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started or self.pipeline:
                self.drop()
                return
        if self._in_flight:
            self.cycle.keep_alive = False  # of the request before it, whose answer comes first
        elif not self.transport.is_closing():
            self._write(problem)
        self._linger()

    def _write(self, problem: Problem) -> None:
        status, headers, body = problem.reply()
        fields = [*self.server_state.default_headers, *headers, (b"connection", b"close")]
        lines = [b"%b: %b\r\n" % each for each in fields]
        self.transport.write(b"".join([STATUS_LINE[status], *lines, b"\r\n", body]))

    def _end(self) -> bool:
        """Return whether the transport may be closed now; else it is closed after the client."""
        if self._reading == _NOTHING or self._lingering or self.transport.is_closing():
            return True
        self._linger()
        return False

    def _linger(self) -> None:
        self._lingering = True
        self._since = self.loop.time()
        self.flow.resume_reading()


def _too_large(head_bytes: int, headers: int | None = None) -> Problem:
    most = f"{head_bytes} bytes" if headers is None else f"{headers} headers"
    return Problem(431, "head-too-large", f"a request's head has at most {most}")


def _too_slow(what: str, timeout: float) -> Problem:
    return Problem(408, "too-slow", f"the request's {what} took longer than {timeout:g} seconds")
