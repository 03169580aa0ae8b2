"""A transport that joins what is written in one turn of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class OneWrite:
    """Sends what is written in one turn of the loop by one system call.

    Uvicorn writes a response's head and its body apart. Each was a packet of its own, for
    which the client was woken: a tenth of what a small response costs here.
    """

    def __init__(self, transport: asyncio.Transport, may_close: Callable[[], bool]) -> None:
        """`may_close` tells whether to close now; who says no closes later by itself."""
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
        if data and not self._transport.is_closing():  # who went away meanwhile gets nothing
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
