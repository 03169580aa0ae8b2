"""Starting parts that then run until everything ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import NamedTuple

from rayfold.runtime.lasting import lasting
from rayfold.runtime.together import cancel

ANSWER_TIMEOUT = 15.0
"""Seconds for a server that was given to answer at the start."""


class Lifetime(NamedTuple):
    """From the start of one of the stack's processes until it has ended."""

    parts: AsyncExitStack
    """What was started, and ends with it."""
    stop: asyncio.Event
    """Set when it is to end."""
    retake_signals: Callable[[], None]
    """Takes back the signals that Ray has taken for itself."""


def why_no_answer(error: BaseException) -> str:
    """Return why a server did not answer within that time."""
    if isinstance(error, TimeoutError):
        return f"no answer in {ANSWER_TIMEOUT:.0f} s"
    return str(error)


def keep_going(work: Callable[[], Awaitable[None]], name: str, parts: AsyncExitStack) -> None:
    """Run work until it is done, or `parts` end; see `lasting`."""
    parts.push_async_callback(cancel, asyncio.create_task(lasting(work, name)))
