"""What telemetry adds to the way of a write in one process: see `loadtests.bench.telemetry`.

python -m loadtests.bench.telemetry_alone WRITES prints microseconds of CPU a write, with what the
environment says of telemetry.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import NamedTuple

CLIENTS = 32


class Alone(NamedTuple):
    """CPU microseconds per write without a collector, and what tracing adds to it."""

    off_us: float
    default_adds_us: float
    all_adds_us: float

    def lines(self) -> str:
        """Return it for people."""
        return (
            f"The way of a write in one process: {self.off_us:.1f} µs of CPU;"
            f" the default rate adds {self.default_adds_us:.1f}, every write traced"
            f" {self.all_adds_us:.1f}.\n"
        )


def alone(ways: Mapping[str, Mapping[str, str]], rounds: int, writes: int) -> Alone:
    """Measure each way, by its environment, in separate processes that take turns."""
    found: dict[str, list[float]] = {way: [] for way in ways}
    for at in range(rounds):
        for way in [*ways][:: 1 if at % 2 else -1]:
            command = [sys.executable, "-m", __name__, str(writes)]
            done = subprocess.run(
                command, env={**os.environ, **ways[way]}, stdout=subprocess.PIPE, check=True
            )
            found[way].append(float(done.stdout))
    # Other load on the machine only adds to it, so the minimum counts.
    off, default, every = (min(found[way]) for way in ("off", "default", "all"))
    return Alone(off, default - off, every - off)


async def write_alone(writes: int) -> float:
    """Return CPU microseconds per write: from a request's sampling to a memory replica."""
    from actors.envelope import enclose
    from actors.local import LocalRuntime
    from domain.inventory.stock import ReceiveStock
    from projections.memory.replica import Replica
    from rayfold import Registry
    from rayfold.runtime.garbage_collection import collect_rarely
    from rayfold.runtime.tracing import RequestTraces, start_tracing

    traced = start_tracing("bench")
    requests = RequestTraces(traced) if traced is not None else None
    registry = Registry.load("domain")
    local = LocalRuntime(registry)
    replica = Replica(registry, [*registry.views], local.log)
    following = asyncio.create_task(replica.run())

    async def send(sku: str) -> None:
        span = requests.begin("POST", "/stock/{sku}/receive", "") if requests else None
        envelope = enclose(registry, ReceiveStock(sku=sku, quantity=1))
        if span is not None:
            envelope = envelope._replace(traceparent=span.traceparent)
        await local.bus.send(envelope)
        if span is not None:
            span.end()

    async def some(number: int) -> None:
        for _ in range(writes // CLIENTS):
            await send(f"sku-{number}")

    await asyncio.gather(*(send(f"sku-{number}") for number in range(CLIENTS)))
    collect_rarely()  # as in every part
    before = time.process_time()
    await asyncio.gather(*(some(number) for number in range(CLIENTS)))
    if traced is not None:
        await asyncio.to_thread(traced.flush)
    used = time.process_time() - before
    following.cancel()
    return used * 1e6 / (writes // CLIENTS * CLIENTS)


if __name__ == "__main__":
    sys.stdout.write(f"{asyncio.run(write_alone(int(sys.argv[1])))}\n")
