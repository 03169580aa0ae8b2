"""One connection: uvicorn's HTTP/1.1, within limits of bytes and time."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from api.http.connections import Connections
from api.http.exchange import EXCHANGE, Exchange
from api.http.one_write import OneWrite
from api.http.problems import Problem, malformed, unavailable

# Where a client is with its next request. Plain numbers: each request sets them three times.
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
        self.transport.write(_raw(unavailable("too-many-connections", "there is no room for more")))
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
        """Parse what has come, or drop it where nobody waits for it any more."""
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
        super().data_received(data)
        if self._refused or self._reading == _NOTHING:
            return
        # Beside a head the parser keeps what stands between chunks, and trailers after the last.
        kept = self._head_bytes if self._reading == _HEAD else self._framing_bytes
        if kept > self._limits.head_bytes:
            self._refuse(_too_large(self._limits.head_bytes))

    def pause_writing(self) -> None:
        """Note since when the client leaves what it is sent unread."""
        self._blocked_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Go on, as the client has read."""
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
        """Hand the request on, unless its head is too large."""
        limits = self._limits
        if len(self.headers) > limits.headers:
            self._refuse(_too_large(limits.head_bytes, limits.headers))
        elif (
            # As cheap a bound as there is, for nearly all; a chunk may hold several requests.
            self._head_bytes + self._chunk_bytes > limits.head_bytes
            and self._size_of_head() > limits.head_bytes
        ):
            self._refuse(_too_large(limits.head_bytes))
        if self._refused:
            raise ValueError("refused")  # ends the parser's turn; see `send_400_response`
        self._reading = _BODY
        self._head_bytes = self._framing_bytes = 0
        super().on_headers_complete()
        self.headers = []  # for trailers, which nobody reads: they are no headers
        if self._others.draining:
            self.cycle.keep_alive = False  # which its client is told

    def on_body(self, body: bytes) -> None:
        """Take a part of the body, as uvicorn does."""
        self._framing_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the client has sent all of its request."""
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

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        if not self._refused:
            self._refuse(malformed(msg))

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
            self.transport.write(_raw(problem))
        self._linger()

    def _end(self) -> bool:
        """Tell whether the transport may be closed now; else it is, when the client has ended."""
        if self._reading == _NOTHING or self._lingering or self.transport.is_closing():
            return True
        self._linger()
        return False

    def _linger(self) -> None:
        self._lingering = True
        self._since = self.loop.time()
        self.flow.resume_reading()


def _raw(problem: Problem) -> bytes:
    status, headers, body = problem.reply()
    lines = [b"%b: %b\r\n" % each for each in (*headers, (b"connection", b"close"))]
    return b"".join([STATUS_LINE[status], *lines, b"\r\n", body])


def _too_large(head_bytes: int, headers: int | None = None) -> Problem:
    most = f"{head_bytes} bytes" if headers is None else f"{headers} headers"
    return Problem(431, "head-too-large", f"a request's head has at most {most}")


def _too_slow(what: str, timeout: float) -> Problem:
    return Problem(408, "too-slow", f"the request's {what} took longer than {timeout:g} seconds")
