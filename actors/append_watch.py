"""Whether the event store takes appends: it may still read when its disk is full."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from eventstore.errors import StoreUnavailable
from eventstore.port import ANY, InvalidAppend, Log, StreamAppend
from eventstore.records import NewRecord
from rayfold.runtime.lasting import lasting

log = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between two attempts, from the first append that failed until one succeeds."""

PROBE_STREAM = "rayfold-probe"
"""The stream that is used to try. It does not exist in a store that has never failed an append."""

_TYPE = "Probed"
TYPES = (_TYPE,)


class AppendWatch:
    """Idle until an append gets no answer; then it tries until one succeeds."""

    def __init__(self, connect: Callable[[], Log]) -> None:
        self._connect = connect
        self._error = ""
        self._task: asyncio.Task[None] | None = None

    def failed(self, error: str) -> None:
        """Record an append that got no answer."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(lasting(self._until_it_works, "trying appends"))
            log.error("the event store takes no appends", extra={"error": error})
        self._error = error

    def status(self) -> dict[str, Any]:
        """Return a part for the stack's status; it serves no requests."""
        part = {"part": "write:appends", "kind": "write", "serves": False, "ready": True}
        return part | {"ready": False, "error": self._error} if self._error else part

    async def stop(self) -> None:
        """Stop trying."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _until_it_works(self) -> None:
        while self._error:  # another append may fail while the connection is closed
            await self._until_one_is_taken()

    async def _until_one_is_taken(self) -> None:
        began = time.monotonic()
        store = self._connect()
        try:
            while self._error:
                await asyncio.sleep(INTERVAL)
                await self._try(store)
        finally:
            await store.close()
        seconds = round(time.monotonic() - began, 1)
        log.warning("the event store takes appends again", extra={"seconds": seconds})

    async def _try(self, log: Log) -> None:
        record = NewRecord(_TYPE, b"{}", {}, str(uuid4()))
        try:
            [answer] = await log.append([StreamAppend(PROBE_STREAM, ANY, [record])])
        except StoreUnavailable as error:
            self._error = str(error)
        else:
            self._error = answer.reason if isinstance(answer, InvalidAppend) else ""
