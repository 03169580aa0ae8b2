"""One gRPC call on an HTTP/2 stream: messages cut from DATA, and responses within the windows."""

from __future__ import annotations

import asyncio
import zlib
from base64 import b64encode
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from grpc import StatusCode

from eventstore.embedded.http2 import frames, hpack
from eventstore.embedded.protocol.errors import RpcError

if TYPE_CHECKING:
    from eventstore.embedded.http2.connection import Connection

RECEIVE_WINDOW = 1 << 20
"""Bytes that a caller may send ahead on one call."""
_UNREAD = 8 << 20
"""Unread messages of this size stop a caller until the handler has caught up."""

_HEADERS_BLOCK = b"\x88" + hpack.encode([(b"content-type", b"application/grpc")])
_OK_BLOCK = hpack.encode([(b"grpc-status", b"0")])


class Http2Call:
    """The call that a handler gets; the connection passes it the caller's data."""

    def __init__(
        self,
        connection: Connection,
        stream: int,
        headers: dict[bytes, bytes],
        limit: int,
    ) -> None:
        self.stream = stream
        self.task: asyncio.Task[None] | None = None
        self.half_closed = False
        self.closed = False
        self.send_window = 0
        """In addition to the initial window of all calls, which the peer may change."""
        self.out = bytearray()
        self.drained: asyncio.Future[None] | None = None
        self._connection = connection
        self._headers = headers
        self._limit = limit
        self._partial = bytearray()
        self._messages: deque[bytes] = deque()
        self._unread = 0
        self._unacknowledged = 0
        self._arrived: asyncio.Future[None] | None = None
        self._failure: RpcError | None = None
        self._started = False

    # The handler's side

    @property
    def peer(self) -> str:
        """Address of the caller."""
        return self._connection.peer

    def header(self, name: str) -> str | None:
        """Return a value of the call's metadata."""
        value = self._headers.get(name.encode())
        return None if value is None else value.decode(errors="replace")

    async def read(self) -> bytes | None:
        """Return the next request message; None once the caller has half-closed."""
        while not self._messages:
            if self._failure is not None:
                raise self._failure
            if self.half_closed:
                if self._partial:
                    raise RpcError(StatusCode.INTERNAL, "The last message is incomplete.")
                return None
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        message = self._messages.popleft()
        self._unread -= len(message)
        if self._unacknowledged and self._unread < _UNREAD:
            self._connection.grant(self.stream, self._unacknowledged)
            self._unacknowledged = 0
        return message

    async def write(self, message: bytes) -> None:
        """Send one response."""
        await self.write_many((message,))

    async def write_many(self, messages: Sequence[bytes]) -> None:
        """Send several responses in as few frames as fit; waits for the caller's windows."""
        out = self.out
        for message in messages:
            out += b"\0" + len(message).to_bytes(4, "big")
            out += message
        self._begin()
        self._connection.push(self)
        while out and not self.closed:
            self.drained = asyncio.get_running_loop().create_future()
            await self.drained
        await self._connection.writable()

    def _begin(self) -> None:
        if not self._started:
            self._started = True
            self._connection.send_headers(self.stream, _HEADERS_BLOCK, end=False)

    def finish(self) -> None:
        """End with status OK."""
        self._begin()
        self._connection.send_headers(self.stream, _OK_BLOCK, end=True)
        self._close()

    def fail(self, error: RpcError) -> None:
        """End with another status, its text, and its trailers."""
        status: int = error.status.value[0]
        headers = [
            (b"grpc-status", b"%d" % status),
            (b"grpc-message", quote(error.details, safe=_PLAIN).encode()),
        ]
        for name, value in error.trailers:
            raw = b64encode(value).rstrip(b"=") if isinstance(value, bytes) else value.encode()
            headers.append((name.encode(), raw))
        block = hpack.encode(headers)
        if not self._started:
            block = _HEADERS_BLOCK + block
        self._connection.send_headers(self.stream, block, end=True)
        self._close()

    def _close(self) -> None:
        if not self.half_closed and not self.closed:
            # Tell a caller that still sends to stop; the answer is complete.
            self._connection.send(frames.reset(self.stream, frames.NO_ERROR))
        self._connection.forget(self)

    # The connection's side

    def receive(self, data: bytes) -> None:
        """Take DATA of the caller: queue complete messages, and restore the window."""
        partial = self._partial
        partial += data
        at = 0
        while len(partial) - at >= 5:
            length = int.from_bytes(partial[at + 1 : at + 5], "big")
            if length > self._limit:
                self._refuse(
                    StatusCode.RESOURCE_EXHAUSTED,
                    f"Received message larger than max ({length} vs. {self._limit})",
                )
                return
            if len(partial) - at - 5 < length:
                break
            self._add(bytes(partial[at + 5 : at + 5 + length]), partial[at])
            at += 5 + length
        if at:
            del partial[:at]
        if self._unread < _UNREAD:
            self._connection.grant(self.stream, len(data))
        else:
            self._unacknowledged += len(data)
        self._wake()

    def _add(self, message: bytes, compressed: int) -> None:
        if compressed:
            unpacked = self._decompress(message)
            if unpacked is None:
                self._refuse(StatusCode.UNIMPLEMENTED, "The message's compression is not known.")
                return
            message = unpacked
        self._messages.append(message)
        self._unread += len(message)

    def _decompress(self, message: bytes) -> bytes | None:
        """Decompress gzip and deflate, up to the limit on messages."""
        engine = zlib.decompressobj(wbits=47)
        try:
            unpacked = engine.decompress(message, self._limit)
        except zlib.error:
            return None
        return unpacked if engine.eof else None

    def _refuse(self, status: StatusCode, details: str) -> None:
        self._failure = RpcError(status, details)
        self._messages.clear()
        self._partial.clear()
        self._wake()

    def end(self) -> None:
        """Note that the caller has ended its side."""
        self.half_closed = True
        self._wake()

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    def sent(self) -> None:
        """Wait until everything written has gone out."""
        if self.drained is not None and not self.drained.done():
            self.drained.set_result(None)


_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
