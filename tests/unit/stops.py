"""Parts that take a while to end, and stops that are cancelled: for tests of what ends things."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest


async def a_while() -> None:
    """Take some turns of the loop."""
    for _ in range(10):
        await asyncio.sleep(0)


class Ends:
    """A part that says when it has ended; one with the name "broken" breaks."""

    def __init__(self, name: str, done: list[str]) -> None:
        self.name, self.done = name, done

    async def end(self) -> None:
        """End, which takes a while."""
        if self.name == "broken":
            raise OSError("a part breaks")
        await a_while()
        self.done.append(self.name)

    stop = close = end


async def cancelled_twice(stop: Callable[[], Awaitable[None]]) -> None:
    """Stop, and be cancelled meanwhile."""
    stopping = asyncio.ensure_future(stop())
    for _ in range(2):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
