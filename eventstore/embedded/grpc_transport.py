"""Handlers behind ``grpc.aio``: bytes pass through, nothing is serialized twice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import grpc.aio

from eventstore.embedded.call import Methods, Streaming, Unary
from eventstore.embedded.errors import RpcError, handler_failed

log = logging.getLogger(__name__)

_OPTIONS = [
    ("grpc.max_receive_message_length", 420 * 1024 * 1024),
    ("grpc.max_send_message_length", -1),
    # Node pings idle subscriptions every 10 s; by default that is punished after 40 s.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Else a second server could bind the same port and silently take half of the traffic.
    ("grpc.so_reuseport", 0),
]

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]


class GrpcCall:
    """A call as handlers see it."""

    def __init__(self, requests: AsyncIterator[bytes] | None, context: Context) -> None:
        self._requests = requests
        self._context = context

    @property
    def peer(self) -> str:
        """Address of the caller."""
        return str(self._context.peer())

    def header(self, name: str) -> str | None:
        """A value of the call's metadata."""
        for key, value in self._context.invocation_metadata() or ():
            if key == name:
                return value if isinstance(value, str) else value.decode(errors="replace")
        return None

    async def read(self) -> bytes | None:
        """The next request message."""
        assert self._requests is not None
        return await anext(self._requests, None)

    async def write(self, message: bytes) -> None:
        """Send one response."""
        await self._context.write(message)

    async def write_many(self, messages: Sequence[bytes]) -> None:
        """Send several responses."""
        write = self._context.write
        for message in messages:
            await write(message)


async def _abort(context: Context, error: RpcError) -> NoReturn:
    await context.abort(error.status, error.details, error.trailers)


class GrpcServer:
    """A listening socket and the handlers behind it."""

    def __init__(self, methods: Methods) -> None:
        self._server = grpc.aio.server(options=_OPTIONS)
        self._server.add_generic_rpc_handlers((_Handlers(methods),))

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port bound. Raises ``OSError`` if the port is taken."""
        name = f"[{host}]" if ":" in host else host
        try:
            bound = self._server.add_insecure_port(f"{name}:{port}")
        except RuntimeError as error:
            raise OSError(f"cannot listen on {host}:{port}: {error}") from error
        if not bound:
            raise OSError(f"cannot listen on {host}:{port}")
        await self._server.start()
        return bound

    async def stop(self, grace: float) -> None:
        """Take no more calls, give running ones some time, then cancel them."""
        await self._server.stop(grace)


if TYPE_CHECKING:
    _Generic = grpc.GenericRpcHandler[Any, Any]
else:
    _Generic = grpc.GenericRpcHandler


class _Handlers(_Generic):
    def __init__(self, methods: Methods) -> None:
        self._handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {}
        for path, unary in methods.unary.items():
            self._handlers[path] = grpc.unary_unary_rpc_method_handler(_unary(unary))
        for path, streaming in methods.streaming.items():
            self._handlers[path] = grpc.stream_stream_rpc_method_handler(_streaming(streaming))

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """The handler of a path; None makes gRPC answer UNIMPLEMENTED."""
        return self._handlers.get(handler_call_details.method)


def _unary(handler: Unary) -> Any:
    async def serve(request: bytes, context: Context) -> bytes:
        try:
            return await handler(request, GrpcCall(None, context))
        except RpcError as error:
            await _abort(context, error)
        except (asyncio.CancelledError, grpc.aio.AbortError, grpc.aio.UsageError):
            raise
        except BaseException:
            log.exception("handler failed")
            await _abort(context, handler_failed())

    return serve


def _streaming(handler: Streaming) -> Any:
    async def serve(requests: AsyncIterator[bytes], context: Context) -> None:
        try:
            await handler(GrpcCall(requests, context))
        except RpcError as error:
            await _abort(context, error)
        except (asyncio.CancelledError, grpc.aio.AbortError, grpc.aio.UsageError):
            raise
        except BaseException:
            log.exception("handler failed")
            await _abort(context, handler_failed())

    return serve
