"""A write side on a Ray of its own, for the tests of a folder: both use the processor at rest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from actors.host.limits import HostLimits
from actors.write_settings import WriteSettings
from actors.write_side import WriteSide
from deploy.stack import ray_runtime
from rayfold import Registry
from rayfold.runtime.threads import in_thread


@asynccontextmanager
async def write_side(
    registry: Registry, eventstore: str, postgres: str
) -> AsyncIterator[WriteSide]:
    """Run one. Nobody starts its Ray again: one that has died explains what failed."""
    await in_thread(lambda: ray_runtime.start(None, "write-tests"))
    try:
        settings = WriteSettings(
            "domain",
            eventstore,
            namespace="write-tests",
            postgres=postgres,
            dedicated=8,
            limits=HostLimits(idle_timeout=60),
        )
        side = await WriteSide.start(registry, settings)
        yield side
        await side.stop()
    finally:
        ended = ray_runtime.ended()
        await in_thread(ray_runtime.stop)
    assert ended is None, f"Ray's {ended} ended before its tests did; its logs are in /tmp/ray"
