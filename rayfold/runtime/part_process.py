"""How the process of a part begins and ends, with its log and traces, and its own status."""

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
    """Begin, in an actor's process; `name` is its part's in logs and traces."""
    log_to_stderr(part=name)
    start_tracing(name)


def process_status() -> dict[str, Any]:
    """Return what every part tells operators of its process."""
    return {
        "pid": os.getpid(),
        "node": node_name(),
        "memory_bytes": psutil.Process().memory_info().rss,
    }


async def end_part() -> None:
    """Send the last spans, as far as the collector takes them: the process ends soon."""
    if (traces := tracing()) is not None:
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH + 0.5):
                await asyncio.to_thread(traces.flush)


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return what parts on other nodes must find in their environment, to log and trace as we do.

    Nothing where both are as they are without.
    """
    return {
        name: value
        for name, value in variables.items()
        if value and (name.startswith("OTEL_") or (name == FORMAT and value != "text"))
    }
