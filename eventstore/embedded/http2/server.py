"""The listening socket, and gRPC's side of a call: paths, statuses, shutdown."""

import asyncio
import errno
import logging
import socket
import ssl
from functools import partial

from grpc import StatusCode

from eventstore.embedded.http2 import frames, hpack, peer_user
from eventstore.embedded.http2.call import Http2Call
from eventstore.embedded.http2.connection import Connection
from eventstore.embedded.http2.connections import Connections
from eventstore.embedded.http2.tls import check_credentials
from eventstore.embedded.protocol.call import Call, Methods, Streaming, Unary, only_request
from eventstore.embedded.protocol.constants import MAX_APPEND_SIZE, MAX_V1_MESSAGE
from eventstore.embedded.protocol.errors import RpcError, handler_failed

log = logging.getLogger(__name__)

_BACKLOG = 1024
_HANDSHAKE_TIMEOUT = 5.0
"""Seconds for a TLS handshake; a connection is not counted before its end."""
_GRACE = 1.0
"""Seconds for pending writes when the server stops; a commit takes milliseconds."""


def _stopping() -> RpcError:
    return RpcError(StatusCode.UNAVAILABLE, "The server is shutting down.")


class GrpcServer:
    """Serves handlers by path; with ``tls`` over TLS, where it refuses a wrong password.

    With ``private``, other users of this machine except root are refused.
    """

    def __init__(
        self, methods: Methods, tls: ssl.SSLContext | None = None, *, private: bool = False
    ) -> None:
        self._methods = methods
        self._tls = tls
        self._private = private
        self._refused = False
        self._connections = Connections()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._endless: set[asyncio.Task[None]] = set()
        """Calls that only end with their caller: subscriptions, and batches held open."""
        self._stopping = False

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port bound. Raises ``OSError`` if the port is taken."""
        # SO_REUSEPORT stays off: else a second server could bind the port and share the traffic.
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self._dispatch, self._connections, self._admits),
            host,
            port,
            backlog=_BACKLOG,
            ssl=self._tls,
            ssl_handshake_timeout=_HANDSHAKE_TIMEOUT if self._tls is not None else None,
        )
        if not all(self._server.sockets):  # uvloop does not raise if the port is taken
            self._server.close()
            raise OSError(errno.EADDRINUSE, f"another process listens on port {port} now")
        listening = self._server.sockets[0]
        bound: int = listening.getsockname()[1]
        if listening.family == socket.AF_INET6:
            log.debug("listening on IPv6")
        return bound

    async def stop(self) -> None:
        """Accept no more calls, let pending writes finish, end other calls with UNAVAILABLE."""
        self._stopping = True
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.say_goodbye()
        for task in self._tasks & self._endless:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_GRACE)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for connection in self._connections:
            connection.close()

    def _admits(self, transport: asyncio.Transport) -> bool:
        if not self._private:
            return True
        ends = [transport.get_extra_info(end) for end in ("sockname", "peername")]
        if None in ends:  # the peer has gone already
            return False
        ports = [each[1] for each in ends]
        if peer_user.is_ours(*ports):
            return True
        if not self._refused:  # only the first is logged: else the log could fill the disk
            self._refused = True
            log.warning("connections of another user of this machine are refused")
        return False

    def _dispatch(
        self, connection: Connection, stream: int, headers: dict[bytes, bytes], ended: bool
    ) -> None:
        """Start a call, or refuse it."""
        if headers.get(b":method") != b"POST" or not headers.get(b"content-type", b"").startswith(
            b"application/grpc"
        ):
            status = b"405" if headers.get(b":method") != b"POST" else b"415"
            block = hpack.encode([(b":status", status)])
            flags = frames.END_HEADERS | frames.END_STREAM
            connection.send(frames.frame(frames.HEADERS, flags, stream, block))
            return
        path = headers.get(b":path", b"").decode(errors="replace")
        v1 = path.startswith("/event_store.")
        limit = MAX_V1_MESSAGE if v1 else MAX_APPEND_SIZE * 3 // 2
        call = Http2Call(connection, stream, headers, limit)
        connection.calls[stream] = call
        if ended:
            call.end()
        if self._stopping:
            call.fail(_stopping())
            return
        if self._tls is not None:
            try:
                check_credentials(headers.get(b"authorization"))
            except RpcError as error:
                call.fail(error)
                return
        unary = self._methods.unary.get(path)
        if unary is not None:
            serving = self._serve_unary(unary, call)
        else:
            serving = self._serve(self._methods.streaming.get(path), call)
        task = asyncio.create_task(serving)
        call.task = task
        self._tasks.add(task)
        task.add_done_callback(partial(self._finished, call))
        if path.endswith("/Read"):
            self._endless.add(task)
            task.add_done_callback(self._endless.discard)

    def _finished(self, call: Http2Call, task: asyncio.Task[None]) -> None:
        """End a call. An unexpected error ends only this call."""
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("handler failed", exc_info=error)
            if not call.closed:
                call.fail(handler_failed())

    async def _serve_unary(self, handler: Unary, call: Http2Call) -> None:
        async def run(call: Call) -> None:
            await call.write(await handler(await only_request(call), call))

        await self._guard(run, call)

    async def _serve(self, handler: Streaming | None, call: Http2Call) -> None:
        if handler is None:
            call.fail(RpcError(StatusCode.UNIMPLEMENTED, "Method not found!"))
            return
        await self._guard(handler, call)

    async def _guard(self, handler: Streaming, call: Http2Call) -> None:
        """Turn every expected outcome of a handler into a status."""
        try:
            await handler(call)
        except RpcError as error:
            call.fail(error)
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            call.fail(_stopping())
        else:
            call.finish()
