"""A direct connection between two processes that trust each other: calls on one socket.

Ray starts, places, restarts and finds actors, and infrequent calls are Ray calls. A Ray call
costs two milliseconds, and as much CPU, which would be most of the cost of every command and
query. So these go directly over a socket, which takes a tenth of a millisecond: an actor listens,
and returns its address in a Ray call.

Requests and answers are pickled, as in Ray. A caller must first send the key, which it can only
get in that Ray call; otherwise nothing that it sends is read.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import pickle
import secrets
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from struct import Struct
from typing import Any, NamedTuple, cast

from rayfold.runtime.heartbeat import Heartbeat, Pulse
from rayfold.runtime.ports import listen

log = logging.getLogger(__name__)

_HEAD = Struct("!IIB")
"""The head of each frame: the length of the content, the call's number, the kind of frame."""

_REQUEST, _ANSWER, _ERROR, _BEAT, _REQUEST_IN_PARTS, _PART = range(6)
"""A server of an older release answers `_REQUEST_IN_PARTS` like `_REQUEST`."""

_KEY = 32
"""Bytes that a caller sends before its first frame."""

CONNECT = 5.0
"""Seconds within which a listening process must accept a connection."""

GREETING = 5.0
"""Seconds within which a caller must send the key."""

STRANGERS = 64
"""The most connections whose caller has not sent the key yet; one more ends the oldest."""


class Address(NamedTuple):
    """Where a process listens, and the key that a caller must send."""

    host: str
    port: int
    key: bytes


class RpcDisconnected(ConnectionError):
    """The connection ended; the request may have been served. Find the address again."""


class RpcSilent(RpcDisconnected):
    """The other process gave no sign of life: it hangs or is cut off, and may go on later."""


class RpcServerFailed(Exception):
    """The server's function raised, or its answer cannot be unpickled here; the text says which."""


Part = Callable[[Any], None]
"""Sends, or receives, a part of an answer that is not complete yet."""


class RpcServer:
    """Answers every request with a function of its process."""

    def __init__(
        self,
        answer: Callable[[Any], Awaitable[Any]],
        in_parts: Callable[[Any, Part], Awaitable[Any]] | None = None,
    ) -> None:
        """`in_parts` answers instead if the caller accepts parts: it may send some beforehand."""
        self._answer = answer
        self._in_parts = in_parts
        self._key = secrets.token_bytes(_KEY)
        self._server: asyncio.Server | None = None
        self._closed = False
        self._opening = asyncio.Lock()
        self._connections: set[_Answering] = set()
        self._strangers: dict[_Answering, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._pulse = Pulse()

    async def address(self, host: str) -> Address:
        """Listen on a free port of this host, unless it does already; return the address.

        Raises:
            OSError, ValueError: see `ports.listen`.
            RpcDisconnected: the server was closed.
        """
        async with self._opening:
            if self._closed:
                raise RpcDisconnected("this process is stopping, and answers no more calls")
            if self._server is None:
                self._server = await listen(lambda: _Answering(self), host)
                self._pulse.start()
            return Address(host, self._server.sockets[0].getsockname()[1], self._key)

    async def close(self) -> None:
        """Stop listening, answer pending requests, then disconnect all callers."""
        self._closed = True
        if self._server is not None:
            self._server.close()
        while self._tasks:
            await asyncio.wait(list(self._tasks))
        self._pulse.stop()
        self.cut()

    def cut(self) -> None:
        """End all connections once written data is sent."""
        for connection in list(self._connections):
            connection.finish()

    def opens(self, key: bytes) -> bool:
        """Return whether this is the key."""
        return hmac.compare_digest(key, self._key)

    def joined(self, connection: _Answering) -> None:
        """Note a new caller, which has not sent the key yet."""
        self._connections.add(connection)
        self._strangers[connection] = None
        if len(self._strangers) > STRANGERS:
            next(iter(self._strangers)).close()

    def known(self, connection: _Answering) -> None:
        """Note that a caller has sent the key."""
        self._strangers.pop(connection, None)

    def left(self, connection: _Answering) -> None:
        """Note that a caller has disconnected; its requests are served nevertheless."""
        self._connections.discard(connection)
        self._strangers.pop(connection, None)

    def serve(self, connection: _Answering, number: int, payload: bytes, *, in_parts: bool) -> None:
        """Answer one request, concurrently with others.

        After the process was stopped for long, nothing is answered: the callers no longer wait,
        and must send their requests again.
        """
        if self._pulse.stopped:
            log.warning(
                "this process was suspended: requests that came before are dropped, and sent again"
            )
            for each in list(self._connections):
                each.close()
            return
        ask: Callable[[Any], Awaitable[Any]] = self._answer
        if in_parts and (answer_in_parts := self._in_parts) is not None:

            def part(content: Any) -> None:
                connection.send(number, _PART, pickle.dumps(content))

            def ask(request: Any) -> Awaitable[Any]:
                return answer_in_parts(request, part)

        task = asyncio.create_task(self._serve(connection, number, payload, ask))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(
        self,
        connection: _Answering,
        number: int,
        payload: bytes,
        ask: Callable[[Any], Awaitable[Any]],
    ) -> None:
        try:
            kind, content = _ANSWER, pickle.dumps(await ask(pickle.loads(payload)))
        except Exception as error:
            # The caller gets any error, as text: not every error can be pickled.
            log.exception("a call failed")
            kind, content = _ERROR, f"{type(error).__name__}: {error}".encode()
        connection.send(number, kind, content)


class RpcClient:
    """Calls a server. Connects on the first call, and again when the connection has ended."""

    def __init__(
        self,
        find: Callable[[], Awaitable[Address]],
        on_silence: Callable[[], None] | None = None,
    ) -> None:
        """`find` returns the server's present address. `on_silence` is called when a connection is
        given up because the other process shows no sign of life.
        """
        self._find = find
        self._on_silence = on_silence
        self._connection: _Calling | None = None
        self._connecting = asyncio.Lock()

    async def call(self, request: Any, on_part: Part | None = None) -> Any:
        """Return the answer to a request; `on_part` gets the parts that the server sends before.

        An error in `on_part` ends the call: it is raised as `RpcServerFailed`.

        Raises:
            RpcDisconnected: there is no answer; the request may have been served.
            RpcSilent: the same, and the other process may still serve it later.
            RpcServerFailed: the server's function raised.
            Whatever `find` raises.
        """
        connection = await self.connect()
        return await connection.call(pickle.dumps(request), on_part)

    async def connect(self) -> _Calling:
        """Return the connection, ready for a call; connect if needed.

        Raises:
            RpcDisconnected: there is no connection; nothing was sent.
            Whatever `find` raises.
        """
        connection = self._connection
        if connection is None or connection.lost:
            connection = await self._connected()
        return connection

    @property
    def connected(self) -> bool:
        """Whether there is a connection: the other process exists, though it may be stopped."""
        return self._connection is not None and not self._connection.lost

    def close(self) -> None:
        """Disconnect: pending calls raise `RpcDisconnected`. The next call connects again."""
        if self._connection is not None:
            self._connection.close()

    async def _connected(self) -> _Calling:
        async with self._connecting:
            if self._connection is None or self._connection.lost:
                host, port, key = await self._find()
                loop = asyncio.get_running_loop()
                try:
                    async with asyncio.timeout(CONNECT):
                        _, self._connection = await loop.create_connection(
                            lambda: _Calling(self._on_silence), host, port
                        )
                except (OSError, TimeoutError) as error:
                    raise RpcDisconnected(f"{host}:{port} does not accept: {error!r}") from error
                self._connection.greet(key)
            return self._connection


class _Framed(asyncio.Protocol, ABC):
    """Splits received data into frames."""

    def __init__(self) -> None:
        self.lost = False
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not derive from it

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        at = 0
        while len(received) - at >= _HEAD.size:
            length, number, kind = _HEAD.unpack_from(received, at)
            end = at + _HEAD.size + length
            if len(received) < end:
                break
            self.frame(number, kind, bytes(received[at + _HEAD.size : end]))
            at = end
        if at:
            del received[:at]

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True

    @abstractmethod
    def frame(self, number: int, kind: int, content: bytes) -> None:
        """Handle one complete frame."""

    def send(self, number: int, kind: int, content: bytes) -> None:
        """Send a frame; does nothing when the connection has ended."""
        if self._transport is not None and not self.lost:
            self._transport.write(_HEAD.pack(len(content), number, kind) + content)

    def finish(self) -> None:
        """End the connection once written data is sent."""
        if self._transport is not None:
            self._transport.close()

    def close(self) -> None:
        """End the connection at once."""
        self.lost = True
        if self._transport is not None:
            self._transport.abort()


class _Answering(_Framed):
    def __init__(self, server: RpcServer) -> None:
        super().__init__()
        self._owner = server
        self._greeting: bytearray | None = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._impatient = asyncio.get_running_loop().call_later(GREETING, self.close)
        self._owner.joined(self)

    def data_received(self, data: bytes) -> None:
        if self._greeting is not None:
            self._greeting += data
            if len(self._greeting) < _KEY:
                return
            data = bytes(self._greeting[_KEY:])
            if not self._owner.opens(bytes(self._greeting[:_KEY])):
                self.close()
                return
            self._greeting = None
            self._impatient.cancel()
            self._owner.known(self)
        super().data_received(data)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._impatient.cancel()
        self._owner.left(self)

    def frame(self, number: int, kind: int, content: bytes) -> None:
        if kind == _BEAT:
            self.send(number, _BEAT, b"")
        else:
            self._owner.serve(self, number, content, in_parts=kind == _REQUEST_IN_PARTS)


class _Calling(_Framed):
    def __init__(self, on_silence: Callable[[], None] | None) -> None:
        super().__init__()
        self._open: dict[int, asyncio.Future[Any]] = {}
        self._taking_parts: dict[int, Part] = {}
        self._next = 0
        self._on_silence = on_silence
        self._error: RpcDisconnected = RpcDisconnected("the other process went away")
        self._heartbeat = Heartbeat(lambda: self.send(0, _BEAT, b""), self._silent)

    def greet(self, key: bytes) -> None:
        assert self._transport is not None
        self._transport.write(key)
        self._heartbeat.start()

    def data_received(self, data: bytes) -> None:
        self._heartbeat.heard = True
        super().data_received(data)

    async def call(self, payload: bytes, on_part: Part | None) -> Any:
        if self.lost:
            raise self._error
        number = self._next = (self._next + 1) & 0xFFFFFFFF
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._open[number] = answer
        if on_part is None:
            self.send(number, _REQUEST, payload)
        else:
            self._taking_parts[number] = on_part
            self.send(number, _REQUEST_IN_PARTS, payload)
        try:
            return await answer
        finally:
            self._open.pop(number, None)
            self._taking_parts.pop(number, None)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._heartbeat.stop()
        for answer in self._open.values():
            if not answer.done():
                answer.set_exception(self._error)

    def _silent(self) -> None:
        self._error = RpcSilent("the other process does not answer any more")
        self.close()
        if self._on_silence is not None:
            self._on_silence()

    def frame(self, number: int, kind: int, content: bytes) -> None:
        if kind == _BEAT:
            return
        answer = self._open.get(number)
        if answer is None or answer.done():  # the caller no longer waits
            return
        if kind == _ERROR:
            answer.set_exception(RpcServerFailed(content.decode()))
            return
        try:
            if kind == _PART:
                self._taking_parts[number](pickle.loads(content))
            else:
                answer.set_result(pickle.loads(content))
        except Exception as error:  # it cannot be unpickled here
            answer.set_exception(RpcServerFailed(f"an answer cannot be read: {error!r}"))
