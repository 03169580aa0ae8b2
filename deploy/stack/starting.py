"""Shared by everything that starts: its lifetime, and its background tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import NamedTuple

from rayfold.runtime.lasting import lasting
from rayfold.runtime.together import cancel

ANSWER_TIMEOUT = 15.0
"""Seconds for a given server to answer at the start."""


class Lifetime(NamedTuple):
    """The lifetime of one of the stack's processes."""

    parts: AsyncExitStack
    """Everything that was started, and ends with it."""
    stop: asyncio.Event
    """Set when it is to end."""
    retake_signals: Callable[[], None]
    """Restores the signal handlers that Ray has replaced."""


def why_no_answer(error: BaseException) -> str:
    """Return why a server did not answer within that time."""
    if isinstance(error, TimeoutError):
        return f"no answer in {ANSWER_TIMEOUT:.0f} s"
    return str(error)


def keep_going(work: Callable[[], Awaitable[None]], name: str, parts: AsyncExitStack) -> None:
    """Run work in the background until it is done, or `parts` end; see `lasting`."""
    parts.push_async_callback(cancel, asyncio.create_task(lasting(work, name)))
