"""The begin and the end of a part's process, with its log and traces, and its status."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import psutil

from rayfold.runtime.log_format import FORMAT, log_to_stderr
from rayfold.runtime.node import node_name
from rayfold.runtime.tracing import FLUSH, start_tracing, tracing


def begin_part(name: str) -> None:
    """Set up logs and traces in an actor's process; `name` is the part's name there."""
    log_to_stderr(part=name)
    start_tracing(name)


def process_status() -> dict[str, Any]:
    """Return what every part reports to operators about its process."""
    return {
        "pid": os.getpid(),
        "node": node_name(),
        "memory_bytes": psutil.Process().memory_info().rss,
    }


async def end_part() -> None:
    """Send the last spans before the process ends, as far as the collector accepts them."""
    if (traces := tracing()) is not None:
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH + 0.5):
                await asyncio.to_thread(traces.flush)


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that parts on other nodes need to log and trace as we do.

    Empty if both have their defaults.
    """
    return {
        name: value
        for name, value in variables.items()
        if value and (name.startswith("OTEL_") or (name == FORMAT and value != "text"))
    }
