"""A peer that does not read its answers is not read from: does it still exist?"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventstore.embedded.http2.connection import Connection
from eventstore.embedded.http2.connections import Connections


class Transport(asyncio.Transport):
    """A socket whose peer has left so much unread."""

    def __init__(self) -> None:
        super().__init__()
        self.unread = 0
        self.aborted = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def write(self, data: Any) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    def get_write_buffer_size(self) -> int:
        return self.unread


@pytest.mark.parametrize("reads", [True, False])
async def test_a_peer_that_reads_slowly_is_kept_and_one_that_reads_nothing_is_not(
    reads: bool,
) -> None:
    transport = Transport()
    connection = Connection(lambda *_: None, Connections(), lambda _: True)
    connection.connection_made(transport)
    connection._check_alive()
    transport.unread = 2 << 20
    connection.pause_writing()  # it was asked for a sign just before
    for _ in range(4):
        transport.unread -= 1000 * reads
        connection._check_alive()
    assert transport.aborted is not reads
    connection.connection_lost(None)
