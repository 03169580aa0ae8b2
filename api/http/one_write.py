"""A transport that joins the writes of one turn of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class OneWrite:
    """Sends all data written in one turn of the loop with one system call.

    Uvicorn writes a response's head and body separately. Each became a packet of its own that
    woke the client, which was a tenth of the cost of a small response here.
    """

    def __init__(self, transport: asyncio.Transport, may_close: Callable[[], bool]) -> None:
        """`may_close` returns whether to close now; if not, its owner closes later."""
        self._transport = transport
        self._may_close = may_close
        self._written: list[bytes] = []
        self._call_soon = asyncio.get_running_loop().call_soon

    def write(self, data: bytes) -> None:
        """See `asyncio.Transport`."""
        if not self._written:
            self._call_soon(self._send)
        self._written.append(data)

    def close(self) -> None:
        """See `asyncio.Transport`."""
        self._send()
        if self._may_close():
            self._transport.close()

    def _send(self) -> None:
        data, self._written = b"".join(self._written), []
        if data and not self._transport.is_closing():  # nothing is sent to a client that has gone
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
