"""What a handler sees of a call: bytes in, bytes out, and who is calling.

Handlers do not depend on the transport. Every RPC is either unary (one request, one response) or
a stream; gRPC's four kinds look alike on the wire.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from google.protobuf.message import DecodeError, Message

from eventstore.embedded.protocol.errors import invalid_argument


class Call(Protocol):
    """One call in progress."""

    @property
    def peer(self) -> str:
        """Address of the caller."""

    def header(self, name: str) -> str | None:
        """Return a value of the call's metadata."""

    async def read(self) -> bytes | None:
        """Return the next request message; None once the caller has sent its last."""

    async def write(self, message: bytes) -> None:
        """Send a response message; returns when the transport can take more."""

    async def write_many(self, messages: Sequence[bytes]) -> None:
        """Send several responses, as cheaply as the transport can."""


Unary = Callable[[bytes, Call], Awaitable[bytes]]
Streaming = Callable[[Call], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Methods:
    """Handlers by full path, ``/package.Service/Method``."""

    unary: dict[str, Unary]
    streaming: dict[str, Streaming]


M = TypeVar("M", bound=Message)


def parse(kind: type[M], raw: bytes) -> M:
    """Decode a request; one that is malformed is the caller's error, and is not logged."""
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise invalid_argument(f"The request is not a valid {kind.__name__}.") from error


async def only_request(call: Call) -> bytes:
    """Return the single request of a unary call, or of one that streams its answers.

    It also waits until the caller has ended its side, as the real server does: an earlier answer
    would have to reset the stream, which Rust's client (and so Node's) takes for a broken server.
    """
    raw = await call.read()
    if raw is None:
        raise invalid_argument("The request is missing.")
    if await call.read() is not None:
        raise invalid_argument("The call takes one request.")
    return raw
